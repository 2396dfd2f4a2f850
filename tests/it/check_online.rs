//! `check --online`: its findings, its messages about every obstacle, and that it creates
//! nothing and reads nobody's data.

use std::ffi::OsString;

use http::header::CACHE_CONTROL;
use http::{HeaderName, HeaderValue, StatusCode};
use sezzle_sidecar::clock::Clock;
use sezzle_sidecar::simulator::{Options, Rule, Simulator};
use sezzle_sidecar::{app, config};

use crate::support::egress::{Conduct, EgressProxy};
use crate::support::peer::{self, Peer};
use crate::support::process::{Ended, Folder, Process, free_address, run};
use crate::support::scripted::{Script, Scripted};
use crate::support::tls::{Authority, self_signed};

const PUBLIC: &str = "sz_pub_canary";
const PRIVATE: &str = "sz_pr_canary";
const KEYS: [(&str, &str); 3] =
    [("GATEWAY__ENVIRONMENT", "sandbox"), ("CREDENTIALS__PUBLIC_KEY", PUBLIC), ("CREDENTIALS__PRIVATE_KEY", PRIVATE)];

fn options() -> Options {
    Options { public_key: PUBLIC.to_owned(), private_key: PRIVATE.to_owned(), ..Options::default() }
}

async fn check(url: &str, more: &[(&str, &str)]) -> Ended {
    let variables = [&KEYS[..], &[("GATEWAY__URL", url)], more].concat();
    let ended = run(&["check", "--online"], &variables).await;
    for text in [&ended.stdout, &ended.stderr] {
        assert!(!text.contains("canary") && !text.contains("Bearer"), "{text}");
    }
    ended
}

fn says(ended: &Ended, code: i32, expected: &[&str]) {
    let text = format!("{}{}", ended.stdout, ended.stderr);
    assert_eq!(ended.code, Some(code), "{text}");
    for expected in expected {
        assert!(text.contains(expected), "{expected:?} in\n{text}");
    }
    assert_eq!(ended.stderr.is_empty(), code == 0, "{}", ended.stderr);
}

#[tokio::test]
async fn the_check_tells_its_findings_and_leaves_no_trace() {
    let ca = Authority::new();
    let gateway =
        Simulator::start(Options { tls: Some(ca.server(&["127.0.0.1"])), ..options() }).await.expect("starts");
    let ended = check(&gateway.url(), &[("GATEWAY__CA_FILE", &ca.file())]).await;
    let merchant = Options::default().merchant_uuid;
    says(
        &ended,
        0,
        &[
            &format!("gateway     {} (sandbox)\n", gateway.url()),
            "way         direct\n",
            "connection  made in ",
            "TLS         1.3, with HTTP/1.1\n",
            "certificate for rcgen self signed cert, by root, until 4096-01-01T00:00:00Z, ",
            "keys        accepted in ",
            &format!("merchant    {merchant} (not pinned)\n"),
            "token       lasts 120 min\n",
            "clock       agrees with Sezzle's to the second\n",
            "lookup      404 in ",
            "headers     no caching headers\n",
            "caching     a session with these headers is stored for 30 s; with a token, for 60 s at most",
            "all is well: the sidecar reaches Sezzle, and Sezzle accepts the keys\n",
        ],
    );
    let calls: Vec<String> = gateway.journal().iter().map(|call| format!("{} {}", call.method, call.path)).collect();
    assert_eq!(calls.len(), 2, "{calls:?}");
    assert_eq!(calls[0], "POST /v2/authentication");
    assert!(calls[1].starts_with("GET /v2/session/") && calls[1].len() == "GET /v2/session/".len() + 36, "{calls:?}");
    assert_eq!(gateway.connections(), 2, "one to look at, and one for both calls");

    let (file, url) = (ca.file(), gateway.url());
    let pinned =
        [("GATEWAY__CA_FILE", file.as_str()), ("GATEWAY__HTTP2", "true"), ("CREDENTIALS__MERCHANT_UUID", &merchant)];
    says(&check(&url, &pinned).await, 0, &["(as credentials.merchant_uuid says)", "with HTTP/1.1\n"]);
    gateway.stop().await;

    let both = Options { tls: Some(ca.server(&["127.0.0.1"])), http2: true, ..options() };
    let gateway = Simulator::start(both).await.expect("starts");
    let ended = check(&gateway.url(), &[("GATEWAY__CA_FILE", &ca.file()), ("GATEWAY__HTTP2", "true")]).await;
    says(&ended, 0, &["with HTTP/2\n", "all is well"]);
    gateway.stop().await;
}

#[tokio::test]
async fn keys_that_are_not_taken_are_told_from_everything_else() {
    let gateway = Simulator::start(Options::default()).await.expect("starts");
    let ended = check(&gateway.url(), &[]).await;
    says(
        &ended,
        77,
        &[
            "TLS         none: gateway.url is http",
            "sezzle-sidecar: Sezzle rejected the key pair (401)\n",
            "offered the keys to sandbox, where Sezzle rejects keys of other environments",
            "SEZZLE_SIDECAR__CREDENTIALS__PUBLIC_KEY, SEZZLE_SIDECAR__CREDENTIALS__PRIVATE_KEY",
        ],
    );
    gateway.stop().await;

    let gateway = Simulator::start(options()).await.expect("starts");
    let other = [("CREDENTIALS__MERCHANT_UUID", "11111111-2222-3333-4444-555555555555")];
    let ended = check(&gateway.url(), &other).await;
    says(&ended, 77, &["authenticate as merchant", "Either credentials.merchant_uuid is wrong"]);

    let folder = Folder::new();
    let public = folder.write("public", PUBLIC);
    let variables = [
        ("GATEWAY__ENVIRONMENT", "sandbox"),
        ("GATEWAY__URL", &gateway.url()),
        ("CREDENTIALS__PUBLIC_KEY_FILE", &public),
        ("CREDENTIALS__PRIVATE_KEY_FILE", "/nowhere/private"),
    ];
    let ended = run(&["check", "--online"], &variables).await;
    says(&ended, 77, &["credentials: /nowhere/private: cannot be read"]);
    assert_eq!(gateway.count("POST", "/v2/authentication"), 1, "of the wrong merchant alone");
    gateway.stop().await;
}

#[tokio::test]
async fn a_missing_way_to_sezzle_is_told_with_its_remedy() {
    let unresolved = "https://gateway.invalid";
    let ended = check(unresolved, &[]).await;
    says(
        &ended,
        1,
        &[
            "sezzle-sidecar: the sidecar cannot reach https://gateway.invalid: the name gateway.invalid was not resolved: ",
            "\n  Check the network and its DNS",
            "\n  If only a proxy may reach the internet, set gateway.egress_proxy",
        ],
    );
    assert!(!ended.stdout.contains("connection"), "{}", ended.stdout);

    for variable in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"] {
        let line = format!("{variable}=http://me:canary@proxy.internal:3128 sezzle-sidecar check --online");
        let variables = [&KEYS[..], &[("GATEWAY__URL", unresolved)]].concat();
        let ended = Process::shell(&line, Folder::new().path(), &variables).end().await;
        says(&ended, 1, &[&format!("way         direct; the sidecar ignores {variable}, which is set\n")]);
        says(&ended, 1, &[&format!("The sidecar ignores {variable}, which is set: if only that proxy")]);
        assert!(!format!("{ended:?}").contains("canary") && !format!("{ended:?}").contains("internal"), "{ended:?}");
    }

    let ended = check(&format!("https://{}", free_address()), &[]).await;
    says(
        &ended,
        1,
        &["the sidecar cannot connect to https://127.0.0.1:", "Connection refused", "a firewall or a network policy"],
    );
    let plain = Peer::start(peer::Conduct::Answer(b"HTTP/1.1 400 Bad Request\r\n\r\n")).await;
    let ended = check(&format!("https://{}", plain.address()), &[]).await;
    says(&ended, 1, &["the sidecar cannot speak TLS with https://127.0.0.1:", "Another server than Sezzle's gateway"]);
    let mute = Peer::start(peer::Conduct::Answer(b"")).await;
    let ended = check(&format!("https://{}", mute.address()), &[("GATEWAY__CONNECT_TIMEOUT", "100ms")]).await;
    says(&ended, 1, &["the sidecar cannot connect to https://127.0.0.1:", "within 3.1s"]);
}

#[tokio::test]
async fn a_certificate_that_is_not_trusted_is_shown() {
    let ca = Authority::new();
    for (server, words) in [
        (
            self_signed(&["127.0.0.1"]),
            &["UnknownIssuer", "The certificate is for rcgen self signed cert, by rcgen self signed cert, until"][..],
        ),
        (Authority::new().server(&["127.0.0.1"]), &["BadSignature", "by root, until", "gateway.ca_file"]),
        (ca.server(&["other.example"]), &["not valid for name"]),
        (
            ca.expired(&["127.0.0.1"]),
            &["expired", "by root, ended at 2020-01-01T00:00:00Z", "this machine's clock, which says 2"],
        ),
        (ca.early(&["127.0.0.1"]), &["by root, only from 2200-01-01T00:00:00Z on"]),
    ] {
        let gateway = Simulator::start(Options { tls: Some(server), ..options() }).await.expect("starts");
        let ended = check(&gateway.url(), &[("GATEWAY__CA_FILE", &ca.file())]).await;
        says(
            &ended,
            1,
            &["the sidecar does not trust the certificate of ", "The sidecar sent neither a key nor a token."],
        );
        says(&ended, 1, words);
        assert!(gateway.journal().is_empty());
        gateway.stop().await;
    }
    let ended = check("https://127.0.0.1:1", &[("GATEWAY__CA_FILE", "/nowhere/ca.pem")]).await;
    says(&ended, 78, &["gateway.ca_file: /nowhere/ca.pem: cannot be read"]);
}

#[tokio::test]
async fn variables_that_other_programs_follow_are_named_where_they_are_missed() {
    let (ca, other) = (Authority::new(), Authority::new());
    let gateway =
        Simulator::start(Options { tls: Some(ca.server(&["127.0.0.1"])), ..options() }).await.expect("starts");
    let (url, file) = (gateway.url(), other.file());
    for variable in ["SSL_CERT_FILE", "SSL_CERT_DIR", "NODE_EXTRA_CA_CERTS", "REQUESTS_CA_BUNDLE"] {
        let variables = [&KEYS[..], &[("GATEWAY__URL", url.as_str()), ("GATEWAY__CA_FILE", &file)]].concat();
        let line = format!("{variable}=/etc/canary sezzle-sidecar check --online");
        let ended = Process::shell(&line, Folder::new().path(), &variables).end().await;
        let hint = format!("The sidecar ignores {variable}, which is set: name its file in gateway.ca_file.\n");
        says(&ended, 1, &["trust       the bundled web roots, and 1 certificate of gateway.ca_file: root\n", &hint]);
        assert!(!ended.stderr.contains("canary"), "{}", ended.stderr);
    }
    // A running sidecar logs the refusal once, however often Sezzle repeats it.
    let listeners = [("PROXY__LISTEN", "127.0.0.1:0"), ("OPS__LISTEN", "127.0.0.1:0"), ("DRAIN__GRACE", "0s")];
    let variables = [&KEYS[..], &[("GATEWAY__URL", url.as_str())], &listeners].concat();
    let line = "SSL_CERT_FILE=/etc/ssl/cert.pem exec sezzle-sidecar run";
    let mut process = Process::shell(line, Folder::new().path(), &variables);
    process.says("\"failures\":2").await;
    process.signal("TERM");
    let ended = process.end().await;
    let told = ended.stdout.matches("ignores SSL_CERT_FILE, which is set: use gateway.ca_file").count();
    assert_eq!(told, 1, "{}", ended.stdout);
    gateway.stop().await;
}

#[tokio::test]
async fn certificates_are_read_in_every_form_that_they_are_kept_in() {
    let (corp, other, third) = (Authority::new(), Authority::new(), Authority::new());
    let gateway =
        Simulator::start(Options { tls: Some(corp.server(&["127.0.0.1"])), ..options() }).await.expect("starts");
    let (a, b) = (other.pem(), corp.pem());
    let forms = [
        ("joined", format!("{}{b}", a.trim_end())),
        ("byte order mark", format!("\u{feff}{b}{a}")),
        ("Windows", format!("{a}{b}").replace('\n', "\r\n")),
        ("indented", format!("    {}", format!("{a}{b}").replace('\n', "\n    "))),
        ("older labels", format!("{a}{}", b.replace("CERTIFICATE", "X509 CERTIFICATE"))),
        ("OpenSSL's", format!("{a}{}", b.replace("CERTIFICATE", "TRUSTED CERTIFICATE"))),
    ];
    let folder = Folder::new();
    for (form, text) in forms {
        let file = folder.write("ca.pem", &text);
        let ended = check(&gateway.url(), &[("GATEWAY__CA_FILE", &file)]).await;
        assert!(
            ended.code == Some(0) && ended.stdout.contains("2 certificates of gateway.ca_file"),
            "{form}: {ended:?}"
        );
    }
    let cut: String =
        third.pem().lines().enumerate().filter(|(line, _)| *line != 2).map(|(_, l)| format!("{l}\n")).collect();
    let begins = a.lines().count() + b.lines().count() + 1;
    for (form, text, expected) in [
        ("\\n", b.replace('\n', "\\n"), "line 1: line breaks are written as \\n".to_owned()),
        ("a bad one", format!("{a}{b}{cut}"), format!("line {begins}: certificate 3 of 3 cannot be used: ")),
        (
            "a key",
            format!("{a}{b}-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"),
            format!("line {begins}: holds \"PRIVATE KEY\""),
        ),
        (
            "cut off",
            format!("{a}{}", b.replace("-----END", "---END")),
            format!("line {}: -----BEGIN CERTIFICATE----- without its END", a.lines().count() + 1),
        ),
    ] {
        let file = folder.write("ca.pem", &text);
        let ended = check(&gateway.url(), &[("GATEWAY__CA_FILE", &file)]).await;
        says(&ended, 78, &[&format!("gateway.ca_file: {file}: {expected}")]);
        assert!(!ended.stderr.contains("peer"), "{form}: {ended:?}");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn europe_is_served_with_a_warning() {
    const WARNING: &str = "Sezzle no longer documents its European environments";
    for (environment, warned) in
        [("sandbox-eu", true), ("production-eu", true), ("sandbox", false), ("production", false)]
    {
        let variables = [&KEYS[1..], &[("GATEWAY__ENVIRONMENT", environment)]].concat();
        let ended = run(&["check"], &variables).await;
        assert_eq!((ended.code, ended.stdout.contains(WARNING)), (Some(0), warned), "{}", ended.stdout);
        assert_eq!(ended.stdout.starts_with("# gateway.environment: "), warned, "{}", ended.stdout);
    }
    let gateway = Simulator::start(options()).await.expect("starts");
    let url = gateway.url();
    let ended = check(&url, &[("GATEWAY__ENVIRONMENT", "production-eu")]).await;
    says(&ended, 0, &["note        gateway.environment: Sezzle no longer documents"]);
    let variables = [
        &KEYS[1..],
        &[("GATEWAY__ENVIRONMENT", "sandbox-eu"), ("GATEWAY__URL", &url), ("PROXY__LISTEN", "127.0.0.1:0")],
        &[("OPS__LISTEN", "127.0.0.1:0"), ("DRAIN__GRACE", "0s")],
    ]
    .concat();
    let mut process = Process::start(&["run"], &variables);
    process.says(WARNING).await;
    process.signal("TERM");
    assert_eq!(process.end().await.stdout.matches(WARNING).count(), 1);
    gateway.stop().await;
}

#[tokio::test]
async fn the_way_through_a_proxy_is_tried_too() {
    let ca = Authority::new();
    let gateway =
        Simulator::start(Options { tls: Some(ca.server(&["gateway.invalid"])), ..options() }).await.expect("starts");
    let url = gateway.url().replace("127.0.0.1", "gateway.invalid");
    let (proxy, strict) = (EgressProxy::start(Conduct::Tunnel).await, EgressProxy::start(Conduct::Wants("x")).await);
    proxy.lead_to(gateway.addr());
    for (proxy, code, words) in [
        (&proxy, 0, &["way         through gateway.egress_proxy\n", "all is well"][..]),
        (&strict, 1, &["the sidecar cannot reach Sezzle through gateway.egress_proxy", "(407)"]),
    ] {
        let more = [("GATEWAY__CA_FILE", ca.file()), ("GATEWAY__EGRESS_PROXY", proxy.url())];
        let more: Vec<(&str, &str)> = more.iter().map(|(name, value)| (*name, value.as_str())).collect();
        says(&check(&url, &more).await, code, words);
    }
    gateway.stop().await;
}

#[tokio::test]
async fn caching_headers_and_the_clock_of_answers_are_explained() {
    let gateway = Simulator::start(options()).await.expect("starts");
    let lookup = || Rule::path("/v2/session/*").add_header(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    gateway.script(lookup());
    let ended = check(&gateway.url(), &[]).await;
    says(
        &ended,
        0,
        &["headers     cache-control: no-store\n", "is not stored (no-store), so every lookup goes to Sezzle"],
    );
    let ended = check(&gateway.url(), &[("CACHE__ORIGIN_CACHE_CONTROL", "ignore")]).await;
    says(&ended, 0, &["headers     cache-control: no-store\n", "is stored for 30 s"]);

    for (skew, words) in [(95, "this machine's clock is about 9"), (-3600, "this machine's clock is about 3")] {
        gateway.configure(|options| options.clock_skew = skew);
        let ended = check(&gateway.url(), &[]).await;
        says(&ended, 0, &[words, if skew > 0 { " s behind Sezzle's" } else { " s ahead of Sezzle's" }]);
    }
    gateway.stop().await;
}

#[tokio::test]
async fn a_gateway_that_fails_is_no_success() {
    let gateway = Scripted::start().await;
    let url = format!("http://{}", gateway.addr);
    let answer = |status: &str| Script::Bytes(format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n").into_bytes());
    for (script, code, words) in [
        (answer("503 Down"), 1, "Sezzle fails (503): the keys are right"),
        (answer("401 No"), 1, "Sezzle refuses the token that it has just granted (401)"),
        (answer("429 Slow"), 0, "lookup      429 in "),
        (answer("404 None"), 0, "all is well"),
        (Script::Last(Vec::new()), 1, "gave no answer: "),
        (Script::Bytes(b"nonsense\r\n\r\n".to_vec()), 1, "gave no answer: "),
    ] {
        gateway.script(script);
        says(&check(&url, &[]).await, code, &[words]);
    }
    let page = Peer::start(peer::Conduct::Close(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n<html>")).await;
    let ended = check(&format!("http://{}", page.address()), &[]).await;
    says(
        &ended,
        1,
        &[
            "could not exchange the keys for a token: the answer holds no token",
            "Another server answers in Sezzle's place",
        ],
    );
}

#[tokio::test]
async fn mistakes_are_told_before_anything_is_sent() {
    let gateway = Simulator::start(options()).await.expect("starts");
    let ended = check(&gateway.url(), &[("CACHE__MAX_TTL", "soon"), ("LOG__LEVEL", "loud")]).await;
    assert_eq!((ended.code, ended.stdout.as_str(), ended.stderr.lines().count()), (Some(78), "", 2));
    assert_eq!(run(&["run", "--online"], &KEYS).await.code, Some(64));
    assert!(gateway.journal().is_empty());
    gateway.stop().await;
}

#[test]
fn a_gateway_of_another_environment_is_noticed() {
    let check = |url: &str| {
        let variables = KEYS.into_iter().chain([("GATEWAY__URL", url)]).filter(|(_, value)| !value.is_empty());
        let variables =
            variables.map(|(name, value)| (OsString::from(format!("SEZZLE_SIDECAR__{name}")), OsString::from(value)));
        let loaded = config::load(&[], variables).unwrap_or_else(|problems| panic!("{problems}"));
        app::online_check(&loaded.settings, Clock::system(), |_| false).expect("nothing is in the way of asking")
    };
    for (url, other) in [
        ("", None),
        ("https://sandbox.gateway.sezzle.com", None),
        ("https://gateway.sezzle.com", Some("production")),
        ("https://sandbox.gateway.eu.sezzle.com", Some("sandbox-eu")),
        ("https://gateway.example", None),
    ] {
        assert_eq!(check(url).other_environment, other, "{url}");
    }
}

#[tokio::test]
async fn a_firewalls_page_is_told_from_sezzles_answer() {
    let html = || HeaderValue::from_static("text/html");
    for (path, words) in [
        (
            "/v2/authentication",
            "could not exchange the keys for a token: another server than Sezzle refused the request (403, text/html)",
        ),
        ("/v2/session/*", "but the lookup failed: another server than Sezzle refused the request (403, text/html)"),
    ] {
        let gateway = Simulator::start(options()).await.expect("starts");
        let rule = Rule::path(path).status(StatusCode::FORBIDDEN).body("<html>blocked</html>");
        gateway.script(rule.set_header(HeaderName::from_static("content-type"), html()));
        let ended = check(&gateway.url(), &[]).await;
        says(&ended, 1, &[words]);
        assert!(!ended.stderr.contains("rejected the key pair"), "{}", ended.stderr);
        gateway.stop().await;
    }
}
