//! A token or a user id tells who calls, and a request that tells no caller is refused.

use std::fs;
use std::os::unix::fs::MetadataExt;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::Method;
use sezzle_sidecar::simulator::Options;

use super::{CALLERS, READER, Scene, TILL};
use crate::support::audit_file;
use crate::support::client::Client;
use crate::support::frame_caller::FrameCaller;
use crate::support::frames::END_STREAM;
use crate::support::process::lines;
use crate::support::wire::Wire;
use crate::support::{Session, eventually};

#[tokio::test]
async fn nobody_but_a_known_caller_may_call() {
    let scene = Scene::start().await;
    let session = Session::order(&scene.sidecar.gateway).path;
    assert_eq!(scene.get(&session, TILL).await.status, 200);
    assert!(scene.get(&session, TILL).await.cache().starts_with("hit"));
    let before = scene.received();
    let long = "x".repeat(20_000);
    let cut = &TILL[..TILL.len() - 1];
    let more = format!("{TILL}x");
    let double = format!("Bearer {TILL}, Bearer {READER}");
    let basic = format!("Basic {}", BASE64_STANDARD.encode(Options::default().public_key));
    let strangers: Vec<Vec<(&str, String)>> = vec![
        vec![],
        vec![("authorization", String::new())],
        vec![("authorization", "Bearer".to_owned())],
        vec![("authorization", "Bearer placeholder-the-sidecar-adds-the-real-token".to_owned())],
        vec![("authorization", format!("Bearer {cut}"))],
        vec![("authorization", format!("Bearer {more}"))],
        vec![("authorization", format!("Bearer {}", TILL.to_uppercase()))],
        vec![("authorization", format!("Bearer {long}"))],
        vec![("authorization", format!("Basic {TILL}"))],
        vec![("authorization", TILL.to_owned())],
        vec![("authorization", double)],
        vec![("authorization", basic)],
        vec![("x-authorization", format!("Bearer {TILL}"))],
        vec![("proxy-authorization", format!("Bearer {TILL}"))],
        vec![("cookie", format!("authorization=Bearer {TILL}"))],
        vec![("authorization", format!("Bearer {TILL}")), ("authorization", format!("Bearer {READER}"))],
        vec![("authorization", format!("Bearer {TILL}")), ("authorization", format!("Bearer {TILL}"))],
        vec![("authorization", "Basic eDp5".to_owned()), ("authorization", format!("Bearer {TILL}"))],
    ];
    let count = strangers.len();
    for headers in strangers {
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        for (method, path) in [
            (Method::GET, session.as_str()),
            (Method::HEAD, session.as_str()),
            (Method::OPTIONS, session.as_str()),
            (Method::POST, "/v2/order/o/capture"),
            (Method::GET, "/v2/unknown"),
        ] {
            let answer = scene.sidecar.send(method.clone(), path, &headers, "").await;
            assert_eq!(
                (answer.status, answer.header("www-authenticate")),
                (401, "Bearer"),
                "{method} {path} {headers:?}"
            );
            if method != Method::HEAD {
                assert_eq!(answer.error_code(), "sidecar.unknown_caller", "{method} {path} {headers:?}");
            }
        }
    }
    assert_eq!(scene.received(), before, "nothing was sent");
    let refused = "requests_refused_total{reason=\"unknown_caller\"}";
    assert_eq!(scene.sidecar.metric(refused).await, 5.0 * count as f64);
    let ended = scene.sidecar.stop().await;
    assert!(!ended.stdout.contains(TILL) && !ended.stderr.contains(TILL), "no token is logged");
}

#[tokio::test]
async fn a_bearer_token_tells_its_caller_in_every_spelling_that_means_the_same() {
    let scene = Scene::with(CALLERS, &[("LOG__LEVEL", "info")]).await;
    let path = Session::order(&scene.sidecar.gateway).path;
    for scheme in ["Bearer", "bearer", "BEARER", "bEaReR "] {
        let authorization = format!("{scheme} {TILL}");
        let answer = scene.sidecar.send(Method::GET, &path, &[("authorization", &authorization)], "").await;
        assert_eq!(answer.status, 200, "{scheme}");
    }
    // Sezzle gets the merchant's token and nothing of the caller's.
    let sent = scene.sidecar.gateway.journal().pop().expect("a call").headers;
    assert!(!format!("{sent:?}").contains(TILL));
    let client = Client::http2();
    let headers = [("authorization", format!("bearer {TILL}"))];
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    assert_eq!(client.send(scene.sidecar.proxy, Method::GET, &path, &headers, "").await.status, 200, "over HTTP/2");
    // HTTP/2 does not remove space around a value.
    for (value, status) in [(format!(" Bearer {TILL} "), 200), (format!("Bearer {TILL}x"), 401)] {
        let mut caller = FrameCaller::connect(scene.sidecar.proxy, &[]).await;
        let stream = caller.stream();
        let head = caller.head(stream, END_STREAM, "GET", &path, &[("authorization", &value)]);
        caller.send(head).await;
        assert_eq!(caller.told(stream).await.status, Some(status), "{value:?}");
    }
    let ended = scene.sidecar.stop().await;
    let logged: Vec<_> = lines(&ended.stdout).into_iter().filter(|line| line["message"] == "request").collect();
    let callers: Vec<_> = logged.iter().map(|line| line["caller"].as_str()).collect();
    assert_eq!(callers, [vec![Some("till"); 6], vec![None]].concat());
}

#[tokio::test]
async fn the_user_of_a_process_tells_the_caller_on_a_unix_socket() {
    let folder = crate::support::process::Folder::new();
    let own = fs::metadata(folder.path()).expect("a folder").uid();
    let socket = folder.path().join("proxy.sock");
    let configuration = format!("{CALLERS}\n[[callers]]\nname = \"local\"\nuid = {own}\nallow = [\"read\"]\n");
    let other = configuration.replace(&format!("uid = {own}"), "uid = 4000000000");
    for (configuration, status) in [(configuration.as_str(), 200), (&other, 401)] {
        let address = crate::support::process::free_address();
        let listen = format!("{address},unix:{}", socket.display());
        let mut scene = Scene::with(configuration, &[("PROXY__LISTEN", &listen)]).await;
        scene.sidecar.proxy = address;
        let mut wire = Wire::unix(&socket).await;
        wire.send("GET /v2/customer HTTP/1.1\r\nhost: unix\r\n\r\n").await;
        assert_eq!(wire.answer().await.status, status);
        // The uid counts before the token, so the caller with the token is not this one.
        let with_token = format!("POST /v2/order/o/capture HTTP/1.1\r\nhost: unix\r\nauthorization: Bearer {TILL}\r\n");
        wire.send(format!("{with_token}content-length: 0\r\n\r\n")).await;
        let answer = wire.answer().await;
        let expected = if status == 200 { 403 } else { 404 };
        assert_eq!(answer.status, expected, "{}", answer.text());
        assert_eq!(scene.sidecar.get("/v2/customer").await.status, 401, "no uid on TCP");
        drop(wire);
        scene.sidecar.stop().await;
    }
}

#[tokio::test]
async fn other_listeners_ask_for_no_caller() {
    let webhooks = crate::support::process::free_address().to_string();
    let scene = Scene::with(CALLERS, &[("WEBHOOKS__LISTEN", &webhooks)]).await;
    for path in ["/livez", "/readyz", "/metrics", "/"] {
        assert_eq!(scene.sidecar.client.get(scene.sidecar.ops, path).await.status, 200, "{path}");
    }
    let webhooks = webhooks.parse().expect("an address");
    let answer = scene.sidecar.client.send(webhooks, Method::POST, "/webhooks/sezzle", &[], "{}").await;
    assert_eq!((answer.status, answer.text().contains("unknown_caller")), (401, false), "for want of a signature");
    scene.sidecar.stop().await;
}

#[tokio::test]
async fn a_caller_that_names_many_shops_keeps_no_other_from_asking_sezzle() {
    let scene = Scene::start().await;
    let ask = async |token: &str, number: usize| {
        let shop = format!(r#"{{"cancel_url":"https://{number}.example/"}}"#);
        scene.send(Method::POST, "/v2/authentication", token, &shop).await
    };
    // A few more come while the test runs.
    let mut granted = 0;
    for number in 0..60 {
        let answer = ask(READER, number).await;
        match answer.status {
            201 => granted += 1,
            status => assert_eq!((status, answer.error_code().as_str()), (429, "sidecar.rate_limited")),
        }
    }
    assert!((10..30).contains(&granted), "{granted}");
    assert_eq!(ask(TILL, 60).await.status, 201);
    assert_eq!(scene.sidecar.gateway.count("POST", "/v2/authentication"), granted + 2, "with the sidecar's own");
    scene.sidecar.stop().await;
}

#[tokio::test]
async fn without_callers_everything_is_as_before() {
    let scene = Scene::with("callers = []\n", &[]).await;
    assert_eq!(scene.sidecar.get("/v2/customer").await.status, 200);
    assert_eq!(scene.get("/v2/customer", "anything").await.status, 200);
    let answer = scene.exchange("any", "any").await;
    assert_eq!(answer.json()["token"], "placeholder-the-sidecar-adds-the-real-token");
    scene.sidecar.stop().await;
}

#[tokio::test]
async fn the_body_of_a_refused_call_is_not_waited_for() {
    let scene = Scene::start().await;
    let mut wire = Wire::connect(scene.sidecar.proxy).await;
    wire.send("POST /v2/session HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100000\r\n\r\n{").await;
    let answer = wire.answer().await;
    assert_eq!((answer.status, answer.header("connection")), (401, "close"));
    assert_eq!(wire.status().await, None, "nothing behind it is taken for a request");
    let mut wire = Wire::connect(scene.sidecar.proxy).await;
    wire.send("GET /v2/customer HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n").await;
    assert_eq!(wire.answer().await.status, 401);
    eventually("both are counted", async || {
        scene.sidecar.metric("requests_refused_total{reason=\"unknown_caller\"}").await == 2.0
    })
    .await;
    assert!(scene.received().is_empty());
    scene.sidecar.stop().await;
}

#[tokio::test]
async fn the_audit_names_the_caller_of_each_call_and_has_none_that_was_refused() {
    let scene = Scene::with(&format!("{CALLERS}\n[audit]\nfile = \"@/audit.log\"\n"), &[]).await;
    let order = Session::order(&scene.sidecar.gateway).authorized(&scene.sidecar.gateway);
    let capture = format!("{}/capture", order.order_path);
    assert_eq!(scene.send(Method::POST, &capture, TILL, audit_file::CAPTURE).await.status, 200);
    assert_eq!(scene.send(Method::POST, &capture, READER, audit_file::CAPTURE).await.status, 403);
    let file = audit_file::file(&scene.folder);
    let lines = audit_file::of_calls(&file);
    assert_eq!((lines.len(), lines[0]["caller"].as_str()), (2, Some("till")), "{lines:?}");
    let text = fs::read_to_string(&file).expect("the file");
    assert!(!text.contains(TILL) && !text.contains("Bearer"), "{text}");
    audit_file::verified(&[&file]).await;
}
