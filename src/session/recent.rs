//! Sessions that something was noted of a short while ago.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use uuid::Uuid;

use crate::clock::Mono;

/// A set that forgets each session after a fixed time, and the one that was noted first when there are too many.
#[derive(Debug)]
pub(super) struct Recent {
    life: Duration,
    most: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Until when each session is in the set.
    ends: HashMap<Uuid, Mono>,
    /// The notes in their order, also those that were renewed or removed since.
    order: VecDeque<(Uuid, Mono)>,
}

impl Recent {
    /// Each session stays for `life`. There are never more than `most`.
    pub(super) fn new(life: Duration, most: usize) -> Self {
        Self { life, most, state: Mutex::default() }
    }

    pub(super) fn insert(&self, key: Uuid, now: Mono) {
        let end = now.plus(self.life);
        let mut state = self.lock();
        state.ends.insert(key, end);
        state.order.push_back((key, end));
        while let Some((first, end)) = state.order.front().copied()
            && (end <= now || state.order.len() > self.most)
        {
            state.order.pop_front();
            if state.ends.get(&first) == Some(&end) {
                state.ends.remove(&first);
            }
        }
    }

    pub(super) fn remove(&self, key: Uuid) {
        self.lock().ends.remove(&key);
    }

    pub(super) fn contains(&self, key: Uuid, now: Mono) -> bool {
        self.lock().ends.get(&key).is_some_and(|end| *end > now)
    }

    // No code under the lock can leave the state half changed.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFE: Duration = Duration::from_secs(5);

    fn key(number: u128) -> Uuid {
        Uuid::from_u128(number)
    }

    fn at(seconds: u64) -> Mono {
        Mono(Duration::from_secs(seconds))
    }

    #[test]
    fn a_session_stays_for_its_time_counted_from_the_last_note() {
        let recent = Recent::new(LIFE, 8);
        recent.insert(key(1), at(0));
        recent.insert(key(1), at(3));
        // The first note is over, and forgotten with this one.
        recent.insert(key(2), at(6));
        assert!(recent.contains(key(1), at(7)) && !recent.contains(key(1), at(8)));
        assert!(recent.contains(key(2), at(10)) && !recent.contains(key(3), at(0)));
        recent.remove(key(2));
        assert!(!recent.contains(key(2), at(6)));
    }

    #[test]
    fn too_many_forget_the_first() {
        let recent = Recent::new(LIFE, 3);
        for number in 1..=5 {
            recent.insert(key(number), at(1));
        }
        let held: Vec<u128> = (1..=5).filter(|number| recent.contains(key(*number), at(2))).collect();
        assert_eq!(held, [3, 4, 5]);
        recent.insert(key(6), at(9));
        let state = recent.lock();
        assert_eq!((state.ends.len(), state.order.len()), (1, 1));
    }
}
