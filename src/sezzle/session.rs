//! The facts in the body of `GET /v2/session/{uuid}`: identity, related identifiers and expiry.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use uuid::Uuid;

use super::time::parse_rfc3339;
use crate::clock::Wall;

/// The facts that the cache needs from a session's body. The rest of the body is ignored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionFacts {
    /// The session's UUID; `None` if missing or invalid.
    pub uuid: Option<Uuid>,
    /// `order.uuid`: an opaque string, not always a valid UUID.
    pub order: Option<String>,
    /// `tokenize.token` of the session and of its order, where they have a `tokenize`.
    pub tokens: Vec<String>,
    /// `tokenize.expiration`; the earlier one if the session and its order have a `tokenize` each.
    pub expiration: Expiration,
}

/// When a session's `tokenize` expires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiration {
    NotTokenized,
    At(Wall),
    /// There is a `tokenize` without a readable expiry.
    Unreadable,
}

impl SessionFacts {
    /// Reads the facts. `None` if the body is not a JSON object of the documented types, has a member twice, or has an
    /// order without a UUID or a `tokenize` without a token: such a body allows no conclusions.
    pub fn read(body: &[u8]) -> Option<Self> {
        let Object(session): Object<Session> = serde_json::from_slice(body).ok()?;
        let (order, nested) = match session.order {
            Some(Object(order)) => (Some(order.uuid?), order.tokenize),
            None => (None, None),
        };
        let places = [session.tokenize, nested];
        if places.iter().flatten().any(|tokenize| tokenize.0.token.is_none()) {
            return None;
        }
        let mut expiration = Expiration::NotTokenized;
        for tokenize in places.iter().flatten() {
            expiration = expiration.earliest(tokenize.0.expiration());
        }
        Some(Self {
            uuid: session.uuid.and_then(|text| Uuid::try_parse(&text).ok()),
            order,
            tokens: places.into_iter().flatten().filter_map(|tokenize| tokenize.0.token).collect(),
            expiration,
        })
    }
}

impl Expiration {
    fn earliest(self, other: Self) -> Self {
        match (self, other) {
            (Self::Unreadable, _) | (_, Self::Unreadable) => Self::Unreadable,
            (Self::NotTokenized, known) | (known, Self::NotTokenized) => known,
            (Self::At(a), Self::At(b)) => Self::At(a.min(b)),
        }
    }
}

#[derive(serde::Deserialize)]
struct Session {
    uuid: Option<String>,
    order: Option<Object<Order>>,
    tokenize: Option<Object<Tokenize>>,
}

#[derive(serde::Deserialize)]
struct Order {
    uuid: Option<String>,
    tokenize: Option<Object<Tokenize>>,
}

#[derive(serde::Deserialize)]
struct Tokenize {
    token: Option<String>,
    expiration: Option<String>,
}

impl Tokenize {
    fn expiration(&self) -> Expiration {
        match self.expiration.as_deref().and_then(parse_rfc3339) {
            Some(at) => Expiration::At(at),
            None => Expiration::Unreadable,
        }
    }
}

/// A structure written as a JSON object. serde by itself would also accept an array of the members in order.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        struct Members<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(members)).map(Object)
            }
        }

        json.deserialize_map(Members(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const UUID: &str = "fadbc642-05a4-4e38-9e74-80e325623af9";

    fn read(json: &str) -> SessionFacts {
        SessionFacts::read(json.as_bytes()).expect("readable")
    }

    #[test]
    fn tokenize_is_read_in_both_places_and_the_earliest_binds() {
        let tokenize = |token: &str, second: u8| {
            format!(r#"{{"token":"{token}","expiration":"2020-04-27T14:46:{second:02}Z","extra":[1]}}"#)
        };
        let at = |second: i64| Expiration::At(Wall(1_587_998_760_000 + second * 1000));
        let beside = format!(r#"{{"uuid":"{UUID}","order":{{"uuid":"o-g1"}},"tokenize":{}}}"#, tokenize("a", 9));
        let inside = format!(r#"{{"uuid":"{UUID}","order":{{"uuid":"o-g1","tokenize":{}}}}}"#, tokenize("a", 9));
        for body in [&beside, &inside] {
            let facts = read(body);
            assert_eq!(facts.expiration, at(9));
            assert_eq!(facts.tokens, ["a"]);
            assert_eq!(facts.order.as_deref(), Some("o-g1"));
            assert_eq!(facts.uuid, Uuid::try_parse(UUID).ok());
        }
        for (first, second) in [(9, 5), (5, 9)] {
            let both = format!(
                r#"{{"order":{{"uuid":"o","tokenize":{}}},"tokenize":{}}}"#,
                tokenize("a", first),
                tokenize("b", second)
            );
            let facts = read(&both);
            assert_eq!(facts.expiration, at(5));
            assert_eq!(facts.tokens, ["b", "a"]);
        }
    }

    #[test]
    fn a_tokenize_that_does_not_say_when_it_ends_is_unreadable() {
        for tokenize in [
            r#"{"token":"t"}"#,
            r#"{"token":"t","expiration":null}"#,
            r#"{"token":"t","expiration":"soon"}"#,
            r#"{"token":"t","expiration":""}"#,
        ] {
            assert_eq!(read(&format!(r#"{{"tokenize":{tokenize}}}"#)).expiration, Expiration::Unreadable);
            let other = r#"{"token":"t","expiration":"2020-04-27T14:46:59Z"}"#;
            let both = format!(r#"{{"tokenize":{other},"order":{{"uuid":"o","tokenize":{tokenize}}}}}"#);
            assert_eq!(
                read(&both).expiration,
                Expiration::Unreadable,
                "one readable place does not vouch for the other"
            );
        }
        assert_eq!(read(r#"{"tokenize":null,"order":null}"#).expiration, Expiration::NotTokenized);
    }

    #[test]
    fn what_cannot_be_understood_says_nothing() {
        for body in [
            r#"{"order": {}}"#,
            r#"{"order": {"uuid": null}}"#,
            r#"{"tokenize": {"expiration": "2020-04-27T14:46:59Z"}}"#,
            r#"["fadbc642-05a4-4e38-9e74-80e325623af9", {"uuid": "o"}, null]"#,
            r#"{"tokenize": ["t", "2020-04-27T14:46:59Z"]}"#,
            r#"{"order": ["o"]}"#,
            "",
            "[]",
            "null",
            "{",
            r#"{"uuid":7}"#,
            r#"{"uuid":"a","uuid":"b"}"#,
            r#"{"tokenize":{"expiration":1587998819}}"#,
            r#"{"tokenize":"x"}"#,
            r#"{"order":[]}"#,
        ] {
            assert_eq!(SessionFacts::read(body.as_bytes()), None, "{body}");
        }
        assert_eq!(SessionFacts::read(b"{\"uuid\":\"\xff\"}"), None);
    }

    const WHOLE: &str = r#"{"uuid":"fadbc642-05a4-4e38-9e74-80e325623af9","links":[{"href":"h"}],"order":{"uuid":"o",
        "intent":"AUTH","tokenize":{"token":"t","expiration":"2020-04-27T14:46:59Z"}},
        "tokenize":{"token":"u","expiration":"2020-04-27T14:46:58Z"},"new":{"uuid":[1,{"tokenize":null}]}}"#;

    #[test]
    fn nothing_is_concluded_from_what_is_said_twice() {
        assert!(SessionFacts::read(WHOLE.as_bytes()).is_some());
        for (member, again) in [
            (r#""uuid":"fad"#, r#""uuid":"fadbc642-05a4-4e38-9e74-80e325623af9","#),
            (r#""uuid":"fad"#, r#""\u0075uid":null,"#),
            (r#""uuid":"o""#, r#""uuid":"p","#),
            (r#""order":{"#, r#""order":null,"#),
            (r#""token":"t""#, r#""token":"t","#),
            (r#""expiration":"2020-04-27T14:46:59Z""#, r#""expiration":"2030-04-27T14:46:59Z","#),
            (r#""expiration":"2020-04-27T14:46:58Z""#, r#""expirat\u0069on":"2030-04-27T14:46:59Z","#),
            (r#""tokenize":{"token":"t""#, r#""tokenize":{},"#),
            (r#""tokenize":{"token":"u""#, r#""tokenize":null,"#),
        ] {
            let twice = WHOLE.replacen(member, &format!("{again}{member}"), 1);
            assert_ne!(twice, WHOLE, "{member}");
            assert!(serde_json::from_str::<serde_json::Value>(&twice).is_ok(), "{twice}");
            assert_eq!(SessionFacts::read(twice.as_bytes()), None, "{twice}");
        }
    }

    #[test]
    fn depth_and_size_end_in_an_answer() {
        for depth in [100, 1_000, 100_000] {
            for (open, close) in [("[", "]"), ("{\"a\":", "}"), ("{\"order\":", "}"), ("{\"tokenize\":", "}")] {
                let deep = format!("{}1{}", open.repeat(depth), close.repeat(depth));
                let named = SessionFacts::read(deep.as_bytes()).and_then(|facts| facts.uuid);
                assert_eq!(named, None, "{open} {depth}");
                let _ = SessionFacts::read(format!(r#"{{"uuid":"{UUID}","new":{deep}}}"#).as_bytes());
            }
        }
        let long = format!(r#"{{"uuid":"{}"}}"#, "a".repeat(1 << 20));
        assert_eq!(read(&long).uuid, None);
    }

    proptest! {
        #[test]
        fn what_was_cut_short_says_nothing(end in 0..WHOLE.len()) {
            prop_assert_eq!(SessionFacts::read(&WHOLE.as_bytes()[..end]), None);
        }

        #[test]
        fn spoiled_bytes_never_panic(at in 0..WHOLE.len(), byte: u8, cut in 0..WHOLE.len()) {
            let mut bytes = WHOLE.as_bytes().to_vec();
            bytes[at] = byte;
            let _ = SessionFacts::read(&bytes);
            bytes.drain(at.min(cut)..at.max(cut));
            let _ = SessionFacts::read(&bytes);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            let _ = SessionFacts::read(&bytes);
        }
    }
}
