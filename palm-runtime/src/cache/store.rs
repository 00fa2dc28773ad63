//! [`KeyValue`]: the interface of a key-value store, and the rules that all stores share.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;

use super::{CacheError, ChangeLog, Page, PageLimits, Position};
use crate::options::options;

/// A key-value store for the cache of a component.
///
/// All methods are async and fallible, so that a store can be a file or a server. A component calls its store only
/// with keys and values within its [`CacheLimits`], and never with an empty key or a time to live of zero.
///
/// Operations on a single key have to be linearizable: other callers see an operation either completely or not at
/// all, and a caller sees the effects of every operation that returned before it started.
///
/// A time to live counts from when the store performs the operation. Stores reject zero ([`CacheError::ZeroTtl`]),
/// and clamp other values to the range from a millisecond to a hundred years. When the time has passed, the key is
/// absent, and the store removes the entry on its own.
pub trait KeyValue: Send + Sync + 'static {
    /// Returns the value of `key`, or `None` if the key is absent. An empty value is a value.
    fn get(&self, key: &str) -> impl Future<Output = Result<Option<Bytes>, CacheError>> + Send;

    /// Sets `key` to `value`. The entry expires after `ttl`, or never if it is `None`.
    fn set(
        &self,
        key: &str,
        value: Bytes,
        ttl: Option<Duration>,
    ) -> impl Future<Output = Result<(), CacheError>> + Send;

    /// Removes `key`, and returns whether it existed.
    fn delete(&self, key: &str) -> impl Future<Output = Result<bool, CacheError>> + Send;

    /// Sets `key` to `new` if its value is `expected`.
    ///
    /// `None` as `expected` stands for an absent key, and `None` as `new` removes the key. `ttl` applies to the new
    /// value as in [`set`](Self::set).
    fn compare_and_set(
        &self,
        key: &str,
        expected: Option<Bytes>,
        new: Option<Bytes>,
        ttl: Option<Duration>,
    ) -> impl Future<Output = Result<Swap, CacheError>> + Send;

    /// Adds `amount` to the value of `key`, and returns the sum. An absent key counts as 0. The time to live does not
    /// change.
    ///
    /// The value is the decimal text that `i64` prints. Other texts, such as `+1` or `01`, are an error
    /// ([`CacheError::NotANumber`]).
    fn add(&self, key: &str, amount: i64) -> impl Future<Output = Result<i64, CacheError>> + Send;

    /// Returns a page of the entries whose keys begin with `prefix`: the first page, or the one after the page whose
    /// [`next`](Page::next) is `after`.
    ///
    /// A page has as many entries as `limits` allow, and at least one if there are any left. A store that has to search
    /// through other keys may return fewer, even none, together with a `next`.
    ///
    /// An entry that exists from the first page to the last is in one of the pages. Pages are in the byte order of the
    /// keys, unless the store documents another order.
    fn scan(
        &self,
        prefix: &str,
        after: Option<Position>,
        limits: PageLimits,
    ) -> impl Future<Output = Result<Page, CacheError>> + Send;

    /// Removes the keys that begin with `prefix`, and returns their number. A key that is set concurrently may remain.
    fn delete_prefix(&self, prefix: &str) -> impl Future<Output = Result<u64, CacheError>> + Send;

    /// Returns the log in which the store records all changes from now on, or [`CacheError::Unsupported`] if the store
    /// does not record changes.
    fn changes(&self) -> impl Future<Output = Result<ChangeLog, CacheError>> + Send;
}

/// The result of [`compare_and_set`](crate::Cache::compare_and_set).
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "the key may have had another value"]
pub enum Swap {
    /// The key had the expected value, and was changed.
    Done,
    /// The key had another value, and was not changed.
    Differs {
        /// The value of the key, or `None` if it is absent.
        current: Option<Bytes>,
    },
}

impl Swap {
    /// Returns whether the key was changed.
    pub fn is_done(&self) -> bool {
        matches!(self, Self::Done)
    }
}

options! {
    /// Limits on the size of keys and values.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct CacheLimits {
        /// Sets the size of the longest key. Default: 1 KiB.
        key_bytes: usize = 1024,
        /// Sets the size of the largest value. Default: 128 MiB.
        value_bytes: usize = 128 * 1024 * 1024,
    }
}

impl CacheLimits {
    pub(crate) fn check(&self, key: &str, value: &[u8]) -> Result<(), CacheError> {
        for (what, len, limit) in [
            ("key", key.len(), self.key_bytes),
            ("value", value.len(), self.value_bytes),
        ] {
            if len > limit {
                return Err(CacheError::TooLarge { what, len, limit });
            }
        }
        Ok(())
    }
}

/// Clamps a time to live as [`KeyValue`] describes. Rejects zero.
pub(super) fn lifetime(ttl: Option<Duration>) -> Result<Option<Duration>, CacheError> {
    const MIN_TTL: Duration = Duration::from_millis(1);
    const MAX_TTL: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);
    match ttl {
        Some(Duration::ZERO) => Err(CacheError::ZeroTtl),
        ttl => Ok(ttl.map(|ttl| ttl.clamp(MIN_TTL, MAX_TTL))),
    }
}

/// Rejects an empty key, which no store can set.
pub(super) fn reject_empty(key: &str) -> Result<(), CacheError> {
    match key {
        "" => Err(CacheError::EmptyKey),
        _ => Ok(()),
    }
}

/// Returns the sum for [`KeyValue::add`].
pub(super) fn sum(key: &str, value: Option<&[u8]>, amount: i64) -> Result<i64, CacheError> {
    let number = match value {
        Some(value) => number(value).ok_or_else(|| CacheError::NotANumber {
            key: key.to_owned(),
        })?,
        None => 0,
    };
    number
        .checked_add(amount)
        .ok_or_else(|| CacheError::Overflow {
            key: key.to_owned(),
        })
}

fn number(value: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(value).ok()?;
    let number: i64 = text.parse().ok()?;
    // Only the canonical text of a number is accepted, as by Redis.
    (number.to_string() == text).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(value: Option<&str>, amount: i64, expected: Result<i64, &str>) {
        let sum = sum("k", value.map(str::as_bytes), amount);
        assert_eq!(
            sum.map_err(|error| error.to_string()),
            expected.map_err(str::to_owned)
        );
    }

    #[test]
    fn sum_accepts_only_canonical_decimal_text_within_64_bits() {
        check(None, 3, Ok(3));
        check(Some("0"), -3, Ok(-3));
        check(Some("-9223372036854775808"), 0, Ok(i64::MIN));
        let not_an_integer = "the value of `k` is not an integer";
        for text in [
            "",
            "+1",
            "01",
            "-0",
            " 1",
            "1.0",
            "9223372036854775808",
            "one",
        ] {
            check(Some(text), 1, Err(not_an_integer));
        }
        let overflow = "the sum does not fit into 64 bits, the value of `k` is unchanged";
        check(Some("9223372036854775807"), 1, Err(overflow));
        check(Some("-2"), i64::MIN, Err(overflow));
    }
}
