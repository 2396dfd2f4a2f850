//! SIGHUP puts all changed keys that need no restart in force at once, or none of them, and requests in progress do not
//! notice.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::Method;
use serde_json::Value;
use sezzle_sidecar::simulator::{Gate, Options, Rule, Simulator};
use tokio::time::{Instant, timeout};

use crate::support::client::{Answer, Client, raw};
use crate::support::process::{Ended, Folder, Process, Sidecar, free_address};
use crate::support::wire::Wire;
use crate::support::{Session, arrived, eventually};

/// A sidecar with a configuration file that a test can change.
struct Reloading {
    sidecar: Sidecar,
    folder: Folder,
}

const PUBLIC: &str = "sz_pub_a";
const PRIVATE: &str = "sz_pr_a";

impl Reloading {
    /// Starts the sidecar and waits until it is ready.
    async fn start(configuration: &str) -> Self {
        let this = Self::unready(configuration, &[]).await;
        this.sidecar.ready().await;
        this
    }

    async fn unready(configuration: &str, variables: &[(&str, &str)]) -> Self {
        let folder = Folder::new();
        folder.write("public", PUBLIC);
        folder.write("private", PRIVATE);
        let file = folder.write("sidecar.toml", &whole(&folder, configuration));
        let options = Options { public_key: PUBLIC.to_owned(), private_key: PRIVATE.to_owned(), ..Options::default() };
        let gateway = Simulator::start(options).await.expect("gateway starts");
        let start = |variables: &[(&str, &str)]| Process::start(&["run", "--config", &file], variables);
        // Variables would override the file.
        let unset = ["CREDENTIALS__PUBLIC_KEY", "CREDENTIALS__PRIVATE_KEY", "DRAIN__GRACE"].map(|name| (name, ""));
        let variables = [&unset, variables].concat();
        let sidecar = Sidecar::by(gateway, PUBLIC, PRIVATE, &variables, start).await;
        Self { sidecar, folder }
    }

    /// Changes the file, signals the process, waits until the reload is over, and returns its log line.
    async fn reload(&mut self, configuration: &str, result: &str) -> Vec<Value> {
        self.folder.write("sidecar.toml", &whole(&self.folder, configuration));
        self.hang_up(result).await
    }

    /// Reloads with the files unchanged.
    async fn hang_up(&mut self, result: &str) -> Vec<Value> {
        let before = self.sidecar.process.stdout().lines().count();
        self.hang_up_silently(result).await;
        let is_last = |line: &str| LAST_WORD.iter().any(|word| line.contains(word));
        let said = |this: &Self| this.sidecar.process.stdout().lines().skip(before).any(is_last);
        eventually("it is said", async || said(self)).await;
        let lines = self.sidecar.process.stdout();
        lines.lines().skip(before).map(|line| serde_json::from_str(line).expect(line)).collect()
    }

    /// Reloads where the log level may hide the reload's line.
    async fn hang_up_silently(&self, result: &str) {
        let before = self.reloads(result).await;
        self.sidecar.process.signal("HUP");
        eventually(result, async || self.reloads(result).await > before).await;
    }

    async fn reloads(&self, result: &str) -> f64 {
        self.sidecar.metric(&format!("config_reloads_total{{result=\"{result}\"}}")).await
    }

    async fn ttl(&self, path: &str) -> String {
        let answer = self.sidecar.get(path).await;
        let cache = answer.cache();
        cache.split("; ").find_map(|part| part.strip_prefix("ttl=")).unwrap_or_else(|| panic!("{cache}")).to_owned()
    }

    /// The answer to a lookup that Sezzle does not answer.
    async fn unanswered(&self, method: Method, path: &str) -> Answer {
        let gate = Gate::new();
        self.sidecar.gateway.script(Rule::path(path.split('?').next().expect("a path")).gate(&gate));
        let body = if method == Method::POST { "{}" } else { "" };
        let answer = timeout(Duration::from_secs(8), self.sidecar.send(method, path, &[], body));
        let answer = answer.await.expect("long before the default");
        gate.release();
        self.sidecar.gateway.clear_rules();
        answer
    }
}

/// A complete configuration, except for the keys that the harness sets.
fn whole(folder: &Folder, configuration: &str) -> String {
    let path = folder.path().display();
    let keys = format!("public_key_file = \"{path}/public\"\nprivate_key_file = \"{path}/private\"\n");
    // TOML allows each table only once.
    let keys = if configuration.contains("[credentials]") { String::new() } else { format!("[credentials]\n{keys}") };
    let drain = if configuration.contains("[drain]") { "" } else { "[drain]\ngrace = \"0s\"\n" };
    format!("{configuration}\n{keys}{drain}")
}

fn about<'l>(lines: &'l [Value], message: &str) -> Vec<&'l Value> {
    lines.iter().filter(|line| line["message"] == message).collect()
}

const ALL: &str = "configuration reloaded";
const PARTLY: &str = "configuration reloaded, except for keys that need a restart";
/// The last line about a reload has one of these texts.
const LAST_WORD: [&str; 2] = ["configuration reloaded", "the previous configuration stays in force"];
const NOT: &str = "configuration not reloaded";

#[tokio::test]
async fn keys_that_take_no_restart_are_in_force_at_once() {
    let mut this = Reloading::start("[limits]\nbody = \"2KiB\"\n[ops]\nstatus_page = true").await;
    let session = Session::tokenize(&this.sidecar.gateway).path;
    let capture = format!("{}/capture", Session::tokenize(&this.sidecar.gateway).order_path);
    let named = [("host", "payments")];
    let misspelt = [("x-sezzle-request-id", "from-the-caller")];
    let large = format!("{{\"x\":\"{}\"}}", "x".repeat(1500));
    assert_eq!(this.sidecar.send(Method::GET, "/v2/customer", &named, "").await.status, 421);
    let page = async |this: &Reloading| {
        raw(this.sidecar.ops, "GET / HTTP/1.1\r\nhost: payments\r\nconnection: close\r\n\r\n").await
    };
    assert!(page(&this).await.starts_with("HTTP/1.1 421 "));
    assert_eq!(this.ttl(&session).await, "60");
    assert!(this.sidecar.get(&session).await.cache().starts_with("hit"));
    let key = async |this: &Reloading| {
        let answer = this.sidecar.send(Method::POST, &capture, &misspelt, &large).await;
        assert_ne!(answer.status, 413, "{answer:?}");
        answer.header("sezzle-request-id").to_owned()
    };
    assert_eq!(key(&this).await, "from-the-caller");
    let card = async |this: &Reloading| this.sidecar.get("/v2/session/card/token/t").await.status;
    assert_eq!(card(&this).await, 403);
    let older = async |this: &Reloading| this.sidecar.get("/v1/orders/o").await.status;
    assert_eq!(older(&this).await, 404);
    // Callers that stay connected get the same answers as before the reload, too.
    let mut kept = Wire::connect(this.sidecar.proxy).await;
    kept.send("GET /v2/customer HTTP/1.1\r\nhost: payments\r\n\r\n").await;
    assert_eq!(kept.answer().await.status, 421);

    let lines = this
        .reload(
            "[gateway]\nread_timeout = \"150ms\"\nwrite_timeout = \"160ms\"\nreport_timeout = \"170ms\"\n\
             [proxy]\nhosts = [\"payments\"]\nnormalise_request_id = false\ncard_data = \"forward\"\nv1 = \"forward\"\n\
             [cache]\nmax_ttl = \"42s\"\n[ops]\nstatus_page = true",
            "success",
        )
        .await;
    let said = about(&lines, ALL);
    assert_eq!(said.len(), 1, "{lines:?}");
    let changed = "gateway.read_timeout, gateway.write_timeout, gateway.report_timeout, proxy.hosts, \
                   proxy.normalise_request_id, proxy.card_data, proxy.v1, limits.body, cache.max_ttl";
    assert_eq!(said[0]["changed"], changed);

    kept.send("GET /v2/customer HTTP/1.1\r\nhost: payments\r\n\r\n").await;
    assert_eq!(kept.answer().await.status, 200, "the connection is the same, its requests are served anew");
    assert!(page(&this).await.starts_with("HTTP/1.1 200 "), "on the ops listener, too");
    assert_ne!(card(&this).await, 403, "sent from now on");
    assert_eq!(older(&this).await, 200);
    let again = this.sidecar.get(&session).await;
    assert!(again.cache().starts_with("fwd=uri-miss") && again.cache().contains("ttl=42"), "{}", again.cache());
    assert_eq!(this.sidecar.metric(r#"cache_invalidations_total{source="reload"}"#).await, 1.0);
    let minted = key(&this).await;
    assert!(!minted.is_empty() && minted != "from-the-caller", "{minted}");
    for (method, path, code) in [
        (Method::GET, "/v2/customer", "sidecar.upstream_timeout"),
        (Method::GET, "/v2/orders/report?start-date=2026-01-01", "sidecar.upstream_timeout"),
        (Method::POST, capture.as_str(), "sidecar.outcome_unknown"),
    ] {
        assert_eq!(this.unanswered(method, path).await.error_code(), code, "{path}");
    }

    this.reload("[limits]\nbody = \"1KiB\"\n[ops]\nstatus_page = true", "success").await;
    assert_eq!(this.sidecar.send(Method::POST, &capture, &[], &large).await.status, 413);
    assert_eq!(this.sidecar.send(Method::GET, "/v2/customer", &named, "").await.status, 421, "the default again");
    assert_eq!(this.sidecar.stop().await.code, Some(0));
}

#[tokio::test]
async fn a_sidecar_that_is_cut_off_from_its_fleet_obeys_the_new_configuration() {
    let fleet = format!("[fleet]\nurl = \"redis://{}\"\n", free_address());
    let mut this = Reloading::start(&format!("{fleet}alone_ttl = \"0s\"")).await;
    let session = Session::tokenize(&this.sidecar.gateway).path;
    this.sidecar.get(&session).await;
    assert!(!this.sidecar.get(&session).await.cache().starts_with("hit"), "nothing is confirmed");
    this.reload(&format!("{fleet}alone_ttl = \"60s\""), "success").await;
    this.sidecar.get(&session).await;
    assert!(this.sidecar.get(&session).await.cache().starts_with("hit"));
}

#[tokio::test]
async fn the_log_goes_on_at_the_level_of_the_new_configuration() {
    let mut this = Reloading::start("").await;
    let lines = this.reload("[log]\nlevel = \"error\"", "success").await;
    assert_eq!(about(&lines, ALL).len(), 1, "it is said at the more talkative level");
    this.sidecar.get("/v2/customer").await;
    this.hang_up_silently("success").await;
    let lines = this.reload("[log]\nlevel = \"info\"", "success").await;
    assert_eq!(about(&lines, ALL).len(), 1, "here, too");
    this.sidecar.get("/v2/customer").await;
    let ended = this.sidecar.stop().await;
    assert_eq!(ended.stdout.matches("\"message\":\"request\"").count(), 1, "{}", ended.stdout);
    assert_eq!(ended.stdout.matches(ALL).count(), 2, "not of the one in between: {}", ended.stdout);
}

#[tokio::test]
async fn lines_of_hits_are_thinned_out_as_the_new_configuration_says() {
    let mut this = Reloading::start("").await;
    let session = Session::order(&this.sidecar.gateway).path;
    for _ in 0..3 {
        this.sidecar.get(&session).await;
    }
    assert_eq!(this.sidecar.metric("log_lines_sampled_out_total").await, 0.0);
    this.reload("[log]\nsample_hits = 1000", "success").await;
    for _ in 0..9 {
        assert!(this.sidecar.get(&session).await.cache().starts_with("hit"), "the cache is as it was");
    }
    // Each of the two workers writes its first line.
    assert!(this.sidecar.metric("log_lines_sampled_out_total").await >= 7.0);
}

#[tokio::test]
async fn a_drain_is_the_one_of_the_new_configuration() {
    let mut this = Reloading::start("[drain]\ngrace = \"10m\"\ntimeout = \"20m\"").await;
    this.reload("[drain]\ngrace = \"50ms\"\ntimeout = \"31s\"", "success").await;
    let ended = timeout(Duration::from_secs(20), this.sidecar.stop()).await.expect("not the one of the start");
    assert_eq!(ended.code, Some(0));
    assert!(ended.stdout.contains("\"grace_ms\":50,\"timeout_ms\":31000"), "{}", ended.stdout);
}

#[tokio::test]
async fn keys_that_take_a_restart_are_named_each_time_and_the_others_applied() {
    let mut this = Reloading::start("").await;
    let text = "[gateway]\nconnect_timeout = \"1s\"\n[limits]\nin_flight = 3\nbody = \"1KiB\"";
    let lines = this.reload(text, "needs_restart").await;
    let said = about(&lines, PARTLY);
    assert_eq!(said.len(), 1, "{lines:?}");
    assert_eq!(said[0]["level"], "WARN");
    assert_eq!(said[0]["needs_restart"], "gateway.connect_timeout, limits.in_flight");
    assert_eq!(said[0]["changed"], "limits.body");
    let large = format!("{{\"x\":\"{}\"}}", "x".repeat(1500));
    assert_eq!(this.sidecar.send(Method::POST, "/v2/session", &[], &large).await.status, 413);

    let lines = this.hang_up("needs_restart").await;
    let said = about(&lines, PARTLY);
    assert_eq!(
        (&said[0]["needs_restart"], &said[0]["changed"]),
        (&"gateway.connect_timeout, limits.in_flight".into(), &"".into())
    );
    let lines = this.reload("", "success").await;
    assert_eq!(about(&lines, ALL).len(), 1, "taken back, they need none");
}

#[tokio::test]
async fn a_mistake_leaves_everything_as_it_was() {
    let mut this = Reloading::start("[limits]\nbody = \"1KiB\"").await;
    let large = format!("{{\"x\":\"{}\"}}", "x".repeat(1500));
    let refused = async |this: &Reloading| this.sidecar.send(Method::POST, "/v2/session", &[], &large).await.status;
    assert_eq!(refused(&this).await, 413);

    let two = "[limits]\nbody = \"1MiB\"\nheads = 1\n[log]\nlevel = \"loud\"";
    let lines = this.reload(two, "failed").await;
    let mistakes: Vec<&str> = about(&lines, NOT).iter().map(|line| line["mistake"].as_str().expect("text")).collect();
    assert_eq!(mistakes.len(), 2, "{lines:?}");
    assert!(
        mistakes[0].starts_with("log.level: expected one of") && mistakes[1].starts_with("limits.heads: unknown key")
    );
    assert!(about(&lines, NOT).iter().all(|line| line["level"] == "ERROR"));
    assert_eq!(refused(&this).await, 413, "what is right of it is not applied either");

    let right = "[limits]\nbody = \"1MiB\"";
    for (file, content, mode, mistake) in [
        ("private", "sz_pr_canary", 0o666, "private: users other than the owner may write this file"),
        ("private", "", 0o600, "private: is empty"),
        ("public", "sz_pr_canary", 0o600, "the keys are swapped, or both are of one kind"),
    ] {
        this.folder.write("private", PRIVATE);
        this.folder.write("public", PUBLIC);
        this.folder.write_with(file, content, mode);
        let lines = this.reload(right, "failed").await;
        let text = about(&lines, NOT)[0].to_string();
        assert!(text.contains("credentials: ") && text.contains(mistake), "{text}");
        assert!(!text.contains("canary"), "{text}");
        assert_eq!(refused(&this).await, 413);
    }
    std::fs::remove_file(this.folder.path().join("sidecar.toml")).expect("there");
    let lines = this.hang_up("failed").await;
    assert!(about(&lines, NOT)[0].to_string().contains("sidecar.toml: cannot be read"), "{lines:?}");
    assert_eq!(this.sidecar.get("/v2/customer").await.status, 200, "and it goes on serving");

    this.folder.write("private", PRIVATE);
    this.folder.write("public", PUBLIC);
    this.reload(right, "success").await;
    assert_ne!(refused(&this).await, 413);
}

#[tokio::test]
async fn other_key_files_are_used_once_sezzle_has_taken_them() {
    let mut this = Reloading::start("").await;
    this.folder.write("other-public", "sz_pub_b");
    this.folder.write("other-private", "sz_pr_b");
    let path = this.folder.path().display().to_string();
    let text = format!(
        "[credentials]\npublic_key_file = \"{path}/other-public\"\nprivate_key_file = \"{path}/other-private\""
    );
    let lines = this.reload(&text, "success").await;
    let changed = "credentials.public_key_file, credentials.private_key_file";
    assert_eq!(about(&lines, ALL)[0]["changed"], changed);
    eventually("tried", async || this.sidecar.metric(r#"secret_reloads_total{result="rejected"}"#).await >= 1.0).await;
    assert_eq!(this.sidecar.get("/v2/customer").await.status, 200, "with the pair before");

    this.sidecar.gateway.set_keys("sz_pub_b", "sz_pr_b");
    this.sidecar.gateway.revoke_tokens();
    // The signal causes an immediate look at the files, however far away the next attempt is.
    this.hang_up("success").await;
    this.sidecar.process.says("key pair changed").await;
    assert_eq!(this.sidecar.get("/v2/customer").await.status, 200);
    // From now on the sidecar watches these files.
    this.folder.write("other-public", "sz_pub_c");
    this.folder.write("other-private", "sz_pr_c");
    this.sidecar.gateway.set_keys("sz_pub_c", "sz_pr_c");
    eventually("followed", async || this.sidecar.metric(r#"secret_reloads_total{result="success"}"#).await == 2.0)
        .await;
}

#[tokio::test]
async fn a_request_under_way_ends_under_what_it_began_with() {
    let mut this = Reloading::start("").await;
    let gate = Gate::new();
    this.sidecar.gateway.script(Rule::path("/v2/customer").gate(&gate));
    let proxy = this.sidecar.proxy;
    let under_way = tokio::spawn(async move { Client::new().get(proxy, "/v2/customer").await });
    arrived(&gate, 1).await;
    this.reload("[gateway]\nread_timeout = \"150ms\"", "success").await;
    let late = this.sidecar.get("/v2/customer").await;
    assert_eq!(late.status, 504, "{}", late.text());
    gate.release();
    assert_eq!(under_way.await.expect("an answer").status, 200);
}

#[tokio::test]
async fn no_request_notices_that_the_configuration_is_reloaded() {
    let mut this = Reloading::start("").await;
    let session = Session::order(&this.sidecar.gateway).path;
    let over = Arc::new(AtomicBool::new(false));
    let mut callers = Vec::new();
    for path in [session.as_str(), session.as_str(), "/v2/customer", "/v2/customer"] {
        let (proxy, over, path) = (this.sidecar.proxy, Arc::clone(&over), path.to_owned());
        callers.push(tokio::spawn(async move {
            let (client, mut answers) = (Client::new(), 0);
            while !over.load(Ordering::Relaxed) {
                let answer = client.get(proxy, &path).await;
                assert_eq!(answer.status, 200, "{}", answer.text());
                answers += 1;
            }
            answers
        }));
    }
    for round in 1..=20 {
        this.reload(&format!("[cache]\nmax_ttl = \"{round}s\""), "success").await;
    }
    over.store(true, Ordering::Relaxed);
    for caller in callers {
        assert!(caller.await.expect("no failed request") >= 20);
    }
}

#[tokio::test]
async fn a_hang_up_ends_nothing_be_it_early_or_late() {
    let mut this = Reloading::unready("[drain]\ngrace = \"2s\"", &[]).await;
    let gate = Gate::new();
    this.sidecar.gateway.script(Rule::path("/v2/authentication").gate(&gate));
    // The signals may come before the first token, and several may come at once.
    for _ in 0..10 {
        this.sidecar.process.signal("HUP");
    }
    this.hang_up("success").await;
    gate.release();
    this.sidecar.ready().await;

    this.sidecar.process.signal("TERM");
    this.sidecar.process.says("draining").await;
    let began = Instant::now();
    this.sidecar.process.signal("HUP");
    assert_eq!(this.sidecar.get("/v2/customer").await.status, 200, "the grace period goes on");
    let Ended { code, stdout, stderr } = this.sidecar.process.end().await;
    assert_eq!((code, stderr.as_str()), (Some(0), ""), "{stdout}");
    assert!(began.elapsed() >= Duration::from_secs(1), "it was not cut short");
    assert!(stdout.contains("\"message\":\"drained\""), "{stdout}");
}
