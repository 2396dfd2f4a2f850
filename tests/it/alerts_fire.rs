//! Prometheus itself: its tools accept the metrics and the rules, every query of the dashboard has an answer, and the
//! alerts fire when their trouble happens.

use std::convert::Infallible;
use std::io::Write;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use http::{Method, Response, StatusCode};
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::json;
use sezzle_sidecar::simulator::{Options, Reset, Rule, Simulator};
use sezzle_sidecar::status::verdict::condition::Condition;
use sezzle_sidecar::supervisor::Supervisor;
use sezzle_sidecar::telemetry::metrics::Metrics;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tokio_util::task::TaskTracker;

use crate::support::process::{Folder, Process, Sidecar, free_address};
use crate::support::prometheus::Prometheus;
use crate::support::redis::Redis;
use crate::support::service::{Conduct, Service};
use crate::support::{Session, dashboard, eventually, promql, rules};

const CAPTURE: &str = r#"{"capture_amount":{"amount_in_cents":100,"currency":"USD"},"partial_capture":true}"#;
const EVENT: &str = "order.captured";

/// Series of callers and of HTTPS, which this sidecar has none of: its callers have neither a token nor TLS.
const NOT_CONFIGURED: [&str; 2] = ["sezzle_sidecar_caller_", "sezzle_sidecar_tls_"];

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
    let folder = Folder::new();
    let audit = folder.path().join("audit.log").display().to_string();
    let variables = [
        ("WEBHOOKS__LISTEN", webhooks.as_str()),
        ("WEBHOOKS__FORWARD_TO", &forward_to),
        ("FLEET__URL", &fleet),
        ("AUDIT__FILE", &audit),
        ("WEBHOOKS__PUBLIC_URL", &forward_to),
        ("WEBHOOKS__SUBSCRIPTION", "watch"),
    ];
    let sidecar = Arc::new(Sidecar::start(options, &variables).await);
    let prometheus = Prometheus::start(sidecar.ops).await;
    let subscription = json!({"url": format!("http://{webhooks}/webhooks/sezzle"), "events": [EVENT]}).to_string();
    assert_eq!(write(&sidecar, "/v2/webhooks", &subscription).await, 200);
    let traffic = traffic(Arc::clone(&sidecar));

    // All goes well.
    let queries = dashboard::queries(&dashboard::load()).into_iter();
    for (panel, query) in queries.filter(|(_, query)| NOT_CONFIGURED.iter().all(|part| !query.contains(part))) {
        let query = query.replace("$__rate_interval", "10s").replace("$__range", "1m").replace("$namespace", ".*");
        prometheus.answers(&panel, &query.replace("$job", ".+").replace("$instance", ".+")).await;
    }
    for rule in rules::all() {
        if rule.kind == "record" {
            prometheus.answers("the rule", &rule.name).await;
        }
        // An alert has an answer only when it fires, but its series exist all the same.
        for selector in promql::read(&rule.expression).0 {
            let status = selector.matchers.iter().any(|(label, _, _)| label == "code");
            let text = selector.text();
            // A status that Sezzle never sent has no series.
            if !status && NOT_CONFIGURED.iter().all(|part| !text.contains(part)) {
                prometheus.answers(&rule.name, &text).await;
            }
        }
    }
    lint(&sidecar.client.get(sidecar.ops, "/metrics").await.text());
    let mut fired = prometheus.fired().await;
    // The same holds for a poll of the fleet.
    fired.retain(|alert| !is_late_scrape(alert) && !alert.starts_with("SezzleSidecarFleet"));
    // The subscription has another URL.
    fired.retain(|alert| alert != "SezzleSidecarWebhookUnsubscribed");
    assert_eq!(fired, [""; 0]);

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

    // The status page says why. The other conditions are over, or not old enough for the page.
    let lasting = ["OutcomeUnknown", "WriteInDoubt", "FleetUnsynced", "Unauthorized", "NoToken", "WebhookBadSignature"];
    reports(&sidecar, &lasting.map(|alert| format!("SezzleSidecar{alert}"))).await;

    // Finally the process is gone.
    traffic.abort();
    assert!(traffic.await.expect_err("cut off").is_cancelled(), "the traffic went on until now");
    sidecar.process.signal("KILL");
    fires(&prometheus, &["SezzleSidecarDown"]).await;
    assert!(!prometheus.log().contains("level=error"), "{}", prometheus.log());
    assert!(began.elapsed() < Duration::from_secs(120), "{:?}", began.elapsed());
}

/// As one pod of two that a network policy cuts off: the other one's many calls hide nothing.
#[tokio::test]
#[ignore = "needs Prometheus: tests/run"]
async fn one_sidecar_of_two_that_is_cut_off_is_named_by_critical_alerts() {
    let [well, cut_off] =
        [Sidecar::start(Options::default(), &[]).await, Sidecar::start(Options::default(), &[]).await].map(Arc::new);
    let windows = [("[5m]", "[10s]"), ("[3m]", "[10s]")];
    let prometheus = Prometheus::scraping(&[well.ops, cut_off.ops], &windows).await;
    let of_both = [traffic(Arc::clone(&well)), traffic(Arc::clone(&well)), traffic(Arc::clone(&cut_off))];
    for sidecar in [&well, &cut_off] {
        let attempts = format!("instance:sezzle_sidecar_attempts:rate5m{{instance=\"{}\"}} > 0", sidecar.ops);
        prometheus.answers("the sidecar", &attempts).await;
    }
    let mut fired = prometheus.fired().await;
    fired.retain(|alert| !is_late_scrape(alert));
    assert_eq!(fired, [""; 0]);

    cut_off.gateway.clone().stop().await;
    let alerts = ["MoneyNotSent", "SezzleUnreachable", "LookupsFailing", "SezzleFailing"];
    let alerts = alerts.map(|alert| format!("SezzleSidecar{alert}"));
    fires(&prometheus, &alerts.each_ref().map(String::as_str)).await;
    let alert = prometheus.alerts().await.into_iter().find(|alert| alert["labels"]["alertname"] == *alerts[0]);
    let alert = alert.expect("it fires still");
    let labels = &alert["labels"];
    assert_eq!(
        *labels,
        json!({"alertname": alerts[0], "severity": "critical", "job": "sezzle-sidecar", "instance": cut_off.ops})
    );
    for alert in prometheus.fired().await {
        if is_late_scrape(&alert) {
            continue;
        }
        assert_eq!(prometheus.fired_for(&alert).await, [cut_off.ops.to_string()], "{alert}");
    }
    of_both.iter().for_each(JoinHandle::abort);
}

/// Trouble that no error tells of.
#[tokio::test]
#[ignore = "needs Prometheus: tests/run"]
async fn slow_answers_refused_reloads_stopped_webhooks_and_panics_fire_their_alerts() {
    let (folder, webhooks) = (Folder::new(), free_address().to_string());
    let file = folder.write("sidecar.toml", "");
    let arguments = ["run", "--config", &file];
    let start = |variables: &[(&str, &str)]| Process::start(&arguments, variables);
    let Options { public_key, private_key, .. } = Options::default();
    let gateway = Simulator::start(Options::default()).await.expect("gateway starts");
    let variables = [("WEBHOOKS__LISTEN", webhooks.as_str())];
    let sidecar = Sidecar::by(gateway, &public_key, &private_key, &variables, start).await;
    sidecar.ready().await;
    let metrics = Arc::new(Metrics::new().expect("metrics"));
    metrics.task_restarts.with_label_values(&["log_writer"]).inc_by(0);
    // No panic of the running sidecar is known, so a task of this process panics under the sidecar's own supervisor.
    let supervised = exposing_restarts(Arc::clone(&metrics)).await;
    let windows = [
        ("[5m]", "[10s]"),
        ("[1d]", "[8s]"),
        ("[5d]", "[8s]"),
        ("[7d] offset 1d", "[1m] offset 8s"),
        ("[7d] offset 5d", "[1m] offset 8s"),
    ];
    let prometheus = Prometheus::scraping(&[sidecar.ops, supervised], &windows).await;
    let subscription = json!({"url": format!("http://{webhooks}/webhooks/sezzle"), "events": [EVENT]}).to_string();
    assert_eq!(write(&sidecar, "/v2/webhooks", &subscription).await, 200);
    for target in [sidecar.ops, supervised] {
        let first = format!("sezzle_sidecar_task_restarts_total{{instance=\"{target}\"}}");
        prometheus.answers("the first scrape", &first).await;
    }

    // A task panics, and its supervisor begins it anew.
    let panics = AtomicBool::new(true);
    Supervisor::new(TaskTracker::new(), metrics.task_restarts.clone()).keep("log_writer", None, move |_| {
        let now = panics.swap(false, Ordering::SeqCst);
        async move { assert!(!now, "this task fails once") }
    });
    // The configuration gets a mistake.
    folder.write("sidecar.toml", "[cache]\nmax_tttl = \"5s\"\n");
    sidecar.process.signal("HUP");
    // Webhooks come, and then no more.
    let order = Session::order(&sidecar.gateway).order;
    let accepted = "job:sezzle_sidecar_webhooks_accepted:rate5m > 0";
    eventually("webhooks are accepted", async || {
        sidecar.gateway.raise_event(EVENT, &json!({"uuid": order}));
        !prometheus.query(accepted).await.is_empty()
    })
    .await;
    // Sezzle takes its time, and every caller gets an answer.
    sidecar.gateway.script(Rule::on(Method::GET, "/v2/customer").delay(Duration::from_secs(6)));
    let slow = async || {
        let answers = [sidecar.get("/v2/customer"), sidecar.get("/v2/customer"), sidecar.get("/v2/customer")];
        assert!(join_all(answers).await.iter().all(|answer| answer.status == 200));
        !prometheus.fired_for("SezzleSidecarSlowAnswers").await.is_empty()
    };
    eventually("SezzleSidecarSlowAnswers", slow).await;

    fires(&prometheus, &["SezzleSidecarTaskRestarted", "SezzleSidecarReloadFailed"]).await;
    fires(&prometheus, &["SezzleSidecarWebhooksStopped"]).await;
    let mut fired = prometheus.fired().await;
    fired.retain(|alert| !is_late_scrape(alert));
    fired.sort();
    assert_eq!(
        fired,
        ["ReloadFailed", "SlowAnswers", "TaskRestarted", "WebhooksStopped"]
            .map(|alert| format!("SezzleSidecar{alert}"))
    );
    assert_eq!(prometheus.fired_for("SezzleSidecarSlowAnswers").await, [sidecar.ops.to_string()]);
    assert_eq!(sidecar.stop().await.code, Some(0));
}

/// A target that exposes the restarts of tasks among these metrics. Ends with the test's runtime.
async fn exposing_restarts(metrics: Arc<Metrics>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let metrics = Arc::clone(&metrics);
            let answers = service_fn(move |_| {
                let text = metrics.render().expect("text");
                let restarts = text.lines().filter(|line| line.contains("task_restarts_total"));
                let lines: String = restarts.map(|line| format!("{line}\n")).collect();
                let answer = Response::new(Full::<Bytes>::from(lines));
                async move { Ok::<_, Infallible>(answer) }
            });
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), answers));
        }
    });
    address
}

/// Whether an alert fires, too, when a busy machine answers one of the scrapes, two a second, too late.
fn is_late_scrape(alert: &str) -> bool {
    alert == "SezzleSidecarDown"
}

/// Waits until these alerts have fired.
async fn fires(prometheus: &Prometheus, alerts: &[&str]) {
    for alert in alerts {
        eventually(alert, async || prometheus.fired().await.iter().any(|fired| fired == alert)).await;
    }
}

/// Waits until the status page reports the conditions of these alerts.
async fn reports(sidecar: &Sidecar, alerts: &[String]) {
    for alert in alerts {
        let condition =
            Condition::ALL.iter().find(|condition| condition.alerts().contains(&alert.as_str())).expect("a condition");
        eventually(condition.as_str(), async || {
            let status = sidecar.client.get(sidecar.ops, "/status.json").await.json();
            let reported = status["conditions"].as_array().expect("a list");
            reported.iter().any(|one| one["condition"] == condition.as_str())
        })
        .await;
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
