//! Clocks that fail: a suspended machine, a stepped wall clock, a gateway whose clock differs. No session is served
//! longer for it, and no age is understated.

use http::Method;

use crate::support::Setup;
use crate::support::origin::{Lines, Origin, session};

#[tokio::test]
async fn a_suspended_machine_ages_what_it_holds() {
    let origin = Origin::start().await;
    let uuid = session();
    origin.serves(uuid, &[]);
    origin.get(uuid, &[]).await;
    // The monotonic clock stood still.
    origin.harness.clock.step_wall(20_000);
    let hit = origin.get(uuid, &[]).await;
    assert!(["hit; ttl=9", "hit; ttl=10"].contains(&hit.cache()), "{}", hit.cache());
    assert!(["20", "21"].contains(&hit.header("age")), "{}", hit.header("age"));
    let young = origin.get(uuid, &[("cache-control", "max-age=15")]).await;
    assert!(young.cache().starts_with("fwd=request"), "{}", young.cache());
    origin.harness.clock.step_wall(31_000);
    let stale = origin.get(uuid, &[]).await;
    assert!(stale.cache().starts_with("fwd=stale"), "{}", stale.cache());
    origin.harness.stop().await;
}

#[tokio::test]
async fn a_wall_clock_set_back_lengthens_no_lifetime() {
    let origin = Origin::start().await;
    for lines in [&[] as Lines<'_>, &[("Date", "@0"), ("Expires", "@30")], &[("Cache-Control", "max-age=30")]] {
        let uuid = session();
        origin.serves(uuid, lines);
        let first = origin.get(uuid, &[]).await;
        assert!(first.cache().contains("stored"), "{}", first.cache());
        origin.harness.clock.step_wall(-600_000);
        let hit = origin.get(uuid, &[]).await;
        assert!(["hit; ttl=29", "hit; ttl=30", "hit; ttl=28"].contains(&hit.cache()), "{lines:?}: {}", hit.cache());
        origin.pass(31);
        let stale = origin.get(uuid, &[]).await;
        assert!(stale.cache().starts_with("fwd=stale"), "{lines:?}: {}", stale.cache());
        origin.harness.clock.step_wall(600_000);
    }
    origin.harness.stop().await;
}

#[tokio::test]
async fn a_gateway_ten_minutes_off() {
    let origin = Origin::start().await;
    // By the gateway's clock the token lives for 40 s, whatever the local clock says: 35 s less the margin.
    for (skew, lines, expected) in [
        // The local clock is behind: the gateway's expirations come early, and every answer seems to be ten minutes
        // old.
        (-600, &[("Date", "@-600")] as Lines<'_>, "tokenize"),
        (-600, &[("Date", "@-600"), ("Cache-Control", "max-age=20")], "expired"),
        // The local clock is ahead: only its own time counts.
        (600, &[("Date", "@600")], "ttl=35"),
        (600, &[("Date", "@600"), ("Cache-Control", "max-age=20")], "ttl=20"),
        (600, &[("Date", "@600"), ("Expires", "@620")], "ttl=20"),
        (0, &[], "ttl=35"),
    ] {
        let uuid = session();
        let expiration = origin.expiration(skew + 40);
        let body = format!(r#"{{"uuid":"{uuid}","tokenize":{{"token":"t","expiration":"{expiration}"}}}}"#);
        origin.answers("200 OK", lines, &body);
        let first = origin.get(uuid, &[]).await;
        let Some(ttl) = expected.strip_prefix("ttl=").map(|ttl| ttl.parse::<u64>().expect("seconds")) else {
            assert!(first.cache().ends_with(&format!("detail={expected}")), "{lines:?}: {}", first.cache());
            continue;
        };
        let given = first.cache().split("ttl=").nth(1).and_then(|rest| rest.split(';').next()?.parse::<u64>().ok());
        // Dates have whole seconds.
        assert!(given.is_some_and(|given| (ttl - 2..=ttl).contains(&given)), "{lines:?}: {}", first.cache());
        origin.pass(ttl - 3);
        assert!(origin.get(uuid, &[]).await.cache().starts_with("hit"), "{lines:?}");
        origin.pass(4);
        let stale = origin.get(uuid, &[]).await;
        assert!(!stale.cache().starts_with("hit"), "{lines:?}: {}", stale.cache());
    }
    origin.harness.stop().await;
}

#[tokio::test]
async fn a_revived_session_counts_from_the_304_on() {
    let setup = Setup::default().set("CACHE__MAX_TTL", "20s");
    let origin = Origin::start_with(setup).await;
    let uuid = session();
    origin.serves(uuid, &[("ETag", "\"a\"")]);
    origin.get(uuid, &[]).await;
    // The machine was suspended for a minute and a half.
    origin.harness.clock.step_wall(90_000);
    origin.answers("304 N", &[("ETag", "\"a\"")], "");
    let renewed = origin.get(uuid, &[]).await;
    assert_eq!(renewed.cache(), "fwd=stale; fwd-status=304; ttl=20; stored");
    origin.pass(19);
    let hit = origin.get(uuid, &[]).await;
    assert!(
        hit.cache().starts_with("hit") && hit.header("age") == "19" || hit.header("age") == "20",
        "{}",
        hit.cache()
    );
    origin.pass(2);
    let again = origin.ask(Method::GET, uuid, &[]).await;
    assert!(again.cache().starts_with("fwd=stale; fwd-status=304"), "{}", again.cache());
    origin.harness.stop().await;
}
