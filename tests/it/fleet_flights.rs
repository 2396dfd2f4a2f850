//! A sidecar that dies while it fetches for all others costs them their wait for it, and nothing else.

use std::time::Duration;

use futures_util::future::{join, join_all};
use http::Method;
use sezzle_sidecar::simulator::{Gate, Rule};
use tokio::time::Instant;

use crate::support::Session;
use crate::support::client::Ended;
use crate::support::eventually;
use crate::support::fleet::{Pod, Shop, key_file, sharing};
use crate::support::process::{Folder, Sidecar};
use crate::support::redis::Redis;

const FLIGHT_WAIT: Duration = Duration::from_millis(500);
/// One fetch takes some milliseconds, and on a busy machine more.
const FETCH: Duration = Duration::from_secs(3);

#[tokio::test]
#[ignore = "needs redis-server: tests/run"]
async fn the_death_of_a_sidecar_in_its_fetch_costs_the_others_their_wait() {
    let (redis, folder) = (Redis::start().await, Folder::new());
    let key_file = key_file(&folder);
    let settings = [&sharing(&key_file)[..], &[("FLEET__FLIGHT_WAIT", "500ms"), ("FLEET__TIMEOUT", "50ms")]].concat();
    let shop = Shop::open().await;
    let url = redis.url();
    let (sidecars, pods): (Vec<Sidecar>, Vec<Pod>) =
        join_all((0..3).map(|_| shop.process(&url, &settings))).await.into_iter().unzip();
    join_all(pods.iter().map(|pod| shop.link_is(*pod, "synced"))).await;

    // A sidecar whose question to a busy server came too late fetches for itself alone.
    let mut found = None;
    eventually("a sidecar fetches for all", async || {
        let (session, gate) = (Session::tokenize(&shop.gateway), Gate::new());
        shop.gateway.script(Rule::on(Method::GET, &session.path).times(1).gate(&gate));
        let lookup = shop.client.try_send(pods[0].proxy, Method::GET, &session.path, &[], "");
        let die = async {
            gate.arrived(1).await;
            let mark = redis.keys("szs1:*:f:*").await.pop();
            match &mark {
                Some(mark) => {
                    // Otherwise the mark could end before the others ask.
                    redis.call(&format!("PEXPIRE {mark} 60000")).await;
                    sidecars[0].process.signal("KILL");
                }
                None => gate.release(),
            }
            mark.is_some()
        };
        let (ended, is_dead) = join(lookup, die).await;
        assert_eq!(is_dead, !matches!(ended, Ended::Whole(_)), "{ended:?}");
        found = is_dead.then_some(session);
        is_dead
    })
    .await;
    let session = found.expect("a session");

    let asked = Instant::now();
    let answers = join_all(pods[1..].iter().map(async |pod| {
        let answer = shop.lookup(*pod, &session).await;
        (answer, asked.elapsed())
    }))
    .await;
    for (answer, took) in answers {
        assert_eq!(answer.json()["uuid"], session.uuid.as_str());
        assert!((FLIGHT_WAIT..FLIGHT_WAIT + FETCH).contains(&took), "{took:?}");
    }
}
