//! Remarks on readiness, token, keys and clocks.

use std::time::Duration;

use super::condition::Condition;
use super::remark::{Level, Remark};
use crate::status::snapshot::Snapshot;
use crate::status::words::{count, counted, duration};

pub(super) fn readiness(s: &Snapshot) -> Option<Remark> {
    let level = if s.draining { Level::Notice } else { Level::Trouble };
    s.unready.as_ref().map(|why| Remark { condition: Condition::NotReady, level, text: format!("Not ready: {why}.") })
}

pub(super) fn token(s: &Snapshot) -> Option<Remark> {
    let failures = match s.hour.total.exchange_failures {
        0 => String::new(),
        failures => format!(" {} failed in the last hour.", counted(failures, "token exchange", "token exchanges")),
    };
    match (s.token.left, s.token.failure.as_deref()) {
        (Some(_), None) => None,
        (Some((left, _)), Some(why)) => {
            let text = format!("No new token: {why}. The token in use lasts another {}.{failures}", duration(left));
            let say = if left < EXPIRING { Remark::trouble } else { Remark::notice };
            Some(say(Condition::TokenNotRenewed, text))
        }
        // Before the first token, the readiness remark gives this reason already.
        (None, _) if s.unready.is_some() => None,
        (None, why) => {
            let why = why.unwrap_or("the sidecar is getting a new one");
            let text = format!(
                "There is no live token, so the sidecar sends no call, and callers get 503 no_token: {why}.{failures}"
            );
            Some(Remark::trouble(Condition::NoToken, text))
        }
    }
}

// The limit of the alert.
const EXPIRING: Duration = Duration::from_secs(600);

pub(super) fn unused(s: &Snapshot) -> Option<Remark> {
    let why = match s.unused_keys? {
        "unusable" => "the files cannot be used",
        "rejected" => "Sezzle rejects the new pair",
        "wrong_merchant" => "the new pair belongs to another merchant",
        _ => "the exchange of the new pair failed",
    };
    let times = match s.hour.total.unused_keys() {
        0 => String::new(),
        times => format!(" ({} in the last hour)", counted(times, "attempt", "attempts")),
    };
    let text = format!(
        "The key files have changed, and the sidecar does not use them: {why}{times}. The previous pair is still in \
         use; do not revoke it."
    );
    Some(Remark::notice(Condition::KeysNotUsed, text))
}

pub(super) fn unauthorized(s: &Snapshot) -> Option<Remark> {
    let (lately, length) = s.hour.lately(15);
    let text = format!(
        "Sezzle refuses the sidecar's token: callers got {} 401 in the last {}.",
        counted(lately.unauthorized, "answer", "answers"),
        duration(length)
    );
    (lately.unauthorized > 0).then(|| Remark::notice(Condition::CallersUnauthorized, text))
}

pub(super) fn clock_skew(s: &Snapshot) -> Option<Remark> {
    let text = format!(
        "This machine's clock and Sezzle's differ by {} s: Sezzle's is {}. Sessions may be stored for too short a \
         time, and times in the log may be wrong.",
        count(s.clock_skew.unsigned_abs()),
        if s.clock_skew > 0 { "ahead" } else { "behind" }
    );
    // The skew is in whole seconds, and the alert fires above 30 s.
    (s.clock_skew.unsigned_abs() >= 30).then(|| Remark::notice(Condition::ClockSkew, text))
}
