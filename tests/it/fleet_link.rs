//! The link between sidecars and a real Redis: how it is made, what it needs, and that it is used.

use std::sync::Arc;

use http::Method;

use crate::support::redis::Redis;
use crate::support::{Harness, Session, Setup, eventually};

const SYNCED: &str = "fleet_state{state=\"synced\"}";

fn setup(redis: &Redis) -> Setup {
    Setup::default().set("FLEET__URL", format!("redis://{}", redis.address))
}

/// A sidecar before the same gateway as another.
fn beside(first: &Harness, setup: Setup) -> Setup {
    setup.set("GATEWAY__URL", first.gateway.url())
}

async fn synced(sidecar: &Harness) {
    eventually("synced", async || sidecar.metric(SYNCED).await == 1.0).await;
}

/// Changes the order of a session.
async fn change(sidecar: &Harness, session: &Session) {
    let headers = [("content-type", "application/json")];
    let answer = sidecar.send(Method::PATCH, &session.order_path, &headers, "{\"reference_id\":\"new\"}").await;
    assert_eq!(answer.status, 204);
}

/// The revision of a session as a lookup shows it. The simulated gateway counts one up at each change.
async fn revision(sidecar: &Harness, session: &Session) -> String {
    let answer = sidecar.get(&session.path).await;
    assert_eq!(answer.status, 200);
    answer.header("etag").to_owned()
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run"]
async fn no_lookup_through_one_sidecar_is_older_than_a_write_through_another() {
    let redis = Redis::start().await;
    // Slow polls, because the machine may be busy. Answers to writes wait for the whole lease, so no luck is needed.
    let strict = || {
        let setup = setup(&redis).set("FLEET__POLL", "400ms").set("FLEET__LEASE", "800ms");
        setup.set("FLEET__WRITE_WAIT", "1s").set("FLEET__ALONE_TTL", "0s")
    };
    let first = strict().start().await;
    let (second, third) = (beside(&first, strict()).start().await, beside(&first, strict()).start().await);
    let sidecars = Arc::new([first, second, third]);
    for sidecar in sidecars.iter() {
        synced(sidecar).await;
    }
    let mut shoppers = Vec::new();
    for shopper in 0..20 {
        let sidecars = Arc::clone(&sidecars);
        let session = Session::tokenize(&sidecars[0].gateway);
        shoppers.push(tokio::spawn(async move {
            for round in 0..10 {
                let (writer, reader) = (round % 3, (round + 1 + shopper % 2) % 3);
                for sidecar in sidecars.iter() {
                    revision(sidecar, &session).await;
                }
                let before = sidecars[0].get(&session.path).await.text();
                change(&sidecars[writer], &session).await;
                let after = sidecars[reader].get(&session.path).await.text();
                assert_ne!(before, after, "through {writer}, then {reader}");
            }
        }));
    }
    for shopper in shoppers {
        shopper.await.expect("no stale lookup");
    }
    for sidecar in sidecars.iter() {
        assert_eq!(sidecar.metric("fleet_holds_total{result=\"gave_up\"}").await, 0.0);
        assert!(sidecar.metric("fleet_entries_total{direction=\"applied\",kind=\"begin\"}").await > 0.0);
    }
}
