//! `simulate`: a gateway for everybody's tests. These tests use it as others do, as a process and by HTTP alone.

use std::fs::File;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::Empty;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::client::{Answer, Client};
use crate::support::eventually;
use crate::support::process::{Ended, Folder, Process, free_address, run};
use crate::support::tls::self_signed_pem;

/// A simulated gateway as a process of its own.
struct Gateway {
    process: Process,
    /// The text that the gateway printed at its start.
    banner: String,
    address: SocketAddr,
    client: Client,
}

impl Gateway {
    async fn start(arguments: &[&str]) -> Self {
        let arguments = [&["simulate", "--listen", "127.0.0.1:0"], arguments].concat();
        let mut process = Process::start(&arguments, &[]);
        process.says("Ctrl-C stops it.").await;
        let banner = process.stdout();
        let url = banner.split_whitespace().find_map(|word| word.split_once("://")).expect("a URL").1;
        let address = url.trim_end_matches('.').parse().unwrap_or_else(|error| panic!("{error}: {url}"));
        Self { process, banner, address, client: Client::new() }
    }

    /// Makes a control call.
    async fn ask(&self, method: Method, path: &str, body: &Value) -> Answer {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.client.send(self.address, method, &format!("/_simulator/{path}"), &[], &body).await
    }

    /// Makes a control call, which must succeed.
    async fn tell(&self, method: Method, path: &str, body: Value) -> Value {
        let answer = self.ask(method, path, &body).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer.json()
    }

    /// An order that can be captured.
    async fn authorized(&self) -> String {
        let ids = self.tell(Method::POST, "sessions", json!({"kind": "order"})).await;
        let order = ids["order"].as_str().expect("an order").to_owned();
        self.tell(Method::POST, &format!("orders/{order}/complete"), Value::Null).await;
        order
    }

    async fn effects(&self, order: &str) -> usize {
        let effects = self.tell(Method::GET, &format!("orders/{order}/effects"), Value::Null).await;
        effects["effects"].as_array().expect("a list").len()
    }

    async fn stop(self) {
        self.process.signal("TERM");
        let Ended { code, stderr, .. } = self.process.end().await;
        assert_eq!((code, stderr.as_str()), (Some(0), ""));
    }
}

/// A sidecar started with the lines that a gateway printed.
struct Sidecar {
    process: Process,
    proxy: SocketAddr,
    client: Client,
}

impl Sidecar {
    async fn start(banner: &str) -> Self {
        let recipe: String = banner
            .lines()
            .skip_while(|line| !line.trim().starts_with("SEZZLE_SIDECAR__"))
            .take_while(|line| !line.trim().is_empty())
            .map(|line| format!("{line}\n"))
            .collect();
        assert!(recipe.trim().ends_with("sezzle-sidecar run"), "{banner}");
        let folder = Folder::new();
        let (proxy, ops) = (free_address(), free_address());
        let (listen, metrics) = (proxy.to_string(), ops.to_string());
        let variables = [("PROXY__LISTEN", listen.as_str()), ("OPS__LISTEN", &metrics), ("DRAIN__GRACE", "0s")];
        // `exec` and `env` turn the shell's process into the sidecar's, so that the signal reaches the sidecar.
        let line = format!("exec env {}", recipe.trim_start());
        let mut process = Process::shell(&line, folder.path(), &variables);
        process.says("token obtained").await;
        let client = Client::new();
        client.until_ready(ops).await;
        Self { process, proxy, client }
    }

    async fn capture(&self, order: &str, headers: &[(&str, &str)]) -> u16 {
        let path = format!("/v2/order/{order}/capture");
        self.client.send(self.proxy, Method::POST, &path, headers, CAPTURE).await.status
    }

    async fn stop(self) {
        self.process.signal("TERM");
        assert_eq!(self.process.end().await.code, Some(0));
    }
}

const CAPTURE: &str = r#"{"capture_amount":{"amount_in_cents":5,"currency":"USD"},"partial_capture":true}"#;

/// Runs a printed line, with options to fail on a status from 400 on and to limit the wait.
async fn curl(line: &str, prelude: &str) -> String {
    let folder = Folder::new();
    let whole = format!("{prelude}{line} --fail --max-time 20");
    let Ended { code, stdout, stderr } = Process::shell(&whole, folder.path(), &[]).end().await;
    assert_eq!(code, Some(0), "{whole}\n{stdout}\n{stderr}");
    stdout
}

/// Runs every line that a gateway printed for trying. A sidecar takes the place of the one that the lines call.
async fn printed_lines_work(gateway: &Gateway, sidecar: &Sidecar) {
    let lines = gateway.banner.lines().map(str::trim).filter(|line| line.starts_with("curl "));
    let lines: Vec<String> =
        lines.map(|line| line.replace("http://127.0.0.1:8080/", &format!("http://{}/", sidecar.proxy))).collect();
    assert_eq!(lines.len(), 6, "{}", gateway.banner);
    for line in &lines {
        let answer: Value = serde_json::from_str(&curl(line, "").await).expect("JSON");
        if line.ends_with("/effects") {
            assert_eq!(answer["effects"][0]["cents"], 500, "{line}: {answer}");
        }
    }
}

#[tokio::test]
async fn every_line_that_simulate_prints_works_as_printed() {
    let gateway = Gateway::start(&[]).await;
    let sidecar = Sidecar::start(&gateway.banner).await;
    printed_lines_work(&gateway, &sidecar).await;
    sidecar.stop().await;
    gateway.stop().await;
}

#[tokio::test]
async fn every_line_that_simulate_prints_works_over_tls() {
    let folder = Folder::new();
    let (certificate, key) = self_signed_pem(&["127.0.0.1"]);
    // A shell would split this name without quotes.
    let files = [folder.write("it's a certificate.pem", &certificate), folder.write("key.pem", &key)];
    let gateway = Gateway::start(&["--tls-certificate", &files[0], "--tls-key", &files[1]]).await;
    assert!(gateway.banner.contains(&format!("https://{}", gateway.address)), "{}", gateway.banner);
    let sidecar = Sidecar::start(&gateway.banner).await;
    printed_lines_work(&gateway, &sidecar).await;
    sidecar.stop().await;
    gateway.stop().await;
}

#[tokio::test]
async fn every_control_call_in_the_manual_works_as_written() {
    let manual = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/simulator.md"));
    let gateway = Gateway::start(&[]).await;
    // Makes a webhook that can be sent again. No service listens there, which does not matter.
    let keys = r#"{"public_key":"sz_pub_simulated","private_key":"sz_pr_simulated"}"#;
    let token = gateway.client.send(gateway.address, Method::POST, "/v2/authentication", &[], keys).await.json();
    let bearer = format!("Bearer {}", token["token"].as_str().expect("a token"));
    let test = format!(r#"{{"url":"http://{}/"}}"#, free_address());
    let headers = [("authorization", bearer.as_str())];
    let tested = gateway.client.send(gateway.address, Method::POST, "/v2/webhooks/test", &headers, &test).await;
    assert_eq!(tested.status, 201);
    let (mut lines, mut prelude) = (0, String::new());
    for line in manual.lines().map(str::trim) {
        // Every recipe starts from a clean gateway.
        if line.starts_with("**") {
            gateway.tell(Method::POST, "reset", Value::Null).await;
        }
        if line.starts_with("**") || line.starts_with('#') {
            let ids = gateway.tell(Method::POST, "sessions", json!({"kind": "order_and_tokenize"})).await;
            let card = gateway.tell(Method::POST, "cards", Value::Null).await;
            prelude = format!("ORDER={} TOKEN={} CARD={}; ", ids["order"], ids["token"], card["session"]);
        }
        if !line.starts_with("curl ") || !line.contains("/_simulator/") {
            continue;
        }
        let answer = curl(&line.replace("127.0.0.1:8081", &gateway.address.to_string()), &prelude).await;
        assert!(answer.starts_with('{') && answer.ends_with("}\n"), "{line}: {answer}");
        lines += 1;
    }
    assert!(lines >= 40, "only {lines} found");
    gateway.stop().await;
}

#[tokio::test]
async fn a_virtual_card_is_read_once_over_http() {
    let gateway = Gateway::start(&[]).await;
    let keys = r#"{"public_key":"sz_pub_simulated","private_key":"sz_pr_simulated"}"#;
    // Node's own fetch sends this mark.
    let node = ("sec-fetch-mode", "cors");
    let token = gateway.client.send(gateway.address, Method::POST, "/v2/authentication", &[node], keys).await.json();
    let bearer = format!("Bearer {}", token["token"].as_str().expect("a token"));
    let headers = [node, ("authorization", bearer.as_str())];
    let body = r#"{"origin":"https://shop.example","mode":"popup","card_response_format":"token"}"#;
    let card = gateway.client.send(gateway.address, Method::POST, "/v2/session/card", &headers, body).await;
    assert_eq!(card.status, 201, "{}", card.text());
    let card = card.json();
    let finish = format!("cards/{}/finish", card["uuid"].as_str().expect("a session"));
    let token = gateway.tell(Method::POST, &finish, Value::Null).await["token"].clone();
    let path = format!("/v2/session/card/token/{}", token.as_str().expect("a token"));
    let read = async || gateway.client.send(gateway.address, Method::GET, &path, &headers, "").await;
    let first = read().await;
    assert_eq!((first.status, first.json()["pan"].as_str()), (200, Some("4111111111111111")));
    assert_eq!(read().await.status, 404);
    gateway.stop().await;
}

#[tokio::test]
async fn settings_are_taken_as_they_are_shown() {
    let gateway = Gateway::start(&[]).await;
    let shown = gateway.tell(Method::GET, "settings", Value::Null).await;
    assert_eq!(gateway.tell(Method::PATCH, "settings", shown.clone()).await, shown);
    let older = json!({"link_base": "https://gateway.sezzle.com", "links": "without_checkout", "order_report": "csv"});
    let changed = gateway.tell(Method::PATCH, "settings", older.clone()).await;
    assert!(older.as_object().expect("an object").iter().all(|(name, value)| changed[name] == *value), "{changed}");
    let refused = gateway.ask(Method::PATCH, "settings", &json!({"links": "none", "errors": "list"})).await;
    assert_eq!(refused.status, 422);
    assert!(refused.json()["error"].as_str().is_some_and(|error| error.starts_with("links: ")), "{}", refused.text());
    assert_eq!(gateway.tell(Method::GET, "settings", Value::Null).await, changed, "nothing was changed");
    gateway.tell(Method::POST, "reset", Value::Null).await;
    assert_eq!(gateway.tell(Method::GET, "settings", Value::Null).await, shown);
    gateway.stop().await;
}

#[tokio::test]
async fn a_test_in_any_language_scripts_what_happens() {
    let gateway = Gateway::start(&[]).await;
    let sidecar = Sidecar::start(&gateway.banner).await;
    let order = gateway.authorized().await;
    let path = format!("/v2/order/{order}/capture");

    gateway.tell(Method::POST, "rules", json!({"path": path, "times": 6, "status": 503})).await;
    for (status, effects) in [(503, 0), (503, 0), (200, 1)] {
        assert_eq!(sidecar.capture(&order, &[]).await, status);
        assert_eq!(gateway.effects(&order).await, effects);
    }

    gateway.tell(Method::POST, "rules", json!({"path": path, "times": 3, "reset": "after_effect"})).await;
    let key = [("sezzle-request-id", "once")];
    assert_eq!(sidecar.capture(&order, &key).await, 504);
    assert_eq!(gateway.effects(&order).await, 2);
    assert_eq!(sidecar.capture(&order, &key).await, 200);
    assert_eq!(gateway.effects(&order).await, 2, "the same key has one effect");

    gateway.tell(Method::POST, "rules", json!({"path": path, "gate": "parked"})).await;
    let (capture, ()) = tokio::join!(sidecar.capture(&order, &[]), async {
        let arrived = async || gateway.tell(Method::GET, "gates/parked", Value::Null).await["arrived"] == 1;
        eventually("the capture is held", arrived).await;
        assert_eq!(gateway.effects(&order).await, 2);
        gateway.tell(Method::POST, "gates/parked/release", Value::Null).await;
    });
    assert_eq!((capture, gateway.effects(&order).await), (200, 3));

    let journal = gateway.tell(Method::GET, &format!("journal?method=POST&path={path}"), Value::Null).await;
    let exchanges = journal["exchanges"].as_array().expect("a list");
    let seen: Vec<_> = exchanges.iter().map(|exchange| (&exchange["status"], &exchange["effect"])).collect();
    let [yes, no] = [json!(true), json!(false)];
    let (ok, down, cut) = (json!(200), json!(503), Value::Null);
    // Each call is tried three times, and under one key only the first attempt takes effect.
    let mut expected = vec![(&down, &no); 6];
    expected.extend([(&ok, &yes), (&cut, &yes), (&cut, &no), (&cut, &no), (&ok, &no), (&ok, &yes)]);
    assert_eq!(seen, expected);
    assert_eq!(exchanges[7]["headers"]["sezzle-request-id"], json!(["once"]));
    assert_eq!(exchanges[0]["body"], CAPTURE);

    gateway.tell(Method::POST, "revoke-tokens", Value::Null).await;
    assert_eq!(sidecar.capture(&order, &[]).await, 200, "the sidecar gets a new token");
    gateway.tell(Method::POST, "reset", Value::Null).await;
    assert_eq!(sidecar.capture(&order, &[]).await, 404, "no order, no rule, but a live token");
    sidecar.stop().await;
    gateway.stop().await;
}

#[tokio::test]
async fn http_2_is_spoken_where_it_is_asked_for() {
    for (arguments, spoken) in [(&["--http2"][..], true), (&[], false)] {
        let gateway = Gateway::start(arguments).await;
        let stream = TcpStream::connect(gateway.address).await.expect("connects");
        let (mut sender, connection) =
            http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("a preface is only sent");
        tokio::spawn(connection);
        let request = Request::get(format!("http://{}/_simulator/", gateway.address)).body(Empty::<Bytes>::new());
        let answer = timeout(Duration::from_secs(10), sender.send_request(request.expect("valid"))).await;
        assert_eq!(answer.expect("in time").is_ok_and(|answer| answer.status() == 200), spoken, "{arguments:?}");
        gateway.stop().await;
    }
}

#[tokio::test]
async fn an_address_that_others_can_reach_has_to_be_meant() {
    let refused = run(&["simulate", "--listen", "0.0.0.0:0"], &[]).await;
    assert_eq!((refused.code, refused.stdout.as_str()), (Some(64), ""), "{}", refused.stderr);
    assert!(refused.stderr.contains("--allow-remote"), "{}", refused.stderr);
    let mut allowed = Process::start(&["simulate", "--listen", "0.0.0.0:0", "--allow-remote"], &[]);
    allowed.says("Ctrl-C stops it.").await;
}

#[tokio::test]
async fn a_certificate_that_cannot_be_used_is_named() {
    let folder = Folder::new();
    let (certificate, key) = self_signed_pem(&["localhost"]);
    let (_, other) = self_signed_pem(&["localhost"]);
    let certificate = folder.write("certificate.pem", &certificate);
    let (key, other) = (folder.write("key.pem", &key), folder.write("other.pem", &other));
    let (none, missing) = (folder.write("none.pem", ""), format!("{key}.missing"));
    let (large, pipe, device) = (folder.write("large.pem", ""), format!("{key}.pipe"), "/dev/zero".to_owned());
    // The sparse file takes no room on the disk.
    File::options().write(true).open(&large).and_then(|file| file.set_len(2 << 30)).expect("enlarged");
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo").success());
    for (certificate, key, named, why) in [
        (&missing, &key, &missing, "cannot be read"),
        (&certificate, &missing, &missing, "cannot be read"),
        (&none, &key, &none, "no items"),
        (&certificate, &none, &none, "no items"),
        (&certificate, &other, &certificate, &other),
        (&large, &key, &large, "holds more than"),
        (&certificate, &large, &large, "holds more than"),
        (&pipe, &key, &pipe, "nobody writes to"),
        (&device, &key, &device, "is a device"),
    ] {
        let ended = run(&["simulate", "--tls-certificate", certificate, "--tls-key", key], &[]).await;
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(78), ""), "{}", ended.stderr);
        assert!(
            ended.stderr.contains(named.as_str()) && ended.stderr.contains(why),
            "{named}, {why}: {}",
            ended.stderr
        );
    }
}
