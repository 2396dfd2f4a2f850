//! The status page of a running sidecar reports the conditions that alerts fire for.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::Value;
use sezzle_sidecar::simulator::{Options, Rule};

use crate::support::process::{Folder, Sidecar, run};
use crate::support::service::{Conduct, Service, signature};
use crate::support::wire::Wire;
use crate::support::{Harness, Session, Setup, eventually};

async fn status(harness: &Harness) -> Value {
    harness.client.get(harness.ops, "/status.json").await.json()
}

async fn conditions(harness: &Harness) -> Vec<String> {
    let status = status(harness).await;
    let conditions = status["conditions"].as_array().expect("a list").iter();
    conditions.map(|one| one["condition"].as_str().expect("a word").to_owned()).collect()
}

async fn reports(harness: &Harness, condition: &str) {
    eventually(condition, async || conditions(harness).await.iter().any(|one| one == condition)).await;
}

#[tokio::test]
async fn a_sidecar_that_is_well_reports_nothing() {
    let harness = Harness::start().await;
    let lookup = Session::order(&harness.gateway).path;
    harness.get(&lookup).await;
    harness.get(&lookup).await;
    assert_eq!(conditions(&harness).await, [""; 0]);
    assert_eq!(status(&harness).await["level"], "well");
    harness.stop().await;
}

#[tokio::test]
async fn before_the_first_token_the_page_says_what_readyz_says() {
    let unresolved = [("GATEWAY__URL", "https://gateway.invalid")];
    let sidecar = Sidecar::start_unready(Options::default(), &unresolved).await;
    let readyz = async || sidecar.client.get(sidecar.ops, "/readyz").await.text();
    eventually("the cause", async || readyz().await.contains("the name gateway.invalid was not resolved")).await;
    let readyz = readyz().await;
    let why = readyz.strip_prefix("not ready: ").expect("a reason").trim_end();
    let status = sidecar.client.get(sidecar.ops, "/status.json").await.json();
    assert_eq!(status["conditions"][0]["text"], format!("Not ready: {why}."));
    assert_eq!(status["token"]["failure"], why);
    let text = run(&["status"], &[("OPS__LISTEN", &sidecar.ops.to_string())]).await.stdout;
    assert!(text.contains(" not known before the first token\n"), "{text}");
    sidecar.stop().await;
}

/// Most failures are statuses of Sezzle's, which are no errors of the connection.
#[tokio::test]
async fn answers_5xx_are_named_as_what_fails_most() {
    let harness = Harness::start().await;
    harness.gateway.script(Rule::path("/v2/customer").status(StatusCode::SERVICE_UNAVAILABLE));
    assert_eq!(harness.get("/v2/customer").await.status, 503);
    reports(&harness, "sezzle_failing").await;
    let page = harness.client.get(harness.ops, "/").await.text();
    assert!(page.contains("calls of the last") && page.contains("failed, most often: 5xx."), "{page}");
    // The page cannot tell which of the two fires.
    assert!(page.contains("<small>SezzleSidecarSezzleUnreachable</small> <small>SezzleSidecarSezzleFailing"), "{page}");
    harness.stop().await;
}

#[tokio::test]
async fn callers_that_get_401_and_a_wrong_clock_are_reported() {
    let harness = Setup::default().gateway(|gateway| gateway.clock_skew = 300).start().await;
    reports(&harness, "clock_skew").await;
    harness.gateway.script(Rule::path("/v2/customer").status(StatusCode::UNAUTHORIZED));
    assert_eq!(harness.get("/v2/customer").await.status, 401);
    reports(&harness, "callers_unauthorized").await;
    let status = status(&harness).await;
    assert_eq!((status["level"].as_str(), status["hour"]["unauthorized"].as_u64()), (Some("notice"), Some(1)));
    // An hour later only the clock is still wrong.
    harness.clock.advance(Duration::from_secs(3600));
    let later = conditions(&harness).await;
    assert!(!later.iter().any(|one| one == "callers_unauthorized"), "{later:?}");
    harness.stop().await;
}

#[tokio::test]
async fn webhooks_unsigned_or_not_taken_by_the_service_are_reported() {
    let service = Service::start(Conduct::Answer(500)).await;
    let harness = Setup::default()
        .set("WEBHOOKS__LISTEN", "127.0.0.1:0")
        .set("WEBHOOKS__FORWARD_TO", format!("http://{}/hooks", service.address))
        .start()
        .await;
    let post = async |signature: &str, body: &str| {
        let headers = [("sezzle-signature", signature)];
        harness.client.send(harness.webhooks(), Method::POST, "/webhooks/sezzle", &headers, body).await.status
    };
    let body = r#"{"uuid":"1","event":"order.captured","data":{}}"#;
    assert_eq!(status(&harness).await["webhooks"]["last"], Value::Null);
    assert_eq!(post(&signature(&Options::default().private_key, body), body).await, 502);
    reports(&harness, "webhooks_not_forwarded").await;
    assert!(status(&harness).await["webhooks"]["last"].is_string());
    assert!(!conditions(&harness).await.contains(&"webhooks_unsigned".to_owned()));
    for _ in 0..3 {
        assert_eq!(post(&signature("sz_pr_other", body), body).await, 401);
    }
    reports(&harness, "webhooks_unsigned").await;
    harness.stop().await;
}

#[tokio::test]
async fn a_rejected_new_pair_is_reported_until_the_files_hold_the_old_one_again() {
    let folder = Folder::new();
    let write = |name: &str| {
        for (file, key) in [("public", format!("sz_pub_{name}")), ("private", format!("sz_pr_{name}"))] {
            let path = folder.path().join(file);
            fs::write(&path, key).expect("writable");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("settable");
        }
    };
    write("a");
    let harness = Setup::default()
        .set("CREDENTIALS__PUBLIC_KEY", "")
        .set("CREDENTIALS__PRIVATE_KEY", "")
        .set("CREDENTIALS__PUBLIC_KEY_FILE", folder.path().join("public").display())
        .set("CREDENTIALS__PRIVATE_KEY_FILE", folder.path().join("private").display())
        .gateway(|gateway| (gateway.public_key, gateway.private_key) = ("sz_pub_a".to_owned(), "sz_pr_a".to_owned()))
        .start()
        .await;
    let until = async |condition: bool| {
        eventually("the keys", async || {
            harness.clock.advance(Duration::from_secs(5));
            conditions(&harness).await.contains(&"keys_not_used".to_owned()) == condition
        })
        .await;
    };
    write("b");
    until(true).await;
    assert_eq!(status(&harness).await["token"]["unused_keys"], "rejected");
    write("a");
    until(false).await;
    assert_eq!(status(&harness).await["token"]["unused_keys"], Value::Null);
    harness.stop().await;
}

#[tokio::test]
async fn an_almost_full_listener_is_reported() {
    let harness = Setup::default().set("LIMITS__CONNECTIONS", "10").start().await;
    assert_eq!(conditions(&harness).await, [""; 0]);
    let mut wires = Vec::new();
    for _ in 0..9 {
        let mut wire = Wire::connect(harness.proxy).await;
        wire.send("GET /v2/customer HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
        assert_eq!(wire.answer().await.status, 200);
        wires.push(wire);
    }
    reports(&harness, "connections_near_limit").await;
    drop(wires);
    eventually("free", async || conditions(&harness).await.is_empty()).await;
    harness.stop().await;
}
