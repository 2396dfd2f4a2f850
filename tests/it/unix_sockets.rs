//! Callers on a Unix socket are served like all others, and the file of the socket is made and removed as documented.

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::Path;

use sezzle_sidecar::simulator::Options;

use crate::support::process::{Folder, Sidecar, check};
use crate::support::wire::Wire;
use crate::support::{Harness, Session, Setup, eventually};

async fn start(path: &Path) -> Harness {
    Setup::default().set("PROXY__LISTEN", format!("127.0.0.1:0,unix:{}", path.display())).start().await
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("a file").permissions().mode() & 0o7777
}

fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nhost: localhost\r\n\r\n")
}

#[tokio::test]
async fn callers_on_a_unix_socket_share_cache_and_rules_with_the_rest() {
    let folder = Folder::new();
    let path = folder.path().join("proxy.sock");
    let harness = start(&path).await;
    assert_eq!(mode(&path), 0o660, "the owner and the group, and nobody else");
    let session = Session::order(&harness.gateway).path;

    assert_eq!(harness.get(&session).await.status, 200);
    let mut wire = Wire::unix(&path).await;
    wire.send(get(&session)).await;
    let answer = wire.answer().await;
    assert!(answer.cache().starts_with("hit"), "{}", answer.cache());
    assert_eq!(answer.json()["links"][0]["href"], format!("http://{}{session}", harness.proxy));

    wire.send(get("/v2/customer").replace("\r\n\r\n", "\r\norigin: null\r\n\r\n")).await;
    assert_eq!(wire.answer().await.error_code(), "sidecar.browser_refused");
    assert_eq!(harness.metric(r#"connections{listener="proxy"}"#).await, 2.0, "one limit for both kinds");
    drop(wire);
    harness.stop().await;
    assert!(!path.exists(), "the file goes with the listener");
}

#[tokio::test]
async fn any_one_host_will_do_where_no_browser_can_call() {
    let folder = Folder::new();
    let path = folder.path().join("proxy.sock");
    let harness = start(&path).await;
    for host in ["unix", "", "docker", "sezzle.example:443", "%2Frun%2Fproxy.sock"] {
        let mut wire = Wire::unix(&path).await;
        wire.send(format!("GET /v2/customer HTTP/1.1\r\nhost: {host}\r\n\r\n")).await;
        assert_eq!(wire.answer().await.status, 200, "{host}");
    }
    let call = harness.gateway.journal().pop().expect("a call");
    assert_eq!(call.headers["host"], harness.gateway.addr().to_string(), "it is not Sezzle's");
    for (head, status) in [
        ("GET /v2/customer HTTP/1.1\r\n", 400),
        ("GET /v2/customer HTTP/1.1\r\nhost: unix\r\nhost: unix\r\n", 400),
        ("GET /v2/customer HTTP/1.1\r\nhost:\r\nhost:\r\n", 400),
        ("GET /v2/customer HTTP/1.1\r\nhost: /run/proxy.sock\r\n", 400),
        ("GET http://gateway.sezzle.com/v2/customer HTTP/1.1\r\nhost: unix\r\n", 421),
    ] {
        let mut wire = Wire::unix(&path).await;
        wire.send(format!("{head}\r\n")).await;
        assert_eq!(wire.answer().await.status, status, "{head}");
    }
    for (host, status) in [("unix", 421), ("", 400)] {
        let mut wire = harness.wire().await;
        wire.send(format!("GET /v2/customer HTTP/1.1\r\nhost: {host}\r\n\r\n")).await;
        assert_eq!(wire.answer().await.status, status, "{host}: a page in a browser may reach the port");
    }
    harness.stop().await;
}

#[tokio::test]
async fn the_file_has_the_mode_that_is_configured() {
    let folder = Folder::new();
    let path = folder.path().join("proxy.sock");
    let listen = format!("127.0.0.1:0,unix:{}", path.display());
    let harness = Setup::default().set("PROXY__LISTEN", listen).set("PROXY__SOCKET_MODE", "0600").start().await;
    assert_eq!(mode(&path), 0o600);
    harness.stop().await;
}

#[tokio::test]
async fn a_file_left_behind_is_replaced_and_anything_else_is_not() {
    let folder = Folder::new();
    let path = folder.path().join("proxy.sock");
    let listen = format!("127.0.0.1:0,unix:{}", path.display());
    let refused = async |why: &str| {
        let error = Setup::default().set("PROXY__LISTEN", &listen).try_start().await.err().expect("cannot start");
        let text = error.to_string();
        assert!(text.starts_with(&format!("proxy.listen: cannot listen on unix:{}: ", path.display())), "{text}");
        assert!(text.contains(why), "{text}");
    };

    fs::write(&path, "somebody's data").expect("writable");
    refused("a file that is not a socket is in the way").await;
    assert_eq!(fs::read_to_string(&path).expect("still there"), "somebody's data");
    fs::remove_file(&path).expect("removable");

    let living = UnixListener::bind(&path).expect("binds");
    refused("in use").await;
    assert!(fs::metadata(&path).expect("still there").file_type().is_socket());
    // A killed process leaves its file like this.
    drop(living);
    assert!(path.exists());
    let harness = start(&path).await;
    let mut wire = Wire::unix(&path).await;
    wire.send(get("/v2/customer")).await;
    assert_eq!(wire.answer().await.status, 200);
    drop(wire);

    // A successor has taken the path: the sidecar must not remove its file.
    fs::remove_file(&path).expect("removable");
    let successor = UnixListener::bind(&path).expect("binds");
    harness.stop().await;
    assert!(path.exists(), "the successor's file stays");
    drop(successor);
}

#[tokio::test]
async fn a_folder_that_is_missing_or_closed_is_named() {
    let folder = Folder::new();
    let listen = format!("unix:{}/absent/proxy.sock", folder.path().display());
    let setup = Setup::default().set("PROXY__LISTEN", &listen).set("LINKS__BASE_URL", "http://sidecar.internal");
    let error = setup.try_start().await.err().expect("cannot start").to_string();
    assert!(error.contains(&listen) && error.contains("No such file"), "{error}");
}

#[tokio::test]
async fn a_sidecar_on_nothing_but_a_unix_socket_logs_who_called() {
    let folder = Folder::new();
    let path = folder.path().join("proxy.sock");
    let listen = format!("unix:{}", path.display());
    let variables = [("PROXY__LISTEN", listen.as_str()), ("LINKS__BASE_URL", "http://sidecar.internal")];
    let sidecar = Sidecar::start(Options::default(), &variables).await;
    let mut wire = Wire::unix(&path).await;
    wire.send(get("/v2/customer")).await;
    assert_eq!(wire.answer().await.status, 200);
    drop(wire);
    let line = async || {
        let log = sidecar.process.stdout();
        // Behind the last end of a line, half a line may stand.
        let (whole, _) = log.rsplit_once('\n')?;
        whole
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"))
            .find(|line| line["message"] == "request")
    };
    eventually("the request is logged", async || line().await.is_some()).await;
    let line = line().await.expect("a line");
    let own = fs::metadata(folder.path()).map(|folder| std::os::unix::fs::MetadataExt::uid(&folder)).expect("a folder");
    assert_eq!(line["peer_uid"], own);
    assert_eq!(line["peer_pid"], std::process::id());
    let ended = sidecar.stop().await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(!path.exists());
}

#[tokio::test]
async fn links_have_nowhere_to_lead_without_an_address() {
    let ended = check(&[("PROXY__LISTEN", "unix:/run/sezzle/proxy.sock")]).await;
    assert_eq!(ended.code, Some(78));
    assert!(ended.stderr.contains("links.base_url: required, because callers cannot follow links to a Unix socket"));
}
