//! The pure functions that a request passes through, measured one by one.
//!
//! `cargo bench --bench hot` runs all of them, a part of a name selects some. `target/criterion` keeps the previous
//! figures, and each run prints the change.

#![allow(
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a measurement that fails may panic; criterion asks the clock"
)]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use criterion::{Criterion, criterion_group, criterion_main};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, DATE, ETAG, HOST, USER_AGENT};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use sezzle_sidecar::caller::{Caller, Hosts};
use sezzle_sidecar::clock::{Clock, Mono, Now, Wall};
use sezzle_sidecar::proxy::cache_status::{CacheStatus, Source};
use sezzle_sidecar::proxy::headers::{clean, outgoing_headers};
use sezzle_sidecar::proxy::inbound::match_request;
use sezzle_sidecar::proxy::links::LinkRewriter;
use sezzle_sidecar::proxy::presence::HeaderPresence;
use sezzle_sidecar::proxy::record::{Record, RecordSink, RequestId};
use sezzle_sidecar::proxy::response::{CallerResponse, write_own_headers};
use sezzle_sidecar::proxy::route::Matched;
use sezzle_sidecar::session::CacheResult;
use sezzle_sidecar::session::entry::Entry;
use sezzle_sidecar::session::freshness::{Freshness, Policy, RequestDirectives, decide};
use sezzle_sidecar::session::response::SessionResponse;
use sezzle_sidecar::sezzle::session::SessionFacts;
use sezzle_sidecar::telemetry::metrics::Metrics;
use uuid::Uuid;

const LIFE: Duration = Duration::from_secs(60);
const SESSION: Uuid = Uuid::from_u128(0x4000_8000_0000_0000_0001);
// 2026-01-01T00:00:00Z
const NOW: Now = Now { mono: Mono(Duration::from_secs(1000)), wall: Wall(1_767_225_600_000) };

fn requests(criterion: &mut Criterion) {
    let head = request();
    let hosts = Hosts::new(&["sidecar.internal".to_owned()]);
    let caller = Caller { local: Some(([127, 0, 0, 1], 8080).into()), ..Caller::default() };
    criterion.bench_function("route: match a path", |b| b.iter(|| Matched::path(black_box(head.uri.path()))));
    criterion.bench_function("inbound: match_request", |b| {
        b.iter(|| {
            match_request(&hosts, false, black_box(&head), HeaderPresence::scan(&head.headers), &caller)
                .expect("a lookup like any other")
        });
    });
    criterion.bench_function("inbound: headers to Sezzle", |b| {
        b.iter(|| outgoing_headers(black_box(head.headers.clone()), true))
    });
    criterion.bench_function("freshness: request directives", |b| {
        b.iter(|| RequestDirectives::read(black_box(&head.headers)))
    });
}

fn sessions(criterion: &mut Criterion) {
    let body = body();
    let rewriter = LinkRewriter::new("https://sandbox.gateway.sezzle.com", "http://127.0.0.1:8080".to_owned());
    criterion.bench_function("session: read the facts", |b| b.iter(|| SessionFacts::read(black_box(&body))));
    criterion.bench_function("session: rewrite links", |b| {
        b.iter(|| rewriter.rewrite(black_box(&body)).body.expect("links to rewrite"));
    });

    let (facts, headers) = (SessionFacts::read(&body), headers());
    let policy = Policy {
        max_ttl: Duration::from_secs(60),
        untokenized_ttl: Duration::from_secs(30),
        expiration_margin: Duration::from_secs(5),
        honor_origin: true,
        stale_if_error: Duration::ZERO,
    };
    criterion.bench_function("freshness: decide a life", |b| {
        let headers = black_box(&headers);
        b.iter(|| {
            decide(&policy, SESSION, StatusCode::OK, headers, facts.as_ref(), Duration::ZERO, NOW)
                .expect("it is stored")
        });
    });
}

/// From the stored answer to the one that hyper sends, its metrics and log record included.
fn answers(criterion: &mut Criterion) {
    let (head, headers, body) = (request(), headers(), Bytes::from(body()));
    criterion.bench_function("response: clean headers", |b| {
        b.iter(|| {
            let mut headers = black_box(&headers).clone();
            clean(&mut headers);
            headers
        });
    });

    let (clock, metrics) = (Clock::system(), Arc::new(Metrics::new().expect("valid metrics")));
    let answer = SessionResponse { status: StatusCode::OK, fwd_status: StatusCode::OK, headers, etag: None, body };
    let freshness = Freshness { ttl: LIFE, age: Duration::ZERO, stale: LIFE, session_left: LIFE };
    let template = Arc::default();
    let now = clock.now();
    let entry = Entry::new(&answer, 1, std::iter::empty(), freshness, now, now, &template).expect("it fits");

    let sink = Arc::new(RecordSink::new(clock, metrics, 1));
    let matched = Matched::path(head.uri.path()).expect("a route");
    let cache = CacheStatus { result: CacheResult::Hit, ttl: Some(42), ..CacheStatus::BYPASS };
    let record = Record::begin(&head.method, RequestId::choose(None), &Caller::default(), &sink);
    let headers = |record: &Record| {
        entry.headers(|out| write_own_headers(out, Source::Cache, Some(Duration::from_secs(7)), &cache, record))
    };
    criterion.bench_function("entry: headers and body", |b| b.iter(|| (headers(black_box(&record)), entry.body())));

    criterion.bench_function("response: a hit, with its record", |b| {
        b.iter(|| {
            let mut record = Box::new(Record::begin(&head.method, RequestId::choose(None), &Caller::default(), &sink));
            record.admitted(matched.clone(), matched.route.class(&head.method));
            let mut headers = headers(&record);
            let (status, content) =
                CallerResponse::status_and_content(StatusCode::OK, &mut headers, entry.body(), (&head.method, None));
            CallerResponse { status, headers, content, source: Source::Cache, cache }.finish(record, false)
        });
    });
}

fn request() -> Parts {
    let request = Request::builder()
        .method(Method::GET)
        .uri(format!("/v2/session/{SESSION}"))
        .header(HOST, "127.0.0.1:8080")
        .header(USER_AGENT, "shop/1.0");
    request.body(()).expect("valid").into_parts().0
}

fn headers() -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(DATE, HeaderValue::from_static("Thu, 01 Jan 2026 00:00:00 GMT"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("max-age=3600"));
    headers.insert(ETAG, HeaderValue::from_static("\"0123456789abcdef0123456789abcdef\""));
    headers
}

/// The body of benches/compare too: 1.3 KB once it is on one line.
fn body() -> Vec<u8> {
    let text = include_str!("compare/session.json")
        .replace(&Uuid::nil().to_string(), &SESSION.to_string())
        .replace("EXPIRATION", "2026-01-01T00:30:00Z");
    let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    value.to_string().into_bytes()
}

criterion_group!(hot, requests, sessions, answers);
criterion_main!(hot);
