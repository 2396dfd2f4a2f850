//! A sidecar reaches a real Redis in each documented way, and publishes its queue before the link ends.

use std::fs;
use std::time::Duration;

use http::Method;
use sezzle_sidecar::simulator::{Options, Simulator};

use crate::support::process::{Folder, Sidecar, free_address, lines, run};
use crate::support::redis::{Cluster, Engine, Redis, Reply, Sentinels};
use crate::support::redis_proxy::RedisProxy;
use crate::support::tls::Authority;
use crate::support::{Harness, Session, Setup, eventually};

const SYNCED: &str = "fleet_state{state=\"synced\"}";
const CHANGE: &str = "{\"reference_id\":\"new\"}";
const JSON: [(&str, &str); 1] = [("content-type", "application/json")];

fn setup(url: &str) -> Setup {
    Setup::default().set("FLEET__URL", url)
}

async fn synced(sidecar: &Harness) {
    eventually("synced", async || sidecar.metric(SYNCED).await == 1.0).await;
}

/// Starts a sidecar, which joins its fleet and publishes a purge.
async fn works(setup: Setup) -> Harness {
    let sidecar = setup.set("CONTROL__LISTEN", "127.0.0.1:0").start().await;
    synced(&sidecar).await;
    let purged = sidecar.client.send(sidecar.control(), Method::POST, "/purge", &JSON, "{\"all\":true}").await;
    assert_eq!(purged.status, 200);
    assert_eq!(sidecar.metric("fleet_entries_total{direction=\"published\",kind=\"all\"}").await, 1.0);
    sidecar
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run"]
async fn each_way_to_a_server_is_taken() {
    let (authority, tls) = (Authority::new(), free_address());
    let (certificate, key) = authority.files("server", &["127.0.0.1"]);
    let ca = authority.file();
    let port = tls.port().to_string();
    let options =
        ["--tls-port", &port, "--tls-cert-file", &certificate, "--tls-key-file", &key, "--tls-ca-cert-file", &ca];
    let redis = Redis::with(Engine::Redis, &options).await;
    let (own, own_key) = authority.files("own", &["sidecar"]);

    works(setup(&format!("redis://{}", redis.address))).await.stop().await;
    works(setup(&format!("redis://{}/3", redis.address))).await.stop().await;
    works(setup(&format!("unix:{}", redis.socket().display()))).await.stop().await;
    let secure = || setup(&format!("rediss://{tls}")).set("FLEET__CA_FILE", &ca);
    let shows = secure().set("FLEET__CLIENT_CERTIFICATE_FILE", own).set("FLEET__CLIENT_KEY_FILE", own_key);
    works(shows).await.stop().await;

    // The server asks for a certificate, and this sidecar has none.
    let refused = secure().start().await;
    eventually("refused", async || {
        refused.metric("fleet_commands_total{command=\"join\",result=\"error\"}").await > 0.0
    })
    .await;
    assert_eq!(refused.metric("fleet_state{state=\"down\"}").await, 1.0);
    refused.stop().await;
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run"]
async fn the_documented_user_is_enough_and_a_new_password_needs_no_restart() {
    let redis = Redis::start().await;
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/fleet.md")).expect("the page");
    let user = page.lines().find_map(|line| line.trim_start().strip_prefix("user ")).expect("the user");
    redis.call(&format!("ACL SETUSER {}", user.replace(">PASSWORD", ">old"))).await;
    redis.call("ACL SETUSER default off").await;

    let folder = Folder::new();
    let password = folder.write("password", "wrong\n");
    let url = format!("redis://{}", redis.address);
    let variables =
        [("FLEET__URL", url.as_str()), ("FLEET__USERNAME", "sezzle-sidecar"), ("FLEET__PASSWORD_FILE", &password)];
    let sidecar = Sidecar::start(Options::default(), &variables).await;
    eventually("refused", async || {
        sidecar.metric("fleet_commands_total{command=\"connect\",result=\"refused\"}").await >= 3.0
    })
    .await;
    assert_eq!(sidecar.metric("fleet_state{state=\"down\"}").await, 1.0);
    folder.write("password", "old\n");
    eventually("synced", async || sidecar.metric(SYNCED).await == 1.0).await;
    eventually("told", async || sidecar.process.stdout().contains("with its fleet")).await;
    let log = sidecar.stop().await.stdout;
    let said: Vec<_> = lines(&log).into_iter().filter(|line| line.to_string().contains("fleet")).collect();
    let told = |text: &str| said.iter().filter(|line| line.to_string().contains(text)).count();
    assert_eq!((told("WRONGPASS"), told("with its fleet")), (1, 1), "each change once: {said:?}");
    assert!(
        said.iter().any(|line| line["advice"].as_str().is_some_and(|advice| advice.contains("fleet.password_file")))
    );
    assert!(!log.contains("wrong\n") && !log.contains("\"old\""), "{log}");
}

#[tokio::test]
#[ignore = "needs redis-server and redis-sentinel: tests/run"]
async fn the_sentinels_lead_to_the_primary_and_away_from_an_old_one() {
    let primary = Redis::start().await;
    let replica = Redis::replica_of(&primary).await;
    let sentinels = Sentinels::watch(&primary).await;
    let list: Vec<String> = sentinels.addresses.iter().map(|at| format!("\"{at}\"")).collect();
    let dead = format!("\"{}\"", free_address());
    let setup = Setup::default().set("FLEET__SENTINELS", format!("[{dead},{}]", list.join(",")));
    let sidecar = works(setup.set("FLEET__PRIMARY", "shop").set("FLEET__INSECURE", "true")).await;
    assert_eq!(connected(&primary).await, 1);
    primary.pause();
    eventually("with the new primary", async || {
        sentinels.primary().await == Some(replica.address) && connected(&replica).await == 1
    })
    .await;
    synced(&sidecar).await;
    assert_eq!(sidecar.metric("fleet_rejoins_total{reason=\"run_id\"}").await, 1.0);
    primary.go_on();
    sidecar.stop().await;
}

/// Connections that have sent the link's poll.
async fn connected(redis: &Redis) -> usize {
    let list = redis.call("CLIENT LIST TYPE normal").await.text();
    list.lines().filter(|line| line.contains("cmd=time") || line.contains("cmd=setrange")).count()
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run"]
async fn a_cluster_leads_to_the_node_that_has_the_keys() {
    let cluster = Cluster::start().await;
    for node in &cluster.nodes {
        let sidecar = works(setup(&format!("redis://{}", node.address))).await;
        let moved = sidecar.metric("fleet_rejoins_total{reason=\"moved\"}").await;
        let direct = sidecar.metric("fleet_rejoins_total{reason=\"connect\"}").await;
        assert_eq!(moved + direct, 1.0);
        sidecar.stop().await;
    }
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run"]
async fn queued_entries_are_published_before_the_process_ends() {
    let redis = Redis::start().await;
    let network = RedisProxy::before(redis.address).await;
    let setup = setup(&format!("redis://{}", network.address)).set("FLEET__WRITE_WAIT", "0s");
    // The link is to be patient with a slow network.
    let sidecar = setup.set("FLEET__POLL", "1s").set("FLEET__LEASE", "2s").start().await;
    synced(&sidecar).await;
    let session = Session::tokenize(&sidecar.gateway);
    network.delay(Duration::from_millis(25));
    let written = sidecar.send(Method::PATCH, &session.order_path, &JSON, CHANGE).await;
    assert_eq!(written.status, 204);
    sidecar.stop().await;
    let log = redis.keys("szs1:*:log").await.pop().expect("a log");
    let entries = redis.call(&format!("XRANGE {log} - +")).await.list();
    let kinds: Vec<u8> = entries.iter().map(|entry| kind(&entry.list()[1].list()[1])).collect();
    // The name of the log, the beginning of the write, and its end by an answer.
    assert!(kinds == [7, 1, 2] || kinds == [7, 2], "{kinds:?}");
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run"]
async fn the_online_check_names_the_server_and_what_is_wrong_with_it() {
    let gateway = Simulator::start(Options::default()).await.expect("gateway starts");
    let Options { public_key, private_key, .. } = Options::default();
    let check = async |url: &str| {
        let gateway = gateway.url();
        let keys = [("CREDENTIALS__PUBLIC_KEY", public_key.as_str()), ("CREDENTIALS__PRIVATE_KEY", &private_key)];
        let ways = [("GATEWAY__ENVIRONMENT", "sandbox"), ("GATEWAY__URL", &gateway), ("FLEET__URL", url)];
        let ended = run(&["check", "--online"], &[&keys[..], &ways].concat()).await;
        (ended.code, format!("{}{}", ended.stdout, ended.stderr))
    };
    let says = |(code, text): &(Option<i32>, String), expected: i32, lines: &[&str]| {
        assert_eq!(*code, Some(expected), "{text}");
        lines.iter().for_each(|line| assert!(text.contains(line), "{line:?} in\n{text}"));
    };
    let redis = Redis::with(Engine::Redis, &["--maxmemory-policy", "allkeys-lru"]).await;
    let url = format!("redis://{}", redis.address);
    let fleet = format!("fleet       {}, reached in ", redis.address);
    let server =
        format!("server      Redis 7.0.15, run id {}…, primary without replicas, ", &redis.info("run_id").await[..8]);
    let found = check(&url).await;
    says(&found, 0, &[&fleet, &server, "maxmemory-policy allkeys-lru\n", "log         none yet", "round trip  "]);
    says(&found, 0, &["server time agrees with", "note        with maxmemory-policy allkeys-lru", "all is well"]);
    assert!(redis.keys("*").await.is_empty(), "the check leaves nothing behind");

    let replica = Redis::replica_of(&redis).await;
    says(&check(&url).await, 0, &["primary with 1 replicas", "min-replicas-to-write 1"]);
    let of_replica = check(&format!("redis://{}", replica.address)).await;
    says(
        &of_replica,
        1,
        &["the fleet has no server: the server is a replica", "name the primary in fleet.url", "starts all the same"],
    );

    redis.call("ACL SETUSER default -xadd").await;
    says(&check(&url).await, 1, &["the server answered NOPERM", "'xadd'", "the server's ACL"]);
    redis.call("ACL SETUSER default +xadd -info").await;
    says(&check(&url).await, 0, &["server      unknown\n", "allow +info"]);
    says(&check(&format!("redis://{}", free_address())).await, 1, &["cannot be reached: ", "refused"]);
    gateway.stop().await;
}

fn kind(entry: &Reply) -> u8 {
    let Reply::Bytes(bytes) = entry else { panic!("no entry: {entry:?}") };
    bytes[0]
}
