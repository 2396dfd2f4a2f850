//! Sidecars share sessions through a real Redis: the others take a session that one has fetched, sealed and never
//! outdated.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::Method;
use sezzle_sidecar::simulator::Rule;

use crate::support::client::Answer;
use crate::support::redis::{Redis, Reply};
use crate::support::{Harness, Session, Setup, eventually};

/// A server, and key files for its sidecars.
struct Fleet {
    redis: Redis,
    folder: tempfile::TempDir,
}

impl Fleet {
    async fn start() -> Self {
        Self { redis: Redis::start().await, folder: tempfile::tempdir().expect("a folder") }
    }

    /// Writes a file of keys of these bytes each.
    fn keys(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let (path, new) = (self.folder.path().join(name), self.folder.path().join("new"));
        let lines: String = bytes.iter().map(|byte| BASE64_STANDARD.encode([*byte; 32]) + "\n").collect();
        fs::write(&new, lines).expect("written");
        fs::set_permissions(&new, fs::Permissions::from_mode(0o600)).expect("set");
        fs::rename(&new, &path).expect("renamed");
        path
    }

    /// A sidecar with a file of keys. The machine may be busy, so it waits for Redis for as long as it can.
    fn setup(&self, keys: PathBuf) -> Setup {
        let setup = Setup::default().set("FLEET__URL", format!("redis://{}", self.redis.address));
        let setup = setup.set("FLEET__KEY_FILE", keys.display()).set("FLEET__TIMEOUT", "50ms");
        // Each test's sidecar listens on a port of its own, and those that share have to point links to one place.
        setup.set("LINKS__BASE_URL", "http://127.0.0.1:8080")
    }

    /// Two sidecars before one gateway.
    async fn two(&self) -> [Harness; 2] {
        let setup = || self.setup(self.keys("keys", &[1]));
        let first = synced(setup()).await;
        let second = synced(setup().set("GATEWAY__URL", first.gateway.url())).await;
        [first, second]
    }

    async fn bodies(&self) -> Vec<String> {
        self.redis.keys("*:b:*").await
    }
}

async fn synced(setup: Setup) -> Harness {
    let sidecar = setup.start().await;
    eventually("synced", async || sidecar.metric("fleet_state{state=\"synced\"}").await == 1.0).await;
    sidecar
}

async fn bodies(sidecar: &Harness, result: &str) -> f64 {
    sidecar.metric(&format!("fleet_bodies_total{{result=\"{result}\"}}")).await
}

/// Fetches a new session and waits until it is shared.
async fn shared(sidecar: &Harness) -> (Session, Answer) {
    loop {
        let before = bodies(sidecar, "stored").await;
        let session = Session::tokenize(&sidecar.gateway);
        let answer = sidecar.get(&session.path).await;
        // A busy machine may keep the link from its polls for a moment, and then nothing is shared.
        if answer.header("cache-status").starts_with("sezzle-fleet; fwd=uri-miss; stored, ") {
            eventually("shared", async || bodies(sidecar, "stored").await > before).await;
            return (session, answer);
        }
    }
}

/// A session that the first sidecar shares and the second takes, with the answer of each.
async fn taken([first, second]: [&Harness; 2]) -> (Session, [Answer; 2]) {
    loop {
        let (session, fetched) = shared(first).await;
        let answer = second.get(&session.path).await;
        if answer.header("cache-status").starts_with("sezzle-fleet; hit") {
            return (session, [fetched, answer]);
        }
    }
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run"]
async fn a_session_that_one_sidecar_has_fetched_another_takes() {
    let fleet = Fleet::start().await;
    let [first, second] = fleet.two().await;
    let (session, [fetched, answer]) = taken([&first, &second]).await;
    assert_eq!(first.gateway.count("GET", &session.path), 1);
    assert_eq!((answer.status, &answer.body), (200, &fetched.body));
    for name in ["content-type", "date", "etag", "cache-control"] {
        assert_eq!(answer.header(name), fetched.header(name), "{name}");
    }
    let (fleet_member, own) = answer.header("cache-status").split_once(", ").expect("two caches");
    let ttl = fleet_member.strip_prefix("sezzle-fleet; hit; ttl=").expect("a lifetime");
    assert_eq!(own, format!("sezzle-sidecar; fwd=uri-miss; ttl={ttl}; stored"));
    assert!(ttl.parse::<u64>().is_ok_and(|ttl| ttl <= 60), "{ttl}");
    assert!(answer.header("age").parse::<u64>().is_ok_and(|age| age < 60), "{}", answer.header("age"));

    let again = second.get(&session.path).await;
    assert!(again.cache().starts_with("hit; ttl="), "{}", again.cache());
    let unchanged = second.get_with(&session.path, &[("if-none-match", answer.header("etag"))]).await;
    assert_eq!(unchanged.status, 304, "the tag is the same everywhere");
    assert!(bodies(&second, "hit").await >= 1.0);
    assert!(second.metric("fleet_read_seconds_count").await >= 1.0);

    let refreshed = second.get_with(&session.path, &[("cache-control", "no-cache")]).await;
    assert!(refreshed.cache().starts_with("fwd=request; fwd-status=200"), "{}", refreshed.cache());
    assert_eq!(first.gateway.count("GET", &session.path), 2);
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run"]
async fn a_fetched_session_is_shared_for_its_life_and_a_caller_may_want_a_newer_one() {
    let fleet = Fleet::start().await;
    let [first, second] = fleet.two().await;
    let (session, answer) = shared(&first).await;
    let own = answer.header("cache-status").split_once(", ").expect("two caches").1;
    assert!(
        own.starts_with("sezzle-sidecar; fwd=uri-miss; fwd-status=200; ttl=") && own.ends_with("; stored"),
        "{own}"
    );
    // The key ends with the life of the body, which is short in the first seconds of a sidecar.
    let [key] = &fleet.bodies().await[..] else { panic!("one body") };
    let left = fleet.redis.call(&format!("PTTL {key}")).await.number();
    assert!((1..=60_000).contains(&left), "{left} ms");
    let asked = [("cache-control", "max-age=0")];
    second.get_with(&session.path, &asked).await;
    assert_eq!(first.gateway.count("GET", &session.path), 2, "a caller gets nothing older than it accepts");
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run"]
async fn after_a_write_nobody_takes_a_body_from_before_it() {
    let fleet = Fleet::start().await;
    // The answer to a write waits for the whole lease, so no luck is needed.
    let strict = || {
        let setup = fleet.setup(fleet.keys("keys", &[1])).set("FLEET__POLL", "400ms").set("FLEET__LEASE", "800ms");
        setup.set("FLEET__WRITE_WAIT", "1s").set("FLEET__ALONE_TTL", "0s")
    };
    let first = synced(strict()).await;
    let beside = || strict().set("GATEWAY__URL", first.gateway.url());
    let (second, third) = (synced(beside()).await, synced(beside()).await);
    let sidecars = [&first, &second, &third];
    let mut hits = 0.0;
    for round in 0..30 {
        let [fetcher, writer, reader] = [0, 1, 2].map(|place| sidecars[(round + place) % 3]);
        let session = Session::tokenize(&first.gateway);
        let before = fetcher.get(&session.path).await;
        let headers = [("content-type", "application/json")];
        let wrote = writer.send(Method::PATCH, &session.order_path, &headers, "{\"reference_id\":\"new\"}").await;
        assert_eq!(wrote.status, 204);
        let after = reader.get(&session.path).await;
        assert_ne!(before.body, after.body, "round {round}: {}", after.header("cache-status"));
        // A session that is fetched after the write may be taken.
        let other = writer.get(&session.path).await;
        assert_eq!(other.body, after.body, "round {round}");
    }
    for sidecar in sidecars {
        hits += bodies(sidecar, "hit").await;
    }
    assert!(hits > 0.0, "nothing was taken at all");
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run"]
async fn a_body_that_was_copied_to_another_key_does_not_open() {
    let fleet = Fleet::start().await;
    let [first, second] = fleet.two().await;
    let unopened = async || {
        let (one, _) = shared(&first).await;
        let [source] = &fleet.bodies().await[..] else { panic!("one body") };
        let (other, _) = shared(&first).await;
        let target = fleet.bodies().await.into_iter().find(|key| key != source).expect("two bodies");
        fleet.redis.call(&format!("COPY {source} {target} REPLACE")).await;
        let answer = second.get(&other.path).await;
        assert_eq!(answer.json()["uuid"], other.uuid.as_str());
        let taken = second.get(&one.path).await;
        assert_eq!(taken.json()["uuid"], one.uuid.as_str());
        fleet.redis.call(&format!("DEL {source} {target}")).await;
        bodies(&second, "unopened").await
    };
    eventually("tried", async || unopened().await >= 1.0).await;
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run"]
async fn sidecars_of_other_merchants_and_with_other_links_take_nothing() {
    let fleet = Fleet::start().await;
    let setup = || fleet.setup(fleet.keys("keys", &[1]));
    let first = synced(setup()).await;
    let merchant = "6a2d5a4f-0000-4000-8000-000000000001";
    let other = synced(setup().gateway(|gateway| gateway.merchant_uuid = merchant.to_owned())).await;
    let links = setup().set("LINKS__BASE_URL", "http://127.0.0.1:9000").set("GATEWAY__URL", first.gateway.url());
    let links = synced(links).await;

    let (session, fetched) = shared(&first).await;
    let answer = links.get(&session.path).await;
    assert_ne!(answer.body, fetched.body, "links lead elsewhere");
    assert_eq!(other.get(&session.path).await.status, 404, "another merchant's session");
    shared(&other).await;
    assert_eq!(bodies(&links, "hit").await + bodies(&other, "hit").await, 0.0);
    assert_eq!(bodies(&links, "unopened").await + bodies(&other, "unopened").await, 0.0);
    let keys = fleet.bodies().await;
    let mut spaces: Vec<_> = keys.iter().filter_map(|key| key.split(":b:").next()).collect();
    spaces.sort_unstable();
    spaces.dedup();
    assert_eq!(spaces.len(), 2, "{keys:?}");
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run"]
async fn keys_are_replaced_one_step_after_the_other() {
    let fleet = Fleet::start().await;
    let files = ["one", "two"].map(|name| fleet.keys(name, &[1]));
    let [first, second] = [fleet.setup(files[0].clone()), fleet.setup(files[1].clone())];
    let first = synced(first).await;
    let second = synced(second.set("GATEWAY__URL", first.gateway.url())).await;
    // Both ways, whatever step each sidecar has reached.
    for (name, bytes) in
        [("one", &[1, 2][..]), ("two", &[1, 2]), ("one", &[2, 1]), ("two", &[2, 1]), ("one", &[2]), ("two", &[2])]
    {
        fleet.keys(name, bytes);
        for sidecar in [&first, &second] {
            sidecar.clock.advance(Duration::from_secs(11));
        }
        taken([&first, &second]).await;
        taken_by_first([&first, &second]).await;
    }
    assert_eq!(bodies(&first, "unopened").await + bodies(&second, "unopened").await, 0.0);

    // A step too early: the second sidecar does not know the key yet.
    fleet.keys("one", &[3]);
    first.clock.advance(Duration::from_secs(11));
    eventually("not opened", async || {
        let (session, fetched) = shared(&first).await;
        let answer = second.get(&session.path).await;
        assert_eq!(answer.json(), fetched.json());
        bodies(&second, "unopened").await >= 1.0
    })
    .await;
}

/// As [`taken`], with a session that the second sidecar fetches.
async fn taken_by_first([first, second]: [&Harness; 2]) {
    loop {
        let before = bodies(second, "stored").await;
        let session = Session::tokenize(&first.gateway);
        let answer = second.get(&session.path).await;
        if !answer.header("cache-status").starts_with("sezzle-fleet; fwd=uri-miss; stored, ") {
            continue;
        }
        eventually("shared", async || bodies(second, "stored").await > before).await;
        if first.get(&session.path).await.header("cache-status").starts_with("sezzle-fleet; hit") {
            return;
        }
    }
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run"]
async fn while_one_sidecar_fetches_another_waits() {
    let fleet = Fleet::start().await;
    let setup = || fleet.setup(fleet.keys("keys", &[1])).set("FLEET__FLIGHT_WAIT", "1s");
    let first = synced(setup()).await;
    let second = synced(setup().set("GATEWAY__URL", first.gateway.url())).await;
    first.gateway.script(Rule::on(Method::GET, "/v2/session/*").delay(Duration::from_millis(300)));
    eventually("fetched once", async || {
        let session = Session::tokenize(&first.gateway);
        let answers = tokio::join!(first.get(&session.path), second.get(&session.path));
        assert_eq!(answers.0.json()["uuid"], session.uuid.as_str());
        assert_eq!(answers.0.json(), answers.1.json());
        first.gateway.count("GET", &session.path) == 1
    })
    .await;
    assert!(bodies(&first, "hit").await + bodies(&second, "hit").await >= 1.0);
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run"]
async fn a_sidecar_that_waits_for_a_fruitless_fetch_fetches() {
    let fleet = Fleet::start().await;
    let setup = || fleet.setup(fleet.keys("keys", &[1])).set("FLEET__FLIGHT_WAIT", "1s");
    let first = synced(setup()).await;
    let second = synced(setup().set("GATEWAY__URL", first.gateway.url())).await;
    first.gateway.script(Rule::on(Method::GET, "/v2/session/*").delay(Duration::from_millis(100)));
    let nothing = format!("/v2/session/{}", uuid::Uuid::from_u128(7));
    let answers = tokio::join!(first.get(&nothing), second.get(&nothing));
    assert_eq!((answers.0.status, answers.1.status), (404, 404));
    eventually("told that nothing is shared", async || {
        let (one, other) = tokio::join!(first.get(&nothing), second.get(&nothing));
        assert_eq!((one.status, other.status), (404, 404));
        let bodies = fleet.bodies().await;
        let Some(key) = bodies.first() else { return false };
        fleet.redis.call(&format!("STRLEN {key}")).await.number() == 0
    })
    .await;
    assert_eq!(bodies(&first, "hit").await + bodies(&second, "hit").await, 0.0);
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run"]
async fn redis_sees_nothing_that_can_be_read() {
    let fleet = Fleet::start().await;
    let [first, _second] = fleet.two().await;
    let (session, answer) = shared(&first).await;
    let mut seen = Vec::new();
    for key in fleet.redis.keys("*").await {
        seen.extend(key.bytes());
        let value = if key.ends_with(":log") { format!("XRANGE {key} - +") } else { format!("GET {key}") };
        collect(&fleet.redis.call(&value).await, &mut seen);
    }
    let text = answer.text();
    assert!(seen.len() > 300 && text.contains(&session.uuid) && text.contains(session.token()));
    let own = ["sezzle", "application/json", "http", "links", "order", "GMT", "cache-control"];
    for secret in [session.uuid.as_str(), &session.order, session.token()].into_iter().chain(own) {
        assert!(!seen.windows(secret.len()).any(|window| window.eq_ignore_ascii_case(secret.as_bytes())), "{secret}");
    }
    let bytes = uuid::Uuid::parse_str(&session.uuid).expect("a UUID").into_bytes();
    assert!(!seen.windows(16).any(|window| window == bytes));
}

fn collect(reply: &Reply, seen: &mut Vec<u8>) {
    match reply {
        Reply::Bytes(bytes) => seen.extend_from_slice(bytes),
        Reply::List(list) => list.iter().for_each(|reply| collect(reply, seen)),
        Reply::Text(_) | Reply::Error(_) | Reply::Number(_) | Reply::Nothing => {}
    }
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run"]
async fn a_server_that_does_not_say_who_it_is_gets_no_bodies() {
    let fleet = Fleet::start().await;
    fleet.redis.call("ACL SETUSER default -info").await;
    let [first, second] = fleet.two().await;
    let session = Session::tokenize(&first.gateway);
    for sidecar in [&first, &second] {
        let answer = sidecar.get(&session.path).await;
        assert!(answer.cache().starts_with("fwd=uri-miss; fwd-status=200"), "no fleet in {}", answer.cache());
    }
    assert_eq!(fleet.bodies().await, [""; 0]);
}
