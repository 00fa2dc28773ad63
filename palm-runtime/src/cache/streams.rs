//! The streams of a [`Cache`](super::Cache): entries, and changes.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;
use futures_core::stream::BoxStream;

use super::{CacheError, Change, Entry};

/// A stream of the entries that [`Cache::scan`](crate::Cache::scan) finds. A page is requested when the entries of the
/// previous one have been consumed.
#[must_use = "a scan sends no request unless it is polled"]
pub struct Scan(pub(super) BoxStream<'static, Result<Entry, CacheError>>);

/// A stream of the changes that [`Cache::watch`](crate::Cache::watch) reports.
///
/// The stream never ends. Polling it after an error continues where it was.
#[must_use = "a watch reports changes only if it is polled"]
pub struct Watch(pub(super) BoxStream<'static, Result<Change, CacheError>>);

impl Scan {
    /// Receives the next entry, or `None` after the last one.
    ///
    /// # Errors
    ///
    /// Returns [`CacheError`] if the store does not support scans or fails, or if the cache service does not answer.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe. If the future is dropped, no entry is lost.
    pub async fn next(&mut self) -> Option<Result<Entry, CacheError>> {
        poll_fn(|context| self.0.as_mut().poll_next(context)).await
    }
}

impl Watch {
    /// Receives the next change. Never returns `None`. A watcher that has missed changes receives [`Change::Lagged`].
    ///
    /// # Errors
    ///
    /// Returns [`CacheError`] if the cache service does not answer. The next call continues the watch.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe. If the future is dropped, no change is lost.
    pub async fn next(&mut self) -> Option<Result<Change, CacheError>> {
        poll_fn(|context| self.0.as_mut().poll_next(context)).await
    }
}

impl Stream for Scan {
    type Item = Result<Entry, CacheError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.as_mut().poll_next(context)
    }
}

impl Stream for Watch {
    type Item = Result<Change, CacheError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.as_mut().poll_next(context)
    }
}

impl std::fmt::Debug for Scan {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Scan")
    }
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Watch")
    }
}
