//! A changed key pair comes into use without a restart and without a failed request. A bad pair leaves the previous one
//! in use.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use futures_util::future::join_all;
use http::{Method, StatusCode};
use sezzle_sidecar::simulator::{Gate, Options, Rule};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::support::process::{Folder, Sidecar};
use crate::support::service::signature;
use crate::support::{Harness, Session, Setup, eventually, header};

const EXCHANGE: &str = "/v2/authentication";
const OTHER_MERCHANT: &str = "00000000-0000-4000-8000-000000000001";

fn public(name: &str) -> String {
    format!("sz_pub_{name}")
}

fn private(name: &str) -> String {
    format!("sz_pr_{name}")
}

/// Two files that are written in place.
fn write(folder: &Path, name: &str) {
    write_one(&folder.join("public"), &public(name));
    write_one(&folder.join("private"), &private(name));
}

fn write_one(path: &Path, content: &str) {
    fs::write(path, content).expect("writable");
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("settable");
}

/// Replaces a link in one step, as `ln -sfn` and Kubernetes do.
fn relink(to: &str, link: &Path) {
    let aside = link.with_file_name("link-aside");
    symlink(to, &aside).expect("a link");
    fs::rename(aside, link).expect("renamed");
}

/// A sidecar whose keys are in two files, and a gateway that knows the pair named `a`.
struct Rotating {
    harness: Harness,
    root: Folder,
}

impl Rotating {
    async fn start() -> Self {
        Self::at("", "", write).await
    }

    /// Starts both, with the key files in these folders below the root, written by `prepare`.
    async fn at(public_in: &str, private_in: &str, prepare: impl FnOnce(&Path, &str)) -> Self {
        let this = Self::unready(public_in, private_in, prepare).await;
        this.is_ready().await;
        this
    }

    async fn unready(public_in: &str, private_in: &str, prepare: impl FnOnce(&Path, &str)) -> Self {
        let root = Folder::new();
        prepare(root.path(), "a");
        let path = |folder: &str, file| root.path().join(folder).join(file).display().to_string();
        let harness = Setup::default()
            .set("CREDENTIALS__PUBLIC_KEY", "")
            .set("CREDENTIALS__PRIVATE_KEY", "")
            .set("CREDENTIALS__PUBLIC_KEY_FILE", path(public_in, "public"))
            .set("CREDENTIALS__PRIVATE_KEY_FILE", path(private_in, "private"))
            .set("WEBHOOKS__LISTEN", "127.0.0.1:0")
            .set("LIMITS__IN_FLIGHT", "2000")
            .gateway(|gateway| (gateway.public_key, gateway.private_key) = (public("a"), private("a")))
            .start_unready()
            .await;
        Self { harness, root }
    }

    async fn is_ready(&self) {
        let ready = async || self.harness.client.get(self.harness.ops, "/readyz").await.status == 200;
        eventually("ready", ready).await;
    }

    fn write(&self, name: &str) {
        write(self.root.path(), name);
    }

    /// From now on Sezzle knows only the pair of this name.
    fn sezzle_knows(&self, name: &str) {
        self.harness.gateway.set_keys(&public(name), &private(name));
    }

    async fn counted(&self, result: &str) -> f64 {
        self.harness.metric(&format!("secret_reloads_total{{result=\"{result}\"}}")).await
    }

    async fn is_counted(&self, result: &str) {
        self.in_time(result, async || self.counted(result).await >= 1.0).await;
    }

    /// Waits until `holds` is true, and moves the clock meanwhile, which stands still here. Returns how much time has
    /// passed.
    async fn in_time(&self, what: &str, mut holds: impl AsyncFnMut() -> bool) -> Duration {
        const STEP: Duration = Duration::from_millis(100);
        let mut passed = Duration::ZERO;
        eventually(what, async || {
            let held = holds().await;
            if !held {
                self.harness.clock.advance(STEP);
                passed += STEP;
            }
            held
        })
        .await;
        passed
    }

    /// Waits until a request has reached a gate, and moves the clock meanwhile.
    async fn arrives(&self, gate: &Gate) {
        let arrived = async || timeout(Duration::from_millis(5), gate.arrived(1)).await.is_ok();
        self.in_time("arrived", arrived).await;
    }

    /// Moves the clock by so much, slowly enough for all timers that are due.
    async fn pass(&self, millis: u64) {
        for _ in 0..millis / 50 {
            self.harness.clock.advance(Duration::from_millis(50));
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Moves the clock so far that a pair is tried and rejected eight times more.
    async fn is_rejected_eight_times(&self) {
        for _ in 0..8 {
            let tried = self.counted("rejected").await;
            eventually("tried again", async || {
                self.harness.clock.advance(Duration::from_secs(1));
                self.counted("rejected").await > tried
            })
            .await;
        }
    }

    /// Whether the sidecar accepts a caller with this public key as its own merchant's.
    async fn is_public(&self, name: &str) -> bool {
        let keys = format!("{{\"public_key\":\"{}\",\"private_key\":\"any\"}}", public(name));
        self.harness.post(EXCHANGE, &keys).await.status == 201
    }

    /// Whether a caller may authenticate with this public key alone.
    async fn is_basic(&self, name: &str) -> bool {
        let basic = format!("Basic {}", BASE64_STANDARD.encode(public(name)));
        let answer = self.harness.get_with("/v2/customer", &[("authorization", &basic)]).await;
        !answer.text().contains("sidecar.foreign_keys")
    }

    /// Whether a webhook that was signed with this private key is accepted.
    async fn is_signature(&self, name: &str) -> bool {
        let body = "{}";
        let signature = signature(&private(name), body);
        let headers = [("sezzle-signature", signature.as_str()), ("content-type", "application/json")];
        let address = self.harness.webhooks();
        let answer = self.harness.client.send(address, Method::POST, "/webhooks/sezzle", &headers, body).await;
        answer.status == 200
    }

    async fn is_used(&self, name: &str) -> bool {
        self.is_public(name).await && self.is_signature(name).await
    }

    /// Waits until the pair is in use, and returns how long that took.
    async fn comes_to_use(&self, name: &str) -> Duration {
        self.in_time(&format!("{name} is used"), async || self.is_used(name).await).await
    }

    /// Fails unless `a` is in use as before.
    async fn is_as_before(&self, not: &str) {
        assert!(self.is_used("a").await && !self.is_public(not).await && !self.is_signature(not).await);
        assert_eq!(self.harness.get("/v2/customer").await.status, 200);
    }

    /// The names of the public keys in token exchanges, in order.
    fn exchanged(&self) -> Vec<String> {
        let exchanges = self.harness.gateway.journal().into_iter().filter(|call| call.path == EXCHANGE);
        let name = |body: &[u8]| {
            let json: serde_json::Value = serde_json::from_slice(body).expect("JSON");
            json["public_key"].as_str().expect("a key").trim_start_matches("sz_pub_").to_owned()
        };
        exchanges.map(|call| name(&call.body)).collect()
    }

    async fn stop(self) {
        self.harness.stop().await;
    }
}

/// Writes a secret as Kubernetes does: links to files in a folder behind a link, which is swapped.
fn kubernetes(folder: &Path, name: &str) {
    let version = format!("..2026_{name}");
    fs::create_dir(folder.join(&version)).expect("a folder");
    write(&folder.join(&version), name);
    let old = fs::read_link(folder.join("..data")).ok();
    relink(&version, &folder.join("..data"));
    if let Some(old) = old {
        fs::remove_dir_all(folder.join(old)).expect("removed");
    } else {
        for file in ["public", "private"] {
            symlink(format!("..data/{file}"), folder.join(file)).expect("a link");
        }
    }
}

fn rename_over(folder: &Path, name: &str) {
    for (file, key) in [("public", public(name)), ("private", private(name))] {
        write_one(&folder.join("aside"), &key);
        fs::rename(folder.join("aside"), folder.join(file)).expect("renamed");
    }
}

fn two_folders(folder: &Path, name: &str) {
    for (file, key) in [("public", public(name)), ("private", private(name))] {
        fs::create_dir_all(folder.join(file)).expect("a folder");
        write_one(&folder.join(file).join(file), &key);
    }
}

fn link_to_a_folder(folder: &Path, name: &str) {
    fs::create_dir(folder.join(name)).expect("a folder");
    write(&folder.join(name), name);
    relink(name, &folder.join("keys"));
}

fn folder_made_anew(folder: &Path, name: &str) {
    let keys = folder.join("keys");
    let _ = fs::remove_dir_all(&keys);
    fs::create_dir(&keys).expect("a folder");
    write(&keys, name);
}

fn folder_swapped(folder: &Path, name: &str) {
    let (keys, aside) = (folder.join("keys"), folder.join(name));
    fs::create_dir(&aside).expect("a folder");
    write(&aside, name);
    let _ = fs::rename(&keys, folder.join(format!("before-{name}")));
    fs::rename(aside, keys).expect("renamed");
}

fn link_far_above(folder: &Path, name: &str) {
    fs::create_dir_all(folder.join(name).join("deep/keys")).expect("a folder");
    write(&folder.join(name).join("deep/keys"), name);
    relink(name, &folder.join("top"));
}

fn links_to_files(folder: &Path, name: &str) {
    let elsewhere = folder.join("elsewhere");
    let _ = fs::create_dir(&elsewhere);
    write(&elsewhere, name);
    for file in ["public", "private"] {
        let _ = symlink(elsewhere.join(file), folder.join(file));
    }
}

#[tokio::test]
async fn files_change_in_every_way_there_is() {
    type Way = (&'static str, [&'static str; 2], fn(&Path, &str));
    let ways: [Way; 9] = [
        ("Kubernetes", ["", ""], kubernetes),
        ("renamed over", ["", ""], rename_over),
        ("written in place", ["", ""], write),
        ("two folders", ["public", "private"], two_folders),
        ("a link to a folder", ["keys", "keys"], link_to_a_folder),
        ("a folder made anew", ["keys", "keys"], folder_made_anew),
        ("a folder swapped", ["keys", "keys"], folder_swapped),
        ("links to files", ["", ""], links_to_files),
        ("a link far above", ["top/deep/keys", "top/deep/keys"], link_far_above),
    ];
    // Each way has a sidecar of its own, so that all are tried at once.
    let tried = ways.map(|(way, [public_in, private_in], change)| async move {
        let rotating = Rotating::at(public_in, private_in, change).await;
        for name in ["b", "c", "d"] {
            rotating.sezzle_knows(name);
            change(rotating.root.path(), name);
            let took = rotating.comes_to_use(name).await;
            assert!(took < Duration::from_secs(8), "{way}: {took:?}");
        }
        assert_eq!(rotating.exchanged(), ["a", "b", "c", "d"], "{way}");
        assert_eq!(rotating.counted("success").await, 3.0, "{way}");
        assert_eq!(
            rotating.harness.metric("token_refreshes_total{result=\"success\",trigger=\"rotation\"}").await,
            3.0
        );
        rotating.stop().await;
    });
    join_all(tried).await;
}

#[tokio::test]
async fn no_request_fails_while_keys_change() {
    let rotating = Arc::new(Rotating::at("", "", kubernetes).await);
    let order = Session::order(&rotating.harness.gateway).order;
    let over = Arc::new(AtomicBool::new(false));
    let mut callers = JoinSet::new();
    for number in 0..16 {
        let (rotating, over, order) = (Arc::clone(&rotating), Arc::clone(&over), order.clone());
        callers.spawn(async move {
            let mut done = 0;
            while !over.load(Ordering::SeqCst) {
                let status = if number % 4 == 0 {
                    let headers = [("content-type", "application/json")];
                    let path = format!("/v2/order/{order}");
                    rotating.harness.send(Method::PATCH, &path, &headers, r#"{"reference_id":"x"}"#).await.status
                } else {
                    rotating.harness.get("/v2/customer").await.status
                };
                assert!([200, 204].contains(&status), "{status}");
                done += 1;
            }
            done
        });
    }
    for name in ["b", "c", "d", "e"] {
        let demanded =
            async || rotating.harness.metric("token_refreshes_total{result=\"success\",trigger=\"demand\"}").await;
        let before = demanded().await;
        rotating.sezzle_knows(name);
        kubernetes(rotating.root.path(), name);
        rotating.comes_to_use(name).await;
        // Sezzle revokes every token. Calls in progress are sent again with a token of the new pair.
        rotating.harness.gateway.revoke_tokens();
        eventually("noticed", async || demanded().await > before).await;
        rotating.harness.clock.advance(Duration::from_secs(11));
    }
    over.store(true, Ordering::SeqCst);
    let done: usize = callers.join_all().await.into_iter().sum();
    assert!(done > 100, "{done}");
    assert_eq!(rotating.exchanged(), ["a", "b", "b", "c", "c", "d", "d", "e", "e"]);
    assert!(rotating.harness.metric("upstream_unauthorized_total").await > 0.0);
    Arc::into_inner(rotating).expect("no caller is left").stop().await;
}

#[tokio::test]
async fn callers_refused_while_a_new_pair_is_tried_get_its_token() {
    let rotating = Arc::new(Rotating::start().await);
    let gate = Gate::new();
    rotating.harness.gateway.script(Rule::path(EXCHANGE).gate(&gate).times(1));
    rotating.sezzle_knows("b");
    rotating.write("b");
    rotating.arrives(&gate).await;
    rotating.harness.gateway.revoke_tokens();
    let mut callers = JoinSet::new();
    for _ in 0..20 {
        let rotating = Arc::clone(&rotating);
        callers.spawn(async move { rotating.harness.get("/v2/customer").await.status });
    }
    eventually("refused", async || rotating.harness.metric("upstream_unauthorized_total").await == 20.0).await;
    gate.release();
    assert!(callers.join_all().await.iter().all(|status| *status == 200));
    // The exchange that these callers asked for is over: no other one comes between this change and the next.
    rotating.sezzle_knows("c");
    rotating.write("c");
    rotating.comes_to_use("c").await;
    assert_eq!(rotating.exchanged(), ["a", "b", "c"]);
    Arc::into_inner(rotating).expect("no caller is left").stop().await;
}

#[tokio::test]
async fn a_change_in_slow_steps_is_not_tried_by_halves() {
    let rotating = Rotating::start().await;
    rotating.sezzle_knows("b");
    // The first read comes right after the first token, and the second one 5 s later: while a file is unfinished.
    rotating.pass(4000).await;
    let steps = [
        ("public", "", 600),
        ("public", "sz_pub_b", 600),
        ("private", "", 600),
        ("private", "sz_pr_", 100),
        ("private", "sz_pr_b", 0),
    ];
    for (file, content, lasts) in steps {
        write_one(&rotating.root.path().join(file), content);
        rotating.pass(lasts).await;
        assert_eq!(rotating.harness.get("/v2/customer").await.status, 200);
    }
    rotating.comes_to_use("b").await;
    assert_eq!(rotating.exchanged(), ["a", "b"]);
    assert_eq!(rotating.counted("unusable").await, 0.0);
    rotating.stop().await;
}

#[tokio::test]
async fn half_a_change_leaves_the_pair_in_use() {
    let rotating = Rotating::start().await;
    let file = |name: &str| -> PathBuf { rotating.root.path().join(name) };
    rotating.sezzle_knows("b");

    write_one(&file("public"), &public("b"));
    rotating.is_counted("rejected").await;
    rotating.is_as_before("b").await;
    // A file that anybody may write is not used either, nor is an empty or missing one, or one without a key.
    type Change = Box<dyn Fn(&Path)>;
    let changes: [Change; 6] = [
        Box::new(|path| fs::set_permissions(path, fs::Permissions::from_mode(0o666)).expect("settable")),
        Box::new(|path| write_one(path, "")),
        Box::new(|path| fs::remove_file(path).expect("removed")),
        Box::new(|path| write_one(path, "two words")),
        Box::new(|path| write_one(path, "sz_pub_b")),
        Box::new(|path| {
            fs::remove_file(path).expect("removed");
            fs::create_dir(path).expect("a folder");
        }),
    ];
    for (number, change) in changes.iter().enumerate() {
        change(&file("private"));
        let unusable = async || {
            rotating.harness.clock.advance(Duration::from_millis(100));
            rotating.counted("unusable").await > number as f64
        };
        eventually("said", unusable).await;
        rotating.is_as_before("b").await;
    }
    fs::remove_dir(file("private")).expect("removed");
    write_one(&file("private"), &private("b"));
    rotating.comes_to_use("b").await;
    assert_eq!(rotating.exchanged().iter().filter(|name| *name == "a").count(), 1);
    rotating.stop().await;
}

#[tokio::test]
async fn another_merchants_pair_is_not_used() {
    let rotating = Rotating::start().await;
    let own = Options::default().merchant_uuid;
    rotating.sezzle_knows("b");
    rotating.harness.gateway.configure(|options| options.merchant_uuid = OTHER_MERCHANT.to_owned());
    rotating.write("b");
    rotating.is_counted("wrong_merchant").await;
    rotating.is_as_before("b").await;
    let sent = rotating.harness.gateway.journal();
    let sent = sent.iter().rfind(|call| call.path == "/v2/customer").expect("a call");
    let first = rotating.harness.gateway.journal();
    let first = first.iter().find(|call| call.path == "/v2/customer").expect("a call");
    assert_eq!(header(&sent.headers, "authorization"), header(&first.headers, "authorization"));

    // The sidecar tries the pair again without another change.
    rotating.harness.gateway.configure(|options| options.merchant_uuid = own.clone());
    rotating.comes_to_use("b").await;
    rotating.stop().await;
}

#[tokio::test]
async fn a_pair_that_sezzle_does_not_know_yet_is_tried_again_and_again() {
    let rotating = Rotating::start().await;
    rotating.write("b");
    rotating.is_counted("rejected").await;
    rotating.is_as_before("b").await;
    for _ in 0..200 {
        assert_eq!(rotating.harness.get("/v2/customer").await.status, 200);
    }
    assert!(rotating.exchanged().len() < 10, "{:?}", rotating.exchanged());
    // Changed files are tried at once, however long the back-off has become.
    rotating.is_rejected_eight_times().await;
    rotating.sezzle_knows("c");
    rotating.write("c");
    rotating.comes_to_use("c").await;
    assert_eq!(rotating.exchanged().iter().filter(|name| *name == "c").count(), 1);
    rotating.stop().await;
}

#[tokio::test]
async fn a_pair_that_was_refused_is_tried_when_the_one_in_use_is() {
    let rotating = Rotating::start().await;
    rotating.write("b");
    // Waits until the next attempt is almost a minute away.
    rotating.is_rejected_eight_times().await;
    rotating.sezzle_knows("b");
    rotating.harness.gateway.revoke_tokens();
    let took = rotating.in_time("serves", async || rotating.harness.get("/v2/customer").await.status == 200).await;
    assert!(took < Duration::from_secs(8), "{took:?}");
    assert!(rotating.is_used("b").await);
    rotating.stop().await;
}

#[tokio::test]
async fn authentication_that_is_down_delays_a_change() {
    let rotating = Rotating::start().await;
    rotating.harness.gateway.script(Rule::path(EXCHANGE).status(StatusCode::BAD_GATEWAY));
    rotating.sezzle_knows("b");
    rotating.write("b");
    rotating.is_counted("failed").await;
    rotating.is_as_before("b").await;
    rotating.harness.gateway.clear_rules();
    rotating.comes_to_use("b").await;
    rotating.stop().await;
}

#[tokio::test]
async fn the_last_of_several_quick_changes_is_used() {
    let rotating = Rotating::start().await;
    rotating.sezzle_knows("d");
    for name in ["b", "c", "d"] {
        rotating.write(name);
    }
    rotating.comes_to_use("d").await;
    assert_eq!(rotating.exchanged(), ["a", "d"]);

    // Pairs in between are also skipped while the previous pair, which is good, is being exchanged.
    let gate = Gate::new();
    rotating.harness.gateway.script(Rule::path(EXCHANGE).gate_after_effect(&gate).times(1));
    rotating.sezzle_knows("e");
    rotating.write("e");
    rotating.arrives(&gate).await;
    rotating.sezzle_knows("f");
    rotating.write("f");
    gate.release();
    rotating.comes_to_use("f").await;
    assert_eq!(rotating.exchanged(), ["a", "d", "e", "f"]);
    rotating.stop().await;
}

#[tokio::test]
async fn the_same_content_again_is_no_change() {
    let rotating = Rotating::start().await;
    for _ in 0..3 {
        rotating.write("a");
        rename_over(rotating.root.path(), "a");
        rotating.harness.clock.advance(Duration::from_secs(31));
    }
    // White space around a key does not belong to the key.
    write_one(&rotating.root.path().join("public"), "  sz_pub_a\r\n\n");
    // The old pair is back before the sidecar tries the new one.
    rotating.write("b");
    rotating.write("a");
    rotating.is_as_before("b").await;
    // The sidecar notices this change after all the others.
    rotating.sezzle_knows("c");
    rotating.write("c");
    rotating.comes_to_use("c").await;
    assert_eq!(rotating.exchanged(), ["a", "c"]);
    rotating.stop().await;
}

#[tokio::test]
async fn the_previous_keys_count_for_an_hour() {
    let rotating = Rotating::start().await;
    assert!(!rotating.is_signature("b").await);
    rotating.sezzle_knows("b");
    rotating.write("b");
    rotating.comes_to_use("b").await;
    assert!(rotating.is_signature("a").await && !rotating.is_signature("c").await);
    assert!(rotating.is_public("a").await && !rotating.is_public("c").await, "services need not change at once");
    // A new public key alone does not change the signatures' hour.
    rotating.harness.gateway.set_keys(&public("c"), &private("b"));
    write_one(&rotating.root.path().join("public"), &public("c"));
    rotating.in_time("c", async || rotating.is_public("c").await).await;
    rotating.harness.clock.advance(Duration::from_secs(3500));
    assert!(rotating.is_signature("a").await && rotating.is_signature("b").await);
    assert!(rotating.is_public("b").await && !rotating.is_public("a").await);
    assert!(rotating.is_basic("b").await && !rotating.is_basic("a").await);
    rotating.harness.clock.advance(Duration::from_secs(101));
    assert!(!rotating.is_signature("a").await && rotating.is_signature("b").await);
    assert!(!rotating.is_public("b").await && rotating.is_public("c").await);
    assert!(!rotating.is_basic("b").await && rotating.is_basic("c").await);
    rotating.stop().await;
}

#[tokio::test]
async fn a_new_pair_ends_an_outage_within_seconds() {
    // The sidecar has never had a token.
    let rotating = Rotating::unready("", "", |root, _| write(root, "wrong")).await;
    eventually("rejected", async || {
        rotating.harness.client.get(rotating.harness.ops, "/readyz").await.text().contains("rejected")
    })
    .await;
    rotating.write("a");
    let ready = async || rotating.harness.client.get(rotating.harness.ops, "/readyz").await.status == 200;
    let took = rotating.in_time("ready", ready).await;
    assert!(took < Duration::from_secs(8), "{took:?}");
    assert_eq!(rotating.harness.get("/v2/customer").await.status, 200);

    // Sezzle has withdrawn the pair and its tokens: it refuses a token that is valid by the clock.
    rotating.sezzle_knows("b");
    rotating.harness.gateway.revoke_tokens();
    assert_eq!(rotating.harness.get("/v2/customer").await.status, 401, "Sezzle's answer");
    rotating.write("b");
    let took = rotating.in_time("serves", async || rotating.harness.get("/v2/customer").await.status == 200).await;
    assert!(took < Duration::from_secs(8), "{took:?}");

    // No token is left.
    rotating.sezzle_knows("c");
    rotating.harness.clock.advance(Duration::from_secs(3 * 3600));
    eventually("no token", async || rotating.harness.get("/v2/customer").await.status == 503).await;
    rotating.write("c");
    let took = rotating.in_time("serves", async || rotating.harness.get("/v2/customer").await.status == 200).await;
    assert!(took < Duration::from_secs(8), "{took:?}");
    rotating.stop().await;
}

/// The binary with its keys in these files, in front of a gateway that knows the keys.
async fn sidecar(folder: &Folder, name: &str, variables: &[(&str, &str)]) -> Sidecar {
    write(folder.path(), name);
    let path = |file: &str| folder.path().join(file).display().to_string();
    let (public_file, private_file) = (path("public"), path("private"));
    let options = Options { public_key: public(name), private_key: private(name), ..Options::default() };
    let files = [
        ("CREDENTIALS__PUBLIC_KEY_FILE", public_file.as_str()),
        ("CREDENTIALS__PRIVATE_KEY_FILE", private_file.as_str()),
    ];
    let all: Vec<_> = files.iter().chain(variables).copied().collect();
    Sidecar::start(options, &all).await
}

#[tokio::test]
async fn the_log_tells_what_became_of_a_change_and_names_no_key() {
    let folder = Folder::new();
    let mut sidecar = sidecar(&folder, "canary_a", &[("LOG__LEVEL", "trace")]).await;
    let public_file = folder.path().join("public");

    write_one(&public_file, "");
    sidecar.process.says("public: is empty").await;
    write_one(&public_file, &public("canary_a"));
    // Without a signal the files are read within 5 s.
    sidecar.process.signal("HUP");
    sidecar.process.says("the key files hold the pair in use again").await;
    write(folder.path(), "canary_b");
    sidecar.process.signal("HUP");
    sidecar.process.says("Sezzle rejected the key pair with status 401").await;
    sidecar.gateway.set_keys(&public("canary_b"), &private("canary_b"));
    sidecar.process.says("key pair changed").await;
    sidecar.gateway.set_keys(&public("canary_c"), &private("canary_c"));
    sidecar.gateway.configure(|options| options.merchant_uuid = OTHER_MERCHANT.to_owned());
    write(folder.path(), "canary_c");
    sidecar.process.signal("HUP");
    sidecar.process.says("the keys authenticate as merchant").await;
    assert_eq!(sidecar.get("/v2/customer").await.status, 200);
    let gateway = sidecar.gateway.clone();
    let ended = sidecar.stop().await;

    let line = |message: &str| -> serde_json::Value {
        let line = ended.stdout.lines().find(|line| line.contains(message)).expect(message);
        serde_json::from_str(line).expect("JSON")
    };
    let files = format!("{0}/public, {0}/private", folder.path().display());
    let changed = line("\"key pair changed\"");
    assert_eq!((&changed["level"], &changed["generation"]), (&"WARN".into(), &2.into()), "{changed}");
    assert_eq!((&changed["keys"], &changed["changed"]), (&files.as_str().into(), &"both".into()), "{changed}");
    assert_eq!(changed["merchant"], Options::default().merchant_uuid, "{changed}");
    for (error, level) in [("is empty", "ERROR"), ("rejected the key pair", "ERROR"), ("as merchant", "ERROR")] {
        let line = line(error);
        assert_eq!(line["level"], level, "{line}");
        assert_eq!(line["message"], "the changed key files are not used; the pair in use stays");
        assert_eq!(line["have_token"], true, "{line}");
        assert!(line.to_string().contains("/public"), "names the file: {line}");
    }
    let tokens = gateway.journal().into_iter().filter_map(|call| call.headers.get("authorization").cloned());
    let tokens: Vec<String> = tokens.map(|token| token.to_str().expect("text").replace("Bearer ", "")).collect();
    assert!(!tokens.is_empty());
    for secret in tokens.iter().map(String::as_str).chain(["canary"]) {
        assert!(!ended.stdout.contains(secret) && !ended.stderr.contains(secret), "{}", ended.stdout);
    }
}
