//! Reads the amount of a call from its body, but only if every server would read the same amount.
//!
//! Sezzle's servers may ignore the case of members' names, and may take either of two members with one name. So an
//! amount with such a pair on its path is ambiguous and is not read. Nor is anything read from a body that is not JSON.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::amount::{Amount, Currency};

/// The amount at a path in a body: `members` are the names on the path, the outermost first; without members the body
/// itself is the amount. `None` unless the amount has the documented form, is unambiguous and counts whole cents.
pub fn read(body: &[u8], members: &[&str]) -> Option<Amount> {
    let mut node: Node = serde_json::from_slice(body).ok()?;
    for member in members {
        node = node.take(member)?;
    }
    let Node::Object(mut amount) = node else { return None };
    let Node::Number(cents) = take(&mut amount, "amount_in_cents")? else { return None };
    let Node::Text(currency) = take(&mut amount, "currency")? else { return None };
    Some(Amount { cents, currency: Currency::parse(&currency)? })
}

/// A value of JSON, as far as an amount needs it.
enum Node {
    Object(Vec<(String, Node)>),
    /// A whole number that is not negative.
    Number(u64),
    Text(String),
    Other,
}

impl Node {
    fn take(self, member: &str) -> Option<Node> {
        let Self::Object(mut members) = self else { return None };
        take(&mut members, member)
    }
}

/// Takes the member with exactly this name, unless a server that ignores case would find a second one.
fn take(members: &mut Vec<(String, Node)>, name: &str) -> Option<Node> {
    let mut alike = members.iter().enumerate().filter(|(_, (other, _))| folded(other) == name);
    let (index, (spelt, _)) = alike.next()?;
    let is_unambiguous = alike.next().is_none() && spelt == name;
    is_unambiguous.then(|| members.swap_remove(index).1)
}

/// A name as a server that ignores case reads it, with the letters that Unicode folds into plain ones.
fn folded(name: &str) -> String {
    name.chars().flat_map(char::to_uppercase).flat_map(char::to_lowercase).collect()
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(Node::Object(members))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Node, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Node::Other)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Node, E> {
        Ok(Node::Number(number))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Node, E> {
        Ok(Node::Text(text.to_owned()))
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Node, E> {
        Ok(Node::Other)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Node, E> {
        Ok(Node::Other)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Node, E> {
        Ok(Node::Other)
    }

    fn visit_unit<E: Error>(self) -> Result<Node, E> {
        Ok(Node::Other)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CAPTURE: &[&str] = &["capture_amount"];
    const SESSION: &[&str] = &["order", "order_amount"];

    fn cents(body: &str, members: &[&str]) -> Option<u64> {
        read(body.as_bytes(), members).map(|amount| amount.cents)
    }

    #[test]
    fn the_documented_member_is_read() {
        let price = r#"{"amount_in_cents": 500, "currency": "USD"}"#;
        assert_eq!(read(price.as_bytes(), &[]), Amount::parse("5.00 USD"));
        let capture = format!("\n{{\"partial_capture\": true, \"capture_amount\": {price}, \"x\": [1, {{}}, null]}} ");
        assert_eq!(cents(&capture, CAPTURE), Some(500));
        let session = format!(r#"{{"order": {{"items": [{{"a": 1, "A": 2}}], "order_amount": {price}}}, "v": -1.5}}"#);
        assert_eq!(cents(&session, SESSION), Some(500));
        assert_eq!(cents(r#"{"\u0063urrency":"USD","amount_in_cents":7}"#, &[]), Some(7), "an escaped name is one");
    }

    #[test]
    fn a_body_that_two_servers_could_read_differently_has_no_amount() {
        for body in [
            "",
            "null",
            "[]",
            "500",
            "amount_in_cents=500&currency=USD",
            r#"{}"#,
            r#"{"currency": "USD"}"#,
            r#"{"amount_in_cents": 500}"#,
            r#"{"amount_in_cents": "500", "currency": "USD"}"#,
            r#"{"amount_in_cents": 500.0, "currency": "USD"}"#,
            r#"{"amount_in_cents": 5e2, "currency": "USD"}"#,
            r#"{"amount_in_cents": -500, "currency": "USD"}"#,
            r#"{"amount_in_cents": -0, "currency": "USD"}"#,
            r#"{"amount_in_cents": null, "currency": "USD"}"#,
            r#"{"amount_in_cents": [500], "currency": "USD"}"#,
            r#"{"amount_in_cents": 18446744073709551616, "currency": "USD"}"#,
            r#"{"amount_in_cents": 500, "currency": "usd"}"#,
            r#"{"amount_in_cents": 500, "currency": "USD "}"#,
            r#"{"amount_in_cents": 500, "currency": 840}"#,
            r#"{"amount_in_cents": 500, "amount_in_cents": 900, "currency": "USD"}"#,
            r#"{"amount_in_cents": 500, "amount_in_cents": 500, "currency": "USD"}"#,
            r#"{"amount_in_cents": 500, "Amount_In_Cents": 900, "currency": "USD"}"#,
            r#"{"amount_in_cents": 500, "amount_in_cent\u017f": 900, "currency": "USD"}"#,
            r#"{"amount_in_cents": 500, "currency": "USD", "CURRENCY": "EUR"}"#,
            r#"{"AMOUNT_IN_CENTS": 500, "currency": "USD"}"#,
            r#"{"amount_in_cents": 500, "currency": "USD"} {"amount_in_cents": 900, "currency": "USD"}"#,
            r#"{"amount_in_cents": 500, "currency": "USD"}x"#,
            r#"{"amount_in_cents": 500, "currency": "USD""#,
            "\u{feff}{\"amount_in_cents\": 500, \"currency\": \"USD\"}",
            r#"{"amount_in_cents": 500, "currency": "USD", "x": "\ud800"}"#,
        ] {
            assert_eq!(read(body.as_bytes(), &[]), None, "{body}");
        }
        let price = r#"{"amount_in_cents": 500, "currency": "USD"}"#;
        for body in [
            price.to_owned(),
            format!(r#"{{"capture_amount": [{price}]}}"#),
            format!(r#"{{"capture_amount": {price}, "capture_amount": {price}}}"#),
            format!(r#"{{"capture_amount": {price}, "Capture_Amount": {price}}}"#),
            format!(r#"{{"capture": {{"capture_amount": {price}}}}}"#),
        ] {
            assert_eq!(cents(&body, CAPTURE), None, "{body}");
        }
        let twice = format!(r#"{{"order": {{"order_amount": {price}}}, "ORDER": {{}}}}"#);
        assert_eq!(cents(&twice, SESSION), None);
        assert_eq!(cents(&"[".repeat(100_000), CAPTURE), None, "a body of any depth");
        assert_eq!(read(b"{\"amount_in_cents\": 500, \"currency\": \"USD\", \"\xff\": 1}", &[]), None, "no UTF-8");
    }

    proptest! {
        #[test]
        fn arbitrary_bodies_never_panic(body in ".{0,80}") {
            let _ = read(body.as_bytes(), SESSION);
        }
    }
}
