//! Changes of [`Options`] while the simulator runs.

use serde_json::{Map, Value};

use super::error::{CommandError, CommandResult};
use super::input::PREFIX;
use crate::simulator::options::Options;

/// Checks changes of settings. Every change is valid, or all are refused.
pub(super) fn read(wanted: Map<String, Value>) -> Result<Map<String, Value>, CommandError> {
    // The changes are tried on the defaults, because no value depends on another.
    change(&mut Options::default(), wanted.clone())?;
    Ok(wanted)
}

/// Makes changes, and returns all settings.
pub(super) fn change(options: &mut Options, changes: Map<String, Value>) -> CommandResult {
    let refused = |error| CommandError::wrong(format!("{error}; GET {PREFIX}settings shows all settings"));
    options.change(changes).map_err(refused)?;
    Ok(options.settings().into())
}
