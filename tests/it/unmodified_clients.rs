//! Unmodified clients of Sezzle's API, with another base URL as their only change: authenticate, create a session,
//! follow its links, capture, refund, list the customers, fetch a report.
//!
//! [`STYLES`] are the requests of public clients, by their sources and by the HTTP libraries they are built on. `curl`
//! and Python's standard library run themselves.

use std::net::SocketAddr;
use std::process::{Command, Output};
use std::time::{Duration, SystemTime};

use http::Method;
use serde_json::{Value, json};
use sezzle_sidecar::simulator::{Effect, EffectKind};
use tempfile::TempDir;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::support::process::Process;
use crate::support::wire::Wire;
use crate::support::{Harness, Session, Setup};

/// How a client uses HTTP.
#[derive(Clone, Copy, Debug)]
struct Style {
    /// Lines sent with every request.
    headers: &'static [&'static str],
    /// Lines sent with the exchange of the keys.
    exchange: &'static [&'static str],
    /// Whether calls without a body carry `Content-Type`, too.
    always_typed: bool,
    /// The header that carries an idempotency key, in the client's spelling.
    key: Option<&'static str>,
    connections: Connections,
    tokens: Tokens,
    framing: Framing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Connections {
    Kept,
    OnePerCall,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tokens {
    /// A new token before each call.
    OnePerCall,
    /// One token until its `expiration_date`.
    UntilExpiration,
    /// One token for a time of the client's own choice, whatever its `expiration_date`.
    OwnTime,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    Length,
    Chunked,
    /// A body of more than 1 KiB waits for `100 Continue`.
    Expect,
}

const STYLES: [(&str, Style); 6] = [
    (
        // Sezzle's plugin for Magento. The handle that it shares keeps `Authorization` for the next exchange.
        "a PHP plugin on curl",
        Style {
            headers: &["Accept: */*"],
            exchange: &["Sezzle-Platform: eyJpZCI6Ik1hZ2VudG8ifQ==", "Authorization: Bearer of-the-call-before"],
            always_typed: true,
            key: None,
            connections: Connections::OnePerCall,
            tokens: Tokens::OnePerCall,
            framing: Framing::Expect,
        },
    ),
    (
        // A plugin for Shopware. It misspells the key, and sends one with every call.
        "a PHP plugin on Guzzle",
        Style {
            headers: &["User-Agent: GuzzleHttp/7"],
            exchange: &[],
            always_typed: true,
            key: Some("X-Sezzle-Request-Id"),
            connections: Connections::Kept,
            tokens: Tokens::OwnTime,
            framing: Framing::Length,
        },
    ),
    (
        // A gem for Workarea.
        "a Ruby gem on Faraday",
        Style {
            headers: &[
                "User-Agent: Faraday v1.0.1",
                "Accept: application/json",
                "Accept-Encoding: gzip;q=1.0,deflate;q=0.6,identity;q=0.3",
                "Connection: close",
            ],
            exchange: &[],
            always_typed: true,
            key: None,
            connections: Connections::OnePerCall,
            tokens: Tokens::OwnTime,
            framing: Framing::Length,
        },
    ),
    (
        "a Node service on axios",
        Style {
            headers: &[
                "Accept: application/json, text/plain, */*",
                "User-Agent: axios/1.7.9",
                "Accept-Encoding: gzip, compress, deflate, br",
                "Connection: keep-alive",
            ],
            exchange: &[],
            always_typed: false,
            key: Some("Sezzle-Request-Id"),
            connections: Connections::Kept,
            tokens: Tokens::UntilExpiration,
            framing: Framing::Length,
        },
    ),
    (
        "a Python service on requests",
        Style {
            headers: &[
                "User-Agent: python-requests/2.32.3",
                "Accept-Encoding: gzip, deflate",
                "Accept: */*",
                "Connection: keep-alive",
            ],
            exchange: &[],
            always_typed: false,
            key: Some("Sezzle-Request-Id"),
            connections: Connections::Kept,
            tokens: Tokens::UntilExpiration,
            framing: Framing::Length,
        },
    ),
    (
        "a .NET service on HttpClient",
        Style {
            headers: &[],
            exchange: &[],
            always_typed: false,
            key: Some("sezzle-request-id"),
            connections: Connections::Kept,
            tokens: Tokens::UntilExpiration,
            framing: Framing::Chunked,
        },
    ),
];

/// A client of some style, with its state.
struct Client {
    style: Style,
    authority: SocketAddr,
    wire: Option<Wire>,
    token: Option<(String, SystemTime)>,
    exchanges: usize,
}

impl Client {
    fn new(style: Style, authority: SocketAddr) -> Self {
        Self { style, authority, wire: None, token: None, exchanges: 0 }
    }

    async fn call(&mut self, method: Method, url: String, body: Option<String>) -> (u16, String) {
        let token = self.token().await;
        let mut lines = vec![format!("Authorization: Bearer {token}")];
        lines.extend(self.style.key.map(|name| format!("{name}: key of {url}")));
        self.send(method, &url, lines, body).await
    }

    async fn token(&mut self) -> String {
        let now = SystemTime::now();
        match &self.token {
            Some((token, end)) if self.style.tokens != Tokens::OnePerCall && now < *end => return token.clone(),
            _ => self.exchanges += 1,
        }
        let keys = r#"{"public_key":"any","private_key":"any","cancel_url":"https://shop.example/"}"#.to_owned();
        let lines = self.style.exchange.iter().map(|line| (*line).to_owned()).collect();
        let url = format!("http://{}/v2/authentication", self.authority);
        let (status, answer) = self.send(Method::POST, &url, lines, Some(keys)).await;
        assert_eq!(status, 201, "{answer}");
        let answer: Value = serde_json::from_str(&answer).expect("JSON");
        let text = |name: &str| answer[name].as_str().filter(|text| !text.is_empty()).expect("a text").to_owned();
        assert!(!text("merchant_uuid").is_empty());
        let end = match self.style.tokens {
            Tokens::OwnTime => now + Duration::from_secs(55 * 60),
            _ => OffsetDateTime::parse(&text("expiration_date"), &Rfc3339).expect("RFC 3339").into(),
        };
        assert!(end > now);
        self.token = Some((text("token"), end));
        text("token")
    }

    /// One request as this style writes it, to the address of the URL.
    async fn send(&mut self, method: Method, url: &str, lines: Vec<String>, body: Option<String>) -> (u16, String) {
        let rest = url.strip_prefix("http://").unwrap_or_else(|| panic!("{url} leads elsewhere"));
        let (authority, path) = rest.split_once('/').expect("a path");
        let mut head = format!("{method} /{path} HTTP/1.1\r\nHost: {authority}\r\n");
        for line in self.style.headers.iter().copied().chain(lines.iter().map(String::as_str)) {
            head.push_str(line);
            head.push_str("\r\n");
        }
        if self.style.always_typed || body.is_some() {
            head.push_str("Content-Type: application/json\r\n");
        }
        let waits = self.style.framing == Framing::Expect && body.as_ref().is_some_and(|body| body.len() > 1024);
        let body = match (body, self.style.framing) {
            (None, _) => String::new(),
            (Some(body), Framing::Chunked) => {
                head.push_str("Transfer-Encoding: chunked\r\n");
                format!("{:X}\r\n{body}\r\n0\r\n\r\n", body.len())
            }
            (Some(body), Framing::Length | Framing::Expect) => {
                head.push_str(&format!("Content-Length: {}\r\n", body.len()));
                body
            }
        };
        if waits {
            head.push_str("Expect: 100-continue\r\n");
        }
        let mut wire = match self.wire.take() {
            Some(wire) => wire,
            None => Wire::connect(authority.parse().expect("an address")).await,
        };
        wire.send(format!("{head}\r\n")).await;
        if waits {
            let interim = wire.read_some().await.expect("100 Continue");
            assert_eq!(String::from_utf8_lossy(&interim), "HTTP/1.1 100 Continue\r\n\r\n");
        }
        wire.send(body).await;
        let answer = wire.answer().await;
        if self.style.connections == Connections::Kept {
            assert_ne!(answer.header("connection"), "close", "{url}");
            self.wire = Some(wire);
        }
        (answer.status, answer.text())
    }
}

/// The whole journey, with any client that makes one call at a time.
async fn journey(
    harness: &Harness,
    mut call: impl AsyncFnMut(Method, String, Option<String>) -> (u16, String),
) -> String {
    let base = format!("http://{}", harness.proxy);
    let mut call = async |method: Method, url: &str, body: Value, status: u16| {
        let body = if body.is_null() { None } else { Some(body.to_string()) };
        let url = if url.starts_with('/') { format!("{base}{url}") } else { url.to_owned() };
        let (got, answer) = call(method.clone(), url.clone(), body).await;
        assert_eq!(got, status, "{method} {url}: {answer}");
        serde_json::from_str::<Value>(&answer).unwrap_or(Value::String(answer))
    };
    let price = |cents: u64| json!({ "amount_in_cents": cents, "currency": "USD" });
    let link = |part: &Value, rel: &str, method: &str| {
        let links = part["links"].as_array().unwrap_or_else(|| panic!("links in {part}"));
        let found = links.iter().find(|link| link["rel"] == rel && link["method"] == method);
        found.and_then(|link| link["href"].as_str()).unwrap_or_else(|| panic!("{rel} in {part}")).to_owned()
    };

    let url = json!({ "href": "https://shop.example/", "method": "GET" });
    let created = json!({
        "cancel_url": url, "complete_url": url, "customer": { "tokenize": true },
        "order": { "intent": "AUTH", "reference_id": "1", "description": "d".repeat(2000), "order_amount": price(10_000) },
    });
    let created = call(Method::POST, "/v2/session", created, 201).await;
    let order = created["order"]["uuid"].as_str().expect("an order").to_owned();
    assert_eq!(created["order"]["checkout_url"], format!("https://checkout.sezzle.com/?id={order}"), "for the shopper");
    let itself = link(&created, "self", "GET");
    let session = call(Method::GET, &itself, Value::Null, 200).await;
    assert_eq!(session["uuid"], created["uuid"]);

    // The shopper has completed the checkout.
    assert!(harness.gateway.complete_checkout(&order));
    let customer = harness.gateway.approve_token(session["tokenize"]["token"].as_str().expect("a token"));

    let tokenized = call(Method::GET, &link(&session["tokenize"], "token", "GET"), Value::Null, 200).await;
    assert_eq!(tokenized["customer"]["uuid"].as_str(), customer.as_deref());
    let part = &session["order"];
    let read = call(Method::GET, &link(part, "self", "GET"), Value::Null, 200).await;
    assert_eq!(read["authorization"]["approved"], true);
    let capture = json!({ "capture_amount": price(4_000), "partial_capture": true });
    call(Method::POST, &link(part, "capture", "POST"), capture, 200).await;
    call(Method::POST, &link(part, "refund", "POST"), price(1_000), 200).await;
    let session = call(Method::GET, &itself, Value::Null, 200).await;
    assert_eq!(session["order"]["uuid"], order.as_str());

    let customers = call(Method::GET, "/v2/customer", Value::Null, 200).await;
    assert!(customers.as_array().expect("a list").iter().any(|one| one["uuid"].as_str() == customer.as_deref()));
    let period = "start-date=2026-01-01&end-date=2026-01-05";
    let payouts = call(Method::GET, &format!("/v2/settlements/summaries?{period}"), Value::Null, 200).await;
    let details = format!("/v2/settlements/details/{}", payouts[0]["uuid"].as_str().expect("a payout"));
    let rows = call(Method::GET, &details, Value::Null, 200).await;
    assert!(rows.as_str().is_some_and(|rows| rows.lines().count() > 1), "{details}: {rows}");
    let report = call(Method::GET, &format!("/v2/orders/report?{period}"), Value::Null, 200).await;
    assert!(report[0]["order_uuid"].is_string(), "{report}");
    order
}

/// Moves money once, under the client's key or the sidecar's, and with the sidecar's own token.
fn check(harness: &Harness, order: &str, key: impl Fn(&str) -> Option<String>) {
    let effects = harness.gateway.effects(order);
    let minted = |index: usize| effects.get(index).and_then(|effect| effect.key.clone());
    let effect = |kind, cents, call, index| Effect { kind, cents, key: key(call).or(minted(index)) };
    let expected = [effect(EffectKind::Capture, 4_000, "capture", 0), effect(EffectKind::Refund, 1_000, "refund", 1)];
    assert_eq!(effects, expected);
    assert!(minted(0).is_some() && minted(0) != minted(1));
    let exchanges = harness.gateway.journal().into_iter().filter(|call| call.path == "/v2/authentication");
    let all_ours = exchanges.map(|call| call.body).all(|body| String::from_utf8_lossy(&body).contains("sz_pub_"));
    assert!(all_ours, "no exchange of a client's reaches Sezzle with the client's keys");
}

#[tokio::test]
async fn public_clients_go_the_whole_way() {
    for (name, style) in STYLES {
        let harness = Harness::start().await;
        let mut client = Client::new(style, harness.proxy);
        let order = journey(&harness, async |method, url, body| client.call(method, url, body).await).await;
        let key = |call: &str| match style.key {
            Some(_) => Some(format!("key of http://{}/v2/order/{order}/{call}", harness.proxy)),
            _ => None,
        };
        check(&harness, &order, key);
        let calls = harness.received().len();
        // The client's exchange names a shop: the sidecar asks Sezzle about it once, with its own keys.
        assert_eq!(harness.gateway.count("POST", "/v2/authentication"), 2, "{name}");
        // A misspelt key gets the name that Sezzle reads; where a key has no meaning, it passes as spelt.
        let sent = |name| harness.gateway.journal().iter().filter(|call| call.headers.contains_key(name)).count();
        let put_right = style.key.is_some_and(|key| key.eq_ignore_ascii_case("x-sezzle-request-id"));
        let expected = calls.saturating_sub(if put_right { 2 } else { 0 });
        assert_eq!(style.key.map_or(0, sent), if style.key.is_some() { expected } else { 0 }, "{name}");
        let per_call = style.tokens == Tokens::OnePerCall;
        // A lookup of the session that is answered from memory is missing from `calls`.
        assert!(if per_call { client.exchanges >= calls } else { client.exchanges == 1 }, "{name}");
        drop(client);
        harness.stop().await;
    }
}

#[tokio::test]
async fn requests_of_nodes_own_fetch_are_let_in() {
    let harness = Harness::start().await;
    let mut wire = harness.wire().await;
    let line = "connection: keep-alive\r\naccept: */*\r\naccept-language: *\r\nsec-fetch-mode: cors\r\nuser-agent: node\r\n\
                accept-encoding: gzip, deflate\r\n";
    wire.send(format!("GET /v2/customer HTTP/1.1\r\nhost: {}\r\n{line}\r\n", harness.proxy)).await;
    assert_eq!(wire.answer().await.status, 200);
    let call = harness.gateway.journal().pop().expect("a call");
    assert_eq!(call.headers["accept-language"], "*");
    assert!(!call.headers.contains_key("sec-fetch-mode"), "Sezzle does not get to see it");
    harness.stop().await;
}

#[tokio::test]
#[ignore = "needs node: tests/run"]
async fn nodes_own_fetch_is_let_in_by_every_listener() {
    let harness =
        Setup::default().set("CONTROL__LISTEN", "127.0.0.1:0").set("WEBHOOKS__LISTEN", "127.0.0.1:0").start().await;
    let lookup = format!("http://{}{}", harness.proxy, Session::order(&harness.gateway).path);
    let (ops, control, webhooks) = (harness.ops, harness.control(), harness.webhooks());
    let simulator = harness.gateway.url();
    let calls = [
        ("GET", lookup.clone(), 200),
        ("GET", lookup, 200),
        ("POST", format!("http://{}/v2/order/none/capture", harness.proxy), 404),
        ("GET", format!("http://{ops}/metrics"), 200),
        ("GET", format!("http://{ops}/livez"), 200),
        ("GET", format!("http://{control}/"), 200),
        ("PUT", format!("http://{control}/log/level"), 422),
        ("POST", format!("http://{webhooks}/webhooks/sezzle"), 401),
        ("GET", format!("{simulator}/_simulator/"), 200),
        ("GET", format!("{simulator}/v2/customer"), 401),
    ];
    let words = calls.iter().flat_map(|(method, url, _)| [(*method).to_owned(), url.clone()]).collect();
    let answers: Vec<(u16, Option<String>)> =
        serde_json::from_str(&script("node", "fetch.mjs", words).await).expect("JSON");
    for ((method, url, status), (answered, _)) in calls.iter().zip(&answers) {
        assert_eq!(answered, status, "{method} {url}");
    }
    assert_eq!(answers.len(), calls.len());
    assert!(answers[1].1.as_ref().is_some_and(|cache| cache.starts_with("sezzle-sidecar; hit")), "{answers:?}");
    harness.stop().await;
}

/// A client whose base URL is a constant. The gateway's name leads it to the sidecar, as docs/clients.md describes.
#[tokio::test]
async fn a_sidecar_that_is_the_gateway_answers_by_its_name_and_changes_no_link() {
    const GATEWAY: &str = "https://gateway.sezzle.com";
    let setup = Setup::default().gateway(|options| options.link_base = GATEWAY.to_owned());
    let setup = setup.set("PROXY__HOSTS", "gateway.sezzle.com,sandbox.gateway.sezzle.com");
    let harness = setup.set("LINKS__BASE_URL", GATEWAY).start().await;
    let session = Session::tokenize(&harness.gateway).path;
    for host in ["gateway.sezzle.com", "sandbox.gateway.sezzle.com"] {
        let answer = harness.get_with(&session, &[("host", host)]).await;
        assert_eq!(answer.status, 200, "{host}");
        let mut links = answer.text().matches(r#""href""#).count();
        links -= answer.text().matches(&format!(r#""href":"{GATEWAY}/"#)).count();
        assert_eq!(links, 0, "{}", answer.text());
    }
    harness.stop().await;
}

#[tokio::test]
async fn curl_goes_the_whole_way() {
    let harness = Harness::start().await;
    let folder = tempfile::tempdir().expect("a folder");
    let order = journey(&harness, async |method, url, body| curl(&folder, &method, &url, body).await).await;
    check(&harness, &order, |call| Some(call.to_owned()));
    harness.stop().await;
}

/// One call with the key at the end of its path. Waits for `100 Continue`.
async fn curl(folder: &TempDir, method: &Method, url: &str, body: Option<String>) -> (u16, String) {
    let key = url.rsplit('/').next().expect("a segment");
    let mut line =
        format!("curl -sS --max-time 20 -X {method} -H 'Sezzle-Request-Id: {key}' -w '\\n%{{http_code}}' '{url}'");
    if let Some(body) = body {
        std::fs::write(folder.path().join("body"), body).expect("written");
        line.push_str(" -H 'Content-Type: application/json' -H 'Expect: 100-continue' --data-binary @body");
    }
    let ended = Process::shell(&line, folder.path(), &[]).end().await;
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{line}");
    let (answer, status) = ended.stdout.rsplit_once('\n').expect("a status");
    (status.parse().expect("a number"), answer.to_owned())
}

#[tokio::test]
#[ignore = "needs python3: tests/run"]
async fn pythons_standard_library_goes_the_whole_way() {
    let harness = Harness::start().await;
    let base = format!("http://{}", harness.proxy);
    let begun = script("python3", "journey.py", vec![base.clone(), "begin".to_owned()]).await;
    let session: Value = serde_json::from_str(&begun).expect("the session");
    let order = session["order"]["uuid"].as_str().expect("an order");
    assert!(harness.gateway.complete_checkout(order));
    assert!(harness.gateway.approve_token(session["tokenize"]["token"].as_str().expect("a token")).is_some());
    let itself = session["links"][0]["href"].as_str().expect("a link").to_owned();
    script("python3", "journey.py", vec![base, "finish".to_owned(), itself]).await;
    let effects = harness.gateway.effects(order).into_iter().map(|effect| (effect.kind, effect.cents));
    let once = [(EffectKind::Capture, 2_000), (EffectKind::Refund, 500), (EffectKind::Update, 0)];
    assert_eq!(effects.collect::<Vec<_>>(), [once, once].concat(), "one of each with urllib, and one with http.client");
    assert_eq!(harness.gateway.count("POST", "/v2/authentication"), 1);
    harness.stop().await;
}

/// Runs a script of `tests/clients`, and returns its output.
async fn script(program: &'static str, name: &'static str, arguments: Vec<String>) -> String {
    let run = move || {
        let script = format!("{}/tests/clients/{name}", env!("CARGO_MANIFEST_DIR"));
        Command::new(program).arg(script).args(arguments).output().unwrap_or_else(|error| panic!("{program}: {error}"))
    };
    let ended = timeout(Duration::from_secs(60), spawn_blocking(run)).await.expect("ends in time");
    let Output { status, stdout, stderr } = ended.expect("no panic");
    assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).expect("text")
}
