//! Nothing that passes through the server or lies in it can be read there: no identifier, no secret, no part of a body.

use std::collections::HashSet;

use sezzle_sidecar::simulator::Options;

use crate::support::fleet::{Change, KEY, Pod, Shop, is_hit, key_file, sharing};
use crate::support::process::Folder;
use crate::support::redis::Redis;
use crate::support::{Session, eventually};

/// Shorter pieces meet by chance, or in the words of a command.
const PIECE: usize = 10;

#[tokio::test]
#[ignore = "needs redis-server: tests/run"]
async fn the_server_learns_no_identifier_no_secret_and_no_body() {
    let (redis, folder) = (Redis::start().await, Folder::new());
    let key_file = key_file(&folder);
    let monitor = redis.monitor().await;
    let shop = Shop::open().await;
    let settings = [&sharing(&key_file)[..], &[("FLEET__NAME", "fleet-of-the-canaries")]].concat();
    // The monitor shows where each command came from.
    let url = format!("unix:{}", redis.socket().display());
    let harnesses = [shop.pod(Some(&url), &settings).await, shop.pod(Some(&url), &settings).await];
    let pods = harnesses.each_ref().map(Pod::from);
    for pod in pods {
        shop.link_is(pod, "synced").await;
    }

    let Options { public_key, private_key, merchant_uuid, .. } = Options::default();
    let mut secrets = vec![public_key, private_key, merchant_uuid, KEY.to_owned(), "fleet-of-the-canaries".to_owned()];
    let mut bodies = Vec::new();
    for change in Change::ALL {
        let session = Session::tokenize(&shop.gateway);
        for pod in pods {
            eventually("stored", async || is_hit(&shop.lookup(pod, &session).await)).await;
        }
        bodies.push(shop.lookup(pods[0], &session).await.body.to_vec());
        secrets.extend([session.uuid.clone(), session.order.clone(), session.token().to_owned()]);
        shop.change(pods[0], change, &session).await;
        bodies.push(shop.lookup(pods[1], &session).await.body.to_vec());
    }
    for call in shop.gateway.journal() {
        secrets.extend(call.headers.get("authorization").map(|value| value.to_str().expect("text").to_owned()));
    }
    let published = "fleet_entries_total{direction=\"published\",kind=\"answered\"}";
    eventually("published", async || shop.metric(pods[0], published).await > 0.0).await;
    eventually("shared", async || {
        let session = Session::tokenize(&shop.gateway);
        bodies.push(shop.lookup(pods[0], &session).await.body.to_vec());
        secrets.extend([session.uuid, session.order]);
        redis.keys("szs1:*:b:*").await.len() > 1
    })
    .await;

    // A dump holds texts as they are, if it is not compressed.
    redis.call("CONFIG SET rdbcompression no").await;
    redis.call("SAVE").await;
    let dump = std::fs::read(redis.dump()).expect("a dump");
    let seen = monitor.seen();
    for (name, found) in [("commands", &seen), ("dump", &dump)] {
        assert!(found.windows(5).any(|piece| piece == b"szs1:"), "the {name} hold the fleet's keys");
        assert!(bodies.len() > 8 && secrets.len() > 20, "{}", secrets.len());
        let pieces: HashSet<&[u8]> = found.windows(PIECE).collect();
        for secret in &secrets {
            for form in forms(secret) {
                let shown = form.windows(PIECE).find(|piece| pieces.contains(piece));
                assert!(
                    shown.is_none(),
                    "a part of {secret} is in the {name}: {:?}",
                    shown.map(String::from_utf8_lossy)
                );
            }
        }
        for body in &bodies {
            let shown = body.windows(PIECE).find(|piece| pieces.contains(piece));
            assert!(shown.is_none(), "a part of a body is in the {name}: {:?}", shown.map(String::from_utf8_lossy));
        }
    }
    for harness in harnesses {
        harness.stop_alone().await;
    }
    shop.gateway.stop().await;
}

/// The ways in which a text may be written: itself, in the other case, and the bytes that its hexadecimal digits mean.
fn forms(text: &str) -> Vec<Vec<u8>> {
    let digits: Vec<u8> =
        text.chars().filter_map(|digit| digit.to_digit(16)).map(|digit| u8::try_from(digit).expect("small")).collect();
    let bytes = digits.chunks_exact(2).map(|pair| pair[0] * 16 + pair[1]).collect();
    let plain: String = text.chars().filter(|digit| *digit != '-').collect();
    let mut forms = vec![text.into(), text.to_ascii_uppercase().into(), text.to_ascii_lowercase().into(), plain.into()];
    if text.len() == 36 {
        forms.push(bytes);
    }
    forms
}
