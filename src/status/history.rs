//! The counts of the last hour, in thirty parts: a ring of fixed size, pure.

use std::collections::VecDeque;
use std::time::Duration;

use super::counts::Counts;
use crate::clock::Mono;

/// The counts of each part of the hour. The ring takes about 50 KiB, whatever the traffic.
#[derive(Debug)]
pub struct History {
    /// Numbered parts, the latest last. A part without an observation, as on a suspended machine, is missing.
    parts: VecDeque<(u64, Counts)>,
    /// The counts at the last observation, from which the next difference is taken.
    last: Counts,
    began: Mono,
}

/// The counts of the last hour, or since the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hour {
    pub total: Counts,
    /// The counts of each part, the latest last. `None` before the start, and where no observation was made.
    pub parts: Vec<Option<Counts>>,
    /// The time that the parts cover.
    pub length: Duration,
    /// The time that the latest part covers, at most [`PART`].
    pub current: Duration,
}

/// Number of parts in an hour.
pub const PARTS: u64 = 30;
pub const PART: Duration = Duration::from_secs(120);

impl History {
    /// Begins at `now`. The history leaves out the events in `so_far`.
    pub fn new(so_far: Counts, now: Mono) -> Self {
        let parts = VecDeque::with_capacity(usize::try_from(PARTS).unwrap_or_default());
        Self { parts, last: so_far, began: now }
    }

    /// Adds the events since the last observation to the current part. `so_far` counts from the start of the process.
    pub fn observe(&mut self, so_far: Counts, now: Mono) {
        let number = self.number(now);
        let new = so_far.since(&self.last);
        self.last = so_far;
        match self.parts.back_mut() {
            // A clock that goes back does not open an earlier part.
            Some((latest, counts)) if *latest >= number => *counts = counts.plus(&new),
            Some(_) | None => {
                let oldest = number.saturating_sub(PARTS - 1);
                while self.parts.front().is_some_and(|(earlier, _)| *earlier < oldest) {
                    self.parts.pop_front();
                }
                self.parts.push_back((number, new));
            }
        }
    }

    /// The last hour, up to the last observation.
    pub fn hour(&self, now: Mono) -> Hour {
        let latest = self.number(now);
        let first = latest.saturating_sub(PARTS - 1);
        let part = |number| self.parts.iter().find(|(known, _)| *known == number).map(|(_, counts)| counts.clone());
        let parts: Vec<_> = (first..=latest).map(part).collect();
        let total = parts.iter().flatten().fold(Counts::default(), |sum, counts| sum.plus(counts));
        let ago = u64::try_from(PART.as_millis()).unwrap_or(u64::MAX).saturating_mul(first);
        let length = now.since(self.began).saturating_sub(Duration::from_millis(ago));
        let complete = u64::try_from(PART.as_millis()).unwrap_or(u64::MAX).saturating_mul(latest);
        let current = now.since(self.began).saturating_sub(Duration::from_millis(complete));
        // Parts before the start of the process are empty.
        let missing = PARTS.saturating_sub(u64::try_from(parts.len()).unwrap_or(PARTS));
        let parts = (0..missing).map(|_| None).chain(parts).collect();
        Hour { total, parts, length, current }
    }

    /// The number of the part in which `now` lies.
    fn number(&self, now: Mono) -> u64 {
        now.since(self.began).as_secs() / PART.as_secs()
    }
}

impl Hour {
    /// The counts of the last `minutes` or a little more, and the time that they cover. They include whole parts and
    /// the current part, so that no event of these minutes is missing.
    pub fn lately(&self, minutes: u64) -> (Counts, Duration) {
        let whole = u32::try_from(minutes.div_ceil(PART.as_secs() / 60)).unwrap_or(u32::MAX);
        let parts = usize::try_from(whole).unwrap_or(usize::MAX).saturating_add(1);
        let latest = self.parts.iter().rev().take(parts).flatten();
        let counts = latest.fold(Counts::default(), |sum, counts| sum.plus(counts));
        (counts, self.current.saturating_add(PART.saturating_mul(whole)).min(self.length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Mono {
        Mono(Duration::from_secs(seconds))
    }

    fn answers(answers: u32) -> Counts {
        Counts { answers, ..Counts::default() }
    }

    fn shown(hour: &Hour) -> Vec<Option<u32>> {
        hour.parts.iter().map(|part| part.as_ref().map(|counts| counts.answers)).collect()
    }

    #[test]
    fn what_is_new_belongs_to_the_part_in_which_it_is_seen() {
        let mut history = History::new(answers(1000), at(500));
        for (seconds, so_far) in [(500, 1000), (530, 1003), (619, 1004), (620, 1010), (900, 1011)] {
            history.observe(answers(so_far), at(seconds));
        }
        let hour = history.hour(at(900));
        assert_eq!(shown(&hour)[26..], [Some(4), Some(6), None, Some(1)]);
        assert_eq!(shown(&hour)[..26], [None; 26]);
        assert_eq!((hour.total.answers, hour.length), (11, Duration::from_secs(400)));
        assert_eq!(hour.current, Duration::from_secs(40));
        let lately = |minutes| {
            let (counts, length) = hour.lately(minutes);
            (counts.answers, length.as_secs())
        };
        assert_eq!([lately(0), lately(4), lately(5), lately(60)], [(1, 40), (7, 280), (11, 400), (11, 400)]);
    }

    #[test]
    fn it_forgets_after_an_hour_and_does_not_grow() {
        let mut history = History::new(Counts::default(), at(0));
        let room = history.parts.capacity();
        for seconds in (0..100_000).step_by(30) {
            history.observe(answers(u32::try_from(seconds).expect("small") / 30), at(seconds));
        }
        let hour = history.hour(at(99_990));
        assert_eq!((history.parts.len(), history.parts.capacity(), hour.parts.len()), (30, room, 30));
        assert_eq!(hour.total.answers, 29 * 4 + 2, "four looks in each part but the last");
        assert_eq!(hour.length, Duration::from_secs(29 * 120 + 30));
        // No observation for two hours.
        history.observe(answers(5000), at(107_200));
        let hour = history.hour(at(107_200));
        assert_eq!(shown(&hour)[..29], [None; 29]);
        assert_eq!(hour.total.answers, 5000 - 3333);
        assert_eq!(history.hour(at(1_000_000)).total, Counts::default());
    }

    #[test]
    fn counts_that_wrap_around_still_differ_by_what_is_new() {
        let mut history = History::new(answers(u32::MAX - 2), at(0));
        history.observe(answers(7), at(1));
        assert_eq!(history.hour(at(1)).total.answers, 10);
    }

    #[test]
    fn it_takes_as_much_memory_as_it_says() {
        let parts = usize::try_from(PARTS).expect("small");
        let bytes = (parts + 1) * size_of::<(u64, Counts)>();
        assert!((30_000..50 * 1024).contains(&bytes), "{bytes}");
    }
}
