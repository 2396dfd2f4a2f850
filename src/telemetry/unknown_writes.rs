//! The latest writes whose outcome is unknown, for the status page. The log has all of them.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use crate::clock::{Clock, Wall};

/// A write that was sent and got no answer that tells its outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownWrite {
    pub at: Wall,
    pub method: &'static str,
    /// The template of the route.
    pub route: &'static str,
    /// The order, if the path names one that may be logged.
    pub order: Option<String>,
    pub request_id: String,
    /// The idempotency key; `None` for a write without one.
    pub sezzle_request_id: Option<String>,
}

/// The latest [`CAPACITY`] such writes.
#[derive(Debug)]
pub struct UnknownWrites {
    clock: Clock,
    latest: Mutex<VecDeque<UnknownWrite>>,
}

/// The most writes that are kept. A write takes a KiB at most, because each text is cut at `LONGEST` characters.
pub const CAPACITY: usize = 20;
const LONGEST: usize = 200;

impl UnknownWrites {
    pub fn new(clock: Clock) -> Self {
        Self { clock, latest: Mutex::default() }
    }

    /// Notes a write whose outcome became unknown now.
    pub fn note(
        &self,
        method: &'static str,
        route: &'static str,
        order: Option<&str>,
        request_id: &str,
        sezzle_request_id: Option<&str>,
    ) {
        let write = UnknownWrite {
            at: self.clock.now().wall,
            method,
            route,
            order: order.map(cut),
            request_id: cut(request_id),
            sezzle_request_id: sezzle_request_id.map(cut),
        };
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        latest.truncate(CAPACITY - 1);
        latest.push_front(write);
    }

    /// The latest first.
    pub fn list(&self) -> Vec<UnknownWrite> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

fn cut(text: &str) -> String {
    text.chars().take(LONGEST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_are_kept_and_no_text_is_long() {
        let (clock, _) = Clock::shifted();
        let writes = UnknownWrites::new(clock);
        assert_eq!(writes.list(), []);
        let long = "k".repeat(5000);
        for number in 0..30 {
            let key = (number % 2 == 0).then_some(long.as_str());
            writes.note("POST", "/v2/session", Some(&long), &format!("r-{number}"), key);
        }
        let list = writes.list();
        let ids: Vec<_> = list.iter().map(|write| write.request_id.as_str()).collect();
        assert_eq!((ids.len(), ids[0], ids[19]), (CAPACITY, "r-29", "r-10"));
        assert_eq!(list[1].sezzle_request_id.as_ref().map(String::len), Some(LONGEST));
        assert_eq!(
            (list[0].sezzle_request_id.as_ref(), list[0].order.as_ref().map(String::len)),
            (None, Some(LONGEST))
        );
    }
}
