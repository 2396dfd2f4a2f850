//! Counts the events of the last ten seconds. Pure.

use crate::clock::Mono;

/// Counts in ten one-second slots, including the current one. Events may be marked, such as the failures among calls.
#[derive(Clone, Debug, Default)]
pub struct Window {
    slots: [Slot; SLOTS],
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// All events, including the marked ones.
    pub all: u32,
    pub marked: u32,
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    second: u64,
    counts: Counts,
}

impl Window {
    pub fn count(&mut self, now: Mono, marked: bool) {
        let second = now.0.as_secs();
        let slot = usize::try_from(second % SLOTS as u64).ok().and_then(|index| self.slots.get_mut(index));
        // A slot is later than `now` only if that reading of the clock arrives here ten seconds late.
        let Some(slot) = slot.filter(|slot| slot.second <= second) else { return };
        if slot.second < second {
            *slot = Slot { second, counts: Counts::default() };
        }
        slot.counts.all = slot.counts.all.saturating_add(1);
        slot.counts.marked = slot.counts.marked.saturating_add(u32::from(marked));
    }

    pub fn sums(&self, now: Mono) -> Counts {
        let oldest = now.0.as_secs().saturating_sub(SLOTS as u64 - 1);
        let recent = self.slots.iter().filter(|slot| slot.second >= oldest);
        recent.fold(Counts::default(), |sums, slot| Counts {
            all: sums.all.saturating_add(slot.counts.all),
            marked: sums.marked.saturating_add(slot.counts.marked),
        })
    }
}

const SLOTS: usize = 10;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn at(millis: u64) -> Mono {
        Mono(Duration::from_millis(millis))
    }

    fn sums(window: &Window, millis: u64) -> (u32, u32) {
        let Counts { all, marked } = window.sums(at(millis));
        (all, marked)
    }

    #[test]
    fn what_is_ten_seconds_old_is_forgotten() {
        let mut window = Window::default();
        assert_eq!(sums(&window, 0), (0, 0));
        window.count(at(500), true);
        window.count(at(999), false);
        window.count(at(1000), true);
        assert_eq!(sums(&window, 1000), (3, 2));
        assert_eq!(sums(&window, 9999), (3, 2));
        assert_eq!(sums(&window, 10_000), (1, 1));
        assert_eq!(sums(&window, 11_000), (0, 0));
        window.count(at(10_000), false);
        assert_eq!(sums(&window, 10_000), (2, 1), "its slot held what is forgotten");
    }

    #[test]
    fn a_reading_that_comes_late_changes_nothing_newer() {
        let mut window = Window::default();
        window.count(at(12_000), false);
        window.count(at(11_000), true);
        window.count(at(2000), true);
        assert_eq!(sums(&window, 12_000), (2, 1));
        assert_eq!(sums(&window, 11_000), (2, 1), "what was counted since the clock was read counts too");
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_list(steps in prop::collection::vec((0_u64..4000, any::<bool>()), 0..200)) {
            let (mut window, mut list, mut now) = (Window::default(), Vec::new(), 0);
            for (step, marked) in steps {
                now += step;
                window.count(at(now), marked);
                list.push((now / 1000, marked));
                let recent = list.iter().filter(|(second, _)| second + 10 > now / 1000);
                let (all, marked) = recent.fold((0, 0), |(all, some), (_, marked)| (all + 1, some + u32::from(*marked)));
                prop_assert_eq!(sums(&window, now), (all, marked));
            }
        }
    }
}
