//! The instructions of docs/fleet.md and of the examples work with a real server.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use http::Method;

use crate::support::pages::{page, root};
use crate::support::process::{Folder, free_address};
use crate::support::redis::{Engine, Redis};
use crate::support::wire::Wire;
use crate::support::{Harness, Session, Setup, eventually, tls};

const SYNCED: &str = r#"fleet_state{state="synced"}"#;
const PASSWORD: &str = "a-password-of-the-fleet";

/// The files that the page tells an operator to make.
fn secrets() -> Folder {
    let folder = Folder::new();
    let (certificate, key) = tls::self_signed_pem(&["localhost"]);
    let text = page("docs/fleet.md");
    let user = text.lines().map(str::trim).find(|line| line.starts_with("user sezzle-sidecar on >PASSWORD "));
    let user = user.expect("the line of the ACL").replace("PASSWORD", PASSWORD);
    let keys = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n";
    for (name, text) in [
        ("tls.crt", certificate.as_str()),
        ("ca.crt", &certificate),
        ("tls.key", &key),
        ("password", PASSWORD),
        ("keys", keys),
        ("users.acl", &format!("user default off\n{user}\n")),
    ] {
        let file = folder.write(name, text);
        fs::set_permissions(file, fs::Permissions::from_mode(0o600)).expect("our own file");
    }
    folder
}

/// A server with the configuration of `deploy/kubernetes-fleet`, and its port for TLS.
async fn server(secrets: &Folder) -> (Redis, u16) {
    let port = free_address().port();
    let text = fs::read_to_string(root().join("deploy/kubernetes-fleet/valkey.conf")).expect("the configuration");
    let mut options = Vec::new();
    for (key, value) in text.lines().filter_map(|line| line.split_once(' ')).filter(|(key, _)| *key != "#") {
        let file = |path: &str| secrets.path().join(path.rsplit('/').next().unwrap_or_default()).display().to_string();
        let value = match key {
            // The test speaks without TLS.
            "port" => continue,
            "tls-port" => port.to_string(),
            _ if value.starts_with('/') => file(value),
            _ => value.trim_matches('"').to_owned(),
        };
        options.extend([format!("--{key}"), value]);
    }
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    (Redis::with(Engine::Redis, &options).await, port)
}

/// A sidecar with the section of `deploy/kubernetes-fleet`.
fn sidecar(secrets: &Folder, port: u16) -> Setup {
    let text = fs::read_to_string(root().join("deploy/kubernetes/components/fleet/fleet.toml")).expect("the section");
    let section = text.parse::<toml::Table>().expect("TOML").remove("fleet").expect("the section");
    let mut setup = Setup::default().set("CONTROL__LISTEN", "127.0.0.1:0");
    // On a busy machine a reply may be late.
    setup = setup.set("FLEET__POLL", "400ms").set("FLEET__LEASE", "1s");
    for (key, value) in section.as_table().expect("a section") {
        let value = value.as_str().expect("a text");
        let value = match value.rsplit_once('/') {
            _ if key == "url" => format!("rediss://localhost:{port}"),
            Some((_, file)) => secrets.path().join(file).display().to_string(),
            None => value.to_owned(),
        };
        setup = setup.set(&format!("FLEET__{}", key.to_ascii_uppercase()), value);
    }
    setup
}

async fn synced(sidecar: &Harness) {
    eventually("synced", async || sidecar.metric(SYNCED).await == 1.0).await;
}

/// Both sidecars meet over TLS, as a user who may do no more than the page allows.
#[tokio::test]
#[ignore = "needs redis-server: tests/run"]
async fn the_sidecars_of_the_example_are_one_fleet() {
    let secrets = secrets();
    let (_redis, port) = server(&secrets).await;
    let first = sidecar(&secrets, port).start().await;
    let second = sidecar(&secrets, port).set("GATEWAY__URL", first.gateway.url()).start().await;
    for sidecar in [&first, &second] {
        synced(sidecar).await;
    }
    let session = Session::tokenize(&first.gateway);
    for sidecar in [&first, &second] {
        assert_eq!(sidecar.get(&session.path).await.status, 200);
    }
    assert_eq!(second.metric("cache_entries").await, 1.0);
    let shared = r#"fleet_bodies_total{result="stored"}"#;
    eventually("shared", async || first.metric(shared).await + second.metric(shared).await > 0.0).await;
    assert_eq!(purge_all(&first).await, r#"{"removed":1}"#);
    eventually("purged there too", async || second.metric("cache_entries").await == 0.0).await;
    let applied = r#"fleet_entries_total{direction="applied",kind="all"}"#;
    eventually("counted, as the page says", async || second.metric(applied).await == 1.0).await;
    assert_eq!(first.metric(r#"fleet_holds_total{result="gave_up"}"#).await, 0.0);
    assert_eq!(first.metric(r#"fleet_rejoins_total{reason="run_id"}"#).await, 0.0, "INFO is allowed");
    for sidecar in [first, second] {
        sidecar.stop().await;
    }
}

async fn purge_all(sidecar: &Harness) -> String {
    let headers = [("content-type", "application/json")];
    let all = r#"{"all": true}"#;
    let answer = sidecar.client.send(sidecar.control(), Method::POST, "/purge", &headers, all).await;
    assert_eq!(answer.status, 200);
    answer.text().trim_end().to_owned()
}

/// The text of the status page.
async fn status(sidecar: &Harness) -> String {
    let mut wire = Wire::connect(sidecar.control()).await;
    wire.send("GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    let page = wire.answer().await.text();
    page.split('<').filter_map(|piece| piece.split_once('>')).map(|(_, text)| text).collect()
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run"]
async fn the_status_page_shows_the_link_and_what_others_do_not_know() {
    let mut redis = Redis::start().await;
    let setup = Setup::default().set("CONTROL__LISTEN", "127.0.0.1:0");
    let sidecar = setup.set("FLEET__URL", format!("redis://{}", redis.address)).start().await;
    synced(&sidecar).await;
    let text = status(&sidecar).await;
    for words in [&format!("Server{}", redis.address), "Linksynced: the log is read in time", "Not published0"] {
        assert!(text.contains(words), "{words} in {text}");
    }
    redis.kill().await;
    eventually("down", async || status(&sidecar).await.contains("Linkdown: there is no connection")).await;
    purge_all(&sidecar).await;
    eventually("what is not published", async || status(&sidecar).await.contains("Not published1")).await;
    eventually("the remarks", async || {
        // Half a minute passes between two observations, and before the second remark.
        sidecar.clock.advance(Duration::from_secs(5));
        let text = status(&sidecar).await;
        text.contains("The log of the fleet has not been read for ")
            && text.contains("may not know of 1 change here, for ")
    })
    .await;
    redis.start_again().await;
    eventually("told", async || status(&sidecar).await.contains("Not published0")).await;
    sidecar.stop().await;
}
