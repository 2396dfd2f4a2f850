//! Callers change while the sidecar runs: their secrets by their files, everything else by a reload.

use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::json;
use sezzle_sidecar::simulator::{Gate, Rule};

use super::{CALLERS, OFFICE_PRIVATE, OFFICE_PUBLIC, READER, Scene, TILL, at, setup};
use crate::support::process::Folder;
use crate::support::{Harness, arrived, eventually};

const NEW: &str = "new-token-0123456789abcdef";

async fn status(harness: &Harness, path: &str, token: &str) -> u16 {
    harness.get_with(path, &[("authorization", &format!("Bearer {token}"))]).await.status
}

async fn token(harness: &Harness, private: &str) -> Option<String> {
    let body = json!({ "public_key": OFFICE_PUBLIC, "private_key": private }).to_string();
    let answer = harness.send(Method::POST, "/v2/authentication", &[], &body).await;
    (answer.status == 201).then(|| answer.json()["token"].as_str().expect("a token").to_owned())
}

/// Moves the clock by the time after which files are read, until the sidecar has used what they hold.
async fn is_used(harness: &Harness, changes: f64) {
    eventually("the change is used", async || {
        harness.clock.advance(Duration::from_secs(6));
        harness.metric("caller_secret_reloads_total{result=\"success\"}").await == changes
    })
    .await;
}

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_token_changes_without_a_refused_call() {
    let folder = Folder::new();
    let harness = setup(&folder).start().await;
    assert_eq!(
        (status(&harness, "/v2/customer", READER).await, status(&harness, "/v2/customer", NEW).await),
        (200, 401)
    );
    folder.write("reader", NEW);
    is_used(&harness, 1.0).await;
    for token in [READER, NEW] {
        assert_eq!(status(&harness, "/v2/customer", token).await, 200, "{token}");
    }
    harness.clock.advance(50 * MINUTE);
    assert_eq!(status(&harness, "/v2/customer", READER).await, 200);
    harness.clock.advance(15 * MINUTE);
    assert_eq!(
        (status(&harness, "/v2/customer", READER).await, status(&harness, "/v2/customer", NEW).await),
        (401, 200)
    );
    harness.stop().await;
}

#[tokio::test]
async fn keys_change_without_a_refused_call() {
    let folder = Folder::new();
    let harness = setup(&folder).start().await;
    let before = token(&harness, OFFICE_PRIVATE).await.expect("a token");
    folder.write("office", "new-private-0123456789abcdef");
    is_used(&harness, 1.0).await;
    let (old, new) = (token(&harness, OFFICE_PRIVATE).await, token(&harness, "new-private-0123456789abcdef").await);
    let (old, new) = (old.expect("the old keys count for an hour"), new.expect("so do the new ones"));
    for token in [&before, &old, &new] {
        assert_eq!(status(&harness, "/v2/customer", token).await, 200);
    }
    harness.clock.advance(65 * MINUTE);
    assert!(token(&harness, OFFICE_PRIVATE).await.is_none(), "after an hour they do not");
    assert_eq!(status(&harness, "/v2/customer", &before).await, 200, "a token lives as long as it said");
    harness.clock.advance(50 * MINUTE);
    for token in [&before, &old, &new] {
        assert_eq!(status(&harness, "/v2/customer", token).await, 401);
    }
    harness.stop().await;
}

#[tokio::test]
async fn an_unusable_secret_leaves_the_old_one_in_use() {
    let folder = Folder::new();
    let harness = setup(&folder).start().await;
    let unusable = "caller_secret_reloads_total{result=\"unusable\"}";
    for (number, content) in ["", "two words", TILL].into_iter().enumerate() {
        folder.write("reader", content);
        eventually("the mistake is counted", async || {
            harness.clock.advance(Duration::from_secs(6));
            harness.metric(unusable).await == (number + 1) as f64
        })
        .await;
        for _ in 0..3 {
            harness.clock.advance(Duration::from_secs(6));
            assert_eq!(status(&harness, "/v2/customer", READER).await, 200, "{content:?}");
            assert_eq!(status(&harness, "/v2/session/x", TILL).await, 400, "the other keeps its own");
            assert_eq!(harness.metric("caller_secrets_unusable").await, 1.0, "{content:?}");
            let page = harness.client.get(harness.ops, "/status.json").await.text();
            assert!(page.contains("caller_secrets_not_used"), "{content:?}: {page}");
        }
    }
    let none_is_unusable = async || {
        eventually("the secrets in use", async || {
            harness.clock.advance(Duration::from_secs(6));
            harness.metric("caller_secrets_unusable").await == 0.0
        })
        .await;
    };
    folder.write("reader", READER);
    none_is_unusable().await;
    folder.write("reader", "");
    eventually("the mistake", async || {
        harness.clock.advance(Duration::from_secs(6));
        harness.metric("caller_secrets_unusable").await == 1.0
    })
    .await;
    folder.write("reader", NEW);
    is_used(&harness, 1.0).await;
    none_is_unusable().await;
    assert_eq!(status(&harness, "/v2/customer", NEW).await, 200);
    harness.stop().await;
}

/// A service that has not got its new token yet would become the other caller.
#[tokio::test]
async fn an_old_token_becomes_no_other_callers_while_it_counts() {
    let folder = Folder::new();
    let harness = setup(&folder).start().await;
    folder.write("reader", NEW);
    is_used(&harness, 1.0).await;
    folder.write("till", READER);
    eventually("the mistake is counted", async || {
        harness.clock.advance(Duration::from_secs(6));
        harness.metric("caller_secret_reloads_total{result=\"unusable\"}").await == 1.0
    })
    .await;
    assert_eq!(status(&harness, "/v2/customer", READER).await, 200, "the old token is still the reader's");
    assert_eq!(status(&harness, "/v2/session/x", READER).await, 403, "and not the till's");
    assert_eq!(status(&harness, "/v2/session/x", TILL).await, 400, "which keeps its own");
    harness.clock.advance(61 * MINUTE);
    is_used(&harness, 2.0).await;
    assert_eq!(status(&harness, "/v2/session/x", READER).await, 400, "when it counts no more, it may be the till's");
    assert_eq!(harness.metric("caller_secrets_unusable").await, 0.0);
    harness.stop().await;
}

#[tokio::test]
async fn a_secret_that_changes_hands_is_refused_by_a_line_that_names_both_callers() {
    let mut scene = Scene::start().await;
    let refusal = r#""till\" has a secret that \"reader\" had before and that still counts for \"reader\""#;
    scene.folder.write("till", READER);
    scene.folder.write("reader", NEW);
    scene.reload(CALLERS, "failed").await;
    scene.sidecar.process.says(refusal).await;
    assert_eq!(scene.get("/v2/customer", READER).await.status, 200);
    let unusable = "caller_secret_reloads_total{result=\"unusable\"}";
    eventually("the files are found unusable too", async || scene.sidecar.metric(unusable).await > 0.0).await;
    assert_eq!(scene.get("/v2/customer", READER).await.status, 200);
    let ended = scene.sidecar.stop().await;
    let lines: Vec<&str> = ended.stdout.lines().filter(|line| line.contains(refusal)).collect();
    assert!(lines.iter().any(|line| line.contains("the changed secret of a caller is not used")), "{lines:?}");
    assert!(lines.iter().any(|line| line.contains("configuration not reloaded")), "{lines:?}");
}

#[tokio::test]
async fn a_reload_puts_all_callers_in_force_at_once_or_none() {
    let mut scene = Scene::start().await;
    let customer = "/v2/customer";
    assert_eq!([scene.get(customer, TILL).await.status, scene.get(customer, READER).await.status], [403, 200]);
    // A call under way ends under the callers with which it began.
    let gate = Gate::new();
    scene.sidecar.gateway.script(Rule::path(customer).gate(&gate).times(1));
    let authorization = format!("Bearer {READER}");
    let (client, proxy) = (crate::support::client::Client::new(), scene.sidecar.proxy);
    let under_way = tokio::spawn(async move {
        client.send(proxy, Method::GET, customer, &[("authorization", &authorization)], "").await.status
    });
    arrived(&gate, 1).await;
    let till = "[[callers]]\nname = \"till\"\ntoken_file = \"@/till\"\nallow = [\"customer.read\"]\n";
    scene.reload(till, "success").await;
    assert_eq!([scene.get(customer, TILL).await.status, scene.get(customer, READER).await.status], [200, 401]);
    gate.release();
    assert_eq!(under_way.await.expect("no panic"), 200);

    let reader = "[[callers]]\nname = \"reader\"\ntoken_file = \"@/reader\"\nallow = [\"customer.read\"]\n";
    for wrong in [
        till.replace("customer.read", "customer.reed"),
        till.replace("@/till", "@/absent"),
        format!("{reader}{}", reader.replace("\"reader\"", "\"other\"")),
        format!("{reader}[[callers]]\nname = \"other\"\nallow = [\"all\"]\n"),
    ] {
        scene.reload(&wrong, "failed").await;
        assert_eq!([scene.get(customer, TILL).await.status, scene.get(customer, READER).await.status], [200, 401]);
    }
    scene.reload("", "success").await;
    assert_eq!(scene.sidecar.get(customer).await.status, 200, "no caller is configured any more");
    scene.reload(reader, "success").await;
    assert_eq!([scene.get(customer, TILL).await.status, scene.get(customer, READER).await.status], [401, 200]);
    let metrics = scene.sidecar.client.get(scene.sidecar.ops, "/metrics").await.text();
    assert!(
        !metrics.contains("caller=\"till\"") && metrics.contains("caller=\"reader\""),
        "series of callers that are gone"
    );
    // A new secret by a reload: the old one counts on.
    scene.folder.write("reader", NEW);
    scene.reload(reader, "success").await;
    assert_eq!([scene.get(customer, NEW).await.status, scene.get(customer, READER).await.status], [200, 200]);
    // To take a secret back at once, the caller goes and comes back.
    scene.reload(till, "success").await;
    scene.reload(reader, "success").await;
    assert_eq!([scene.get(customer, NEW).await.status, scene.get(customer, READER).await.status], [200, 401]);
    scene.sidecar.stop().await;
}

#[tokio::test]
async fn no_call_is_refused_while_secrets_change() {
    let scene = Scene::start().await;
    scene.sidecar.gateway.script(Rule::path("/v2/customer").status(StatusCode::OK).body("{}"));
    let used = async || scene.sidecar.metric("caller_secret_reloads_total{result=\"success\"}").await;
    scene.folder.write("reader", NEW);
    eventually("the new token is used", async || {
        assert_eq!(scene.get("/v2/customer", READER).await.status, 200);
        used().await == 1.0
    })
    .await;
    assert_eq!(scene.get("/v2/customer", NEW).await.status, 200);
    let ended = scene.sidecar.stop().await;
    assert!(ended.stdout.contains("the secret of a caller has changed"), "{}", ended.stdout);
    assert!(!ended.stdout.contains(NEW));
}

impl Scene {
    /// Changes the configuration, signals the process, and waits until the reload is counted.
    async fn reload(&mut self, configuration: &str, result: &str) {
        self.folder.write("sidecar.toml", &at(&self.folder, configuration));
        let series = format!("config_reloads_total{{result=\"{result}\"}}");
        let before = self.sidecar.metric(&series).await;
        self.sidecar.process.signal("HUP");
        eventually(result, async || self.sidecar.metric(&series).await > before).await;
    }
}
