//! A [`Rule`] as JSON.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderName, HeaderValue, Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::error::{CommandError, CommandResult};
use super::gates;
use crate::simulator::fault::Fault;
use crate::simulator::handle::Simulator;
use crate::simulator::rule::{Action, Edit, Reset, Rule};
use crate::simulator::span::Span;

/// A rule whose gates are names so far.
#[derive(Clone, Debug)]
pub(super) struct Draft {
    rule: Rule,
    gate: Option<String>,
    gate_after_effect: Option<String>,
}

/// The body of the call.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RuleBody {
    method: Option<String>,
    path: Option<String>,
    times: Option<NonZeroU32>,
    #[serde(default)]
    reused_only: bool,
    delay: Option<Span>,
    gate: Option<String>,
    gate_after_effect: Option<String>,
    reset: Option<Reset>,
    close: Option<Reset>,
    status: Option<u16>,
    body: Option<Value>,
    #[serde(default)]
    remove_headers: Vec<String>,
    #[serde(default)]
    set_headers: BTreeMap<String, String>,
    #[serde(default)]
    add_headers: BTreeMap<String, String>,
    fault: Option<Fault>,
}

/// Reads a rule.
pub(super) fn read(text: RuleBody) -> Result<Draft, CommandError> {
    let mut headers = Vec::new();
    for name in text.remove_headers {
        headers.push(Edit::Remove(header(&name)?));
    }
    for (name, value) in text.set_headers {
        headers.push(Edit::Set(header(&name)?, header_value(&name, &value)?));
    }
    for (name, value) in text.add_headers {
        headers.push(Edit::Add(header(&name)?, header_value(&name, &value)?));
    }
    let action = Action {
        delay: text.delay.unwrap_or_default().0,
        status: text.status.map(status).transpose()?,
        body: text.body.map(body).transpose()?,
        reset: text.reset,
        close: text.close,
        fault: text.fault,
        headers,
        ..Action::default()
    };
    let rule = Rule {
        method: text.method.map(method).transpose()?,
        path: text.path.map(path).transpose()?,
        times: text.times.map(NonZeroU32::get),
        reused_only: text.reused_only,
        action,
    };
    let gate = text.gate.map(gates::name).transpose()?;
    let gate_after_effect = text.gate_after_effect.map(gates::name).transpose()?;
    Ok(Draft { rule, gate, gate_after_effect })
}

impl Draft {
    /// Puts the rule in force, with closed gates.
    pub(super) fn script(self, simulator: &Simulator) -> CommandResult {
        let in_force = simulator.core.rules().in_force();
        if in_force >= MAX_RULES {
            return Err(CommandError::wrong(format!("{in_force} rules are in force already; delete them first")));
        }
        let mut rule = self.rule;
        if let Some(name) = self.gate {
            rule = rule.gate(&simulator.core.gates().closed(name)?);
        }
        if let Some(name) = self.gate_after_effect {
            rule = rule.gate_after_effect(&simulator.core.gates().closed(name)?);
        }
        simulator.script(rule);
        Ok(json!({"rules": in_force + 1}))
    }
}

fn method(text: String) -> Result<Method, CommandError> {
    Method::try_from(text.as_str()).map_err(|_| CommandError::wrong(format!("method: {text:?} is not a method")))
}

/// Checks that a request can have this path, because a rule with another path would never apply.
fn path(text: String) -> Result<String, CommandError> {
    if text.starts_with('/') && !text.contains(['?', '#']) {
        Ok(text)
    } else {
        Err(CommandError::wrong(format!("path: expected one that begins with / and has no query, found {text:?}")))
    }
}

fn status(code: u16) -> Result<StatusCode, CommandError> {
    let status = StatusCode::from_u16(code).ok().filter(|_| (200..600).contains(&code));
    status.ok_or_else(|| CommandError::wrong(format!("status: expected a number from 200 to 599, found {code}")))
}

/// The bytes of a body: a text unchanged, which need not be JSON, and an object or a list as JSON.
fn body(value: Value) -> Result<Bytes, CommandError> {
    match value {
        Value::String(text) => Ok(text.into()),
        Value::Object(_) | Value::Array(_) => Ok(value.to_string().into()),
        Value::Null | Value::Bool(_) | Value::Number(_) => {
            Err(CommandError::wrong(format!("body: expected a text, an object or a list, found {value}")))
        }
    }
}

fn header(name: &str) -> Result<HeaderName, CommandError> {
    let name = HeaderName::try_from(name)
        .map_err(|_| CommandError::wrong(format!("headers: {name:?} is not the name of a header")))?;
    if [CONTENT_LENGTH, TRANSFER_ENCODING].contains(&name) {
        return Err(CommandError::wrong(format!("headers: {name} follows from the body; see the fault stated_length")));
    }
    Ok(name)
}

fn header_value(name: &str, value: &str) -> Result<HeaderValue, CommandError> {
    HeaderValue::try_from(value).map_err(|_| CommandError::wrong(format!("headers: {name} cannot be {value:?}")))
}

/// The most rules: more than a test needs, and few enough that bodies of the largest size fit into memory.
const MAX_RULES: usize = 100;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use http::header::{DATE, VARY};

    use super::*;

    #[test]
    fn a_rule_takes_every_knob() {
        let text = r#"{"method":"POST","path":"/v2/order/*","times":2,"reused_only":true,"delay":"1s","gate":"a",
        "gate_after_effect":"b","reset":"after_effect","close":"before_effect","status":503,"body":[{"code":"x"}],"remove_headers":["date"],
        "set_headers":{"vary":"accept"},"add_headers":{"vary":"origin"},"fault":{"cut_body":3}}"#;
        let draft = read(serde_json::from_str(text).unwrap()).unwrap();
        let rule = Rule::on(http::Method::POST, "/v2/order/*")
            .times(2)
            .reused_only()
            .delay(Duration::from_secs(1))
            .reset(Reset::AfterEffect)
            .close(Reset::BeforeEffect)
            .status(StatusCode::SERVICE_UNAVAILABLE)
            .body(r#"[{"code":"x"}]"#)
            .remove_header(DATE)
            .set_header(VARY, HeaderValue::from_static("accept"))
            .add_header(VARY, HeaderValue::from_static("origin"))
            .fault(Fault::CutBody(3));
        assert_eq!(format!("{:?}", draft.rule), format!("{rule:?}"));
        assert_eq!((draft.gate.as_deref(), draft.gate_after_effect.as_deref()), (Some("a"), Some("b")));
    }
}
