//! The streams of a [`Cache`](super::Cache): entries, and changes.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;
use futures_core::stream::BoxStream;

use super::{CacheError, Change, Entry};

/// The entries that [`Cache::scan`](crate::Cache::scan) finds, page by page: a page is asked for when
/// the one before has been taken.
#[must_use = "a scan asks for nothing unless it is polled"]
pub struct Scan(pub(super) BoxStream<'static, Result<Entry, CacheError>>);

/// The changes that [`Cache::watch`](crate::Cache::watch) tells.
///
/// It does not end. After an error it goes on where it was, as soon as it is polled again.
#[must_use = "a watch tells nothing unless it is polled"]
pub struct Watch(pub(super) BoxStream<'static, Result<Change, CacheError>>);

impl Scan {
    /// Receives the next entry; `None` after the last one.
    ///
    /// # Errors
    ///
    /// [`CacheError`] if the store cannot do it, or the cache service does not answer.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: no entry is lost if the future is dropped.
    pub async fn next(&mut self) -> Option<Result<Entry, CacheError>> {
        poll_fn(|context| self.0.as_mut().poll_next(context)).await
    }
}

impl Watch {
    /// Receives the next change. It never returns `None`. A watcher that has missed changes receives
    /// [`Change::Lagged`].
    ///
    /// # Errors
    ///
    /// [`CacheError`] if the cache service does not answer. The next call goes on with the watch.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: no change is lost if the future is dropped.
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
