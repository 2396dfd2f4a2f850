//! Clocks that differ, and token exchanges that fail.

use http::StatusCode;
use sezzle_sidecar::simulator::{Fault, Rule};

use super::scene::{Call, Scene};
use super::{NO_TOKEN, Row, Sezzle, at_once, hold};
use crate::support::{Setup, eventually};

const AUTHENTICATION: &str = "/v2/authentication";

#[tokio::test]
async fn a_gateway_whose_clock_is_a_day_off() {
    hold(vec![
        Row::new("ahead").setup(|setup| setup.gateway(|gateway| gateway.clock_skew = 86_400)),
        Row::new("behind").setup(|setup| setup.gateway(|gateway| gateway.clock_skew = -86_400)),
    ])
    .await;
}

#[tokio::test]
async fn without_a_token_nothing_is_sent_and_the_sidecar_recovers_by_itself() {
    let faults: [(&str, super::Bend); 6] = [
        ("500", |rule| rule.status(StatusCode::INTERNAL_SERVER_ERROR)),
        ("503", |rule| rule.status(StatusCode::SERVICE_UNAVAILABLE)),
        ("HTML", |rule| rule.status(StatusCode::OK).body("<html>hello</html>")),
        ("empty", |rule| rule.status(StatusCode::OK).body("")),
        ("an empty 201", |rule| rule.status(StatusCode::CREATED).body("")),
        ("cut", |rule| rule.fault(Fault::CutBody(20))),
    ];
    let wrong = at_once(faults.map(|(fault, bend)| async move {
        let limits = ["READ", "WRITE", "REPORT"].map(|class| format!("GATEWAY__{class}_TIMEOUT"));
        let setup = limits.iter().fold(Setup::default(), |setup, limit| setup.set(limit, "300ms"));
        let mut harness = setup.start_with(|gateway| gateway.script(bend(Rule::path(AUTHENTICATION)))).await;
        eventually(fault, async || harness.gateway.count("POST", AUTHENTICATION) > 0).await;
        let row = Row::new(fault).reads(0, NO_TOKEN).keyed(0, 0, NO_TOKEN).unkeyed(0, 0, NO_TOKEN);
        let mut wrong = None;
        // A refund needs an earlier capture.
        for call in Call::ALL.into_iter().filter(|call| *call != Call::Refund) {
            let scene = Scene::prepare(call, harness).await;
            wrong = wrong.or(row.check(&scene).await);
            harness = scene.harness;
        }
        harness.gateway.clear_rules();
        eventually("recovers", async || harness.get("/v2/customer").await.status == 200).await;
        harness.stop().await;
        wrong
    }))
    .await;
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn a_token_is_taken_from_a_200_as_from_a_201() {
    let token = r#"{"token":"of-the-200","expiration_date":"2099-01-01T00:00:00Z","merchant_uuid":"m"}"#;
    let setup = Setup::default();
    let harness =
        setup.start_with(|gateway| gateway.script(Rule::path(AUTHENTICATION).status(StatusCode::OK).body(token))).await;
    harness.ready().await;
    harness.gateway.script(Rule::path("/v2/customer").status(StatusCode::OK).body("{}"));
    assert_eq!(harness.get("/v2/customer").await.status, 200);
    let call = harness.gateway.journal().pop().expect("a call");
    assert_eq!(crate::support::header(&call.headers, "authorization"), "Bearer of-the-200");
    harness.stop().await;
    hold(vec![Row::new("201, as Sezzle answers").reads(1, Sezzle)]).await;
}
