//! The configuration in force.

use crate::config::Settings;
use crate::config::settings::DrainSettings;

/// The configuration in force: from the start for keys that need a restart, from the last reload for the others.
pub(super) struct ActiveConfig {
    // Boxed, because the app is moved.
    pub(super) started: Box<Settings>,
    pub(super) reloaded: Box<Settings>,
}

impl ActiveConfig {
    pub(super) fn new(settings: &Settings) -> Self {
        Self { started: Box::new(settings.clone()), reloaded: Box::new(settings.clone()) }
    }

    pub(super) fn drain(&self) -> &DrainSettings {
        &self.reloaded.drain
    }
}
