//! Whatever body a caller sends: an amount is read only if every server would read the same one.
//!
//! Input: a number of members to descend, as a digit, and the body.

use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, de::IgnoredAny};
use sezzle_sidecar::callers::amount::{Amount, Bounds, OutOfBounds};
use sezzle_sidecar::callers::body;

const PLACES: [&[&str]; 4] = [&[], &["capture_amount"], &["order", "order_amount"], &["a", "a", "a"]];

pub fn holds(data: &[u8]) {
    let (place, body) = match data.split_first() {
        Some((digit @ b'0'..=b'3', body)) => (PLACES[usize::from(digit - b'0')], body),
        _ => (PLACES[0], data),
    };
    let read = body::read(body, place);
    let bounds = Bounds::new(vec![Amount::parse("5.00 USD").expect("an amount")]).expect("bounds");
    match (bounds.check(read), read) {
        (Ok(()), read) => assert!(read.is_some_and(|read| read.cents <= 500 && read.currency.as_str() == "USD")),
        (Err(OutOfBounds::Unreadable), read) => assert_eq!(read, None),
        (Err(OutOfBounds::OtherCurrency | OutOfBounds::Larger), read) => assert!(read.is_some()),
    }
    let Some(read) = read else { return };
    assert_eq!(Amount::parse(&read.to_string()), Some(read), "its text is another amount");
    let tree: Tree = serde_json::from_slice(body).expect("an amount of a body that is no JSON");
    for folds in [false, true] {
        for takes_last in [false, true] {
            let found = tree.amount(place, folds, takes_last);
            let same = (Some(read.cents.to_string()), Some(read.currency.as_str().to_owned()));
            assert_eq!(found, same, "a server that ignores case: {folds}, that takes the last of two: {takes_last}");
        }
    }
}

/// A body as a server could read it that takes one of several members with one name.
enum Tree {
    Members(Vec<(String, Tree)>),
    /// A number or a text, as it is spelt.
    Leaf(String),
    Else,
}

impl Tree {
    fn find(&self, name: &str, folds: bool, takes_last: bool) -> Option<&Self> {
        let Self::Members(members) = self else { return None };
        // Go's `encoding/json` folds as `strings.EqualFold` does: by Unicode's simple folding, letter by letter.
        let lower = |text: &str| text.replace('\u{17f}', "s").replace('\u{212a}', "k").to_lowercase();
        let mut found = members.iter().filter(|(other, _)| if folds { lower(other) == name } else { other == name });
        if takes_last { found.next_back() } else { found.next() }.map(|(_, value)| value)
    }

    fn amount(&self, place: &[&str], folds: bool, takes_last: bool) -> (Option<String>, Option<String>) {
        let mut node = Some(self);
        for member in place {
            node = node.and_then(|node| node.find(member, folds, takes_last));
        }
        let text = |name| match node?.find(name, folds, takes_last)? {
            Self::Leaf(text) => Some(text.clone()),
            Self::Members(_) | Self::Else => None,
        };
        (text("amount_in_cents"), text("currency"))
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TreeVisitor)
    }
}

struct TreeVisitor;

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = Tree;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("a value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Tree, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(Tree::Members(members))
    }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut list: A) -> Result<Tree, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Tree::Else)
    }

    fn visit_u64<E>(self, number: u64) -> Result<Tree, E> {
        Ok(Tree::Leaf(number.to_string()))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Tree, E> {
        Ok(Tree::Leaf(number.to_string()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Tree, E> {
        Ok(Tree::Leaf(format!("{number:?}")))
    }

    fn visit_str<E>(self, text: &str) -> Result<Tree, E> {
        // In quotes a number is no number.
        let is_number = text.starts_with(|first: char| first.is_ascii_digit() || first == '-');
        Ok(Tree::Leaf(if is_number { format!("{text:?}") } else { text.to_owned() }))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Tree, E> {
        Ok(Tree::Else)
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Else)
    }
}
