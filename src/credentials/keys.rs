//! Loading the key pair. An error names the file or the variable, and never what is in it.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::secret::{Secret, SecretSource};

/// The merchant's key pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPair {
    /// Names the merchant.
    pub public: Secret,
    /// Proves it.
    pub private: Secret,
}

/// Where the key pair comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySources {
    /// Of the public key.
    pub public: SecretSource,
    /// Of the private key.
    pub private: SecretSource,
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
    /// It was a file, and is something else now.
    #[error("{file}: is not a regular file any more")]
    NotAFile {
        /// The path.
        file: String,
    },
}

impl KeySources {
    /// Loads both keys.
    ///
    /// # Errors
    /// The first key that cannot be used.
    pub fn load(&self) -> Result<KeyPair, KeyError> {
        let keys = KeyPair { public: load(&self.public)?, private: load(&self.private)? };
        if keys.public.expose().starts_with("sz_pr_") || keys.private.expose().starts_with("sz_pub_") {
            return Err(KeyError::Swapped { source_name: self.name() });
        }
        Ok(keys)
    }

    /// Loads both keys again. What is no file any more is not opened, since that may never come to an end.
    ///
    /// # Errors
    /// The first key that cannot be used.
    pub fn reload(&self) -> Result<KeyPair, KeyError> {
        for path in self.paths() {
            if is_no_file(path) {
                return Err(KeyError::NotAFile { file: path.display().to_string() });
            }
        }
        self.load()
    }

    /// Says of each file that everybody may read. Kubernetes mounts secrets so by default, hence no error.
    pub fn warn_of_readers(&self) {
        self.paths().for_each(warn_of_readers);
    }

    /// The files whose content may change. None where one is a pipe or the like, which can be read only once.
    pub fn files(&self) -> Vec<PathBuf> {
        let regular = !self.paths().any(is_no_file);
        self.paths().filter(|_| regular).map(Path::to_owned).collect()
    }

    /// The files or variables, for messages.
    pub fn name(&self) -> String {
        format!("{}, {}", name(&self.public), name(&self.private))
    }

    fn paths(&self) -> impl Iterator<Item = &Path> {
        [&self.public, &self.private].into_iter().filter_map(|source| match source {
            SecretSource::File(path) => Some(path.as_path()),
            SecretSource::Variable { .. } => None,
        })
    }
}

const MAX_KEY: usize = 4096;

fn name(source: &SecretSource) -> String {
    match source {
        SecretSource::Variable { name, .. } => name.clone(),
        SecretSource::File(path) => path.display().to_string(),
    }
}

/// Loads one secret, and warns when everybody may read its file. What is said of keys holds for it too: printable ASCII
/// without white space inside.
///
/// # Errors
/// Why it cannot be used.
pub fn load_one(source: &SecretSource) -> Result<Secret, KeyError> {
    let secret = load(source)?;
    if let SecretSource::File(path) = source {
        warn_of_readers(path);
    }
    Ok(secret)
}

fn load(source: &SecretSource) -> Result<Secret, KeyError> {
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
    let name = || path.display().to_string();
    let unreadable = |cause| KeyError::Unreadable { file: name(), cause };
    let file = File::open(path).map_err(unreadable)?;
    // Of what was opened: another file may have its name by now.
    let mode = file.metadata().map_err(unreadable)?.permissions().mode() & 0o777;
    if mode & 0o022 != 0 {
        return Err(KeyError::Writable { file: name(), mode });
    }
    // Never moved while it grows, or pieces of the key would stay behind in memory.
    let mut content = Zeroizing::new(String::with_capacity(2 * MAX_KEY));
    file.take(MAX_KEY as u64 + 1).read_to_string(&mut content).map_err(unreadable)?;
    if content.len() > MAX_KEY {
        return Err(KeyError::TooLarge { file: name() });
    }
    Ok(Secret::new(content.trim().to_owned()))
}

/// Whether there is something else by this name.
fn is_no_file(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| !metadata.is_file())
}

fn warn_of_readers(path: &Path) {
    let Ok(metadata) = fs::metadata(path) else { return };
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o004 != 0 {
        tracing::warn!(file = %path.display(), mode = format!("{mode:03o}"), "key file may be read by others");
    }
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
        let pair =
            |public, private| KeySources { public: variable("PUBLIC", public), private: variable("PRIVATE", private) };
        for (public, private) in [("sz_pr_1", "sz_pub_1"), ("sz_pub_1", "sz_pub_1"), ("sz_pr_1", "sz_pr_1")] {
            let error = pair(public, private).load().expect_err(public);
            assert!(error.to_string().starts_with("PUBLIC, PRIVATE: "), "{error}");
        }
        assert!(pair("sz_pub_1", "sz_pr_1").load().is_ok());
        assert!(pair("other", "kind").load().is_ok());
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

    #[test]
    fn a_pipe_is_read_once_and_never_again() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let public = source(&directory, "sz_pub_1", 0o400);
        let private = SecretSource::File("/dev/null".into());
        assert!(KeySources { public: public.clone(), private: private.clone() }.files().is_empty());
        let error = KeySources { public: public.clone(), private }.reload().expect_err("no file").to_string();
        assert_eq!(error, "/dev/null: is not a regular file any more");
        let variable = SecretSource::Variable { name: "PRIVATE".to_owned(), value: Secret::new("sz_pr_1".to_owned()) };
        let mixed = KeySources { public, private: variable };
        assert_eq!(mixed.files(), [directory.path().join("key")], "a variable cannot change, the file beside it can");
        assert!(mixed.reload().is_ok());
    }
}
