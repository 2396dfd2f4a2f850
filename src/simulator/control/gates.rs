//! Gates with names, for callers of the control interface, who cannot hold a [`Gate`].

use std::collections::HashMap;

use serde_json::json;

use super::error::{CommandError, CommandResult};
use crate::simulator::gate::Gate;

#[derive(Debug, Default)]
pub(in crate::simulator) struct Gates(HashMap<String, Gate>);

impl Gates {
    /// The closed gate of this name. Makes a new gate if there is none, or if it was released.
    pub(in crate::simulator) fn closed(&mut self, name: String) -> Result<Gate, CommandError> {
        if let Some(gate) = self.0.get(&name).filter(|gate| !gate.is_open()) {
            return Ok(gate.clone());
        }
        if self.0.len() >= MAX_GATES {
            self.0.retain(|_, gate| !gate.is_open());
        }
        if self.0.len() >= MAX_GATES {
            return Err(CommandError::wrong(format!("{MAX_GATES} gates are closed; release some first")));
        }
        let gate = Gate::new();
        self.0.insert(name, gate.clone());
        Ok(gate)
    }

    pub(super) fn show(&self, name: &str) -> CommandResult {
        let gate = self.find(name)?;
        Ok(json!({"arrived": gate.arrivals(), "open": gate.is_open()}))
    }

    pub(super) fn release(&self, name: &str) -> CommandResult {
        self.find(name)?.release();
        self.show(name)
    }

    /// Releases and forgets every gate.
    pub(in crate::simulator) fn clear(&mut self) {
        for (_, gate) in self.0.drain() {
            gate.release();
        }
    }

    fn find(&self, name: &str) -> Result<&Gate, CommandError> {
        self.0.get(name).ok_or_else(|| CommandError::unknown("no rule has named such a gate"))
    }
}

/// A name that needs no encoding in a path.
pub(super) fn name(text: String) -> Result<String, CommandError> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if (1..=MAX_NAME).contains(&text.len()) && text.chars().all(fits) {
        Ok(text)
    } else {
        Err(CommandError::wrong(format!("gate: expected 1 to {MAX_NAME} letters, digits, - _ or ., found {text:?}")))
    }
}

const MAX_NAME: usize = 64;
/// The most gates: two for each rule.
const MAX_GATES: usize = 200;
