//! Every setting of the control interface. One more is one more line in [`SETTINGS`], and one in the table in `docs/simulator.md`.

use std::time::Duration;

use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use crate::simulator::Options;
use crate::simulator::TokenizeExpiration;
use crate::simulator::TokenizePlace;
use crate::simulator::control::Refusal;
use crate::simulator::gateway::Gateway;

/// Names, and where the values are kept.
pub(super) const SETTINGS: [(&str, Place); 15] = [
    ("merchant_uuid", |gateway| &mut gateway.options.merchant_uuid),
    ("approving", |gateway| &mut gateway.approving),
    ("token_life", |gateway| &mut gateway.options.token_life),
    ("tokenize_life", |gateway| &mut gateway.options.tokenize_life),
    ("tokenize_place", |gateway| &mut gateway.options.tokenize_place),
    ("expiration_digits", |gateway| &mut gateway.options.expiration_digits),
    ("tokenize_expiration", |gateway| &mut gateway.options.tokenize_expiration),
    ("authorization_life", |gateway| &mut gateway.options.authorization_life),
    ("idle_timeout", |gateway| &mut gateway.options.idle_timeout),
    ("clock_skew", |gateway| &mut gateway.options.clock_skew),
    ("link_base", |gateway| &mut gateway.options.link_base),
    ("report_bytes", |gateway| &mut gateway.options.report_bytes),
    ("report_length", |gateway| &mut gateway.options.report_length),
    ("webhook_retries", |gateway| &mut gateway.options.webhook_retries),
    ("webhook_timeout", |gateway| &mut gateway.options.webhook_timeout),
];

type Place = fn(&mut Gateway) -> &mut dyn Field;

/// A value that [`read`] has found to be right.
#[derive(Clone, Debug)]
pub(super) struct Change {
    place: Place,
    value: Value,
}

/// Reads what is to be changed: all of it, or nothing.
pub(super) fn read(wanted: &Map<String, Value>) -> Result<Vec<Change>, Refusal> {
    // Takes the values on trial, so that there is one place only that knows which ones are right.
    let mut trial = Gateway::new(Options::default());
    let change = |(wanted, value): (&String, &Value)| {
        let Some((_, place)) = SETTINGS.iter().find(|(name, _)| name == wanted) else {
            let names = SETTINGS.map(|(name, _)| name).join(", ");
            return Err(Refusal::wrong(format!("unknown setting {wanted:?}, expected one of {names}")));
        };
        let expected = |expected| Refusal::wrong(format!("{wanted}: expected {expected}, found {value}"));
        place(&mut trial).put(value).map_err(expected)?;
        Ok(Change { place: *place, value: value.clone() })
    };
    wanted.iter().map(change).collect()
}

/// Makes changes, and answers all settings.
pub(super) fn change(gateway: &mut Gateway, changes: &[Change]) -> Value {
    for change in changes {
        // It was right on trial.
        let _ = (change.place)(gateway).put(&change.value);
    }
    show(gateway)
}

/// Every setting and its value.
pub(super) fn show(gateway: &mut Gateway) -> Value {
    SETTINGS.iter().map(|(name, place)| ((*name).to_owned(), place(gateway).show())).collect::<Map<_, _>>().into()
}

/// How a kind of value is written in JSON.
pub(super) trait Field {
    fn show(&self) -> Value;

    /// Takes a value, or says what it should have been.
    fn put(&mut self, value: &Value) -> Result<(), &'static str>;
}

impl Field for String {
    fn show(&self) -> Value {
        json!(self)
    }

    fn put(&mut self, value: &Value) -> Result<(), &'static str> {
        *self = value.as_str().filter(|text| !text.is_empty()).ok_or("a text")?.to_owned();
        Ok(())
    }
}

impl Field for bool {
    fn show(&self) -> Value {
        json!(self)
    }

    fn put(&mut self, value: &Value) -> Result<(), &'static str> {
        *self = value.as_bool().ok_or("true or false")?;
        Ok(())
    }
}

impl Field for u64 {
    fn show(&self) -> Value {
        json!(self)
    }

    fn put(&mut self, value: &Value) -> Result<(), &'static str> {
        *self = value.as_u64().ok_or("a number of bytes")?;
        Ok(())
    }
}

impl Field for i64 {
    fn show(&self) -> Value {
        json!(self)
    }

    fn put(&mut self, value: &Value) -> Result<(), &'static str> {
        *self = value.as_i64().ok_or("a number of seconds, which may be negative")?;
        Ok(())
    }
}

impl Field for u8 {
    fn show(&self) -> Value {
        json!(self)
    }

    fn put(&mut self, value: &Value) -> Result<(), &'static str> {
        let digits = value.as_u64().and_then(|digits| Self::try_from(digits).ok());
        *self = digits.filter(|digits| *digits <= 9).ok_or("a number from 0 to 9")?;
        Ok(())
    }
}

impl Field for Duration {
    fn show(&self) -> Value {
        json!(humantime::format_duration(*self).to_string())
    }

    fn put(&mut self, value: &Value) -> Result<(), &'static str> {
        let span = value.as_str().and_then(|text| humantime::parse_duration(text).ok());
        *self = span.ok_or("a duration such as \"30s\"")?;
        Ok(())
    }
}

impl Field for Option<Duration> {
    fn show(&self) -> Value {
        self.as_ref().map_or(Value::Null, Field::show)
    }

    fn put(&mut self, value: &Value) -> Result<(), &'static str> {
        let mut span = Duration::ZERO;
        *self = match value {
            Value::Null => None,
            value => Some(span.put(value).map(|()| span).map_err(|_| "a duration such as \"30s\", or null")?),
        };
        Ok(())
    }
}

impl Field for Vec<Duration> {
    fn show(&self) -> Value {
        self.iter().map(Field::show).collect()
    }

    fn put(&mut self, value: &Value) -> Result<(), &'static str> {
        let expected = "a list of at most 1000 durations such as \"30s\"";
        let list = value.as_array().filter(|list| list.len() <= 1000).ok_or(expected)?;
        let read = |value| {
            let mut span = Duration::ZERO;
            span.put(value).map(|()| span)
        };
        *self = list.iter().map(read).collect::<Result<_, _>>().map_err(|_| expected)?;
        Ok(())
    }
}

impl Field for TokenizePlace {
    fn show(&self) -> Value {
        json!(self)
    }

    fn put(&mut self, value: &Value) -> Result<(), &'static str> {
        *self = serde_json::from_value(value.clone()).map_err(|_| "top_level, in_order or both")?;
        Ok(())
    }
}

impl Field for TokenizeExpiration {
    fn show(&self) -> Value {
        json!(self)
    }

    fn put(&mut self, value: &Value) -> Result<(), &'static str> {
        let expected = "utc, go_zero, absent, {\"offset\": minutes of less than a day} or {\"text\": …}";
        *self = match serde_json::from_value(value.clone()).map_err(|_| expected)? {
            Self::Offset(minutes) if minutes.unsigned_abs() >= 24 * 60 => return Err(expected),
            expiration => expiration,
        };
        Ok(())
    }
}
