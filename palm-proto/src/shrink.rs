//! Memory of tables that were large for a while.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash};

/// The capacity below which a table is not shrunk.
const MIN_CAPACITY: usize = 64;

/// Releases memory of a table that has become much smaller.
pub fn shrink<K: Eq + Hash, V, S: BuildHasher>(table: &mut HashMap<K, V, S>) {
    if table.capacity() > MIN_CAPACITY.max(4 * table.len()) * 2 {
        table.shrink_to(MIN_CAPACITY.max(2 * table.len()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_that_has_become_small_releases_its_memory() {
        let mut table: HashMap<_, _> = (0..10_000).map(|key| (key, ())).collect();
        let full = table.capacity();
        shrink(&mut table);
        assert_eq!(table.capacity(), full);
        table.retain(|&key, ()| key < 10);
        shrink(&mut table);
        assert!(table.capacity() < full / 10, "{}", table.capacity());
        assert_eq!(table.len(), 10);
    }
}
