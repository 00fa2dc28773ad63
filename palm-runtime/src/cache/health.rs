//! Whether a component's store works: one log line when it begins to fail, and one when it works again.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;

use super::CacheError;
use crate::failure::chain;

/// What a request asks of a store. Each fails and recovers on its own: on a full disk, values can be read, and
/// deletions may succeed while nothing can be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    Read,
    Write,
    Delete,
    Watch,
}

const OPERATIONS: usize = 4;

impl Operation {
    fn describe(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "set",
            Self::Delete => "delete",
            Self::Watch => "watch",
        }
    }
}

/// Which operations of a store fail at the moment.
#[derive(Debug, Default)]
pub(crate) struct CacheHealth {
    /// A bit for each operation that fails, so that a store that works costs no lock.
    failing: AtomicU8,
    failures: Mutex<[Option<Failure>; OPERATIONS]>,
}

#[derive(Debug)]
struct Failure {
    since: Instant,
    requests: u64,
    cause: String,
}

impl CacheHealth {
    /// Records what came of a request. Only [`CacheError::Store`] is a failure of the store: other errors are
    /// the caller's.
    pub(crate) fn observe(&self, operation: Operation, error: Option<&CacheError>) {
        let index = operation as usize;
        match error {
            Some(error @ CacheError::Store(_)) => self.failed(operation, chain(error)),
            _ if self.failing.load(Ordering::Relaxed) & (1 << index) == 0 => {}
            _ => self.recovered(operation),
        }
    }

    fn failed(&self, operation: Operation, cause: String) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
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
                    "the cache fails, and requests get this error until it works again: {cause}"
                );
                let (since, requests) = (Instant::now(), 1);
                *failure = Some(Failure {
                    since,
                    requests,
                    cause,
                });
            }
        }
        self.failing
            .fetch_or(1 << operation as usize, Ordering::Relaxed);
    }

    fn recovered(&self, operation: Operation) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let failure = failures[operation as usize].take();
        self.failing
            .fetch_and(!(1 << operation as usize), Ordering::Relaxed);
        if let Some(failure) = failure {
            tracing::info!(
                operation = operation.describe(),
                failed = failure.requests,
                "the cache works again after {:?}",
                failure.since.elapsed()
            );
        }
    }

    /// Why the store fails; `None` if the last request of each kind was carried out.
    pub(crate) fn failure(&self) -> Option<String> {
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let causes = failures.iter().flatten();
        causes.map(|failure| failure.cause.clone()).next()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_fails_until_the_same_operation_succeeds() {
        let health = CacheHealth::default();
        let full = CacheError::Store("no space".into());
        health.observe(Operation::Write, None);
        assert_eq!(health.failure(), None);
        health.observe(Operation::Write, Some(&full));
        health.observe(Operation::Write, Some(&full));
        health.observe(Operation::Read, None);
        health.observe(Operation::Delete, None);
        let cause = Some("the store failed: no space".to_owned());
        assert_eq!(health.failure(), cause);
        // The store answered: that the key was refused is not its failure.
        health.observe(Operation::Write, Some(&CacheError::Full { limit: 1 }));
        assert_eq!(health.failure(), None);
    }

    #[test]
    fn an_error_of_the_caller_is_not_a_failure_of_the_store() {
        let health = CacheHealth::default();
        health.observe(Operation::Write, Some(&CacheError::EmptyKey));
        assert_eq!(health.failure(), None);
    }
}
