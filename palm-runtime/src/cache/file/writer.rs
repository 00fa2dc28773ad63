//! The thread that changes the file: one commit, and one sync of the disk, for all requests in the queue.
//!
//! A commit that fails fails for all of its requests, and the file is opened again, so that it can be read
//! meanwhile. The next requests try again, after a pause: opening repairs the file, which takes long if it is
//! large. On a full disk deletions are tried on their own, since they may succeed while nothing can be set.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use super::slot::{Action, Broken, FileFailure, Slot, uncaught};
use super::table::{Changed, Table, WriteError, now_ms};
use crate::cache::{CacheError, Changes};

/// Requests that wait for the writer; further ones wait with their callers. Also the most that one
/// commit has.
const QUEUE: usize = 1024;

/// Longest time until the clock is looked at again, since it may have been set.
const CLOCK: Duration = Duration::from_secs(60);

/// How long the file is not written after a commit failed: this many times as long as it took to open it
/// again, so that a tenth of the time at most goes into that.
const PAUSE: u32 = 10;
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// A request.
struct Job {
    /// Whether it only removes, or changes nothing.
    frees: bool,
    carry_out: CarryOut,
}

/// Carries out a request in a commit, or refuses it. It tells what the file could not do, and otherwise
/// answers later, with what came of the commit.
type CarryOut =
    Box<dyn FnOnce(Result<&mut Table<'_>, FileFailure>) -> (Result<(), Broken>, Answer) + Send>;
type Answer = Box<dyn FnOnce(Result<(), FileFailure>) + Send>;

/// The writer's end that requests go to. Dropping it finishes what is queued, and waits for that: then
/// the file is closed, and may be opened again.
pub(super) struct Writer {
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    pub(super) fn start(
        slot: Arc<Slot>,
        changes: Changes,
        limit_bytes: u64,
    ) -> std::io::Result<Self> {
        let (jobs, queue) = mpsc::channel(QUEUE);
        let commits = Commits {
            slot,
            changes,
            limit_bytes,
            failed: None,
            paused: [None; 2],
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

    /// What comes of `write`, when it is on the disk; `frees` if it only removes. Dropping the future before
    /// that leaves open whether it is carried out.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        frees: bool,
        write: impl FnOnce(&mut Table<'_>) -> Result<T, WriteError> + Send + 'static,
    ) -> Result<T, CacheError> {
        let (answer, answered) = oneshot::channel();
        let carry_out: CarryOut = Box::new(move |table| {
            let (written, value) = match table.map(|table| uncaught(|| write(table))) {
                Ok(Ok(Ok(value))) => (Ok(()), Ok(Some(value))),
                Ok(Ok(Err(WriteError::Refused(error)))) => (Ok(()), Err(error)),
                Ok(Ok(Err(WriteError::Failed(error)))) => (Err(error.into()), Ok(None)),
                Ok(Err(panicked)) => (Err(panicked), Ok(None)),
                Err(failure) => (Ok(()), Err(failure.into())),
            };
            let finish = move |committed: Result<(), FileFailure>| {
                let value = match (committed, value) {
                    (Ok(()), Ok(Some(value))) => Ok(value),
                    // A request that failed fails its commit.
                    (Ok(()), Ok(None)) => Err(gone()),
                    (Err(failure), Ok(_)) => Err(failure.into()),
                    (_, Err(refused)) => Err(refused),
                };
                // Whoever asked may have given up.
                let _ = answer.send(value);
            };
            (written, Box::new(finish))
        });
        let jobs = self.jobs.as_ref().ok_or_else(gone)?;
        let job = Job { frees, carry_out };
        jobs.send(job).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}

/// The thread has panicked: a bug in palm.
fn gone() -> CacheError {
    CacheError::Store("the thread that writes the cache file has ended".into())
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
    slot: Arc<Slot>,
    changes: Changes,
    limit_bytes: u64,
    /// Why the last commit failed, until one succeeds that sets something.
    failed: Option<FileFailure>,
    /// Until when requests are refused, those that set something and those that free.
    paused: [Option<Instant>; 2],
}

impl Commits {
    async fn run(mut self, mut queue: mpsc::Receiver<Job>) {
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
            // What ends is tried again with the next request after a failure.
            next_end = match self.failed {
                None => self.attempt(jobs.drain(..), false),
                Some(_) => {
                    let (frees, sets): (Vec<_>, Vec<_>) = jobs.drain(..).partition(|it| it.frees);
                    let next_end = self.attempt_if_due(frees, true);
                    self.attempt_if_due(sets, false).or(next_end)
                }
            };
        }
    }

    fn attempt_if_due(&mut self, jobs: Vec<Job>, frees: bool) -> Option<u64> {
        if jobs.is_empty() {
            return None;
        }
        match (&self.failed, self.paused[usize::from(frees)]) {
            (Some(failure), Some(until)) if Instant::now() < until => {
                refuse(jobs, failure);
                None
            }
            _ => self.attempt(jobs.into_iter(), frees),
        }
    }

    /// Commits some requests, and answers them; when the next key ends. `frees` if all of them only remove.
    fn attempt(&mut self, jobs: impl Iterator<Item = Job>, frees: bool) -> Option<u64> {
        let mut jobs = jobs;
        let mut answers = Vec::new();
        let mut committed = self.commit(&mut jobs, &mut answers);
        let unusable = matches!(
            committed,
            Err(Broken::Closed | Broken::File(redb::Error::PreviousIo))
        );
        if unusable && answers.is_empty() {
            // A read failed, or the file could not be opened again. No request has been touched.
            committed = match self.slot.reopen() {
                Ok(()) => self.commit(&mut jobs, &mut answers),
                Err(failure) => {
                    self.pause(frees, Duration::ZERO);
                    refuse(jobs, &failure);
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
                let failure = self.slot.failure(Action::Write, broken);
                let begin = Instant::now();
                // It is tried again with the next request.
                let reopened = self.slot.reopen();
                if let Err(failure) = reopened {
                    tracing::debug!("{}", crate::failure::chain(&failure));
                }
                self.pause(frees, begin.elapsed());
                for answer in answers {
                    answer(Err(failure.clone()));
                }
                refuse(jobs, &failure);
                self.failed = Some(failure);
                None
            }
        }
    }

    /// Writes nothing for a while after it took `reopening` to open the file again.
    fn pause(&mut self, frees: bool, reopening: Duration) {
        let until = Instant::now() + (PAUSE * reopening).min(LONGEST_PAUSE);
        self.paused[usize::from(frees)] = Some(until);
    }

    /// Carries out requests and puts what came of them on the disk; tells what has changed, and when the next
    /// key ends. After an error none of them is in the file, and `jobs` has those that were not reached.
    fn commit(
        &self,
        jobs: &mut impl Iterator<Item = Job>,
        answers: &mut Vec<Answer>,
    ) -> Result<(Vec<Changed>, Option<u64>), Broken> {
        self.slot.with(|database| {
            let write = database.begin_write().map_err(redb::Error::from)?;
            let mut table = Table::open(&write, self.limit_bytes)?;
            table.remove_ended()?;
            for job in jobs {
                let (written, answer) = (job.carry_out)(Ok(&mut table));
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

fn refuse(jobs: impl IntoIterator<Item = Job>, failure: &FileFailure) {
    for job in jobs {
        let (_, answer) = (job.carry_out)(Err(failure.clone()));
        answer(Err(failure.clone()));
    }
}
