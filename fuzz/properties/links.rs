//! Whatever a body holds: rewriting changes nothing but hrefs in arrays called `links`, and those to lead back here.
//!
//! Input: the body.

use serde_json::Value;
use sezzle_sidecar::proxy::links::LinkRewriter;

const BASE: &str = "http://127.0.0.1:8080";
const GATEWAY: &str = "http://127.0.0.1:4010";

pub fn holds(data: &[u8]) {
    let rewriter = LinkRewriter::new(GATEWAY, BASE.to_owned());
    let Some(rewritten) = rewriter.rewrite(data).body else { return };
    assert_eq!(rewriter.rewrite(&rewritten).body, None, "what leads here is left alone");
    // Odd values elsewhere do not keep links from being read, but they do keep this test from it.
    let (Ok(before), Ok(_)) = (std::str::from_utf8(data), serde_json::from_slice::<Value>(data)) else { return };
    let after = std::str::from_utf8(&rewritten).expect("text stays text");

    let (old, new) = (tokens(before), tokens(after));
    assert_eq!(old.len(), new.len());
    let mut changed = 0;
    for (at, (old_token, new_token)) in old.iter().zip(&new).enumerate() {
        if old_token != new_token {
            let name = old[..at].iter().rev().filter(|token| token.starts_with('"')).map(|token| value(token)).next();
            assert_eq!(name.as_deref(), Some("href"), "{old_token} became {new_token}");
            link(&value(old_token), &value(new_token));
            changed += 1;
        }
    }
    assert!(changed > 0, "nothing to change, and yet a new body");

    let parse = |text| serde_json::from_str::<Value>(text).expect("JSON stays JSON");
    same(&parse(before), &parse(after), false);
}

/// Equal, but for `href` of the objects in an array called `links`.
fn same(old: &Value, new: &Value, in_links: bool) {
    match (old, new) {
        (Value::Array(old), Value::Array(new)) => {
            assert_eq!(old.len(), new.len());
            old.iter().zip(new).for_each(|(old, new)| same(old, new, false));
        }
        (Value::Object(old), Value::Object(new)) => {
            assert!(old.keys().eq(new.keys()));
            for ((name, old), (_, new)) in old.iter().zip(new) {
                match (old, new) {
                    (Value::String(old), Value::String(new)) if in_links && name == "href" && old != new => {
                        link(old, new);
                    }
                    (Value::Array(old), Value::Array(new)) if name == "links" => {
                        assert_eq!(old.len(), new.len());
                        old.iter().zip(new).for_each(|(old, new)| same(old, new, true));
                    }
                    (old, new) => same(old, new, false),
                }
            }
        }
        (old, new) => assert_eq!(old, new),
    }
}

/// The path stays, and only a gateway's origin and spaces around the link are taken away.
fn link(old: &str, new: &str) {
    let path = new.strip_prefix(BASE).unwrap_or_else(|| panic!("{new} leads away"));
    let origin =
        old.trim_ascii().strip_suffix(path).unwrap_or_else(|| panic!("{old} became {new}")).to_ascii_lowercase();
    let (scheme, authority) = origin.split_once("//").expect("an absolute URL");
    let port = match scheme {
        "https:" => ":443",
        "http:" => ":80",
        "" if authority.ends_with(":80") => ":80",
        "" => ":443",
        _ => panic!("{origin}"),
    };
    let host = authority.strip_suffix(port).or(authority.strip_suffix(':')).unwrap_or(authority);
    let known = [
        "127.0.0.1:4010",
        "gateway.sezzle.com",
        "sandbox.gateway.sezzle.com",
        "gateway.eu.sezzle.com",
        "sandbox.gateway.eu.sezzle.com",
    ];
    assert!(known.iter().any(|gateway| host == *gateway || host == format!("{gateway}.")), "{origin}");
    assert!(path.is_empty() || path.starts_with(['/', '?', '#']), "{path}");
}

/// The strings of a JSON text and the pieces between them, byte for byte.
fn tokens(text: &str) -> Vec<&str> {
    let (mut tokens, mut start, mut in_string, mut escaped) = (Vec::new(), 0, false, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => {
                let end = if in_string { at + 1 } else { at };
                tokens.push(&text[start..end]);
                start = end;
                in_string = !in_string;
            }
            _ => {}
        }
    }
    tokens.push(&text[start..]);
    tokens
}

fn value(token: &str) -> String {
    serde_json::from_str(token).unwrap_or_else(|error| panic!("{token}: {error}"))
}
