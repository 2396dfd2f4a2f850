use std::time::Duration;

use super::condition::{Condition, NOT_VISIBLE};
use super::*;
use crate::clock::{Mono, Wall};
use crate::status::counts::Counts;
use crate::status::history::History;
use crate::status::snapshot::{Breaker, FleetLink, TokenState};
use crate::status::tests::{certificate, ill, link, listener, well};
use crate::telemetry::metrics::{ConfigReload, DURATION_BUCKETS};
use crate::upstream::error::ErrorKind;
use crate::webhook::WebhookResult;

/// The level of the worst remark, and all remarks.
fn said(change: impl FnOnce(&mut Snapshot)) -> (Level, String) {
    let mut s = well();
    change(&mut s);
    let remarks = remarks(&s);
    let worst = remarks.first().map_or(Level::Well, |remark| remark.level);
    (worst, remarks.into_iter().map(|remark| remark.text).collect::<Vec<_>>().join(" / "))
}

/// The counts of the current part, of which all others are made.
fn now(s: &mut Snapshot) -> &mut Counts {
    s.hour.parts[29].as_mut().expect("the part that is now")
}

/// Counts in the part of so many minutes ago, and in the hour.
fn ago(s: &mut Snapshot, minutes: usize, count: impl Fn(&mut Counts)) {
    let part = s.hour.parts[29 - minutes / 2].get_or_insert_default();
    count(part);
    s.hour.length = s.hour.length.max(Duration::from_secs(3590));
    s.hour.total = s.hour.parts.iter().flatten().fold(Counts::default(), |sum, part| sum.plus(part));
}

fn bucket(upper: f64) -> usize {
    DURATION_BUCKETS.iter().position(|bound| *bound == upper).expect("a bucket")
}

fn webhooks(counts: &mut Counts, result: WebhookResult, times: u32) {
    let index = WebhookResult::ALL.iter().position(|one| *one == result).expect("a result");
    counts.webhooks[index] += times;
}

type Change = dyn Fn(&mut Snapshot);

#[test]
fn the_worst_is_said_first_and_in_true_words() {
    let cases: [(&str, &Change, Level, &str); 15] = [
        ("well", &|_| (), Level::Well, ""),
        (
            "starting",
            &|s| {
                (s.unready, s.token.left, s.merchant) =
                    (Some("the first token is being obtained".to_owned()), None, None)
            },
            Level::Trouble,
            "Not ready: the first token is being obtained.",
        ),
        (
            "stopping",
            &|s| (s.unready, s.draining) = (Some("draining".to_owned()), true),
            Level::Notice,
            "Not ready: draining.",
        ),
        (
            "token gone",
            &|s| s.token = TokenState { left: None, failure: Some("it failed".to_owned()) },
            Level::Trouble,
            "There is no live token, so the sidecar sends no call, and callers get 503 no_token: it failed.",
        ),
        (
            "token ends soon",
            &|s| {
                s.token = TokenState {
                    left: Some((Duration::from_secs(599), Wall(0))),
                    failure: Some("it failed".to_owned()),
                };
                s.hour.total.exchange_failures = 2;
            },
            Level::Trouble,
            "No new token: it failed. The token in use lasts another 9 min 59 s. 2 token exchanges failed in the last \
             hour.",
        ),
        (
            "young",
            &|s| s.hour = History::new(Counts::default(), Mono::default()).hour(Mono::default()),
            Level::Well,
            "",
        ),
        (
            "one failure",
            &|s| now(s).failures = 1,
            Level::Notice,
            "Calls to Sezzle fail: 1 of 70 calls of the last 7 min 50 s failed, most often: 5xx.",
        ),
        (
            "outage",
            &|s| (now(s).errors[0], now(s).throttled) = (100, 7),
            Level::Trouble,
            "Calls to Sezzle fail: 100 of 170 calls of the last 7 min 50 s failed, most often: dns, and 7 got 429.",
        ),
        (
            "one lost answer among errors of Sezzle's",
            &|s| (now(s).failures, now(s).errors[9]) = (54, 1),
            Level::Trouble,
            "Calls to Sezzle fail: 55 of 71 calls of the last 7 min 50 s failed, most often: 5xx.",
        ),
        ("an outage long over", &|s| s.hour.parts[25].get_or_insert_default().errors[0] = 100, Level::Well, ""),
        (
            "a breaker that nobody tried since",
            &|s| s.classes[1].breaker = Some(Breaker::Open),
            Level::Notice,
            "Calls failed earlier, and the next call of read is a trial. All 70 calls of the last 7 min 50 s were \
             answered.",
        ),
        (
            "a failover in the fleet",
            &|s| s.fleet = Some(FleetLink { unpublished: 0, ..link("down", 9) }),
            Level::Well,
            "",
        ),
        (
            "alone in a fleet",
            &|s| s.fleet = Some(FleetLink { unpublished: 0, ..link("late", 10) }),
            Level::Notice,
            "The log of the fleet has not been read for 10 s (late), so changes through other sidecars may show late.",
        ),
        (
            "money before all",
            &|s| (s.hour.total.shed[0], s.hour.total.unknown) = (1, 2),
            Level::Trouble,
            "The outcome of 2 writes of the last hour is not known (outcome_unknown). Find out what became of each \
             before anybody repeats it under another key. / 1 call that moves no money was not sent in the last hour.",
        ),
        (
            "keys and restart",
            &|s| {
                (s.unused_keys, s.hour.total.key_reloads) = (Some("rejected"), [0, 0, 11, 0, 0]);
                s.configuration.waiting = vec!["proxy.listen", "ops.listen"];
            },
            Level::Notice,
            "The key files have changed, and the sidecar does not use them: Sezzle rejects the new pair (11 attempts in \
             the last hour). The previous pair is still in use; do not revoke it. / Changes of these keys wait for a \
             restart: proxy.listen, ops.listen.",
        ),
    ];
    for (what, change, level, text) in cases {
        assert_eq!(said(change), (level, text.to_owned()), "{what}");
    }
}

/// For each condition: the least state that is one, and the most that is none.
fn limits(condition: Condition) -> (Box<Change>, Box<Change>) {
    fn both(
        is: impl Fn(&mut Snapshot) + 'static,
        is_not: impl Fn(&mut Snapshot) + 'static,
    ) -> (Box<Change>, Box<Change>) {
        (Box::new(is), Box::new(is_not))
    }
    let fleet = |change: fn(&mut FleetLink)| {
        move |s: &mut Snapshot| {
            let mut link = FleetLink { unpublished: 0, ..link("synced", 0) };
            change(&mut link);
            s.fleet = Some(link);
        }
    };
    match condition {
        Condition::NotReady => both(|s| s.unready = Some("x".to_owned()), |_| ()),
        Condition::NoToken => both(|s| s.token.left = None, |s| s.token.left = Some((Duration::from_secs(1), Wall(0)))),
        Condition::TokenNotRenewed => {
            both(|s| s.token.failure = Some("x".to_owned()), |s| now(s).exchange_failures = 1)
        }
        Condition::KeysNotUsed => both(|s| s.unused_keys = Some("failed"), |s| now(s).key_reloads[2] = 9),
        Condition::CallersUnauthorized => {
            both(|s| ago(s, 16, |part| part.unauthorized = 1), |s| ago(s, 18, |part| part.unauthorized = 9))
        }
        Condition::CallersRefused => both(
            |s| ago(s, 16, |part| (part.unknown_callers, part.forbidden_calls) = (2, 1)),
            |s| {
                ago(s, 16, |part| (part.unknown_callers, part.forbidden_calls) = (1, 1));
                ago(s, 18, |part| part.unknown_callers = 9);
            },
        ),
        Condition::LookupsFailing => both(
            |s| ago(s, 6, |part| (part.reads, part.failed_reads) = (19, 1)),
            |s| ago(s, 6, |part| (part.reads, part.failed_reads) = (20, 1)),
        ),
        Condition::SlowAnswers => both(
            |s| ago(s, 6, |part| part.durations[3][bucket(30.0)] = 1),
            // Reports may take longer than writes.
            |s| ago(s, 6, |part| part.durations[4][bucket(30.0)] = 1),
        ),
        Condition::WritesNotSent => {
            both(|s| ago(s, 6, |part| part.writes_not_sent = 1), |s| ago(s, 8, |part| part.writes_not_sent = 9))
        }
        Condition::ClockSkew => both(|s| s.clock_skew = -30, |s| s.clock_skew = 29),
        Condition::OutcomeUnknown => both(|s| ago(s, 58, |part| part.unknown = 1), |_| ()),
        Condition::RefusedInDoubt => both(|s| ago(s, 58, |part| part.in_doubt = 1), |_| ()),
        Condition::MoneyShed => {
            both(|s| ago(s, 58, |part| (part.money_shed, part.shed[0]) = (1, 1)), |s| now(s).shed[0] = 1)
        }
        Condition::CallsShed => both(
            |s| ago(s, 58, |part| part.shed[0] = 1),
            |s| ago(s, 0, |part| (part.money_shed, part.shed[0]) = (1, 1)),
        ),
        Condition::SezzleFailing => {
            both(|s| ago(s, 6, |part| part.failures = 1), |s| ago(s, 8, |part| part.failures = 9))
        }
        Condition::RateLimited => {
            both(|s| s.classes[0].held_until = Some(s.now.plus(Duration::from_secs(1))), |s| now(s).throttled = 9)
        }
        Condition::WebhooksUnsigned => both(
            |s| ago(s, 30, |part| webhooks(part, WebhookResult::BadSignature, 3)),
            |s| {
                ago(s, 30, |part| webhooks(part, WebhookResult::BadSignature, 2));
                ago(s, 32, |part| webhooks(part, WebhookResult::BadSignature, 9));
            },
        ),
        Condition::WebhooksNotForwarded => both(
            |s| ago(s, 40, |part| webhooks(part, WebhookResult::ForwardTimeout, 1)),
            |s| ago(s, 42, |part| webhooks(part, WebhookResult::Busy, 9)),
        ),
        Condition::ConnectionsNearLimit => {
            both(|s| s.listeners = vec![listener("proxy", 81, 100)], |s| s.listeners = vec![listener("proxy", 80, 100)])
        }
        Condition::WebhookUnsubscribed => both(|s| s.subscribed = Some(false), |s| s.subscribed = Some(true)),
        Condition::ContractDrift => both(|s| ago(s, 58, |part| part.drift = 1), |_| ()),
        Condition::AuditFailing => {
            both(|s| ago(s, 16, |part| part.audit_missing = 1), |s| ago(s, 18, |part| part.audit_missing = 9))
        }
        Condition::LogLost => both(|s| ago(s, 16, |part| part.log_lost = 1), |s| ago(s, 18, |part| part.log_lost = 9)),
        Condition::ReloadFailed => both(
            |s| s.configuration.last = Some((s.now, ConfigReload::Failed)),
            |s| s.configuration.last = Some((s.now, ConfigReload::Success)),
        ),
        Condition::RestartNeeded => both(|s| s.configuration.waiting = vec!["proxy.listen"], |_| ()),
        Condition::TaskRestarted => both(|s| ago(s, 58, |part| part.task_restarts = 1), |_| ()),
        Condition::CertificateEnds => both(
            |s| s.certificates = vec![certificate("the gateway", "x", 13)],
            |s| s.certificates = vec![certificate("the gateway", "x", 14)],
        ),
        Condition::CallerSecretsNotUsed => both(|s| s.caller_secrets_unusable = 1, |_| ()),
        Condition::CertificateNotUsed => both(|s| s.tls_files_unusable = true, |_| ()),
        Condition::FleetUnsynced => {
            both(fleet(|link| link.age = Duration::from_secs(10)), fleet(|link| link.age = Duration::from_secs(9)))
        }
        Condition::FleetUnpublished => both(
            fleet(|link| (link.unpublished, link.unpublished_for) = (1, Duration::from_secs(30))),
            fleet(|link| (link.unpublished, link.unpublished_for) = (1, Duration::from_secs(29))),
        ),
        Condition::FleetUnconfirmed => {
            both(|s| ago(s, 6, |part| part.unconfirmed = 1), |s| ago(s, 8, |part| part.unconfirmed = 9))
        }
        Condition::FleetRejoining => both(
            |s| ago(s, 16, |part| part.rejoins = 4),
            |s| {
                ago(s, 16, |part| part.rejoins = 3);
                ago(s, 18, |part| part.rejoins = 9);
            },
        ),
    }
}

#[test]
fn each_condition_is_reported_from_its_limit_on() {
    let found = |change: &dyn Fn(&mut Snapshot)| {
        let mut s = well();
        change(&mut s);
        remarks(&s).into_iter().map(|remark| remark.condition).collect::<Vec<_>>()
    };
    for condition in Condition::ALL {
        let (is, is_not) = limits(condition);
        assert!(found(&is).contains(&condition), "{condition:?}");
        assert!(!found(&is_not).contains(&condition), "{condition:?}");
    }
    let all = remarks(&ill());
    for condition in Condition::ALL {
        // These exclude each other.
        let other = [Condition::NotReady, Condition::NoToken, Condition::RestartNeeded].contains(&condition);
        assert_eq!(all.iter().any(|remark| remark.condition == condition), !other, "{condition:?}");
    }
    assert!(all.is_sorted_by_key(|remark| Reverse(remark.level)));
}

#[test]
fn an_alert_belongs_to_one_condition_or_is_not_visible() {
    let of_conditions = Condition::ALL.iter().flat_map(|condition| condition.alerts().iter().copied());
    let mut all: Vec<&str> = of_conditions.chain(NOT_VISIBLE.map(|(alert, _)| alert)).collect();
    let count = all.len();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), count, "{all:?}");
}

#[test]
fn a_429_is_an_answer_and_no_failure() {
    let counts = Counts { answers: 24, throttled: 23, ..Counts::default() };
    let (level, text) = said(|s| (0..30).for_each(|part| s.hour.parts[part] = (part == 29).then(|| counts.clone())));
    assert_eq!((level, text.as_str()), (Level::Well, ""));
    let mut s = well();
    (0..30).for_each(|part| s.hour.parts[part] = (part == 29).then(|| counts.clone()));
    assert_eq!(
        calls::gateway(&s).text,
        "Of the 24 calls of the last 7 min 50 s, none failed, and 23 got 429: Sezzle asks for fewer calls."
    );
    assert_eq!(ErrorKind::WORDS.len(), s.hour.total.errors.len());
}
