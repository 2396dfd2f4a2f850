//! The engines and the network faults that the tests of the fleet build on: each does what its name says.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use crate::support::eventually;
use crate::support::redis::{Cluster, Engine, Redis, Reply, Sentinels, call, request};
use crate::support::redis_proxy::{RedisProxy, Way};

const PING: &str = "PING";
const SOON: Duration = Duration::from_secs(20);
/// Long enough for bytes to arrive if no fault held them back.
const A_WHILE: Duration = Duration::from_millis(200);

fn pong() -> Option<Reply> {
    Some(Reply::Text("PONG".to_owned()))
}

#[tokio::test]
#[ignore = "needs redis-server, Redis 6.2 and valkey-server: tests/run"]
async fn engines_are_the_ones_that_were_asked_for() {
    let (redis, old, valkey) = tokio::join!(
        Redis::with(Engine::Redis, &["--maxclients", "77"]),
        Redis::with(Engine::Redis62, &[]),
        Redis::with(Engine::Valkey, &[])
    );
    assert!(redis.info("redis_version").await.starts_with("7.0."), "{}", redis.info("redis_version").await);
    assert!(old.info("redis_version").await.starts_with("6.2."), "{}", old.info("redis_version").await);
    assert!(valkey.info("valkey_version").await.starts_with("9."), "{}", valkey.info("valkey_version").await);
    assert_eq!(redis.call("CONFIG GET maxclients").await.list()[1].text(), "77");
    for server in [redis, old, valkey] {
        server.call("SET a 1").await;
        assert_eq!(server.keys("*").await, ["a"]);
        assert!(matches!(server.try_call("XADD a * b c").await, Reply::Error(error) if error.starts_with("WRONGTYPE")));
        assert_eq!(server.call("GET b").await, Reply::Nothing);
        assert!(server.socket().exists());
        eventually("nobody else is connected", async || server.connections().await == 0).await;
    }
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run"]
async fn a_paused_server_keeps_its_connections_and_a_killed_one_does_not() {
    let mut redis = Redis::start().await;
    let mut stream = TcpStream::connect(redis.address).await.expect("connects");
    redis.pause();
    stream.write_all(&request(PING)).await.expect("buffered");
    assert!(timeout(A_WHILE, stream.read_u8()).await.is_err(), "a paused server says nothing");
    redis.go_on();
    assert_eq!(timeout(SOON, stream.read_u8()).await.expect("in time").expect("a reply"), b'+');
    redis.call("SET a 1").await;
    redis.kill().await;
    assert!(call(redis.address, PING).await.is_none());
    redis.start_again().await;
    assert!(redis.keys("*").await.is_empty(), "nothing was saved");
}

#[tokio::test]
#[ignore = "needs redis-server and redis-sentinel: tests/run"]
async fn sentinels_promote_the_replica_of_a_paused_primary() {
    let primary = Redis::start().await;
    let replica = Redis::replica_of(&primary).await;
    let sentinels = Sentinels::watch(&primary).await;
    assert_eq!(sentinels.primary().await, Some(primary.address));
    primary.pause();
    eventually("promoted", async || sentinels.primary().await == Some(replica.address)).await;
    replica.call("SET a 1").await;
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run"]
async fn a_cluster_moves_a_slot_to_the_replica_of_a_dead_node() {
    let mut cluster = Cluster::start().await;
    let owner = cluster.owner(0, "{a}").await.expect("an owner");
    let asked = (owner + 1) % 6;
    cluster.nodes[owner].kill().await;
    eventually("another owner", async || cluster.owner(asked, "{a}").await.is_some_and(|other| other != owner)).await;
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run"]
async fn the_proxy_brings_about_each_fault() {
    let redis = Redis::start().await;
    let proxy = RedisProxy::before(redis.address).await;
    assert_eq!(call(proxy.address, PING).await, pong());

    proxy.delay(A_WHILE);
    let begun = Instant::now();
    assert_eq!(call(proxy.address, PING).await, pong());
    assert!(begun.elapsed() >= 2 * A_WHILE, "each way: {:?}", begun.elapsed());
    proxy.mend();

    for way in [Way::ToServer, Way::ToCaller] {
        redis.call("SET done 0").await;
        proxy.stall(way);
        let mut stream = TcpStream::connect(proxy.address).await.expect("connects");
        stream.write_all(&request("SET done 1")).await.expect("written");
        assert!(timeout(A_WHILE, stream.read_u8()).await.is_err(), "stalled");
        let done = redis.call("GET done").await;
        assert_eq!(done.text(), if way == Way::ToServer { "0" } else { "1" }, "{way:?}");
        drop(stream);
        proxy.mend();
        eventually("arrives late", async || redis.call("GET done").await.text() == "1").await;
    }

    let mut stream = pinged(&proxy).await;
    proxy.forget();
    stream.write_all(&request(PING)).await.expect("written");
    assert!(timeout(A_WHILE, stream.read_u8()).await.is_err(), "forgotten");
    assert_eq!(call(proxy.address, PING).await, pong(), "a new one");
    proxy.cut();
    assert!(timeout(SOON, stream.read_u8()).await.expect("in time").is_err(), "reset");

    let mut stream = pinged(&proxy).await;
    proxy.cut_after(3);
    stream.write_all(&request(PING)).await.expect("written");
    let mut got = Vec::new();
    let ended = timeout(SOON, stream.read_to_end(&mut got)).await.expect("in time");
    assert!(ended.is_err() && got.len() <= 3, "reset after {got:?}");
    assert_eq!(call(proxy.address, PING).await, pong());

    proxy.refuse();
    assert_eq!(call(proxy.address, PING).await, None);
    proxy.mend();
    assert_eq!(call(proxy.address, PING).await, pong());
    let other = Redis::start().await;
    other.call("SET other 1").await;
    proxy.lead_to(other.address);
    assert_eq!(call(proxy.address, "GET other").await, Some(Reply::Bytes(b"1".to_vec())));
}

/// A connection through the proxy on which a reply has come.
async fn pinged(proxy: &RedisProxy) -> TcpStream {
    let mut stream = TcpStream::connect(proxy.address).await.expect("connects");
    stream.write_all(&request(PING)).await.expect("written");
    timeout(SOON, stream.read_exact(&mut [0; 7])).await.expect("in time").expect("a reply");
    stream
}
