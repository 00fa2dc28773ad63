//! [`ErasedStore`]: a [`KeyValue`] store as a trait object.

use std::time::Duration;

use bytes::Bytes;
use futures_core::future::BoxFuture;
use futures_util::FutureExt;

use super::{CacheError, ChangeLog, KeyValue, Page, PageLimits, Position, Swap};

type StoreFuture<'a, T> = BoxFuture<'a, Result<T, CacheError>>;

/// The object-safe form of [`KeyValue`], implemented for every store.
pub(crate) trait ErasedStore: Send + Sync {
    fn get<'a>(&'a self, key: &'a str) -> StoreFuture<'a, Option<Bytes>>;
    fn set<'a>(&'a self, key: &'a str, value: Bytes, ttl: Option<Duration>) -> StoreFuture<'a, ()>;
    fn delete<'a>(&'a self, key: &'a str) -> StoreFuture<'a, bool>;
    fn compare_and_set<'a>(
        &'a self,
        key: &'a str,
        expected: Option<Bytes>,
        new: Option<Bytes>,
        ttl: Option<Duration>,
    ) -> StoreFuture<'a, Swap>;
    fn add<'a>(&'a self, key: &'a str, amount: i64) -> StoreFuture<'a, i64>;
    fn scan<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<Position>,
        limits: PageLimits,
    ) -> StoreFuture<'a, Page>;
    fn delete_prefix<'a>(&'a self, prefix: &'a str) -> StoreFuture<'a, u64>;
    fn changes(&self) -> StoreFuture<'_, ChangeLog>;
}

impl<S: KeyValue> ErasedStore for S {
    fn get<'a>(&'a self, key: &'a str) -> StoreFuture<'a, Option<Bytes>> {
        KeyValue::get(self, key).boxed()
    }

    fn set<'a>(&'a self, key: &'a str, value: Bytes, ttl: Option<Duration>) -> StoreFuture<'a, ()> {
        KeyValue::set(self, key, value, ttl).boxed()
    }

    fn delete<'a>(&'a self, key: &'a str) -> StoreFuture<'a, bool> {
        KeyValue::delete(self, key).boxed()
    }

    fn compare_and_set<'a>(
        &'a self,
        key: &'a str,
        expected: Option<Bytes>,
        new: Option<Bytes>,
        ttl: Option<Duration>,
    ) -> StoreFuture<'a, Swap> {
        KeyValue::compare_and_set(self, key, expected, new, ttl).boxed()
    }

    fn add<'a>(&'a self, key: &'a str, amount: i64) -> StoreFuture<'a, i64> {
        KeyValue::add(self, key, amount).boxed()
    }

    fn scan<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<Position>,
        limits: PageLimits,
    ) -> StoreFuture<'a, Page> {
        KeyValue::scan(self, prefix, after, limits).boxed()
    }

    fn delete_prefix<'a>(&'a self, prefix: &'a str) -> StoreFuture<'a, u64> {
        KeyValue::delete_prefix(self, prefix).boxed()
    }

    fn changes(&self) -> StoreFuture<'_, ChangeLog> {
        KeyValue::changes(self).boxed()
    }
}
