//! The log of the binary says what helps: who called, what went astray, and which trouble began or ended. A flood of one
//! kind makes one line.

use http::{Method, StatusCode};
use serde_json::Value;
use sezzle_sidecar::simulator::{Options, Rule};

use crate::support::Session;
use crate::support::process::{Ended, Sidecar, free_address, lines};
use crate::support::wire::Wire;

/// The lines of an ended sidecar with this message.
fn told<'l>(lines: &'l [Value], message: &str) -> Vec<&'l Value> {
    lines.iter().filter(|line| line["message"].as_str().is_some_and(|text| text.starts_with(message))).collect()
}

async fn ended(sidecar: Sidecar) -> Vec<Value> {
    let Ended { code, stdout, stderr } = sidecar.stop().await;
    assert_eq!((code, stderr.as_str()), (Some(0), ""), "{stdout}");
    lines(&stdout)
}

#[tokio::test]
async fn at_debug_a_request_is_shown_from_its_arrival_to_its_last_attempt() {
    let sidecar = Sidecar::start(Options::default(), &[("LOG__LEVEL", "debug")]).await;
    let session = Session::order(&sidecar.gateway);
    let again = Rule::path("/v2/customer").status(StatusCode::SERVICE_UNAVAILABLE).times(1);
    sidecar.gateway.script(again);
    let agent = format!("shop/1.0 {}", "x".repeat(100));
    let headers = |id: &'static str| [("x-request-id", id), ("user-agent", agent.as_str())];
    for (id, path) in [("miss", session.path.as_str()), ("hit", &session.path), ("again", "/v2/customer?secret=1")] {
        assert_eq!(sidecar.send(Method::GET, path, &headers(id), "").await.status, 200, "{id}");
    }
    let astray = format!("/{}session/{}?secret=1", "long/".repeat(20), session.uuid);
    assert_eq!(sidecar.send(Method::GET, &astray, &headers("astray"), "").await.status, 404);
    let proxy = sidecar.proxy;
    let log = ended(sidecar).await;

    let arrivals = told(&log, "a request arrives");
    let paths = |id: &str| -> Vec<&Value> {
        arrivals.iter().filter(|line| line["request_id"] == id).map(|line| &line["path"]).collect()
    };
    assert_eq!(paths("miss"), ["/v2/session/{session}"]);
    assert_eq!(paths("hit"), ["/v2/session/{session}"]);
    assert_eq!(paths("again"), ["/v2/customer"]);
    assert_eq!(paths("astray"), [&format!("/{}", "long/".repeat(20))[..64]]);
    for line in &arrivals {
        assert_eq!(
            (&line["level"], &line["method"], &line["version"]),
            (&"DEBUG".into(), &"GET".into(), &"HTTP/1.1".into())
        );
        assert_eq!(line["host"], proxy.to_string());
        assert_eq!(line["user_agent"], agent[..64]);
        assert!(line["connection"].as_str().is_some_and(|from| from.starts_with("127.0.0.1:")), "{line}");
    }
    assert_eq!(arrivals.len(), 4);

    let attempts: Vec<_> = told(&log, "an attempt ended");
    let of = |id: &str| -> Vec<(Option<u64>, Option<u64>)> {
        let own = attempts.iter().filter(|line| line["request_id"] == id);
        own.map(|line| (line["attempt"].as_u64(), line["code"].as_u64())).collect()
    };
    assert_eq!(of("miss"), [(Some(1), Some(200))]);
    assert!(of("hit").is_empty());
    assert_eq!(of("again"), [(Some(1), Some(503)), (Some(2), Some(200))]);
    assert!(attempts.iter().all(|line| line["took_ms"].is_u64() && line["token_gen"] == 1), "{attempts:?}");

    // The line of each request names the caller, too.
    let requests: Vec<_> = log.iter().filter(|line| line["message"] == "request").collect();
    assert_eq!(requests.len(), 4);
    assert!(requests.iter().all(|line| line["user_agent"] == agent[..64]), "{requests:?}");
    assert!(!log.iter().any(|line| line.to_string().contains("secret")));
}

#[tokio::test]
async fn a_wrong_base_url_is_warned_of_once_with_what_was_asked_for() {
    let sidecar = Sidecar::start(Options::default(), &[("LOG__LEVEL", "warn")]).await;
    for path in ["/v1/session?secret=1", "/session", "/session/card/token/secret"] {
        let answer = sidecar.send(Method::GET, path, &[("user-agent", "shop/1.0")], "").await;
        assert_eq!((answer.status, answer.error_code().as_str()), (404, "sidecar.not_found"));
    }
    let log = ended(sidecar).await;
    let warned = told(&log, "requests come for paths outside /v2/");
    assert_eq!(warned.len(), 1, "{log:?}");
    assert_eq!((&warned[0]["level"], &warned[0]["requests"]), (&"WARN".into(), &1.into()));
    assert_eq!((&warned[0]["path"], &warned[0]["user_agent"]), (&"/v1/session".into(), &"shop/1.0".into()));
    assert!(!log.iter().any(|line| line.to_string().contains("secret")));
}

#[tokio::test]
async fn a_request_for_another_host_is_told_which_host_it_named() {
    let sidecar = Sidecar::start(Options::default(), &[]).await;
    for (head, host) in [
        ("GET /v2/customer HTTP/1.1\r\nhost: sidecar:8080", "sidecar:8080"),
        ("GET /v2/customer HTTP/1.1\r\nhost: me:secret@sidecar", "sidecar"),
        ("GET http://gateway.example/v2/customer HTTP/1.1\r\nhost: localhost", "gateway.example"),
    ] {
        let mut wire = Wire::connect(sidecar.proxy).await;
        wire.send(format!("{head}\r\n\r\n")).await;
        let answer = wire.answer().await;
        let message = String::from_utf8_lossy(&answer.body).into_owned();
        let quoted = format!("this sidecar does not answer for the Host \\\"{host}\\\" (see proxy.hosts)");
        assert!(answer.status == 421 && message.contains(&quoted), "{message}");
        assert!(!message.contains("secret"), "{message}");
    }
    ended(sidecar).await;
}

#[tokio::test]
async fn unsigned_webhooks_are_warned_of_once_with_what_is_known_of_their_sender() {
    let webhooks = free_address();
    let listen = webhooks.to_string();
    let sidecar = Sidecar::start(Options::default(), &[("LOG__LEVEL", "warn"), ("WEBHOOKS__LISTEN", &listen)]).await;
    let forwarded = format!("203.0.113.7, {}", "1".repeat(100));
    for signature in [None, Some("00"), Some("abcdef")] {
        let signed = signature.map(|signature| ("sezzle-signature", signature));
        let headers = [("x-forwarded-for", forwarded.as_str()), ("user-agent", "Sezzle/1")];
        let headers: Vec<_> = headers.into_iter().chain(signed).collect();
        let posted = sidecar.client.send(webhooks, Method::POST, "/webhooks/sezzle", &headers, "{\"secret\":1}").await;
        assert_eq!(posted.status, 401);
    }
    let log = ended(sidecar).await;
    let warned = told(&log, "webhooks come without Sezzle's signature");
    assert_eq!(warned.len(), 1, "{log:?}");
    assert_eq!((&warned[0]["level"], &warned[0]["webhooks"]), (&"WARN".into(), &1.into()));
    assert_eq!(warned[0]["forwarded_for"], forwarded[..64]);
    assert_eq!(warned[0]["user_agent"], "Sezzle/1");
    assert!(!log.iter().any(|line| line.to_string().contains("secret")));
}

#[tokio::test]
async fn answers_401_that_callers_got_are_warned_of_once() {
    let sidecar = Sidecar::start(Options::default(), &[("LOG__LEVEL", "warn")]).await;
    sidecar.gateway.script(Rule::path("/v2/customer").status(StatusCode::UNAUTHORIZED));
    for _ in 0..5 {
        assert_eq!(sidecar.get("/v2/customer").await.status, 401);
    }
    assert_eq!(sidecar.metric("unauthorized_passed_on_total").await, 5.0);
    let log = ended(sidecar).await;
    let warned = told(&log, "Sezzle answered 401");
    assert_eq!(warned.len(), 1, "{log:?}");
    assert_eq!((&warned[0]["level"], &warned[0]["answers"]), (&"WARN".into(), &1.into()));
    assert_eq!(warned[0]["route"], "/v2/customer");
}

#[tokio::test]
async fn a_wrong_clock_is_warned_of_when_it_begins_and_when_it_ends() {
    let ahead = Options { clock_skew: 300, ..Options::default() };
    let sidecar = Sidecar::start(ahead, &[("LOG__LEVEL", "warn")]).await;
    sidecar.gateway.configure(|options| options.clock_skew = 0);
    // The 401 makes the sidecar exchange the keys again.
    sidecar.gateway.revoke_tokens();
    assert_eq!(sidecar.get("/v2/customer").await.status, 200);
    let log = ended(sidecar).await;
    let clock: Vec<_> = told(&log, "this machine's clock");
    let said: Vec<_> = clock.iter().map(|line| line["message"].as_str().expect("a text")).collect();
    assert_eq!(said.len(), 2, "{log:?}");
    assert!(said[0].contains("is behind Sezzle's") && said[1].contains("agrees with Sezzle's again"), "{said:?}");
    assert!(clock.iter().all(|line| line["level"] == "WARN"), "{clock:?}");
    assert!(clock[0]["skew_ms"].as_i64().is_some_and(|skew| (290_000..=301_000).contains(&skew)), "{}", clock[0]);
}
