//! Decides on changes of the key files: pure, like [`super::schedule`].
//!
//! Two files cannot change in one step, so a read may see half of a change. A new content has to stay the same for a
//! moment before it is tried, and for longer if it looks unfinished. A failed attempt is repeated with a growing
//! back-off; another change is tried at once.

use std::time::Duration;

use super::keys::KeyPair;
use super::schedule;
use crate::clock::Mono;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyFilesState {
    Pair(KeyPair),
    Unusable(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    ReadAgain(Duration),
    /// The files hold the pair in use again, after a report that they did not.
    Restored,
    Try(KeyPair),
    /// Report that the files cannot be used, for this reason.
    Report(String),
}

/// State of key files that differ from the pair in use.
#[derive(Debug, Default)]
pub struct Rotation {
    pending: Option<Pending>,
    last_attempt: Option<Mono>,
}

#[derive(Debug)]
struct Pending {
    found: KeyFilesState,
    since: Mono,
    /// When the back-off ends.
    not_before: Mono,
    failures: u32,
}

impl Rotation {
    /// Decides on the result of a read while `in_use` is in use.
    pub fn observe(&mut self, in_use: &KeyPair, found: KeyFilesState, now: Mono) -> Step {
        if matches!(&found, KeyFilesState::Pair(pair) if pair == in_use) {
            let reported = self.pending.take().is_some_and(|pending| pending.failures > 0);
            return if reported { Step::Restored } else { Step::ReadAgain(INTERVAL) };
        }
        let pending = match self.pending.take().filter(|pending| pending.found == found) {
            Some(pending) => pending,
            None => Pending { found, since: now, not_before: now, failures: 0 },
        };
        let settled = pending.since.plus(settles_within(in_use, &pending.found));
        let spaced = self.last_attempt.map_or(now, |last| last.plus(BETWEEN_ATTEMPTS));
        let wait = settled.max(pending.not_before).max(spaced).since(now);
        let step = match &pending.found {
            _ if !wait.is_zero() => Step::ReadAgain(wait.min(INTERVAL)),
            KeyFilesState::Pair(pair) => Step::Try(pair.clone()),
            KeyFilesState::Unusable(why) => Step::Report(why.clone()),
        };
        if wait.is_zero() {
            self.last_attempt = Some(now);
        }
        self.pending = Some(pending);
        step
    }

    /// Notes that the attempt or report changed nothing: the old pair stays in use. Returns the number of failures in a
    /// row, and the wait until the next attempt; `token_left`, `asked` and `jitter` are those of
    /// [`schedule::back_off`].
    pub fn failed(
        &mut self,
        token_left: Option<Duration>,
        asked: Option<Duration>,
        jitter: f64,
        now: Mono,
    ) -> (u32, Duration) {
        let failures = self.pending.as_ref().map_or(0, |pending| pending.failures).saturating_add(1);
        let wait = schedule::back_off(failures, token_left, asked, jitter).max(BETWEEN_ATTEMPTS);
        if let Some(pending) = &mut self.pending {
            pending.failures = failures;
            pending.not_before = now.plus(wait);
        }
        (failures, wait)
    }

    /// Ends the back-off: Sezzle no longer accepts the pair in use, or the configuration was reloaded.
    pub fn hurry(&mut self, now: Mono) {
        if let Some(pending) = &mut self.pending {
            pending.not_before = now;
        }
    }

    /// Records that the new pair is in use.
    pub fn done(&mut self) {
        self.pending = None;
    }
}

/// The keys that differ, in one word.
pub fn changed(in_use: &KeyPair, pair: &KeyPair) -> &'static str {
    match (in_use.public != pair.public, in_use.private != pair.private) {
        (true, true) => "both",
        (true, false) => "public",
        (false, true) => "private",
        (false, false) => "none",
    }
}

fn settles_within(in_use: &KeyPair, found: &KeyFilesState) -> Duration {
    match found {
        KeyFilesState::Pair(pair) if pair.public != in_use.public && pair.private != in_use.private => SETTLED,
        // The other half, or the rest, is probably on its way.
        KeyFilesState::Pair(_) | KeyFilesState::Unusable(_) => UNFINISHED,
    }
}

/// The longest time between two reads. Two small files cost little to read, and Kubernetes takes up to a minute to
/// write them.
pub const INTERVAL: Duration = Duration::from_secs(5);
const SETTLED: Duration = Duration::from_millis(500);
const UNFINISHED: Duration = Duration::from_secs(2);
// The shortest time between attempts, however often the files change.
const BETWEEN_ATTEMPTS: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    fn pair(public: &str, private: &str) -> KeyPair {
        KeyPair { public: Secret::new(public.to_owned()), private: Secret::new(private.to_owned()) }
    }

    fn found(public: &str, private: &str) -> KeyFilesState {
        KeyFilesState::Pair(pair(public, private))
    }

    fn nothing() -> KeyFilesState {
        KeyFilesState::Unusable("empty".to_owned())
    }

    fn look(millis: u64) -> Step {
        Step::ReadAgain(Duration::from_millis(millis))
    }

    /// Reads the files at these times, in milliseconds, and compares the reactions while `a`, `a` is in use. Every
    /// attempt fails, with the longest back-off.
    fn holds(what: &str, looks: &[(u64, KeyFilesState, Step)]) {
        let (mut rotation, in_use) = (Rotation::default(), pair("a", "a"));
        for (at, found, expected) in looks {
            let now = Mono(Duration::from_millis(*at));
            let step = rotation.observe(&in_use, found.clone(), now);
            assert_eq!(step, *expected, "{what} at {at}");
            if matches!(step, Step::Try(_) | Step::Report(_)) {
                rotation.failed(Some(Duration::from_secs(3600)), None, 1.0, now);
            }
        }
    }

    #[test]
    fn what_a_look_leads_to() {
        let (old, new, third) = (|| found("a", "a"), || found("b", "b"), || found("c", "c"));
        let go = |name: &str| Step::Try(pair(name, name));
        let report = || Step::Report("empty".to_owned());
        holds("the same", &[(0, old(), look(5000)), (5000, old(), look(5000))]);
        holds("a new pair settles", &[(0, new(), look(500)), (350, new(), look(150)), (500, new(), go("b"))]);
        holds("one half takes longer", &[(0, found("a", "b"), look(2000)), (1999, found("a", "b"), look(1))]);
        holds(
            "and may be all",
            &[(0, found("a", "b"), look(2000)), (2000, found("a", "b"), Step::Try(pair("a", "b")))],
        );
        holds(
            "both halves in turn",
            &[(0, found("b", "a"), look(2000)), (100, new(), look(500)), (600, new(), go("b"))],
        );
        holds("truncated, then written", &[(0, nothing(), look(2000)), (50, new(), look(500)), (550, new(), go("b"))]);
        holds("truncated, then as before", &[(0, nothing(), look(2000)), (50, old(), look(5000))]);
        holds(
            "it stays empty",
            &[(0, nothing(), look(2000)), (2000, nothing(), report()), (2001, nothing(), look(999))],
        );
        holds(
            "said, then as before",
            &[(0, nothing(), look(2000)), (2000, nothing(), report()), (2100, old(), Step::Restored)],
        );
        holds(
            "it backs off",
            &[
                (0, new(), look(500)),
                (500, new(), go("b")),
                (900, new(), look(600)),
                (1500, new(), go("b")),
                (1600, new(), look(1900)),
                (3500, new(), go("b")),
                (7500, new(), go("b")),
                (15_500, new(), go("b")),
                (31_500, new(), go("b")),
                (31_600, new(), look(5000)),
                (63_500, new(), go("b")),
            ],
        );
        holds(
            "what changes again is tried at once, the last of it",
            &[
                (0, new(), look(500)),
                (500, new(), go("b")),
                (1500, new(), go("b")),
                (3500, new(), go("b")),
                (3600, third(), look(900)),
                (4500, third(), go("c")),
            ],
        );
        holds(
            "what never stops changing is never tried",
            &[(0, new(), look(500)), (150, third(), look(500)), (300, new(), look(500)), (450, third(), look(500))],
        );
    }

    #[test]
    fn when_the_pair_in_use_is_refused_nothing_is_waited_for() {
        let (mut rotation, in_use) = (Rotation::default(), pair("a", "a"));
        let at = |millis| Mono(Duration::from_millis(millis));
        assert_eq!(rotation.observe(&in_use, found("b", "b"), at(0)), look(500));
        assert_eq!(rotation.observe(&in_use, found("b", "b"), at(500)), Step::Try(pair("b", "b")));
        for _ in 0..9 {
            rotation.failed(Some(Duration::from_secs(3600)), None, 1.0, at(500));
        }
        assert_eq!(rotation.observe(&in_use, found("b", "b"), at(1500)), look(5000));
        rotation.hurry(at(1500));
        assert_eq!(rotation.observe(&in_use, found("b", "b"), at(1500)), Step::Try(pair("b", "b")));
        assert_eq!(
            rotation.failed(None, None, 1.0, at(1500)),
            (10, Duration::from_secs(5)),
            "nor long without a token"
        );
        rotation.done();
        assert_eq!(rotation.observe(&pair("b", "b"), found("b", "b"), at(1600)), look(5000));
    }

    #[test]
    fn a_look_names_no_key() {
        assert!(!format!("{:?}", found("sz_pub_canary", "sz_pr_canary")).contains("canary"));
    }
}
