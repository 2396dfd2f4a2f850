//! The facts in Sezzle's answer to a write that the audit keeps. The rest of the answer may name a shopper, and is not
//! read.

use serde_json::Value;

use super::identifier::is_identifier;

/// The identifiers in Sezzle's answer to a write, and whether Sezzle approved it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WriteAnswer {
    /// The thing that was made: a capture, a refund, a session, an order.
    pub uuid: Option<String>,
    pub order: Option<String>,
    /// The id of an error that Sezzle's support asks for.
    pub debug: Option<String>,
    /// Whether Sezzle approved an authorization. A refused one is answered 200, too.
    pub approved: Option<bool>,
}

impl WriteAnswer {
    /// Reads the body of an answer. A fact that is missing or malformed is `None`.
    pub fn read(body: &[u8]) -> Self {
        let Ok(body) = serde_json::from_slice::<Value>(body) else { return Self::default() };
        let id =
            |value: Option<&Value>| value.and_then(Value::as_str).filter(|id| is_identifier(id)).map(str::to_owned);
        let error = body.get(0).unwrap_or(&body);
        Self {
            uuid: id(body.get("uuid")),
            order: id(body.pointer("/order/uuid")),
            debug: id(error.get("debug_uuid")),
            approved: body.pointer("/authorization/approved").and_then(Value::as_bool),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_identifiers_of_an_answer_are_read_and_nothing_else() {
        let named = |body: &str| WriteAnswer::read(body.as_bytes());
        assert_eq!(named(r#"{"uuid":"a-1"}"#).uuid.as_deref(), Some("a-1"));
        assert_eq!(named(r#"{"uuid":"a","order":{"uuid":"b"}}"#).order.as_deref(), Some("b"));
        assert_eq!(named(r#"{"uuid":"a","authorization":{"approved":false}}"#).approved, Some(false));
        for body in [r#"[{"code":"c","debug_uuid":"d"}]"#, r#"{"code":"c","debug_uuid":"d"}"#] {
            assert_eq!(named(body), WriteAnswer { debug: Some("d".to_owned()), ..WriteAnswer::default() }, "{body}");
        }
        for body in ["", "[]", "null", "<html>", r#"{"uuid":"Ann Shopper"}"#, r#"{"uuid":{"a":1},"order":[]}"#] {
            assert_eq!(named(body), WriteAnswer::default(), "{body}");
        }
    }
}
