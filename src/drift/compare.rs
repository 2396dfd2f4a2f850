//! Compares a body with its documented shape: pure.

use serde_json::Value;

use super::shape::{Form, Member};
use crate::telemetry::metrics::words;
use crate::text::printable;

words! {
    /// How a body differs from its documented shape.
    #[derive(Hash)]
    pub enum Kind {
        /// A member that is not documented. Sezzle may add some at any time.
        Added = "added",
        /// A member that is always there is not.
        Missing = "missing",
        /// A member has another form.
        Type = "type",
    }
}

/// A difference, and the member that it is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Difference {
    pub kind: Kind,
    pub path: String,
}

/// The differences of a body, each once, `MOST` at most.
pub fn differences(members: &[Member], body: &Value) -> Vec<Difference> {
    let mut found = Vec::new();
    match body {
        Value::Object(_) => object(members, "", body, &mut found),
        _ => note(&mut found, Kind::Type, ""),
    }
    found
}

// More than the members of any body. A body of another kind would only fill the log.
const MOST: usize = 64;

fn note(found: &mut Vec<Difference>, kind: Kind, path: &str) {
    let difference = Difference { kind, path: path.to_owned() };
    if found.len() < MOST && !found.contains(&difference) {
        found.push(difference);
    }
}

fn object(members: &[Member], path: &str, body: &Value, found: &mut Vec<Difference>) {
    let Value::Object(body) = body else { return };
    for (name, value) in body.iter().filter(|(_, value)| !value.is_null()) {
        let below = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        match members.iter().find(|member| member.path == below) {
            None => {
                // The name is Sezzle's, and goes to the log.
                let name = printable(name, LONGEST_NAME);
                let shown = if path.is_empty() { name } else { format!("{path}.{name}") };
                note(found, Kind::Added, &shown);
            }
            Some(member) => one(members, member, value, found),
        }
    }
    let missing = members.iter().filter(|member| member.always).filter(|member| {
        let (around, name) = member.path.rsplit_once('.').unwrap_or(("", member.path));
        around == path && body.get(name).is_none_or(Value::is_null)
    });
    missing.for_each(|member| note(found, Kind::Missing, member.path));
}

fn one(members: &[Member], member: &Member, value: &Value, found: &mut Vec<Difference>) {
    match (member.form, value) {
        (Form::Any, _) | (Form::Text, Value::String(_)) | (Form::Flag, Value::Bool(_)) => {}
        (Form::Integer, Value::Number(number)) if number.is_i64() || number.is_u64() => {}
        (Form::Object, Value::Object(_)) => object(members, member.path, value, found),
        (Form::List, Value::Array(items)) => {
            let path = format!("{}[]", member.path);
            for item in items {
                match item {
                    Value::Object(_) => object(members, &path, item, found),
                    _ => note(found, Kind::Type, &path),
                }
            }
        }
        (Form::Text | Form::Flag | Form::Integer | Form::Object | Form::List, _) => {
            note(found, Kind::Type, member.path);
        }
    }
}

const LONGEST_NAME: usize = 64;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::shape::Subject;
    use super::*;

    fn found(subject: Subject, body: &Value) -> Vec<String> {
        let mut all: Vec<String> = differences(subject.members(), body)
            .into_iter()
            .map(|difference| format!("{} {}", difference.kind.as_str(), difference.path))
            .collect();
        all.sort();
        all
    }

    fn session() -> Value {
        json!({
            "uuid": "a",
            "links": [{}, {"href": "b", "rel": "self"}],
            "order": {"uuid": "c", "checkout_url": "d", "links": []},
            "tokenize": {"token": "e", "expiration": "f"},
        })
    }

    #[test]
    fn a_documented_body_has_no_difference() {
        assert_eq!(found(Subject::Session, &session()), [""; 0]);
        assert_eq!(found(Subject::Session, &json!({"uuid": "a", "order": null})), [""; 0]);
        let order = json!({"uuid": "a", "order_amount": {"amount_in_cents": 1, "currency": "USD"},
            "metadata": {"whatever": [1]}, "customer": {"email": "a@b"}});
        assert_eq!(found(Subject::Order, &order), [""; 0]);
    }

    #[test]
    fn each_difference_is_named() {
        let changed = |change: &dyn Fn(&mut Value)| {
            let mut body = session();
            change(&mut body);
            found(Subject::Session, &body)
        };
        for (change, expected) in [
            (&(|b: &mut Value| b["new"] = json!(1)) as &dyn Fn(&mut Value), "added new"),
            (&|b| b["order"]["new"] = json!({"deep": 1}), "added order.new"),
            (&|b| b["links"][0]["new"] = json!(1), "added links[].new"),
            (&|b| b["order"]["uuid"] = json!(null), "missing order.uuid"),
            (&|b| b["tokenize"] = json!({"token": "e"}), "missing tokenize.expiration"),
            (&|b| b["uuid"] = json!(7), "type uuid"),
            (&|b| b["links"] = json!({}), "type links"),
            (&|b| b["links"] = json!(["a"]), "type links[]"),
            (&|b| *b = json!([]), "type "),
        ] {
            assert_eq!(changed(change), [expected]);
        }
    }

    #[test]
    fn a_body_of_another_kind_fills_no_log() {
        let many: Value =
            (0..1000).map(|number| (format!("member{number}\n"), json!(1))).collect::<serde_json::Map<_, _>>().into();
        let all = differences(Subject::Webhook.members(), &many);
        assert_eq!(all.len(), MOST);
        assert!(all.iter().all(|difference| !difference.path.contains('\n')));
    }
}
