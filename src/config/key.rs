//! One key: its properties and its value.

use crate::secret::Secret;

/// The properties of a key that a file may hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyDoc {
    /// Section and name, with a dot between them. A name may have a dot of its own, as in `proxy.tls.key_file`.
    pub key: &'static str,
    /// The default as TOML; `None` if the key is required, or if its absence has a meaning of its own.
    pub default: Option<String>,
    /// Whether the key must be set. A key for a secret's file must be set unless the secret comes by variable.
    pub required: bool,
    pub applied_by: AppliedBy,
    pub shown_to: ShownTo,
}

/// How a change of a key takes effect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AppliedBy {
    Reload,
    #[default]
    Restart,
}

/// The readers of the status page that see the value of a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ShownTo {
    #[default]
    Everybody,
    /// The page on the ops listener leaves the value out, because it identifies the merchant, or tells how callers are told
    /// apart and bounded.
    Operators,
}

/// A key with its effective value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effective {
    pub key: &'static str,
    /// The value as TOML; `None` if the key is not set. Secrets are redacted.
    pub value: Option<String>,
    /// The file or the variable that sets the value, or `default`.
    pub origin: String,
    pub shown_to: ShownTo,
}

/// The value of a secret in [`Effective`].
pub(super) const REDACTED: &str = "\"[redacted]\"";

/// The parsed value of a key. Two spellings of one value, or two sources, give the same parsed value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ParsedValue {
    /// The output of `Debug`.
    Plain(String),
    /// The secret itself, not its source.
    Secret(Secret),
}
