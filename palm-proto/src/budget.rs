//! Budgets for memory that peers make a component keep, bounded per holder and in total.
//!
//! A holder is a session or a connection, for which the bytes are kept. What one holder may have is a dynamic
//! threshold (Choudhury, Hahne, 1998, as in the queues between parts): at most [`THRESHOLD`] times what is free. So a
//! holder alone uses 80 % of a budget, several have equal parts, and a new holder finds capacity however many
//! bytes others keep.
//!
//! [`Ledger`] is the arithmetic, for state that is locked anyway; its owner releases what it has taken.
//! [`Budget`] shares a ledger between tasks; a [`Reservation`] releases its bytes when it is dropped.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};

use crate::id_map::IdHashBuilder;

/// A holder may have at most this many times the free bytes.
pub const THRESHOLD: usize = 4;

/// How many bytes a holder with `own` may add to a budget of `limit` bytes, of which `used` are used.
pub fn capacity_left(limit: usize, used: usize, own: usize) -> usize {
    let free = limit.saturating_sub(used);
    // The largest `x` with own + x <= THRESHOLD * (free - x).
    THRESHOLD.saturating_mul(free).saturating_sub(own) / (THRESHOLD + 1)
}

/// How many bytes a holder may add.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    pub bytes: usize,
    /// Whether one item may have more bytes: nothing else is kept, so that it would never be accepted otherwise.
    pub admits_any_size: bool,
}

impl Capacity {
    /// The capacity of a holder without a limit.
    pub const MAX: Self = Self {
        bytes: usize::MAX,
        admits_any_size: true,
    };

    /// Takes capacity for an item, if there is enough. Returns whether there is.
    pub fn take(&mut self, bytes: usize) -> bool {
        let is_admitted = self.admits(bytes);
        if is_admitted {
            self.bytes = self.bytes.saturating_sub(bytes);
            self.admits_any_size = false;
        }
        is_admitted
    }

    pub fn admits(&self, bytes: usize) -> bool {
        bytes <= self.bytes || self.admits_any_size
    }
}

/// Number of bytes of each holder.
#[derive(Debug)]
pub struct Ledger<K, S = RandomState> {
    limit: usize,
    used: usize,
    holders: HashMap<K, usize, S>,
}

/// A [`Ledger`] of holders that have ids of this process.
pub type IdLedger = Ledger<u64, IdHashBuilder>;

impl<K: Eq + Hash, S: BuildHasher + Default> Ledger<K, S> {
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            used: 0,
            holders: HashMap::default(),
        }
    }

    /// Returns the bytes that are used in total.
    pub fn used(&self) -> usize {
        self.used
    }

    pub fn capacity(&self, holder: &K) -> Capacity {
        let own = self.holders.get(holder).copied().unwrap_or_default();
        Capacity {
            bytes: capacity_left(self.limit, self.used, own),
            admits_any_size: self.used == 0,
        }
    }

    /// Adds bytes to a holder, whether or not it has capacity for them.
    pub fn add(&mut self, holder: K, bytes: usize) {
        if bytes > 0 {
            self.used += bytes;
            *self.holders.entry(holder).or_default() += bytes;
        }
    }

    /// Releases bytes of a holder. Returns whether it had any.
    pub fn release(&mut self, holder: &K, bytes: usize) -> bool {
        let Some(own) = self.holders.get_mut(holder) else {
            return false;
        };
        let bytes = bytes.min(*own);
        *own -= bytes;
        self.used -= bytes;
        if *own == 0 {
            self.holders.remove(holder);
        }
        true
    }

    /// Releases all bytes of a holder.
    pub fn release_all(&mut self, holder: &K) {
        self.used -= self.holders.remove(holder).unwrap_or_default();
    }

    /// Releases the bytes of all holders.
    pub fn clear(&mut self) {
        self.used = 0;
        self.holders.clear();
    }
}

/// A ledger that tasks share.
#[derive(Debug)]
pub struct Budget<K: Eq + Hash>(Arc<Mutex<Ledger<K>>>);

impl<K: Eq + Hash> Clone for Budget<K> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K: Eq + Hash + Clone> Budget<K> {
    pub fn new(limit: usize) -> Self {
        Self(Arc::new(Mutex::new(Ledger::new(limit))))
    }

    fn lock(&self) -> MutexGuard<'_, Ledger<K>> {
        self.0.lock()
    }

    /// Reserves bytes for a holder, if it has capacity for them.
    pub fn reserve(&self, holder: &K, bytes: usize) -> Option<Reservation<K>> {
        let mut ledger = self.lock();
        if !ledger.capacity(holder).admits(bytes) {
            return None;
        }
        ledger.add(holder.clone(), bytes);
        Some(Reservation {
            ledger: self.0.clone(),
            holder: holder.clone(),
            bytes,
        })
    }

    /// Number of reserved bytes.
    #[cfg(test)]
    pub fn used(&self) -> usize {
        self.lock().used()
    }
}

/// Bytes of a [`Budget`], which are released when this is dropped.
#[derive(Debug)]
pub struct Reservation<K: Eq + Hash> {
    ledger: Arc<Mutex<Ledger<K>>>,
    holder: K,
    bytes: usize,
}

impl<K: Eq + Hash> Drop for Reservation<K> {
    fn drop(&mut self) {
        let mut ledger = self.ledger.lock();
        ledger.release(&self.holder, self.bytes);
    }
}

impl<K: Eq + Hash + Send + Sync + 'static> Reservation<K> {
    /// Attaches the reservation to `bytes`: it is released when the last clone of them is dropped.
    pub fn keep_with(self, bytes: Bytes) -> Bytes {
        Bytes::from_owner(Reserved {
            bytes,
            _reservation: self,
        })
    }
}

struct Reserved<K: Eq + Hash> {
    bytes: Bytes,
    _reservation: Reservation<K>,
}

impl<K: Eq + Hash> AsRef<[u8]> for Reserved<K> {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holder_uses_most_of_a_budget_and_leaves_capacity_for_others() {
        let mut ledger = IdLedger::new(1000);
        assert!(ledger.capacity(&1).admits(800));
        ledger.add(1, 800);
        assert_eq!(ledger.capacity(&1).bytes, 0);
        assert_eq!(ledger.capacity(&2).bytes, 160);
        ledger.add(2, 160);
        assert_eq!(ledger.capacity(&3).bytes, 32);
        assert!(!ledger.capacity(&3).admits(33));
        assert!(ledger.release(&1, 800));
        assert!(!ledger.release(&1, 1), "the holder keeps nothing");
        assert_eq!(ledger.used(), 160);
        assert_eq!(ledger.capacity(&1).bytes, 672);
        ledger.release_all(&2);
        assert_eq!(ledger.used(), 0);
    }

    #[test]
    fn many_holders_never_exceed_the_limit() {
        let mut ledger = IdLedger::new(1_000_000);
        ledger.add(0, 1);
        for holder in 1..10_000_u64 {
            let mut capacity = ledger.capacity(&holder);
            let item = capacity.bytes.min(8000);
            assert!(capacity.take(item));
            ledger.add(holder, item);
        }
        assert!(ledger.used() <= 1_000_000, "{}", ledger.used());
    }

    #[test]
    fn item_larger_than_the_budget_is_admitted_alone() {
        let mut ledger = IdLedger::new(1000);
        let mut capacity = ledger.capacity(&1);
        assert!(capacity.take(5000));
        assert!(!capacity.admits(801), "only one of them");
        ledger.add(1, 5000);
        assert_eq!(ledger.capacity(&2).bytes, 0);
        assert!(!ledger.capacity(&2).admits(1));
        ledger.release(&1, 5000);
        assert!(ledger.capacity(&2).admits(5000));
    }

    #[test]
    fn reservation_is_released_with_the_last_clone_of_its_bytes() {
        let budget = Budget::new(1000);
        let reservation = budget.reserve(&"peer", 700).unwrap();
        assert!(budget.reserve(&"peer", 700).is_none());
        let bytes = reservation.keep_with(Bytes::from_static(b"reply"));
        let clone = bytes.clone();
        assert_eq!(clone, "reply");
        drop(bytes);
        assert_eq!(budget.used(), 700);
        drop(clone);
        assert_eq!(budget.used(), 0);
    }
}
