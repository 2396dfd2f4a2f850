//! A command of the control interface.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::error::{CommandError, CommandResult};
use super::page::Page;
use super::rules::Draft;
use super::settings;
use crate::simulator::effect::EffectKind;
use crate::simulator::handle::Simulator;
use crate::simulator::ids::SessionKind;

/// A command that has been read completely.
#[derive(Clone, Debug)]
pub struct Command(pub(super) Step);

#[derive(Clone, Debug)]
pub(super) enum Step {
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
pub(super) type Act = fn(&Simulator, &str) -> CommandResult;

impl Command {
    /// Carries out the command, and returns the answer.
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
            Step::Dispute(order, event) => done_if(simulator.dispute(&order, &event), NO_ORDER),
            Step::Click(order, kind, cents) => clicked(simulator, &order, kind, cents),
            Step::Deliveries(page) => Ok(page.deliveries(&simulator.core.deliveries, simulator.deliveries_dropped())),
        }
    }
}

fn clicked(simulator: &Simulator, order: &str, kind: EffectKind, cents: u64) -> CommandResult {
    let done = simulator.core.act(|gateway| gateway.click(order, kind, cents));
    match done.ok_or_else(|| CommandError::unknown(NO_ORDER))? {
        Ok(()) => self::done(),
        Err(_) => Err(CommandError::wrong("the order is not authorized, or has less than that left")),
    }
}

/// The answer of a call that has no result.
pub(super) fn done() -> CommandResult {
    Ok(json!({}))
}

/// [`done`], or 404 with the message `otherwise`.
pub(super) fn done_if(done: bool, otherwise: &str) -> CommandResult {
    if done { self::done() } else { Err(CommandError::unknown(otherwise)) }
}

pub(super) const NO_ORDER: &str = "there is no such order";
