//! `gateway.resolver = "dns"`: the gateway's name is resolved by name servers, and by nothing else.

use std::fmt::Display;
use std::net::Ipv4Addr;
use std::time::Duration;

use sezzle_sidecar::simulator::{Options, Simulator};
use tokio::net::{TcpStream, UdpSocket};

use crate::support::client::Client;
use crate::support::name_server::NameServer;
use crate::support::process::{Folder, Process, check, free_address};
use crate::support::tls::Authority;
use crate::support::{Harness, Setup, eventually, not_tried};

/// A sidecar whose gateway is `host`, and which asks this name server, or these with commas between them.
fn setup(ca: &Authority, host: &'static str, servers: impl Display) -> Setup {
    Setup::default()
        .gateway(|gateway| gateway.tls = Some(ca.server(&["gateway.sezzle.com", "localhost"])))
        .gateway_host(host)
        .set("GATEWAY__CA_FILE", ca.file())
        .set("GATEWAY__RESOLVER", "dns")
        .set("GATEWAY__NAMESERVERS", servers)
        .set("GATEWAY__WRITE_TIMEOUT", "200ms")
}

async fn called(harness: &Harness, path: &str) {
    assert_eq!(harness.get(path).await.status, 200, "{path}");
}

#[tokio::test]
async fn the_gateway_is_found_by_the_name_server_and_an_answer_is_kept_for_its_time() {
    let (ca, server) = (Authority::new(), NameServer::start(600).await);
    let harness = setup(&ca, "gateway.sezzle.com", server.address).start().await;
    called(&harness, "/v2/customer").await;
    assert_eq!(server.asked(), 1);
    // Each report has a connection of its own.
    let reports = (0..3).map(|_| called(&harness, "/v2/orders/report?start-date=2026-01-01"));
    futures_util::future::join_all(reports).await;
    assert!(harness.gateway.connections() >= 2, "{}", harness.gateway.connections());
    assert_eq!(server.asked(), 1, "the answer is kept");
    harness.stop().await;
}

#[tokio::test]
async fn an_answer_without_time_is_asked_for_again() {
    let (ca, server) = (Authority::new(), NameServer::start(0).await);
    let harness = setup(&ca, "gateway.sezzle.com", server.address).start().await;
    let reports = (0..3).map(|_| called(&harness, "/v2/orders/report?start-date=2026-01-01"));
    futures_util::future::join_all(reports).await;
    assert!(server.asked() > 1, "{}", server.asked());
    harness.stop().await;
}

#[tokio::test]
async fn a_name_that_no_server_knows_is_not_resolved() {
    let (ca, server) = (Authority::new(), NameServer::start(600).await);
    let harness = setup(&ca, "gateway.example", server.address).start_unready().await;
    let errors = r#"upstream_errors_total{kind="dns"}"#;
    eventually("the name is not resolved", async || harness.metric(errors).await >= 1.0).await;
    let answer = harness.post("/v2/session", "{}").await;
    assert_eq!((answer.status, answer.error_code().as_str()), (503, "sidecar.no_token"));
    assert_eq!(server.asked(), 0);
    harness.stop().await;
}

async fn gets_ready(harness: &Harness) {
    eventually("ready", async || {
        // The sidecar's next attempt to get a token. The answers of name servers age by the system's clock.
        harness.clock.advance(Duration::from_secs(1));
        harness.client.get(harness.ops, "/readyz").await.status == 200
    })
    .await;
}

#[tokio::test]
async fn a_name_that_did_not_exist_is_asked_for_again_within_seconds() {
    let (ca, server) = (Authority::new(), NameServer::start(600).await);
    server.deny(true);
    let harness = setup(&ca, "gateway.sezzle.com", server.address).start_unready().await;
    let errors = r#"upstream_errors_total{kind="dns"}"#;
    eventually("the name does not exist", async || harness.metric(errors).await >= 1.0).await;
    server.deny(false);
    gets_ready(&harness).await;
    harness.stop().await;
}

#[tokio::test]
async fn an_answer_that_leads_to_nobody_is_asked_for_again() {
    let (ca, server) = (Authority::new(), NameServer::start(u32::MAX >> 1).await);
    // Nobody listens there.
    server.lead_to(Ipv4Addr::new(127, 0, 0, 77));
    let harness = setup(&ca, "gateway.sezzle.com", server.address).start_unready().await;
    let refused = r#"upstream_errors_total{kind="connection_refused"}"#;
    eventually("nobody is there", async || harness.metric(refused).await >= 1.0).await;
    server.lead_to(Ipv4Addr::LOCALHOST);
    gets_ready(&harness).await;
    harness.stop().await;
}

#[tokio::test]
async fn a_gateway_that_cannot_be_reached_is_asked_for_about_once_a_second() {
    let (ca, server) = (Authority::new(), NameServer::start(600).await);
    let harness = setup(&ca, "gateway.sezzle.com", server.address).start().await;
    assert_eq!(server.asked(), 1);
    harness.gateway_goes_away().await;
    let began = tokio::time::Instant::now();
    while server.asked() < 3 {
        assert!(began.elapsed() < Duration::from_secs(20), "{}", server.asked());
        let answer = harness.post("/v2/session", "{}").await;
        assert_eq!(answer.error_code(), "sidecar.upstream_unreachable");
    }
    // The first question comes at once, and each further one a second later.
    assert!(began.elapsed() >= Duration::from_millis(900), "{:?}", began.elapsed());
    harness.stop().await;
}

/// In a mount namespace of its own, where `/etc/resolv.conf` names no server.
#[tokio::test]
async fn missing_name_servers_are_named_beside_other_mistakes() {
    let folder = Folder::new();
    folder.write("resolv.conf", "search example\n");
    const WITHOUT: &str = "unshare -m sh -c 'mount --bind resolv.conf /etc/resolv.conf && exec \"$@\"' sh ";
    if Process::shell(&format!("{WITHOUT} true"), folder.path(), &[]).end().await.code != Some(0) {
        return not_tried("/etc/resolv.conf: this user cannot make a mount namespace");
    }
    let variables = [
        ("GATEWAY__ENVIRONMENT", "sandbox"),
        ("GATEWAY__RESOLVER", "dns"),
        ("CREDENTIALS__PUBLIC_KEY", "sz_pub_1"),
        ("CREDENTIALS__PRIVATE_KEY_FILE", "/absent/private"),
    ];
    let sidecar = Process::shell(&format!("exec {WITHOUT} sezzle-sidecar run"), folder.path(), &variables);
    let ended = sidecar.end().await;
    assert!(ended.code.is_some_and(|code| code != 0), "{ended:?}");
    for words in ["/absent/private", "names no name server"] {
        assert!(ended.stderr.contains(words), "{words}: {}", ended.stderr);
    }
}

/// In a mount namespace of its own, where `/etc/hosts` leads the gateway's name to an address at which nobody listens.
#[tokio::test]
async fn the_hosts_file_leads_the_sidecar_nowhere() {
    let (ca, server, folder) = (Authority::new(), NameServer::start(600).await, Folder::new());
    folder.write("hosts", "127.0.0.2 gateway.sezzle.com\n");
    const ELSEWHERE: &str = "unshare -m sh -c 'mount --bind hosts /etc/hosts && exec \"$@\"' sh ";
    if Process::shell(&format!("{ELSEWHERE} true"), folder.path(), &[]).end().await.code != Some(0) {
        return not_tried("/etc/hosts: this user cannot make a mount namespace");
    }
    let options = Options { tls: Some(ca.server(&["gateway.sezzle.com"])), ..Options::default() };
    let keys = (options.public_key.clone(), options.private_key.clone());
    let gateway = Simulator::start(options).await.expect("gateway starts");
    let url = format!("https://gateway.sezzle.com:{}", gateway.addr().port());
    for (resolver, servers, ready) in [("dns", server.address.to_string(), true), ("system", String::new(), false)] {
        let (proxy, ops) = (free_address().to_string(), free_address());
        let variables = [
            ("GATEWAY__ENVIRONMENT", "sandbox"),
            ("GATEWAY__URL", url.as_str()),
            ("GATEWAY__CA_FILE", &ca.file()),
            ("GATEWAY__RESOLVER", resolver),
            ("GATEWAY__NAMESERVERS", &servers),
            ("CREDENTIALS__PUBLIC_KEY", &keys.0),
            ("CREDENTIALS__PRIVATE_KEY", &keys.1),
            ("PROXY__LISTEN", &proxy),
            ("OPS__LISTEN", &ops.to_string()),
        ];
        let sidecar = Process::shell(&format!("exec {ELSEWHERE} sezzle-sidecar run"), folder.path(), &variables);
        let client = Client::new();
        let (metric, least) = if ready {
            ("upstream_connections_opened_total", 1.0)
        } else {
            (r#"upstream_errors_total{kind="connection_refused"}"#, 1.0)
        };
        eventually(resolver, async || {
            TcpStream::connect(ops).await.is_ok() && client.metric(ops, metric).await >= least
        })
        .await;
        let status = client.get(ops, "/readyz").await.status;
        assert!(ready || status == 503, "{resolver}");
        sidecar.signal("TERM");
        assert_eq!(sidecar.end().await.code, Some(0), "{resolver}");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn a_name_server_that_is_silent_has_a_deadline() {
    let ca = Authority::new();
    let silent = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("bound");
    let address = silent.local_addr().expect("an address");
    let harness = setup(&ca, "gateway.sezzle.com", address).start_unready().await;
    let began = tokio::time::Instant::now();
    let errors = r#"upstream_errors_total{kind="dns"}"#;
    eventually("the lookup ends", async || harness.metric(errors).await >= 1.0).await;
    assert!(began.elapsed() < Duration::from_secs(9), "{:?}", began.elapsed());
    harness.stop().await;
}

#[tokio::test]
async fn a_name_server_that_fails_or_is_silent_leaves_the_answer_to_the_next() {
    const SERVFAIL: u8 = 2;
    const REFUSED: u8 = 5;
    let (ca, silent) = (Authority::new(), UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("bound"));
    let failing = NameServer::start(600).await;
    // The failure comes first, in whatever order the servers are asked.
    let knowing = NameServer::answering_after(Duration::from_millis(50), 600).await;
    for (code, first) in
        [(SERVFAIL, failing.address), (REFUSED, failing.address), (0, silent.local_addr().expect("an address"))]
    {
        failing.fail(code);
        let servers = format!("{first},{}", knowing.address);
        let harness = setup(&ca, "gateway.sezzle.com", servers).start().await;
        called(&harness, "/v2/customer").await;
        assert_eq!(harness.metric(r#"upstream_errors_total{kind="dns"}"#).await, 0.0, "{code}");
        harness.stop().await;
    }
}

#[tokio::test]
async fn a_kept_answer_is_used_while_an_earlier_name_server_is_silent() {
    let (ca, silent) = (Authority::new(), UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("bound"));
    let knowing = NameServer::start(600).await;
    let servers = format!("{},{}", silent.local_addr().expect("an address"), knowing.address);
    let harness = setup(&ca, "gateway.sezzle.com", servers).start().await;
    let asked = async || {
        let mut asked = 0;
        while silent.try_recv(&mut [0; 512]).is_ok() {
            asked += 1;
        }
        asked
    };
    assert!(asked().await > 0, "the first server is asked first");
    // Each report has a connection of its own.
    let reports = (0..3).map(|_| called(&harness, "/v2/orders/report?start-date=2026-01-01"));
    futures_util::future::join_all(reports).await;
    assert!(harness.gateway.connections() >= 2, "{}", harness.gateway.connections());
    assert_eq!((asked().await, knowing.asked()), (0, 1), "the answer is kept");
    harness.stop().await;
}

#[tokio::test]
async fn the_first_name_server_that_answers_decides() {
    let ca = Authority::new();
    let (denying, knowing) = (NameServer::start(600).await, NameServer::start(600).await);
    denying.deny(true);
    let servers = format!("{},{}", denying.address, knowing.address);
    let harness = setup(&ca, "gateway.sezzle.com", servers).start_unready().await;
    let errors = r#"upstream_errors_total{kind="dns"}"#;
    eventually("the name does not exist", async || harness.metric(errors).await >= 1.0).await;
    assert_eq!(knowing.asked(), 0, "the name does not exist, says the first");
    harness.stop().await;
    let servers = format!("{},{}", knowing.address, denying.address);
    let harness = setup(&ca, "gateway.sezzle.com", servers).start().await;
    called(&harness, "/v2/customer").await;
    harness.stop().await;
}

#[tokio::test]
async fn check_warns_of_a_resolver_that_an_egress_proxy_makes_idle() {
    let warning = "# gateway.resolver: the proxy of gateway.egress_proxy resolves the name of the gateway";
    for (resolver, proxy, is_warned) in [
        ("dns", "http://proxy.internal:3128", true),
        ("dns", "", false),
        ("system", "http://proxy.internal:3128", false),
    ] {
        let variables = [("GATEWAY__RESOLVER", resolver), ("GATEWAY__EGRESS_PROXY", proxy)];
        let set: Vec<_> = variables.into_iter().filter(|(_, value)| !value.is_empty()).collect();
        let ended = check(&set).await;
        assert_eq!((ended.code, ended.stdout.contains(warning)), (Some(0), is_warned), "{resolver} {proxy}: {ended:?}");
    }
}

#[tokio::test]
async fn check_prints_who_resolves_the_name() {
    let ended = check(&[("GATEWAY__RESOLVER", "dns"), ("GATEWAY__NAMESERVERS", "10.0.0.53,[fd00::1]:5353")]).await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stdout.contains("nameservers = [\"10.0.0.53\", \"[fd00::1]:5353\"]"), "{}", ended.stdout);
}
