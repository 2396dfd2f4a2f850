//! A client certificate tells who calls, on an address that a network may reach.

use std::net::SocketAddr;

use rcgen::{CertificateParams, SanType};
use sezzle_sidecar::simulator::{Options, Simulator};

use crate::support::client::{Answer, Client};
use crate::support::eventually;
use crate::support::process::{Folder, Process, free_address};
use crate::support::secure::Secure;
use crate::support::tls::Authority;

const CALLERS: &str = r#"
[[callers]]
name = "till"
certificate = "spiffe://shop.internal/till"
allow = ["customer.read"]

[[callers]]
name = "office"
certificate = "office.internal"
allow = ["checkout"]

[[callers]]
name = "tool"
token_file = "@/tool"
allow = ["customer.read"]
"#;

#[tokio::test]
async fn a_reload_opens_no_address_of_a_network_to_everybody() {
    let ca = Authority::new();
    let folder = Folder::new();
    folder.write("tool", "tool-token-0123456789abcdef");
    let (certificate, key) = ca.files("proxy", &["localhost"]);
    let (Options { public_key, private_key, .. }, proxy, ops) = (Options::default(), free_address(), free_address());
    let gateway = Simulator::start(Options::default()).await.expect("gateway starts");
    let with = |address: &str, more: &str| {
        format!(
            "[gateway]\nenvironment = \"sandbox\"\nurl = \"{}\"\n[ops]\nlisten = \"{ops}\"\n[links]\nrewrite = false\n\
             [proxy]\nlisten = [\"{address}:{}\"]\n{more}",
            gateway.url(),
            proxy.port()
        )
    };
    let guarded = format!(
        "[proxy.tls]\ncertificate_file = \"{certificate}\"\nkey_file = \"{key}\"\n[[callers]]\nname = \"tool\"\n\
         token_file = \"{}/tool\"\nallow = [\"read\"]\n",
        folder.path().display()
    );
    let file = folder.write("sidecar.toml", &with("0.0.0.0", &guarded));
    let variables = [("CREDENTIALS__PUBLIC_KEY", public_key.as_str()), ("CREDENTIALS__PRIVATE_KEY", &private_key)];
    let sidecar = Process::start(&["run", "--config", &file], &variables);
    let client = Client::new();
    client.until_ready(ops).await;
    let reload = async |configuration: &str, result: &str| {
        folder.write("sidecar.toml", configuration);
        let series = format!("config_reloads_total{{result=\"{result}\"}}");
        let before = client.metric(ops, &series).await;
        sidecar.signal("HUP");
        eventually(result, async || client.metric(ops, &series).await > before).await;
    };
    // The address of the file is loopback, and that of the process is not until a restart.
    reload(&with("127.0.0.1", ""), "failed").await;
    let stranger = Secure::new(&ca.pem());
    assert_eq!(stranger.get(proxy, "/v2/customer").await.0.error_code(), "sidecar.unknown_caller");
    let told = "until a restart, and without callers everybody";
    eventually(told, async || sidecar.stdout().contains(told)).await;
    reload(&with("127.0.0.1", "allow_remote = true\n"), "needs_restart").await;
    assert_eq!(stranger.get(proxy, "/v2/customer").await.0.status, 200, "as the operator wants");
    sidecar.signal("TERM");
    assert_eq!(sidecar.end().await.code, Some(0));
    gateway.stop().await;
}

#[tokio::test]
async fn a_certificate_tells_the_caller_on_an_address_of_a_network() {
    let (ca, callers) = (Authority::new(), Authority::new());
    let folder = Folder::new();
    folder.write("tool", "tool-token-0123456789abcdef");
    let configuration = CALLERS.replace('@', &folder.path().display().to_string());
    let file = folder.write("sidecar.toml", &configuration);
    let (certificate, key) = ca.files("proxy", &["localhost"]);
    let Options { public_key, private_key, .. } = Options::default();
    let gateway = Simulator::start(Options::default()).await.expect("gateway starts");
    let (proxy, ops) = (free_address(), free_address());
    let everywhere = SocketAddr::from(([0, 0, 0, 0], proxy.port())).to_string();
    let (url, own, base) = (gateway.url(), ops.to_string(), format!("https://localhost:{}", proxy.port()));
    // Neither TLS nor callers alone lift the rule against remote addresses, and both together do.
    let variables = [
        ("GATEWAY__ENVIRONMENT", "sandbox"),
        ("GATEWAY__URL", &url),
        ("CREDENTIALS__PUBLIC_KEY", &public_key),
        ("CREDENTIALS__PRIVATE_KEY", &private_key),
        ("PROXY__LISTEN", &everywhere),
        ("LINKS__BASE_URL", &base),
        ("OPS__LISTEN", &own),
        ("PROXY__TLS__CERTIFICATE_FILE", &certificate),
        ("PROXY__TLS__KEY_FILE", &key),
        ("PROXY__TLS__CLIENT_CA_FILE", &callers.file()),
    ];
    let alone = Process::start(&["check"], &variables).end().await;
    assert!(alone.code == Some(78) && alone.stderr.contains("set proxy.tls and [[callers]]"), "{}", alone.stderr);
    let sidecar = Process::start(&["run", "--config", &file], &variables);
    let client = Client::new();
    client.until_ready(ops).await;

    let code = |answer: &Answer| if answer.status == 200 { "none".to_owned() } else { answer.error_code() };
    for (name, names, change, status, expected) in [
        ("till", "any", Some(uri as fn(&mut CertificateParams)), 200, "none"),
        ("office", "Office.Internal", None, 403, "sidecar.not_allowed"),
        ("stranger", "stranger.internal", None, 401, "sidecar.unknown_caller"),
        ("both", "any", Some(names_of_two), 401, "sidecar.unknown_caller"),
    ] {
        let pair = callers.signed(name, &[names], |params| change.iter().for_each(|change| change(params)));
        for protocols in [&["h2"][..], &["http/1.1"]] {
            let caller = Secure::showing(&ca.pem(), &pair).offering(protocols);
            for _ in 0..2 {
                let (answer, _) = caller.get(proxy, "/v2/customer").await;
                assert_eq!((answer.status, code(&answer).as_str()), (status, expected), "{name}: {}", answer.text());
            }
        }
    }
    let (answer, _) = Secure::new(&ca.pem()).get(proxy, "/v2/customer").await;
    assert_eq!(answer.error_code(), "sidecar.unknown_caller", "neither a certificate nor a token");
    let two = "a certificate has names of two callers, so it tells neither";
    for part in ["\"caller\":\"till\"", two, "\"callers\":\"till, office\""] {
        eventually(part, async || sidecar.stdout().contains(part)).await;
    }
    assert_eq!(sidecar.stdout().matches(two).count(), 1, "one line a minute");
    sidecar.signal("TERM");
    assert_eq!(sidecar.end().await.code, Some(0));
    gateway.stop().await;
}

fn uri(params: &mut CertificateParams) {
    params.subject_alt_names = vec![SanType::URI("spiffe://shop.internal/till".try_into().expect("a URI"))];
}

fn names_of_two(params: &mut CertificateParams) {
    uri(params);
    params.subject_alt_names.push(SanType::DnsName("office.internal".try_into().expect("a name")));
}
