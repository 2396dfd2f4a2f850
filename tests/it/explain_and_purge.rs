//! The operators' commands: `explain` shows the sidecar's decision and its reasons, `purge` removes sessions from a
//! running sidecar.

use std::process::{Command, Stdio};

use http::header::CACHE_CONTROL;
use http::{HeaderValue, StatusCode};
use sezzle_sidecar::simulator::{Options, Rule, Simulator};

use crate::support::Session;
use crate::support::process::{BINARY, CONFIGURED, Folder, Sidecar, run};

const SESSION: &str = "6c9db5d4-d09a-4224-860a-b5438ac32ca8";

/// Explains a request, with Sezzle's answer if one is given.
fn explain(arguments: &[&str], answer: &str) -> (Option<i32>, String) {
    let folder = Folder::new();
    let input = std::fs::File::open(folder.write("answer", answer)).expect("readable");
    let mut command = Command::new(BINARY);
    command.arg("explain").args(arguments).env_clear().stdin(Stdio::from(input));
    command.envs(CONFIGURED.map(|(name, value)| (format!("SEZZLE_SIDECAR__{name}"), value)));
    let output = command.output().expect("runs");
    let text = String::from_utf8(output.stdout).expect("UTF-8") + &String::from_utf8_lossy(&output.stderr);
    (output.status.code(), text)
}

fn says(arguments: &[&str], answer: &str, expected: &[&str]) {
    let (code, text) = explain(arguments, answer);
    assert_eq!(code, Some(0), "{text}");
    for line in expected {
        assert!(text.lines().any(|found| found == *line), "{arguments:?} does not say {line:?}:\n{text}");
    }
}

#[test]
fn a_request_is_explained() {
    let lookup = format!("/v2/session/{SESSION}");
    says(
        &["GET", &lookup, "-H", "Cache-Control: no-cache, max-age=5"],
        "",
        &[
            "request     let through",
            "route       /v2/session/{session} (class session)",
            &format!("cache       looked up under {SESSION}"),
            "asks for    an answer fetched anew, which is stored (no-cache)",
            "asks for    an answer no older than (max-age) 5 s",
        ],
    );
    says(
        &["GET", &format!("{lookup}?a=b")],
        "",
        &["cache       bypass: the request has a query, or a method other than GET and HEAD"],
    );
    says(&["GET", "/v2/customer"], "", &["cache       bypass: only GET /v2/session/{uuid} is cached"]);
    for path in ["/v2/session/x", &format!("{lookup}/")] {
        says(&["GET", path], "", &["cache       bypass: the part after /v2/session/ is not a UUID alone"]);
    }
    says(&["PATCH", &format!("{lookup}/card")], "", &[&format!("purges      session {SESSION}")]);
    says(
        &["GET", &format!("{lookup}/card")],
        "{}",
        &["answer      not stored: the request is not a lookup that the sidecar caches"],
    );
    says(
        &["POST", "/v2/order/A-1/capture"],
        "",
        &[
            "route       /v2/order/{order}/capture (class money)",
            "cache       bypass: the call is a write",
            "purges      the sessions of order a-1",
        ],
    );
    says(
        &["GET", "/v2/customer", "-H", "Host: evil.example"],
        "",
        &[
            "request     refused: 421 sidecar.misdirected: this sidecar does not answer for the Host \"evil.example\" (see proxy.hosts)",
        ],
    );
}

#[test]
fn a_read_of_card_data_is_explained_by_the_setting() {
    let path = "/v2/session/card/token/t";
    let refused = "request     refused: 403 sidecar.card_data_refused: this call returns card data, and the \
                   sidecar passes card data on only with proxy.card_data = \"forward\"; it sent nothing to Sezzle";
    says(&["GET", path], "", &[refused]);
    let folder = Folder::new();
    let forward = folder.write("forward.toml", "[proxy]\ncard_data = \"forward\"\n");
    says(
        &["GET", path, "--config", &forward],
        "",
        &[
            "route       /v2/session/card/token/{token} (class money)",
            "cache       bypass: the call returns card data, which Sezzle gives only once",
        ],
    );
    let (_, text) = explain(&["HEAD", path, "--config", &forward], "");
    assert!(text.contains("refused: 405 sidecar.method_not_allowed"), "{text}");
}

#[test]
fn a_call_of_version_1_is_explained_by_the_setting() {
    let refused = "request     refused: 404 sidecar.not_found: this sidecar serves only paths under /v2/, and passes \
                   calls of version 1 on only with proxy.v1 = \"forward\"; it sent nothing to Sezzle";
    says(&["POST", "/v1/order/A-1/refund"], "", &[refused]);
    let folder = Folder::new();
    let forward = folder.write("forward.toml", "[proxy]\nv1 = \"forward\"\n");
    says(
        &["POST", "/v1/order/A-1/refund", "--config", &forward],
        "",
        &[
            "request     let through",
            "route       v1 (class money)",
            "cache       bypass: the call is a write",
            "purges      the sessions of order a-1",
        ],
    );
    says(
        &["GET", "/v1/session/6c9db5d4-d09a-4224-860a-b5438ac32ca8", "--config", &forward],
        "{}",
        &[
            "route       v1 (class read)",
            "cache       bypass: only GET /v2/session/{uuid} is cached",
            "answer      not stored: the request is not a lookup that the sidecar caches",
        ],
    );
    let (_, text) = explain(&["POST", "/v1/authentication", "--config", &forward], "");
    assert!(text.contains("refused: 404 sidecar.not_found: this sidecar passes on no exchange of keys"), "{text}");
}

#[test]
fn an_answer_is_explained() {
    let lookup = format!("/v2/session/{SESSION}");
    let body = format!(r#"{{"uuid":"{SESSION}","order":{{"uuid":"o-1"}}}}"#);
    says(
        &["GET", &lookup],
        &body,
        &[
            "answer      stored for 30 s, less the time of the exchange; shortly after a write for 2 s at most, or not \
             at all",
            "relates to  2 identifiers, its own included; a write to any of them purges the session",
        ],
    );
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nCache-Control: no-store\r\n\r\n";
    says(&["GET", &lookup], &format!("{head}{body}"), &["answer      not stored: detail=no-store"]);
    says(
        &["GET", &lookup],
        "HTTP/2 404\ncontent-type: application/json\n\n[]",
        &["answer      not stored: detail=status"],
    );
    says(&["GET", &lookup], "{}", &["answer      not stored: detail=other-session"]);
    says(&["GET", &lookup], "nonsense", &["answer      not stored: detail=unreadable"]);
    says(&["GET", &lookup, "-H", "cache-control: no-store"], &body, &["answer      not stored: detail=request"]);
    says(
        &["GET", "/v2/customer"],
        &body,
        &["answer      not stored: the request is not a lookup that the sidecar caches"],
    );
    let (code, text) = explain(&["GET", &lookup], "HTTP/1.1 oops\r\n\r\n");
    assert_eq!(code, Some(64), "{text}");
}

/// Every user of the machine can read the arguments of a command.
#[test]
fn a_secret_comes_from_a_file_or_standard_input_and_never_as_an_argument() {
    let request = ["GET", "/v2/customer"];
    for secret in
        ["Authorization: Bearer canary", "authorization:canary", "Proxy-Authorization: canary", "Cookie: canary"]
    {
        let (code, text) = explain(&[&request[..], &["-H", secret]].concat(), "");
        assert_eq!(code, Some(64), "{text}");
        for way in ["-H @FILE", "-H @-"] {
            assert!(text.contains(way), "{way} in {text}");
        }
        assert!(!text.contains("canary"), "{text}");
    }
    for wrong in ["Authorization Bearer canary", "@/nowhere/canary.header"] {
        let (code, text) = explain(&[&request[..], &["-H", wrong]].concat(), "");
        assert_eq!((code, text.contains("Bearer canary")), (Some(64), false), "{text}");
    }
    let folder = Folder::new();
    let file = format!("@{}", folder.write("header", "\nHost: evil.example\nAuthorization: Bearer canary\n"));
    let refused = "request     refused: 421 sidecar.misdirected: this sidecar does not answer for the Host \
                   \"evil.example\" (see proxy.hosts)";
    says(&[&request[..], &["-H", &file]].concat(), "", &[refused]);
    // Standard input then holds no answer.
    says(&[&request[..], &["-H", "@-"]].concat(), "Host: evil.example\r\nAuthorization: canary\r\n", &[refused]);
    let (code, text) = explain(&[&request[..], &["-H", "@-"]].concat(), "Authorization Bearer canary");
    assert_eq!((code, text.as_str()), (Some(64), "sezzle-sidecar: standard input:1: expected NAME: VALUE\n"));
    let large = format!("@{}", folder.write("large", &"a: b\n".repeat(20_000)));
    let (code, text) = explain(&[&request[..], &["-H", &large]].concat(), "");
    assert!(code == Some(64) && text.contains("holds more than 65536 bytes"), "{text}");
}

/// The sidecar replaces Sezzle's `Cache-Control` by its own, so its answer cannot say what Sezzle allows.
#[test]
fn an_answer_of_the_sidecars_own_is_told_from_one_of_sezzles() {
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nCache-Control: private, no-cache\r\n\
                Cache-Status: sezzle-sidecar; fwd=uri-miss; fwd-status=200; ttl=30; stored\r\n\r\n";
    let (code, text) = explain(&["GET", &format!("/v2/session/{SESSION}")], &format!("{head}{{}}"));
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("\nnote        a sidecar gave this answer"), "{text}");
}

#[tokio::test]
async fn sezzle_itself_is_asked_and_its_answer_explained() {
    let Options { public_key, private_key, .. } = Options::default();
    let gateway = Simulator::start(Options::default()).await.expect("gateway starts");
    let session = Session::order(&gateway);
    let url = gateway.url();
    let asks_at = async |url: &str, method: &str, path: &str, private: &str| {
        let variables = [
            ("GATEWAY__ENVIRONMENT", "sandbox"),
            ("GATEWAY__URL", url),
            ("CREDENTIALS__PUBLIC_KEY", &public_key),
            ("CREDENTIALS__PRIVATE_KEY", private),
        ];
        let ended = run(&["explain", "--ask", method, path], &variables).await;
        (ended.code, ended.stdout + &ended.stderr)
    };
    let asks = async |method: &str, path: &str, private: &str| asks_at(&url, method, path, private).await;

    let (code, text) = asks("GET", &session.path, &private_key).await;
    assert_eq!(code, Some(0), "{text}");
    for line in ["\nSezzle says 200 in ", "\nheaders     no caching headers\n", "\nanswer      stored for 30 s, "] {
        assert!(text.contains(line), "{line:?} in\n{text}");
    }
    assert!(!text.contains(&session.order), "nothing of the body: {text}");

    gateway.script(Rule::path("/v2/session/*").set_header(CACHE_CONTROL, HeaderValue::from_static("no-store")));
    let (_, text) = asks("GET", &session.path, &private_key).await;
    assert!(
        text.contains("\nheaders     cache-control: no-store\nanswer      not stored: detail=no-store\n"),
        "{text}"
    );
    let (code, text) = asks("GET", &format!("/v2/session/{SESSION}"), &private_key).await;
    assert!(code == Some(0) && text.contains("\nSezzle says 404 in "), "{text}");
    gateway.script(Rule::path("/v2/session/*").status(StatusCode::BAD_GATEWAY));
    let (code, text) = asks("GET", &session.path, &private_key).await;
    assert!(code == Some(0) && text.contains("\nSezzle says 502 in "), "{text}");

    // A write, or a path that is no lookup of a session, is never sent.
    let before = gateway.journal().len();
    for (method, path) in [("POST", session.path.as_str()), ("GET", "/v2/customer"), ("DELETE", &session.order_path)] {
        let (code, text) = asks(method, path, &private_key).await;
        assert!(code == Some(64) && text.contains("--ask needs GET and the path /v2/session/{uuid}"), "{text}");
    }
    assert_eq!(gateway.journal().len(), before);

    let (code, text) = asks("GET", &session.path, "sz_pr_wrong").await;
    assert!(code == Some(77) && text.contains("Sezzle rejected the key pair"), "{text}");
    gateway.stop().await;
    // Another test may listen on the port of a gateway that has stopped. Nobody listens on this one.
    let (code, text) = asks_at("http://127.0.0.1:1", "GET", &session.path, &private_key).await;
    assert!(code == Some(1) && text.contains("cannot connect to"), "{text}");
}

#[tokio::test]
async fn a_purge_reaches_the_running_sidecar() {
    let folder = Folder::new();
    let control = format!("unix:{}", folder.path().join("control.sock").display());
    let sidecar = Sidecar::start(Options::default(), &[("CONTROL__LISTEN", &control)]).await;
    let session = Session::tokenize(&sidecar.gateway);
    let variables = [&CONFIGURED[..], &[("CONTROL__LISTEN", control.as_str())]].concat();
    for what in [&[session.uuid.as_str()][..], &["--order", &session.order], &["--token", session.token()], &["--all"]]
    {
        sidecar.get(&session.path).await;
        assert!(sidecar.get(&session.path).await.cache().starts_with("hit"));
        let purged = run(&[&["purge"], what].concat(), &variables).await;
        assert_eq!((purged.code, purged.stdout.as_str()), (Some(0), "removed 1\n"), "{what:?}: {}", purged.stderr);
        assert!(!sidecar.get(&session.path).await.cache().starts_with("hit"), "{what:?}");
    }

    let unset = run(&["purge", "--all"], &CONFIGURED).await;
    assert_eq!(unset.code, Some(78), "{unset:?}");
    assert!(unset.stderr.contains("control.listen is not set"));
    for wrong in [&["purge"][..], &["purge", "--all", "--order", "a"], &["purge", "no-uuid"]] {
        assert_eq!(run(wrong, &variables).await.code, Some(64), "{wrong:?}");
    }
    assert_eq!(sidecar.stop().await.code, Some(0));
    let gone = run(&["purge", "--all"], &variables).await;
    assert_eq!(gone.code, Some(1));
    assert!(gone.stderr.contains("cannot reach the sidecar at unix:"), "{}", gone.stderr);
}
