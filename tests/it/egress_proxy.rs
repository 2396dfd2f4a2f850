//! Calls through an HTTP proxy are sealed by TLS to the gateway inside a tunnel. The proxy alone gets its credentials,
//! and without a tunnel no request is sent.

use http::HeaderValue;
use http::header::CONNECTION;
use sezzle_sidecar::app::StartError;
use sezzle_sidecar::simulator::{Options, Rule, Simulator};

use crate::support::egress::{Conduct, EgressProxy};
use crate::support::process::{Folder, Sidecar, free_address};
use crate::support::tls::Authority;
use crate::support::{Harness, Session, Setup, eventually};

const CREDENTIALS: &str = "sidecar:open-sesame";
const AUTHORIZATION: &str = "proxy-authorization: Basic c2lkZWNhcjpvcGVuLXNlc2FtZQ==";
/// A name that only the proxy can resolve.
const GATEWAY: &str = "gateway.invalid";
const ERRORS: &str = r#"upstream_errors_total{kind="egress_proxy"}"#;

fn setup(ca: &Authority, proxy: &str) -> Setup {
    Setup::default()
        .gateway(|gateway| gateway.tls = Some(ca.server(&[GATEWAY])))
        .gateway_host(GATEWAY)
        .set("GATEWAY__CA_FILE", ca.file())
        .set("GATEWAY__EGRESS_PROXY", proxy)
}

async fn ready(harness: &Harness) {
    harness.ready().await;
}

/// The sidecar works through the proxy, which learns only its own credentials and the gateway's name.
async fn works(setup: Setup, proxy: &EgressProxy, expected: &[&str]) {
    let harness = setup.start_with(|gateway| proxy.lead_to(gateway.addr())).await;
    ready(&harness).await;
    let session = Session::order(&harness.gateway).path;
    assert_eq!(harness.get(&session).await.status, 200);
    assert_eq!(harness.get("/v2/orders/report?start-date=2026-01-01").await.status, 200);
    assert_eq!((proxy.tunnels(), harness.gateway.connections()), (1, 1), "the tunnel is kept");

    let target = format!("{GATEWAY}:{}", harness.gateway.addr().port());
    let mut lines = vec![format!("CONNECT {target} HTTP/1.1"), format!("host: {target}")];
    lines.extend(expected.iter().map(|line| (*line).to_owned()));
    assert_eq!(proxy.heads(), [format!("{}\r\n\r\n", lines.join("\r\n"))]);
    let tunnelled = proxy.rest();
    assert_eq!(tunnelled.first(), Some(&0x16), "TLS begins at once");
    for secret in ["sz_p", "Bearer", "/v2/", "Basic"] {
        assert!(!tunnelled.windows(secret.len()).any(|window| window == secret.as_bytes()), "{secret}");
    }
    for call in harness.gateway.journal() {
        assert!(!call.headers.contains_key("proxy-authorization"), "{}", call.path);
    }
    harness.stop().await;
}

#[tokio::test]
async fn calls_go_through_a_tunnel_and_the_proxy_resolves_the_name() {
    let (ca, proxy) = (Authority::new(), EgressProxy::start(Conduct::Tunnel).await);
    works(setup(&ca, &proxy.url()), &proxy, &[]).await;
}

#[tokio::test]
async fn the_proxy_gets_its_credentials_and_the_gateway_never_does() {
    let (ca, folder) = (Authority::new(), Folder::new());
    let file = folder.write("credentials", &format!("{CREDENTIALS}\n"));
    for (name, value) in [("FILE", file.as_str()), ("", CREDENTIALS)] {
        let proxy = EgressProxy::start(Conduct::Wants(AUTHORIZATION)).await;
        let name = format!("GATEWAY__EGRESS_PROXY_CREDENTIALS_{name}");
        works(setup(&ca, &proxy.url()).set(name.trim_end_matches('_'), value), &proxy, &[AUTHORIZATION]).await;
    }
}

#[tokio::test]
async fn without_a_tunnel_nothing_but_connect_is_sent() {
    let ca = Authority::new();
    let table = [
        ("no credentials", Conduct::Wants(AUTHORIZATION)),
        ("a rule against it", Conduct::Answer("HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno")),
        ("the gateway is not reached", Conduct::Close("HTTP/1.1 502 Bad Gateway\r\n\r\n<html>")),
        (
            "a redirect",
            Conduct::Answer("HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1\r\ncontent-length: 0\r\n\r\n"),
        ),
        (
            "another protocol",
            Conduct::Answer("HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n"),
        ),
        ("no HTTP", Conduct::Answer("220 smtp.example ESMTP\r\n")),
        ("TLS", Conduct::Answer("\x15\x03\x03\x00\x02\x02\x46")),
        ("an early end", Conduct::Close("")),
        ("half a head", Conduct::Close("HTTP/1.1 200 OK\r\nx-a: b\r\n")),
        ("a head without an end", Conduct::Endless),
        ("more than a head", Conduct::Answer("HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")),
    ];
    for (what, conduct) in table {
        let proxy = EgressProxy::start(conduct).await;
        let harness = setup(&ca, &proxy.url()).start_unready().await;
        no_tunnel(harness, what).await;
        assert!(proxy.heads().iter().all(|head| head.starts_with("CONNECT gateway.invalid:")), "{what}");
        assert!(!proxy.heads().is_empty() && proxy.rest().is_empty(), "{what}: {:?}", proxy.rest());
    }
}

#[tokio::test]
async fn a_proxy_that_is_down_or_hangs_is_given_up() {
    let ca = Authority::new();
    let down = setup(&ca, &format!("http://{}", free_address())).start_unready().await;
    no_tunnel(down, "down").await;
    let unknown = setup(&ca, "http://proxy.invalid:3128").start_unready().await;
    no_tunnel(unknown, "a name that does not exist").await;
    let proxy = EgressProxy::start(Conduct::Answer("")).await;
    let hanging = setup(&ca, &proxy.url()).set("GATEWAY__CONNECT_TIMEOUT", "100ms").start_unready().await;
    no_tunnel(hanging, "hangs").await;
    assert!(proxy.rest().is_empty());
}

/// The errors are counted as the proxy's, and nothing reached the gateway.
async fn no_tunnel(harness: Harness, what: &str) {
    eventually(what, async || harness.metric(ERRORS).await >= 1.0).await;
    assert_eq!(harness.metric("upstream_connections_opened_total").await, 0.0, "{what}");
    assert_eq!(harness.gateway.connections(), 0, "{what}: no way round the proxy");
    harness.stop().await;
}

#[tokio::test]
async fn a_proxy_cannot_pass_for_the_gateway() {
    let (ca, other, proxy) = (Authority::new(), Authority::new(), EgressProxy::start(Conduct::Tunnel).await);
    let harness = setup(&ca, &proxy.url())
        .gateway(|gateway| gateway.tls = Some(other.server(&[GATEWAY])))
        .start_with(|gateway| proxy.lead_to(gateway.addr()))
        .await;
    let errors = r#"upstream_errors_total{kind="tls_certificate"}"#;
    eventually("refused", async || harness.metric(errors).await >= 1.0).await;
    assert!(proxy.tunnels() >= 1 && harness.gateway.journal().is_empty());
    harness.stop().await;

    // A proxy that answers for the gateway in plain HTTP.
    let plain = Simulator::start(Options::default()).await.expect("starts");
    let proxy = EgressProxy::start(Conduct::Tunnel).await;
    proxy.lead_to(plain.addr());
    let harness = setup(&ca, &proxy.url()).start_unready().await;
    eventually("refused", async || harness.metric(r#"upstream_errors_total{kind="tls"}"#).await >= 1.0).await;
    assert!(plain.journal().is_empty());
    harness.stop().await;
}

#[tokio::test]
async fn a_caller_learns_that_nothing_was_sent_and_no_address() {
    let (ca, mut proxy) = (Authority::new(), EgressProxy::start(Conduct::Tunnel).await);
    let harness = setup(&ca, &proxy.url()).start_with(|gateway| proxy.lead_to(gateway.addr())).await;
    ready(&harness).await;
    // The open tunnel ends with this answer, and no other is made.
    let close = HeaderValue::from_static("close");
    harness.gateway.script(Rule::path("/v2/orders/report").set_header(CONNECTION, close));
    proxy.stop_accepting().await;
    assert_eq!(harness.get("/v2/orders/report?start-date=2026-01-01").await.status, 200);
    let answer = harness.post("/v2/session", "{}").await;
    assert_eq!((answer.status, answer.error_code().as_str()), (503, "sidecar.upstream_unreachable"));
    assert_eq!(answer.header("proxy-status"), "sezzle-sidecar; error=destination_unavailable");
    let shown = format!("{}{:?}", answer.text(), answer.headers);
    for address in [proxy.url().trim_start_matches("http://"), GATEWAY, "127.0.0.1"] {
        assert!(!shown.contains(address), "{shown}");
    }
    harness.stop().await;
}

#[tokio::test]
async fn the_log_tells_why_there_is_no_tunnel_and_never_the_credentials() {
    let ca = Authority::new();
    for (conduct, expected) in [
        (Conduct::Wants("another"), "(407)"),
        (Conduct::Answer("HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n"), "(403)"),
        (Conduct::Answer("HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n"), "(502)"),
    ] {
        let proxy = EgressProxy::start(conduct).await;
        let options = Options { tls: Some(ca.server(&["127.0.0.1"])), ..Options::default() };
        let (file, url) = (ca.file(), proxy.url());
        let variables = [
            ("GATEWAY__CA_FILE", file.as_str()),
            ("GATEWAY__EGRESS_PROXY", &url),
            ("GATEWAY__EGRESS_PROXY_CREDENTIALS", CREDENTIALS),
            ("LOG__LEVEL", "trace"),
        ];
        let mut sidecar = Sidecar::start_unready(options, &variables).await;
        sidecar.process.says(expected).await;
        let ended = sidecar.stop().await;
        let log = format!("{}{}", ended.stdout, ended.stderr);
        for secret in ["open-sesame", "b3Blbi1zZXNhbWU", "c2lkZWNhcjp"] {
            assert!(!log.contains(secret), "{log}");
        }
    }
}

#[tokio::test]
async fn credentials_that_cannot_be_used_stop_the_start() {
    let (ca, folder) = (Authority::new(), Folder::new());
    for content in ["", "canary", ":canary", "user:ca nary"] {
        let file = folder.write("credentials", content);
        let started =
            setup(&ca, "http://127.0.0.1:9").set("GATEWAY__EGRESS_PROXY_CREDENTIALS_FILE", file).try_start().await;
        let error = started.err().unwrap_or_else(|| panic!("{content:?} is accepted"));
        assert!(matches!(error, StartError::EgressKey(_) | StartError::EgressProxy(_)), "{error}");
        assert!(error.to_string().starts_with("gateway.egress_proxy"), "{error}");
        assert!(!error.to_string().contains("canary"), "{error}");
    }
}

#[tokio::test]
async fn the_form_of_the_proxys_answer_does_not_keep_from_the_tunnel() {
    let ca = Authority::new();
    let many = format!("HTTP/1.1 200 Connection established\r\n{}\r\n", "Set-Cookie: a=b\r\n".repeat(110)).leak();
    let large = format!("HTTP/1.1 200 OK\r\nx-filler: {}\r\n\r\n", "x".repeat(65_000)).leak();
    for answer in [
        many,
        large,
        "HTTP/1.1 200 OK\r\nProxy-agent : x\r\n\r\n",
        "HTTP/1.1 200 OK\r\nProxy-agent: x\r\n y\r\n\r\n",
        "HTTP/1.1 200 OK\r\nNonsense\r\n\r\n",
    ] {
        let proxy = EgressProxy::start(Conduct::TunnelWith(answer)).await;
        let harness = setup(&ca, &proxy.url()).start_with(|gateway| proxy.lead_to(gateway.addr())).await;
        ready(&harness).await;
        assert_eq!(harness.get("/v2/customer").await.status, 200, "{answer:.60}");
        harness.stop().await;
    }
}
