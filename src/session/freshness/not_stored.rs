//! The reasons not to store an answer.

use crate::telemetry::metrics::words;

words! {
    pub enum NotStored {
        /// The status is not 200.
        Status = "status",
        NotJson = "not-json",
        /// The content is encoded and cannot be read.
        Encoded = "encoded",
        /// The body is larger than [`MAX_BODY`](super::MAX_BODY), or a header is too long to be stored.
        TooLarge = "too-large",
        /// The body is not a session in the documented form.
        Unreadable = "unreadable",
        OtherSession = "other-session",
        /// The answer depends on request headers.
        Vary = "vary",
        NoStore = "no-store",
        NoCache = "no-cache",
        /// The origin's own freshness lifetime is over.
        Expired = "expired",
        /// `tokenize.expiration` is missing, unreadable, a zero date or implausibly far ahead.
        Expiration = "expiration",
        /// `tokenize.expiration`, less the margin, has passed.
        Tokenize = "tokenize",
        /// The session has no `tokenize`, and the configuration gives such sessions no lifetime.
        Untokenized = "untokenized",
        /// The session, its order or a token was purged after the fetch began, or may have been: the log of purges is
        /// bounded.
        Purged = "purged",
        /// A write with an unknown outcome concerns the session, its order or a token.
        Unsettled = "unsettled",
        /// A fetch that began later has already been stored.
        Superseded = "superseded",
        /// The caller asked not to store it.
        Request = "request",
    }
}

impl NotStored {
    /// Whether callers who waited for this fetch must not get the answer (RFC 9111, 5.2.2), but ask Sezzle themselves.
    pub fn forbids_sharing(self) -> bool {
        match self {
            Self::NoStore | Self::NoCache | Self::Expired | Self::Vary => true,
            Self::Status
            | Self::NotJson
            | Self::Encoded
            | Self::TooLarge
            | Self::Unreadable
            | Self::OtherSession
            | Self::Expiration
            | Self::Tokenize
            | Self::Untokenized
            | Self::Purged
            | Self::Unsettled
            | Self::Superseded
            | Self::Request => false,
        }
    }
}
