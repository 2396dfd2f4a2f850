//! Renders a snapshot as JSON, with the same content as the page. Pure. `docs/status.schema.json` describes the JSON.

use serde_json::{Map, Value, json};

use super::callers::{ByStatus, StatusKind};
use super::content::state;
use super::counts::{Counts, Timed};
use super::history::PART;
use super::quantile::{Quantile, quantile};
use super::snapshot::{Breaker, ClassState, Snapshot};
use super::verdict::remark::Level;
use super::verdict::remarks;
use crate::clock::Wall;
use crate::session::CacheResult;
use crate::sezzle::time::format_rfc3339;
use crate::telemetry::metrics::{RETRY_RESULTS, SHED_REASONS};
use crate::upstream::error::ErrorKind;
use crate::webhook::WebhookResult;

pub fn render(s: &Snapshot) -> Value {
    let remarks = remarks(s);
    let level = remarks.first().map_or(Level::Well, |remark| remark.level);
    let conditions = remarks.iter().map(|remark| {
        json!({
            "condition": remark.condition.as_str(),
            "level": remark.level.as_str(),
            "text": remark.text,
            "alerts": remark.condition.alerts(),
        })
    });
    let (lately, covered) = s.hour.lately(LATELY);
    json!({
        "time": moment(s.now),
        "host": s.about.host,
        "version": env!("CARGO_PKG_VERSION"),
        "build": s.about.build,
        "state": state(s, level),
        "level": level.as_str(),
        "ready": s.unready.is_none(),
        "draining": s.draining,
        "conditions": conditions.collect::<Vec<_>>(),
        "environment": s.about.environment,
        "gateway": s.about.gateway,
        "has_identifiers": s.has_identifiers,
        "merchant": s.merchant,
        "uptime_seconds": s.uptime.as_secs(),
        "token": {
            "expires": s.token.left.map(|(_, wall)| moment(wall)),
            "seconds_left": s.token.left.map(|(left, _)| left.as_secs()),
            "failure": s.token.failure,
            "unused_keys": s.unused_keys,
        },
        "clock_skew_seconds": s.clock_skew,
        "requests_under_way": s.in_flight,
        "process": {
            "resident_bytes": s.process.resident,
            "open_files": s.process.open_files,
            "open_files_limit": s.process.most_files,
        },
        "cache": { "sessions": s.sessions, "bytes": s.session_bytes, "limit_bytes": s.about.cache_bytes },
        "lately": { "seconds": covered.as_secs(), "callers": by_status(&lately.callers.total()), "calls": calls(&lately) },
        "hour": hour(s),
        "classes": s.classes.iter().map(class).collect::<Vec<_>>(),
        "listeners": s.listeners.iter().map(|one| json!({
            "name": one.name, "addresses": one.addresses, "connections": one.connections, "limit": one.limit,
        })).collect::<Vec<_>>(),
        "upstream": { "open": s.upstream.open, "active": s.upstream.active, "waiting": s.upstream.waiting },
        "unknown_writes": s.unknown_writes.iter().map(|write| json!({
            "time": moment(write.at),
            "method": write.method,
            "route": write.route,
            "order": write.order.as_ref().filter(|_| s.has_identifiers),
            "request_id": Some(&write.request_id).filter(|_| s.has_identifiers),
            "sezzle_request_id": write.sezzle_request_id.as_ref().filter(|_| s.has_identifiers),
        })).collect::<Vec<_>>(),
        "recent_errors": s.recent_errors.iter().map(|error| json!({
            "method": Some(error.kind.method).filter(|method| !method.is_empty()),
            "about": error.kind.about,
            "what": error.kind.what,
            "cause": error.kind.cause,
            "code": error.kind.code,
            "times": error.times,
            "first": moment(error.first),
            "last": moment(error.last),
            "request_id": error.request_id,
        })).collect::<Vec<_>>(),
        "webhooks": s.webhooks.as_ref().map(|webhooks| json!({
            "last": webhooks.last.map(moment),
            "forward_to": webhooks.forward_to,
            "hour": by_word(&WebhookResult::WORDS, &s.hour.total.webhooks),
        })),
        "certificates": s.certificates.iter().map(|one| json!({
            "of": one.whose, "subject": one.subject, "issuer": one.issuer, "ends": moment(one.not_after),
        })).collect::<Vec<_>>(),
        "known_callers": s.known_callers.iter().map(|caller| json!({
            "name": caller.name,
            "told_by": caller.told_by,
            "allow": caller.allow,
            "max_amount": caller.max_amount,
            "not_allowed": caller.not_allowed,
            "over_limit": caller.over_limit,
        })).collect::<Vec<_>>(),
        "fleet": s.fleet.as_ref().map(|fleet| json!({
            "server": fleet.server,
            "state": fleet.state,
            "read_seconds_ago": fleet.age.as_secs(),
            "unpublished": fleet.unpublished,
            "unpublished_seconds": fleet.unpublished_for.as_secs(),
            "rejoins": fleet.rejoins,
            "unconfirmed": fleet.unconfirmed,
        })),
        "configuration": {
            "log_level": s.log_level,
            "reload": s.configuration.last.map(|(when, how)| json!({ "time": moment(when), "result": how.as_str() })),
            "waiting": s.configuration.waiting,
            "keys": s.configuration.keys.iter().map(|entry| json!({
                "key": entry.key, "value": entry.value, "source": Some(&entry.source).filter(|_| entry.value.is_some()),
            })).collect::<Vec<_>>(),
        },
    })
}

const LATELY: u64 = 5;

fn hour(s: &Snapshot) -> Value {
    let total = &s.hour.total;
    let routes = total.callers.routes().map(|(route, row)| {
        let mut answers = by_status(row);
        if let Some(answers) = answers.as_object_mut() {
            answers.insert("route".to_owned(), route.template().into());
        }
        answers
    });
    let parts = s.hour.parts.iter().map(|part| part.as_ref().map(calls));
    json!({
        "seconds": s.hour.length.as_secs(),
        "callers": by_status(&total.callers.total()),
        "routes": routes.collect::<Vec<_>>(),
        "lookups": by_word(&CacheResult::WORDS, &total.cache),
        "calls": calls(total),
        "errors": by_word(&ErrorKind::WORDS, &total.errors),
        "shed": by_word(&SHED_REASONS, &total.shed),
        "money_shed": total.money_shed,
        "retries": by_word(&RETRY_RESULTS, &total.retries),
        "outcome_unknown": total.unknown,
        "refused_in_doubt": total.in_doubt,
        "unauthorized": total.unauthorized,
        "unknown_callers": total.unknown_callers,
        "forbidden_calls": total.forbidden_calls,
        "token_exchanges_failed": total.exchange_failures,
        "log_lines_lost": total.log_lost,
        "durations": Timed::ALL.map(|timed| durations(total, timed)),
        "seconds_per_part": PART.as_secs(),
        "parts": parts.collect::<Vec<_>>(),
    })
}

/// Counts of session lookups and of calls to Sezzle.
fn calls(counts: &Counts) -> Value {
    json!({
        "lookups": counts.lookups(),
        "saved": counts.saved(),
        "made": counts.calls(),
        "failed": counts.failed(),
        "rate_limited": counts.throttled,
    })
}

fn durations(counts: &Counts, timed: Timed) -> Value {
    let durations = counts.durations(timed);
    let within = |share| {
        quantile(&durations, share).map(|found| match found {
            Quantile::About(seconds) | Quantile::Above(seconds) => seconds,
        })
    };
    json!({
        "of": timed.as_str(),
        "count": durations.iter().copied().map(u64::from).sum::<u64>(),
        "p50_seconds": within(0.5),
        "p95_seconds": within(0.95),
        "p99_seconds": within(0.99),
    })
}

fn by_status(row: &ByStatus) -> Value {
    by_word(&StatusKind::WORDS, row)
}

fn by_word(words: &[&str], counts: &[u32]) -> Value {
    let counts = words.iter().zip(counts).map(|(word, count)| ((*word).to_owned(), Value::from(*count)));
    Value::Object(counts.collect::<Map<_, _>>())
}

fn class(state: &ClassState) -> Value {
    let breaker = state.breaker.map(|breaker| match breaker {
        Breaker::Closed => "closed",
        Breaker::Open => "open",
        Breaker::HalfOpen => "half-open",
    });
    json!({
        "class": state.class,
        "under_way": state.permits.0,
        "under_way_limit": state.permits.1,
        "waiting": state.queue.0,
        "waiting_limit": state.queue.1,
        "breaker": breaker,
        "rate_limited_until": state.held_until.map(moment),
    })
}

/// A time in RFC 3339, with whole seconds.
fn moment(wall: Wall) -> Option<String> {
    format_rfc3339(Wall(wall.0.div_euclid(1000).saturating_mul(1000)))
}
