//! Checks Sezzle's signatures: HMAC-SHA256 with the private key, which stays inside this module.

use std::time::Duration;

use aws_lc_rs::hmac;

use crate::clock::{Deadline, Now};
use crate::secret::Secret;

/// Verification keys: the current private key, and the previous one while that still counts.
#[derive(Debug)]
pub struct Verifier {
    current: hmac::Key,
    previous: Option<(hmac::Key, Deadline)>,
}

impl Verifier {
    pub fn new(private: &Secret) -> Self {
        Self { current: key(private), previous: None }
    }

    /// A verifier for a new key, which accepts the current key for an hour more: Sezzle may take a while to sign with
    /// the new one.
    pub fn replaced(&self, private: &Secret, now: Now) -> Self {
        Self { current: key(private), previous: Some((self.current.clone(), Deadline::after(now, OVERLAP))) }
    }

    /// Whether `tag` is the signature of `message`. The time taken does not depend on where the two differ.
    pub fn verify(&self, message: &[u8], tag: &[u8], now: Now) -> bool {
        let previous = self.previous.iter().filter(|(_, until)| !until.passed(now)).map(|(key, _)| key);
        std::iter::once(&self.current).chain(previous).any(|key| hmac::verify(key, message, tag).is_ok())
    }
}

/// How long a replaced key still counts.
pub const OVERLAP: Duration = Duration::from_secs(60 * 60);

fn key(private: &Secret) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, private.expose().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, Mono, Wall};

    fn secret(text: &str) -> Secret {
        Secret::new(text.to_owned())
    }

    fn tag(text: &str) -> Vec<u8> {
        hmac::sign(&key(&secret(text)), b"message").as_ref().to_vec()
    }

    #[test]
    fn only_the_keys_own_signature_of_the_very_bytes_counts() {
        let (verifier, now) = (Verifier::new(&secret("sz_pr_1")), Clock::system().now());
        let good = tag("sz_pr_1");
        assert!(!verifier.verify(b"message", &tag("sz_pr_2"), now), "another key's");
        assert!(!verifier.verify(b"messag", &good, now) && !verifier.verify(b"message ", &good, now));
        assert!(!verifier.verify(b"message", &good[..31], now) && !verifier.verify(b"message", &[], now));
        assert!(!verifier.verify(b"message", &[good.clone(), vec![0]].concat(), now));
        assert!(verifier.verify(b"message", &good, now));
        assert!(!format!("{verifier:?}").contains("sz_pr_1"));
    }

    #[test]
    fn the_previous_key_counts_for_one_hour() {
        let start = Now { mono: Mono(Duration::ZERO), wall: Wall(0) };
        let after = |seconds| {
            let by = Duration::from_secs(seconds);
            Now { mono: start.mono.plus(by), wall: start.wall.plus(by) }
        };
        let verifier = Verifier::new(&secret("old")).replaced(&secret("new"), start);
        let verify = |name, now| verifier.verify(b"message", &tag(name), now);
        assert!(verify("new", after(0)) && verify("old", after(0)) && verify("old", after(3599)));
        assert!(!verify("old", after(3600)) && verify("new", after(3600)));
        let again = verifier.replaced(&secret("newer"), after(10));
        assert!(!again.verify(b"message", &tag("old"), after(11)), "two rotations ago");
    }
}
