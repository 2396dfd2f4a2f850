use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, VIA};

use super::*;
use crate::clock::Clock;

const TAGS: [TagPrefix; 2] = [TagPrefix([7; 8]), TagPrefix([9; 8])];

fn stored(answer: &SessionResponse, like: &Arc<HeaderTemplate>) -> Option<Entry> {
    let now = Clock::system().now();
    let second = Duration::from_secs(1);
    let freshness = Freshness { ttl: second, age: second, stale: second, session_left: second };
    Entry::new(answer, 1, TAGS.into_iter(), freshness, now, now, like)
}

fn answer(headers: &[(HeaderName, &[u8])], etag: Option<&'static str>, body: &'static str) -> SessionResponse {
    let headers = headers.iter().map(|(name, value)| (name.clone(), HeaderValue::from_bytes(value).expect("valid")));
    let status = StatusCode::OK;
    let etag = etag.map(HeaderValue::from_static);
    let mut map = HeaderMap::new();
    headers.for_each(|(name, value)| _ = map.append(name, value));
    SessionResponse { status, fwd_status: status, headers: map, etag, body: Bytes::from_static(body.as_bytes()) }
}

#[test]
fn what_is_stored_is_what_was_received() {
    let custom = HeaderName::from_static("x-custom");
    type Headers<'h> = &'h [(HeaderName, &'h [u8])];
    let rows: [(Headers<'_>, _, _); 4] = [
        (&[], None, ""),
        (&[], Some("\"a\""), "{}"),
        (&[(ETAG, b"\"b\""), (custom.clone(), b"1"), (custom.clone(), b"")], Some("W/\"a\""), ""),
        (&[(CONTENT_TYPE, b"caf\xe9"), (custom, &[b'x'; 60_000])], None, "{\"a\": 1}"),
    ];
    for (headers, etag, body) in rows {
        let answer = answer(headers, etag, body);
        let found = stored(&answer, &Arc::default()).expect("it fits").answer();
        assert_eq!((found.headers, found.etag, found.body), (answer.headers, answer.etag, answer.body));
    }
}

#[test]
fn what_is_indexed_is_found_and_what_no_head_may_hold_is_not_stored() {
    let fits = answer(&[(ETAG, b"a")], Some("b"), "{}");
    assert_eq!(stored(&fits, &Arc::default()).expect("it fits").tags().collect::<Vec<_>>(), TAGS);
    assert!(stored(&answer(&[(ETAG, &[b'x'; 70_000])], None, ""), &Arc::default()).is_none());
}

#[test]
fn a_shape_is_shared_with_an_entry_like_it() {
    let first = stored(&answer(&[(ETAG, b"a"), (CONTENT_TYPE, b"b")], None, ""), &Arc::default()).expect("it fits");
    let same = stored(&answer(&[(ETAG, b"c"), (CONTENT_TYPE, b"d")], None, ""), first.template()).expect("it fits");
    assert!(Arc::ptr_eq(first.template(), same.template()));
    let other = stored(&answer(&[(CONTENT_TYPE, b"d")], None, ""), first.template()).expect("it fits");
    assert!(!Arc::ptr_eq(first.template(), other.template()));
}

#[test]
fn a_caller_gets_what_is_stored_and_what_is_added() {
    let value = HeaderValue::from_static;
    let plain = HeaderMap::from_iter([(ETAG, value("a")), (AGE, value("5")), (CACHE_CONTROL, value("no-cache"))]);
    let bare = HeaderMap::from_iter([(ETAG, value("a"))]);
    let mut repeated = bare.clone();
    repeated.append(ETAG, value("b"));
    let via = HeaderMap::from_iter([(ETAG, value("a")), (VIA, value("Sezzle"))]);
    // Of the names that are added, an entry has a slot for those that its first reader added.
    let ages: [&[&str]; 3] = [&["7"], &[], &["8", "9"]];
    for (first, then) in ages.into_iter().flat_map(|first| ages.map(|then| (first, then))) {
        for (stored_headers, vias, cache_control) in [
            (&plain, &["us"][..], "no-cache"),
            (&bare, &["us"], "default"),
            (&repeated, &["us"], "default"),
            (&via, &["Sezzle", "us"], "default"),
        ] {
            let answer = SessionResponse { headers: stored_headers.clone(), ..answer(&[], None, "") };
            let entry = stored(&answer, &Arc::default()).expect("it fits");
            for ages in [first, then, first] {
                let map = entry.headers(|out| {
                    ages.iter().for_each(|age| out.append(AGE, value(age)));
                    out.append(VIA, value("us"));
                    out.set_missing(CACHE_CONTROL, value("default"));
                });
                let all =
                    |name| map.get_all(name).iter().map(|value| value.to_str().expect("text")).collect::<Vec<_>>();
                let etags = stored_headers.get_all(ETAG).iter().map(|value| value.to_str().expect("text"));
                assert_eq!(all(ETAG), etags.collect::<Vec<_>>());
                assert_eq!(
                    (all(AGE), all(VIA), all(CACHE_CONTROL)),
                    (ages.to_vec(), vias.to_vec(), vec![cache_control])
                );
            }
        }
    }
}

#[test]
fn a_header_that_is_set_replaces_a_stored_one() {
    let value = HeaderValue::from_static;
    let answer = answer(&[(VIA, b"Sezzle"), (ETAG, b"a")], None, "");
    let entry = stored(&answer, &Arc::default()).expect("it fits");
    for _ in 0..2 {
        let headers = entry.headers(|out| out.set(VIA, value("us")));
        assert_eq!(headers, HeaderMap::from_iter([(VIA, value("us")), (ETAG, value("a"))]));
    }
}

#[test]
fn what_is_stored_does_not_hold_on_to_the_buffers_it_was_read_into() {
    let read = Bytes::from(vec![b'x'; 8192]);
    let value = || HeaderValue::from_maybe_shared(read.slice(0..10)).expect("a value");
    let mut headers = HeaderMap::new();
    headers.insert(ETAG, value());
    let (status, body) = (StatusCode::OK, read.slice(100..200));
    let answer = SessionResponse { status, fwd_status: status, headers, etag: Some(value()), body };
    let entry = stored(&answer, &Arc::default()).expect("it fits");
    assert_eq!(entry.body(), answer.body);
    drop(answer);
    assert!(read.is_unique());
}
