//! Recent errors: one entry per kind, with how often the kind occurred and when it last did.
//!
//! A kind consists of words of the code, never of parts of a request. So a flood of one kind pushes out no other kind,
//! and the list stays bounded whatever callers and the gateway do. A healthy sidecar notes nothing.

use std::cmp::Reverse;
use std::fmt::Display;
use std::sync::{Mutex, PoisonError};

use crate::clock::{Clock, Wall};

/// A kind of error, in the words of the log and the metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kind {
    /// The method of the request; empty if there is no request.
    pub method: &'static str,
    /// The template of the request's route, or the part of the sidecar.
    pub about: &'static str,
    /// The error itself, such as `outcome_unknown`.
    pub what: &'static str,
    /// The cause, if one word tells it.
    pub cause: Option<&'static str>,
    /// The status of the response to the caller.
    pub code: Option<&'static str>,
}

/// A kind of error that has occurred.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecentError {
    pub kind: Kind,
    /// How often the kind has occurred since `first`.
    pub times: u64,
    /// When the kind first occurred, as far as the list goes back.
    pub first: Wall,
    pub last: Wall,
    /// The id of the latest request with this error.
    pub request_id: Option<String>,
}

/// The latest [`CAPACITY`] kinds of errors.
#[derive(Debug)]
pub struct RecentErrors {
    clock: Clock,
    known: Mutex<Vec<RecentError>>,
}

/// The most kinds that are kept, which is more than occur at once. A kind takes about 300 bytes at most.
pub const CAPACITY: usize = 24;

impl RecentErrors {
    pub fn new(clock: Clock) -> Self {
        Self { clock, known: Mutex::default() }
    }

    /// Notes an error that occurred now, with the id of its request if there is one.
    pub fn note(&self, kind: Kind, request_id: Option<&dyn Display>) {
        let now = self.clock.now().wall;
        let request_id = request_id.map(ToString::to_string);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(error) = known.iter_mut().find(|error| error.kind == kind) {
            error.times = error.times.saturating_add(1);
            error.last = now;
            error.request_id = request_id;
            return;
        }
        if known.len() >= CAPACITY
            && let Some((oldest, _)) = known.iter().enumerate().min_by_key(|(_, error)| error.last)
        {
            known.swap_remove(oldest);
        }
        known.push(RecentError { kind, times: 1, first: now, last: now, request_id });
    }

    /// All known kinds, the latest first.
    pub fn list(&self) -> Vec<RecentError> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner).clone();
        known.sort_by_key(|error| Reverse(error.last));
        known
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const ROUTES: [&str; 30] = [
        "a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p", "q", "r", "s", "t", "u", "v",
        "w", "x", "y", "z", "1", "2", "3", "4",
    ];

    #[test]
    fn a_kind_stands_there_once_with_its_latest_request() {
        let (clock, shift) = Clock::shifted();
        let (recent_errors, began) = (RecentErrors::new(clock.clone()), clock.now().wall);
        let kind = Kind { method: "GET", about: "/v2/customer", what: "upstream_failed", ..Kind::default() };
        for id in 0..1000 {
            recent_errors.note(kind, Some(&format!("r-{id}")));
        }
        shift.advance(Duration::from_secs(60));
        recent_errors.note(Kind { cause: Some("reset"), ..kind }, None);
        let list = recent_errors.list();
        let seen: Vec<_> = list.iter().map(|seen| (seen.kind.cause, seen.times, seen.request_id.as_deref())).collect();
        assert_eq!(seen, [(Some("reset"), 1, None), (None, 1000, Some("r-999"))]);
        assert!(list[1].last < list[0].first && list[1].first >= began, "{list:?}");
    }

    #[test]
    fn the_oldest_kind_makes_room_and_a_flood_does_not() {
        let (clock, shift) = Clock::shifted();
        let recent_errors = RecentErrors::new(clock);
        let flood = Kind { about: "flood", ..Kind::default() };
        for about in ROUTES {
            shift.advance(Duration::from_secs(1));
            recent_errors.note(Kind { about, ..Kind::default() }, None);
            (0..100).for_each(|_| recent_errors.note(flood, None));
        }
        let list = recent_errors.list();
        assert_eq!(list.len(), CAPACITY);
        let kept: Vec<_> = list.iter().map(|error| error.kind.about).filter(|about| *about != "flood").collect();
        let expected: Vec<_> = ROUTES.iter().rev().take(CAPACITY - 1).copied().collect();
        assert_eq!(kept, expected);
    }
}
