//! How a reload of the configuration ends.

use super::words;

words! {
    /// `result` of `config_reloads_total`.
    pub enum ConfigReload {
        /// The whole configuration is in force.
        Success = "success",
        /// The configuration is in force, except for keys that need a restart.
        NeedsRestart = "needs_restart",
        /// The configuration has mistakes, and the old one stays in force.
        Failed = "failed",
    }
}
