//! Reads a webhook's body: the event's name, and all identifiers that a stored session may relate to.
//!
//! Sezzle documents few names of members with identifiers, and those of disputes differ. This reader therefore errs on
//! the side of too many identifiers: an identifier without a stored session costs nothing, and a needless purge costs
//! one fetch.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use uuid::Uuid;

use crate::session::invalidation::Tag;
use crate::sezzle::identifier::is_identifier;
use crate::telemetry::metrics::{OTHER_EVENT, WEBHOOK_EVENTS};

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Event {
    name: Option<&'static str>,
    /// The webhook's own identifier, if well-formed.
    pub uuid: Option<String>,
    pub concerns: Concerns,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Concerns {
    /// The sessions with one of these tags.
    Tags(HashSet<Tag>),
    /// Every session, because the body has too many identifiers or is unreadable.
    Everything,
}

impl Default for Concerns {
    fn default() -> Self {
        Self::Tags(HashSet::new())
    }
}

impl Event {
    /// Reads a body; `None` if it is not JSON.
    pub fn read(body: &[u8]) -> Option<Self> {
        let mut event = Self::default();
        let mut json = serde_json::Deserializer::from_slice(body);
        Value { event: &mut event, position: Position::Top }.deserialize(&mut json).ok()?;
        json.end().ok()?;
        Some(event)
    }

    /// A signed event that cannot be read, and so may concern any session.
    pub fn unreadable() -> Self {
        Self { concerns: Concerns::Everything, ..Self::default() }
    }

    /// The event's name if known, else [`OTHER_EVENT`].
    pub fn name(&self) -> &'static str {
        self.name.unwrap_or(OTHER_EVENT)
    }

    fn note(&mut self, position: Position, text: &str) {
        match position {
            Position::Name => self.name = WEBHOOK_EVENTS.into_iter().find(|known| *known == text),
            Position::OwnUuid => self.uuid = Some(text.to_owned()).filter(|text| is_identifier(text)),
            Position::Identifier => self.add_identifier(text),
            Position::Top | Position::Other => {}
        }
    }

    fn add_identifier(&mut self, identifier: &str) {
        let Concerns::Tags(tags) = &mut self.concerns else { return };
        let session = Uuid::try_parse(identifier).ok().map(Tag::Session);
        tags.extend([Tag::order(identifier), Tag::token(identifier)].into_iter().chain(session));
        if tags.len() > MAX_TAGS {
            self.concerns = Concerns::Everything;
        }
    }
}

// Several times as many as any event in Sezzle's documentation has.
const MAX_TAGS: usize = 64;

/// The meaning of a text, by its position in the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Position {
    /// The body itself.
    Top,
    Name,
    OwnUuid,
    /// An identifier of an order, a token or a session.
    Identifier,
    /// Any other text.
    Other,
}

impl Position {
    /// The position of a member with this name. The items of a list have the position of the list.
    fn member(self, name: &str) -> Self {
        match (self, name) {
            (Self::Top, "event") => Self::Name,
            (Self::Top, "uuid") => Self::OwnUuid,
            (Self::Top, "data") => Self::Identifier,
            (_, name) => {
                let name = name.to_ascii_lowercase();
                // Matches `uuid`, `order_id`, `checkoutUUID`; `token`, `session`, `order`.
                let is_identifier =
                    name.ends_with("id") || ["order", "token", "session"].iter().any(|word| name.contains(word));
                if is_identifier { Self::Identifier } else { Self::Other }
            }
        }
    }
}

/// Reads any JSON value, and notes the texts in it.
struct Value<'e> {
    event: &'e mut Event,
    position: Position,
}

impl<'de> DeserializeSeed<'de> for Value<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        if !text.is_empty() {
            self.event.note(self.position, text);
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while items.next_element_seed(Value { event: self.event, position: self.position })?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        while let Some(name) = members.next_key::<Cow<'_, str>>()? {
            members.next_value_seed(Value { event: self.event, position: self.position.member(&name) })?;
        }
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const UUID: &str = "fadbc642-05a4-4e38-9e74-80e325623af9";

    fn read(json: &str) -> Event {
        Event::read(json.as_bytes()).expect("JSON")
    }

    fn names(json: &str, tags: &[Tag]) -> bool {
        let Concerns::Tags(found) = read(json).concerns else { return true };
        tags.iter().all(|tag| found.contains(tag))
    }

    #[test]
    fn an_order_is_found_under_every_name() {
        let order = [Tag::order("12a-G")];
        for data in [
            r#"{"uuid":"12a-G"}"#,
            r#"{"id":"12a-G"}"#,
            r#"{"uuid":"dispute","order_uuid":"12a-G"}"#,
            r#"{"uuid":"dispute","order_id":"12a-G"}"#,
            r#"{"orderUUID":"12a-G"}"#,
            r#"{"order":"12a-G"}"#,
            r#"{"order":{"uuid":"12a-G","currency":"USD"}}"#,
            r#"{"dispute":{"order":{"id":"12a-G"}}}"#,
            r#"{"orders":[{"uuid":"other"},{"uuid":"12a-G"}]}"#,
            r#"{"object_uuid":"12a-G"}"#,
            r#"{"uuid":"12a-G","uuid":"twice"}"#,
            r#"{"uuid":"12\u0061-G"}"#,
            r#""12a-G""#,
        ] {
            assert!(names(&format!(r#"{{"event":"dispute.closed.neutral","data":{data}}}"#), &order), "{data}");
            assert!(!names(&format!(r#"{{"data":{data}}}"#), &[Tag::order("USD")]), "{data}");
        }
        assert!(names(r#"{"order_uuid":"12a-G","data":null}"#, &order), "outside of data too");
    }

    #[test]
    fn tokens_and_sessions_are_found() {
        let session = [Tag::Session(Uuid::try_parse(UUID).expect("a UUID"))];
        assert!(names(r#"{"data":{"token":"t-1","customer":{"uuid":"c"}}}"#, &[Tag::token("T-1")]));
        assert!(names(r#"{"data":{"tokenize":{"token":"t-1"}}}"#, &[Tag::token("t-1")]));
        for name in ["session", "session_uuid", "sessionId", "uuid"] {
            assert!(names(&format!(r#"{{"data":{{"{name}":"{UUID}"}}}}"#), &session), "{name}");
        }
        assert!(!names(&format!(r#"{{"uuid":"{UUID}","data":{{}}}}"#), &session), "the webhook's own");
    }

    #[test]
    fn its_name_and_identifier_are_only_what_they_may_be() {
        let event =
            read(&format!(r#"{{"data":{{"uuid":"o"}},"event":"order.captured","uuid":"{UUID}","created_at":1}}"#));
        assert_eq!((event.name(), event.uuid.as_deref()), ("order.captured", Some(UUID)));
        let event = read(r#"{"event":"order.exploded","uuid":"a b","data":{"event":"order.captured","amount":1.5}}"#);
        assert_eq!((event.name(), event.uuid), ("other", None));
        assert_eq!(read(r#"{"event":{"name":"x"},"uuid":["y z"]}"#).name(), "other");
        for json in ["[]", "null", "1", "-1.5", "\"text\"", "{}", r#"{"data":{"amount":{"uuid":""}}}"#] {
            assert_eq!(read(json), Event::default(), "{json}");
        }
    }

    #[test]
    fn what_names_too_much_concerns_everything() {
        let orders = |count: usize| (0..count).map(|n| format!("\"o-{n}\"")).collect::<Vec<_>>().join(",");
        let event = |count| read(&format!(r#"{{"data":{{"orders":[{}]}}}}"#, orders(count)));
        assert!(matches!(event(32).concerns, Concerns::Tags(tags) if tags.len() == 64));
        assert_eq!(event(33).concerns, Concerns::Everything);
        assert_eq!(event(20_000).concerns, Concerns::Everything);
    }

    #[test]
    fn what_is_no_json_is_no_event() {
        let deep = "[".repeat(100_000);
        for body in ["", "{", r#"{"data":{"uuid":"o"}"#, r#"{"data":{"uuid":"o"}} x"#, "{'a':1}", &deep] {
            assert_eq!(Event::read(body.as_bytes()), None, "{}", body.len());
        }
        assert_eq!(Event::read(b"{\"data\":\"\xff\"}"), None);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
            let _ = Event::read(&bytes);
        }

        #[test]
        fn any_mixture_of_json_never_panics_and_stays_bounded(
            words in prop::collection::vec(
                prop::sample::select(vec![
                    "{", "}", "[", "]", ":", ",", "\"data\"", "\"event\"", "\"uuid\"", "\"order_id\"",
                    "\"order.captured\"", "\"\\ud83d\"", "\"\"", "1e999", "-0", "null", "true", " ",
                ]),
                0..48,
            ),
        ) {
            if let Some(Event { concerns: Concerns::Tags(tags), .. }) = Event::read(words.concat().as_bytes()) {
                prop_assert!(tags.len() <= MAX_TAGS);
            }
        }
    }
}
