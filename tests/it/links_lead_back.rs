//! Links lead back to the sidecar, and every other byte stays as Sezzle sent it.

use http::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LOCATION, CONTENT_TYPE, LINK, LOCATION};
use http::{HeaderValue, Method, StatusCode};
use serde_json::Value;
use sezzle_sidecar::simulator::{Options, Rule};

use crate::support::client::Answer;
use crate::support::process::Sidecar;
use crate::support::{Harness, Session, Setup};

const GATEWAY: &str = "https://sandbox.gateway.sezzle.com";

/// Every link in a body, at any depth: method and href.
fn links(body: &Value) -> Vec<(String, String)> {
    let mut found = Vec::new();
    match body {
        Value::Array(items) => found.extend(items.iter().flat_map(links)),
        Value::Object(members) => {
            if let (Some(method), Some(href)) = (body["method"].as_str(), body["href"].as_str()) {
                found.push((method.to_owned(), href.to_owned()));
            }
            found.extend(members.values().flat_map(links));
        }
        _ => {}
    }
    found
}

/// Checks that the links of a body lead to the sidecar, follows those of GET, and returns how many there were.
async fn follow(harness: &Harness, body: &Value) -> usize {
    let here = format!("http://{}", harness.proxy);
    let links = links(body);
    for (method, href) in &links {
        let path = href.strip_prefix(&here).unwrap_or_else(|| panic!("{href} leads away from {here}"));
        assert!(path.starts_with("/v2/"), "{href}");
        if method == "GET" {
            assert_eq!(harness.get(path).await.status, 200, "{href}");
        }
    }
    links.len()
}

#[tokio::test]
async fn every_kind_of_link_leads_back_and_can_be_followed() {
    let harness = Harness::start().await;
    let create = serde_json::json!({
        "cancel_url": {"href": "https://shop.example/cancel"},
        "complete_url": {"href": "https://shop.example/done"},
        "customer": {"tokenize": true, "email": "a@b.example", "first_name": "A", "last_name": "B", "phone": "1"},
        "order": {
            "intent": "AUTH",
            "reference_id": "r",
            "description": "d",
            "order_amount": {"amount_in_cents": 10_000, "currency": "USD"},
        },
    });
    let created = harness.post("/v2/session", &create.to_string()).await;
    assert_eq!(created.status, 201, "{}", created.text());
    let created = created.json();
    assert_eq!(follow(&harness, &created).await, 8, "self, six of the order, one of the token: {created}");

    let session = format!("/v2/session/{}", created["uuid"].as_str().expect("a uuid"));
    let order = format!("/v2/order/{}", created["order"]["uuid"].as_str().expect("an order"));
    let token = format!("/v2/token/{}/session", created["tokenize"]["token"].as_str().expect("a token"));
    for (path, expected) in [(&session, 8), (&session, 8), (&order, 6)] {
        assert_eq!(follow(&harness, &harness.get(path).await.json()).await, expected, "{path}");
    }
    assert!(follow(&harness, &harness.get(&token).await.json()).await > 0);

    let customer = harness.gateway.approve_token(created["tokenize"]["token"].as_str().expect("a token"));
    let customer = format!("/v2/customer/{}", customer.expect("a customer"));
    assert_eq!(follow(&harness, &harness.get(&customer).await.json()).await, 4);

    let webhook = r#"{"url": "https://shop.example/hook", "events": ["order.captured"]}"#;
    let subscribed = harness.post("/v2/webhooks", webhook).await.json();
    assert_eq!(follow(&harness, &subscribed).await, 5, "{subscribed}");
    let list = harness.get("/v2/webhooks").await.json();
    assert_eq!(follow(&harness, &list).await, 5, "{list}");
    harness.stop().await;
}

#[tokio::test]
async fn only_links_change_and_the_length_is_right() {
    for host in [
        GATEWAY,
        "https://gateway.sezzle.com",
        "https://gateway.eu.sezzle.com",
        "https://sandbox.gateway.eu.sezzle.com",
    ] {
        let harness = Setup::default().gateway(|gateway| gateway.link_base = host.to_owned()).start().await;
        let Session { path: lookup, order, order_path, .. } = Session::tokenize(&harness.gateway);
        for path in [lookup, order_path] {
            // Sezzle's answer passes unchanged.
            harness.gateway.script(
                Rule::path(&path).set_header(CACHE_CONTROL, HeaderValue::from_static("no-store, No-Transform")),
            );
            let original = harness.get(&path).await.text();
            assert!(original.contains(host));
            harness.gateway.clear_rules();

            let expected = original.replace(host, &format!("http://{}", harness.proxy));
            let mut wire = harness.wire().await;
            for turn in ["first", "second"] {
                wire.send(format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n")).await;
                let answer = wire.answer().await;
                assert_eq!(answer.text(), expected, "{path}, {turn}");
                assert_eq!(answer.header("content-length"), expected.len().to_string(), "{path}, {turn}");
                let json = answer.json();
                let order_part = if json["order"].is_object() { &json["order"] } else { &json };
                assert_eq!(order_part["checkout_url"], format!("https://checkout.sezzle.com/?id={order}"));
                wire.send(format!("HEAD {path} HTTP/1.1\r\nhost: localhost\r\n\r\n")).await;
                let head = wire.answer_to_head().await;
                assert!(["", &expected.len().to_string()].contains(&head.header("content-length")), "{head:?}");
            }
        }
        harness.stop().await;
    }
}

#[tokio::test]
async fn shoppers_urls_stay_whatever_their_host() {
    let harness = Harness::start().await;
    let Session { uuid, path, .. } = Session::tokenize(&harness.gateway);
    let body = format!(
        "{{ \"uuid\" : \"{uuid}\", \"links\":[{{\"href\":\"{GATEWAY}/v2/session/{uuid}\",\"method\":\"GET\"}}],\n\
         \"order\":{{\"checkout_url\":\"{GATEWAY}/checkout\",\"tokenize\":{{\"approval_url\":\"{GATEWAY}/approve\",\
         \"expiration\":\"2000-01-01T00:00:00Z\"}},\"links\":[{{\"href\":\"https://checkout.sezzle.com/x\"}}]}} }}"
    );
    harness.gateway.script(Rule::path(&path).body(body.clone()));
    let own = format!("http://{}/v2/session", harness.proxy);
    assert_eq!(harness.get(&path).await.text(), body.replace(&format!("{GATEWAY}/v2/session"), &own));
    harness.stop().await;
}

#[tokio::test]
async fn an_odd_value_elsewhere_leaves_links_readable() {
    let harness = Harness::start().await;
    let Session { uuid, path: lookup, .. } = Session::order(&harness.gateway);
    let deep = format!("{}{}", "[".repeat(150), "]".repeat(150));
    for path in [lookup, "/v2/customer/c".to_owned()] {
        for odd in [&b"\"\\ud83d\""[..], b"\"M\xfcller\"", b"1e400", deep.as_bytes()] {
            let body = |origin: &str| {
                let link = format!(r#""links":[{{"href":"{origin}/v2/x","method":"GET"}}]"#);
                [format!(r#"{{"uuid":"{uuid}",{link},"order":{{"first_name":"#).as_bytes(), odd, b"}}"].concat()
            };
            harness.gateway.script(Rule::path(&path).body(body(GATEWAY)));
            let answer = harness.get_with(&path, &[("cache-control", "no-cache")]).await;
            let expected = body(&format!("http://{}", harness.proxy));
            assert!(answer.body == expected, "{path}: {}", String::from_utf8_lossy(&answer.body));
        }
    }
    harness.stop().await;
}

#[tokio::test]
async fn links_that_cannot_be_read_are_told_of() {
    let sidecar = Sidecar::start(Options::default(), &[("OPS__STATUS_PAGE", "true")]).await;
    let Session { uuid, path: lookup, .. } = Session::order(&sidecar.gateway);
    let capture = "/v2/order/o/capture";
    let page = async || sidecar.client.get(sidecar.ops, "/").await.text();
    let link = format!(r#""href":"{GATEWAY}/v2/x""#);
    let bodies = [
        (r#"{"uuid":"@","links":{"self":{$}}}"#, true),
        (r#"{"uuid":"@","links":["https://gateway.sezzle.com"]}"#, true),
        (r#"{"uuid":"@","links":[{"href":{$}}]}"#, true),
        (r#"{"uuid":"@","links":[{$}]"#, true),
        (r#"{"uuid":"@","links":[{"method":"GET"},null]}"#, false),
    ];
    // Lookups for the cache, other reads, and writes.
    for (path, method, route) in [
        (lookup.as_str(), Method::GET, "/v2/session/{session}"),
        ("/v2/customer/c", Method::GET, "/v2/customer/{customer}"),
        (capture, Method::POST, "/v2/order/{order}/capture"),
    ] {
        let mut times = 0;
        for (body, is_odd) in bodies {
            let body = body.replace('@', &uuid).replace('$', &link);
            for status in [StatusCode::OK, StatusCode::NOT_FOUND] {
                sidecar.gateway.script(Rule::path(path).body(body.clone()).status(status));
                let answer = sidecar.send(method.clone(), path, &[("cache-control", "no-cache")], "").await;
                assert_eq!((answer.status, answer.text()), (status.as_u16(), body.clone()), "passed on as it is");
                // An error has no links.
                times += u32::from(is_odd && status == StatusCode::OK);
            }
        }
        let shown = format!("{method} {route}: <strong>links_unread</strong></p>\n<p class=\"when\">{times} times");
        assert!(page().await.contains(&shown), "{shown} in {}", page().await);
    }
    let log = sidecar.stop().await.stdout;
    let warning = "an answer has links in a form that Sezzle does not document";
    let warnings: Vec<_> = log.lines().filter(|line| line.contains(warning)).collect();
    assert_eq!(warnings.len(), 1, "{log}");
    assert!(warnings[0].contains("/v2/session/{session}") && !warnings[0].contains(&uuid), "{warnings:?}");
}

#[tokio::test]
async fn headers_that_lead_to_the_gateway_lead_back() {
    let harness = Harness::start().await;
    let session = Session::order(&harness.gateway).path;
    let capture = "/v2/order/o/capture";
    let link = r#"<https://gateway.sezzle.com/v2/a>; rel="next", </v2/b>; rel=prev"#;
    let text = |path: &str| {
        Rule::path(path)
            .set_header(LOCATION, HeaderValue::from_static("https://sandbox.gateway.sezzle.com/v2/a?b"))
            .set_header(CONTENT_LOCATION, HeaderValue::from_static("https://checkout.sezzle.com/v2/a"))
            .set_header(LINK, HeaderValue::from_static(link))
    };
    let here = format!("http://{}", harness.proxy);
    let is_led_back = |answer: &Answer| {
        assert_eq!(answer.header("location"), format!("{here}/v2/a?b"));
        assert_eq!(answer.header("content-location"), "https://checkout.sezzle.com/v2/a");
        assert_eq!(answer.header("link"), link.replace("https://gateway.sezzle.com", &here));
    };
    harness.gateway.script(text(&session));
    is_led_back(&harness.get(&session).await);
    let calls = harness.gateway.journal().len();
    is_led_back(&harness.get(&session).await);
    assert_eq!(harness.gateway.journal().len(), calls, "from memory");

    harness.gateway.script(text("/v2/customer/c").body("moved").status(StatusCode::TEMPORARY_REDIRECT));
    let moved = harness.get("/v2/customer/c").await;
    assert_eq!((moved.status, moved.text().as_str()), (307, "moved"));
    is_led_back(&moved);
    harness.gateway.script(text(capture).body("{}").status(StatusCode::CREATED));
    is_led_back(&harness.post(capture, "{}").await);
    let exchange = "/v2/authentication";
    let refusal = "[{\"code\":\"unauthed_checkout_url\"}]";
    harness.gateway.script(text(exchange).body(refusal).status(StatusCode::FORBIDDEN));
    for turn in ["asked", "remembered"] {
        let refused = harness.post(exchange, "{\"cancel_url\":\"https://shop.example/\"}").await;
        assert_eq!((refused.status, refused.text().as_str()), (403, refusal), "{turn}");
        is_led_back(&refused);
    }
    // Links as a gateway behind a TLS terminator may write them. A caller that followed one would bypass the sidecar,
    // and without TLS.
    for origin in ["http://gateway.sezzle.com", "//gateway.sezzle.com", "https://gateway.sezzle.com.:443"] {
        let (url, body) = (format!("{origin}/v2/session"), format!(r#"{{"links":[{{"href":"{origin}/v2/x"}}]}}"#));
        let moved = Rule::path("/v2/session/").status(StatusCode::PERMANENT_REDIRECT).body(body.clone());
        harness.gateway.script(moved.set_header(LOCATION, HeaderValue::try_from(url).expect("a value")));
        let answer = harness.post("/v2/session/", "{}").await;
        assert_eq!(answer.header("location"), format!("{here}/v2/session"), "{origin}");
        assert_eq!(answer.text(), body.replace(origin, &here));
    }
    harness.stop().await;

    let harness = Setup::default().set("LINKS__REWRITE", false).start().await;
    harness.gateway.script(text(capture).body("{}").status(StatusCode::CREATED));
    assert_eq!(harness.post(capture, "{}").await.header("link"), link);
    harness.stop().await;
}

#[tokio::test]
async fn the_base_is_what_is_configured() {
    let base = "https://payments.internal:8443/sezzle";
    let harness = Setup::default().set("LINKS__BASE_URL", base).start().await;
    let session = Session::order(&harness.gateway).path;
    let body = harness.get(&session).await.json();
    let found = links(&body);
    assert_eq!(found[0].1, format!("{base}{session}"));
    assert!(found.iter().all(|(_, href)| href.starts_with(&format!("{base}/v2/"))), "{body}");
    harness.stop().await;
}

#[tokio::test]
async fn a_gateway_of_ones_own_is_known_by_its_url() {
    let harness = Harness::start().await;
    let path = "/v2/customer/c";
    let own = harness.gateway.url();
    harness
        .gateway
        .script(Rule::path(path).body(format!("{{\"links\":[{{\"href\":\"{own}/v2/x\",\"method\":\"POST\"}}]}}")));
    let (_, href) = links(&harness.get(path).await.json()).remove(0);
    assert_eq!(href, format!("http://{}/v2/x", harness.proxy));
    harness.stop().await;
}

#[tokio::test]
async fn rewriting_can_be_turned_off() {
    let harness = Setup::default().set("LINKS__REWRITE", false).start().await;
    let session = Session::order(&harness.gateway);
    for path in [session.path, session.order_path] {
        for _ in 0..2 {
            let found = links(&harness.get(&path).await.json());
            assert!(!found.is_empty() && found.iter().all(|(_, href)| href.starts_with(GATEWAY)), "{found:?}");
        }
    }
    let order = harness.gateway.journal().pop().expect("a call");
    assert!(!order.headers.contains_key("accept-encoding"), "nothing has to be readable");
    harness.stop().await;
}

#[tokio::test]
async fn a_body_that_may_not_or_cannot_be_read_is_left_alone() {
    let harness = Harness::start().await;
    let Session { uuid, path: lookup, .. } = Session::order(&harness.gateway);
    let body = format!("{{\"uuid\":\"{uuid}\",\"links\":[{{\"href\":\"{GATEWAY}/v2/x\",\"method\":\"GET\"}}]}}");
    let large = format!("{{\"fill\":\"{}\",{}", "x".repeat(1 << 20), &body[1..]);
    for path in [lookup, "/v2/customer/c".to_owned(), "/v2/new/call".to_owned()] {
        let sent = |text: &str| Rule::path(&path).body(text.to_owned());
        let header = |name, value: &'static str| sent(&body).set_header(name, HeaderValue::from_static(value));
        for (rule, expected) in [
            (header(CACHE_CONTROL, "no-transform, no-store"), body.as_str()),
            (header(CONTENT_ENCODING, "gzip"), &body),
            (header(CONTENT_TYPE, "text/plain"), &body),
            (sent(&large), &large),
            (sent(&body[1..]), &body[1..]),
        ] {
            harness.gateway.script(rule);
            let answer = harness.get_with(&path, &[("cache-control", "no-store")]).await;
            assert!(answer.body == expected.as_bytes(), "{path}: {:?}", answer.headers);
        }
        harness.gateway.script(header(CONTENT_ENCODING, "gzip"));
        let encoded = harness.get_with(&path, &[("cache-control", "no-store")]).await;
        assert_eq!(encoded.header("content-encoding"), "gzip", "{path}");
        assert_eq!(encoded.header("content-length"), body.len().to_string(), "{path}");
    }
    // An encoded answer to a write passes unchanged, too.
    harness.gateway.script(
        Rule::path("/v2/order/o/capture")
            .body(body.clone())
            .set_header(CONTENT_ENCODING, HeaderValue::from_static("br")),
    );
    let answer = harness.send(Method::POST, "/v2/order/o/capture", &[], "{}").await;
    assert_eq!(answer.text(), body);
    harness.stop().await;
}
