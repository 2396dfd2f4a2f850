//! Loads the key pair. Errors name the file or variable, never its content.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use zeroize::Zeroizing;

use crate::file::{self, Pipes, ReadError};
use crate::secret::{Secret, SecretSource};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPair {
    /// Names the merchant.
    pub public: Secret,
    /// Proves that the caller is the merchant.
    pub private: Secret,
}

/// Where the key pair comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySources {
    pub public: SecretSource,
    pub private: SecretSource,
}

/// The sources of the pair in use, and whether they can be read again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyFiles {
    pub sources: KeySources,
    /// Whether a key came through a pipe, which cannot be read again.
    pub read_once: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("{file}: {cause}")]
    Unreadable { file: String, cause: ReadError },
    #[error("{source_name}: is empty")]
    Empty {
        /// The file or variable.
        source_name: String,
    },
    /// The content has a form that no key has.
    #[error("{source_name}: {form}")]
    NotAKey {
        source_name: String,
        /// The form, without any of the content.
        form: &'static str,
    },
    #[error("{source_name}: the keys are swapped, or both are of one kind; put each key into its own place")]
    Swapped { source_name: String },
    #[error("{file}: users other than the owner may write this file (mode {mode:03o}); take that right away")]
    Writable { file: String, mode: u32 },
    #[error("{0}; {1}")]
    Both(Box<KeyError>, Box<KeyError>),
}

impl KeyError {
    /// Whether the error is only that a key came through a pipe, which is not read again.
    pub fn is_of_pipe(&self) -> bool {
        match self {
            Self::Unreadable { cause, .. } => matches!(cause, ReadError::Pipe),
            Self::Both(public, private) => public.is_of_pipe() && private.is_of_pipe(),
            _ => false,
        }
    }
}

impl KeySources {
    /// Loads both keys for the first time. Also returns whether one of them came through a pipe.
    pub fn load(&self) -> Result<(KeyPair, bool), KeyError> {
        self.read(Pipes::Wait)
    }

    /// Loads both keys again, from files or variables only.
    pub fn reload(&self) -> Result<KeyPair, KeyError> {
        self.read(Pipes::Refuse).map(|(keys, _)| keys)
    }

    fn read(&self, pipes: Pipes) -> Result<(KeyPair, bool), KeyError> {
        let key = |source| {
            let (key, from_pipe) = load(source, pipes)?;
            match mistaken(key.expose()) {
                None => Ok((key, from_pipe)),
                Some(form) => Err(KeyError::NotAKey { source_name: name(source), form }),
            }
        };
        let ((public, first), (private, second)) = match (key(&self.public), key(&self.private)) {
            (Ok(public), Ok(private)) => (public, private),
            (Err(public), Err(private)) => return Err(KeyError::Both(Box::new(public), Box::new(private))),
            (Err(error), Ok(_)) | (Ok(_), Err(error)) => return Err(error),
        };
        if public.expose().starts_with(PRIVATE) || private.expose().starts_with(PUBLIC) {
            return Err(KeyError::Swapped { source_name: self.name() });
        }
        Ok((KeyPair { public, private }, first || second))
    }

    /// Logs a warning for each file that everybody may read. No error, because Kubernetes mounts secrets like that.
    pub fn warn_of_readers(&self) {
        [&self.public, &self.private].into_iter().for_each(warn_of_readers);
    }

    /// For each key that does not look like one of Sezzle's, a sentence that says so. Only Sezzle knows for sure.
    pub fn doubts(&self, keys: &KeyPair) -> Vec<String> {
        let both = [(&self.public, &keys.public, PUBLIC), (&self.private, &keys.private, PRIVATE)];
        let doubt = |(source, key, start)| Some(format!("{}: {}", name(source), doubt(key, start)?));
        both.into_iter().filter_map(doubt).collect()
    }

    pub fn has_file(&self) -> bool {
        [&self.public, &self.private].into_iter().any(|source| matches!(source, SecretSource::File(_)))
    }

    /// The files or variables, for messages.
    pub fn name(&self) -> String {
        format!("{}, {}", name(&self.public), name(&self.private))
    }
}

impl KeyFiles {
    /// Whether the keys may change while the process runs.
    pub fn may_change(&self) -> bool {
        self.sources.has_file() && !self.read_once
    }
}

const MAX_KEY: usize = 4096;
const PUBLIC: &str = "sz_pub_";
const PRIVATE: &str = "sz_pr_";

fn name(source: &SecretSource) -> String {
    match source {
        SecretSource::Variable { name, .. } => name.clone(),
        SecretSource::File(path) => path.display().to_string(),
    }
}

/// Loads one secret, and warns if everybody may read its file. A secret is printable ASCII without inner white space.
pub fn load_one(source: &SecretSource) -> Result<Secret, KeyError> {
    let (secret, _) = load(source, Pipes::Wait)?;
    warn_of_readers(source);
    Ok(secret)
}

/// Loads one secret again, from a file or a variable only.
pub fn load_again(source: &SecretSource) -> Result<Secret, KeyError> {
    load(source, Pipes::Refuse).map(|(secret, _)| secret)
}

/// The secret, and whether it came through a pipe.
fn load(source: &SecretSource, pipes: Pipes) -> Result<(Secret, bool), KeyError> {
    let source_name = name(source);
    let (text, from_pipe) = match source {
        SecretSource::Variable { value, .. } => (Zeroizing::new(value.expose().to_owned()), false),
        SecretSource::File(path) => read(path, pipes)?,
    };
    let text = text.trim();
    if text.is_empty() {
        return Err(KeyError::Empty { source_name });
    }
    if let Some(form) = unprintable(text).or_else(|| spaced(text)) {
        return Err(KeyError::NotAKey { source_name, form });
    }
    Ok((Secret::new(text.to_owned()), from_pipe))
}

fn read(path: &Path, pipes: Pipes) -> Result<(Zeroizing<String>, bool), KeyError> {
    let name = || path.display().to_string();
    let content = file::read(path, MAX_KEY, pipes).map_err(|cause| KeyError::Unreadable { file: name(), cause })?;
    if content.mode & 0o022 != 0 && !content.bytes.is_empty() {
        return Err(KeyError::Writable { file: name(), mode: content.mode });
    }
    match str::from_utf8(&content.bytes) {
        Ok(text) => Ok((Zeroizing::new(text.to_owned()), content.from_pipe)),
        Err(_) => Err(KeyError::NotAKey { source_name: name(), form: encoding(&content.bytes) }),
    }
}

/// The form of bytes that are not UTF-8.
fn encoding(bytes: &[u8]) -> &'static str {
    match bytes {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => UTF_16,
        _ => UNPRINTABLE,
    }
}

fn unprintable(text: &str) -> Option<&'static str> {
    if text.starts_with('\u{feff}') {
        return Some("begins with a byte order mark, as some editors save text; save it as plain text (ASCII)");
    }
    if text.contains('\0') {
        return Some(UTF_16);
    }
    let plain = |c: char| c.is_ascii_graphic() || c.is_ascii_whitespace();
    (!text.chars().all(plain)).then_some(UNPRINTABLE)
}

fn spaced(text: &str) -> Option<&'static str> {
    text.contains(char::is_whitespace).then_some("holds white space between other characters, which no key has")
}

const UTF_16: &str = "is UTF-16, as some editors save text; save it as plain text (ASCII)";
const UNPRINTABLE: &str = "holds characters that are not printable ASCII, which no key has";

/// Detects forms in which keys are often given by mistake, and which Sezzle would only reject. A key begins with
/// `sz_pub_` or `sz_pr_`; text without either beginning is left to Sezzle to judge.
fn mistaken(text: &str) -> Option<&'static str> {
    let at = |text: &str| [PUBLIC, PRIVATE].iter().filter_map(|start| text.find(start)).min();
    match at(text) {
        Some(_) if text.starts_with(QUOTES) || text.ends_with(QUOTES) => {
            Some("holds quotes around the key, which would be sent as a part of it; write the key without them")
        }
        Some(0) => None,
        Some(before) if text.get(..before).is_some_and(|before| before.ends_with('=')) => {
            Some("holds NAME=KEY, as a file of variables does; write the key alone")
        }
        Some(_) => Some("holds something before the key, which would be sent as a part of it; write the key alone"),
        None => {
            let decoded = Zeroizing::new(BASE64.decode(text).unwrap_or_default());
            let holds_key = str::from_utf8(&decoded).is_ok_and(|decoded| at(decoded).is_some());
            holds_key.then_some("holds a key in base64, perhaps encoded once too often; write the key itself")
        }
    }
}

/// The oddity of a key that should begin with `start`.
fn doubt(key: &Secret, start: &str) -> Option<String> {
    let key = key.expose();
    let form = match key {
        _ if key.starts_with(start) => return None,
        _ if key.starts_with(QUOTES) || key.ends_with(QUOTES) => "; write the key without quotes",
        _ if key.contains('=') => "; if this is NAME=KEY, write the key alone",
        _ => "",
    };
    Some(format!("the key does not begin with {start}, as Sezzle's keys do, so Sezzle will probably reject it{form}"))
}

const QUOTES: [char; 2] = ['"', '\''];
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Logs a warning if everybody may read the file of a secret.
pub fn warn_of_readers(source: &SecretSource) {
    let SecretSource::File(path) = source else { return };
    let Ok(metadata) = fs::metadata(path) else { return };
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o004 != 0 {
        tracing::warn!(file = %path.display(), mode = format!("{mode:03o}"), "everybody may read this key file");
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn variable(name: &str, key: &str) -> SecretSource {
        SecretSource::Variable { name: name.to_owned(), value: Secret::new(key.to_owned()) }
    }

    fn source(directory: &tempfile::TempDir, content: &str, mode: u32) -> SecretSource {
        let path: PathBuf = directory.path().join("key");
        fs::write(&path, content).expect("writable");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("settable");
        SecretSource::File(path)
    }

    #[test]
    fn a_key_of_another_form_is_doubted_and_not_shown() {
        let sources = KeySources { public: variable("PUBLIC", ""), private: variable("PRIVATE", "") };
        let doubts = |public: &str, private: &str| {
            let secret = |text: &str| Secret::new(text.to_owned());
            sources.doubts(&KeyPair { public: secret(public), private: secret(private) })
        };
        assert_eq!(doubts("sz_pub_1", "sz_pr_1"), [""; 0]);
        let odd = doubts("\"canary\"", "private_key=canary");
        assert_eq!(odd.len(), 2);
        assert!(odd[0].starts_with("PUBLIC: the key does not begin with sz_pub_") && odd[0].contains("without quotes"));
        assert!(odd[1].starts_with("PRIVATE: the key does not begin with sz_pr_") && odd[1].contains("NAME=KEY"));
        assert!(!odd.concat().contains("canary"), "{odd:?}");
        assert_eq!(doubts("canary", "sz_pr_1").len(), 1);
    }

    #[test]
    fn white_space_around_a_key_is_not_part_of_it() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let key = load_one(&source(&directory, "  sz_pr_1\r\n\n", 0o400)).expect("a key");
        assert_eq!(key.expose(), "sz_pr_1");
    }

    #[test]
    fn keys_in_each_others_place_are_noticed_before_they_are_sent() {
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
            ("canary", 0o602, "users other than the owner may write this file (mode 602)"),
            ("canary", 0o620, "users other than the owner may write this file (mode 620)"),
            ("", 0o600, "is empty"),
            ("canary canary", 0o600, "white space"),
            ("canary\u{7}", 0o600, "printable"),
            (&"canary".repeat(1000), 0o600, "more than 4096 bytes"),
        ] {
            let error = load_one(&source(&directory, content, mode)).expect_err(expected).to_string();
            assert!(error.contains(expected) && error.contains("/key: "), "{error}");
            assert!(!error.contains("canary"), "{error}");
        }
        let missing = load_one(&SecretSource::File(directory.path().join("absent"))).expect_err("missing").to_string();
        assert!(missing.contains("/absent: cannot be read"), "{missing}");
    }

    #[test]
    fn forms_that_keys_are_given_in_by_mistake_are_told_apart() {
        for (text, expected) in [
            ("\"sz_pr_1\"", "quotes"),
            ("'sz_pr_1'", "quotes"),
            ("sz_pr_1\"", "quotes"),
            ("PRIVATE_KEY=sz_pr_1", "NAME=KEY"),
            ("PRIVATE_KEY=\"sz_pr_1\"", "quotes"),
            ("{\"private_key\":\"sz_pr_1\"}", "before the key"),
            ("c3pfcHJfMTIz", "base64"),
            ("c3pfcHJfMQ==", "base64"),
            ("c3pfcHJfMQ", "base64"),
            ("\u{feff}sz_pr_1", "byte order mark"),
            ("s\0z\0_\0", "UTF-16"),
            ("sz_pr_1\u{e9}", "printable"),
            ("export KEY=sz_pr_1", "white space"),
        ] {
            let sources = KeySources { public: variable("PUBLIC", "sz_pub_1"), private: variable("PRIVATE", text) };
            let error = sources.load().expect_err(text).to_string();
            assert!(error.starts_with("PRIVATE: ") && error.contains(expected), "{text}: {error}");
            assert!(!error.contains("sz_pr") && !error.contains("c3pf"), "{error}");
        }
        for key in ["sz_pr_1", "other", "a=b", "MQ==", "'other'"] {
            assert_eq!(mistaken(key), None, "{key}");
        }
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("key");
        fs::write(&path, b"\xff\xfes\0z\0").expect("writable");
        let error = load_one(&SecretSource::File(path)).expect_err("UTF-16").to_string();
        assert!(error.contains("is UTF-16"), "{error}");
    }

    #[test]
    fn both_keys_are_named_when_neither_can_be_used() {
        let absent = |name: &str| SecretSource::File(format!("/absent/{name}").into());
        let error =
            KeySources { public: absent("one"), private: absent("two") }.load().expect_err("absent").to_string();
        assert!(error.contains("/absent/one: cannot be read") && error.contains("; /absent/two: "), "{error}");
    }

    #[test]
    fn what_is_no_file_any_more_is_not_read_again() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let public = source(&directory, "sz_pub_1", 0o400);
        let folder = KeySources { public: public.clone(), private: SecretSource::File(directory.path().to_owned()) };
        let error = folder.reload().expect_err("a directory");
        assert!(error.to_string().ends_with("is a directory, and not a file") && !error.is_of_pipe(), "{error}");
        let mixed = KeySources { public, private: variable("PRIVATE", "sz_pr_1") };
        assert!(mixed.has_file() && mixed.reload().is_ok());
    }
}
