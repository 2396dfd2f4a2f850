//! The callers of a table, told by all that a request can show.

use super::*;
use crate::callers::permission::Permissions;
use crate::clock::Mono;

const OVERLAP: Duration = Duration::from_secs(3600);

fn at(seconds: u64) -> Now {
    let by = Duration::from_secs(seconds);
    Now { mono: Mono(by), wall: Wall(1_700_000_000_000).plus(by) }
}

fn secret(text: &str) -> Secret {
    Secret::new(text.to_owned())
}

/// A caller by its name, with a token and a private key. Empty texts stand for none.
fn caller(name: &str, token: &str, private: &str) -> (Definition, Secrets) {
    let caller = NamedCaller {
        name: name.to_owned(),
        allow: Permissions::ALL,
        bounds: None,
        public_key: None,
        told_by: String::new(),
    };
    let definition = Definition { caller: Arc::new(caller), uid: None, certificate: None };
    let some = |text: &str| (!text.is_empty()).then(|| secret(text));
    let pair = some(private).map(|private| (format!("public of {name}"), private));
    (definition, Secrets { token: some(token), pair })
}

fn table(callers: Vec<(Definition, Secrets)>, before: Option<&Table>, now: Now) -> Table {
    let rules = Rules { environment: "sandbox", overlap: OVERLAP, workers: 1 };
    assert!(shared_secrets(&callers).is_empty());
    Table::new(callers, rules, before, now)
}

fn shown(lines: &[&str]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in lines {
        headers.append(AUTHORIZATION, http::HeaderValue::from_bytes(line.as_bytes()).expect("valid"));
    }
    headers
}

fn told(table: &Table, line: &str, now: Now) -> Option<String> {
    table.identify(None, &[], Some(&shown(&[line])), now).ok().map(|known| known.caller.name.clone())
}

#[test]
fn marks_count_in_their_order() {
    let (mut by_uid, mut by_certificate) = (caller("uid", "", ""), caller("certificate", "", ""));
    by_uid.0.uid = Some(7);
    by_certificate.0.certificate = Some("spiffe://shop/till".to_owned());
    let mut other = caller("other", "", "");
    other.0.certificate = Some("other.shop".to_owned());
    let table = table(vec![caller("token", "t-1", ""), by_certificate, by_uid, other], None, at(0));
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<String>>();
    let token = shown(&["Bearer t-1"]);
    for (uid, certificate, headers, expected) in [
        (Some(7), names(&["spiffe://shop/till"]), Some(&token), Some(("uid", Mark::Uid))),
        (Some(8), names(&["a.shop", "spiffe://shop/till"]), Some(&token), Some(("certificate", Mark::Certificate))),
        (Some(8), names(&["a.shop"]), Some(&token), Some(("token", Mark::Token))),
        (Some(8), names(&["a.shop"]), None, None),
        (None, names(&["other.shop", "spiffe://shop/till"]), Some(&token), None),
        (None, names(&["OTHER.shop"]), None, None),
    ] {
        let known = table.identify(uid, &certificate, headers, at(0));
        let known = known.as_ref().ok().map(|known| (known.caller.name.as_str(), known.mark));
        assert_eq!(known, expected, "{uid:?} {certificate:?}");
    }
    let two = table.identify(None, &names(&["a.shop", "other.shop", "spiffe://shop/till"]), Some(&token), at(0));
    let Err(Stranger::OfTwo(one, other)) = two else { panic!("{two:?}") };
    assert_eq!((one.name.as_str(), other.name.as_str()), ("other", "certificate"));
}

#[test]
fn one_whole_bearer_token_tells_its_caller() {
    let table = table(vec![caller("a", "token-a", ""), caller("b", "token-b", "")], None, at(0));
    for (line, expected) in [
        ("Bearer token-a", Some("a")),
        ("bearer token-b", Some("b")),
        ("BEARER   token-b", Some("b")),
        (" Bearer token-a ", Some("a")),
        ("Bearer token-", None),
        ("Bearer token-ab", None),
        ("Bearer TOKEN-A", None),
        ("Bearer token-a,", None),
        ("Bearer token-a, Bearer token-b", None),
        ("Bearer", None),
        ("Bearer ", None),
        ("Bearertoken-a", None),
        ("Basic token-a", None),
        ("token-a", None),
        ("", None),
        ("\u{e9}\u{e9}\u{e9}\u{e9}", None),
    ] {
        assert_eq!(told(&table, line, at(0)).as_deref(), expected, "{line:?}");
    }
    assert_eq!(told(&table, &format!("Bearer {}", "x".repeat(100_000)), at(0)), None);
    for lines in
        [&["Bearer token-a", "Bearer token-b"][..], &["Bearer token-a", "Bearer token-a"], &["x", "Bearer token-a"]]
    {
        assert!(table.identify(None, &[], Some(&shown(lines)), at(0)).is_err(), "{lines:?}");
    }
}

#[test]
fn many_callers_are_told_apart() {
    let all = (0..100).map(|number| caller(&format!("c{number}"), &format!("token-{number}"), "")).collect();
    let table = table(all, None, at(0));
    for number in 0..100 {
        assert_eq!(told(&table, &format!("Bearer token-{number}"), at(0)), Some(format!("c{number}")));
    }
}

#[test]
fn callers_with_one_secret_are_refused() {
    let all = vec![caller("a", "same", ""), caller("b", "", "same"), caller("c", "same", "k"), caller("d", "x", "y")];
    let lines = shared_secrets(&all);
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert!(lines[0].starts_with("\"a\" and \"b\" have the same secret"), "{lines:?}");
    assert!(!lines.concat().contains("same,") && !lines.concat().contains("\"same\""), "{lines:?}");
}

#[test]
fn an_old_token_counts_for_an_hour_beside_the_new_one() {
    let first = table(vec![caller("a", "old", ""), caller("b", "b", "")], None, at(0));
    let second = table(vec![caller("a", "new", ""), caller("b", "b", "")], Some(&first), at(100));
    let third = table(second.in_use(), Some(&second), at(200));
    for table in [&second, &third] {
        assert_eq!(told(table, "Bearer new", at(200)).as_deref(), Some("a"));
        assert_eq!(told(table, "Bearer old", at(3699)).as_deref(), Some("a"));
        assert_eq!(told(table, "Bearer old", at(3700)), None);
    }
    let swapped = table(vec![caller("a", "b", ""), caller("b", "new", "")], Some(&second), at(300));
    assert_eq!(told(&swapped, "Bearer b", at(300)).as_deref(), Some("a"), "each secret is the one's who has it now");
    assert_eq!(told(&swapped, "Bearer new", at(300)).as_deref(), Some("b"));
    let gone = table(vec![caller("b", "b", "")], Some(&second), at(300));
    assert_eq!(told(&gone, "Bearer new", at(300)), None);
    assert_eq!(told(&gone, "Bearer old", at(300)), None, "a caller that was taken out is gone at once");
    let again = table(vec![caller("a", "new", ""), caller("b", "b", "")], Some(&gone), at(400));
    assert_eq!(told(&again, "Bearer old", at(400)), None);
}

#[test]
fn a_secret_that_still_counts_for_one_caller_is_no_new_secret_of_another() {
    let first = table(vec![caller("a", "old", "key-1"), caller("b", "b", "key-b")], None, at(0));
    let second = table(vec![caller("a", "new", "key-2"), caller("b", "b", "key-b")], Some(&first), at(100));
    for (b, until) in [
        (caller("b", "old", "key-b"), 3700),
        (caller("b", "b", "old"), 3700),
        (caller("b", "key-1", "key-b"), 6700),
        (caller("b", "b", "key-1"), 6700),
    ] {
        let callers = [caller("a", "new", "key-2"), b];
        let lines = second.moved_secrets(&callers, at(until - 1));
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].starts_with("\"b\" has a secret that \"a\" had before"), "{lines:?}");
        assert!(second.moved_secrets(&callers, at(until)).is_empty(), "{until}");
    }
    // A secret that changes hands in one step counts for the old owner from then on.
    let swapped = [caller("a", "b", "key-2"), caller("b", "b-2", "key-b")];
    assert_eq!(second.moved_secrets(&swapped, at(200)).len(), 1);
    let crossed = [caller("a", "b", "key-2"), caller("b", "new", "key-b")];
    assert_eq!(second.moved_secrets(&crossed, at(200)).len(), 2);
    for fine in [
        vec![caller("a", "old", "key-1"), caller("b", "b", "key-b")],
        vec![caller("a", "key-1", "old"), caller("b", "b", "key-b")],
        vec![caller("a", "newer", "key-3"), caller("b", "b-2", "key-b-2")],
        // Another name for the caller: nobody else is left whom the secret tells.
        vec![caller("c", "new", "old"), caller("b", "b", "key-b")],
        vec![],
    ] {
        assert_eq!(second.moved_secrets(&fine, at(200)), [""; 0], "{fine:?}");
    }
}

#[test]
fn keys_are_exchanged_for_a_token_that_tells_the_caller() {
    let all = || vec![caller("a", "", "private-a"), caller("b", "token-b", "private-b")];
    let (here, there) = (table(all(), None, at(0)), table(all(), None, at(0)));
    for (public, private) in [
        ("public of a", "private-b"),
        ("public of b", "private-a"),
        ("public of a", "private-"),
        ("public of a", ""),
        ("", "private-a"),
        ("public of a", "token-b"),
    ] {
        assert!(here.issue(public, private, at(0)).is_none(), "{public} {private}");
    }
    let issued = here.issue("public of a", "private-a\n", at(0)).expect("a token");
    assert_eq!((issued.known.caller.name.as_str(), issued.known.mark, issued.end), ("a", Mark::Keys, at(6600).wall));
    let line = format!("Bearer {}", issued.token.expose());
    for _ in 0..2 {
        assert_eq!(told(&here, &line, at(1)).as_deref(), Some("a"), "and from memory");
        assert_eq!(told(&here, &line, at(6599)).as_deref(), Some("a"));
        assert_eq!(told(&here, &line, at(6600)), None);
        assert_eq!(told(&there, &line, at(1)).as_deref(), Some("a"), "on another sidecar");
    }
    let mut forged = line.clone();
    forged.replace_range(line.len() - 1.., if line.ends_with('A') { "B" } else { "A" });
    assert_eq!(told(&here, &forged, at(1)), None);
    let without = table(vec![caller("b", "token-b", "private-b")], Some(&here), at(2));
    assert_eq!(told(&without, &line, at(2)), None);
}

#[test]
fn a_token_of_the_old_pair_lives_as_long_as_it_said() {
    let first = table(vec![caller("a", "", "old")], None, at(0));
    let before = first.issue("public of a", "old", at(500)).expect("a token");
    let second = table(vec![caller("a", "", "new")], Some(&first), at(1000));
    let line = format!("Bearer {}", before.token.expose());
    assert_eq!(told(&second, &line, at(7099)).as_deref(), Some("a"));
    assert_eq!(told(&second, &line, at(7100)), None, "110 minutes after it was issued");
    let during = second.issue("public of a", "old", at(4599)).expect("the old pair counts for an hour");
    assert_eq!(during.end, at(7600).wall, "and brings a token until 110 minutes after the change");
    let line = format!("Bearer {}", during.token.expose());
    assert_eq!(told(&second, &line, at(7599)).as_deref(), Some("a"));
    assert_eq!(told(&second, &line, at(7600)), None);
    assert!(second.issue("public of a", "old", at(4600)).is_none());
    let after = second.issue("public of a", "new", at(4600)).expect("a token");
    assert_eq!(after.end, at(4600 + 6600).wall);
}

#[test]
fn a_table_shows_no_secret() {
    let table = table(vec![caller("a", "canary", "canary2")], None, at(0));
    assert!(!format!("{table:?}").contains("canary"));
}
