//! The thread that changes the file: one commit, and one sync of the disk, for all that waits.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use redb::Database;
use tokio::sync::{mpsc, oneshot};

use super::table::{Table, WriteError, now_ms};
use crate::cache::{CacheError, Changes};
use crate::error::BoxError;

/// Requests that wait for the writer; further ones wait with their callers. Also the most that one
/// commit has.
const QUEUE: usize = 1024;

/// Longest time until the clock is looked at again, since it may have been set.
const CLOCK: Duration = Duration::from_secs(60);

/// A request. It tells what the file could not do, and otherwise answers later, with what came of the
/// commit.
type Job = Box<dyn FnOnce(&mut Table<'_>) -> (Result<(), redb::Error>, Answer) + Send>;
type Answer = Box<dyn FnOnce(Result<(), CacheError>) + Send>;

/// The writer's end that requests go to. Dropping it finishes what is queued, and waits for that: then
/// the file is closed, and may be opened again.
pub(super) struct Writer {
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    pub(super) fn start(
        database: Arc<Database>,
        changes: Changes,
        limit_bytes: u64,
    ) -> std::io::Result<Self> {
        let (jobs, queue) = mpsc::channel(QUEUE);
        let commits = Commits {
            database,
            changes,
            limit_bytes,
        };
        // It waits for requests and for keys that end, hence a runtime; there is nothing else on it
        // that the file could keep from running.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()?;
        let thread = std::thread::Builder::new()
            .name("palm-cache".to_owned())
            .spawn(move || runtime.block_on(commits.run(queue)))?;
        Ok(Self {
            jobs: Some(jobs),
            thread: Some(thread),
        })
    }

    /// What comes of `write`, when it is on the disk. Dropping the future before that leaves open
    /// whether it is carried out.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        write: impl FnOnce(&mut Table<'_>) -> Result<T, WriteError> + Send + 'static,
    ) -> Result<T, CacheError> {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |table| {
            let (written, value) = match write(table) {
                Ok(value) => (Ok(()), Ok(Some(value))),
                Err(WriteError::Refused(error)) => (Ok(()), Err(error)),
                Err(WriteError::Failed(error)) => (Err(error), Ok(None)),
            };
            let finish = move |committed: Result<(), CacheError>| {
                let value = match (committed, value) {
                    (Ok(()), Ok(Some(value))) => Ok(value),
                    // A request that failed fails its commit.
                    (Ok(()), Ok(None)) => Err(gone()),
                    (Err(error), Ok(_)) => Err(error),
                    (_, Err(refused)) => Err(refused),
                };
                // Whoever asked may have given up.
                let _ = answer.send(value);
            };
            (written, Box::new(finish))
        });
        let jobs = self.jobs.as_ref().ok_or_else(gone)?;
        jobs.send(job).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}

/// The writer panicked: a mistake of ours, or a file that was changed from outside.
fn gone() -> CacheError {
    CacheError::Store("the cache file is not written any more".into())
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // It says itself why it panicked.
            let _ = thread.join();
        }
    }
}

struct Commits {
    database: Arc<Database>,
    changes: Changes,
    limit_bytes: u64,
}

impl Commits {
    async fn run(self, mut queue: mpsc::Receiver<Job>) {
        let mut jobs = Vec::with_capacity(QUEUE);
        // To begin with, what ended while nobody had the file open.
        let mut next_end = Some(0_u64);
        loop {
            let wait = next_end.map(|end| Duration::from_millis(end.saturating_sub(now_ms())));
            let received = queue.recv_many(&mut jobs, QUEUE);
            match tokio::time::timeout(wait.unwrap_or(CLOCK).min(CLOCK), received).await {
                Ok(0) => return,
                Ok(_) => {}
                Err(_) if next_end.is_none_or(|end| end > now_ms()) => continue,
                Err(_) => {}
            }
            let mut answers = VecDeque::with_capacity(jobs.len());
            let committed = self.commit(jobs.drain(..), &mut answers);
            let failed = match committed {
                Ok(next) => {
                    next_end = next;
                    None
                }
                Err(error) => {
                    tracing::error!("the cache file cannot be written: {error}");
                    // What ends is tried again with the next request.
                    next_end = None;
                    Some(Arc::new(error))
                }
            };
            for answer in answers {
                let shared =
                    |error: &Arc<redb::Error>| CacheError::Store(BoxError::from(error.clone()));
                answer(failed.as_ref().map_or(Ok(()), |error| Err(shared(error))));
            }
        }
    }

    /// Carries out requests and puts what came of them on the disk; tells when the next key ends.
    /// After an error none of them is in the file, and those that were not reached are dropped, which
    /// their callers notice.
    fn commit(
        &self,
        jobs: impl Iterator<Item = Job>,
        answers: &mut VecDeque<Answer>,
    ) -> Result<Option<u64>, redb::Error> {
        let write = self.database.begin_write()?;
        let mut table = Table::open(&write, self.limit_bytes)?;
        table.remove_ended()?;
        for job in jobs {
            let (written, answer) = job(&mut table);
            answers.push_back(answer);
            written?;
        }
        let (changed, next_end) = table.finish()?;
        if changed.is_empty() {
            write.abort()?;
        } else {
            write.commit()?;
        }
        for (key, value) in changed {
            self.changes.record(key, value);
        }
        Ok(next_end)
    }
}
