//! What is known of one key.

use crate::secret::Secret;

/// The properties of a key that a file may hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyDoc {
    /// Section and name, with a dot between them. A name may have a dot of its own, as in `proxy.tls.key_file`.
    pub key: &'static str,
    /// The default as TOML; none if the key is required, or if leaving it out has a meaning of its own.
    pub default: Option<String>,
    /// Whether the key must be set. A key for a secret's file must be set unless the secret comes by variable.
    pub required: bool,
    pub takes: Takes,
}

/// How a change of a key takes effect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Takes {
    Reload,
    #[default]
    Restart,
}

/// A key with its effective value as TOML, if it has a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effective {
    pub key: &'static str,
    /// `None` if the key is not set. Secrets are redacted.
    pub value: Option<String>,
    /// The file or the variable that sets the value, or `default`.
    pub origin: String,
}

/// The value of a secret in [`Effective`].
pub(super) const REDACTED: &str = "\"[redacted]\"";

/// The parsed value of a key, whatever its spelling and its source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Understood {
    /// The output of `Debug`.
    Plain(String),
    /// The secret itself, not its source.
    Secret(Secret),
}
