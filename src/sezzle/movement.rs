//! What a write asks Sezzle to move, and what Sezzle's answer calls the result. Nothing else of the bodies is read:
//! they may name a shopper.

use serde::Deserialize;
use serde_json::Value;

use super::identifier::is_identifier;

/// An amount of money.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Amount {
    pub cents: u64,
    /// Three letters.
    pub currency: String,
}

impl Amount {
    /// The amount that the body of a write names. `None` if it names none, or several.
    pub fn asked(body: &[u8]) -> Option<Self> {
        let asked: Asked = serde_json::from_slice(body).ok()?;
        let whole = match (asked.amount_in_cents, asked.currency) {
            (None, _) => None,
            (Some(amount_in_cents), Some(currency)) => Some(Price { amount_in_cents, currency }),
            (Some(_), None) => return None,
        };
        let of_order = asked.order.and_then(|order| order.order_amount);
        let mut all =
            [whole, asked.capture_amount, asked.upcharge_amount, asked.order_amount, of_order].into_iter().flatten();
        let Price { amount_in_cents: cents, currency } = all.next().filter(|_| all.next().is_none())?;
        let is_currency = currency.len() == 3 && currency.bytes().all(|byte| byte.is_ascii_alphabetic());
        is_currency.then_some(Self { cents, currency })
    }
}

#[derive(Deserialize)]
struct Asked {
    amount_in_cents: Option<u64>,
    currency: Option<String>,
    capture_amount: Option<Price>,
    upcharge_amount: Option<Price>,
    order_amount: Option<Price>,
    order: Option<Order>,
}

#[derive(Deserialize)]
struct Order {
    order_amount: Option<Price>,
}

#[derive(Deserialize)]
struct Price {
    amount_in_cents: u64,
    currency: String,
}

/// The identifiers in Sezzle's answer to a write.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Named {
    /// The thing that was made: a capture, a refund, a session, an order.
    pub uuid: Option<String>,
    pub order: Option<String>,
    /// The id of an error that Sezzle's support asks for.
    pub debug: Option<String>,
    /// Whether Sezzle approved an authorization. A refused one is answered 200, too.
    pub approved: Option<bool>,
}

impl Named {
    /// Reads an answer.
    pub fn in_answer(body: &[u8]) -> Self {
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
    fn the_one_amount_of_a_write_is_read() {
        let amount = Amount { cents: 2500, currency: "USD".to_owned() };
        let price = r#"{"amount_in_cents":2500,"currency":"USD"}"#;
        for body in [
            price.to_owned(),
            format!(r#"{{"capture_amount":{price},"partial_capture":true}}"#),
            format!(r#"{{"upcharge_amount":{price}}}"#),
            format!(r#"{{"intent":"CAPTURE","order_amount":{price}}}"#),
            format!(r#"{{"customer":{{"email":"a@b"}},"order":{{"intent":"AUTH","order_amount":{price}}}}}"#),
        ] {
            assert_eq!(Amount::asked(body.as_bytes()), Some(amount.clone()), "{body}");
        }
        for body in [
            "",
            "{}",
            r#"{"amount_in_cents":2500}"#,
            r#"{"amount_in_cents":25.5,"currency":"USD"}"#,
            r#"{"amount_in_cents":-1,"currency":"USD"}"#,
            r#"{"amount_in_cents":1,"amount_in_cents":2,"currency":"USD"}"#,
            r#"{"amount_in_cents":"2500","currency":"USD"}"#,
            r#"{"amount_in_cents":2500,"currency":"Ann Shopper"}"#,
            &format!(r#"{{"capture_amount":{price},"order_amount":{price}}}"#),
        ] {
            assert_eq!(Amount::asked(body.as_bytes()), None, "{body}");
        }
    }

    #[test]
    fn the_identifiers_of_an_answer_are_read_and_nothing_else() {
        let named = |body: &str| Named::in_answer(body.as_bytes());
        assert_eq!(named(r#"{"uuid":"a-1"}"#).uuid.as_deref(), Some("a-1"));
        assert_eq!(named(r#"{"uuid":"a","order":{"uuid":"b"}}"#).order.as_deref(), Some("b"));
        assert_eq!(named(r#"{"uuid":"a","authorization":{"approved":false}}"#).approved, Some(false));
        for body in [r#"[{"code":"c","debug_uuid":"d"}]"#, r#"{"code":"c","debug_uuid":"d"}"#] {
            assert_eq!(named(body), Named { debug: Some("d".to_owned()), ..Named::default() }, "{body}");
        }
        for body in ["", "[]", "null", "<html>", r#"{"uuid":"Ann Shopper"}"#, r#"{"uuid":{"a":1},"order":[]}"#] {
            assert_eq!(named(body), Named::default(), "{body}");
        }
    }
}
