//! Seals a stored session for the other pods, and opens the sessions that they sealed. Pure: randomness is an argument.
//!
//! A sealed body begins with its version, its dictionary, its salt and its facts. Behind these the answer follows,
//! compressed and encrypted. The name of the Redis key and everything before the answer are authenticated with it, so
//! a body that was changed, or moved to another key, does not open.

use std::sync::LazyLock;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use bytes::Bytes;
use zstd::bulk::{Compressor, Decompressor};
use zstd::dict::{DecoderDictionary, EncoderDictionary};

use super::body::{Answer, Facts, MAX_ANSWER, SharedBody};
use super::keys::{Keys, SALT, SealKey};

/// Why a body was not sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The answer, its headers included, is larger than [`MAX_ANSWER`], or a fact has no room.
    #[error("the answer is too large to be shared")]
    TooLarge,
    /// The library refused, as it does only without memory.
    #[error("the answer could not be compressed or encrypted")]
    Failed,
}

/// Why a sealed body did not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnsealError {
    /// A body of another version, or no body at all.
    #[error("the bytes are no sealed body of this version")]
    Form,
    /// No key opens the body: it was sealed with another key or for another place, or was changed.
    #[error("no key opens the body")]
    Key,
    /// A key opens the body, but this version does not write such content.
    #[error("the content of the body cannot be read")]
    Content,
}

/// Seals a body for the Redis key `name`. The salt has to be random, because it gives each body a key of its own.
pub fn seal(body: &SharedBody, keys: &Keys, name: &str, salt: [u8; SALT]) -> Result<Vec<u8>, SealError> {
    let facts = body.facts.encode().ok_or(SealError::TooLarge)?;
    let answer = body.answer.encode().ok_or(SealError::TooLarge)?;
    let mut sealed = [&[VERSION, DICTIONARY][..], &salt, &facts].concat();
    let key = cipher(keys.first(), &salt).ok_or(SealError::Failed)?;
    let mut content = compress(&answer).ok_or(SealError::Failed)?;
    let place = Aad::from(place(name, &sealed));
    key.seal_in_place_append_tag(nonce(), place, &mut content).map_err(|_| SealError::Failed)?;
    sealed.append(&mut content);
    Ok(sealed)
}

/// Opens the bytes that were read at the Redis key `name`.
pub fn unseal(sealed: &[u8], keys: &Keys, name: &str) -> Result<SharedBody, UnsealError> {
    let (salt, rest) = match sealed {
        [VERSION, DICTIONARY, rest @ ..] => rest.split_first_chunk().ok_or(UnsealError::Form)?,
        _ => return Err(UnsealError::Form),
    };
    let (facts, content) = Facts::decode(rest).ok_or(UnsealError::Form)?;
    let before = sealed.len().checked_sub(content.len()).and_then(|length| sealed.get(..length));
    let place = place(name, before.unwrap_or_default());
    let content = keys.all().find_map(|key| {
        let mut content = content.to_vec();
        let opened = cipher(key, salt)?.open_in_place(nonce(), Aad::from(&place), &mut content).ok()?.len();
        content.truncate(opened);
        Some(content)
    });
    let content = content.ok_or(UnsealError::Key)?;
    let answer = decompress(&content).and_then(|answer| Answer::decode(&Bytes::from(answer)));
    Ok(SharedBody { facts, answer: answer.ok_or(UnsealError::Content)? })
}

// Zero is no version, so that a zeroed value does not open.
const VERSION: u8 = 1;

fn cipher(key: &SealKey, salt: &[u8; SALT]) -> Option<LessSafeKey> {
    Some(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key.of_body(salt).as_ref()).ok()?))
}

/// Each key seals one body only, so all bodies can have the same nonce.
fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

/// The text that is authenticated with the answer. The length of the name keeps the two parts apart.
fn place(name: &str, before: &[u8]) -> Vec<u8> {
    let length = u64::try_from(name.len()).unwrap_or(u64::MAX);
    [&length.to_be_bytes(), name.as_bytes(), before].concat()
}

/// The name of the dictionary in force. Another dictionary takes the next number: pods of two versions share bodies
/// only if they know both.
const DICTIONARY: u8 = 1;

/// Text that answers have in common. `benches/dictionary/train` makes the file.
static DICTIONARY_1: &[u8] = include_bytes!("dictionary-1.bin");

// Higher levels save one byte in twenty, and take ten times as long.
const LEVEL: i32 = 3;

fn compress(plain: &[u8]) -> Option<Vec<u8>> {
    static PREPARED: LazyLock<EncoderDictionary<'static>> =
        LazyLock::new(|| EncoderDictionary::copy(DICTIONARY_1, LEVEL));
    let mut compressor = Compressor::with_prepared_dictionary(&PREPARED).ok()?;
    // The sealed body names the dictionary, and the encryption finds every change.
    compressor.include_dictid(false).ok()?;
    compressor.include_checksum(false).ok()?;
    compressor.compress(plain).ok()
}

fn decompress(content: &[u8]) -> Option<Vec<u8>> {
    static PREPARED: LazyLock<DecoderDictionary<'static>> = LazyLock::new(|| DecoderDictionary::copy(DICTIONARY_1));
    Decompressor::with_prepared_dictionary(&PREPARED).ok()?.decompress(content, MAX_ANSWER).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fleet::body::tests::{answer, facts};
    use crate::fleet::keys::tests::keys;

    const NAME: &str = "szs1:{00ff}:b:run.history:log:session";

    fn body() -> SharedBody {
        SharedBody { facts: facts(), answer: answer() }
    }

    fn sealed(keys: &Keys) -> Vec<u8> {
        seal(&body(), keys, NAME, [5; SALT]).expect("sealed")
    }

    #[test]
    fn what_is_sealed_opens_at_its_own_place_only() {
        let keys = keys(&[1]);
        let sealed = sealed(&keys);
        assert_eq!(unseal(&sealed, &keys, NAME), Ok(body()));
        for other in ["", "szs1:{00ff}:b:run.history:log:sessioN", "szs1:{00ff}:b:run.history:log:sessio"] {
            assert_eq!(unseal(&sealed, &keys, other), Err(UnsealError::Key), "{other}");
        }
    }

    #[test]
    fn no_changed_bit_and_no_missing_byte_goes_unnoticed() {
        let keys = keys(&[1]);
        let sealed = sealed(&keys);
        for bit in 0..sealed.len() * 8 {
            let mut changed = sealed.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let expected = if bit < 16 { &[UnsealError::Form][..] } else { &[UnsealError::Form, UnsealError::Key] };
            let found = unseal(&changed, &keys, NAME).expect_err("changed");
            assert!(expected.contains(&found), "bit {bit}: {found}");
        }
        for length in 0..sealed.len() {
            assert!(unseal(&sealed[..length], &keys, NAME).is_err(), "{length} bytes");
        }
        assert_eq!(unseal(&[&sealed[..], &[0]].concat(), &keys, NAME), Err(UnsealError::Key));
    }

    #[test]
    fn a_key_is_replaced_without_a_miss() {
        // Old alone, the new one added behind, moved to the front, new alone.
        let [old, added, moved, new] = [&[1][..], &[1, 2], &[2, 1], &[2]].map(keys);
        for (sealing, opening) in [(&old, &added), (&added, &old), (&added, &moved), (&moved, &added), (&moved, &new)] {
            assert_eq!(unseal(&sealed(sealing), opening, NAME), Ok(body()));
        }
        assert_eq!(unseal(&sealed(&old), &new, NAME), Err(UnsealError::Key));
    }

    #[test]
    fn each_salt_seals_with_another_key() {
        let keys = keys(&[1]);
        let [one, other] = [[5; SALT], [6; SALT]].map(|salt| seal(&body(), &keys, NAME, salt).expect("sealed"));
        assert_ne!(one[34..], other[34..]);
        assert_eq!(unseal(&other, &keys, NAME), Ok(body()));
    }

    #[test]
    fn nothing_that_is_sealed_can_be_read() {
        let mut body = body();
        body.answer.body = include_bytes!("../../benches/compare/session.json")[..].into();
        let sealed = seal(&body, &keys(&[1]), NAME, [5; SALT]).expect("sealed");
        let plain = body.answer.body;
        assert!(plain.windows(4).all(|piece| !sealed.windows(4).any(|window| window == piece)));
    }

    #[test]
    fn what_opens_has_to_be_an_answer() {
        let (keys, salt) = (keys(&[1]), [5; SALT]);
        let large = vec![0; MAX_ANSWER + 1];
        for content in [&b"not compressed"[..], &compress(b"\0").expect("small"), &compress(&large).expect("small")] {
            let facts = facts().encode().expect("it fits");
            let mut sealed = [&[VERSION, DICTIONARY][..], &salt, &facts].concat();
            let mut content = content.to_vec();
            let place = Aad::from(place(NAME, &sealed));
            let cipher = cipher(keys.first(), &salt).expect("a key");
            cipher.seal_in_place_append_tag(nonce(), place, &mut content).expect("sealed");
            sealed.append(&mut content);
            assert_eq!(unseal(&sealed, &keys, NAME), Err(UnsealError::Content));
        }
    }

    #[test]
    fn a_body_that_is_too_large_is_not_sealed() {
        let mut large = body();
        large.answer.body = vec![b'x'; MAX_ANSWER].into();
        assert_eq!(seal(&large, &keys(&[1]), NAME, [5; SALT]), Err(SealError::TooLarge));
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300), starts_well: bool) {
            let bytes = if starts_well { [&[VERSION, DICTIONARY][..], &bytes].concat() } else { bytes };
            prop_assert!(unseal(&bytes, &keys(&[1, 2]), NAME).is_err());
        }

        #[test]
        fn any_body_is_read_back(content in proptest::collection::vec(any::<u8>(), 0..5000), salt: [u8; SALT]) {
            let keys = keys(&[1]);
            let mut body = body();
            body.answer.body = content.into();
            let sealed = seal(&body, &keys, NAME, salt).unwrap();
            prop_assert_eq!(unseal(&sealed, &keys, NAME), Ok(body));
        }
    }
}
