//! Tokens that the sidecar issues to callers with a key pair of their own.
//!
//! A token names its signer and its end, and carries their HMAC. Nothing is stored: every sidecar that reads the same
//! key pair, for the same environment, derives the same signing key and so knows the token. The signing key comes from
//! the caller's private key, so a new private key ends the tokens of the old one.

use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

use crate::clock::{Now, Wall};
use crate::secret::Secret;

/// How long a token counts: as long as the sidecar uses a token of Sezzle's.
pub const LIFE: Duration = Duration::from_secs(110 * 60);
/// How far the clocks of two sidecars may differ. A token that ends later than a new one by more than this is refused.
const SKEW: Duration = Duration::from_secs(5 * 60);

/// Tells readers of a configuration or a log that a token is the sidecar's and not Sezzle's. The digit is the version.
const PREFIX: &str = "sidecar1-";

/// Names a signer in its tokens, and reveals nothing of the signer's key.
pub type SignerId = [u8; 8];

/// Signs and verifies the tokens of one key pair.
#[derive(Clone, Debug)]
pub struct Signer {
    pub id: SignerId,
    key: hmac::Key,
}

impl Signer {
    /// `environment` keeps a token of the sandbox out of production.
    pub fn new(public: &str, private: &Secret, environment: &str) -> Self {
        let root = hmac::Key::new(hmac::HMAC_SHA256, private.expose().as_bytes());
        // No environment and no key holds the byte that separates them.
        let derive = |purpose: &str| hmac::sign(&root, [PREFIX, purpose, environment, public].join("\0").as_bytes());
        let mut id = SignerId::default();
        id.iter_mut().zip(derive("id").as_ref()).for_each(|(to, from)| *to = *from);
        Self { id, key: hmac::Key::new(hmac::HMAC_SHA256, derive("key").as_ref()) }
    }

    /// A token that ends [`LIFE`] from now, and its end.
    pub fn issue(&self, now: Now) -> (Secret, Wall) {
        // A token has whole seconds, and the caller must be told the same end as the token has.
        let seconds = now.wall.plus(LIFE).0.div_euclid(1000);
        let mut token = [self.id, seconds.to_be_bytes()].concat();
        token.extend_from_slice(hmac::sign(&self.key, &token).as_ref());
        let text = format!("{PREFIX}{}", BASE64_URL_SAFE_NO_PAD.encode(token));
        (Secret::new(text), Wall(seconds.saturating_mul(1000)))
    }

    /// The end of a token. `None` if another key signed the token, or if its end has passed or is too far away.
    pub fn verify(&self, token: &Unverified, now: Now) -> Option<Wall> {
        let (message, tag) = token.0.split_at_checked(SIGNED)?;
        hmac::verify(&self.key, message, tag).ok()?;
        let seconds = i64::from_be_bytes(message.last_chunk().copied()?);
        let end = Wall(seconds.checked_mul(1000)?);
        (now.wall < end && end <= now.wall.plus(LIFE + SKEW)).then_some(end)
    }
}

/// The bytes of a token that has the right form.
pub struct Unverified([u8; SIGNED + 32]);

/// The signed bytes: the signer's id and the end.
const SIGNED: usize = 16;

impl Unverified {
    pub fn read(token: &[u8]) -> Option<Self> {
        let text = token.strip_prefix(PREFIX.as_bytes())?;
        // Longer texts are not worth decoding.
        let bytes = if text.len() == 64 { BASE64_URL_SAFE_NO_PAD.decode(text).ok()? } else { return None };
        bytes.try_into().ok().map(Self)
    }

    pub fn signer(&self) -> SignerId {
        self.0.first_chunk().copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Mono;

    fn at(seconds: u64) -> Now {
        let by = Duration::from_secs(seconds);
        Now { mono: Mono(by), wall: Wall(1_700_000_000_000).plus(by) }
    }

    fn signer(public: &str, private: &str, environment: &str) -> Signer {
        Signer::new(public, &Secret::new(private.to_owned()), environment)
    }

    fn verify(signer: &Signer, token: &str, now: Now) -> Option<Wall> {
        Unverified::read(token.as_bytes()).and_then(|token| signer.verify(&token, now))
    }

    #[test]
    fn a_token_counts_for_110_minutes_wherever_the_pair_is_known() {
        let (here, there) = (signer("public", "private", "sandbox"), signer("public", "private", "sandbox"));
        let (token, end) = here.issue(at(0));
        assert_eq!(end, at(6600).wall);
        for other in [&here, &there] {
            assert_eq!(Unverified::read(token.expose().as_bytes()).map(|token| token.signer()), Some(other.id));
            assert_eq!(verify(other, token.expose(), at(0)), Some(end));
            assert_eq!(verify(other, token.expose(), at(6599)), Some(end));
            assert_eq!(verify(other, token.expose(), at(6600)), None);
        }
        let early = Now { wall: Wall(at(0).wall.0 - 299_000), ..at(0) };
        assert!(verify(&here, token.expose(), early).is_some(), "another sidecar's clock is behind");
        assert!(verify(&here, token.expose(), Now { wall: Wall(at(0).wall.0 - 301_000), ..at(0) }).is_none());
    }

    #[test]
    fn another_pair_or_environment_signs_otherwise() {
        let (token, _) = signer("public", "private", "sandbox").issue(at(0));
        let ids =
            [("public", "other", "sandbox"), ("other", "private", "sandbox"), ("public", "private", "production")].map(
                |(public, private, environment)| {
                    let other = signer(public, private, environment);
                    assert_eq!(verify(&other, token.expose(), at(1)), None, "{public} {private} {environment}");
                    other.id
                },
            );
        assert!(ids.iter().all(|id| *id != signer("public", "private", "sandbox").id));
    }

    #[test]
    fn a_changed_token_is_none() {
        let signer = signer("public", "private", "sandbox");
        let (token, _) = signer.issue(at(0));
        let token = token.expose();
        assert_eq!(token.len(), PREFIX.len() + 64);
        for index in 0..token.len() {
            let mut changed = token.as_bytes().to_vec();
            changed[index] = if changed[index] == b'A' { b'B' } else { b'A' };
            let read = Unverified::read(&changed).and_then(|token| signer.verify(&token, at(1)));
            assert_eq!(read, None, "byte {index}");
            assert!(Unverified::read(&token.as_bytes()[..index]).is_none());
        }
        for changed in
            [format!("{token}A"), format!("{token}="), format!(" {token}"), token.to_uppercase(), String::new()]
        {
            assert_eq!(verify(&signer, &changed, at(1)), None, "{changed}");
        }
    }
}
