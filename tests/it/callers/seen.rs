//! Operators see callers and refusals: `explain`, the status page, metrics that stay small.

use http::Method;
use sezzle_sidecar::simulator::Options;

use super::{CALLERS, READER, Scene, TILL, at, secrets};
use crate::support::process::{Folder, run};
use crate::support::{Setup, eventually};

/// Explains a request to these callers.
async fn explain(configuration: &str, arguments: &[&str]) -> String {
    let folder = Folder::new();
    secrets(&folder);
    let file = folder.write("sidecar.toml", &at(&folder, configuration));
    let keys = Options::default();
    let variables = [
        ("GATEWAY__ENVIRONMENT", "sandbox"),
        ("CREDENTIALS__PUBLIC_KEY", &keys.public_key),
        ("CREDENTIALS__PRIVATE_KEY", &keys.private_key),
        ("PROXY__LISTEN", "127.0.0.1:8080,unix:/run/proxy.sock"),
    ];
    for (name, value) in
        [("till", format!("Bearer {TILL}")), ("reader", format!("bearer {READER}")), ("x", "Bearer x".into())]
    {
        folder.write(&format!("{name}.header"), &format!("Authorization: {value}\n"));
    }
    let in_folder = |argument: &&str| argument.replace('@', &format!("@{}/", folder.path().display()));
    let arguments: Vec<String> = arguments.iter().map(in_folder).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let ended = run(&[&["explain", "--config", &file], &arguments[..]].concat(), &variables).await;
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{arguments:?}");
    assert!(!ended.stdout.contains(TILL) && !ended.stdout.contains(READER), "{}", ended.stdout);
    ended.stdout
}

#[tokio::test]
async fn explain_says_which_caller_a_request_would_be_and_why_it_is_refused() {
    let with_uid = format!("{CALLERS}\n[[callers]]\nname = \"local\"\nuid = 7\nallow = [\"read\"]\n");
    let certified = "[proxy.tls]\ncertificate_file = \"/a\"\nkey_file = \"/b\"\nclient_ca_file = \"/c\"\n[[callers]]\n\
                     name = \"far\"\ncertificate = \"Far.Shop\"\nallow = [\"read\"]\n";
    let of_two = format!("{certified}[[callers]]\nname = \"near\"\ncertificate = \"near.shop\"\nallow = [\"read\"]\n");
    let bounded = CALLERS.replacen("\"capture\"]", "\"capture\"]\nmax_amount = [\"5.00 USD\"]", 1);
    for (configuration, arguments, expected) in [
        (
            CALLERS,
            &["POST", "/v2/order/o/capture", "-H", "@till.header"][..],
            &["caller      till, told by its token; allow: session.read, checkout, capture", "request     let through"]
                [..],
        ),
        (
            CALLERS,
            &["POST", "/v2/order/o/refund", "-H", "@reader.header"],
            &[
                "caller      reader, told by its token; allow: order.read, customer.read",
                "request     refused: 403 sidecar.not_allowed: this caller may not do this: callers.allow has no \
                 \"refund\" for it; the sidecar sent nothing to Sezzle",
            ],
        ),
        (
            CALLERS,
            &["GET", "/v2/customer", "-H", "@x.header"],
            &[
                "caller      unknown: no caller has this uid, certificate or token",
                "request     refused: 401 sidecar.unknown_caller: no caller of the sidecar has this request's uid, \
                 certificate, token or keys, so the sidecar sent nothing to Sezzle; send a caller's token, or exchange \
                 a caller's keys for one",
            ],
        ),
        (
            CALLERS,
            &["POST", "/v2/authentication"],
            &["caller      told by the keys in the body", "request     let through"],
        ),
        (&with_uid, &["GET", "/v2/customer", "--uid", "7"], &["caller      local, told by its uid; allow: read"]),
        (
            &with_uid,
            &["GET", "/v2/customer", "--uid", "8"],
            &["caller      unknown: no caller has this uid, certificate or token"],
        ),
        (
            certified,
            &["GET", "/v2/customer", "--certificate", "spiffe://shop/x", "--certificate", "FAR.shop"],
            &["caller      far, told by its certificate; allow: read", "request     let through"],
        ),
        (
            &of_two,
            &["GET", "/v2/customer", "--certificate", "far.shop", "--certificate", "near.shop"],
            &["caller      unknown: the certificate has names of two callers: far, near"],
        ),
        (
            &bounded,
            &["POST", "/v2/order/o/capture", "-H", "@till.header"],
            &["amount      at most 5.00 USD, read from capture_amount in the body", "request     let through"],
        ),
    ] {
        let text = explain(configuration, arguments).await;
        for line in expected {
            assert!(text.lines().any(|found| found == *line), "{arguments:?} does not say {line:?}:\n{text}");
        }
    }
    assert!(!explain("", &["GET", "/v2/customer"]).await.contains("caller"), "nothing without callers");
}

#[tokio::test]
async fn the_status_page_lists_callers_and_refusals() {
    let scene = Scene::start().await;
    assert_eq!(scene.get("/v2/customer", TILL).await.status, 403);
    for _ in 0..3 {
        assert_eq!(scene.sidecar.get("/v2/customer").await.status, 401);
    }
    let status = async || scene.sidecar.client.get(scene.sidecar.ops, "/status.json").await.json();
    eventually("the refusals are seen", async || status().await["hour"]["unknown_callers"] == 3).await;
    let json = status().await;
    let callers = json["known_callers"].as_array().expect("a list");
    assert_eq!(callers.len(), 3);
    assert_eq!((&callers[0]["name"], &callers[0]["told_by"]), (&"till".into(), &"[left out]".into()));
    assert_eq!((&callers[0]["not_allowed"], &callers[2]["allow"]), (&1.into(), &"all".into()));
    let conditions = json["conditions"].as_array().expect("a list");
    assert!(conditions.iter().any(|one| one["condition"] == "callers_refused"), "{conditions:?}");
    let page = scene.sidecar.client.get(scene.sidecar.ops, "/").await.text();
    for part in ["Who may call", "reader", "[left out]", "session.read, checkout, capture"] {
        assert!(page.contains(part), "{part}");
    }
    assert!(!page.contains("own keys"), "everybody who reaches the listener would see whom to imitate");
    scene.sidecar.stop().await;
}

#[tokio::test]
async fn callers_make_no_more_series_than_their_number() {
    let folder = Folder::new();
    let callers: String = (0..100)
        .map(|number| {
            let name = format!("caller-{number:025}");
            let file = folder.write(&name, &format!("token-of-{name}"));
            format!("[[callers]]\nname = \"{name}\"\ntoken_file = \"{file}\"\nallow = [\"read\"]\n")
        })
        .collect();
    let harness = Setup::default().file(folder.write("callers.toml", &callers)).start().await;
    let series = async || {
        let text = harness.client.get(harness.ops, "/metrics").await.text();
        text.lines().filter(|line| line.starts_with("sezzle_sidecar_caller_requests_refused_total{")).count()
    };
    assert_eq!(series().await, 200);
    for number in 0..200 {
        let authorization = format!("Bearer token-of-caller-{number:025}");
        harness.send(Method::POST, "/v2/order/o/refund", &[("authorization", &authorization)], "").await;
    }
    assert_eq!(series().await, 200);
    assert_eq!(harness.metric("requests_refused_total{reason=\"unknown_caller\"}").await, 100.0);
    assert_eq!(harness.metric("requests_refused_total{reason=\"not_allowed\"}").await, 100.0);
    harness.stop().await;
}
