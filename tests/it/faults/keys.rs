//! The idempotency key that makes a repetition harmless: its owner, and its validity.

use http::Method;
use sezzle_sidecar::simulator::{Exchange, Reset, Rule};

use super::scene::{CAPTURE, SESSION, is_minted};
use crate::support::{Harness, Session, Setup, header};

const JSON: (&str, &str) = ("content-type", "application/json");

/// The path of captures of an order that can be captured.
fn capture(harness: &Harness) -> (String, String) {
    let session = Session::order(&harness.gateway).authorized(&harness.gateway);
    (format!("{}/capture", session.order_path), session.order)
}

fn last(harness: &Harness) -> Exchange {
    harness.gateway.journal().pop().expect("a call")
}

#[tokio::test]
async fn each_call_has_a_key_of_its_own_even_if_nothing_else_differs() {
    let harness = Harness::start().await;
    let (path, order) = capture(&harness);
    let (first, second) = (harness.post(&path, CAPTURE).await, harness.post(&path, CAPTURE).await);
    let keys = [first, second].map(|answer| answer.header("sezzle-request-id").to_owned());
    assert!(keys.iter().all(|key| is_minted(key)) && keys[0] != keys[1], "{keys:?}");
    let effects = harness.gateway.effects(&order);
    let ledger: Vec<_> = effects.iter().map(|effect| effect.key.clone().unwrap_or_default()).collect();
    assert_eq!(ledger, keys, "two equal captures are two captures");
    harness.stop().await;
}

#[tokio::test]
async fn a_key_that_the_caller_was_given_makes_its_repetition_harmless() {
    let harness = Harness::start().await;
    let (path, order) = capture(&harness);
    harness.gateway.script(Rule::path(&path).times(3).reset(Reset::AfterEffect));
    let first = harness.post(&path, CAPTURE).await;
    assert_eq!((first.status, first.error_code().as_str()), (504, "sidecar.outcome_unknown"));
    let key = first.header("sezzle-request-id");
    assert!(first.text().contains("Sezzle-Request-Id"), "it says what to do: {}", first.text());
    let second = harness.send(Method::POST, &path, &[JSON, ("sezzle-request-id", key)], CAPTURE).await;
    assert_eq!((second.status, second.header("sezzle-request-id")), (200, key));
    assert_eq!(harness.gateway.effects(&order).len(), 1);
    harness.stop().await;
}

#[tokio::test]
async fn the_misspelt_key_is_sent_on_under_its_right_name() {
    let harness = Harness::start().await;
    let (path, _) = capture(&harness);
    let answer = harness.send(Method::POST, &path, &[JSON, ("x-sezzle-request-id", "misspelt")], CAPTURE).await;
    assert_eq!((answer.status, answer.header("sezzle-request-id")), (200, "misspelt"));
    assert_eq!(header(&last(&harness).headers, "sezzle-request-id"), "misspelt");

    let both = [JSON, ("x-sezzle-request-id", "right"), ("sezzle-request-id", "right")];
    let answer = harness.send(Method::POST, &path, &both, CAPTURE).await;
    assert_eq!((answer.status, answer.header("sezzle-request-id")), (200, "right"));
    assert_eq!(header(&last(&harness).headers, "sezzle-request-id"), "right");

    // A call that documents no key passes unchanged.
    let answer = harness.send(Method::POST, "/v2/session", &[JSON, ("x-sezzle-request-id", "misspelt")], SESSION).await;
    assert_eq!((answer.status, answer.header("sezzle-request-id")), (201, ""));
    assert_eq!(header(&last(&harness).headers, "sezzle-request-id"), "");
    harness.stop().await;
}

#[tokio::test]
async fn the_misspelt_key_counts_for_nothing_where_that_is_wished() {
    let harness = Setup::default().set("PROXY__NORMALISE_REQUEST_ID", "false").start().await;
    let (path, _) = capture(&harness);
    let answer = harness.send(Method::POST, &path, &[JSON, ("x-sezzle-request-id", "misspelt")], CAPTURE).await;
    assert_eq!(answer.status, 200);
    assert!(is_minted(answer.header("sezzle-request-id")), "{:?}", answer.headers);
    let sent = last(&harness).headers;
    assert_eq!(header(&sent, "sezzle-request-id"), answer.header("sezzle-request-id"));
    assert_eq!(header(&sent, "x-sezzle-request-id"), "misspelt", "as it came");
    let other = [JSON, ("sezzle-request-id", "mine"), ("idempotency-key", "\"other\"")];
    let answer = harness.send(Method::POST, &path, &other, CAPTURE).await;
    assert_eq!((answer.status, answer.header("sezzle-request-id")), (200, "mine"));
    assert_eq!(header(&last(&harness).headers, "idempotency-key"), "\"other\"", "as it came");
    harness.stop().await;
}

#[tokio::test]
async fn keys_that_differ_are_refused_and_nothing_is_sent() {
    let harness = Harness::start().await;
    let (path, order) = capture(&harness);
    let before = harness.received();
    let (right, wrong, common) =
        (("sezzle-request-id", "a"), ("x-sezzle-request-id", "b"), ("idempotency-key", "\"c\""));
    for keys in [vec![right, wrong], vec![right, common], vec![wrong, common], vec![right, wrong, common]] {
        let lines = [vec![JSON], keys.clone()].concat();
        let answer = harness.send(Method::POST, &path, &lines, CAPTURE).await;
        assert_eq!((answer.status, answer.error_code().as_str()), (400, "sidecar.conflicting_keys"), "{keys:?}");
    }
    assert_eq!(harness.received(), before);
    assert_eq!(harness.metric("requests_refused_total{reason=\"conflicting_keys\"}").await, 4.0);
    let equal = [JSON, ("sezzle-request-id", "k"), ("x-sezzle-request-id", "k"), ("idempotency-key", "\"k\"")];
    let answer = harness.send(Method::POST, &path, &equal, CAPTURE).await;
    assert_eq!((answer.status, answer.header("sezzle-request-id")), (200, "k"));
    let sent = last(&harness).headers;
    assert_eq!(header(&sent, "sezzle-request-id"), "k");
    assert!(!sent.contains_key("x-sezzle-request-id") && !sent.contains_key("idempotency-key"));
    assert_eq!(harness.gateway.effects(&order).len(), 1);
    // A call that documents no key passes every key unchanged.
    let lines = [JSON, right, wrong, common];
    assert_eq!(harness.send(Method::POST, "/v2/session", &lines, SESSION).await.status, 201);
    assert_eq!(header(&last(&harness).headers, "idempotency-key"), "\"c\"");
    harness.stop().await;
}

#[tokio::test]
async fn two_keys_are_none() {
    let harness = Harness::start().await;
    let (path, order) = capture(&harness);
    for keys in [["a", "b"], ["a", "a"]].map(|keys| keys.map(|key| ("sezzle-request-id", key))) {
        let answer = harness.send(Method::POST, &path, &[JSON, keys[0], keys[1]], CAPTURE).await;
        let text = answer.text();
        assert!(answer.status == 400 && text.contains("sidecar.bad_request"), "{keys:?}: {} {text}", answer.status);
    }
    assert_eq!((harness.received().len(), harness.gateway.effects(&order).len()), (0, 0));
    harness.stop().await;
}

/// A caller's key passes wherever it stands, but makes only documented calls repeatable.
#[tokio::test]
async fn a_key_where_sezzle_documents_none_is_only_passed_on() {
    let harness = Harness::start().await;
    let order = Session::order(&harness.gateway).order_path;
    for (method, path, body) in [
        (Method::POST, "/v2/session".to_owned(), SESSION),
        (Method::PATCH, order.clone(), r#"{"reference_id":"r"}"#),
        (Method::DELETE, format!("{order}/checkout"), ""),
        (Method::POST, "/v2/customer/c/preapprove".to_owned(), "{}"),
        (Method::DELETE, "/v2/customer/c".to_owned(), ""),
        (Method::POST, "/v2/webhooks".to_owned(), "{}"),
        (Method::POST, format!("{order}/unheard-of"), "{}"),
        (Method::PUT, format!("{order}/capture"), "{}"),
        (Method::POST, format!("{order}/Capture"), "{}"),
        (Method::POST, format!("{order}/capture/"), "{}"),
    ] {
        harness.gateway.clear_journal();
        harness.gateway.script(Rule::on(method.clone(), &path).reset(Reset::BeforeEffect));
        let answer = harness.send(method.clone(), &path, &[JSON, ("sezzle-request-id", "key")], body).await;
        let what = format!("{method} {path}: {}", answer.text());
        assert_eq!((answer.status, answer.error_code().as_str()), (504, "sidecar.outcome_unknown"), "{what}");
        // The key would not make a repetition harmless, so the answer does not mention it.
        assert_eq!(answer.header("sezzle-request-id"), "", "{what}");
        assert!(!answer.text().contains("Sezzle-Request-Id"), "{what}");
        let keys: Vec<_> = harness.gateway.journal().into_iter().map(|call| call.headers).collect();
        assert_eq!(keys.len(), 1, "{what}");
        assert_eq!(header(&keys[0], "sezzle-request-id"), "key", "{what}");
    }
    harness.stop().await;
}

/// The other calls that document the key; captures and refunds have the rest of this folder.
#[tokio::test]
async fn every_call_that_documents_the_key_is_repeated_under_it() {
    let harness = Harness::start().await;
    for path in ["/v2/order/o/release", "/v2/order/o/reauthorize", "/v2/order/o/upcharge", "/v2/customer/c/order"] {
        harness.gateway.clear_journal();
        harness.gateway.script(Rule::path(path).times(1).reset(Reset::AfterEffect));
        let answer = harness.post(path, "{}").await;
        let keys: Vec<_> = harness.gateway.journal().into_iter().map(|call| call.headers).collect();
        assert_eq!(keys.len(), 2, "{path}: {}", answer.text());
        let key = answer.header("sezzle-request-id");
        assert!(is_minted(key), "{path}: {key}");
        assert!(keys.iter().all(|headers| header(headers, "sezzle-request-id") == key), "{path}: {keys:?}");
        assert!(answer.header("proxy-status").contains("received-status="), "refused after it may have been done");
    }
    harness.stop().await;
}
