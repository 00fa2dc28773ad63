//! Tables whose keys are numbers that were given here.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// By a number of ours, which nobody chooses in order to do harm.
pub type ByNumber<T> = HashMap<u64, T, BuildHasherDefault<NumberHasher>>;

#[derive(Debug, Default)]
pub struct NumberHasher(u64);

impl Hasher for NumberHasher {
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
