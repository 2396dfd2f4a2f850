//! Clients whose base URL is a constant work unchanged: `/etc/hosts` leads the gateway's name to the sidecar, and each
//! client trusts the authority of the sidecar's certificate.

use std::fs;
use std::process;

use sezzle_sidecar::simulator::{EffectKind, Options, Simulator};

use crate::support::client::Client;
use crate::support::name_server::NameServer;
use crate::support::pages::{blocks, page};
use crate::support::process::{Folder, Process, check, free_address, lines, run};
use crate::support::stack::Framing::Length;
use crate::support::stack::{Call, Stack};
use crate::support::tls::Authority;
use crate::support::{Session, eventually, not_tried};

const BASE: &str = "https://gateway.sezzle.com";

/// Starts a program in a mount namespace of its own, in which a file replaces `/etc/hosts`.
const WITH_HOSTS: &str = "mount --bind \"$HOSTS\" /etc/hosts && exec \"$@\"";

/// The program and script of each client.
const CLIENTS: [&[&str]; 6] = [
    &["bash", "steps.sh"],
    &["node", "steps.mjs", "fetch"],
    &["python3", "steps.py", "aiohttp"],
    &["php", "steps.php", "curl"],
    &["ruby", "steps.rb"],
    &["java", "Steps.java", "java"],
];

#[tokio::test]
#[ignore = "needs node, python3 and aiohttp, php and its curl, ruby, and a JDK: tests/run"]
async fn clients_with_a_constant_base_url_need_only_a_name_and_an_authority() {
    let (ca, server, folder) = (Authority::new(), NameServer::start(600).await, Folder::new());
    // An address of this test's own: the port of https is the same for everybody.
    let [high, low] = [process::id() / 250 % 100 + 100, process::id() % 250 + 1];
    let ip = format!("127.{high}.{low}.1");
    let address = format!("{ip}:443");
    // The steps of the page, with that address and the simulated gateway's.
    let printed = blocks(&page("docs/be-the-gateway.md"));
    let [make, settings, line, call, ..] = printed.as_slice() else { panic!("{printed:?}") };
    let hosts = folder.write_with("hosts", &line.replace("127.0.0.1", &ip), 0o644);
    folder.write("sidecar.toml", &settings.replace("127.0.0.1:443", &address));
    let starter = format!("HOSTS={hosts} exec unshare --mount sh -c '{WITH_HOSTS}' sh");
    if Process::shell(&format!("{starter} true"), folder.path(), &[]).end().await.code != Some(0) {
        return not_tried("/etc/hosts: this user cannot make a mount namespace");
    }

    let options =
        Options { tls: Some(ca.server(&["gateway.sezzle.com"])), link_base: BASE.to_owned(), ..Options::default() };
    let keys = (options.public_key.clone(), options.private_key.clone());
    let gateway = Simulator::start(options).await.expect("gateway starts");
    assert_eq!(Process::shell(make, folder.path(), &[]).end().await.code, Some(0));
    let ops = free_address();
    let url = format!("{BASE}:{}", gateway.addr().port());
    let variables = [
        ("GATEWAY__URL", url.as_str()),
        ("GATEWAY__CA_FILE", &ca.file()),
        ("GATEWAY__NAMESERVERS", &server.address.to_string()),
        ("CREDENTIALS__PUBLIC_KEY", &keys.0),
        ("CREDENTIALS__PRIVATE_KEY", &keys.1),
        ("OPS__LISTEN", &ops.to_string()),
    ];
    let sidecar =
        Process::shell(&format!("{starter} sezzle-sidecar run --config sidecar.toml"), folder.path(), &variables);
    Client::new().until_ready(ops).await;

    let called = Process::shell(&format!("{starter} {call}"), folder.path(), &[]).end().await;
    for printed in ["HTTP/2 200", "via: 1.1 sezzle-sidecar"] {
        assert!(called.stdout.contains(printed), "{printed}: {called:?}");
    }

    let authority = folder.path().join("tls/authority.pem").display().to_string();
    let store = folder.path().join("store").display().to_string();
    let import = format!("keytool -importcert -noprompt -storepass changeit -keystore {store} -file {authority}");
    assert_eq!(Process::shell(&import, folder.path(), &[]).end().await.code, Some(0));
    fs::create_dir(folder.path().join("ini")).expect("made");
    folder.write("ini/authority.ini", &format!("curl.cainfo={authority}\n"));
    let trust = [
        ("CURL_CA_BUNDLE", authority.clone()),
        ("NODE_EXTRA_CA_CERTS", authority.clone()),
        ("SSL_CERT_FILE", authority),
        ("PHP_INI_SCAN_DIR", format!(":{}", folder.path().join("ini").display())),
        (
            "JAVA_TOOL_OPTIONS",
            format!("-Djavax.net.ssl.trustStore={store} -Djavax.net.ssl.trustStorePassword=changeit"),
        ),
        ("HOSTS", hosts.clone()),
    ];
    for command in CLIENTS {
        let session = Session::order(&gateway).authorized(&gateway);
        let amount = r#"{"capture_amount":{"amount_in_cents":500,"currency":"USD"},"partial_capture":true}"#;
        let calls = [
            Call::exchange(),
            Call::new("GET", &session.path),
            Call::new("GET", &session.path),
            Call::new("POST", format!("{}/capture", session.order_path)).body(Length, amount).key("order-1-capture-1"),
        ];
        let starter = ["unshare", "--mount", "sh", "-c", WITH_HOSTS, "sh"];
        let client = Stack { command, framings: &[Length] };
        let outcomes = client.start_by(&starter, BASE, &calls, &trust).outcomes().await;
        let statuses: Vec<&str> = outcomes.iter().map(|outcome| outcome.status.as_str()).collect();
        assert_eq!(statuses, ["201", "200", "200", "200"], "{command:?}: {outcomes:?}");
        assert!(outcomes[2].cache.starts_with("sezzle-sidecar; hit"), "{command:?}: {outcomes:?}");
        // Links are those of Sezzle, and lead through the sidecar all the same.
        let shown = String::from_utf8_lossy(&outcomes[1].body);
        assert!(shown.contains(&format!("{BASE}/v2/session/")) && !shown.contains("127."), "{shown}");
        let effects = gateway.effects(&session.order);
        assert_eq!(
            effects.iter().map(|effect| (effect.kind, effect.cents)).collect::<Vec<_>>(),
            [(EffectKind::Capture, 500)]
        );
    }
    assert_eq!(gateway.count("POST", "/v2/authentication"), 1, "the clients' exchanges are answered by the sidecar");
    sidecar.signal("TERM");
    assert_eq!(sidecar.end().await.code, Some(0));
    assert!(
        fs::read_to_string("/etc/hosts").is_ok_and(|all| !all.contains("gateway.sezzle.com")),
        "only in namespaces"
    );
    gateway.stop().await;
}

/// Without `resolver = "dns"` the sidecar would reach itself, and would distrust its own certificate.
#[tokio::test]
async fn check_warns_of_a_name_that_leads_the_sidecar_to_itself() {
    let warns = async |variables: &[(&str, &str)]| {
        let ended = check(&[&[("GATEWAY__ENVIRONMENT", "production")], variables].concat()).await;
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
        ended.stdout.contains("# gateway.resolver: proxy.hosts has gateway.sezzle.com, ")
    };
    let host = ("PROXY__HOSTS", "other.internal,gateway.sezzle.com");
    assert!(warns(&[host]).await);
    assert!(warns(&[("PROXY__HOSTS", "Gateway.Sezzle.com:443")]).await);
    assert!(!warns(&[host, ("GATEWAY__RESOLVER", "dns")]).await);
    assert!(!warns(&[host, ("GATEWAY__EGRESS_PROXY", "http://proxy.internal:3128")]).await);
    assert!(!warns(&[host, ("GATEWAY__ENVIRONMENT", "sandbox")]).await, "another gateway's name");
    assert!(!warns(&[]).await);
}

const MERCHANT: [(&str, &str); 2] =
    [("CREDENTIALS__PUBLIC_KEY", "sz_pub_merchant"), ("CREDENTIALS__PRIVATE_KEY", "sz_pr_merchant-0123456789")];

/// The name server leads the gateway's name to the sidecar as well.
#[tokio::test]
async fn a_sidecar_that_reaches_itself_says_so_and_says_nothing_of_its_keys() {
    let (ca, server, folder) = (Authority::new(), NameServer::start(600).await, Folder::new());
    let (ca_file, (certificate, key)) = (ca.file(), ca.files("proxy", &["gateway.sezzle.com"]));
    let token = folder.write("token", "till-token-0123456789abcdef");
    let private = folder.write("private", "office-private-0123456789abcdef");
    let by_token = format!("[[callers]]\nname = \"till\"\ntoken_file = \"{token}\"\nallow = [\"all\"]\n");
    let by_keys = format!(
        "[[callers]]\nname = \"office\"\npublic_key = \"sz_pub_merchant\"\nprivate_key_file = \"{private}\"\nallow = \
         [\"all\"]\n"
    );
    for (callers, hosts) in [("", true), (by_token.as_str(), true), (by_keys.as_str(), true), ("", false)] {
        let file = folder.write("sidecar.toml", callers);
        let (proxy, ops) = (free_address(), free_address());
        let url = format!("{BASE}:{}", proxy.port());
        let (proxy, ops_listen, server) = (proxy.to_string(), ops.to_string(), server.address.to_string());
        let mut variables = vec![
            ("GATEWAY__ENVIRONMENT", "sandbox"),
            ("GATEWAY__URL", url.as_str()),
            ("GATEWAY__CA_FILE", ca_file.as_str()),
            ("GATEWAY__RESOLVER", "dns"),
            ("GATEWAY__NAMESERVERS", server.as_str()),
            ("PROXY__LISTEN", proxy.as_str()),
            ("PROXY__TLS__CERTIFICATE_FILE", certificate.as_str()),
            ("PROXY__TLS__KEY_FILE", key.as_str()),
            ("OPS__LISTEN", ops_listen.as_str()),
            ("DRAIN__GRACE", "0s"),
        ];
        variables.extend(MERCHANT);
        if hosts {
            variables.push(("PROXY__HOSTS", "gateway.sezzle.com"));
        }
        let case = format!("{callers} {hosts}");
        let sidecar = Process::start(&["run", "--config", &file], &variables);
        let http = Client::new();
        eventually("the failure is shown", async || {
            tokio::net::TcpStream::connect(ops).await.is_ok()
                && http.get(ops, "/readyz").await.text().starts_with("not ready: the sidecar reaches a sidecar")
        })
        .await;
        let checked = run(&["check", "--online", "--config", &file], &variables).await;
        assert!(checked.code.is_some_and(|code| code != 0), "{case}: {checked:?}");
        assert!(checked.stderr.contains("reaches a sidecar in Sezzle's place (508"), "{case}: {}", checked.stderr);
        assert!(!checked.stderr.contains("rejected"), "{case}: {}", checked.stderr);
        sidecar.signal("TERM");
        let ended = sidecar.end().await;
        let logged = lines(&ended.stdout);
        let is_request = |line: &serde_json::Value| line["message"] == "request" && line["error"] == "loop_detected";
        assert!(logged.iter().any(|line| is_request(line) && line["code"] == 508), "{case}: {}", ended.stdout);
        let failed: Vec<_> = logged.iter().filter(|line| line["message"] == "token exchange failed").collect();
        assert!(!failed.is_empty(), "{case}: {}", ended.stdout);
        for line in failed {
            let error = line["error"].as_str().expect("a text");
            assert!(error.contains("reaches a sidecar") && !error.contains("key pair"), "{case}: {error}");
        }
    }
}
