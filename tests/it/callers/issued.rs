//! A caller with keys of its own exchanges them for a token as with Sezzle, and other keys bring none.

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::{Method, StatusCode};
use serde_json::json;
use sezzle_sidecar::simulator::{Options, Rule};

use super::{CALLERS, OFFICE_PRIVATE, OFFICE_PUBLIC, Scene, TILL, at, secrets, setup};
use crate::support::client::Answer;
use crate::support::process::{Folder, lines};
use crate::support::{Harness, Setup};

const EXCHANGE: &str = "/v2/authentication";

async fn exchange(harness: &Harness, headers: &[(&str, &str)], body: &str) -> Answer {
    harness.send(Method::POST, EXCHANGE, headers, body).await
}

fn keys(public: &str, private: &str) -> String {
    json!({ "public_key": public, "private_key": private }).to_string()
}

async fn status_with(harness: &Harness, token: &str) -> u16 {
    harness.get_with("/v2/customer", &[("authorization", &format!("Bearer {token}"))]).await.status
}

#[tokio::test]
async fn own_keys_bring_a_token_in_sezzles_shape() {
    let folder = Folder::new();
    let harness = setup(&folder).start().await;
    let answer = exchange(&harness, &[], &keys(OFFICE_PUBLIC, OFFICE_PRIVATE)).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    let json = answer.json();
    let members: Vec<&String> = json.as_object().expect("an object").keys().collect();
    assert_eq!(members, ["expiration_date", "merchant_uuid", "token"]);
    assert_eq!(json["merchant_uuid"], Options::default().merchant_uuid);
    let token = json["token"].as_str().expect("a token").to_owned();
    for _ in 0..3 {
        assert_eq!(status_with(&harness, &token).await, 200);
    }
    let sent = harness.gateway.journal().pop().expect("a call").headers;
    assert!(!format!("{sent:?}").contains(&token), "the token stays here");
    assert_eq!(harness.gateway.count("POST", EXCHANGE), 1, "and so do the keys: this is the sidecar's own exchange");
    harness.clock.advance(Duration::from_secs(109 * 60));
    assert_eq!(status_with(&harness, &token).await, 200);
    harness.clock.advance(Duration::from_secs(61));
    assert_eq!(status_with(&harness, &token).await, 401, "after 110 minutes");
    harness.stop().await;
}

#[tokio::test]
async fn wrong_keys_bring_nothing() {
    let folder = Folder::new();
    let harness = setup(&folder).start().await;
    let options = Options::default();
    let before = harness.gateway.journal().len();
    let long = "x".repeat(10_000);
    for body in [
        String::new(),
        "{}".to_owned(),
        "null".to_owned(),
        "{".to_owned(),
        keys(OFFICE_PUBLIC, ""),
        keys("", OFFICE_PRIVATE),
        keys(OFFICE_PUBLIC, TILL),
        keys(OFFICE_PUBLIC, &OFFICE_PRIVATE[1..]),
        keys(OFFICE_PUBLIC, &OFFICE_PRIVATE.to_uppercase()),
        keys(OFFICE_PUBLIC, &long),
        keys(&long, OFFICE_PRIVATE),
        keys(&options.public_key, OFFICE_PRIVATE),
        keys(&options.public_key, &options.private_key),
        keys("sz_pub_another", "sz_pr_another"),
        json!({ "public_key": OFFICE_PUBLIC, "private_key": [OFFICE_PRIVATE] }).to_string(),
        json!({ "Public_Key": OFFICE_PUBLIC, "private_key": OFFICE_PRIVATE }).to_string(),
        json!({ "public_key": OFFICE_PUBLIC, "private_key": OFFICE_PRIVATE }).to_string() + "{}",
        format!(r#"{{"public_key":"x","public_key":"{OFFICE_PUBLIC}","private_key":"{OFFICE_PRIVATE}"}}"#),
    ] {
        let answer = exchange(&harness, &[], &body).await;
        let shown = &body[..body.len().min(100)];
        assert_eq!((answer.status, answer.error_code().as_str()), (401, "sidecar.unknown_caller"), "{shown}");
        assert!(!answer.text().contains(OFFICE_PRIVATE));
    }
    let whole = "y".repeat(2 << 20);
    assert_eq!(exchange(&harness, &[], &whole).await.error_code(), "sidecar.body_too_large");
    assert_eq!(harness.gateway.journal().len(), before, "nothing was sent");
    for path in [EXCHANGE, "/v2/authentication/", "/v2/Authentication", "/v2/authentication/x"] {
        assert_eq!(harness.get(path).await.status, 405, "{path}");
        assert_eq!(harness.post(path, "{}").await.status, 401, "{path}");
    }
    harness.stop().await;
}

#[tokio::test]
async fn a_caller_that_is_known_already_gets_what_every_caller_got_before() {
    let folder = Folder::new();
    let harness = setup(&folder).start().await;
    let known = [("authorization", format!("Bearer {TILL}"))];
    let known: Vec<(&str, &str)> = known.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let answer = exchange(&harness, &known, &keys("any", "any")).await;
    assert_eq!(answer.json()["token"], "placeholder-the-sidecar-adds-the-real-token");
    let answer = exchange(&harness, &known, &keys("sz_pub_another", "any")).await;
    assert_eq!(answer.error_code(), "sidecar.foreign_keys");
    let answer = exchange(&harness, &known, "{").await;
    assert_eq!(answer.error_code(), "sidecar.bad_request");
    // The keys in the body decide which caller gets a token, not the caller that sends them.
    let answer = exchange(&harness, &known, &keys(OFFICE_PUBLIC, OFFICE_PRIVATE)).await;
    let token = answer.json()["token"].as_str().expect("a token").to_owned();
    let webhooks = harness.get_with("/v2/webhooks", &[("authorization", &format!("Bearer {token}"))]).await;
    assert_eq!(webhooks.status, 200, "which the first one may not read");
    assert_eq!(status_with(&harness, "placeholder-the-sidecar-adds-the-real-token").await, 401);
    harness.stop().await;
}

#[tokio::test]
async fn a_shop_is_asked_about_with_the_merchants_keys() {
    let folder = Folder::new();
    let harness = setup(&folder).start().await;
    let body = json!({
        "public_key": OFFICE_PUBLIC, "private_key": OFFICE_PRIVATE, "cancel_url": "https://shop.example/cart",
    })
    .to_string();
    let platform = [("sezzle-platform", "eyJpZCI6Ik0ifQ==")];
    let answer = exchange(&harness, &platform, &body).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    let token = answer.json()["token"].as_str().expect("a token").to_owned();
    assert_eq!(status_with(&harness, &token).await, 200);
    let exchanges: Vec<_> = harness.gateway.journal().into_iter().filter(|call| call.path == EXCHANGE).collect();
    let (sent, options) = (String::from_utf8_lossy(&exchanges[1].body).into_owned(), Options::default());
    assert!(sent.contains(&options.private_key) && sent.contains("https://shop.example/cart"), "{sent}");
    assert!(!sent.contains(OFFICE_PRIVATE) && !sent.contains(OFFICE_PUBLIC), "{sent}");

    let refusal = "[{\"code\":\"unauthed_checkout_url\",\"message\":\"https://checkout.example/\",\"location\":\"\"}]";
    harness.gateway.script(Rule::path(EXCHANGE).status(StatusCode::FORBIDDEN).body(refusal));
    let answer = exchange(&harness, &[], &body.replace("cart", "other")).await;
    assert_eq!((answer.status, answer.text().as_str()), (403, refusal), "Sezzle's refusal is passed on");
    let answer = exchange(&harness, &[], &body.replace("cart", "third").replace(OFFICE_PRIVATE, "wrong")).await;
    assert_eq!(answer.error_code(), "sidecar.unknown_caller");
    assert_eq!(harness.gateway.count("POST", EXCHANGE), 3, "Sezzle is asked for no stranger");
    harness.stop().await;
}

#[tokio::test]
async fn a_token_counts_at_every_sidecar_with_the_same_files() {
    let folder = Folder::new();
    let (here, there) = (setup(&folder).start().await, setup(&folder).start().await);
    let answer = exchange(&here, &[], &keys(OFFICE_PUBLIC, OFFICE_PRIVATE)).await;
    let token = answer.json()["token"].as_str().expect("a token").to_owned();
    assert_eq!(status_with(&there, &token).await, 200);
    let other = Folder::new();
    let stranger = setup(&other);
    other.write("office", "another-private-0123456789");
    let stranger = stranger.start().await;
    assert_eq!(status_with(&stranger, &token).await, 401, "with another private key");
    for index in [0, 3, 9, 20, token.len() - 1] {
        let mut forged = token.clone();
        let other = if forged.as_bytes()[index] == b'A' { "B" } else { "A" };
        forged.replace_range(index..=index, other);
        assert_eq!(status_with(&here, &forged).await, 401, "forged at {index}");
        assert_eq!(status_with(&here, &token[..index]).await, 401, "cut at {index}");
    }
    assert_eq!(status_with(&here, &format!("{token}{}", "A".repeat(5000))).await, 401);
    for harness in [here, there, stranger] {
        harness.stop().await;
    }
}

#[tokio::test]
async fn no_key_and_no_token_of_a_caller_is_logged_or_shown() {
    let scene = Scene::with(CALLERS, &[("LOG__LEVEL", "trace"), ("CONTROL__LISTEN", "127.0.0.1:0")]).await;
    let answer = scene.exchange(OFFICE_PUBLIC, OFFICE_PRIVATE).await;
    let token = answer.json()["token"].as_str().expect("a token").to_owned();
    assert_eq!(scene.get("/v2/customer", &token).await.status, 200);
    assert_eq!(scene.exchange(OFFICE_PUBLIC, "wrong-private-key").await.status, 401);
    let shown = scene.sidecar.client.get(scene.sidecar.ops, "/status.json").await.text()
        + &scene.sidecar.client.get(scene.sidecar.ops, "/").await.text()
        + &scene.sidecar.client.get(scene.sidecar.ops, "/metrics").await.text();
    let ended = scene.sidecar.stop().await;
    let log = format!("{}{}{shown}", ended.stdout, ended.stderr);
    for secret in [TILL, OFFICE_PRIVATE, token.as_str(), "wrong-private-key"] {
        assert!(!log.contains(secret), "{secret}");
    }
    let exchanges: Vec<_> =
        lines(&ended.stdout).into_iter().filter(|line| line["route"] == EXCHANGE && line["code"].is_u64()).collect();
    assert_eq!((&exchanges[0]["caller"], &exchanges[1]["caller"]), (&json!("office"), &json!(null)), "{exchanges:?}");
}

#[tokio::test]
async fn a_caller_that_shows_a_public_key_asks_for_fewer_rights_and_gets_no_more() {
    let folder = Folder::new();
    let own = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(folder.path()).expect("a folder"));
    secrets(&folder);
    let socket = folder.path().join("proxy.sock");
    let caller = format!(
        "[[callers]]\nname = \"app\"\nuid = {own}\npublic_key = \"app-public\"\nprivate_key_file = \"@/office\"\n\
         allow = [\"checkout\", \"session.read\"]\n"
    );
    let file = folder.write("callers.toml", &at(&folder, &caller));
    let listen = format!("127.0.0.1:0,unix:{}", socket.display());
    let harness = Setup::default().file(file).set("PROXY__LISTEN", listen).start().await;
    harness.gateway.script(Rule::path("/v2/*").status(StatusCode::OK).body("{}"));
    let ours = format!("Basic {}", BASE64_STANDARD.encode(Options::default().public_key));
    for (key, sent) in [
        (Options::default().public_key, Some(ours.as_str())),
        ("app-public".to_owned(), Some(&ours)),
        ("app-public:".to_owned(), Some(&ours)),
        ("sz_pub_another".to_owned(), None),
    ] {
        let authorization = format!("Basic {}", BASE64_STANDARD.encode(&key));
        let before = harness.gateway.journal().len();
        let request = |method: &str, path: &str| {
            format!(
                "{method} {path} HTTP/1.1\r\nhost: unix\r\nauthorization: {authorization}\r\ncontent-length: 0\r\n\r\n"
            )
        };
        let mut wire = crate::support::wire::Wire::unix(&socket).await;
        wire.send(request("POST", "/v2/session")).await;
        let answer = wire.answer().await;
        match sent {
            Some(sent) => {
                assert_eq!(answer.status, 200, "{key}");
                let call = harness.gateway.journal().pop().expect("a call");
                assert_eq!(call.headers["authorization"], sent, "{key}: Sezzle knows ours alone");
            }
            None => {
                assert_eq!(answer.error_code(), "sidecar.foreign_keys", "{key}");
                assert_eq!(harness.gateway.journal().len(), before);
            }
        }
        wire.send(request("POST", "/v2/order/o/capture")).await;
        assert_eq!(wire.answer().await.error_code(), "sidecar.not_allowed", "{key}");
    }
    harness.stop().await;
}
