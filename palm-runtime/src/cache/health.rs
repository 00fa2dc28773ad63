//! [`CacheHealth`]: logs once when a component's store begins to fail, and once when it has recovered.

use std::sync::atomic::{AtomicU8, Ordering};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::CacheError;
use crate::failure::chain;

/// A kind of request to a store. Each kind fails and recovers on its own: on a full disk, reads succeed, and deletions
/// may succeed while writes fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StoreOperation {
    Read,
    Write,
    Delete,
    Watch,
}

const OPERATIONS: usize = 4;

impl StoreOperation {
    fn describe(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "set",
            Self::Delete => "delete",
            Self::Watch => "watch",
        }
    }
}

/// The operations of a store that currently fail.
#[derive(Debug, Default)]
pub(crate) struct CacheHealth {
    /// A bit for each failing operation, so that a working store needs no lock.
    failing: AtomicU8,
    failures: Mutex<[Option<OngoingFailure>; OPERATIONS]>,
}

#[derive(Debug)]
struct OngoingFailure {
    since: Instant,
    requests: u64,
    cause: String,
}

impl CacheHealth {
    /// Records the outcome of a request. Only [`CacheError::Store`] is a failure of the store. Other errors are the
    /// caller's.
    pub(crate) fn observe(&self, operation: StoreOperation, error: Option<&CacheError>) {
        let index = operation as usize;
        match error {
            Some(error @ CacheError::Store(_)) => self.failed(operation, chain(error)),
            _ if self.failing.load(Ordering::Relaxed) & (1 << index) == 0 => {}
            _ => self.recovered(operation),
        }
    }

    fn failed(&self, operation: StoreOperation, cause: String) {
        let mut failures = self.failures.lock();
        let operation_name = operation.describe();
        match &mut failures[operation as usize] {
            Some(failure) => {
                failure.requests += 1;
                tracing::debug!(operation = operation_name, cause, "a cache request failed");
                failure.cause = cause;
            }
            failure @ None => {
                tracing::error!(
                    operation = operation_name,
                    "the cache fails, requests receive this error until it works again: {cause}"
                );
                let (since, requests) = (Instant::now(), 1);
                *failure = Some(OngoingFailure {
                    since,
                    requests,
                    cause,
                });
            }
        }
        self.failing
            .fetch_or(1 << operation as usize, Ordering::Relaxed);
    }

    fn recovered(&self, operation: StoreOperation) {
        let mut failures = self.failures.lock();
        let failure = failures[operation as usize].take();
        self.failing
            .fetch_and(!(1 << operation as usize), Ordering::Relaxed);
        if let Some(failure) = failure {
            tracing::info!(
                operation = operation.describe(),
                failed_requests = failure.requests,
                "the cache works again after {:?}",
                failure.since.elapsed()
            );
        }
    }

    /// Returns why the store fails, or `None` if the last request of each kind succeeded.
    pub(crate) fn failure(&self) -> Option<String> {
        let failures = self.failures.lock();
        let causes = failures.iter().flatten();
        causes.map(|failure| failure.cause.clone()).next()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failure_lasts_until_the_same_operation_succeeds() {
        let health = CacheHealth::default();
        let full = CacheError::Store("no space".into());
        health.observe(StoreOperation::Write, None);
        assert_eq!(health.failure(), None);
        health.observe(StoreOperation::Write, Some(&full));
        health.observe(StoreOperation::Write, Some(&full));
        health.observe(StoreOperation::Read, None);
        health.observe(StoreOperation::Delete, None);
        let cause = Some("the store failed: no space".to_owned());
        assert_eq!(health.failure(), cause);
        // An answer shows that the store works. That it is full is not a failure.
        health.observe(StoreOperation::Write, Some(&CacheError::Full { limit: 1 }));
        assert_eq!(health.failure(), None);
    }

    #[test]
    fn error_of_the_caller_is_not_a_failure_of_the_store() {
        let health = CacheHealth::default();
        health.observe(StoreOperation::Write, Some(&CacheError::EmptyKey));
        assert_eq!(health.failure(), None);
    }
}
