//! Bad answers of Sezzle in place of a session: the caller gets each as it came, the sidecar does not store it and
//! counts the reason, and the next answer is served as if nothing had happened.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::support::origin::{Origin, session};

/// A good session. No link in it leads to a gateway, so that every byte passes unchanged.
fn whole(uuid: Uuid) -> String {
    format!(
        r#"{{"uuid":"{uuid}","links":[{{"href":"https://checkout.sezzle.com/?id=1","method":"GET","rel":"self"}}],
        "order":{{"uuid":"12a-g","intent":"AUTH","links":[],"checkout_url":"https://checkout.sezzle.com/?id=2"}},
        "tokenize":{{"token":"t","expiration":"2099-01-01T00:00:00Z","approval_url":null}},"new":[1e3,"\ud83d\ude00"]}}"#
    )
    .replace("2099-01-01T00:00:00Z", &soon())
}

fn soon() -> String {
    let later = std::time::SystemTime::now() + std::time::Duration::from_secs(1200);
    sezzle_sidecar::sezzle::time::format_rfc3339(sezzle_sidecar::clock::Wall::from(later))
        .expect("a year of four digits")
}

/// Ways to spoil a session so that nothing may be stored, and the reason.
fn spoiled() -> impl Strategy<Value = (Spoil, &'static str)> {
    use Spoil::{Arbitrary, Cut, Replace, Twice, Wrap};
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..400).prop_map(|bytes| (Arbitrary(bytes), "unreadable")),
        (1..100usize).prop_map(|percent| (Cut(percent), "unreadable")),
        (member(), wrong_type()).prop_map(|(member, value)| (Replace(member, value), "unreadable")),
        member().prop_map(|member| (Twice(member), "unreadable")),
        (1..3000usize).prop_map(|depth| (Wrap(depth), "unreadable")),
        prop_oneof![Just("null"), Just("\"\""), Just("\"x\""), Just("\"fadbc642-05a4-4e38-9e74-80e325623af9\"")]
            .prop_map(|other| (Replace("\"uuid\":", other.to_owned()), "other-session")),
        "[ -!#-\\[\\]-~]{0,20}|0001-01-01T00:00:00Z|2999-01-01T00:00:00Z".prop_map(|text| {
            let reason = "expiration";
            (Replace("\"expiration\":", format!("\"{text}\"")), reason)
        }),
        (129..4000usize)
            .prop_map(|length| (Replace("\"token\":", format!("\"{}\"", "t".repeat(length))), "unreadable")),
        proptest::collection::vec(128..=255u8, 1..4).prop_map(|bytes| (Spoil::Insert(bytes), "unreadable")),
    ]
}

fn member() -> impl Strategy<Value = &'static str> {
    prop_oneof![
        Just("\"uuid\":"),
        Just("\"order\":"),
        Just("\"tokenize\":"),
        Just("\"token\":"),
        Just("\"expiration\":"),
    ]
}

fn wrong_type() -> impl Strategy<Value = String> {
    prop_oneof![Just("7"), Just("true"), Just("[]"), Just("[{}]"), Just("-1.5e300"), Just("[\"a\",\"b\"]")]
        .prop_map(str::to_owned)
}

#[derive(Clone, Debug)]
enum Spoil {
    Arbitrary(Vec<u8>),
    /// Keeps this percentage of the session.
    Cut(usize),
    /// Replaces the value of the first member of this name.
    Replace(&'static str, String),
    /// Removes the first member of this name.
    Twice(&'static str),
    /// Wraps the session in so many arrays.
    Wrap(usize),
    /// Puts bytes that are not UTF-8 into the first string of the session.
    Insert(Vec<u8>),
}

impl Spoil {
    fn apply(&self, good: &str) -> Vec<u8> {
        match self {
            Self::Arbitrary(bytes) => bytes.clone(),
            Self::Cut(percent) => good.as_bytes()[..good.len() * percent / 100].to_vec(),
            Self::Replace(member, value) => {
                let (start, end) = value_of(good, member);
                format!("{}{value}{}", &good[..start], &good[end..]).into_bytes()
            }
            Self::Twice(member) => {
                let (start, end) = value_of(good, member);
                let once = &good[start - member.len()..end];
                format!("{},{once}{}", &good[..end], &good[end..]).into_bytes()
            }
            Self::Wrap(depth) => format!("{}{good}{}", "[".repeat(*depth), "]".repeat(*depth)).into_bytes(),
            Self::Insert(bytes) => {
                let at = value_of(good, "\"uuid\":").0 + 1;
                // A whole UTF-8 character would only make another valid session.
                let bytes: Vec<u8> = if std::str::from_utf8(bytes).is_ok() { vec![0xff] } else { bytes.clone() };
                [&good.as_bytes()[..at], &bytes, &good.as_bytes()[at..]].concat()
            }
        }
    }
}

/// The range of the value of the first member of this name.
fn value_of(good: &str, member: &str) -> (usize, usize) {
    let start = good.find(member).expect("the member") + member.len();
    let mut values = serde_json::Deserializer::from_str(&good[start..]).into_iter::<Box<RawValue>>();
    values.next().expect("a value").expect("JSON");
    (start, start + values.byte_offset())
}

#[tokio::test]
async fn whatever_is_no_session_passes_by_the_cache() {
    let origin = Origin::start().await;
    let mut runner = TestRunner::deterministic();
    let (mut wrong, mut skipped) = (Vec::new(), BTreeMap::new());
    for _ in 0..400 {
        let (spoil, reason) = spoiled().new_tree(&mut runner).expect("a value").current();
        let uuid = session();
        let body = spoil.apply(&whole(uuid));
        let series = format!("cache_store_skipped_total{{reason=\"{reason}\"}}");
        origin.answers("200 OK", &[], &body);
        for _ in 0..2 {
            let answer = origin.get(uuid, &[]).await;
            let as_it_came = answer.status == 200 && answer.body == body;
            if !as_it_came || answer.cache() != format!("fwd=uri-miss; fwd-status=200; detail={reason}") {
                wrong.push(format!("{spoil:?}: {} {:?}", answer.status, answer.cache()));
            }
        }
        let before = skipped.entry(reason).or_insert(0.0);
        let after = origin.harness.metric(&series).await;
        if after - *before != 2.0 {
            wrong.push(format!("{spoil:?}: counted {} times", after - *before));
        }
        *before = after;
        origin.answers("200 OK", &[], whole(uuid));
        assert!(origin.get(uuid, &[]).await.cache().contains("stored"));
        assert!(origin.get(uuid, &[]).await.cache().starts_with("hit"));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    origin.harness.stop().await;
}

#[tokio::test]
async fn enormous_documents_pass_by_the_cache() {
    let origin = Origin::start().await;
    for (body, reason) in [
        ("[".repeat(200_000), "unreadable"),
        ("{\"order\":".repeat(20_000), "unreadable"),
        ("{\"a\":".repeat(30_000), "unreadable"),
        (format!("{}{}", "[".repeat(100_000), "]".repeat(100_000)), "unreadable"),
        (format!("\"{}\"", "\\u0000".repeat(40_000)), "unreadable"),
        ("9".repeat(250_000), "unreadable"),
        ("[".repeat(2_000_000), "too-large"),
    ] {
        let uuid = session();
        origin.answers("200 OK", &[], &body);
        let answer = origin.get(uuid, &[]).await;
        assert!(answer.status == 200 && answer.body == body.as_bytes());
        assert!(answer.cache().ends_with(&format!("detail={reason}")), "{}", answer.cache());
    }
    assert_eq!(origin.harness.metric("cache_entries").await, 0.0);
    origin.harness.stop().await;
}
