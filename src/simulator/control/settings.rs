//! Changes of [`Options`] while the simulator runs.

use serde_json::{Map, Value};

use super::error::{CommandError, CommandResult};
use super::input::PREFIX;
use crate::simulator::options::Options;

/// Reads changes of settings: all of them, or none.
pub(super) fn read(wanted: Map<String, Value>) -> Result<Map<String, Value>, CommandError> {
    // The defaults serve for the trial, since no value is right or wrong by another one.
    change(&mut Options::default(), wanted.clone())?;
    Ok(wanted)
}

/// Makes changes, and answers all settings.
pub(super) fn change(options: &mut Options, changes: Map<String, Value>) -> CommandResult {
    let refused = |error| CommandError::wrong(format!("{error}; GET {PREFIX}settings shows all settings"));
    options.change(changes).map_err(refused)?;
    Ok(options.settings().into())
}
