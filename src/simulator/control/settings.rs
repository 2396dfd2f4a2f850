//! What of [`Options`] can be changed while the simulator runs.

use serde_json::Map;
use serde_json::Value;

use crate::simulator::Options;
use crate::simulator::control::Outcome;
use crate::simulator::control::PREFIX;
use crate::simulator::control::Refusal;

/// Reads what is to be changed: all of it, or nothing.
pub(super) fn read(wanted: Map<String, Value>) -> Result<Map<String, Value>, Refusal> {
    // Tried on the defaults. Which values are right does not depend on what the others are.
    change(&mut Options::default(), wanted.clone())?;
    Ok(wanted)
}

/// Makes changes, and answers all settings.
pub(super) fn change(options: &mut Options, changes: Map<String, Value>) -> Outcome {
    let refused = |error| Refusal::wrong(format!("{error}; GET {PREFIX}settings shows all settings"));
    options.change(changes).map_err(refused)?;
    Ok(options.settings().into())
}
