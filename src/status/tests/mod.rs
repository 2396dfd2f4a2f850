//! Snapshots for the tests of every rendering.

use std::time::Duration;

use crate::clock::{Mono, Wall};
use crate::status::counts::Counts;
use crate::status::history::History;
use crate::status::snapshot::{
    About, Breaker, CallerState, CertificateState, ClassState, ConfigKey, Configuration, FleetLink, ListenerState,
    ProcessState, Snapshot, TokenState, UpstreamConnections, WebhookState,
};
use crate::telemetry::metrics::{ConfigReload, DURATION_BUCKETS};
use crate::telemetry::recent_errors::{Kind, RecentError};
use crate::telemetry::unknown_writes::UnknownWrite;
use crate::upstream::error::ErrorKind;

pub(super) const NOW: Wall = Wall(1_600_000_000_000);
/// Text that a peer or a file could bring in.
pub(super) const HOSTILE: &str = "\"><script>alert('&')</script>\u{0}";

/// Ten minutes of a healthy sidecar: each part has ten lookups more than the one before, half of them saved.
pub(super) fn well() -> Snapshot {
    let mut history = History::new(Counts::default(), Mono::default());
    let mut so_far = Counts::default();
    for part in 1..=5_u32 {
        so_far.cache[0] += 5 * part;
        so_far.cache[1] += 5 * part;
        so_far.answers += 5 * part;
        so_far.durations[0][1] += 5 * part;
        so_far.durations[1][8] += 5 * part;
        history.observe(so_far.clone(), Mono(Duration::from_secs(u64::from(part) * 120 - 60)));
    }
    let closed = |class| ClassState {
        class,
        permits: (1, 64),
        queue: (0, 128),
        breaker: Some(Breaker::Closed),
        held_until: None,
    };
    Snapshot {
        now: NOW,
        uptime: Duration::from_secs(600),
        has_identifiers: true,
        about: About {
            host: "shop-7f9c".to_owned(),
            forward_to: None,
            authorities: Vec::new(),
            build: "1.2.3 (abc, rustc 1)",
            environment: "sandbox",
            gateway: "https://sandbox.gateway.sezzle.com".to_owned(),
            cache_bytes: 32 << 20,
            listeners: Vec::new(),
            fleet: None,
        },
        merchant: Some("5a1cb89e-7b0a-4d12-9c6f-0f9a4e1f2d11".to_owned()),
        unready: None,
        draining: false,
        token: TokenState {
            left: Some((Duration::from_secs(5000), NOW.plus(Duration::from_secs(5000)))),
            failure: None,
        },
        unused_keys: None,
        clock_skew: 0,
        listeners: vec![listener("proxy", 3, 10_000), listener("ops", 1, 64)],
        classes: ["session", "read"].map(closed).to_vec(),
        sessions: 1234,
        session_bytes: 3 << 20,
        in_flight: 7,
        process: ProcessState { resident: 9 << 20, open_files: 14, most_files: 1024 },
        hour: history.hour(Mono(Duration::from_secs(590))),
        log_level: "info",
        configuration: Configuration {
            keys: vec![
                key("gateway.environment", Some("\"sandbox\""), "sidecar.toml"),
                key("gateway.ca_file", None, ""),
                key("credentials.merchant_uuid", Some("\"5a1cb89e-7b0a-4d12-9c6f-0f9a4e1f2d11\""), "sidecar.toml"),
            ],
            ..Configuration::default()
        },
        upstream: UpstreamConnections { open: 3, active: 1, waiting: 0 },
        webhooks: None,
        subscribed: Some(true),
        certificates: vec![certificate("the gateway", "gateway.example", 80)],
        tls_files_unusable: false,
        caller_secrets_unusable: 0,
        unknown_writes: Vec::new(),
        known_callers: Vec::new(),
        fleet: None,
        recent_errors: Vec::new(),
    }
}

fn key(key: &'static str, value: Option<&str>, source: &str) -> ConfigKey {
    let is_for_operators = key == "credentials.merchant_uuid";
    ConfigKey { key, value: value.map(str::to_owned), source: source.to_owned(), is_for_operators }
}

pub(super) fn certificate(whose: &'static str, subject: &str, days: u64) -> CertificateState {
    let not_after = NOW.plus(Duration::from_secs(days * 86_400));
    CertificateState { whose, subject: subject.to_owned(), issuer: "Some CA".to_owned(), not_after }
}

pub(super) fn listener(name: &'static str, connections: u64, limit: u64) -> ListenerState {
    ListenerState { name, addresses: vec!["127.0.0.1:8080".to_owned()], connections, limit }
}

/// That sidecar with everything wrong at once.
pub(super) fn ill() -> Snapshot {
    let mut s = well();
    let part = s.hour.parts.last_mut().and_then(Option::as_mut).expect("the part that is now");
    (part.failures, part.throttled, part.unknown, part.in_doubt) = (3, 2, 1, 2);
    (part.money_shed, part.unauthorized, part.exchange_failures, part.log_lost) = (2, 44, 3, 2864);
    (part.task_restarts, part.unconfirmed, part.rejoins, part.webhooks) = (1, 5, 4, [3; 12]);
    (part.writes_not_sent, part.reads, part.failed_reads, part.audit_missing) = (2, 40, 30, 4);
    part.drift = 6;
    s.subscribed = Some(false);
    part.durations[2][DURATION_BUCKETS.len()] = 3;
    (part.unknown_callers, part.forbidden_calls) = (7, 5);
    part.key_reloads = [0, 0, 11, 0, 0];
    part.errors = [4; ErrorKind::ALL.len()];
    part.shed = [1; 5];
    part.retries = [6; 3];
    s.hour.total = s.hour.parts.iter().flatten().fold(Counts::default(), |sum, part| sum.plus(part));
    s.token.failure = Some("Sezzle rejected the key pair".to_owned());
    s.merchant = Some(HOSTILE.to_owned());
    s.about.gateway = format!("https://{HOSTILE}");
    s.classes[0].breaker = Some(Breaker::Open);
    let held_until = Some(NOW.plus(Duration::from_secs(9)));
    s.classes[1] = ClassState { breaker: Some(Breaker::HalfOpen), held_until, ..s.classes[1] };
    s.unused_keys = Some("rejected");
    s.clock_skew = -300;
    s.listeners[0].connections = 9000;
    s.configuration.last = Some((Wall(NOW.0 - 60_000), ConfigReload::Failed));
    let kind = Kind {
        method: "POST",
        about: "/v2/order/{order}/capture",
        what: "outcome_unknown",
        cause: Some("timeout"),
        code: Some("504"),
    };
    let once = RecentError { kind, times: 1, first: NOW, last: NOW, request_id: Some(HOSTILE.to_owned()) };
    let kind = Kind { about: "token exchange", what: "rejected", ..Kind::default() };
    let often =
        RecentError { kind, times: 4321, first: Wall(NOW.0 - 3_600_000), last: Wall(NOW.0 - 90_000), request_id: None };
    s.recent_errors = vec![once, often];
    s.unknown_writes = vec![UnknownWrite {
        at: Wall(NOW.0 - 61_000),
        method: "POST",
        route: "/v2/order/{order}/capture",
        order: Some(HOSTILE.to_owned()),
        request_id: "capture-1".to_owned(),
        sezzle_request_id: None,
    }];
    s.webhooks =
        Some(WebhookState { last: Some(Wall(NOW.0 - 5000)), forward_to: Some("http://shop/hook-4711".to_owned()) });
    s.certificates.push(certificate("gateway.ca_file", HOSTILE, 13));
    let told_by = format!("certificate {HOSTILE}");
    let caller = CallerState { name: "till".to_owned(), told_by, allow: "read".to_owned(), ..CallerState::default() };
    let max_amount = Some("500.00 USD".to_owned());
    s.known_callers = vec![caller.clone(), CallerState { max_amount, not_allowed: 4, over_limit: 1234, ..caller }];
    s.tls_files_unusable = true;
    s.caller_secrets_unusable = 2;
    s.fleet = Some(FleetLink { server: HOSTILE.to_owned(), ..link("down", 75) });
    s
}

/// A link to a server, `age` seconds after the last poll.
pub(super) fn link(state: &'static str, age: u64) -> FleetLink {
    let server = "cache.internal:6379".to_owned();
    FleetLink {
        server,
        state,
        age: Duration::from_secs(age),
        unpublished: 1,
        unpublished_for: Duration::from_secs(60),
        rejoins: 2,
        unconfirmed: 3456,
    }
}
