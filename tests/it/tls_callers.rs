//! Callers reach the proxy listener by TLS. A peer with a wrong version, protocol or certificate is refused.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use rcgen::{CertificateParams, SanType, date_time_ymd};
use rustls::version::{TLS12, TLS13};
use rustls::{HandshakeKind, ProtocolVersion};
use sezzle_sidecar::simulator::{Gate, Options, Rule, Simulator};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use crate::support::client::Client;
use crate::support::frame_caller::{Ended, FrameCaller};
use crate::support::open_connections::{CUSTOMER, OpenConnections, is_served};
use crate::support::pages::{blocks, page};
use crate::support::process::{Folder, Process, check, free_address, run};
use crate::support::secure::Secure;
use crate::support::tls::{Authority, self_signed_pem, tls_files};
use crate::support::wire::Wire;
use crate::support::{Harness, Session, Setup, arrived, eventually};

fn refused(reason: &str) -> String {
    format!("connections_refused_total{{listener=\"proxy\",reason=\"{reason}\"}}")
}

async fn counted(harness: &Harness, reason: &str, count: f64) {
    eventually(reason, async || harness.metric(&refused(reason)).await == count).await;
}

/// A sidecar that verifies the certificates of callers, and a caller whose certificate is valid. The sidecar reads the
/// files of both authorities again and again, so both must live as long as the test.
struct Certified {
    harness: Harness,
    /// The authority of the sidecar's certificate.
    ca: Authority,
    /// The authority of the callers' certificates.
    callers: Authority,
    caller: Secure,
}

impl Certified {
    async fn start() -> Self {
        let (ca, callers) = (Authority::new(), Authority::new());
        let harness = Setup::default().tls(&ca).set("PROXY__TLS__CLIENT_CA_FILE", callers.file()).start().await;
        let valid = callers.signed("valid", &["shop.internal"], |_| ());
        let caller = Secure::showing(&ca.pem(), &valid);
        Self { harness, ca, callers, caller }
    }
}

/// Replaces the authority of callers by another one, and waits until that is in use.
async fn trust_others(harness: &Harness, callers: &Authority) {
    callers.write("ca.pem", &Authority::new().pem());
    eventually("the change", async || {
        harness.clock.advance(Duration::from_secs(2));
        harness.metric(r#"tls_reloads_total{listener="proxy",result="success"}"#).await == 1.0
    })
    .await;
}

#[tokio::test]
async fn both_versions_and_both_protocols_are_served() {
    let ca = Authority::new();
    let harness = Setup::default().tls(&ca).start().await;
    let session = Session::order(&harness.gateway).path;
    for (version, name) in [(&TLS12, ProtocolVersion::TLSv1_2), (&TLS13, ProtocolVersion::TLSv1_3)] {
        for (protocols, chosen) in [
            (&[][..], None),
            (&["http/1.1"], Some("http/1.1")),
            (&["h2"], Some("h2")),
            (&["http/1.1", "h2"], Some("h2")),
        ] {
            let caller = Secure::only(&ca.pem(), version).offering(protocols);
            let (answer, handshake) = caller.get(harness.proxy, &session).await;
            assert_eq!(answer.status, 200, "{name:?} {protocols:?}");
            assert_eq!((handshake.version, handshake.protocol.as_deref()), (name, chosen), "{protocols:?}");
            // Links lead back by TLS, and nothing tells a caller to keep to it.
            assert_eq!(answer.json()["links"][0]["href"], format!("https://{}{session}", harness.proxy));
            assert_eq!(answer.header("strict-transport-security"), "");
        }
    }
    let nothing = Secure::new(&ca.pem()).offering(&["http/0.9"]).try_get(harness.proxy, &session).await;
    assert!(nothing.is_err(), "no protocol in common");
    let full = r#"tls_handshakes_total{kind="full",listener="proxy",tls_version="1.2"}"#;
    assert_eq!(harness.metric(full).await, 4.0);
    assert!(harness.metric(r#"tls_certificate_expiry_timestamp_seconds{listener="proxy"}"#).await > 1.8e9);
    assert_eq!(harness.metric(r#"tls_handshakes_under_way{listener="proxy"}"#).await, 0.0);
    harness.stop().await;
}

#[tokio::test]
async fn sessions_are_resumed() {
    let ca = Authority::new();
    let harness = Setup::default().tls(&ca).start().await;
    for version in [&TLS12, &TLS13] {
        let caller = Secure::only(&ca.pem(), version);
        assert_eq!(caller.get(harness.proxy, CUSTOMER).await.1.kind, HandshakeKind::Full);
        assert_eq!(caller.get(harness.proxy, CUSTOMER).await.1.kind, HandshakeKind::Resumed);
    }
    for version in ["1.2", "1.3"] {
        let resumed = format!("tls_handshakes_total{{kind=\"resumed\",listener=\"proxy\",tls_version=\"{version}\"}}");
        assert_eq!(harness.metric(&resumed).await, 1.0);
    }
    harness.stop().await;
}

#[tokio::test]
async fn requests_name_the_scheme_of_the_connection_and_a_close_is_announced() {
    let ca = Authority::new();
    let harness = Setup::default().tls(&ca).start().await;
    let mut stream = Secure::new(&ca.pem()).connect(harness.proxy).await.expect("connects");
    let mut answer = async |target: &str| {
        let request = format!("GET {target} HTTP/1.1\r\nhost: localhost\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("writes");
        let mut read = [0; 16_384];
        let count = stream.read(&mut read).await.expect("reads");
        String::from_utf8_lossy(&read[..count]).into_owned()
    };
    assert!(answer("https://localhost/v2/customer").await.starts_with("HTTP/1.1 200 "));
    let other = answer("http://localhost/v2/customer").await;
    assert!(other.starts_with("HTTP/1.1 421 ") && other.contains("must begin with https://"), "{other}");
    assert!(answer(CUSTOMER).await.starts_with("HTTP/1.1 200 "));
    let ended = async { stream.read(&mut [0; 16]).await };
    let (read, ()) = tokio::join!(ended, harness.stop());
    assert_eq!(read.expect("not cut off"), 0);
}

#[tokio::test]
async fn a_peer_without_tls_is_told_so_and_harms_nobody() {
    let ca = Authority::new();
    let folder = Folder::new();
    let socket = folder.path().join("proxy.sock");
    let listen = format!("127.0.0.1:0,unix:{}", socket.display());
    let harness = Setup::default().tls(&ca).set("PROXY__LISTEN", listen).start().await;
    let caller = Secure::new(&ca.pem());

    let mut plain = Wire::connect(harness.proxy).await;
    plain.send("POST /v2/session HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\n\r\n").await;
    let answer = plain.answer().await;
    assert_eq!((answer.status, answer.error_code().as_str()), (400, "sidecar.https_required"));
    assert!(answer.text().contains("https://") && answer.header("connection") == "close", "{}", answer.text());
    assert!(plain.rest().await.is_empty());
    counted(&harness, "plain_http", 1.0).await;

    for garbage in [&b"\x00\x01\x02\x03\x04\x05\x06\x07"[..], b"\x16\x03\x01\xff\xff", b"\x80\x2e\x01\x03", &[0x16; 40]]
    {
        let mut wire = Wire::connect(harness.proxy).await;
        wire.send(garbage).await;
        wire.finish_sending().await;
        wire.rest().await;
    }
    counted(&harness, "handshake_failed", 4.0).await;
    // A check of the port by its load balancer is no failure.
    drop(TcpStream::connect(harness.proxy).await.expect("connects"));
    assert_eq!(caller.get(harness.proxy, CUSTOMER).await.0.status, 200);
    assert_eq!(harness.metric(&refused("handshake_failed")).await, 4.0);

    let mut unix = Wire::unix(&socket).await;
    unix.send("GET /v2/customer HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    assert_eq!(unix.answer().await.status, 200);

    let h2 = caller.offering(&["h2"]);
    let mut stream = h2.connect(harness.proxy).await.expect("connects");
    stream.write_all(b"GET /v2/customer HTTP/1.1\r\nhost: localhost\r\n\r\n").await.expect("writes");
    let _ = timeout(Duration::from_secs(10), stream.read_to_end(&mut Vec::new())).await.expect("closes");
    counted(&harness, "malformed", 1.0).await;
    harness.stop().await;
}

#[tokio::test]
async fn a_handshake_has_a_deadline() {
    let ca = Authority::new();
    let harness = Setup::default().tls(&ca).start().await;
    let began = Instant::now();
    let mut silent = Wire::connect(harness.proxy).await;
    let mut slow = Wire::connect(harness.proxy).await;
    slow.send(b"\x16\x03\x01\x02\x00\x01").await;
    assert_eq!(Secure::new(&ca.pem()).get(harness.proxy, CUSTOMER).await.0.status, 200);
    assert!(slow.rest().await.is_empty() && silent.rest().await.is_empty());
    assert!((4.5..9.0).contains(&began.elapsed().as_secs_f64()), "{:?}", began.elapsed());
    counted(&harness, "handshake_timeout", 2.0).await;
    // The drain does not wait for a handshake.
    let mut late = Wire::connect(harness.proxy).await;
    late.send(b"\x16\x03\x01\x02\x00\x01").await;
    harness.stop().await;
}

#[tokio::test]
async fn a_connection_over_the_limit_is_answered_by_tls() {
    let ca = Authority::new();
    let harness = Setup::default().tls(&ca).set("LIMITS__CONNECTIONS", "1").start().await;
    let caller = Secure::new(&ca.pem()).offering(&["h2", "http/1.1"]);
    let held = caller.connect(harness.proxy).await.expect("connects");
    let (answer, handshake) = caller.get(harness.proxy, CUSTOMER).await;
    assert_eq!((answer.status, answer.error_code().as_str()), (503, "sidecar.overloaded"));
    assert_eq!(handshake.protocol.as_deref(), Some("http/1.1"), "the answer is written in it");
    drop(held);
    eventually("a place", async || {
        caller.try_get(harness.proxy, CUSTOMER).await.is_ok_and(|(answer, _)| answer.status == 200)
    })
    .await;
    harness.stop().await;
}

/// Callers connect all the time while certificate and key change one after the other.
#[tokio::test]
async fn a_new_certificate_is_shown_within_seconds_and_no_call_fails() {
    let ca = Authority::new();
    let harness = Setup::default().tls(&ca).start().await;
    let session = Session::order(&harness.gateway).path;
    let (stop, failed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let load: Vec<_> = (0..4)
        .map(|number| {
            let protocols: &[&str] = if number % 2 == 0 { &["h2"] } else { &["http/1.1"] };
            // Half of them resume their sessions.
            let (caller, fresh) = (Secure::new(&ca.pem()).offering(protocols), ca.pem());
            let (stop, failed, session) = (Arc::clone(&stop), Arc::clone(&failed), session.clone());
            let address = harness.proxy;
            tokio::spawn(async move {
                let mut calls = 0;
                while !stop.load(Ordering::Relaxed) {
                    let caller = if number < 2 { caller.clone() } else { Secure::new(&fresh).offering(protocols) };
                    if !matches!(caller.try_get(address, &session).await, Ok((answer, _)) if answer.status == 200) {
                        failed.fetch_add(1, Ordering::Relaxed);
                    }
                    calls += 1;
                }
                calls
            })
        })
        .collect();

    let shown = async || Secure::new(&ca.pem()).get(harness.proxy, CUSTOMER).await.1.certificate;
    let first = shown().await;
    let (next, key) = ca.files("next", &["localhost", "127.0.0.1"]);
    let (certificate_file, key_file) = (ca.path("proxy.pem"), ca.path("proxy.key"));
    fs::copy(next, certificate_file).expect("copied");
    // Half of the change stands for a moment, as between two commands of an operator.
    sleep(Duration::from_millis(300)).await;
    let began = Instant::now();
    fs::copy(key, key_file).expect("copied");
    eventually("the new certificate", async || shown().await != first).await;
    // Less than 5 s, with room for a busy machine.
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    assert_eq!(harness.metric(r#"tls_reloads_total{listener="proxy",result="success"}"#).await, 1.0);
    stop.store(true, Ordering::Relaxed);
    let mut calls = 0;
    for one in load {
        calls += one.await.expect("no panic");
    }
    assert!(calls > 20, "{calls}");
    assert_eq!(failed.load(Ordering::Relaxed), 0);
    assert_eq!(harness.metric(&refused("handshake_failed")).await, 0.0);
    harness.stop().await;
}

#[tokio::test]
async fn files_that_do_not_fit_or_have_expired_change_nothing() {
    let ca = Authority::new();
    let harness = Setup::default().tls(&ca).start().await;
    let caller = Secure::new(&ca.pem());
    let first = caller.get(harness.proxy, CUSTOMER).await.1.certificate;
    let unusable = async |is: f64| {
        eventually("the files", async || {
            harness.clock.advance(Duration::from_secs(2));
            harness.metric(r#"tls_files_unusable{listener="proxy"}"#).await == is
        })
        .await;
    };
    let (_, other_key) = ca.files("other", &["localhost"]);
    let key = fs::read_to_string(ca.path("proxy.key")).expect("a file");
    ca.write("proxy.key", &fs::read_to_string(other_key).expect("a file"));
    unusable(1.0).await;
    ca.write("proxy.key", &key);
    unusable(0.0).await;
    let certificate = fs::read_to_string(ca.path("proxy.pem")).expect("a file");
    let expired = ca.signed("expired", &["localhost"], |params| params.not_after = date_time_ymd(2020, 1, 1));
    ca.write("proxy.pem", &fs::read_to_string(expired.0).expect("a file"));
    ca.write("proxy.key", &fs::read_to_string(expired.1).expect("a file"));
    unusable(1.0).await;
    assert_eq!(Secure::new(&ca.pem()).get(harness.proxy, CUSTOMER).await.1.certificate, first);
    assert!(harness.metric(r#"tls_reloads_total{listener="proxy",result="unusable"}"#).await >= 2.0);
    let page = harness.client.get(harness.ops, "/status.json").await;
    assert!(page.text().contains("certificate_not_used"), "{}", page.text());
    ca.write("proxy.pem", &certificate);
    ca.write("proxy.key", &key);
    unusable(0.0).await;
    let page = harness.client.get(harness.ops, "/status.json").await.json();
    let own =
        page["certificates"].as_array().expect("a list").iter().any(|one| one["of"] == "proxy.tls.certificate_file");
    assert!(own && !page.to_string().contains("certificate_not_used"), "{page}");
    harness.stop().await;
}

#[tokio::test]
async fn a_callers_certificate_is_verified_if_there_is_one() {
    let (ca, callers, others) = (Authority::new(), Authority::new(), Authority::new());
    let harness = Setup::default().tls(&ca).set("PROXY__TLS__CLIENT_CA_FILE", callers.file()).start().await;
    let uri = |params: &mut CertificateParams| {
        params.subject_alt_names.push(SanType::URI("spiffe://example/shop".try_into().expect("a URI")));
    };
    let valid = callers.signed("valid", &["shop.internal"], uri);
    let oversized = {
        let chain = fs::read_to_string(&valid.0).expect("a file") + &callers.pem().repeat(200);
        (callers.write("long.pem", &chain), valid.1.clone())
    };
    let expired = callers.signed("expired", &["a"], |params| params.not_after = date_time_ymd(2020, 1, 1));
    let early = callers.signed("early", &["a"], |params| {
        (params.not_before, params.not_after) = (date_time_ymd(2200, 1, 1), date_time_ymd(2201, 1, 1));
    });
    let forged = {
        let (pem, key) = self_signed_pem(&["shop.internal"]);
        (others.write("forged.pem", &pem), others.write("forged.key", &key))
    };
    let foreign = others.signed("foreign", &["shop.internal"], |_| ());
    for version in [&TLS12, &TLS13] {
        let by = |(certificate, key): &(String, String)| Secure::with(&ca.pem(), &[version], Some((certificate, key)));
        assert_eq!(by(&valid).get(harness.proxy, CUSTOMER).await.0.status, 200);
        assert_eq!(Secure::only(&ca.pem(), version).get(harness.proxy, CUSTOMER).await.0.status, 200, "absent");
        for (what, pair) in [("expired", &expired), ("early", &early), ("forged", &forged), ("foreign", &foreign)] {
            let before = harness.metric(&refused("client_certificate")).await;
            assert!(by(pair).try_get(harness.proxy, CUSTOMER).await.is_err(), "{what}");
            counted(&harness, "client_certificate", before + 1.0).await;
        }
        assert!(by(&oversized).try_get(harness.proxy, CUSTOMER).await.is_err(), "oversized");
    }
    harness.stop().await;
}

#[tokio::test]
async fn no_session_outlives_a_change_of_the_callers_authorities() {
    let Certified { harness, ca: _ca, callers, caller } = Certified::start().await;
    for _ in 0..2 {
        assert_eq!(caller.get(harness.proxy, CUSTOMER).await.1.kind, HandshakeKind::Full);
    }
    trust_others(&harness, &callers).await;
    assert!(caller.try_get(harness.proxy, CUSTOMER).await.is_err(), "its authority is no longer trusted");
    harness.stop().await;
}

/// A request under way is answered, idle connections close, and callers without a certificate notice nothing.
#[tokio::test]
async fn no_open_connection_outlives_a_change_of_the_callers_authorities() {
    let Certified { harness, ca, callers, caller } = Certified::start().await;
    let mut other = Secure::new(&ca.pem()).connect(harness.proxy).await.expect("connects");
    assert!(is_served(&mut other).await);
    let open = OpenConnections::of(&caller, &harness).await;
    trust_others(&harness, &callers).await;
    open.end(LIMIT).await;
    assert!(is_served(&mut other).await);
    harness.stop().await;
}

/// hyper refuses no stream until its ping behind GOAWAY is answered, and a hostile caller never answers.
#[tokio::test]
async fn a_caller_that_answers_no_ping_does_not_outlast_its_authority() {
    let Certified { harness, ca: _ca, callers, caller } = Certified::start().await;
    let stream = caller.offering(&["h2"]).connect(harness.proxy).await.expect("connects");
    let mut caller = FrameCaller::over(stream, harness.proxy, &[]).await.answering_no_ping();
    let gate = Gate::new();
    harness.gateway.script(Rule::path(CUSTOMER).gate(&gate));
    let under_way = caller.get(CUSTOMER).await;
    arrived(&gate, 1).await;
    trust_others(&harness, &callers).await;
    // A request that was sent before its caller learnt of the end is answered, and a late one is not.
    let began = Instant::now();
    let refused = loop {
        let stream = caller.get("/v2/webhooks").await;
        let told = caller.told(stream).await;
        if told.status != Some(200) {
            break told;
        }
        assert!(began.elapsed() < LIMIT, "a request is served {:?} after the change", began.elapsed());
        sleep(Duration::from_millis(50)).await;
    };
    let text = String::from_utf8_lossy(&refused.body).into_owned();
    assert_eq!((refused.status, refused.ended), (Some(503), Ended::Whole), "{text}");
    assert!(text.contains("sidecar.stopping") && text.contains("over another connection"), "{text}");
    let seen = harness.gateway.count("GET", "/v2/webhooks");
    gate.release();
    assert_eq!(caller.told(under_way).await.status, Some(200));
    // Late requests do not keep the connection open.
    while Instant::now() < began + LIMIT {
        let stream = caller.get("/v2/webhooks").await;
        if caller.told(stream).await.status.is_none() {
            break;
        }
        sleep(Duration::from_millis(50)).await;
    }
    assert!(began.elapsed() < LIMIT, "the connection is still open");
    assert_eq!(harness.gateway.count("GET", "/v2/webhooks"), seen);
    harness.stop().await;
}

const LIMIT: Duration = Duration::from_secs(10);

#[tokio::test]
async fn check_says_all_that_is_wrong_with_the_files() {
    let ca = Authority::new();
    let folder = Folder::new();
    let (certificate, key) = ca.files("proxy", &["localhost"]);
    let (_, other) = ca.files("other", &["localhost"]);
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).expect("settable");
    let expired = ca.signed("expired", &["localhost"], |params| params.not_after = date_time_ymd(2020, 1, 1));
    let open = folder.write_with("open.key", &fs::read_to_string(&key).expect("a file"), 0o666);
    let absent = folder.path().join("absent").display().to_string();
    let checked = async |certificate: &str, key: &str, callers: &str| {
        let ended = check(&tls_files(certificate, key, callers)).await;
        (ended.code, ended.stdout, ended.stderr)
    };
    let (code, stdout, stderr) = checked(&certificate, &key, "").await;
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    assert!(stdout.contains(&format!("tls.certificate_file = \"{certificate}\"")), "{stdout}");
    assert!(stdout.contains("base_url = \"https://127.0.0.1:8080\" # default"), "{stdout}");
    for (certificate, key, callers, code, expected) in [
        (certificate.as_str(), other.as_str(), "", 77, &["proxy.tls.key_file", "does not belong to the first"][..]),
        (&expired.0, &expired.1, "", 78, &["proxy.tls.certificate_file", "ended on Wed, 01 Jan 2020"]),
        (&certificate, &open, "", 77, &["users other than the owner may write this file (mode 666)"]),
        (&certificate, &certificate, "", 77, &["holds no private key in PEM"]),
        (&absent, &open, &key, 77, &["certificate_file", "No such file", "mode 666", "client_ca_file", "PRIVATE KEY"]),
        (
            &certificate,
            &key,
            &certificate,
            78,
            &["proxy.tls.client_ca_file", "line 1: this certificate may sign no others"],
        ),
        (&certificate, "", "", 78, &["proxy.tls.key_file: required with proxy.tls.certificate_file"]),
    ] {
        let (found, stdout, stderr) = checked(certificate, key, callers).await;
        assert_eq!((found, stdout.as_str()), (Some(code), ""), "{stderr}");
        for words in expected {
            assert!(stderr.contains(words), "{words}: {stderr}");
        }
    }
}

#[tokio::test]
async fn links_to_a_host_without_a_certificate_are_warned_of() {
    let ca = Authority::new();
    let (certificate, key) = ca.files("proxy", &["sidecar.internal", "*.shop.internal", "127.0.0.1"]);
    let (other, other_key) = ca.files("other", &["localhost"]);
    let checked = async |(certificate, key): (&str, &str), links: &[(&str, &str)]| {
        let ended = check(&[&tls_files(certificate, key, "")[..], links].concat()).await;
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
        ended.stdout
    };
    let warns =
        |host: &str| format!("# links.base_url: links in answers lead to {host}, which is no name of the certificate");
    let own = (certificate.as_str(), key.as_str());
    for (url, host) in [
        ("https://other.internal", Some("other.internal")),
        ("https://a.b.shop.internal/base", Some("a.b.shop.internal")),
        ("https://[::1]:8080", Some("[::1]")),
        ("https://127.0.0.2:8080", Some("127.0.0.2")),
        ("https://sidecar.internal:8443/base", None),
        ("https://a.shop.internal", None),
        ("https://127.0.0.1:8080", None),
        // Another server speaks TLS there.
        ("http://other.internal", None),
    ] {
        let said = checked(own, &[("LINKS__BASE_URL", url)]).await;
        assert_eq!(said.contains("# links.base_url: "), host.is_some(), "{url}: {said}");
        assert!(host.is_none_or(|host| said.contains(&warns(host))), "{url}: {said}");
    }
    // Without the key, links lead to the first address of proxy.listen.
    assert!(!checked(own, &[]).await.contains("# links.base_url: "));
    let other = (other.as_str(), other_key.as_str());
    assert!(checked(other, &[]).await.contains(&warns("127.0.0.1")));
    assert!(!checked(other, &[("LINKS__REWRITE", "false")]).await.contains("# links.base_url: "));
}

#[tokio::test]
async fn the_sidecars_own_certificates_are_good_for_both_sides() {
    let folder = Folder::new();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let out = folder.path().display().to_string();
    let made = run(&["certificate", "sidecar.internal", "localhost", "127.0.0.1", "--out", &out], &[]).await;
    assert_eq!((made.code, made.stderr.as_str()), (Some(0), ""), "{}", made.stdout);
    for words in [
        "authority.pem is the authority (new)",
        // Loopback needs no entry.
        "hosts = [\"sidecar.internal\"]\n",
        &format!("curl --cacert {} https://", path("authority.pem")),
    ] {
        assert!(made.stdout.contains(words), "{}", made.stdout);
    }
    let authority = fs::read_to_string(path("authority.pem")).expect("written");
    let caller = run(&["certificate", "spiffe://example/shop", "--out", &out], &[]).await;
    assert!(caller.stdout.contains("authority.pem is the authority (as before)"), "{}", caller.stdout);
    let trusted = format!("tls.client_ca_file = \"{}\"\n", path("authority.pem"));
    assert!(caller.stdout.contains(&trusted), "the sidecar trusts the authority of callers: {}", caller.stdout);
    assert!(!caller.stdout.contains("tls.key_file"), "a URI is no name of a sidecar: {}", caller.stdout);
    assert_eq!(fs::read_to_string(path("authority.pem")).expect("kept"), authority);
    for key in ["authority.key", "sidecar.internal.key", "example-shop.key"] {
        assert_eq!(fs::metadata(path(key)).expect("written").permissions().mode() & 0o777, 0o600, "{key}");
    }
    let again = run(&["certificate", "sidecar.internal", "--out", &out], &[]).await;
    assert_eq!(again.code, Some(1));
    assert!(again.stderr.contains("exists already"), "{}", again.stderr);

    let harness = Setup::default()
        .set("PROXY__TLS__CERTIFICATE_FILE", path("sidecar.internal.pem"))
        .set("PROXY__TLS__KEY_FILE", path("sidecar.internal.key"))
        .set("PROXY__TLS__CLIENT_CA_FILE", path("authority.pem"))
        .start()
        .await;
    let caller = Secure::showing(&authority, &(path("example-shop.pem"), path("example-shop.key")));
    assert_eq!(caller.get(harness.proxy, CUSTOMER).await.0.status, 200);
    harness.stop().await;

    fs::remove_file(path("authority.key")).expect("removed");
    let lost = run(&["certificate", "other.internal", "--out", &out], &[]).await;
    assert!(lost.code == Some(1) && lost.stderr.contains("keep both files together"), "{}", lost.stderr);
    let wrong = run(&["certificate", "a b"], &[]).await;
    assert_eq!(wrong.code, Some(64));
}

#[tokio::test]
async fn a_start_with_files_that_do_not_fit_fails() {
    let ca = Authority::new();
    let (_, other) = ca.files("other", &["localhost"]);
    let error = Setup::default().tls(&ca).set("PROXY__TLS__KEY_FILE", other).try_start().await.err().expect("no start");
    assert!(error.to_string().contains("does not belong to the first certificate"), "{error}");
}

/// The steps of the page, each command as printed. The ports are free ones.
#[tokio::test]
async fn the_page_about_tls_works_as_printed() {
    let blocks = blocks(&page("docs/tls.md"));
    let (settings, commands): (Vec<&String>, Vec<&String>) =
        blocks.iter().partition(|block| block.starts_with("[proxy]"));
    assert_eq!((settings.len(), commands.len()), (2, 6), "{blocks:?}");
    let folder = Folder::new();
    let gateway = Simulator::start(Options::default()).await.expect("gateway starts");
    let Options { public_key, private_key, .. } = Options::default();
    let (proxy, ops) = (free_address(), free_address());
    let gateway_url = gateway.url();
    let variables = [
        ("GATEWAY__ENVIRONMENT", "sandbox"),
        ("GATEWAY__URL", &gateway_url),
        ("CREDENTIALS__PUBLIC_KEY", &public_key),
        ("CREDENTIALS__PRIVATE_KEY", &private_key),
        ("PROXY__LISTEN", &proxy.to_string()),
        ("OPS__LISTEN", &ops.to_string()),
    ];
    let lines: Vec<&str> = settings.iter().flat_map(|block| block.lines()).filter(|line| *line != "[proxy]").collect();
    folder.write("sidecar.toml", &format!("[proxy]\n{}\n", lines.join("\n")));
    let shell = async |command: &str| {
        let command = command.replace("localhost:8080", &format!("localhost:{}", proxy.port()));
        Process::shell(&command, folder.path(), &variables).end().await
    };
    let succeeds = async |command: &str| {
        let ended = shell(command).await;
        assert_eq!(ended.code, Some(0), "{command}\n{}\n{}", ended.stdout, ended.stderr);
        ended.stdout
    };
    let is_made = |command: &&&String| command.starts_with("sezzle-sidecar certificate");
    for command in commands.iter().filter(is_made) {
        succeeds(command).await;
    }
    let check = commands.iter().find(|command| command.starts_with("sezzle-sidecar check")).expect("a check");
    assert!(succeeds(check).await.contains("tls.client_ca_file = \"callers/authority.pem\""));
    let mut sidecar = Process::shell("exec sezzle-sidecar run --config sidecar.toml", folder.path(), &variables);
    Client::new().until_ready(ops).await;
    for command in commands.iter().filter(|command| command.starts_with("curl ")) {
        is_answered(&succeeds(command).await);
    }
    let replace = commands.iter().find(|command| command.starts_with("mkdir ")).expect("the last steps");
    succeeds(replace).await;
    sidecar.says("the proxy listener shows a new certificate").await;
    for command in commands.iter().filter(|command| command.starts_with("curl ")) {
        is_answered(&succeeds(command).await);
    }
    sidecar.signal("TERM");
    assert_eq!(sidecar.end().await.code, Some(0));
    gateway.stop().await;
}

/// Checks that this is an answer of Sezzle's.
fn is_answered(answer: &str) {
    assert!(answer.starts_with(['{', '[']) && !answer.contains("sidecar."), "{answer}");
}
