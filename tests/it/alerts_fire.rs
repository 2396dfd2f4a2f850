//! Prometheus itself: its tools accept the metrics and the rules, every query of the dashboard has an answer, and the
//! alerts fire when their trouble happens.

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::json;
use sezzle_sidecar::simulator::{Options, Reset, Rule};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::support::process::{Sidecar, free_address};
use crate::support::prometheus::Prometheus;
use crate::support::redis::Redis;
use crate::support::service::{Conduct, Service};
use crate::support::{Session, dashboard, eventually, promql, rules};

const CAPTURE: &str = r#"{"capture_amount":{"amount_in_cents":100,"currency":"USD"},"partial_capture":true}"#;
const EVENT: &str = "order.captured";

#[test]
#[ignore = "needs Prometheus: tests/run"]
fn the_rules_are_valid_and_their_tests_pass() {
    let output = Command::new(rules::folder().join("check")).output().expect("runs");
    assert!(output.status.success(), "{output:?}");
}

#[tokio::test]
#[ignore = "needs Prometheus and redis-server: tests/run"]
async fn every_query_has_an_answer_and_alerts_fire_when_they_should() {
    let began = Instant::now();
    let service = Service::start(Conduct::Answer(200)).await;
    let webhooks = free_address().to_string();
    let options = Options {
        // Below the ten minutes of the alert's expression, and short enough to end while this test waits.
        token_life: Duration::from_secs(20),
        webhook_retries: vec![Duration::from_millis(50); 3],
        ..Options::default()
    };
    let forward_to = format!("http://{}/", service.address);
    let mut redis = Redis::start().await;
    let fleet = format!("redis://{}", redis.address);
    let variables =
        [("WEBHOOKS__LISTEN", webhooks.as_str()), ("WEBHOOKS__FORWARD_TO", &forward_to), ("FLEET__URL", &fleet)];
    let sidecar = Arc::new(Sidecar::start(options, &variables).await);
    let prometheus = Prometheus::start(sidecar.ops).await;
    let subscription = json!({"url": format!("http://{webhooks}/webhooks/sezzle"), "events": [EVENT]}).to_string();
    assert_eq!(write(&sidecar, "/v2/webhooks", &subscription).await, 200);
    let traffic = traffic(Arc::clone(&sidecar));

    // All goes well.
    for (panel, query) in dashboard::queries(&dashboard::load()) {
        let query = query.replace("$__rate_interval", "10s").replace("$__range", "1m");
        prometheus.answers(&panel, &query.replace("$job", ".+").replace("$instance", ".+")).await;
    }
    for rule in rules::all() {
        if rule.kind == "record" {
            prometheus.answers("the rule", &rule.name).await;
        }
        // An alert has an answer only when it fires, but its series exist all the same.
        for selector in promql::read(&rule.expression).0 {
            let status = selector.matchers.iter().any(|(label, _, _)| label == "code");
            // A status that Sezzle never sent has no series.
            if !status {
                prometheus.answers(&rule.name, &selector.text()).await;
            }
        }
    }
    lint(&sidecar.client.get(sidecar.ops, "/metrics").await.text());
    let fired = prometheus.fired().await;
    // On a busy machine a scrape or a poll may not be answered in time.
    let late = |alert: &String| alert == "SezzleSidecarDown" || alert.starts_with("SezzleSidecarFleet");
    assert!(fired.iter().all(late), "{fired:?}");

    // Sezzle makes a capture, and its answer never arrives. Sezzle refuses another capture after such an attempt.
    let gateway = &sidecar.gateway;
    let (lost, doubted) = (authorized(&sidecar), authorized(&sidecar));
    let capture = async |of: &Session| write(&sidecar, &format!("{}/capture", of.order_path), CAPTURE).await;
    let of = |session: &Session| Rule::on(Method::POST, &format!("{}/*", session.order_path));
    gateway.script(of(&lost).reset(Reset::AfterEffect));
    assert_eq!(capture(&lost).await, 504);
    gateway.script(of(&doubted).status(StatusCode::CONFLICT));
    gateway.script(of(&doubted).reset(Reset::AfterEffect).times(1));
    assert_eq!(capture(&doubted).await, 409);
    fires(&prometheus, &["SezzleSidecarOutcomeUnknown", "SezzleSidecarWriteInDoubt"]).await;
    let alert = prometheus.alerts().await.into_iter().find(|alert| alert["labels"]["severity"] == "critical");
    assert_eq!(
        alert.expect("it fires still")["annotations"]["summary"],
        "The outcome of /v2/order/{order}/capture is not known."
    );

    // The fleet's server is gone, and nobody hears of the next writes.
    redis.kill().await;
    fires(&prometheus, &["SezzleSidecarFleetUnsynced", "SezzleSidecarFleetUnpublished"]).await;
    fires(&prometheus, &["SezzleSidecarFleetUnconfirmed"]).await;

    // The merchant changes the keys at Sezzle only: the sidecar gets no new token, and webhooks have another signature.
    gateway.set_keys("sz_pub_next", "sz_pr_next");
    gateway.revoke_tokens();
    for _ in 0..10 {
        gateway.raise_event(EVENT, &json!({"uuid": lost.order}));
    }
    fires(&prometheus, &["SezzleSidecarTokenExpiring", "SezzleSidecarUnauthorized", "SezzleSidecarNoToken"]).await;
    fires(&prometheus, &["SezzleSidecarWebhookBadSignature"]).await;

    // Finally the process is gone.
    traffic.abort();
    assert!(traffic.await.expect_err("cut off").is_cancelled(), "the traffic went on until now");
    sidecar.process.signal("KILL");
    fires(&prometheus, &["SezzleSidecarDown"]).await;
    assert!(!prometheus.log().contains("level=error"), "{}", prometheus.log());
    assert!(began.elapsed() < Duration::from_secs(120), "{:?}", began.elapsed());
}

/// Waits until these alerts have fired.
async fn fires(prometheus: &Prometheus, alerts: &[&str]) {
    for alert in alerts {
        eventually(alert, async || prometheus.fired().await.iter().any(|fired| fired == alert)).await;
    }
}

async fn write(sidecar: &Sidecar, path: &str, body: &str) -> u16 {
    sidecar.send(Method::POST, path, &[("content-type", "application/json")], body).await.status
}

/// An order that can be captured.
fn authorized(sidecar: &Sidecar) -> Session {
    Session::order(&sidecar.gateway).authorized(&sidecar.gateway)
}

/// The usual traffic of services, but faster.
fn traffic(sidecar: Arc<Sidecar>) -> JoinHandle<()> {
    tokio::spawn(async move {
        loop {
            let session = Session::order(&sidecar.gateway).path;
            for _ in 0..3 {
                sidecar.get(&session).await;
            }
            write(&sidecar, &format!("{}/capture", authorized(&sidecar).order_path), CAPTURE).await;
            sidecar.get("/v2/customer").await;
            // Pauses now and then, to leave the machine time for other work.
            sleep(Duration::from_millis(50)).await;
        }
    })
}

/// Fails if promtool complains about the metrics.
fn lint(metrics: &str) {
    let mut promtool = Command::new("promtool");
    promtool.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = promtool.spawn().expect("promtool");
    child.stdin.take().expect("piped").write_all(metrics.as_bytes()).expect("read");
    let output = child.wait_with_output().expect("ends");
    assert!(output.status.success() && output.stdout.is_empty() && output.stderr.is_empty(), "{output:?}");
}
