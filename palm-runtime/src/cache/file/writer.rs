//! The thread that writes the file, by group commit: one transaction, and one sync of the disk, for all queued requests.
//!
//! A failed commit fails all of its requests, and the file is opened again, so that it can be read. Opening repairs the
//! file, which takes long if it is large, so the next attempt to write is made after a delay in proportion to that
//! time. Until it succeeds, requests that only free space are committed separately from those that set something: on a
//! full disk, deletions may succeed while writes fail.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use super::database::{DatabaseSlot, EngineError, FileAction, FileFailure, catch_engine_panic};
use super::table::{CacheTables, Changed, WriteError, now_ms};
use crate::cache::{CacheError, ChangeLog};

/// Number of queued requests, after which callers wait, and of requests in a commit.
const QUEUE_LEN: usize = 1024;

/// Interval at which the system's clock is read again for expiries, because it may have been set.
const CLOCK_INTERVAL: Duration = Duration::from_secs(60);

/// The delay after a failed commit, as a multiple of the time to open the file again. So at most a tenth of the time is
/// spent on opening.
const RETRY_DELAY_FACTOR: u32 = 10;
const MAX_RETRY_DELAY: Duration = Duration::from_secs(60);

/// A queued request.
struct WriteRequest {
    /// Whether the request sets nothing.
    frees: bool,
    carry_out: CarryOut,
}

/// Performs a request in a transaction, or rejects it if there is none. Returns the failure of the file, if any, and a
/// closure that answers the request with the outcome of the commit.
type CarryOut = Box<
    dyn FnOnce(Result<&mut CacheTables<'_>, FileFailure>) -> (Result<(), EngineError>, Answer)
        + Send,
>;
type Answer = Box<dyn FnOnce(Result<(), FileFailure>) + Send>;

/// The queue of requests to the thread. Dropping it waits until the queued requests are committed and the file is
/// closed.
pub(super) struct FileWriter {
    requests: Option<mpsc::Sender<WriteRequest>>,
    thread: Option<JoinHandle<()>>,
}

impl FileWriter {
    pub(super) fn start(
        slot: Arc<DatabaseSlot>,
        changes: ChangeLog,
        limit_bytes: u64,
    ) -> std::io::Result<Self> {
        let (requests, queue) = mpsc::channel(QUEUE_LEN);
        let commits = GroupCommit {
            slot,
            changes,
            limit_bytes,
            failed: None,
            retry_after: [None; 2],
        };
        // The thread waits for requests and for expiries, so it has a runtime of its own. Nothing else runs on it, so
        // file operations may block.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()?;
        let thread = std::thread::Builder::new()
            .name("palm-cache".to_owned())
            .spawn(move || runtime.block_on(commits.run(queue)))?;
        Ok(Self {
            requests: Some(requests),
            thread: Some(thread),
        })
    }

    /// Performs `write`, and returns its result once it is on the disk. `frees` says that it sets nothing. If the future
    /// is dropped, the request may be performed or not.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        frees: bool,
        write: impl FnOnce(&mut CacheTables<'_>) -> Result<T, WriteError> + Send + 'static,
    ) -> Result<T, CacheError> {
        let (answer, answered) = oneshot::channel();
        let carry_out: CarryOut = Box::new(move |table| {
            let (written, value) = match table.map(|table| catch_engine_panic(|| write(table))) {
                Ok(Ok(Ok(value))) => (Ok(()), Ok(Some(value))),
                Ok(Ok(Err(WriteError::Rejected(error)))) => (Ok(()), Err(error)),
                Ok(Ok(Err(WriteError::Failed(error)))) => (Err(error.into()), Ok(None)),
                Ok(Err(panicked)) => (Err(panicked), Ok(None)),
                Err(failure) => (Ok(()), Err(failure.into())),
            };
            let finish = move |committed: Result<(), FileFailure>| {
                let value = match (committed, value) {
                    (Ok(()), Ok(Some(value))) => Ok(value),
                    // Unreachable: a failed request fails its commit.
                    (Ok(()), Ok(None)) => Err(gone()),
                    (Err(failure), Ok(_)) => Err(failure.into()),
                    (_, Err(rejected)) => Err(rejected),
                };
                // The caller may have dropped its future.
                let _ = answer.send(value);
            };
            (written, Box::new(finish))
        });
        let requests = self.requests.as_ref().ok_or_else(gone)?;
        let request = WriteRequest { frees, carry_out };
        requests.send(request).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}

/// The error if the thread has panicked, which is a bug in palm.
fn gone() -> CacheError {
    CacheError::Store("the thread that writes the cache file has panicked".into())
}

impl Drop for FileWriter {
    fn drop(&mut self) {
        self.requests = None;
        if let Some(thread) = self.thread.take() {
            // The panic hook has reported a panic.
            let _ = thread.join();
        }
    }
}

struct GroupCommit {
    slot: Arc<DatabaseSlot>,
    changes: ChangeLog,
    limit_bytes: u64,
    /// The cause of the last failure, until a commit of requests that set something succeeds.
    failed: Option<FileFailure>,
    /// The end of the retry delay, for requests that set something and for those that free.
    retry_after: [Option<Instant>; 2],
}

impl GroupCommit {
    async fn run(mut self, mut queue: mpsc::Receiver<WriteRequest>) {
        let mut requests = Vec::with_capacity(QUEUE_LEN);
        // Starts with the entries that expired while the file was closed.
        let mut next_end = Some(0_u64);
        loop {
            let wait = next_end.map(|end| Duration::from_millis(end.saturating_sub(now_ms())));
            let received = queue.recv_many(&mut requests, QUEUE_LEN);
            match tokio::time::timeout(wait.unwrap_or(CLOCK_INTERVAL).min(CLOCK_INTERVAL), received)
                .await
            {
                Ok(0) => return,
                Ok(_) => {}
                Err(_) if next_end.is_none_or(|end| end > now_ms()) => continue,
                Err(_) => {}
            }
            // After a failure, expired entries are removed with the next request.
            next_end = match self.failed {
                None => self.attempt(requests.drain(..), false),
                Some(_) => {
                    let (frees, sets): (Vec<_>, Vec<_>) =
                        requests.drain(..).partition(|it| it.frees);
                    let next_end = self.attempt_if_due(frees, true);
                    self.attempt_if_due(sets, false).or(next_end)
                }
            };
        }
    }

    fn attempt_if_due(&mut self, requests: Vec<WriteRequest>, frees: bool) -> Option<u64> {
        if requests.is_empty() {
            return None;
        }
        match (&self.failed, self.retry_after[usize::from(frees)]) {
            (Some(failure), Some(until)) if Instant::now() < until => {
                reject(requests, failure);
                None
            }
            _ => self.attempt(requests.into_iter(), frees),
        }
    }

    /// GroupCommit requests and answers them. Returns the earliest expiry. `frees` says that none of them sets anything.
    fn attempt(
        &mut self,
        requests: impl Iterator<Item = WriteRequest>,
        frees: bool,
    ) -> Option<u64> {
        let mut requests = requests;
        let mut answers = Vec::new();
        let mut committed = self.commit(&mut requests, &mut answers);
        let unusable = matches!(
            committed,
            Err(EngineError::Closed | EngineError::File(redb::Error::PreviousIo))
        );
        if unusable && answers.is_empty() {
            // A read failed before, or the file could not be opened again. No request was performed yet.
            committed = match self.slot.reopen() {
                Ok(()) => self.commit(&mut requests, &mut answers),
                Err(failure) => {
                    self.start_retry_delay(frees, Duration::ZERO);
                    reject(requests, &failure);
                    self.failed = Some(failure);
                    return None;
                }
            };
        }
        match committed {
            Ok((changed, next_end)) => {
                for (key, value) in changed {
                    self.changes.record(key, value);
                }
                if !frees {
                    self.failed = None;
                }
                answers.into_iter().for_each(|answer| answer(Ok(())));
                next_end
            }
            Err(broken) => {
                let failure = self.slot.failure(FileAction::Write, broken);
                let begin = Instant::now();
                // If this fails, the next request tries again.
                let reopened = self.slot.reopen();
                if let Err(failure) = reopened {
                    tracing::debug!("{}", crate::failure::chain(&failure));
                }
                self.start_retry_delay(frees, begin.elapsed());
                for answer in answers {
                    answer(Err(failure.clone()));
                }
                reject(requests, &failure);
                self.failed = Some(failure);
                None
            }
        }
    }

    /// Starts the retry delay after a failure. `reopening` is the time that it took to open the file again.
    fn start_retry_delay(&mut self, frees: bool, reopening: Duration) {
        let until = Instant::now() + (RETRY_DELAY_FACTOR * reopening).min(MAX_RETRY_DELAY);
        self.retry_after[usize::from(frees)] = Some(until);
    }

    /// Performs requests in one transaction and commits it. Returns the changes and the earliest expiry. After an error
    /// nothing is committed, and `requests` has those that were not performed.
    fn commit(
        &self,
        requests: &mut impl Iterator<Item = WriteRequest>,
        answers: &mut Vec<Answer>,
    ) -> Result<(Vec<Changed>, Option<u64>), EngineError> {
        self.slot.with(|database| {
            let write = database.begin_write().map_err(redb::Error::from)?;
            let mut table = CacheTables::open(&write, self.limit_bytes)?;
            table.remove_expired()?;
            for request in requests {
                let (written, answer) = (request.carry_out)(Ok(&mut table));
                answers.push(answer);
                written?;
            }
            let (changed, next_end) = table.finish()?;
            if changed.is_empty() {
                write.abort().map_err(redb::Error::from)?;
            } else {
                write.commit().map_err(redb::Error::from)?;
            }
            Ok((changed, next_end))
        })
    }
}

fn reject(requests: impl IntoIterator<Item = WriteRequest>, failure: &FileFailure) {
    for request in requests {
        let (_, answer) = (request.carry_out)(Err(failure.clone()));
        answer(Err(failure.clone()));
    }
}
