//! Decides whether Sezzle has our subscription, when to look again, and whether to change it. Pure.

use std::time::Duration;

use http::Uri;
use http::uri::Scheme;
use serde::Deserialize;

use crate::clock::Mono;
use crate::sezzle::identifier::is_identifier;
use crate::telemetry::metrics::words;

/// The state of our URL in Sezzle's list of subscriptions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Our URL with every event that we know.
    Whole,
    /// Our URL without some of these events.
    Incomplete {
        id: String,
        /// The events of the subscription, also those that we do not know.
        events: Vec<String>,
    },
    Absent,
}

words! {
    /// How a look at Sezzle's list ended.
    pub enum LookResult {
        Present = "present",
        /// The URL is registered, without some of the events.
        Incomplete = "incomplete",
        Absent = "absent",
        /// Sezzle was not reached, or its answer was no list.
        Failed = "failed",
    }
}

impl Found {
    /// Reads the answer to `GET /v2/webhooks`. `None` if it is no list.
    pub fn read(list: &[u8], url: &str, events: &[&str]) -> Option<Self> {
        let list: Vec<Entry> = serde_json::from_slice::<Option<Vec<Entry>>>(list).ok()?.unwrap_or_default();
        let mut ours = list.into_iter().filter(|entry| entry.url.as_deref().is_some_and(|other| is_same(other, url)));
        let Some(first) = ours.next() else { return Some(Self::Absent) };
        let id = first.uuid.filter(|id| is_identifier(id))?;
        // Sezzle may keep several subscriptions of one URL, which together bring their events.
        let mut listed = first.events.unwrap_or_default();
        listed.extend(ours.flat_map(|entry| entry.events.unwrap_or_default()));
        listed.sort();
        listed.dedup();
        let is_whole = events.iter().all(|event| listed.iter().any(|other| other == event));
        Some(if is_whole { Self::Whole } else { Self::Incomplete { id, events: listed } })
    }

    pub fn result(&self) -> LookResult {
        match self {
            Self::Whole => LookResult::Present,
            Self::Incomplete { .. } => LookResult::Incomplete,
            Self::Absent => LookResult::Absent,
        }
    }
}

#[derive(Deserialize)]
struct Entry {
    uuid: Option<String>,
    url: Option<String>,
    events: Option<Vec<String>>,
}

/// Whether both URLs lead to the same place. Sezzle may write the host in lower case, and add the port or the slash.
fn is_same(one: &str, other: &str) -> bool {
    if one == other {
        return true;
    }
    let parts = |url: &str| {
        let url = url.trim().parse::<Uri>().ok()?;
        let scheme = url.scheme()?.clone();
        let port = url.port_u16().unwrap_or(if scheme == Scheme::HTTPS { 443 } else { 80 });
        let target = url.path_and_query().map_or("/", |target| target.as_str()).to_owned();
        Some((scheme, url.host()?.to_ascii_lowercase(), port, target))
    };
    parts(one).is_some_and(|one| Some(one) == parts(other))
}

/// The sidecar's changes of the subscription so far.
#[derive(Debug, Default)]
pub struct Changes {
    /// The number of changes since the subscription was last whole for a day.
    count: u32,
    last: Option<Mono>,
}

impl Changes {
    /// Whether the subscription may be changed now. The wait grows with each change, so that two programs that undo
    /// each other's changes do so ever more rarely.
    pub fn may_change(&self, now: Mono) -> bool {
        self.last.is_none_or(|last| now.since(last) >= back_off(self.count))
    }

    /// Records a change of the subscription at this time, or the attempt.
    pub fn changed(&mut self, now: Mono) {
        self.count = self.count.saturating_add(1);
        self.last = Some(now);
    }

    /// Records that the subscription is whole at this time.
    pub fn whole(&mut self, now: Mono) {
        if self.last.is_some_and(|last| now.since(last) >= LASTING) {
            *self = Self::default();
        }
    }
}

fn back_off(count: u32) -> Duration {
    FIRST.saturating_mul(1_u32.checked_shl(count.saturating_sub(1)).unwrap_or(u32::MAX)).min(LONGEST)
}

const FIRST: Duration = Duration::from_secs(10 * 60);
const LONGEST: Duration = Duration::from_secs(24 * 3600);
// A subscription that has lasted this long was not deleted because of the sidecar.
const LASTING: Duration = Duration::from_secs(24 * 3600);

/// The wait before the next look, after `failures` failed looks in a row.
pub fn next_look(failures: u32) -> Duration {
    match failures {
        0 => LOOK,
        _ => FAILED.saturating_mul(1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX)).min(LOOK),
    }
}

/// Sezzle deletes a subscription after five days of failures, so a look now and then is enough.
const LOOK: Duration = Duration::from_secs(10 * 60);
const FAILED: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    const URL: &str = "https://shop.example/webhooks/sezzle";

    fn found(list: &str) -> Option<Found> {
        Found::read(list.as_bytes(), URL, &["a", "b"])
    }

    #[test]
    fn the_list_tells_whether_our_url_has_every_event() {
        let of = |url: &str, events: &str| format!(r#"[{{"uuid":"1","url":"{url}","events":[{events}],"links":[]}}]"#);
        for (list, expected) in [
            (of(URL, r#""a","b","c""#), Some(Found::Whole)),
            (of("HTTPS://SHOP.example:443/webhooks/sezzle", r#""b","a""#), Some(Found::Whole)),
            (of(URL, r#""b""#), Some(Found::Incomplete { id: "1".to_owned(), events: vec!["b".to_owned()] })),
            (of("https://shop.example/webhooks/sezzle/", r#""a","b""#), Some(Found::Absent)),
            (of("http://shop.example/webhooks/sezzle", r#""a","b""#), Some(Found::Absent)),
            (of("https://other.example/webhooks/sezzle", r#""a","b""#), Some(Found::Absent)),
            ("[]".to_owned(), Some(Found::Absent)),
            ("null".to_owned(), Some(Found::Absent)),
            ("{}".to_owned(), None),
            ("<html>".to_owned(), None),
        ] {
            assert_eq!(found(&list), expected, "{list}");
        }
        let two = r#"[{"uuid":"1","url":"https://shop.example/webhooks/sezzle","events":["a"]},
                      {"uuid":"2","url":"https://shop.example/webhooks/sezzle","events":["b"]}, {}]"#;
        assert_eq!(found(two), Some(Found::Whole), "together");
    }

    #[test]
    fn a_change_is_made_at_once_and_again_after_longer_and_longer_waits() {
        let at = |minutes: u64| Mono(Duration::from_secs(minutes * 60));
        let mut changes = Changes::default();
        assert!(changes.may_change(at(0)));
        changes.changed(at(0));
        assert!(!changes.may_change(at(9)) && changes.may_change(at(10)));
        changes.changed(at(10));
        assert!(!changes.may_change(at(29)) && changes.may_change(at(30)));
        for _ in 0..100 {
            changes.changed(at(30));
        }
        assert!(!changes.may_change(at(30 + 24 * 60 - 1)) && changes.may_change(at(30 + 24 * 60)));
        changes.whole(at(31));
        assert!(!changes.may_change(at(32)), "it has not lasted");
        changes.whole(at(30 + 24 * 60));
        changes.changed(at(30 + 24 * 60));
        assert!(changes.may_change(at(40 + 24 * 60)), "the waits begin anew");
    }

    #[test]
    fn looks_that_fail_are_repeated_sooner() {
        let seconds = [0, 1, 2, 3, 5, 6, 40].map(|failures| next_look(failures).as_secs());
        assert_eq!(seconds, [600, 30, 60, 120, 480, 600, 600]);
    }
}
