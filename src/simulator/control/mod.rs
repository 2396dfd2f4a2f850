//! The control interface: everything that a test in the same process does with [`Simulator`], over HTTP and from any language.
//!
//! The interface shares the gateway's port, below a prefix that Sezzle does not have. Rules do not apply to its
//! requests, and the journal does not note them. [`parse`] turns a request into a [`Command`] without any I/O; `calls`
//! lists all commands.

mod calls;
mod gates;
mod page;
mod rules;
mod serve;
mod settings;

use std::fmt;
use std::time::Duration;

use http::StatusCode;
use serde::de::DeserializeOwned;
use serde_json::error::Category;
use serde_json::{Map, Value, json};

use crate::simulator::control::calls::{ENDPOINTS, Takes};
use crate::simulator::control::page::Page;
use crate::simulator::control::rules::Draft;
use crate::simulator::{EffectKind, SessionKind, Simulator};

pub(super) use crate::simulator::control::gates::Gates;
pub(super) use crate::simulator::control::serve::serve;

/// The prefix of every path of the control interface.
pub const PREFIX: &str = "/_simulator/";

/// Reads a request to the control interface. `query` comes without its question mark.
///
/// # Errors
/// When there is no such call, or its query or body is not what the call takes.
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

/// A command that has been read completely.
#[derive(Clone, Debug)]
pub struct Command(Step);

#[derive(Clone, Debug)]
enum Step {
    /// A command with the variable part of its path.
    Act(Act, String),
    Create(SessionKind),
    Change(Map<String, Value>),
    Script(Box<Draft>),
    Keys(String, String, Duration),
    Journal(Page),
    Raise(String, Value),
    Dispute(String, String),
    Click(String, EffectKind, u64),
    Deliveries(Page),
}

/// The action of a call without input. The text is the variable part of its path, if it has one.
type Act = fn(&Simulator, &str) -> CommandResult;

type CommandResult = Result<Value, CommandError>;

impl Command {
    /// Carries out the command, and returns the answer.
    ///
    /// # Errors
    /// When the named object does not exist, or its state does not allow the command.
    pub fn run(self, simulator: &Simulator) -> Result<Value, CommandError> {
        match self.0 {
            Step::Act(act, name) => act(simulator, &name),
            Step::Create(kind) => {
                let ids = simulator.create_session(kind);
                Ok(json!({"session": ids.session, "order": ids.order, "token": ids.token}))
            }
            Step::Change(changes) => settings::change(&mut simulator.core.gateway().options, changes),
            Step::Script(draft) => draft.script(simulator),
            Step::Keys(public, private, overlap) => {
                simulator.rotate_keys(&public, &private, overlap);
                Ok(json!({}))
            }
            Step::Journal(page) => Ok(page.journal(&simulator.core.journal())),
            Step::Raise(event, data) => Ok(json!({"subscriptions": simulator.raise_event(&event, &data)})),
            Step::Dispute(order, event) => calls::disputed(simulator, &order, &event),
            Step::Click(order, kind, cents) => calls::clicked(simulator, &order, kind, cents),
            Step::Deliveries(page) => Ok(page.deliveries(&simulator.core.deliveries, simulator.deliveries_dropped())),
        }
    }
}

/// Why a call was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandError {
    /// The status to answer.
    pub status: StatusCode,
    /// The reason, for a person.
    pub message: String,
    /// The methods of the path, if the request has another one.
    allow: Option<String>,
}

impl CommandError {
    fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), allow: None }
    }

    /// 400: the input cannot be read.
    fn unreadable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// 422: the input is wrong.
    fn wrong(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, message)
    }

    fn unknown(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for CommandError {}

/// The input of a request besides its path.
#[derive(Clone, Copy, Debug)]
struct Input<'a> {
    /// The variable part of the path, if it has one.
    name: &'a str,
    query: Option<&'a str>,
    body: &'a [u8],
}

impl Input<'_> {
    /// Checks a call that takes no input. Some clients send an empty object without input.
    fn refuse(self) -> Result<(), CommandError> {
        self.refuse_query()?;
        match self.body.trim_ascii() {
            b"" | b"{}" => Ok(()),
            _ => Err(CommandError::unreadable("this call takes no body")),
        }
    }

    fn refuse_query(self) -> Result<(), CommandError> {
        match self.query {
            None | Some("") => Ok(()),
            Some(_) => Err(CommandError::unreadable("this call takes no query")),
        }
    }

    /// The body; no query.
    fn json<T: DeserializeOwned>(self) -> Result<T, CommandError> {
        self.refuse_query()?;
        serde_json::from_slice(self.body).map_err(|error| match error.classify() {
            Category::Data => CommandError::wrong(error.to_string()),
            Category::Syntax | Category::Eof | Category::Io => CommandError::unreadable(format!("not JSON: {error}")),
        })
    }
}

#[cfg(test)]
mod tests;
