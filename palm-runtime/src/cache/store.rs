//! What a key-value store must do.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;

use super::{CacheError, Changes, Page, PageLimits, Position};

/// A key-value store that a component can put behind its cache service.
///
/// Every method may wait and may fail, so that a store can be a file or a server. Keys and values
/// are within the component's [`CacheLimits`] when they come here. What one method does to one key
/// happens at once: no other caller sees it half done, and what a caller was told of is seen by all
/// that ask later.
///
/// A time to live counts from when the store carries the request out. Zero is refused
/// ([`CacheError::ZeroTtl`]), less than a millisecond counts as one, and more than a hundred years as a
/// hundred. When it is over the key is absent, and the store removes the entry without being asked. A
/// component checks keys and times to live before it calls its store: an empty key and a time to live of
/// zero do not reach it.
pub trait KeyValue: Send + Sync + 'static {
    /// The value of `key`; `None` when there is none. An empty value is a value.
    fn get(&self, key: &str) -> impl Future<Output = Result<Option<Bytes>, CacheError>> + Send;

    /// Sets `key` to `value`, whether it was there or not, for `ttl` or, without one, for good.
    fn set(
        &self,
        key: &str,
        value: Bytes,
        ttl: Option<Duration>,
    ) -> impl Future<Output = Result<(), CacheError>> + Send;

    /// Removes `key`, and tells whether it was there.
    fn delete(&self, key: &str) -> impl Future<Output = Result<bool, CacheError>> + Send;

    /// Sets `key` to `new` (`None`: removes it) if its value is `expected` (`None`: if it is absent).
    /// With a new value goes its time to live, as in [`set`](Self::set).
    fn compare_and_set(
        &self,
        key: &str,
        expected: Option<Bytes>,
        new: Option<Bytes>,
        ttl: Option<Duration>,
    ) -> impl Future<Output = Result<Swap, CacheError>> + Send;

    /// Adds to the number that is the value of `key`, as decimal text, and tells the sum. An absent
    /// key counts as 0; a time to live stays as it is.
    ///
    /// A number is what `i64` prints: other texts, such as `+1` or `01`, are none
    /// ([`CacheError::NotANumber`]).
    fn add(&self, key: &str, amount: i64) -> impl Future<Output = Result<i64, CacheError>> + Send;

    /// Some of the entries whose keys begin with `prefix`: the first ones, or those that come after
    /// the page whose [`next`](Page::next) is given. It has as many as `limits` allow, but at least
    /// one, if there are any. A store in which there may be many keys between two of these may give
    /// fewer, even none, with a `next`.
    ///
    /// An entry that is there from the first page to the last is in one of them. The order is that of
    /// the keys' bytes, unless the store says otherwise.
    fn scan(
        &self,
        prefix: &str,
        after: Option<Position>,
        limits: PageLimits,
    ) -> impl Future<Output = Result<Page, CacheError>> + Send;

    /// Removes the keys that begin with `prefix`, and tells how many there were. A key that is set
    /// meanwhile may stay.
    fn delete_prefix(&self, prefix: &str) -> impl Future<Output = Result<u64, CacheError>> + Send;

    /// Where the store records its changes: all from now on. A store that cannot tell them returns
    /// [`CacheError::Unsupported`].
    fn changes(&self) -> impl Future<Output = Result<Changes, CacheError>> + Send;
}

/// What came of [`compare_and_set`](crate::Cache::compare_and_set).
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "the key may have had another value"]
pub enum Swap {
    /// The key had the value that was expected, and has the new one now.
    Done,
    /// The key had another value, and has it still.
    Differs {
        /// That value; `None` where the key is absent.
        current: Option<Bytes>,
    },
}

impl Swap {
    /// Whether the key has the new value.
    pub fn is_done(&self) -> bool {
        matches!(self, Self::Done)
    }
}

/// How large what is stored may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheLimits {
    /// Longest key. Default: 1 KiB.
    pub key_bytes: usize,
    /// Largest value. Default: 128 MiB.
    pub value_bytes: usize,
}

impl Default for CacheLimits {
    fn default() -> Self {
        Self {
            key_bytes: 1024,
            value_bytes: 128 * 1024 * 1024,
        }
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

/// A time to live as stores count it, see [`KeyValue`].
pub(super) fn lifetime(ttl: Option<Duration>) -> Result<Option<Duration>, CacheError> {
    const SHORTEST: Duration = Duration::from_millis(1);
    const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);
    match ttl {
        Some(Duration::ZERO) => Err(CacheError::ZeroTtl),
        ttl => Ok(ttl.map(|ttl| ttl.clamp(SHORTEST, LONGEST))),
    }
}

/// Refuses what no store accepts as a key that is set.
pub(super) fn refuse_empty(key: &str) -> Result<(), CacheError> {
    match key {
        "" => Err(CacheError::EmptyKey),
        _ => Ok(()),
    }
}

/// The sum that [`KeyValue::add`] makes of a value.
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
    // One text for each number: what Redis takes.
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
    fn what_a_number_is() {
        check(None, 3, Ok(3));
        check(Some("0"), -3, Ok(-3));
        check(Some("-9223372036854775808"), 0, Ok(i64::MIN));
        let none = "the value of `k` is no whole number";
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
            check(Some(text), 1, Err(none));
        }
        let overflow = "the sum is no 64-bit number: `k`";
        check(Some("9223372036854775807"), 1, Err(overflow));
        check(Some("-2"), i64::MIN, Err(overflow));
    }
}
