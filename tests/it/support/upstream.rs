//! The sidecar's connections to a gateway, without a sidecar around them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::ACCEPT;
use http::{HeaderMap, HeaderValue, Method};
use sezzle_sidecar::clock::Clock;
use sezzle_sidecar::names::Resolver;
use sezzle_sidecar::telemetry::metrics::{LabelValue, Metrics};
use sezzle_sidecar::upstream::connector::{self, Connector};
use sezzle_sidecar::upstream::tls::{self, Trust};
use sezzle_sidecar::upstream::{Deadlines, Outgoing, Upstream};

use super::tls::Authority;

/// An upstream to a gateway, over HTTP/2 if the gateway accepts it.
pub fn to(url: &str, ca: &Authority) -> (Upstream, Arc<Metrics>) {
    of_workers(0, Clock::system(), url, ca)
}

/// An upstream with a pool for each of so many workers, by this clock.
pub fn of_workers(workers: usize, clock: Clock, url: &str, ca: &Authority) -> (Upstream, Arc<Metrics>) {
    let metrics = Arc::new(Metrics::new().expect("metrics"));
    let connect = connector::Options {
        tls: tls::client_config(&Trust::read(Some(ca.file().as_ref())).expect("trust")).expect("TLS"),
        unfollowed: None,
        resolver: Resolver::start().expect("a thread"),
        tcp: Duration::from_secs(2),
        egress: None,
        http2: true,
    };
    let connector = Connector::new(connect, clock.clone(), Arc::clone(&metrics));
    let upstream = Upstream::new(url, connector, workers, MAX_IDLE, clock, Arc::clone(&metrics));
    (upstream.expect("an address"), metrics)
}

/// A write with this time limit.
pub fn write(limit: Duration) -> Outgoing {
    Outgoing {
        method: Method::POST,
        target: "/v2/session?a=%20b".parse().expect("a path"),
        headers: HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static("application/json"))]),
        body: Bytes::from_static(b"{}"),
        deadlines: Deadlines::new(limit, limit),
        route: LabelValue::unnumbered("/v2/session"),
        class: LabelValue::unnumbered("money"),
    }
}

// Of all workers together.
const MAX_IDLE: usize = 512;
