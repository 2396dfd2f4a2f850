//! The audit file has two lines for each call that moves money, in one chain, and names nobody.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use http::{Method, StatusCode};
use serde_json::Value;
use sezzle_sidecar::simulator::{Options, Reset, Rule};

use crate::support::audit_file::{CAPTURE, file, lines, of_calls, verified, verify};
use crate::support::client::{Client, Ended};
use crate::support::process::{Folder, Process, Sidecar, run};
use crate::support::{Harness, Session, Setup, eventually};

async fn audited(folder: &Folder) -> Harness {
    Setup::default().set("AUDIT__FILE", file(folder).display()).start().await
}

#[tokio::test]
async fn a_capture_has_a_line_before_it_is_sent_and_one_after_its_answer() {
    let folder = Folder::new();
    let harness = audited(&folder).await;
    let Session { order, order_path, .. } = Session::order(&harness.gateway).authorized(&harness.gateway);
    let headers = [("content-type", "application/json"), ("sezzle-request-id", "key-1"), ("x-request-id", "request-1")];
    let capture = format!("{order_path}/capture");
    let answer = harness.send(Method::POST, &capture, &headers, CAPTURE).await;
    assert_eq!(answer.status, 200);
    // Both lines are there with the answer.
    let [begin, end] = of_calls(&file(&folder)).try_into().expect("two lines");
    for (name, value) in [
        ("event", "begin"),
        ("method", "POST"),
        ("route", "/v2/order/{order}/capture"),
        ("order", order.as_str()),
        ("key", "key-1"),
        ("key_origin", "caller"),
        ("request", "request-1"),
        ("currency", "USD"),
    ] {
        assert_eq!(begin[name], value, "{begin}");
    }
    assert_eq!(begin["amount"], 100);
    assert!(begin["address"].as_str().expect("an address").starts_with("127.0.0.1:"), "{begin}");
    assert_eq!(end["call"], begin["call"], "both are about one call");
    assert_eq!((end["event"].as_str(), end["outcome"].as_str()), (Some("end"), Some("done")));
    assert_eq!((end["status"].as_u64(), end["attempts"].as_u64()), (Some(200), Some(1)));
    assert_eq!(end["sezzle_uuid"], answer.json()["uuid"]);
    harness.stop().await;
    let said = verified(&[&file(&folder)]).await;
    assert!(said.starts_with("the chain is whole: lines 1 to 3, the last with the hash "), "{said}");
    let mode = fs::metadata(file(&folder)).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

/// An auditor adds the amounts up, so a line names none that Sezzle may not move.
#[tokio::test]
async fn an_amount_that_sezzle_does_not_read_there_is_not_in_the_line() {
    let folder = Folder::new();
    let harness = audited(&folder).await;
    harness.gateway.script(Rule::path("/v2/*").status(StatusCode::OK).body("{}"));
    let price = r#"{"amount_in_cents":100,"currency":"USD"}"#;
    let twice = r#"{"amount_in_cents":100,"currency":"USD","AMOUNT_IN_CENTS":999900}"#;
    let session = format!(r#"{{"order":{{"order_amount":{price}}}}}"#);
    for (path, body, amount) in [
        ("/v2/order/o/refund", price, Some(100)),
        ("/v2/order/o/refund", twice, None),
        ("/v2/order/o/refund?amount_in_cents=9", price, None),
        ("/v2/order/o/refund", CAPTURE, None),
        ("/v2/order/o/capture", CAPTURE, Some(100)),
        ("/v2/order/o/capture", price, None),
        ("/v2/order/o/release", price, None),
        ("/v2/session", session.as_str(), Some(100)),
        ("/v2/new", price, None),
    ] {
        assert_eq!(harness.post(path, body).await.status, 200);
        let lines = of_calls(&file(&folder));
        let begin = &lines[lines.len() - 2];
        assert_eq!(begin["amount"].as_u64(), amount, "{path} {body}");
        assert_eq!(begin["currency"].as_str(), amount.map(|_| "USD"), "{path} {body}");
    }
    harness.stop().await;
}

/// A body that is compressed could not tell whether an authorization was declined.
#[tokio::test]
async fn sezzle_is_asked_for_answers_that_the_audit_can_read() {
    let folder = Folder::new();
    let setup = Setup::default().set("AUDIT__FILE", file(&folder).display()).set("LINKS__REWRITE", false);
    let harness = setup.start().await;
    let order = Session::order(&harness.gateway).authorized(&harness.gateway);
    let headers = [("content-type", "application/json"), ("accept-encoding", "gzip")];
    harness.send(Method::POST, &format!("{}/capture", order.order_path), &headers, CAPTURE).await;
    let capture = harness.gateway.journal().pop().expect("a call");
    assert_eq!(capture.headers["accept-encoding"], "identity");
    harness.stop().await;
}

#[tokio::test]
async fn lookups_and_refusals_before_the_call_have_no_line() {
    let folder = Folder::new();
    let harness = audited(&folder).await;
    let session = Session::order(&harness.gateway);
    harness.get(&session.path).await;
    harness.get(&session.path).await;
    harness.get(&session.order_path).await;
    let keys = [("content-type", "application/json"), ("sezzle-request-id", "a"), ("idempotency-key", "b")];
    let refused = harness.send(Method::POST, &format!("{}/capture", session.order_path), &keys, CAPTURE).await;
    assert_eq!(refused.status, 400);
    harness.stop().await;
    assert_eq!(of_calls(&file(&folder)), [Value::Null; 0]);
}

#[tokio::test]
async fn the_last_line_says_how_the_call_ended() {
    let folder = Folder::new();
    let harness = audited(&folder).await;
    for (prepare, outcome, status) in [
        (None, "done", 200),
        (Some(Rule::path("/v2/order/*").status(StatusCode::CONFLICT)), "refused", 409),
        (Some(Rule::path("/v2/order/*").times(3).status(StatusCode::BAD_GATEWAY)), "in_doubt", 502),
        (Some(Rule::path("/v2/order/*").times(3).reset(Reset::AfterEffect)), "unknown", 504),
    ] {
        let order = Session::order(&harness.gateway).authorized(&harness.gateway);
        if let Some(rule) = prepare {
            harness.gateway.script(rule);
        }
        let answer = harness.post(&format!("{}/capture", order.order_path), CAPTURE).await;
        assert_eq!(answer.status, status, "{outcome}");
        let end = of_calls(&file(&folder)).pop().expect("a line");
        assert_eq!((end["outcome"].as_str(), end["status"].as_u64()), (Some(outcome), Some(status.into())), "{end}");
        harness.gateway.clear_rules();
    }
    let order = Session::order(&harness.gateway).authorized(&harness.gateway);
    harness.gateway_goes_away().await;
    assert_eq!(harness.post(&format!("{}/capture", order.order_path), CAPTURE).await.status, 503);
    let end = of_calls(&file(&folder)).pop().expect("a line");
    assert_eq!((end["outcome"].as_str(), end["error"].as_str()), (Some("not_sent"), Some("upstream_unreachable")));
    harness.stop().await;
    verified(&[&file(&folder)]).await;
}

/// A line names no person and holds no secret, for any request of a caller.
#[tokio::test]
async fn nobody_is_named() {
    const BODY: &str = r#"{
        "cancel_url": {"href": "https://shop.example/no?basket=canary", "method": "GET"},
        "complete_url": {"href": "https://shop.example/yes?basket=canary", "method": "GET"},
        "customer": {"tokenize": true, "email": "canary@shopper.example", "first_name": "Canary", "phone": "555canary"},
        "order": {
            "intent": "AUTH", "reference_id": "canary", "order_amount": {"amount_in_cents": 10000, "currency": "USD"}
        }
    }"#;
    let folder = Folder::new();
    let harness = audited(&folder).await;
    let headers = [
        ("content-type", "application/json"),
        ("authorization", "Bearer canary"),
        ("user-agent", "canary"),
        ("sezzle-request-id", "refund canary@shopper.example"),
    ];
    let answer = harness.send(Method::POST, "/v2/session", &headers, BODY).await;
    assert_eq!(answer.status, 201);
    let created = of_calls(&file(&folder)).pop().expect("a line");
    assert_eq!(created["sezzle_uuid"], answer.json()["uuid"]);
    assert_eq!(created["sezzle_order"], answer.json()["order"]["uuid"]);
    for path in ["/v2/customer/canary/order", "/v2/token/canary/session", "/v2/canary", "/v2/order/canary@x/capture"] {
        harness.send(Method::POST, path, &headers, BODY).await;
    }
    harness.stop().await;
    let text = fs::read_to_string(file(&folder)).expect("the file").to_lowercase();
    assert!(text.contains("sha256:"), "the key is there as a hash: {text}");
    for word in ["canary@", "shopper", "555canary", "bearer", "basket", "sz_", "user", "\"key\":\"refund"] {
        assert!(!text.contains(word), "{word}: {text}");
    }
    assert!(!text.contains("\"canary"), "{text}");
}

/// As logrotate does it: rename, then SIGHUP.
#[tokio::test]
async fn after_a_rotation_the_chain_goes_on_in_the_new_file() {
    let folder = Folder::new();
    let path = file(&folder);
    let mut sidecar = Sidecar::start(Options::default(), &[("AUDIT__FILE", path.to_str().expect("UTF-8"))]).await;
    let first = folder.path().join("audit.log.1");
    let capture = async |sidecar: &Sidecar| {
        let order = Session::order(&sidecar.gateway).authorized(&sidecar.gateway);
        let json = [("content-type", "application/json")];
        let answer = sidecar.send(Method::POST, &format!("{}/capture", order.order_path), &json, CAPTURE).await;
        assert_eq!(answer.status, 200);
    };
    capture(&sidecar).await;
    fs::rename(&path, &first).expect("renamed");
    // Until the signal the file in use stays.
    capture(&sidecar).await;
    assert_eq!((of_calls(&first).len(), path.exists()), (4, false));
    sidecar.process.signal("HUP");
    eventually("a new file", async || !lines(&path).is_empty()).await;
    capture(&sidecar).await;
    // Without a rotation a signal changes nothing.
    sidecar.process.signal("HUP");
    eventually("reloaded", async || sidecar.metric(r#"config_reloads_total{result="success"}"#).await == 2.0).await;
    capture(&sidecar).await;
    assert_eq!((of_calls(&first).len(), of_calls(&path).len()), (4, 4));
    sidecar.process.says("the audit chain goes on in a new file").await;
    assert_eq!(sidecar.stop().await.code, Some(0));

    assert!(verified(&[&first, &path]).await.contains("the chain is whole: lines 1 to 10"));
    // The new file alone says that other files come before it, and in the wrong order the files are no chain.
    assert!(verified(&[&path]).await.contains("audit.log:1: the chain begins before this file: line 5 has the hash"));
    let wrong = verify(&[&path, &first]).await;
    assert_eq!(wrong.code, Some(1));
    assert!(wrong.stdout.contains("audit.log.1:1: BREAK: a new chain begins here"), "{}", wrong.stdout);
    assert!(wrong.stderr.contains("the chain breaks at 1 place\n"), "{}", wrong.stderr);
}

#[tokio::test]
async fn verify_says_where_the_chain_breaks() {
    let folder = Folder::new();
    let path = file(&folder);
    let harness = audited(&folder).await;
    for _ in 0..3 {
        let order = Session::order(&harness.gateway).authorized(&harness.gateway);
        harness.post(&format!("{}/capture", order.order_path), CAPTURE).await;
    }
    harness.stop().await;
    let whole = fs::read_to_string(&path).expect("the file");
    verified(&[&path]).await;
    fs::write(&path, whole.replacen("\"amount\":100", "\"amount\":101", 1)).expect("written");
    let ended = verify(&[&path]).await;
    assert_eq!(ended.code, Some(1));
    assert!(ended.stdout.contains("audit.log:3: BREAK: line 2 before this one was changed"), "{}", ended.stdout);
    let less: Vec<&str> = whole.lines().enumerate().filter(|(at, _)| *at != 3).map(|(_, line)| line).collect();
    fs::write(&path, less.join("\n") + "\n").expect("written");
    let ended = verify(&[&path]).await;
    assert!(ended.stdout.contains("audit.log:4: BREAK: line 5 follows line 3"), "{}", ended.stdout);
    for (arguments, code) in [
        (&["audit", "verify"][..], 64),
        (&["audit"], 64),
        (&["audit", "verify", "/no/such/file"], 1),
        (&["audit", "verify", "/dev/null"], 1),
    ] {
        assert_eq!(run(arguments, &[]).await.code, Some(code), "{arguments:?}");
    }
}

#[tokio::test]
#[ignore = "needs jq: tests/run"]
async fn the_lines_are_the_same_when_jq_writes_them_anew() {
    let folder = Folder::new();
    let path = file(&folder);
    let harness = audited(&folder).await;
    let order = Session::order(&harness.gateway).authorized(&harness.gateway);
    let key = [("content-type", "application/json"), ("sezzle-request-id", "a \"key\" \\ with <signs> & more")];
    harness.send(Method::POST, &format!("{}/capture", order.order_path), &key, CAPTURE).await;
    harness.stop().await;
    let text = fs::read_to_string(&path).expect("the file");
    for line in ["jq -c . audit.log", "jq -cS . audit.log", "jq -ca . audit.log"] {
        let ended = Process::shell(line, folder.path(), &[]).end().await;
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), text.as_str()), "{line}");
    }
    for line in ["jq . audit.log | jq -c . > again", "jq -c 'to_entries | reverse | from_entries' audit.log > again"] {
        assert_eq!(Process::shell(line, folder.path(), &[]).end().await.code, Some(0));
        verified(&[&folder.path().join("again")]).await;
    }
}

/// While the disk takes a write, the lines of the others gather, and go with the next.
#[tokio::test]
async fn many_captures_at_once_share_a_write_and_are_hardly_slower() {
    const CALLS: usize = 192;
    let folder = Folder::new();
    let delay = || Rule::on(Method::POST, "/v2/order/*").delay(Duration::from_millis(20));
    let took = async |harness: &Harness| {
        harness.gateway.script(delay());
        let order = Session::order(&harness.gateway).authorized(&harness.gateway);
        let path = format!("{}/capture", order.order_path);
        let body = r#"{"capture_amount":{"amount_in_cents":1,"currency":"USD"},"partial_capture":true}"#;
        let began = Instant::now();
        let caller = async || {
            for _ in 0..CALLS / 64 {
                assert_eq!(harness.post(&path, body).await.status, 200);
            }
        };
        join_all((0..64).map(|_| caller())).await;
        began.elapsed()
    };
    let plain = Harness::start().await;
    let audited = audited(&folder).await;
    // The first calls of each open the connections.
    took(&plain).await;
    took(&audited).await;
    // A busy machine may hold up one of the two, or let the calls come one by one. So the best of some rounds counts.
    let counts = async || {
        let lines = audited.metric(r#"audit_lines_total{event="end",result="written"}"#).await;
        (audited.metric("audit_write_seconds_count").await, 2.0 * lines)
    };
    let mut rounds = Vec::new();
    for _ in 0..10 {
        let before = counts().await;
        let (plain, audited) = (took(&plain).await, took(&audited).await);
        let after = counts().await;
        let (writes, lines) = (after.0 - before.0, after.1 - before.1);
        assert_eq!(lines, 2.0 * CALLS as f64);
        rounds.push((plain.as_secs_f64() / audited.as_secs_f64(), lines / writes));
        // Where the disk is fast, few lines have time to gather, and need not.
        if rounds.iter().any(|round| round.0 > 0.5) && rounds.iter().any(|round| round.1 > 2.0 || round.0 > 0.8) {
            break;
        }
    }
    assert!(rounds.len() < 10, "throughput beside that without an audit, lines per write: {rounds:?}");
    plain.stop().await;
    audited.stop().await;
    verified(&[&file(&folder)]).await;
}

/// The process dies at any moment of a busy time, ten times.
#[tokio::test]
async fn a_killed_process_leaves_a_whole_chain_and_misses_no_answered_call() {
    let folder = Folder::new();
    let path = file(&folder);
    let variables =
        [("AUDIT__FILE", path.to_str().expect("UTF-8")), ("AUDIT__REQUIRED", "true"), ("LOG__LEVEL", "warn")];
    let mut answered = Vec::new();
    for round in 0..10 {
        let sidecar = Sidecar::start(Options::default(), &variables).await;
        let order = Session::order(&sidecar.gateway).authorized(&sidecar.gateway);
        let target = format!("{}/capture", order.order_path);
        let answers = AtomicUsize::new(0);
        let calls = async |caller: usize| {
            let (client, mut done) = (Client::new(), Vec::new());
            for number in 0.. {
                let key = format!("{round}-{caller}-{number}");
                let headers = [("content-type", "application/json"), ("sezzle-request-id", key.as_str())];
                let body = r#"{"capture_amount":{"amount_in_cents":1,"currency":"USD"},"partial_capture":true}"#;
                let ended = client.try_send(sidecar.proxy, Method::POST, &target, &headers, body).await;
                match ended {
                    Ended::Whole(answer) if answer.status == 200 => {
                        answers.fetch_add(1, Ordering::Relaxed);
                        done.push(key);
                    }
                    _ => break,
                }
            }
            done
        };
        let kill = async {
            eventually("some captures are answered", async || answers.load(Ordering::Relaxed) >= 3).await;
            tokio::time::sleep(Duration::from_millis(17 * round)).await;
            sidecar.process.signal("KILL");
        };
        let (done, ()) = tokio::join!(join_all((0..8).map(calls)), kill);
        answered.extend(done.into_iter().flatten());
        sidecar.process.end().await;
        sidecar.gateway.stop().await;
        verified(&[&path]).await;
    }
    let lines = of_calls(&path);
    let ended: Vec<&Value> = lines.iter().filter(|line| line["event"] == "end").map(|line| &line["call"]).collect();
    for key in &answered {
        let begin = lines.iter().find(|line| line["key"] == key.as_str()).unwrap_or_else(|| panic!("{key} is missing"));
        assert!(ended.contains(&&begin["call"]), "{key} has no end");
    }
    assert!(answered.len() > 20, "{}", answered.len());
}
