//! The classes of calls, which share limits.

use crate::telemetry::metrics::words;

words! {
    /// Classes of calls, by the cost of a wait and by the harm of a second call.
    #[derive(Hash)]
    pub enum Class {
        /// The cached lookup.
        Session = "session",
        /// Other lookups.
        Read = "read",
        /// Long lists and files.
        Report = "report",
        /// Writes, which may move money, and the read of a card, which cannot be undone either.
        Money = "money",
        Webhooks = "webhooks",
        /// The token exchange.
        Credentials = "credentials",
    }
}
