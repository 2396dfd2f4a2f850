//! Loading the key pair. An error names the file or the variable, and never what is in it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::secret::{Secret, SecretSource};

/// The merchant's key pair.
#[derive(Clone, Debug)]
pub struct KeyPair {
    /// Names the merchant.
    pub public: Secret,
    /// Proves it.
    pub private: Secret,
    /// The files or variables they came from, for messages.
    pub source: String,
}

/// A key could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file could not be read.
    #[error("{file}: cannot be read: {cause}")]
    Unreadable {
        /// The file.
        file: String,
        /// Why.
        cause: std::io::Error,
    },
    /// There is nothing in it.
    #[error("{source_name}: is empty")]
    Empty {
        /// The file or variable.
        source_name: String,
    },
    /// It is larger than any key.
    #[error("{file}: holds more than {MAX_KEY} bytes, which is no key")]
    TooLarge {
        /// The file.
        file: String,
    },
    /// It holds characters that no key has.
    #[error("{source_name}: holds white space or characters that are not printable ASCII, which no key has")]
    NotAKey {
        /// The file or variable.
        source_name: String,
    },
    /// The halves are in each other's place, or one stands in both.
    #[error("{source_name}: the public key is not where it belongs, or the private key is not")]
    Swapped {
        /// Both files or variables.
        source_name: String,
    },
    /// Anybody could replace the key.
    #[error("{file}: may be written by others than its owner (mode {mode:03o}); take that right away")]
    Writable {
        /// The file.
        file: String,
        /// Its permission bits.
        mode: u32,
    },
}

impl KeyPair {
    /// Loads both keys.
    ///
    /// # Errors
    /// The first key that cannot be used.
    pub fn load(public: &SecretSource, private: &SecretSource) -> Result<Self, KeyError> {
        let keys = Self {
            public: load(public)?,
            private: load(private)?,
            source: format!("{}, {}", name(public), name(private)),
        };
        if keys.public.expose().starts_with("sz_pr_") || keys.private.expose().starts_with("sz_pub_") {
            return Err(KeyError::Swapped { source_name: keys.source });
        }
        Ok(keys)
    }
}

const MAX_KEY: u64 = 4096;

fn name(source: &SecretSource) -> String {
    match source {
        SecretSource::Variable { name, .. } => name.clone(),
        SecretSource::File(path) => path.display().to_string(),
    }
}

/// Loads one secret. What is said of keys holds for it too: printable ASCII without white space inside.
///
/// # Errors
/// Why it cannot be used.
pub fn load(source: &SecretSource) -> Result<Secret, KeyError> {
    let source_name = name(source);
    let secret = match source {
        SecretSource::Variable { value, .. } => Secret::new(value.expose().trim().to_owned()),
        SecretSource::File(path) => read(path)?,
    };
    if secret.expose().is_empty() {
        return Err(KeyError::Empty { source_name });
    }
    if !secret.expose().bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(KeyError::NotAKey { source_name });
    }
    Ok(secret)
}

fn read(path: &Path) -> Result<Secret, KeyError> {
    let file = || path.display().to_string();
    let unreadable = |cause| KeyError::Unreadable { file: file(), cause };
    let metadata = fs::metadata(path).map_err(unreadable)?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o022 != 0 {
        return Err(KeyError::Writable { file: file(), mode });
    }
    if mode & 0o004 != 0 {
        // Kubernetes mounts secrets so by default, hence no error.
        tracing::warn!(file = file(), mode = format!("{mode:03o}"), "key file may be read by others");
    }
    if metadata.len() > MAX_KEY {
        return Err(KeyError::TooLarge { file: file() });
    }
    let content = Secret::new(fs::read_to_string(path).map_err(unreadable)?);
    Ok(Secret::new(content.expose().trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn source(directory: &tempfile::TempDir, content: &str, mode: u32) -> SecretSource {
        let path: PathBuf = directory.path().join("key");
        fs::write(&path, content).expect("writable");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("settable");
        SecretSource::File(path)
    }

    #[test]
    fn white_space_around_a_key_is_not_part_of_it() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let key = load(&source(&directory, "  sz_pr_1\r\n\n", 0o400)).expect("a key");
        assert_eq!(key.expose(), "sz_pr_1");
    }

    #[test]
    fn keys_in_each_others_place_are_noticed_before_they_are_sent() {
        let variable = |name: &str, key: &str| SecretSource::Variable {
            name: name.to_owned(),
            value: Secret::new(key.to_owned()),
        };
        for (public, private) in [("sz_pr_1", "sz_pub_1"), ("sz_pub_1", "sz_pub_1"), ("sz_pr_1", "sz_pr_1")] {
            let error = KeyPair::load(&variable("PUBLIC", public), &variable("PRIVATE", private)).expect_err(public);
            assert!(error.to_string().starts_with("PUBLIC, PRIVATE: "), "{error}");
        }
        assert!(KeyPair::load(&variable("PUBLIC", "sz_pub_1"), &variable("PRIVATE", "sz_pr_1")).is_ok());
        assert!(KeyPair::load(&variable("PUBLIC", "other"), &variable("PRIVATE", "kind")).is_ok());
    }

    #[test]
    fn errors_name_the_file_and_not_its_content() {
        let directory = tempfile::tempdir().expect("temporary directory");
        for (content, mode, expected) in [
            ("canary", 0o602, "may be written by others than its owner (mode 602)"),
            ("canary", 0o620, "may be written by others than its owner (mode 620)"),
            ("", 0o600, "is empty"),
            ("canary canary", 0o600, "white space"),
            ("canary\u{7}", 0o600, "printable"),
            (&"canary".repeat(1000), 0o600, "more than 4096 bytes"),
        ] {
            let error = load(&source(&directory, content, mode)).expect_err(expected).to_string();
            assert!(error.contains(expected) && error.contains("/key: "), "{error}");
            assert!(!error.contains("canary"), "{error}");
        }
        let missing = load(&SecretSource::File(directory.path().join("absent"))).expect_err("missing").to_string();
        assert!(missing.contains("/absent: cannot be read"), "{missing}");
    }
}
