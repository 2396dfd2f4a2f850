//! Every call of the control interface. A new call is a line here, and a section of its own in `docs/simulator.md`.

use http::StatusCode;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::command::{Act, Command, NO_ORDER, Step, done, done_if};
use super::error::CommandError;
use super::input::{Input, PREFIX};
use super::{page, rules, settings};
use crate::simulator::effect::EffectKind;
use crate::simulator::ids::SessionKind;
use crate::simulator::span::Span;

/// Reads a request to the control interface. `query` has no question mark.
pub fn parse(method: &str, path: &str, query: Option<&str>, body: &[u8]) -> Result<Command, CommandError> {
    let mut allowed = Vec::new();
    for call in &ENDPOINTS {
        let Some(name) = call.matches(path) else { continue };
        if call.method != method {
            allowed.push(call.method);
            continue;
        }
        let input = Input { name, query, body };
        return Ok(Command(match call.takes {
            Takes::Nothing(act) => {
                input.refuse()?;
                Step::Act(act, name.to_owned())
            }
            Takes::Input(read) => read(input)?,
        }));
    }
    if allowed.is_empty() {
        return Err(CommandError::new(StatusCode::NOT_FOUND, format!("no such call; GET {PREFIX} lists them")));
    }
    let allow = allowed.join(", ");
    let message = format!("{path} takes {allow} only");
    Err(CommandError { allow: Some(allow), ..CommandError::new(StatusCode::METHOD_NOT_ALLOWED, message) })
}

pub(super) const ENDPOINTS: [Endpoint; 25] = [
    act("GET", "/_simulator/", "this list", |_, _| Ok(index())),
    act("GET", "/_simulator/settings", "every setting and its value", |simulator, _| {
        Ok(simulator.core.gateway().options.settings().into())
    }),
    input("PATCH", "/_simulator/settings", "change settings: {name: value, …}", |input| {
        Ok(Step::Change(settings::read(input.json()?)?))
    }),
    input("POST", "/_simulator/sessions", "create a session: {kind}", |input| {
        Ok(Step::Create(input.json::<NewSession>()?.kind))
    }),
    act("POST", "/_simulator/orders/{order}/complete", "the shopper finishes the checkout", |simulator, order| {
        done_if(simulator.complete_checkout(order), NOT_OPEN)
    }),
    act("POST", "/_simulator/orders/{order}/deny", "the shopper refuses the checkout", |simulator, order| {
        done_if(simulator.deny_checkout(order), NOT_OPEN)
    }),
    input("POST", "/_simulator/orders/{order}/dashboard", "a click in Sezzle's dashboard: {kind, cents}", |input| {
        let Click { kind, cents } = input.json()?;
        if !matches!(kind, EffectKind::Capture | EffectKind::Refund | EffectKind::Release) {
            return Err(CommandError::wrong(
                "kind: the dashboard has buttons for `capture`, `refund` and `release` only",
            ));
        }
        Ok(Step::Click(input.name.to_owned(), kind, cents))
    }),
    input("POST", "/_simulator/orders/{order}/dispute", "the shopper disputes the order: {event}", |input| {
        let Dispute { event } = input.json()?;
        if !event.starts_with("dispute.") {
            return Err(CommandError::wrong(format!("event: expected one that begins with dispute., found {event:?}")));
        }
        Ok(Step::Dispute(input.name.to_owned(), event))
    }),
    act("GET", "/_simulator/orders/{order}/effects", "what was done to an order", |simulator, order| {
        let effects = simulator.core.gateway().effects(order).ok_or_else(|| CommandError::unknown(NO_ORDER))?;
        Ok(json!({"effects": effects}))
    }),
    act("POST", "/_simulator/tokens/{token}/approve", "the shopper agrees to be charged again", |simulator, token| {
        let customer = simulator.approve_token(token).ok_or_else(|| CommandError::unknown(UNUSABLE))?;
        Ok(json!({"customer": customer}))
    }),
    act("POST", "/_simulator/tokens/{token}/deny", "the shopper refuses, and nobody is told", |simulator, token| {
        done_if(simulator.deny_token(token), UNUSABLE)
    }),
    act("POST", "/_simulator/cards", "create a session for a virtual card", |simulator, _| {
        Ok(json!({"session": simulator.create_card()}))
    }),
    act("POST", "/_simulator/cards/{session}/finish", "the shopper gets the virtual card", |simulator, session| {
        let finished = simulator.core.gateway().finish_card(session);
        let token =
            finished.ok_or_else(|| CommandError::unknown("there is no such card session, or it is finished"))?;
        Ok(json!({"token": token}))
    }),
    input("PUT", "/_simulator/keys", "other keys: {public_key, private_key, overlap}", |input| {
        let NewKeys { public_key, private_key, overlap } = input.json()?;
        Ok(Step::Keys(public_key, private_key, overlap.0))
    }),
    act("POST", "/_simulator/revoke-tokens", "every bearer token issued so far ends", |simulator, _| {
        simulator.revoke_tokens();
        done()
    }),
    input("POST", "/_simulator/rules", "put a rule in force, before all earlier ones", |input| {
        Ok(Step::Script(Box::new(rules::read(input.json()?)?)))
    }),
    act("DELETE", "/_simulator/rules", "put all rules out of force", |simulator, _| {
        simulator.clear_rules();
        done()
    }),
    act("GET", "/_simulator/gates/{name}", "how many requests came to a gate", |simulator, name| {
        simulator.core.gates().show(name)
    }),
    act(
        "POST",
        "/_simulator/gates/{name}/release",
        "let the requests go, and let all later ones pass",
        |simulator, name| simulator.core.gates().release(name),
    ),
    input("GET", "/_simulator/journal", "requests received: ?since=&method=&path=", |input| {
        Ok(Step::Journal(page::read(input, &["since", "method", "path"])?))
    }),
    act("DELETE", "/_simulator/journal", "forget the requests received", |simulator, _| {
        simulator.clear_journal();
        done()
    }),
    input("POST", "/_simulator/events", "raise an event for the subscriptions that list it: {event, data}", |input| {
        let NewEvent { event, data } = input.json()?;
        Ok(Step::Raise(event, data.into()))
    }),
    input("GET", "/_simulator/deliveries", "webhooks sent: ?since=", |input| {
        Ok(Step::Deliveries(page::read(input, &["since"])?))
    }),
    act("POST", "/_simulator/deliveries/{number}/redeliver", "send a webhook again, once", |simulator, number| {
        let found = number.parse().is_ok_and(|number| simulator.redeliver(number));
        done_if(found, "there is no such delivery")
    }),
    act("POST", "/_simulator/reset", "back to the state of the start; bearer tokens stay live", |simulator, _| {
        simulator.reset();
        done()
    }),
];

/// A call of the control interface.
pub(super) struct Endpoint {
    pub(super) method: &'static str,
    pub(super) path: &'static str,
    /// The description in the list of calls.
    does: &'static str,
    takes: Takes,
}

#[derive(Clone, Copy)]
enum Takes {
    /// The call takes neither a query nor a body.
    Nothing(Act),
    /// The call reads its query or its body by this function.
    Input(Read),
}

type Read = fn(Input<'_>) -> Result<Step, CommandError>;

impl Endpoint {
    /// The variable part of a path of this call, which may be empty. `None` for the path of another call.
    pub(super) fn matches<'p>(&self, path: &'p str) -> Option<&'p str> {
        let (mut wanted, mut given, mut name) = (self.path.split('/'), path.split('/'), "");
        loop {
            match (wanted.next(), given.next()) {
                (None, None) => return Some(name),
                (Some(wanted), Some(given)) if wanted.starts_with('{') && !given.is_empty() => name = given,
                (Some(wanted), Some(given)) if wanted == given => {}
                _ => return None,
            }
        }
    }
}

const fn act(method: &'static str, path: &'static str, does: &'static str, act: Act) -> Endpoint {
    Endpoint { method, path, does, takes: Takes::Nothing(act) }
}

const fn input(method: &'static str, path: &'static str, does: &'static str, read: Read) -> Endpoint {
    Endpoint { method, path, does, takes: Takes::Input(read) }
}

fn index() -> Value {
    let calls =
        ENDPOINTS.iter().map(|call| json!({"call": format!("{} {}", call.method, call.path), "does": call.does}));
    json!({"calls": calls.collect::<Vec<_>>()})
}

const NOT_OPEN: &str = "there is no such order with an open checkout";
const UNUSABLE: &str = "there is no such token, or it is used or has ended";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewKeys {
    public_key: String,
    private_key: String,
    #[serde(default)]
    overlap: Span,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewSession {
    kind: SessionKind,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewEvent {
    event: String,
    data: Map<String, Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Dispute {
    event: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Click {
    kind: EffectKind,
    cents: u64,
}
