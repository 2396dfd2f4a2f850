//! Durations in JSON, such as `"30s"`.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::units;

/// A duration that JSON writes as a text.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
#[serde(try_from = "Value", into = "String")]
pub(super) struct Span(pub(super) Duration);

impl TryFrom<Value> for Span {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        let read = value.as_str().and_then(units::duration).map(Self);
        read.ok_or_else(|| format!("expected {}, found {value}", units::DURATION))
    }
}

impl From<Span> for String {
    fn from(span: Span) -> Self {
        units::shown(span.0)
    }
}

/// For a field that is a duration.
pub(super) mod one {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::{Duration, Span};

    pub(in crate::simulator) fn serialize<S: Serializer>(span: &Duration, to: S) -> Result<S::Ok, S::Error> {
        Span(*span).serialize(to)
    }

    pub(in crate::simulator) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        Span::deserialize(from).map(|span| span.0)
    }
}

/// For a field that is a duration or null.
pub(super) mod option {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::{Duration, Span};

    pub(in crate::simulator) fn serialize<S: Serializer>(span: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
        span.map(Span).serialize(to)
    }

    pub(in crate::simulator) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
        let span = Option::<Span>::deserialize(from);
        span.map(|span| span.map(|span| span.0)).map_err(|error| D::Error::custom(format!("{error}, or null")))
    }
}

/// For a field that is a list of durations.
pub(super) mod list {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    use super::{Duration, Span};

    /// The most durations of a list, which is more waits than five days have room for.
    const MOST: usize = 1000;

    pub(in crate::simulator) fn serialize<S: Serializer>(spans: &[Duration], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(spans.iter().copied().map(Span))
    }

    pub(in crate::simulator) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Duration>, D::Error> {
        let spans = Vec::<Span>::deserialize(from)?;
        if spans.len() > MOST {
            return Err(D::Error::custom(format!("expected at most {MOST} durations, found {}", spans.len())));
        }
        Ok(spans.into_iter().map(|span| span.0).collect())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_read_as_it_was_written() {
        for span in [Duration::ZERO, Duration::from_millis(1500), Duration::from_secs(86_400)] {
            let written = serde_json::to_value(Span(span)).unwrap();
            assert_eq!(serde_json::from_value::<Span>(written.clone()).unwrap().0, span, "{written}");
        }
        let _ = String::from(Span(Duration::MAX));
        for wrong in [Value::from(30), Value::from("soon"), Value::from("1 5s"), Value::from("1M"), Value::Null] {
            let refused = serde_json::from_value::<Span>(wrong.clone()).unwrap_err().to_string();
            assert!(refused.contains("30s") && refused.contains(&wrong.to_string()), "{refused}");
        }
    }
}
