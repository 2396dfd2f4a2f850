//! Hashes that nobody outside the process can foresee. Pure, but for the seed.

use std::hash::{BuildHasher, RandomState};

/// Secret numbers, so that nobody can choose keys of one hash.
#[derive(Clone, Copy, Debug)]
pub struct Seed(u64, u64);

impl Seed {
    pub fn random() -> Self {
        let random = RandomState::new();
        Self(random.hash_one(1), random.hash_one(2))
    }

    /// The hash of 16 bytes. A look-up by the hash of the standard library takes three times the instructions.
    #[inline]
    pub fn hash(self, bytes: [u8; 16]) -> u64 {
        let number = u128::from_le_bytes(bytes);
        let (low, high) = (number as u64 ^ self.0, (number >> 64) as u64 ^ self.1);
        fold(fold(low, high), self.0 | 1)
    }
}

/// Both halves of the product, one over the other.
#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a).wrapping_mul(u128::from(b));
    (product >> 64) as u64 ^ product as u64
}
