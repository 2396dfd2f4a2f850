//! Values that must never be printed: a type without `Display` or `Serialize`, wiped when dropped.

use std::fmt;
use std::path::PathBuf;

use zeroize::Zeroizing;

/// A key or a password. `Debug` shows a fixed placeholder; the value leaves only through [`Secret::expose`].
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    pub fn new(value: String) -> Self {
        Self(Zeroizing::new(value))
    }

    /// The plain value, for the one place that has to send or compare it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// Where a secret comes from. The file is read when the secret is needed, and again when it rotates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    /// A file whose whole content, less white space at its end, is the secret.
    File(PathBuf),
    /// An environment variable, read once at start.
    Variable { name: String, value: Secret },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_a_placeholder_only() {
        let secret = Secret::new("sz_pr_canary".to_owned());
        assert_eq!(format!("{secret:?}"), "[redacted]");
        let source = SecretSource::Variable { name: "KEY".to_owned(), value: secret };
        assert!(!format!("{source:?}").contains("canary"));
    }
}
