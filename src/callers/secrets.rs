//! The secrets of a caller while they change: an old secret counts for a while beside the new one.

use std::time::Duration;

use crate::clock::Now;
use crate::secret::Secret;

/// The secrets of one caller, as its files hold them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Secrets {
    /// The content of `token_file`.
    pub token: Option<Secret>,
    /// The public key and the content of `private_key_file`.
    pub pair: Option<(String, Secret)>,
}

/// A secret and its predecessors, which may still count.
#[derive(Clone, Debug)]
pub struct SecretHistory<T> {
    pub current: T,
    /// The newest first, each with the time of its replacement.
    previous: Vec<(T, Now)>,
}

// Two changes within an hour are a rotation and its correction. More are a mistake, and every predecessor is one more
// secret that counts.
const MOST_PREVIOUS: usize = 4;

impl<T: Clone + PartialEq> SecretHistory<T> {
    /// The history in which `current` replaces the secret of `before`. Predecessors are remembered for `memory`.
    pub fn after(before: Option<&Self>, current: T, memory: Duration, now: Now) -> Self {
        let mut previous = Vec::new();
        if let Some(before) = before {
            if before.current != current {
                previous.push((before.current.clone(), now));
            }
            previous.extend(before.previous.iter().filter(|(_, replaced)| now.since(*replaced) < memory).cloned());
        }
        previous.retain(|(secret, _)| *secret != current);
        previous.truncate(MOST_PREVIOUS);
        Self { current, previous }
    }

    /// Forgets the predecessors for which `is_forgotten` holds.
    pub fn forget(&mut self, is_forgotten: impl Fn(&T) -> bool) {
        self.previous.retain(|(secret, _)| !is_forgotten(secret));
    }

    /// All secrets, each with the time of its replacement; `None` for the current one.
    pub fn all(&self) -> impl Iterator<Item = (&T, Option<Now>)> {
        let previous = self.previous.iter().map(|(secret, replaced)| (secret, Some(*replaced)));
        std::iter::once((&self.current, None)).chain(previous)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Mono, Wall};

    const HOUR: Duration = Duration::from_secs(3600);

    fn at(seconds: u64) -> Now {
        let by = Duration::from_secs(seconds);
        Now { mono: Mono(by), wall: Wall(0).plus(by) }
    }

    fn all(secrets: &SecretHistory<&'static str>) -> Vec<(&'static str, Option<Now>)> {
        secrets.all().map(|(secret, replaced)| (*secret, replaced)).collect()
    }

    #[test]
    fn old_secrets_are_remembered_for_a_while() {
        let first = SecretHistory::after(None, "a", HOUR, at(0));
        assert_eq!(all(&first), [("a", None)]);
        let second = SecretHistory::after(Some(&first), "b", HOUR, at(10));
        assert_eq!(all(&second), [("b", None), ("a", Some(at(10)))]);
        let same = SecretHistory::after(Some(&second), "b", HOUR, at(100));
        assert_eq!(all(&same), all(&second), "the time of the change stays");
        assert_eq!(all(&SecretHistory::after(Some(&same), "b", HOUR, at(3609))), all(&second));
        assert_eq!(all(&SecretHistory::after(Some(&same), "b", HOUR, at(3610))), [("b", None)]);
        let third = SecretHistory::after(Some(&second), "c", HOUR, at(20));
        assert_eq!(all(&third), [("c", None), ("b", Some(at(20))), ("a", Some(at(10)))]);
        let mut back = SecretHistory::after(Some(&third), "a", HOUR, at(30));
        assert_eq!(all(&back), [("a", None), ("c", Some(at(30))), ("b", Some(at(20)))], "a secret that returns");
        back.forget(|secret| *secret == "c");
        assert_eq!(all(&back), [("a", None), ("b", Some(at(20)))]);
    }

    #[test]
    fn few_old_secrets_are_kept() {
        let names = ["a", "b", "c", "d", "e", "f", "g"];
        let mut secrets = SecretHistory::after(None, names[0], HOUR, at(0));
        for name in &names[1..] {
            secrets = SecretHistory::after(Some(&secrets), *name, HOUR, at(1));
        }
        assert!(all(&secrets).into_iter().map(|(secret, _)| secret).eq(["g", "f", "e", "d", "c"]));
    }
}
