//! Secrets and personal data never leave by a side door. The tests mark keys, tokens, headers, bodies and queries,
//! drive everything through the binary at its most verbose, and then search all log lines, metrics, headers and errors
//! for a mark.

use std::collections::BTreeSet;
use std::ffi::OsString;

use http::header::{AUTHORIZATION, SET_COOKIE};
use http::{HeaderName, HeaderValue, Method, StatusCode};
use sezzle_sidecar::config;
use sezzle_sidecar::simulator::{Fault, Options, Reset, Rule, Simulator};

use crate::support::client::{Answer, raw};
use crate::support::process::{Ended, Folder, Sidecar, free_address, run};
use crate::support::service::{Conduct, Service, signature};

const PUBLIC: &str = "sz_pub_canary_of_ours";
const PRIVATE: &str = "sz_pr_canary_of_ours";

const STATUS_PAGE: (&str, &str) = ("OPS__STATUS_PAGE", "true");

/// Every marked text contains this. The gateway makes up its tokens, so the tests learn those from its journal.
const MARK: &str = "canary";

const BODY: &str = r#"{
    "cancel_url": {"href": "https://shop.example/no?basket=canary", "method": "GET"},
    "complete_url": {"href": "https://shop.example/yes?basket=canary", "method": "GET"},
    "customer": {
        "tokenize": true, "email": "canary@shopper.example", "first_name": "Canary", "last_name": "McCanary",
        "phone": "555canary", "dob": "canary", "billing_address": {"street": "1 Canary Wharf"}
    },
    "order": {
        "intent": "AUTH", "reference_id": "canary", "description": "a canary",
        "order_amount": {"amount_in_cents": 10000, "currency": "USD"}, "metadata": {"note": "canary"}
    }
}"#;

/// All output of the sidecar, and the place of each.
#[derive(Default)]
struct Outlets(Vec<(String, String)>);

impl Outlets {
    fn add(&mut self, place: impl Into<String>, text: impl Into<String>) {
        self.0.push((place.into(), text.into()));
    }

    /// Adds the headers of an answer, and its body if it is an error.
    fn answer(&mut self, place: &str, answer: &Answer) {
        self.add(format!("headers of {place}"), format!("{:?}", headers(answer)));
        if answer.status >= 400 {
            self.add(format!("body of {place}"), answer.text());
        }
    }

    fn ended(&mut self, place: &str, ended: &Ended) {
        self.add(format!("stdout of {place}"), &ended.stdout);
        self.add(format!("stderr of {place}"), &ended.stderr);
    }

    async fn ops(&mut self, place: &str, sidecar: &Sidecar) {
        for path in ["/metrics", "/readyz", "/livez", "/"] {
            let answer = sidecar.client.get(sidecar.ops, path).await;
            assert_ne!(answer.status, 404, "{path}");
            self.add(format!("{path} of {place}"), format!("{:?}\n{}", headers(&answer), answer.text()));
        }
    }

    /// Fails if a mark or one of these words came out anywhere.
    fn hold_none_of(&self, words: &BTreeSet<String>) {
        for (place, text) in &self.0 {
            let text = text.to_lowercase();
            for word in words.iter().map(String::as_str).chain([MARK]) {
                let line = text.lines().find(|line| line.contains(&word.to_lowercase()));
                assert!(line.is_none(), "{word} in {place}: {}", line.unwrap_or_default());
            }
        }
    }
}

/// Every header in the clear: the type's own debug output hides sensitive ones.
fn headers(answer: &Answer) -> Vec<(String, String)> {
    let clear = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    answer.headers.iter().map(|(name, value)| (name.to_string(), clear(value))).collect()
}

fn options() -> Options {
    Options { public_key: PUBLIC.to_owned(), private_key: PRIVATE.to_owned(), ..Options::default() }
}

/// The bearer tokens that the gateway received.
fn tokens(gateway: &Simulator) -> BTreeSet<String> {
    let sent = gateway.journal().into_iter().filter_map(|exchange| exchange.headers.get(AUTHORIZATION).cloned());
    sent.map(|value| value.to_str().expect("text").strip_prefix("Bearer ").expect("a bearer token").to_owned())
        .collect()
}

/// One request with everything that a caller can send, marked.
async fn call(sidecar: &Sidecar, outlets: &mut Outlets, method: Method, path: &str, body: &str) -> Answer {
    let carried = [
        ("authorization", "Bearer canary-of-a-caller"),
        ("cookie", "sid=canary"),
        ("proxy-authorization", "Basic canary"),
        // The log shows the beginning of this header, and of `Host`.
        ("user-agent", "shop/1"),
        ("referer", "https://shop.example/canary"),
        ("x-forwarded-for", "canary"),
        ("traceparent", "00-canary92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
        ("tracestate", "shop=canary"),
        ("baggage", "customer=canary"),
        ("x-api-key", "canary"),
        ("content-type", "application/json"),
    ];
    let answer = sidecar.send(method.clone(), path, &carried, body).await;
    outlets.answer(&format!("{method} {path}"), &answer);
    answer
}

/// Everything that can happen to a request.
async fn drive(sidecar: &Sidecar, outlets: &mut Outlets) -> BTreeSet<String> {
    let (get, post) = (Method::GET, Method::POST);
    let gateway = &sidecar.gateway;
    let mut words = BTreeSet::new();

    // A caller that authenticates: with a placeholder, the sidecar's keys, another merchant's keys, and without JSON.
    for (public, status) in [("canary", 201), (PUBLIC, 201), ("sz_pub_canary_of_another", 401)] {
        let keys = format!("{{\"public_key\":\"{public}\",\"private_key\":\"sz_pr_canary_of_a_caller\"}}");
        assert_eq!(call(sidecar, outlets, post.clone(), "/v2/authentication", &keys).await.status, status);
    }
    assert_eq!(call(sidecar, outlets, post.clone(), "/v2/authentication", "{\"canary").await.status, 400);
    assert_eq!(call(sidecar, outlets, Method::PUT, "/v2/authentication", "canary").await.status, 405);

    // Lookups, and a write with a body full of personal data.
    let created = call(sidecar, outlets, post.clone(), "/v2/session?canary=1", BODY).await;
    assert_eq!(created.status, 201, "{}", created.text());
    let created = created.json();
    let text = |pointer: &str| created.pointer(pointer).and_then(serde_json::Value::as_str).expect(pointer).to_owned();
    let (session, order, token) = (text("/uuid"), text("/order/uuid"), text("/tokenize/token"));
    for url in ["/order/checkout_url", "/tokenize/approval_url"] {
        words.insert(text(url));
    }
    let lookup = format!("/v2/session/{session}");
    for path in [&lookup, &lookup, &format!("{lookup}?canary=canary")] {
        assert_eq!(call(sidecar, outlets, get.clone(), path, "").await.status, 200);
    }
    let path = format!("/v2/token/{token}/session");
    assert_eq!(call(sidecar, outlets, get.clone(), &path, "").await.status, 200);
    call(sidecar, outlets, post.clone(), &path, "canary").await;
    // The link to a shopper's agreement grants access to the agreement.
    words.insert(token.clone());
    let customer = gateway.approve_token(&token).expect("an open token");
    assert_eq!(call(sidecar, outlets, get.clone(), &format!("/v2/customer/{customer}"), "").await.status, 200);
    words.insert(customer);
    gateway.complete_checkout(&order);
    let capture = format!("/v2/order/{order}/capture");
    assert_eq!(call(sidecar, outlets, post.clone(), &capture, r#"{"canary":"canary"}"#).await.status, 422);
    let webhook = r#"{"url":"https://shop.example/canary?key=canary","events":["order.authorized"]}"#;
    assert_eq!(call(sidecar, outlets, post.clone(), "/v2/webhooks", webhook).await.status, 200);
    assert_eq!(
        call(sidecar, outlets, get.clone(), "/v2/orders/report?start-date=2026-01-01&canary=canary", "").await.status,
        200
    );

    // Card data, which Sezzle returns once.
    let card = "/v2/session/card/token/canary-of-a-card";
    let data = r#"{"pan":"canary","cvv_number":"canary","expiration_date":"canary","last_name":"canary"}"#;
    for (rule, status) in [
        (Rule::path(card).status(StatusCode::OK), 200),
        (Rule::path(card).status(StatusCode::OK).fault(Fault::CutBody(11)), 504),
        (Rule::path(card).reset(Reset::AfterEffect), 504),
        (Rule::path(card).fault(Fault::Garbage("HTTP/1.1 200 OK\r\ncanary canary\r\n\r\n".into())), 504),
    ] {
        gateway.clear_rules();
        gateway.script(rule.body(data));
        assert_eq!(call(sidecar, outlets, get.clone(), card, "").await.status, status);
    }
    gateway.clear_rules();
    for (method, path) in [(&post, card), (&Method::OPTIONS, card), (&get, "/v2/Session/CARD/token/canary/")] {
        assert!(call(sidecar, outlets, method.clone(), path, "").await.status >= 400, "{path}");
    }

    // The sidecar itself refuses these.
    for (method, path) in [
        (&get, "/canary-0001"),
        (&get, "/v2/../canary-0001"),
        (&get, "/v2//canary-0001"),
        (&get, "/session/card/token/canary"),
        (&get, "/customer/canary"),
        (&get, "/sz_pr_canary"),
        (&get, "/v2/order/canary%2Fcapture"),
        (&Method::TRACE, "/v2/canary-0001"),
        (&post, "http://canary:canary@elsewhere.example/v2/session"),
    ] {
        if path.starts_with('/') {
            assert!(call(sidecar, outlets, method.clone(), path, "").await.status >= 400, "{path}");
        }
        let request = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        outlets.add(format!("raw {method} {path}"), raw(sidecar.proxy, request).await);
    }
    for (name, value) in [
        ("host", "canary:canary@elsewhere.example"),
        ("origin", "https://canary.example"),
        ("sec-fetch-site", "canary"),
        ("via", "1.1 sezzle-sidecar (canary)"),
    ] {
        let answer = sidecar.send(get.clone(), "/v2/customer?canary", &[(name, value)], "").await;
        assert!(answer.status >= 400, "{name}");
        outlets.answer(name, &answer);
    }
    let huge = format!("/v2/customer?canary={}", "a".repeat(5000));
    assert_eq!(call(sidecar, outlets, get.clone(), &huge, "").await.status, 414);
    assert_eq!(call(sidecar, outlets, post.clone(), "/v2/session", &"canary".repeat(1000)).await.status, 413);
    assert_eq!(
        call(sidecar, outlets, Method::from_bytes(b"CANARY").expect("valid"), "/v2/canary-0001", "").await.status,
        404
    );

    // Bytes that are not HTTP, or stop being HTTP soon.
    for request in [
        "canary\r\n\r\n",
        "GET /v2/canary HTTP/9.9\r\n\r\n",
        "GET /v2/customer HTTP/1.1\r\nhost: localhost\r\nauthorization canary\r\n\r\n",
        "GET /v2/customer HTTP/1.1\r\nhost: another host\r\nconnection: close\r\n\r\n",
        "GET /v2/customer HTTP/1.1\r\nhost: localhost\r\nx: \u{1}canary\r\n\r\n",
        "POST /v2/session HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\ncanary\r\n",
    ] {
        outlets.add(format!("raw {request:?}"), raw(sidecar.proxy, request).await);
    }

    // Secrets and personal data in the wrong places.
    for path in [
        "/v2/session/canary@shopper.example",
        "/v2/order/canary%40shopper.example",
        "/v2/order/Bearer%20canary/refund",
        "/v2/customer/canary",
        "/v2/settlements/details/canary",
        "/v2/new/canary-0001",
    ] {
        call(sidecar, outlets, get.clone(), path, "").await;
        call(sidecar, outlets, post.clone(), path, "canary").await;
    }

    // Sezzle fails, or says too much.
    let path = "/v2/customer";
    let said = [(SET_COOKIE, "sid=canary"), (AUTHORIZATION, "Bearer canary"), (STRICT, "canary"), (ALT_SVC, "canary")];
    for (name, value) in said {
        gateway.clear_rules();
        gateway.script(Rule::path(path).add_header(name, HeaderValue::from_static(value)));
        assert_eq!(call(sidecar, outlets, get.clone(), path, "").await.status, 200);
    }
    for (method, path, rule) in [
        (&get, path, Rule::path(path).reset(Reset::BeforeReading)),
        (&get, lookup.as_str(), Rule::path(&lookup).reset(Reset::BeforeEffect)),
        (&post, capture.as_str(), Rule::path(&capture).reset(Reset::AfterEffect)),
        (&get, path, Rule::path(path).fault(Fault::Garbage("canary\r\n\r\n".into()))),
        (&get, path, Rule::path(path).fault(Fault::Garbage("HTTP/1.1 2canary OK\r\n\r\n".into()))),
        (&post, capture.as_str(), Rule::path(&capture).fault(Fault::Garbage("HTTP/1.1 canary\r\n\r\n".into()))),
        (&get, path, Rule::path(path).body("{\"canary\":\"canary\"}").fault(Fault::CutBody(9))),
    ] {
        gateway.clear_rules();
        gateway.script(rule);
        let body = if method == post { r#"{"canary":"canary"}"# } else { "" };
        let status = call(sidecar, outlets, method.clone(), &format!("{path}?canary"), body).await.status;
        assert!([502, 504].contains(&status), "{status} for {path}");
    }
    // The parser drops a line that is no header, so the line reaches no caller.
    gateway.clear_rules();
    gateway.script(Rule::path(path).fault(Fault::Garbage("HTTP/1.1 200 OK\r\ncanary canary\r\n\r\n".into())));
    assert_eq!(call(sidecar, outlets, get.clone(), path, "").await.status, 200);
    gateway.clear_rules();

    // A token that Sezzle no longer accepts, and a call that Sezzle never allows.
    gateway.revoke_tokens();
    assert_eq!(call(sidecar, outlets, get.clone(), path, "").await.status, 200);
    gateway.script(Rule::path(path).status(StatusCode::UNAUTHORIZED).body("[]"));
    assert_eq!(call(sidecar, outlets, get.clone(), path, "").await.status, 401);
    gateway.clear_rules();
    words
}

const STRICT: HeaderName = http::header::STRICT_TRANSPORT_SECURITY;
const ALT_SVC: HeaderName = http::header::ALT_SVC;

#[tokio::test]
async fn nothing_marked_comes_out_whatever_happens() {
    for format in ["json", "text"] {
        let forward = ("PROXY__CARD_DATA", "forward");
        let variables =
            [("LOG__LEVEL", "trace"), ("LOG__FORMAT", format), ("LIMITS__BODY", "4KiB"), STATUS_PAGE, forward];
        let sidecar = Sidecar::start(options(), &variables).await;
        let mut outlets = Outlets::default();
        let mut words = drive(&sidecar, &mut outlets).await;
        outlets.ops(format, &sidecar).await;

        let journal = sidecar.gateway.journal();
        for exchange in &journal {
            for name in ["authorization", "cookie", "proxy-authorization", "x-forwarded-for"] {
                let sent =
                    exchange.headers.get_all(name).iter().any(|value| value.as_bytes().starts_with(b"Bearer canary"));
                assert!(!sent && (name == "authorization" || !exchange.headers.contains_key(name)), "{name} was sent");
            }
        }
        let tokens = tokens(&sidecar.gateway);
        assert_eq!(tokens.len(), 2, "the first and the one after the revocation");
        words.extend(tokens);
        let ended = sidecar.stop().await;
        assert_eq!(ended.code, Some(0));
        outlets.ended(format, &ended);
        // The log was at its most verbose, and holds a line of every kind.
        for line in ["token granted", "the exchange with Sezzle failed", "the outcome of a write is unknown", "drained"]
        {
            assert!(ended.stdout.contains(line), "{line} in {}", ended.stdout);
        }
        assert!(ended.stdout.lines().filter(|line| line.contains("/v2/customer")).count() >= 10);
        outlets.hold_none_of(&words);
    }
}

#[tokio::test]
async fn a_webhook_tells_neither_what_is_in_it_nor_what_it_is_signed_with() {
    let service = Service::start(Conduct::Answer(500)).await;
    for format in ["json", "text"] {
        let (webhooks, forward) = (free_address(), format!("http://{}/canary", service.address));
        let listen = webhooks.to_string();
        let variables = [
            ("LOG__LEVEL", "trace"),
            ("LOG__FORMAT", format),
            STATUS_PAGE,
            ("WEBHOOKS__LISTEN", listen.as_str()),
            ("WEBHOOKS__FORWARD_TO", &forward),
            ("WEBHOOKS__FORWARD_SECRET", "canary-shared-with-the-service"),
        ];
        let sidecar = Sidecar::start(options(), &variables).await;
        let mut outlets = Outlets::default();
        let mut words = BTreeSet::new();
        for (body, conduct, status) in [
            (r#"{"uuid":"a canary","event":"canary.event","data":{"uuid":"canary","token":"canary"}}"#, 500, 502),
            (
                r#"{"uuid":"1-a","event":"order.captured","data":{"uuid":"canary","email":"canary@a.example"}}"#,
                200,
                200,
            ),
            ("canary", 200, 200),
        ] {
            service.conduct(Conduct::Answer(conduct));
            for key in [PRIVATE, "sz_pr_canary_of_another"] {
                let signed = signature(key, body);
                words.extend([signed.clone(), signature("canary-shared-with-the-service", body)]);
                let headers = [("sezzle-signature", signed.as_str()), ("x-canary", "canary"), ("cookie", "canary")];
                let path = "/webhooks/sezzle?canary=canary";
                let answer = sidecar.client.send(webhooks, Method::POST, path, &headers, body).await;
                assert_eq!(answer.status, if key == PRIVATE { status } else { 401 });
                outlets.answer(body, &answer);
            }
        }
        let answer = sidecar.client.send(webhooks, Method::POST, "/canary", &[], "canary").await;
        assert_eq!(answer.status, 404);
        outlets.answer("another path", &answer);
        outlets.ops(format, &sidecar).await;
        let ended = sidecar.stop().await;
        outlets.ended(format, &ended);
        let lines = ended.stdout.lines().filter(|line| line.contains("dur_ms")).collect::<Vec<_>>();
        assert_eq!(lines.len(), 7, "a line for each: {}", ended.stdout);
        assert!(lines.iter().any(|line| line.contains("order.captured") && line.contains("1-a")), "{lines:?}");
        outlets.hold_none_of(&words);
    }
}

#[tokio::test]
async fn keys_that_are_refused_do_not_come_out() {
    let mut outlets = Outlets::default();
    let gateway = Simulator::start(Options::default()).await.expect("gateway starts");
    for (place, format) in [("rejected keys as JSON", "json"), ("rejected keys as text", "text")] {
        let variables = [("LOG__LEVEL", "trace"), ("LOG__FORMAT", format), STATUS_PAGE];
        let mut sidecar = Sidecar::before(gateway.clone(), PUBLIC, PRIVATE, &variables).await;
        sidecar.process.says("rejected the key pair").await;
        assert_eq!(call(&sidecar, &mut outlets, Method::GET, "/v2/customer?canary", "").await.status, 503);
        let keys = format!("{{\"public_key\":\"{PUBLIC}\",\"private_key\":\"{PRIVATE}\"}}");
        assert_eq!(call(&sidecar, &mut outlets, Method::POST, "/v2/authentication", &keys).await.status, 503);
        outlets.ops(place, &sidecar).await;
        sidecar.process.signal("TERM");
        outlets.ended(place, &sidecar.process.end().await);
    }
    outlets.hold_none_of(&BTreeSet::new());
}

#[tokio::test]
async fn an_exchange_that_goes_wrong_does_not_tell_what_was_in_it() {
    let created = |body: &'static str| Rule::any().status(StatusCode::CREATED).body(body);
    let mut outlets = Outlets::default();
    for (place, rule) in [
        ("an error that repeats the keys", Rule::any().status(StatusCode::BAD_GATEWAY).body(PRIVATE)),
        ("broken JSON", created(r#"{"token":"canary""#)),
        ("a token that is no header", created(r#"{"token":"canary\n","expiration_date":"2999-01-01T00:00:00Z"}"#)),
        ("no date", created(r#"{"token":"canary","expiration_date":"canary"}"#)),
        ("a token of the past", created(r#"{"token":"canary","expiration_date":"2001-01-01T00:00:00Z"}"#)),
        (
            "another merchant",
            created(r#"{"token":"canary","expiration_date":"2999-01-01T00:00:00Z","merchant_uuid":"the canary"}"#),
        ),
        ("no HTTP", Rule::any().fault(Fault::Garbage("HTTP/1.1 canary\r\n".into()))),
    ] {
        let gateway = Simulator::start(options()).await.expect("gateway starts");
        gateway.script(rule);
        let merchant = ("CREDENTIALS__MERCHANT_UUID", "11111111-2222-3333-4444-555555555555");
        let variables = [("LOG__LEVEL", "trace"), merchant, STATUS_PAGE];
        let mut sidecar = Sidecar::before(gateway, PUBLIC, PRIVATE, &variables).await;
        sidecar.process.says("\"token exchange failed\"").await;
        outlets.ops(place, &sidecar).await;
        outlets.ended(place, &sidecar.stop().await);
    }
    outlets.hold_none_of(&BTreeSet::new());
}

#[tokio::test]
async fn a_configuration_shows_no_key_right_or_wrong() {
    let folder = Folder::new();
    let good = "[gateway]\nenvironment = \"sandbox\"\n";
    let keys = [("CREDENTIALS__PUBLIC_KEY", PUBLIC), ("CREDENTIALS__PRIVATE_KEY", PRIVATE)];
    let mut outlets = Outlets::default();
    let ended = run(&["check", "--config", &folder.write("good.toml", good)], &keys).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    outlets.ended("a good configuration", &ended);

    for (place, file, variable) in [
        ("a key in a file", "[credentials]\nprivate_key = \"sz_pr_canary\"\n", None),
        ("a key without quotes", "[credentials]\nprivate_key = sz_pr_canary\n", None),
        ("a key as a path", "[credentials]\nprivate_key_file = \"sz_pr_canary\"\n", None),
        ("a key as a path by variable", "", Some(("CREDENTIALS__PUBLIC_KEY_FILE", PUBLIC))),
        ("a misspelt variable", "", Some(("CREDENTIALS__PRIVATEKEY", PRIVATE))),
        ("a key in another section", "[log]\nlevel = \"sz_pr_canary\"\n", None),
        ("a key as a host", "[proxy]\nhosts = [\"sz_pr_canary\"]\n", None),
        ("a key as a key", "[credentials]\n\"sz_pr_canary\" = 1\n", None),
        ("a password in a URL", "", Some(("GATEWAY__URL", "https://me:canary@gateway.example"))),
        ("a password in the links' URL", "", Some(("LINKS__BASE_URL", "https://me:canary@gateway.example"))),
        ("a key in another place", "", Some(("CREDENTIALS__MERCHANT_UUID", PRIVATE))),
        ("white space in a key", "", Some(("LOG__FORMAT", "sz_pr_canary x"))),
    ] {
        let path = folder.write("bad.toml", &format!("gateway.environment = \"sandbox\"\n{file}"));
        // The keys are valid unless the case is about keys.
        let about_keys = file.contains("_file") || variable.is_some_and(|(name, _)| name.ends_with("_FILE"));
        let set = if about_keys { &[][..] } else { &keys };
        for command in ["check", "run"] {
            let variables: Vec<_> = set.iter().copied().chain(variable).collect();
            let ended = run(&[command, "--config", &path], &variables).await;
            assert_eq!(ended.code, Some(78), "{place}: {}{}", ended.stdout, ended.stderr);
            outlets.ended(place, &ended);
        }
    }

    let environment = keys
        .into_iter()
        .chain([("GATEWAY__ENVIRONMENT", "sandbox")])
        .map(|(name, value)| (OsString::from(format!("SEZZLE_SIDECAR__{name}")), OsString::from(value)));
    let loaded = config::load(&[], environment).expect("a good configuration");
    outlets.add("debug output of what was loaded", format!("{loaded:?}\n{loaded:#?}"));
    outlets.add("debug output of the settings", format!("{:?}\n{:#?}", loaded.settings, loaded.settings));
    outlets.hold_none_of(&BTreeSet::new());
}

#[tokio::test]
async fn a_key_file_that_is_no_key_is_not_quoted() {
    let folder = Folder::new();
    let public = folder.write("public", "sz_pub_canary");
    let mut outlets = Outlets::default();
    for (place, content) in [("two words", "sz_pr_canary sz_pr_canary"), ("not ASCII", "sz_pr_canary\u{e9}")] {
        let private = folder.write("private", content);
        let variables = [
            ("GATEWAY__ENVIRONMENT", "sandbox"),
            ("CREDENTIALS__PUBLIC_KEY_FILE", public.as_str()),
            ("CREDENTIALS__PRIVATE_KEY_FILE", private.as_str()),
            ("LOG__LEVEL", "trace"),
        ];
        let ended = run(&["run"], &variables).await;
        assert_eq!(ended.code, Some(77), "{place}: {}", ended.stderr);
        outlets.ended(place, &ended);
    }
    outlets.hold_none_of(&BTreeSet::new());
}

#[test]
fn a_mark_is_found_wherever_it_is() {
    let holds = |text: &str| {
        let mut outlets = Outlets::default();
        outlets.add("here", "first line");
        outlets.add("there", text);
        let words = BTreeSet::from(["Token-1".to_owned()]);
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| outlets.hold_none_of(&words))).is_err()
    };
    assert!(holds("a\nb McCanary c\n") && holds("x token-1") && holds("Bearer TOKEN-1"));
    assert!(!holds("nothing of the kind"));
}
