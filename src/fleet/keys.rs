//! The keys that seal shared bodies, and the file that holds them. Errors name the file and the line, never the
//! content.

use std::fmt;
use std::path::Path;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use zeroize::Zeroizing;

use crate::file::{self, Pipes, ReadError};

/// The keys of a fleet. The first key seals, and all keys open. To replace a key, operators first add the new key
/// behind the others at every pod, then move it to the front, and then remove the old key.
pub struct Keys {
    seals: SealKey,
    others: Vec<SealKey>,
}

/// One key. The library wipes it when it is dropped.
pub struct SealKey(hmac::Key);

#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    #[error("{file}: {cause}")]
    Unreadable { file: String, cause: ReadError },
    #[error("{file}: users other than the owner may write this file (mode {mode:03o}); take that right away")]
    Writable { file: String, mode: u32 },
    #[error("{file}: holds no key; write one with `openssl rand -base64 32`")]
    Empty { file: String },
    #[error("{file}, line {line}: {form}")]
    Line {
        file: String,
        line: usize,
        /// The mistake, without any of the content.
        form: &'static str,
    },
}

impl KeyFileError {
    /// Whether the error is only that the keys came through a pipe, which is not read again.
    pub fn is_of_pipe(&self) -> bool {
        matches!(self, Self::Unreadable { cause: ReadError::Pipe, .. })
    }
}

impl Keys {
    /// Reads a file of one to four lines, each of which is a key of 32 bytes in base64. Blocks as [`file::read`] does.
    pub fn read(path: &Path, pipes: Pipes) -> Result<Self, KeyFileError> {
        let name = || path.display().to_string();
        let content =
            file::read(path, MOST_BYTES, pipes).map_err(|cause| KeyFileError::Unreadable { file: name(), cause })?;
        if content.mode & 0o022 != 0 && !content.bytes.is_empty() {
            return Err(KeyFileError::Writable { file: name(), mode: content.mode });
        }
        Self::parse(&content.bytes, &name())
    }

    /// Reads the content of the key file of this name.
    pub fn parse(content: &[u8], name: &str) -> Result<Self, KeyFileError> {
        let mut seen: Vec<Zeroizing<[u8; SIZE]>> = Vec::with_capacity(MOST);
        for (index, line) in content.split(|byte| *byte == b'\n').enumerate() {
            let line = line.trim_ascii();
            if line.is_empty() {
                continue;
            }
            let mistake = |form| Err(KeyFileError::Line { file: name.to_owned(), line: index.saturating_add(1), form });
            let Some(key) = decode(line) else { return mistake(NO_KEY) };
            if seen.contains(&key) {
                return mistake("repeats the key of an earlier line");
            }
            if seen.len() == MOST {
                return mistake("is a fifth key, and the file may hold four");
            }
            seen.push(key);
        }
        let mut keys = seen.iter().map(|key| SealKey(hmac::Key::new(hmac::HMAC_SHA256, &**key)));
        match keys.next() {
            Some(seals) => Ok(Self { seals, others: keys.collect() }),
            None => Err(KeyFileError::Empty { file: name.to_owned() }),
        }
    }

    /// The key that seals.
    pub fn first(&self) -> &SealKey {
        &self.seals
    }

    /// Whether both have the same keys in the same order.
    pub fn equal(&self, other: &Self) -> bool {
        let proof = |key: &SealKey| key.of_body(&[0; SALT]);
        let pairs = self.all().zip(other.all());
        self.others.len() == other.others.len()
            && pairs.into_iter().all(|(one, other)| proof(one).as_ref() == proof(other).as_ref())
    }

    /// All keys, the one that seals first.
    pub fn all(&self) -> impl Iterator<Item = &SealKey> {
        std::iter::once(&self.seals).chain(&self.others)
    }
}

impl SealKey {
    /// The key of one body, made from the salt of that body.
    pub fn of_body(&self, salt: &[u8; SALT]) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(PURPOSE);
        context.update(salt);
        context.sign()
    }
}

/// Random bytes from which the key of one body is made.
pub const SALT: usize = 32;

// A second use of the same key file would need another text.
const PURPOSE: &[u8] = b"szs1 body";

const NO_KEY: &str = "is not a key: 32 random bytes in base64, as `openssl rand -base64 32` writes";

const SIZE: usize = 32;
// The key that seals, the next key, the previous key, and one to spare.
const MOST: usize = 4;
const MOST_BYTES: usize = 1024;

fn decode(line: &[u8]) -> Option<Zeroizing<[u8; SIZE]>> {
    // Twice the room of a key, because the decoder asks for more than it fills. A line that fills more is no key.
    let mut room = Zeroizing::new([0; 2 * SIZE]);
    let length = BASE64.decode_slice(line, &mut *room).ok().filter(|length| *length == SIZE)?;
    let mut key = Zeroizing::new([0; SIZE]);
    key.copy_from_slice(room.get(..length)?);
    Some(key)
}

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.all()).finish()
    }
}

impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

#[cfg(test)]
pub mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// Keys of these bytes each.
    pub fn keys(bytes: &[u8]) -> Keys {
        Keys::parse(lines(bytes).as_bytes(), "test").expect("keys")
    }

    /// A file of keys of these bytes each.
    pub fn lines(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{}\n", line(*byte))).collect()
    }

    fn line(byte: u8) -> String {
        BASE64.encode([byte; SIZE])
    }

    fn count(content: &str) -> usize {
        Keys::parse(content.as_bytes(), "test").expect("keys").all().count()
    }

    #[test]
    fn a_file_holds_one_to_four_keys() {
        let [a, b, c, d] = [1, 2, 3, 4].map(line);
        assert_eq!(count(&a), 1);
        assert_eq!(count(&format!("{a}\n")), 1);
        assert_eq!(count(&format!("{a}\r\n  {b} \r\n\n")), 2);
        assert_eq!(count(a.trim_end_matches('=')), 1, "without padding");
        assert_eq!(count(&[a, b, c, d].join("\n")), 4);
    }

    #[test]
    fn the_first_key_seals() {
        let [one, swapped] = [[1, 2], [2, 1]].map(|bytes| keys(&bytes));
        let of = |key: &SealKey| key.of_body(&[9; SALT]).as_ref().to_vec();
        assert_eq!(of(one.first()), of(swapped.all().nth(1).expect("a second")));
        assert_ne!(of(one.first()), of(swapped.first()));
        assert_ne!(of(one.first()), one.first().of_body(&[8; SALT]).as_ref(), "each body has a key of its own");
    }

    #[test]
    fn a_mistake_is_named_by_file_and_line_and_shows_no_key() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("fleet-key");
        let [a, b, c, d, e] = [1, 2, 3, 4, 5].map(line);
        let short = BASE64.encode([7; 31]);
        let long = BASE64.encode([7; 64]);
        let rows = [
            (String::new(), ": holds no key"),
            (" \n\n".to_owned(), ": holds no key"),
            (short.clone(), ", line 1: is not a key"),
            (format!("{a}\n{long}"), ", line 2: is not a key"),
            (format!("{a}\n\n# the next\n{b}"), ", line 3: is not a key"),
            (format!("{a}\n{}", hex::encode([7; 32])), ", line 2: is not a key"),
            (format!("{a}\n{b}\n{a}"), ", line 3: repeats"),
            ([&a, &b, &c, &d, &e].map(String::as_str).join("\n"), ", line 5: is a fifth key"),
            (format!("{a}{a}"), ", line 1: is not a key"),
            ("x".repeat(MOST_BYTES + 1), ": cannot be read: holds more than"),
        ];
        for (content, expected) in rows {
            fs::write(&path, &content).expect("written");
            let error = Keys::read(&path, Pipes::Refuse).expect_err(expected).to_string();
            assert!(error.starts_with(&format!("{}{expected}", path.display())), "{error}");
            for key in [&a, &b, &short, &long] {
                assert!(!error.contains(key.trim_end_matches('=')), "{error}");
            }
        }
        fs::write(&path, &a).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).expect("set");
        assert!(Keys::read(&path, Pipes::Refuse).expect_err("writable").to_string().contains("mode 666"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).expect("set");
        assert_eq!(Keys::read(&path, Pipes::Refuse).expect("keys").all().count(), 1);
    }

    #[test]
    fn keys_are_not_printed() {
        assert_eq!(format!("{:?}", keys(&[1, 2])), "[[redacted], [redacted]]");
    }
}
