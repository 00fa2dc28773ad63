//! Maps keyed by ids that this process has issued.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A map with a fast hash, for ids that this process has issued, so that no peer can choose colliding keys.
pub type IdMap<T> = HashMap<u64, T, IdHashBuilder>;

/// The hasher of [`IdMap`], for other collections of such ids.
pub type IdHashBuilder = BuildHasherDefault<IdHasher>;

#[derive(Debug, Default)]
pub struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(self.0 ^ u64::from(byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        // Fibonacci hashing.
        self.0 = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
