//! Which call a path is, and what it says of it.

use proptest::prelude::*;

use super::*;

const UUID: &str = "fadbc642-05a4-4e38-9e74-80e325623af9";

fn route(path: &str) -> Option<Route> {
    Matched::path(path).map(|matched| matched.route)
}

#[test]
fn every_documented_call_has_its_route_and_class() {
    let (get, post, patch, delete) = (Method::GET, Method::POST, Method::PATCH, Method::DELETE);
    for (method, path, expected, class) in [
        (&post, "/v2/authentication", Route::Authentication, Class::Credentials),
        (&post, "/v2/Authentication/", Route::Authentication, Class::Credentials),
        (&post, "/v2/session", Route::Sessions, Class::Money),
        (&post, "/v2/session/", Route::Sessions, Class::Money),
        (&post, "/v2/session/card", Route::CardSession, Class::Money),
        (&get, "/v2/session/x", Route::Session, Class::Session),
        (&get, "/v2/session/x/", Route::Session, Class::Session),
        (&patch, "/v2/session/x/card", Route::SessionCard, Class::Money),
        (&get, "/v2/session/card/token/t", Route::CardToken, Class::Money),
        (&get, "/v2/session/card/token", Route::Other, Class::Read),
        (&get, "/v2/order/12a-g", Route::Order, Class::Read),
        (&patch, "/v2/order/12a-g", Route::Order, Class::Money),
        (&delete, "/v2/order/o/checkout", Route::Checkout, Class::Money),
        (&patch, "/v2/order/o/checkout", Route::Checkout, Class::Money),
        (&post, "/v2/order/o/capture", Route::Capture, Class::Money),
        (&post, "/v2/order/o/capture/", Route::Capture, Class::Money),
        (&post, "/v2/order/o/refund", Route::Refund, Class::Money),
        (&post, "/v2/order/o/release", Route::Release, Class::Money),
        (&post, "/v2/order/o/reauthorize", Route::Reauthorize, Class::Money),
        (&post, "/v2/order/o/upcharge", Route::Upcharge, Class::Money),
        (&get, "/v2/customer", Route::Customers, Class::Read),
        (&get, "/v2/customer/c", Route::Customer, Class::Read),
        (&delete, "/v2/customer/c", Route::Customer, Class::Money),
        (&post, "/v2/customer/c/preapprove", Route::Preapprove, Class::Money),
        (&post, "/v2/customer/c/order", Route::CustomerOrder, Class::Money),
        (&get, "/v2/token/t/session", Route::TokenSession, Class::Read),
        (&get, "/v2/token/t/customer", Route::TokenCustomer, Class::Read),
        (&post, "/v2/webhooks", Route::Webhooks, Class::Webhooks),
        (&get, "/v2/webhooks", Route::Webhooks, Class::Webhooks),
        (&post, "/v2/webhooks/test", Route::WebhookTest, Class::Webhooks),
        (&delete, "/v2/webhooks/w", Route::Webhook, Class::Webhooks),
        (&patch, "/v2/webhooks/w/", Route::Webhook, Class::Webhooks),
        (&get, "/v2/settlements/summaries", Route::SettlementSummaries, Class::Report),
        (&get, "/v2/settlements/details/p", Route::SettlementDetails, Class::Report),
        (&get, "/v2/orders/report", Route::OrdersReport, Class::Report),
        (&get, "/v2/interest/balance", Route::InterestBalance, Class::Report),
        (&get, "/v2/interest/activity", Route::InterestActivity, Class::Report),
        (&get, "/v2/orders/report/", Route::OrdersReport, Class::Report),
        (&get, "/v2/feature-flags/is-express-checkout", Route::FeatureFlag, Class::Read),
        (&post, "/v2/configuration", Route::Configuration, Class::Money),
        (&post, "/v2/widget/queue", Route::WidgetQueue, Class::Money),
        (&get, "/v2/new/thing", Route::Other, Class::Read),
        (&post, "/v2/new/thing", Route::Other, Class::Money),
        (&post, "/v2/order/o/new", Route::Other, Class::Money),
        (&get, "/v2/order//capture", Route::Other, Class::Read),
        (&get, "/v2/session/", Route::Sessions, Class::Read),
        (&get, "/v2/", Route::Other, Class::Read),
    ] {
        assert_eq!(route(path), Some(expected), "{path}");
        assert_eq!(expected.class(method), class, "{method} {path}");
    }
    for path in ["/", "/v2", "/v1/session", "/V2/session", "/v22/session", ""] {
        assert_eq!(route(path), None, "{path}");
    }
}

#[test]
fn only_a_uuid_in_its_usual_form_names_a_cached_session() {
    let session = |path: &str| Matched::path(path).and_then(|matched| matched.session());
    let uuid = Uuid::try_parse(UUID).ok();
    assert_eq!(session(&format!("/v2/session/{UUID}")), uuid);
    assert_eq!(session(&format!("/v2/session/{}", UUID.to_uppercase())), uuid, "one key in either case");
    assert_eq!(session(&format!("/v2/session/{}", UUID.replace('-', ""))), None);
    assert_eq!(session(&format!("/v2/session/{{{UUID}}}")), None);
    assert_eq!(session(&format!("/v2/order/{UUID}")), None);
    assert_eq!(session("/v2/session/12a34bc5-6de7-890f-g123-4hi1238jk902"), None);
    assert_eq!(session(&format!("/v2/session/{UUID}/")), None, "to the gateway this may be another resource");
}

#[test]
fn card_data_is_known_however_its_path_is_spelt() {
    for path in [
        "session/card/token/t",
        "session/card/token/t/",
        "session/card/token/T/more/of/it",
        "SESSION/Card/tokeN/t",
        "%C5%BFession/card/token/t",
        "\u{17f}ession/card/token/t",
        "session/card/to%E2%84%AAen/t/x",
    ] {
        let matched = Matched::path(&format!("/v2/{path}")).expect("a call");
        assert_eq!(matched.route, Route::CardToken, "{path}");
        assert!(!format!("{matched:?}").contains("\"t\""), "the token is kept nowhere: {matched:?}");
        for method in [Method::GET, Method::HEAD, Method::POST, Method::OPTIONS] {
            assert_eq!(
                (matched.route.class(&method), matched.retry_safety(&method)),
                (Class::Money, RetrySafety::DestructiveRead)
            );
        }
    }
    for path in ["session/card/tokens/t", "session/cards/token/t", "session/x/token/t", "sessions/card/token/t"] {
        assert_eq!(route(&format!("/v2/{path}")), Some(Route::Other), "{path}");
    }
}

#[test]
fn what_a_log_may_name() {
    let uuid = Uuid::try_parse(UUID).ok();
    let named = |path: &str| {
        let matched = Matched::path(path).expect("a call");
        (matched.session(), matched.order().map(str::to_owned))
    };
    assert_eq!(named("/v2/order/12a-g/capture/"), (None, Some("12a-g".to_owned())));
    assert_eq!(named(&format!("/v2/session/{UUID}/card")), (uuid, None));
    let long = format!("/v2/order/{}", "a".repeat(65));
    for path in ["/v2/order/a%20b", "/v2/order/a.b", &long, "/v2/token/t/session", "/v2/customer/c", "/v2/order"] {
        assert_eq!(named(path), (None, None), "{path}");
    }
}

#[test]
fn the_calls_that_document_a_key() {
    for path in ["order/o/capture", "order/o/refund", "order/o/release", "order/o/reauthorize", "order/o/upcharge"]
        .into_iter()
        .chain(["customer/c/order"])
    {
        let matched = Matched::path(&format!("/v2/{path}")).expect("a call");
        let route = matched.route;
        assert!(route.is_keyed(&Method::POST), "{path}");
        assert!(!route.is_keyed(&Method::PATCH) && !route.is_keyed(&Method::GET), "{path}");
        assert_eq!(matched.retry_safety(&Method::POST), RetrySafety::Keyed, "{path}");
        assert_eq!(matched.retry_safety(&Method::PATCH), RetrySafety::Unkeyed, "{path}");
        let slash = Matched::path(&format!("/v2/{path}/")).expect("a call");
        assert_eq!(slash.retry_safety(&Method::POST), RetrySafety::Unkeyed, "{path}/");
    }
    for path in ["session", "order/o", "order/o/checkout", "customer/c", "customer/c/preapprove", "webhooks", "new"] {
        let route = Matched::path(&format!("/v2/{path}")).expect("a call").route;
        assert!(!route.is_keyed(&Method::POST), "{path}");
    }
}

#[test]
fn a_write_names_what_it_changes() {
    let purges = |path: &str| Matched::path(path).and_then(|matched| matched.purges());
    let order = Some(Tag::order("12a-g"));
    for path in ["/v2/order/12a-g", "/v2/order/12a-G/capture", "/v2/ORDER/12a-g/new/call/", "/v2/order/12%61-g"] {
        assert_eq!(purges(path), order, "{path}");
    }
    assert_eq!(purges("/v2/order/a%20b"), Some(Tag::order("a b")));
    assert_eq!(purges("/v2/token/T/x"), Some(Tag::token("t")));
    for tail in ["", "/", "/card", "/new/call"] {
        let session = Uuid::try_parse(UUID).ok().map(Tag::Session);
        for collection in ["session", "Session", "%C5%BFession", "\u{17f}ES\u{17f}ION"] {
            for identifier in [UUID.to_owned(), UUID.to_uppercase(), UUID.replace('-', ""), format!("{{{UUID}}}")] {
                let path = format!("/v2/{collection}/{identifier}{tail}");
                assert_eq!(purges(&path), session, "{path}");
            }
        }
    }
    assert_eq!(purges("/v2/to%E2%84%AAen/T/x"), Some(Tag::token("t")), "the sign of Kelvin");
    for path in [
        "/v2/session",
        "/v2/session/",
        "/v2/session//card",
        "/v2/session/card",
        "/v2/session/card/token/t",
        "/v2/session/x",
        "/v2/customer/c/order",
        "/v2/authentication/t",
        "/v2/order/",
        "/v2/orders/report",
        "/other",
    ] {
        assert_eq!(purges(path), None, "{path}");
    }
}

#[test]
fn only_a_known_call_names_what_is_logged() {
    for path in ["order/o/new", "ORDER/o/capture", &format!("session/{UUID}/new"), &format!("SESSION/{UUID}")] {
        let matched = Matched::path(&format!("/v2/{path}")).expect("a call");
        assert_eq!((matched.session(), matched.order()), (None, None), "{path}");
        assert!(matched.purges().is_some(), "{path}");
    }
}

#[test]
fn the_identifier_of_a_path_stays_out_of_debug_output() {
    for path in ["/v2/token/secret/session", "/v2/order/secret", "/v2/customer/secret"] {
        let matched = format!("{:?}", Matched::path(path));
        assert!(!matched.contains("secret"), "{matched}");
    }
}

proptest! {
    #[test]
    fn arbitrary_paths_never_panic(path in "\\PC{0,80}", tail in "[a-z%0-9/]{0,40}") {
        let _ = Matched::path(&path);
        let _ = Matched::path(&format!("/v2/{tail}")).map(|matched| matched.session());
        let _ = Matched::path(&format!("/v2/session/{path}/{tail}"));
        let _ = Matched::path(&format!("/v2/order/{tail}")).map(|matched| matched.purges());
    }
}
