//! Says in words how the pipeline decides on a request, and how the cache would decide on an answer, without sending
//! anything.

use std::fmt::Write;
use std::time::Duration;

use bytes::Bytes;
use http::header::DATE;
use http::request::Parts;
use http::{HeaderName, Method, Response, StatusCode};
use uuid::Uuid;

use super::allowed::{check_permission, identify};
use super::card_data;
use super::error::ProxyError;
use super::headers::clean;
use super::inbound::{is_cacheable, match_request};
use super::options::Forwarded;
use super::presence::HeaderPresence;
use super::public_key::callers_public_key;
use super::route::amount::AmountPlace;
use super::route::{Class, Matched, Route};
use crate::caller::{Caller, Hosts};
use crate::callers::amount::Bounds;
use crate::callers::named::{KnownCaller, Stranger};
use crate::callers::table::Table;
use crate::clock::Now;
use crate::method::is_safe;
use crate::session::freshness::{self, Freshness, MAX_BODY, NotStored, Policy, RequestDirectives};
use crate::session::invalidation::Tag;
use crate::sezzle::session::SessionFacts;
use crate::sezzle::time::parse_http_date;

/// The configuration as far as it decides on a request.
#[derive(Clone, Copy, Debug)]
pub struct Admission<'c> {
    pub hosts: &'c Hosts,
    pub forwarded: Forwarded,
    /// `None` if everybody who reaches the listener may do everything.
    pub callers: Option<&'c Table>,
}

/// Says how a request over this connection would be served.
pub fn request(
    Admission { hosts, forwarded, callers }: Admission<'_>,
    head: &Parts,
    connection: &Caller,
    now: Now,
) -> String {
    let mut text = String::new();
    let mut say = |what: &str, is: &str| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{what:<12}{is}");
    };
    let present = HeaderPresence::scan(&head.headers);
    let matched = match match_request(hosts, forwarded.version_1, head, present, connection) {
        Ok(matched) => matched,
        Err(error) => {
            say("request", &refusal(&error));
            return text;
        }
    };
    if let Some(table) = callers {
        let known = identify(table, head, present, connection, now);
        say("caller", &caller(known.as_ref(), &matched));
        let known = known.ok();
        if let Err(error) = check_permission(known.as_ref(), &matched, head) {
            say("request", &refusal(&error));
            return text;
        }
        if let Some(bounds) = known.as_ref().and_then(|known| known.caller.bounds.as_ref()) {
            let amount = amount(matched.route.amount_place(&head.method), bounds);
            amount.iter().for_each(|amount| say("amount", amount));
        }
    }
    let refused = card_data::check(forwarded.card_data, &head.method).err().filter(|_| matched.route.is_card_data());
    if let Some(error) = refused {
        say("request", &refusal(&error));
        return text;
    }
    let class = matched.route.class(&head.method);
    say("request", "let through");
    say("route", &format!("{} (class {})", matched.route.template(), class.as_str()));
    say("cache", &cache(head, &matched, class));
    if class == Class::Session && matched.session().is_some() && is_cacheable(head) {
        for wish in directives(&RequestDirectives::read(&head.headers)) {
            say("asks for", &wish);
        }
    }
    if !is_safe(&head.method) {
        say("purges", &purges(&matched));
    }
    text
}

/// The caller of a request, and the mark by which it is told.
fn caller(known: Result<&KnownCaller, &Stranger>, matched: &Matched) -> String {
    match known {
        Ok(KnownCaller { caller, mark }) => {
            format!("{}, told by {}; allow: {}", caller.name, mark.as_str(), caller.allow.shown())
        }
        Err(_) if matched.route == Route::Authentication => "told by the keys in the body".to_owned(),
        Err(Stranger::OfTwo(one, other)) => {
            format!("unknown: the certificate has names of two callers: {}, {}", one.name, other.name)
        }
        Err(Stranger::Unmarked) => "unknown: no caller has this uid, certificate or token".to_owned(),
    }
}

/// Which amounts the sidecar lets through.
fn amount(place: AmountPlace, bounds: &Bounds) -> Option<String> {
    match place {
        AmountPlace::None => None,
        AmountPlace::Under([]) => Some(format!("at most {bounds}, read from the body")),
        AmountPlace::Under(members) => Some(format!("at most {bounds}, read from {} in the body", members.join("."))),
        AmountPlace::Unknown => {
            Some("refused: this caller has a max_amount, and no amount of this call is documented".to_owned())
        }
    }
}

fn refusal(error: &ProxyError) -> String {
    let (status, _, body) = error.answer("");
    let json: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    let message = json.pointer("/0/message").and_then(serde_json::Value::as_str).unwrap_or_default();
    format!("refused: {} sidecar.{}: {message}", status.as_u16(), error.code())
}

fn cache(head: &Parts, matched: &Matched, class: Class) -> String {
    if class == Class::Credentials && head.method == Method::POST {
        return "bypass: the sidecar answers with a placeholder".to_owned();
    }
    if class == Class::Credentials {
        return "bypass: the sidecar refuses it, because this path takes POST only".to_owned();
    }
    if !is_safe(&head.method) {
        return "bypass: the call is a write".to_owned();
    }
    if matches!(callers_public_key(&head.headers, None, |_| true), Ok(Some(_))) {
        return "bypass: the sidecar sends the call under the caller's public key, or refuses it if that key \
                belongs to another merchant"
            .to_owned();
    }
    if matched.route.is_card_data() {
        return "bypass: the call returns card data, which Sezzle gives only once".to_owned();
    }
    match matched.session().filter(|_| class == Class::Session) {
        None if class == Class::Session => "bypass: the part after /v2/session/ is not a UUID alone".to_owned(),
        None => "bypass: only GET /v2/session/{uuid} is cached".to_owned(),
        Some(_) if !is_cacheable(head) => {
            "bypass: the request has a query, or a method other than GET and HEAD".to_owned()
        }
        Some(session) => format!("looked up under {session}"),
    }
}

fn directives(directives: &RequestDirectives) -> Vec<String> {
    let seconds = |what: &str, wish: Option<Duration>| wish.map(|wish| format!("{what} {} s", wish.as_secs()));
    let said = |holds: bool, what: &str| holds.then(|| what.to_owned());
    let all = [
        said(directives.no_cache, "an answer fetched anew, which is stored (no-cache)"),
        said(directives.no_store, "an answer fetched for this caller alone, which is not stored (no-store)"),
        seconds("an answer no older than (max-age)", directives.max_age),
        seconds("an answer that stays fresh for (min-fresh)", directives.min_fresh),
        said(directives.only_if_cached, "an answer from memory, or else 504 sidecar.not_stored (only-if-cached)"),
    ];
    all.into_iter().flatten().collect()
}

fn purges(matched: &Matched) -> String {
    match matched.purges() {
        Some(Tag::Order(order)) => format!("the sessions of order {order}"),
        Some(Tag::Token(_)) => "the sessions of this tokenize token".to_owned(),
        Some(Tag::Session(session)) => format!("session {session}"),
        None => "nothing: the path names no order, token or session".to_owned(),
    }
}

/// The session that a request looks up, if the cache may answer it.
pub fn looked_up(head: &Parts) -> Option<Uuid> {
    let matched = Matched::path(head.uri.path()).filter(|matched| matched.route == Route::Session)?;
    matched.session().filter(|_| is_cacheable(head) && head.method == Method::GET)
}

/// Says how the cache would treat Sezzle's answer to a lookup on its arrival.
pub fn answer(
    Admission { hosts, forwarded, .. }: Admission<'_>,
    policy: &Policy,
    head: &Parts,
    answer: &Response<Bytes>,
    now: Now,
) -> String {
    let present = HeaderPresence::scan(&head.headers);
    if match_request(hosts, forwarded.version_1, head, present, &Caller::default()).is_err()
        || RequestDirectives::read(&head.headers).only_if_cached
    {
        return line("answer", "none: the sidecar would not ask Sezzle");
    }
    if answer.status() == StatusCode::NOT_MODIFIED {
        return line(
            "answer",
            "gives the stored session new headers and a new lifetime, if the sidecar asked about it; else the sidecar \
             fetches it anew",
        );
    }
    // The answer is judged as of its `Date`, because it may have been in a file since then.
    let sent = answer.headers().get(DATE).and_then(|date| parse_http_date(date.to_str().ok()?));
    let now = Now { wall: sent.unwrap_or(now.wall), ..now };
    let Some(asked) = looked_up(head) else {
        return line("answer", "not stored: the request is not a lookup that the sidecar caches");
    };
    let mut headers = answer.headers().clone();
    clean(&mut headers);
    let facts = SessionFacts::read(answer.body());
    let freshness = freshness::decide(policy, asked, answer.status(), &headers, facts.as_ref(), Duration::ZERO, now);
    let freshness = if answer.body().len() > MAX_BODY { Err(NotStored::TooLarge) } else { freshness };
    let may_store = !RequestDirectives::read(&head.headers).no_store;
    let stored = freshness.and_then(|freshness| if may_store { Ok(freshness) } else { Err(NotStored::Request) });
    let mut text = line("answer", &storing(stored));
    if answer.headers().get(&CACHE_STATUS).is_some_and(|value| value.as_bytes().starts_with(b"sezzle-")) {
        text += &line(
            "note",
            "a sidecar gave this answer, and its Cache-Control is the sidecar's own: use --ask, or take the answer from \
             Sezzle",
        );
    }
    if let Some(facts) = facts {
        let tags = Tag::of(asked, &facts).len();
        text += &line(
            "relates to",
            &format!("{tags} identifiers, its own included; a write to any of them purges the session"),
        );
    }
    text
}

fn storing(stored: Result<Freshness, NotStored>) -> String {
    match stored {
        Ok(freshness) => format!(
            "stored for {} s, less the time of the exchange; shortly after a write for 2 s at most, or not at all",
            freshness.ttl.as_secs()
        ),
        Err(reason) => format!("not stored: detail={}", reason.as_str()),
    }
}

const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

fn line(what: &str, is: &str) -> String {
    format!("{what:<12}{is}\n")
}
