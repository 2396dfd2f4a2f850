//! RFC 9111, as far as it applies to a private cache of sessions: which answers are stored and served, to whom, and
//! with which headers. The rows follow the public conformance suite for HTTP caches.

use http::Method;

use crate::support::origin::{Lines, Origin, session};
use crate::support::scripted::Script;

/// A row: its name, the gateway's headers, and whether the stored answer is served after 3 seconds.
type Row<'r> = (&'r str, Lines<'r>, bool);

async fn served_again(rows: &[Row<'_>]) {
    let origin = Origin::start().await;
    let mut wrong = Vec::new();
    for (name, lines, expected) in rows {
        let uuid = session();
        origin.serves(uuid, lines);
        let first = origin.get(uuid, &[]).await;
        assert_eq!(first.status, 200, "{name}");
        origin.pass(3);
        let asked = origin.asked();
        let second = origin.get(uuid, &[]).await;
        let is_hit = second.cache().starts_with("hit");
        if is_hit != *expected || is_hit != (origin.asked() == asked) {
            wrong.push(format!("{name}: {lines:?}: {}, then {}", first.cache(), second.cache()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    origin.harness.stop().await;
}

#[tokio::test]
async fn cache_control_of_an_answer_is_obeyed() {
    let rows: &[Row<'_>] = &[
        ("none", &[], true),
        ("max-age", &[("Cache-Control", "max-age=3600")], true),
        ("max-age, over", &[("Cache-Control", "max-age=2")], false),
        ("max-age=0", &[("Cache-Control", "max-age=0")], false),
        ("quoted", &[("Cache-Control", "max-age=\"3600\"")], true),
        ("single quotes", &[("Cache-Control", "max-age='3600'")], false),
        ("in a string, before", &[("Cache-Control", "extension=\"max-age=3600\", max-age=1")], false),
        ("in a string, after", &[("Cache-Control", "max-age=1, extension=\"max-age=3600\"")], false),
        ("space before =", &[("Cache-Control", "max-age =3600")], false),
        ("space after =", &[("Cache-Control", "max-age= 3600")], false),
        ("leading zeros", &[("Cache-Control", "max-age=003600")], true),
        ("leading letter", &[("Cache-Control", "max-age=a3600")], false),
        ("trailing letter", &[("Cache-Control", "max-age=3600a")], false),
        ("fraction", &[("Cache-Control", "max-age=3600.0")], false),
        ("negative", &[("Cache-Control", "max-age=-3600")], false),
        ("2^31", &[("Cache-Control", "max-age=2147483648")], true),
        ("more than 2^31", &[("Cache-Control", "max-age=99999999999")], true),
        ("any case", &[("Cache-Control", "MaX-aGe=3600")], true),
        ("an extension", &[("Cache-Control", "foobar, max-age=3600")], true),
        ("two, fresh first", &[("Cache-Control", "max-age=1800, max-age=1")], false),
        ("two, stale first", &[("Cache-Control", "max-age=1, max-age=1800")], false),
        ("two lines", &[("Cache-Control", "max-age=1800"), ("Cache-Control", "max-age=1")], false),
        ("s-maxage is not for us", &[("Cache-Control", "s-maxage=1")], true),
        ("s-maxage does not lengthen", &[("Cache-Control", "s-maxage=3600, max-age=1")], false),
        ("private", &[("Cache-Control", "private, max-age=3600")], true),
        ("private fields", &[("Cache-Control", "private=\"X-Gateway\", max-age=3600")], true),
        ("public", &[("Cache-Control", "public, max-age=3600")], true),
        ("immutable lives no longer", &[("Cache-Control", "max-age=2, immutable")], false),
        ("must-revalidate while fresh", &[("Cache-Control", "max-age=3600, must-revalidate")], true),
        ("must-revalidate when stale", &[("Cache-Control", "max-age=2, must-revalidate")], false),
        ("no-store", &[("Cache-Control", "no-store")], false),
        ("no-store in any case", &[("Cache-Control", "No-StOrE")], false),
        ("no-store with a lifetime", &[("Cache-Control", "max-age=10000, no-store"), ("Expires", "@10000")], false),
        ("no-store on a second line", &[("Cache-Control", "max-age=10000"), ("Cache-Control", "no-store")], false),
        ("no-store and must-understand", &[("Cache-Control", "must-understand, no-store, max-age=3600")], false),
        ("no-store after an open quote", &[("Cache-Control", "max-age=3600, x=\"y, no-store")], false),
        ("no-store in a string", &[("Cache-Control", "max-age=3600, x=\"y, no-store\"")], true),
        ("no-cache", &[("Cache-Control", "max-age=10000, no-cache"), ("Expires", "@10000")], false),
        ("no-cache in any case", &[("Cache-Control", "max-age=10000, No-CaChE")], false),
        ("no-cache of a field", &[("Cache-Control", "max-age=10000, no-cache=\"x-gateway\"")], false),
        ("stale-while-revalidate lives no longer", &[("Cache-Control", "max-age=2, stale-while-revalidate=60")], false),
        ("pragma alone", &[("Pragma", "no-cache")], false),
        ("pragma beside cache-control", &[("Pragma", "no-cache"), ("Cache-Control", "max-age=3600")], true),
        ("pragma of another kind", &[("Pragma", "unrecognised")], true),
    ];
    served_again(rows).await;
}

#[tokio::test]
async fn expires_date_and_age_of_an_answer_are_obeyed() {
    let rows: &[Row<'_>] = &[
        ("expires", &[("Date", "@0"), ("Expires", "@3600")], true),
        ("expires over", &[("Date", "@0"), ("Expires", "@2")], false),
        ("expires now", &[("Date", "@0"), ("Expires", "@0")], false),
        ("expires in the past", &[("Date", "@0"), ("Expires", "@-3600")], false),
        ("expires before date, both ahead", &[("Date", "@400"), ("Expires", "@300")], false),
        ("expires 0", &[("Date", "@0"), ("Expires", "0")], false),
        ("expires -1", &[("Date", "@0"), ("Expires", "-1")], false),
        ("expires empty", &[("Date", "@0"), ("Expires", "")], false),
        ("expires twice", &[("Date", "@0"), ("Expires", "@3600"), ("Expires", "@1")], false),
        ("expires with a bad date", &[("Date", "foo"), ("Expires", "@3600")], true),
        ("expires without a date", &[("Expires", "@3600")], true),
        ("max-age before expires", &[("Date", "@0"), ("Cache-Control", "max-age=3600"), ("Expires", "@-9")], true),
        ("max-age before no date", &[("Date", "@0"), ("Cache-Control", "max-age=3600"), ("Expires", "0")], true),
        ("max-age=0 before expires", &[("Date", "@0"), ("Cache-Control", "max-age=0"), ("Expires", "@3600")], false),
        ("older than it lives", &[("Date", "@0"), ("Cache-Control", "max-age=10"), ("Age", "15")], false),
        ("age with a slow date", &[("Date", "@-10"), ("Expires", "@10"), ("Age", "25")], false),
        ("age with a fast date", &[("Date", "@10"), ("Expires", "@20"), ("Age", "15")], false),
        ("old by its date", &[("Date", "@-30"), ("Cache-Control", "max-age=20")], false),
        ("age is no number", &[("Date", "@0"), ("Cache-Control", "max-age=3600"), ("Age", "abc")], true),
        ("age is negative", &[("Date", "@0"), ("Cache-Control", "max-age=3600"), ("Age", "-7200")], true),
        ("age, 0", &[("Date", "@0"), ("Cache-Control", "max-age=3600"), ("Age", "7200,0")], false),
        ("0, age", &[("Date", "@0"), ("Cache-Control", "max-age=3600"), ("Age", "0,7200")], false),
        ("age on two lines", &[("Cache-Control", "max-age=3600"), ("Age", "7200"), ("Age", "0")], false),
        ("age 0 twice", &[("Date", "@0"), ("Cache-Control", "max-age=3600"), ("Age", "0, 0")], true),
        ("age overflows", &[("Cache-Control", "max-age=3600"), ("Age", "99999999999999999999")], false),
        ("last-modified gives no life", &[("Last-Modified", "@-864000"), ("Cache-Control", "max-age=1")], false),
    ];
    served_again(rows).await;
}

#[tokio::test]
async fn vary_of_an_answer_is_obeyed() {
    let rows: &[Row<'_>] = &[
        ("accept-encoding", &[("Vary", "Accept-Encoding")], true),
        ("accept-encoding in any case", &[("Vary", "ACCEPT-encoding , ")], true),
        ("star", &[("Vary", "*")], false),
        ("star in a list", &[("Vary", "Accept-Encoding, *")], false),
        ("another", &[("Vary", "Foo")], false),
        ("on two lines", &[("Vary", "Accept-Encoding"), ("Vary", "Foo")], false),
        ("not ASCII", &[("Vary", "\u{fc}")], false),
        ("empty", &[("Vary", "")], true),
    ];
    served_again(rows).await;
}

#[tokio::test]
async fn only_a_200_is_stored_however_fresh() {
    let origin = Origin::start().await;
    for status in
        ["201 C", "202 A", "203 N", "204 N", "206 P", "299 X", "300 M", "301 M", "302 F", "303 S", "307 T", "308 P"]
            .into_iter()
            .chain(["400 B", "404 N", "405 M", "410 G", "414 U", "418 T", "429 T", "499 X", "500 I", "501 N", "599 X"])
    {
        let uuid = session();
        let body = if status == "204 N" { String::new() } else { format!(r#"{{"uuid":"{uuid}"}}"#) };
        let life = ("Cache-Control", "public, must-understand, max-age=3600");
        origin.answers(status, &[life, ("Content-Type", "application/json")], &body);
        for _ in 0..2 {
            // After a 429 nothing is sent for a second.
            origin.pass(1);
            let asked = origin.asked();
            let answer = origin.get(uuid, &[]).await;
            assert_eq!(answer.status.to_string(), status[..3], "as it came");
            assert!(answer.cache().ends_with("detail=status"), "{status}: {}", answer.cache());
            assert_eq!(origin.asked(), asked + 1, "{status}");
        }
    }
    origin.harness.stop().await;
}

#[tokio::test]
async fn a_stored_answer_says_how_old_it_is_and_when_it_was_made() {
    let origin = Origin::start().await;
    for (lines, age) in [
        (&[("Date", "@0"), ("Expires", "@3600")] as Lines<'_>, 3),
        (&[("Date", "@0"), ("Cache-Control", "max-age=600"), ("Age", "30")], 33),
        (&[("Date", "@-7"), ("Cache-Control", "max-age=600")], 10),
        (&[("Cache-Control", "max-age=600"), ("Age", "30"), ("Age", "20")], 33),
        (&[], 3),
    ] {
        let uuid = session();
        origin.serves(uuid, lines);
        let first = origin.get(uuid, &[]).await;
        origin.pass(3);
        let hit = origin.get(uuid, &[]).await;
        assert!(hit.cache().starts_with("hit"), "{lines:?}: {}", hit.cache());
        assert_eq!(hit.headers.get_all("age").iter().count(), 1);
        let stated: u64 = hit.header("age").parse().expect("a number");
        // A real second may have ended on the way.
        assert!((age..=age + 1).contains(&stated), "{lines:?}: {stated}");
        assert_eq!(hit.header("date"), first.header("date"), "{lines:?}");
        assert_eq!(hit.headers.get_all("date").iter().count(), 1);
    }
    origin.harness.stop().await;
}

#[tokio::test]
async fn headers_of_one_hop_are_not_stored() {
    let origin = Origin::start().await;
    let uuid = session();
    origin.serves(
        uuid,
        &[
            ("Connection", "x-listed, keep-alive"),
            ("X-Listed", "1"),
            ("Keep-Alive", "timeout=5"),
            ("Proxy-Authenticate", "Basic"),
            ("Proxy-Authentication-Info", "x"),
            ("Proxy-Authorization", "x"),
            ("Proxy-Connection", "x"),
            ("TE", "trailers"),
            ("Upgrade", "x"),
            ("Set-Cookie", "a=b"),
            ("X-Gateway", "1"),
            ("X-Gateway", "2"),
            ("Cache-Control", "max-age=3600"),
        ],
    );
    // The client fails on a header that must not reach a caller.
    for _ in 0..2 {
        let answer = origin.get(uuid, &[]).await;
        assert_eq!(answer.headers.get_all("x-gateway").iter().collect::<Vec<_>>(), ["1", "2"]);
    }
    assert_eq!(origin.asked(), 1);
    origin.harness.stop().await;
}

#[tokio::test]
async fn directives_of_a_request_are_obeyed() {
    let origin = Origin::start().await;
    for (name, line, hit) in [
        ("cache-control", "max-age=3600", true),
        ("cache-control", "max-age=33", false),
        ("cache-control", "max-age=\"3600\"", true),
        ("cache-control", "max-age=0", false),
        ("cache-control", "max-age=x", false),
        ("cache-control", "max-age=3600, max-age=1", false),
        ("cache-control", "min-fresh=10", true),
        ("cache-control", "min-fresh=60", false),
        ("cache-control", "min-fresh=x", false),
        ("cache-control", "max-stale=1000", true),
        ("cache-control", "NO-CACHE", false),
        ("cache-control", "no-store", false),
        ("cache-control", "x=\"no-cache\"", true),
        ("cache-control", "only-if-cached", true),
        ("pragma", "no-cache", false),
        ("pragma", "No-Cache", false),
        ("pragma", "unrecognised", true),
        ("authorization", "Bearer x", true),
        ("cookie", "a=b", true),
        ("range", "bytes=0-1", true),
        ("accept-encoding", "gzip", true),
    ] {
        let uuid = session();
        origin.serves(uuid, &[("Date", "@0"), ("Cache-Control", "max-age=90"), ("Age", "34")]);
        origin.get(uuid, &[]).await;
        let answer = origin.get(uuid, &[(name, line)]).await;
        assert_eq!(
            (answer.status, answer.cache().starts_with("hit")),
            (200, hit),
            "{name}: {line}: {}",
            answer.cache()
        );
        assert!(!answer.body.is_empty());
        if !hit {
            assert!(answer.cache().starts_with("fwd=request"), "{line}: {}", answer.cache());
        }
    }
    // An expired session is not served, even to callers that would accept it.
    let uuid = session();
    origin.serves(uuid, &[("Cache-Control", "max-age=2")]);
    origin.get(uuid, &[]).await;
    origin.pass(3);
    let asked = origin.asked();
    let only = origin.get(uuid, &[("cache-control", "only-if-cached, max-stale=60")]).await;
    assert_eq!((only.status, only.error_code().as_str(), origin.asked()), (504, "sidecar.not_stored", asked));
    let stale = origin.get(uuid, &[("cache-control", "max-stale=60")]).await;
    assert_eq!((stale.status, origin.asked()), (200, asked + 1));
    origin.harness.stop().await;
}

#[tokio::test]
async fn conditions_of_a_request_are_answered_here() {
    let origin = Origin::start().await;
    let old = "Mon, 27 Apr 2020 14:46:59 GMT";
    let rows: &[(Lines<'_>, Lines<'_>, u16)] = &[
        (&[("ETag", "\"a\"")], &[("if-none-match", "\"a\"")], 304),
        (&[("ETag", "W/\"a\"")], &[("if-none-match", "\"a\"")], 304),
        (&[("ETag", "\"a\"")], &[("if-none-match", "\"1\", W/\"a\" , \"2\"")], 304),
        (&[("ETag", "\"a\"")], &[("if-none-match", "\"1\""), ("if-none-match", "\"a\"")], 304),
        (&[("ETag", "\"a\"")], &[("if-none-match", "*")], 304),
        (&[("ETag", "\"a\"")], &[("if-none-match", "\"b\"")], 200),
        (&[("ETag", "\"a\"")], &[("if-none-match", "a")], 200),
        (&[("ETag", "\"a\""), ("Last-Modified", old)], &[("if-none-match", "\"b\""), ("if-modified-since", old)], 200),
        (&[("Last-Modified", old)], &[("if-modified-since", old)], 304),
        (&[("Last-Modified", old)], &[("if-modified-since", "Monday, 27-Apr-20 14:46:59 GMT")], 304),
        (&[("Last-Modified", old)], &[("if-modified-since", "Mon, 27 Apr 2020 14:46:58 GMT")], 200),
        (&[("Last-Modified", old)], &[("if-modified-since", "yesterday")], 200),
        // There is no `Last-Modified`, and Sezzle's clock may be behind.
        (&[("Date", "@-9")], &[("if-modified-since", "@0")], 200),
        (&[("Date", "@0")], &[("if-modified-since", "@-9")], 200),
        (&[("ETag", "\"a\"")], &[("if-match", "\"b\"")], 200),
        (&[("Last-Modified", old)], &[("if-unmodified-since", "Mon, 27 Apr 2009 14:46:59 GMT")], 200),
    ];
    for (stored, asked, status) in rows {
        let uuid = session();
        origin.serves(uuid, stored);
        let dates: Vec<String> = asked
            .iter()
            .map(|(_, value)| match value.strip_prefix('@') {
                Some(seconds) => origin.date(seconds.parse().expect("seconds")),
                None => (*value).to_owned(),
            })
            .collect();
        let asked: Vec<(&str, &str)> =
            asked.iter().zip(&dates).map(|((name, _), value)| (*name, value.as_str())).collect();
        // The first answer comes from Sezzle, which gets no condition; the second comes from memory.
        for from in ["fwd=uri-miss", "hit"] {
            let answer = origin.get(uuid, &asked).await;
            assert!(answer.cache().starts_with(from), "{stored:?} {asked:?}: {}", answer.cache());
            assert_eq!(answer.status, *status, "{stored:?} {asked:?}, {from}");
            assert_eq!(answer.body.is_empty(), *status == 304);
            for name in ["etag", "date", "cache-control"] {
                assert!(!answer.header(name).is_empty(), "{name}: {stored:?} {asked:?}, {from}");
            }
        }
        for name in ["if-none-match", "if-modified-since", "if-match", "if-unmodified-since"] {
            assert_eq!(origin.last(name), "", "{asked:?}");
        }
    }
    origin.harness.stop().await;
}

#[tokio::test]
async fn unsafe_methods_on_the_same_uri_invalidate() {
    let origin = Origin::start().await;
    for (method, dropped) in [
        ("POST", true),
        ("PUT", true),
        ("DELETE", true),
        ("PATCH", true),
        ("M-SEARCH", true),
        ("FOO", true),
        ("HEAD", false),
        ("OPTIONS", false),
    ] {
        for status in ["200 OK", "204 N", "302 F", "404 N", "500 I"] {
            let uuid = session();
            origin.serves(uuid, &[("Cache-Control", "max-age=3600")]);
            origin.get(uuid, &[]).await;
            origin.answers(status, &[], "");
            origin.ask(Method::from_bytes(method.as_bytes()).expect("a method"), uuid, &[]).await;
            origin.serves(uuid, &[("Cache-Control", "max-age=3600")]);
            let after = origin.get(uuid, &[]).await;
            assert_eq!(!after.cache().starts_with("hit"), dropped, "{method} {status}: {}", after.cache());
        }
    }
    origin.harness.stop().await;
}

#[tokio::test]
async fn a_head_that_was_passed_on_tells_whether_what_is_stored_is_outdated() {
    let origin = Origin::start().await;
    let life = ("Cache-Control", "max-age=3600");
    for (status, lines, kept) in [
        ("200 OK", &[("ETag", "\"a\""), life] as Lines<'_>, true),
        ("200 OK", &[life], true),
        ("200 OK", &[("ETag", "\"b\""), life], false),
        ("404 N", &[], false),
        ("410 G", &[], false),
        ("429 T", &[], true),
        ("503 S", &[], true),
    ] {
        // After a 429 nothing is sent for a second.
        origin.pass(1);
        let uuid = session();
        origin.serves(uuid, &[("ETag", "\"a\""), life]);
        origin.get(uuid, &[]).await;
        let head = format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\n");
        let lines: String = lines.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        origin.gateway.script(Script::Bytes(format!("{head}{lines}\r\n").into_bytes()));
        // The caller does not want an answer from memory.
        let answer = origin.ask(Method::HEAD, uuid, &[("cache-control", "no-cache")]).await;
        assert_eq!((answer.status.to_string(), answer.body.len()), (status[..3].to_owned(), 0));
        assert!(origin.gateway.calls().last().expect("a call").1.starts_with("HEAD"));
        origin.serves(uuid, &[("ETag", "\"a\""), life]);
        let after = origin.get(uuid, &[]).await;
        assert_eq!(after.cache().starts_with("hit"), kept, "{status} {lines}: {}", after.cache());
        let head = origin.ask(Method::HEAD, uuid, &[]).await;
        assert!(head.cache().starts_with("hit") && head.body.is_empty());
        assert_eq!(head.header("content-length"), after.body.len().to_string());
    }
    origin.harness.stop().await;
}

#[tokio::test]
async fn a_later_answer_of_sezzle_outdates_the_stored_session() {
    let origin = Origin::start().await;
    let fresh: Lines<'_> = &[("Cache-Control", "max-age=3600")];
    for (status, lines, kept) in [
        ("200 OK", &[("Cache-Control", "no-store")] as Lines<'_>, false),
        ("200 OK", &[("Cache-Control", "no-store, max-age=0")], false),
        ("200 OK", &[("Vary", "Foo")], false),
        ("404 N", &[], false),
        ("410 G", &[], false),
        ("401 U", &[], true),
        ("429 T", &[], true),
        ("500 I", &[], true),
        ("503 S", &[], true),
    ] {
        // After a 429 nothing is sent for a second.
        origin.pass(1);
        let uuid = session();
        origin.serves(uuid, fresh);
        origin.get(uuid, &[]).await;
        let error = r#"[{"code":"an error of Sezzle's"}]"#.to_owned();
        let body = if status == "200 OK" { format!(r#"{{"uuid":"{uuid}"}}"#) } else { error };
        origin.answers(status, lines, body);
        let asked = origin.get(uuid, &[("cache-control", "no-cache")]).await;
        assert_eq!(asked.status.to_string(), status[..3]);
        origin.serves(uuid, fresh);
        let after = origin.get(uuid, &[]).await;
        assert_eq!(after.cache().starts_with("hit"), kept, "{status} {lines:?}: {}", after.cache());
    }
    origin.harness.stop().await;
}

#[tokio::test]
async fn interim_answers_are_neither_stored_nor_the_end() {
    let origin = Origin::start().await;
    for interim in ["100 Continue", "102 Processing", "103 Early Hints", "199 X"] {
        let uuid = session();
        let body = format!(r#"{{"uuid":"{uuid}"}}"#);
        let length = body.len();
        let text = format!(
            "HTTP/1.1 {interim}\r\nX-Gateway: interim\r\nCache-Control: no-store\r\n\r\nHTTP/1.1 200 OK\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        origin.gateway.script(Script::Bytes(text.into_bytes()));
        for from in ["fwd=uri-miss", "hit"] {
            let answer = origin.get(uuid, &[]).await;
            assert!(answer.status == 200 && answer.cache().starts_with(from), "{interim}: {}", answer.cache());
            assert_eq!((answer.header("x-gateway"), answer.text()), ("", body.clone()));
        }
    }
    origin.harness.stop().await;
}
