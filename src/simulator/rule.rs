//! Rules bend the answers of the simulated gateway: late, wrong, missing, or held until a test lets them go.
//!
//! The parts of a [`Rule`] are independent of each other. Only the newest matching rule applies to a request.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use serde::Deserialize;

use super::{Fault, Gate};

/// The requests to treat specially, how often, and the treatment.
#[derive(Clone, Debug, Default)]
pub struct Rule {
    pub(super) method: Option<Method>,
    pub(super) path: Option<String>,
    pub(super) times: Option<u32>,
    pub(super) reused_only: bool,
    pub(super) action: Action,
}

/// The point at which a connection is reset or closed in place of an answer.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Reset {
    /// The head arrived; the body was not read.
    BeforeReading,
    /// The request was read; nothing happened at the gateway.
    BeforeEffect,
    /// The request took effect; no answer was sent.
    AfterEffect,
}

impl Rule {
    /// Matches every request, always.
    pub fn any() -> Self {
        Self::default()
    }

    /// Matches a method and a path: an exact one, a prefix when it ends in `*`, or with `*` in place of a segment.
    pub fn on(method: Method, path: &str) -> Self {
        Self { method: Some(method), ..Self::path(path) }
    }

    /// Matches a path as [`Self::on`] does, with any method.
    pub fn path(path: &str) -> Self {
        Self { path: Some(path.to_owned()), ..Self::default() }
    }

    /// Applies at most this often.
    pub fn times(mut self, times: u32) -> Self {
        self.times = Some(times);
        self
    }

    /// Applies only to requests that are not the first on their connection.
    pub fn reused_only(mut self) -> Self {
        self.reused_only = true;
        self
    }

    /// Waits this long before the head of the answer; the request has taken effect by then.
    pub fn delay(mut self, delay: Duration) -> Self {
        self.action.delay = delay;
        self
    }

    /// Holds the request at a gate after it was read, before its effect.
    pub fn gate(mut self, gate: &Gate) -> Self {
        self.action.gate_before_effect = Some(gate.clone());
        self
    }

    /// Holds the request at a gate after its effect, before the answer.
    pub fn gate_after_effect(mut self, gate: &Gate) -> Self {
        self.action.gate_after_effect = Some(gate.clone());
        self
    }

    /// Answers this status instead of asking the gateway: no effect, and no look at keys or tokens.
    pub fn status(mut self, status: StatusCode) -> Self {
        self.action.status = Some(status);
        self
    }

    /// Replaces the body of the answer. Together with [`Rule::status`], the body is sent as JSON. Otherwise the effect,
    /// the status and the type of the normal answer stay.
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.action.body = Some(body.into());
        self
    }

    /// Adds a header to the answer, beside those of the same name.
    pub fn add_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.action.headers.push(Edit::Add(name, value));
        self
    }

    /// Sets a header of the answer in place of those of the same name.
    pub fn set_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.action.headers.push(Edit::Set(name, value));
        self
    }

    /// Removes a header from the answer, `date` and `content-type` included. The connection writes `content-length`.
    pub fn remove_header(mut self, name: HeaderName) -> Self {
        self.action.headers.push(Edit::Remove(name));
        self
    }

    /// Resets the connection at this point instead of answering.
    pub fn reset(mut self, at: Reset) -> Self {
        self.action.reset = Some(at);
        self
    }

    /// Closes the connection at this point instead of answering, without a reset unless a part of the request is
    /// unread. With [`Rule::reused_only`] and [`Reset::BeforeReading`], the gateway ends an idle connection at the
    /// moment when the next request comes.
    pub fn close(mut self, at: Reset) -> Self {
        self.action.close = Some(at);
        self
    }

    /// Spoils the answer on its way.
    pub fn fault(mut self, fault: Fault) -> Self {
        self.action.fault = Some(fault);
        self
    }

    fn matches(&self, method: &Method, path: &str, reused: bool) -> bool {
        self.method.as_ref().is_none_or(|wanted| wanted == method)
            && self.path.as_ref().is_none_or(|wanted| path_matches(wanted, path))
            && (reused || !self.reused_only)
    }
}

/// The treatment of a request. The default changes nothing.
#[derive(Clone, Debug, Default)]
pub(super) struct Action {
    pub(super) delay: Duration,
    pub(super) gate_before_effect: Option<Gate>,
    pub(super) gate_after_effect: Option<Gate>,
    pub(super) status: Option<StatusCode>,
    pub(super) body: Option<Bytes>,
    pub(super) reset: Option<Reset>,
    pub(super) close: Option<Reset>,
    pub(super) fault: Option<Fault>,
    pub(super) headers: Vec<Edit>,
}

impl Action {
    pub(super) fn edit(&self, headers: &mut HeaderMap) {
        for edit in &self.headers {
            match edit {
                Edit::Add(name, value) => _ = headers.append(name, value.clone()),
                Edit::Set(name, value) => _ = headers.insert(name, value.clone()),
                Edit::Remove(name) => _ = headers.remove(name),
            }
        }
    }
}

#[derive(Clone, Debug)]
pub(super) enum Edit {
    Add(HeaderName, HeaderValue),
    Set(HeaderName, HeaderValue),
    Remove(HeaderName),
}

/// The rules in force, oldest first.
#[derive(Debug, Default)]
pub(super) struct Rules(Vec<Rule>);

impl Rules {
    pub(super) fn add(&mut self, rule: Rule) {
        self.0.push(rule);
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// How many rules may still apply to a request.
    pub(super) fn in_force(&self) -> usize {
        self.0.iter().filter(|rule| rule.times != Some(0)).count()
    }

    /// The action for a request that arrives now. Counts as one application of the rule.
    pub(super) fn apply(&mut self, method: &Method, path: &str, reused: bool) -> Action {
        self.0.retain(|rule| rule.times != Some(0));
        let Some(rule) = self.0.iter_mut().rev().find(|rule| rule.matches(method, path, reused)) else {
            return Action::default();
        };
        rule.times = rule.times.map(|times| times.saturating_sub(1));
        rule.action.clone()
    }
}

/// Whether a path matches. A `*` at the end of `wanted` stands for any text, and a `*` before that for the rest of a
/// segment.
pub(super) fn path_matches(wanted: &str, path: &str) -> bool {
    match wanted.split_once('*') {
        None => wanted == path,
        Some((before, "")) => path.starts_with(before),
        Some((before, after)) => path.strip_prefix(before).is_some_and(|rest| {
            let end = rest.find('/').unwrap_or(rest.len());
            rest.get(end..).is_some_and(|rest| path_matches(after, rest))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newest_match_wins_until_it_is_used_up() {
        let mut rules = Rules::default();
        rules.add(Rule::any().status(StatusCode::IM_A_TEAPOT));
        rules.add(Rule::on(Method::GET, "/v2/session/*").times(1).status(StatusCode::BAD_GATEWAY));
        rules.add(Rule::path("/v2/session").reused_only().status(StatusCode::CONFLICT));
        let mut status = |method, path, reused| rules.apply(method, path, reused).status;
        assert_eq!(status(&Method::POST, "/v2/session/a", false), Some(StatusCode::IM_A_TEAPOT));
        assert_eq!(status(&Method::GET, "/v2/session/a", false), Some(StatusCode::BAD_GATEWAY));
        assert_eq!(status(&Method::GET, "/v2/session/a", false), Some(StatusCode::IM_A_TEAPOT));
        assert_eq!(status(&Method::POST, "/v2/session", false), Some(StatusCode::IM_A_TEAPOT));
        assert_eq!(status(&Method::POST, "/v2/session", true), Some(StatusCode::CONFLICT));
        rules.clear();
        assert_eq!(rules.apply(&Method::GET, "/", false).status, None);
    }

    #[test]
    fn a_star_is_a_segment_or_the_rest() {
        for (wanted, path, matches) in [
            ("/v2/order/*/capture", "/v2/order/a/capture", true),
            ("/v2/order/*/capture", "/v2/order/a/b/capture", false),
            ("/v2/order/*/capture", "/v2/order/a/refund", false),
            ("/v2/order/*/capture", "/v2/order/a", false),
            ("/v2/*/a/*", "/v2/order/a/capture/b", true),
            ("/v2/*", "/v2/order/a", true),
            ("/v2/*", "/v1/", false),
        ] {
            assert_eq!(path_matches(wanted, path), matches, "{wanted} {path}");
        }
    }
}
