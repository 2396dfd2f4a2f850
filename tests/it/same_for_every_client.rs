//! A service may use any HTTP client. Each of these clients makes the same calls twice, at the gateway and through the
//! sidecar: statuses, bodies, effects and the number of connections are equal.
//!
//! `tests/clients` holds the programs. `tests/run` installs all clients but curl, in the versions of the lock files.

use serde_json::json;
use sezzle_sidecar::simulator::{EffectKind, Exchange, Simulator};

use crate::support::relay::Relay;
use crate::support::stack::Framing::{Chunked, Expect, Length};
use crate::support::stack::{Call, ClientResult, Stack};
use crate::support::{Session, Setup};

/// The body's size: some hundred times the capacity of a connection.
const REPORT: u64 = 3_000_000;

macro_rules! stacks {
    ($($(#[$attribute:meta])* $test:ident: $command:expr, $framings:expr;)+) => {$(
        #[tokio::test]
        $(#[$attribute])*
        async fn $test() {
            same_both_ways(Stack { command: &$command, framings: &$framings }).await;
        }
    )+};
}

stacks! {
    curl: ["bash", "steps.sh"], [Length, Chunked, Expect];
    #[ignore = "needs node: tests/run"]
    nodes_fetch: ["node", "steps.mjs", "fetch"], [Length, Chunked];
    #[ignore = "needs node: tests/run"]
    nodes_http: ["node", "steps.mjs", "http"], [Length, Chunked, Expect];
    #[ignore = "needs node and undici: tests/run"]
    undici: ["node", "steps.mjs", "undici"], [Length, Chunked];
    #[ignore = "needs node and undici: tests/run"]
    undicis_fetch: ["node", "steps.mjs", "undici-fetch"], [Length, Chunked];
    #[ignore = "needs node and axios: tests/run"]
    axios: ["node", "steps.mjs", "axios"], [Length, Chunked];
    #[ignore = "needs node and axios: tests/run"]
    axios_with_fetch: ["node", "steps.mjs", "axios-fetch"], [Length, Chunked];
    #[ignore = "needs node and got: tests/run"]
    got: ["node", "steps.mjs", "got"], [Length, Chunked];
    #[ignore = "needs deno: tests/run"]
    denos_fetch: ["deno", "run", "-q", "--no-config", "--allow-all", "steps.mjs", "fetch"], [Length, Chunked];
    #[ignore = "needs python3 and requests: tests/run"]
    requests: ["python3", "steps.py", "requests"], [Length, Chunked];
    #[ignore = "needs python3 and httpx: tests/run"]
    httpx: ["python3", "steps.py", "httpx"], [Length, Chunked];
    #[ignore = "needs python3 and aiohttp: tests/run"]
    aiohttp: ["python3", "steps.py", "aiohttp"], [Length, Chunked, Expect];
    #[ignore = "needs php and its curl: tests/run"]
    phps_curl: ["php", "steps.php", "curl"], [Length, Chunked, Expect];
    #[ignore = "needs php and Guzzle: tests/run"]
    guzzle: ["php", "steps.php", "guzzle"], [Length, Chunked, Expect];
    #[ignore = "needs ruby: tests/run"]
    rubys_net_http: ["ruby", "steps.rb"], [Length, Chunked, Expect];
    #[ignore = "needs libwww-perl: tests/run"]
    perls_lwp: ["perl", "steps.pl", "lwp"], [Length, Chunked];
    #[ignore = "needs perl: tests/run"]
    perls_http_tiny: ["perl", "steps.pl", "tiny"], [Length, Chunked];
    #[ignore = "needs a JDK: tests/run"]
    javas_http_client: ["java", "Steps.java", "java"], [Length, Chunked, Expect];
    #[ignore = "needs a JDK: tests/run"]
    javas_http_client_with_http_1_1: ["java", "Steps.java", "java-1.1"], [Length, Chunked, Expect];
}

#[test]
fn the_lock_files_pin_versions_and_name_no_registry() {
    let file = |name: &str| std::fs::read_to_string(format!("{}/tests/clients/{name}", env!("CARGO_MANIFEST_DIR")));
    let npm = file("node/package-lock.json").expect("there");
    assert!(npm.contains("\"integrity\"") && !npm.contains("\"resolved\""));
    let pypi = file("python/requirements.txt").expect("there");
    assert!(pypi.contains("--hash=sha256:") && !pypi.contains("://") && !pypi.contains("-url"));
    let loose = pypi.lines().filter(|line| line.starts_with(char::is_alphanumeric) && !line.contains("=="));
    assert_eq!(loose.collect::<Vec<_>>(), Vec::<&str>::new());
}

/// The result of a client's run.
#[derive(Debug)]
struct Run {
    outcomes: Vec<ClientResult>,
    /// Effects at the gateway, without the keys.
    effects: Vec<(EffectKind, u64)>,
    keys: Vec<Option<String>>,
    /// Method, path and body of each request at the gateway after the exchange of the keys.
    received: Vec<String>,
    connections: usize,
}

async fn same_both_ways(stack: Stack) {
    let direct = run(stack, false).await;
    let via = run(stack, true).await;
    let (calls, _) = plan(stack, "", "", "");
    for (index, call) in calls.iter().enumerate() {
        let (direct, via) = (&direct.outcomes[index], &via.outcomes[index]);
        assert_eq!(via.status, direct.status, "{call:?}: {}", String::from_utf8_lossy(&via.body));
        if call.target != "/v2/authentication" {
            assert_eq!(plain(&via.body), plain(&direct.body), "{call:?}");
        }
    }
    assert_eq!(via.effects, direct.effects);
    assert!(direct.effects.len() > stack.framings.len(), "{direct:?}");
    assert!(via.keys.iter().take(stack.framings.len()).all(Option::is_some), "a key for each capture: {:?}", via.keys);
    // The second lookup of the session did not reach the gateway.
    let hit = via.outcomes.iter().filter(|outcome| outcome.cache.contains("; hit")).count();
    assert_eq!(hit, 1, "{:?}", via.outcomes.iter().map(|outcome| &outcome.cache).collect::<Vec<_>>());
    let mut received = direct.received.clone();
    received.remove(1);
    assert_eq!(via.received, received);
    assert_eq!(via.connections, direct.connections);
}

/// The calls by the paths of a session and of two orders, and the number of the call that reads the report.
fn plan(stack: Stack, lookup: &str, order: &str, other: &str) -> (Vec<Call>, usize) {
    let price = |cents: u64| json!({ "amount_in_cents": cents, "currency": "USD" });
    let look = || Call::new("GET", lookup);
    let post = |call: &str| Call::new("POST", format!("{order}/{call}"));
    let mut calls = vec![Call::exchange(), look(), look()];
    for framing in stack.framings {
        // Larger than one piece, and than the part that curl and others send before they wait for an answer.
        let body =
            format!("{}{}", json!({ "capture_amount": price(1_000), "partial_capture": true }), " ".repeat(3_000));
        calls.push(post("capture").body(*framing, body));
    }
    let refund = || post("refund").body(Length, price(500)).key("the client's own");
    calls.extend([
        refund(),
        refund(),
        post("refund").body(Length, price(1_000_000)),
        Call::new("PATCH", order).body(Length, json!({ "reference_id": "ü2" })),
        Call::new("DELETE", format!("{other}/checkout")),
        Call::new("GET", order),
        Call::new("GET", "/v2/session/00000000-0000-4000-8000-000000000000"),
        Call::new("GET", "/v2/settlements/summaries?start-date=2026-01-01&end-date=2026-01-05"),
    ]);
    let report = calls.len();
    calls.push(Call::new("GET", "/v2/orders/report?start-date=2026-01-01&end-date=2026-01-05"));
    calls.push(look());
    // The sidecar states no length here, since its links differ in length. Node and aiohttp then close the connection.
    calls.push(Call::new("HEAD", "/v2/customer"));
    (calls, report)
}

async fn run(stack: Stack, via: bool) -> Run {
    let harness = Setup::default().gateway(|options| options.report_bytes = REPORT).start().await;
    let gateway: &Simulator = &harness.gateway;
    let session = Session::order(gateway).authorized(gateway);
    let other = Session::order(gateway).order_path;
    let (calls, report) = plan(stack, &session.path, &session.order_path, &other);
    gateway.clear_journal();
    let relay = Relay::before(if via { harness.proxy } else { gateway.addr() }).await;
    let outcomes = stack.start(&relay.url(), &calls).outcomes().await;
    assert!(outcomes[report].body.len() as u64 >= REPORT, "{:?}", outcomes[report].status);
    assert_eq!(relay.requests_and_answers(), (calls.len(), calls.len()));
    let effects = gateway.effects(&session.order);
    let journal = gateway.journal();
    let received = journal.iter().filter(|call| call.path != "/v2/authentication");
    let line = |call: &Exchange| format!("{} {} {}", call.method, call.path, String::from_utf8_lossy(&call.body));
    let received = received.map(|call| plain(line(call).as_bytes()));
    let run = Run {
        outcomes,
        effects: effects.iter().map(|effect| (effect.kind, effect.cents)).collect(),
        keys: effects.into_iter().map(|effect| effect.key).collect(),
        received: received.collect(),
        connections: relay.connections(),
    };
    harness.stop().await;
    run
}

/// A body without the parts that differ between gateways: the hosts of links, ids and times.
fn plain(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let mut plain = String::new();
    let words = text.split_inclusive(|letter: char| !(letter.is_ascii_alphanumeric() || "-:.".contains(letter)));
    for word in words {
        let (bare, end) = word.split_at(word.trim_end_matches(|letter: char| !letter.is_ascii_alphanumeric()).len());
        let dashes: Vec<usize> = bare.match_indices('-').map(|(at, _)| at).collect();
        let is_id = bare.len() == 36 && dashes == [8, 13, 18, 23];
        let is_time = bare.len() > 10 && dashes.starts_with(&[4, 7]) && bare.contains("T") && bare.ends_with('Z');
        let is_host = word == "sandbox.gateway.sezzle.com/" || word.starts_with("127.0.0.1:");
        plain.push_str(match (is_id, is_time, is_host) {
            (true, ..) => "ID",
            (_, true, _) => "TIME",
            (.., true) => "HOST",
            _ => bare,
        });
        plain.push_str(end);
    }
    plain.replace("https:", "http:")
}
