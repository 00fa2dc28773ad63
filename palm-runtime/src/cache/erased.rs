//! [`KeyValue`] behind a pointer.

use std::time::Duration;

use bytes::Bytes;
use futures_core::future::BoxFuture;
use futures_util::FutureExt;

use super::{CacheError, Changes, KeyValue, Page, PageLimits, Position, Swap};

type Outcome<'a, T> = BoxFuture<'a, Result<T, CacheError>>;

/// [`KeyValue`] behind a pointer.
pub(crate) trait ErasedStore: Send + Sync {
    fn get<'a>(&'a self, key: &'a str) -> Outcome<'a, Option<Bytes>>;
    fn set<'a>(&'a self, key: &'a str, value: Bytes, ttl: Option<Duration>) -> Outcome<'a, ()>;
    fn delete<'a>(&'a self, key: &'a str) -> Outcome<'a, bool>;
    fn compare_and_set<'a>(
        &'a self,
        key: &'a str,
        expected: Option<Bytes>,
        new: Option<Bytes>,
        ttl: Option<Duration>,
    ) -> Outcome<'a, Swap>;
    fn add<'a>(&'a self, key: &'a str, amount: i64) -> Outcome<'a, i64>;
    fn scan<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<Position>,
        limits: PageLimits,
    ) -> Outcome<'a, Page>;
    fn delete_prefix<'a>(&'a self, prefix: &'a str) -> Outcome<'a, u64>;
    fn changes(&self) -> Outcome<'_, Changes>;
}

impl<S: KeyValue> ErasedStore for S {
    fn get<'a>(&'a self, key: &'a str) -> Outcome<'a, Option<Bytes>> {
        KeyValue::get(self, key).boxed()
    }

    fn set<'a>(&'a self, key: &'a str, value: Bytes, ttl: Option<Duration>) -> Outcome<'a, ()> {
        KeyValue::set(self, key, value, ttl).boxed()
    }

    fn delete<'a>(&'a self, key: &'a str) -> Outcome<'a, bool> {
        KeyValue::delete(self, key).boxed()
    }

    fn compare_and_set<'a>(
        &'a self,
        key: &'a str,
        expected: Option<Bytes>,
        new: Option<Bytes>,
        ttl: Option<Duration>,
    ) -> Outcome<'a, Swap> {
        KeyValue::compare_and_set(self, key, expected, new, ttl).boxed()
    }

    fn add<'a>(&'a self, key: &'a str, amount: i64) -> Outcome<'a, i64> {
        KeyValue::add(self, key, amount).boxed()
    }

    fn scan<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<Position>,
        limits: PageLimits,
    ) -> Outcome<'a, Page> {
        KeyValue::scan(self, prefix, after, limits).boxed()
    }

    fn delete_prefix<'a>(&'a self, prefix: &'a str) -> Outcome<'a, u64> {
        KeyValue::delete_prefix(self, prefix).boxed()
    }

    fn changes(&self) -> Outcome<'_, Changes> {
        KeyValue::changes(self).boxed()
    }
}
