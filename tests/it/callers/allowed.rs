//! Each caller may make the calls that its words allow, however a request spells them.

use http::{Method, StatusCode};
use sezzle_sidecar::callers::permission::Permission;
use sezzle_sidecar::proxy::route::Route;
use sezzle_sidecar::simulator::{Gate, Rule};

use super::{READER, Scene, TILL};
use crate::support::frame_caller::FrameCaller;
use crate::support::frames::END_STREAM;
use crate::support::{Session, arrived};

/// A path of each route.
fn path_of(route: Route) -> String {
    match route {
        Route::Other => "/v2/unknown/call".to_owned(),
        Route::Version1 => "/v1/orders/o".to_owned(),
        Route::Session => "/v2/session/6c9db5d4-d09a-4224-860a-b5438ac32ca8".to_owned(),
        _ => route.template().replace(['{', '}'], ""),
    }
}

#[tokio::test]
async fn each_word_allows_its_calls_and_no_other() {
    let callers: String = Permission::WORDS
        .iter()
        .map(|word| format!("[[callers]]\nname = \"{word}\"\ntoken_file = \"@/{word}\"\nallow = [\"{word}\"]\n"))
        .collect();
    // The files must be there before the start, so another caller starts the scene.
    let folder = crate::support::process::Folder::new();
    for word in Permission::WORDS {
        folder.write(word, &format!("token-of-{word}-0123456789"));
    }
    let forwarded = &[("PROXY__CARD_DATA", "forward"), ("PROXY__V1", "forward")];
    let scene = Scene::with(&super::at(&folder, &callers), forwarded).await;
    for path in ["/v1/*", "/v2/*"] {
        scene.sidecar.gateway.script(Rule::path(path).status(StatusCode::OK).body("{}"));
    }
    for route in Route::ALL.iter().filter(|route| **route != Route::Authentication) {
        for method in [Method::GET, Method::POST] {
            if *route == Route::CardToken && method == Method::POST {
                continue;
            }
            let before = scene.received().len();
            for permission in Permission::ALL {
                let path = path_of(*route);
                let token = format!("token-of-{}-0123456789", permission.as_str());
                let answer = scene.send(method.clone(), &path, &token, "").await;
                let expected = if route.permission(&method) == permission { 200 } else { 403 };
                assert_eq!(answer.status, expected, "{method} {path} by {}", permission.as_str());
                if expected == 403 {
                    assert_eq!(answer.error_code(), "sidecar.not_allowed");
                }
            }
            assert_eq!(scene.received().len(), before + 1, "{method} {route:?}: only the allowed one was sent");
        }
    }
    scene.sidecar.stop().await;
}

#[tokio::test]
async fn a_session_in_memory_is_not_shown_to_callers_that_may_not_look() {
    let scene = Scene::start().await;
    let session = Session::order(&scene.sidecar.gateway).path;
    scene.get(&session, TILL).await;
    assert!(scene.get(&session, TILL).await.cache().starts_with("hit"));
    let calls = scene.received().len();
    for method in [Method::GET, Method::HEAD, Method::OPTIONS] {
        for path in [
            session.clone(),
            format!("{session}/"),
            format!("{session}?a=b"),
            session.to_uppercase().replace("/V2/SESSION", "/v2/session"),
        ] {
            let answer = scene.send(method.clone(), &path, READER, "").await;
            assert_eq!(answer.status, 403, "{method} {path}");
            assert!(answer.header("etag").is_empty() && answer.header("age").is_empty(), "{method} {path}");
        }
    }
    let headers = [("authorization", format!("Bearer {READER}")), ("cache-control", "only-if-cached".to_owned())];
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    assert_eq!(scene.sidecar.send(Method::GET, &session, &headers, "").await.error_code(), "sidecar.not_allowed");
    assert_eq!(scene.received().len(), calls);
    assert_eq!(scene.refused("reader", "not_allowed").await, 13.0);
    assert_eq!(scene.refused("till", "not_allowed").await, 0.0);
    scene.sidecar.stop().await;
}

#[tokio::test]
async fn a_fetch_under_way_is_not_shared_with_callers_that_may_not_look() {
    let scene = Scene::start().await;
    let session = Session::order(&scene.sidecar.gateway).path;
    let gate = Gate::new();
    scene.sidecar.gateway.script(Rule::path(&session).gate(&gate));
    let refused = async {
        arrived(&gate, 1).await;
        let answers = [scene.get(&session, READER).await, scene.sidecar.get(&session).await];
        gate.release();
        answers.map(|answer| answer.status)
    };
    let (one, other, refused) = tokio::join!(scene.get(&session, TILL), scene.get(&session, TILL), refused);
    assert_eq!((one.status, other.status, refused), (200, 200, [403, 401]));
    assert_eq!(scene.received().len(), 1);
    scene.sidecar.stop().await;
}

#[tokio::test]
async fn no_spelling_of_a_call_changes_its_permission() {
    let scene =
        Scene::with("[[callers]]\nname = \"odd\"\ntoken_file = \"@/till\"\nallow = [\"other\", \"read\"]\n", &[]).await;
    for (method, path, status) in [
        (Method::POST, "/v2/order/o/capture", 403),
        (Method::POST, "/v2/order/o/capture/", 403),
        (Method::POST, "/v2/order/o/Capture", 403),
        (Method::POST, "/v2/Order/o/CAPTURE/", 403),
        (Method::POST, "/v2/ORDER/o/refund?a=b", 403),
        (Method::POST, "/v2/order/o/relea%C5%BFe", 403),
        (Method::POST, "/v2/order/o/%63apture", 400),
        (Method::POST, "/v2/order/o/capture%2F", 400),
        (Method::POST, "/v2/order/o//capture", 400),
        (Method::POST, "/v2/order/o/./capture", 400),
        (Method::POST, "/v2/order/o/x/../capture", 400),
        (Method::POST, "/v2/order/o/capture;a", 400),
        (Method::POST, "/v2/order/o/capture%20", 400),
        (Method::PUT, "/v2/order/o/capture", 403),
        (Method::DELETE, "/v2/Customer/c", 403),
        (Method::POST, "/v2/Session", 403),
        (Method::POST, "/v2/session/Card", 403),
        (Method::GET, "/v2/session/Card/token/t", 403),
        (Method::GET, "/v2/Webhooks", 403),
        (Method::POST, "/v2/something/else", 404),
        (Method::GET, "/v2/something/else", 404),
    ] {
        let answer = scene.send(method.clone(), path, TILL, "").await;
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.text());
        if status == 403 {
            assert_eq!(answer.error_code(), "sidecar.not_allowed", "{method} {path}");
        }
    }
    assert_eq!(scene.received(), ["POST /v2/something/else", "GET /v2/something/else"]);
    // A header that names another method does not reach Sezzle.
    let authorization = format!("Bearer {TILL}");
    let headers = [("authorization", authorization.as_str()), ("x-http-method-override", "DELETE")];
    scene.sidecar.send(Method::POST, "/v2/something/else", &headers, "").await;
    assert!(scene.sidecar.gateway.journal().pop().expect("a call").headers.get("x-http-method-override").is_none());
    // Over HTTP/2 the method and the path are fields, which say as much.
    let mut caller = FrameCaller::connect(scene.sidecar.proxy, &[]).await;
    let stream = caller.stream();
    let head = caller.head(stream, END_STREAM, "POST", "/v2/order/o/CAPTURE", &[("authorization", &authorization)]);
    caller.send(head).await;
    assert_eq!(caller.told(stream).await.status, Some(403));
    scene.sidecar.stop().await;
}
