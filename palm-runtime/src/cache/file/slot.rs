//! The open file, which is closed and opened again after it failed.
//!
//! After an I/O error redb refuses everything, reads too, until the database is opened again. Opening repairs
//! it, as after a crash: the file has what the last commit made it.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError, RwLock};

use redb::{Database, DatabaseError};

use crate::cache::CacheError;
use crate::failure::panic_text;

type Open = Box<dyn Fn() -> Result<Database, DatabaseError> + Send + Sync>;

/// The open file. It stays open while a request uses it.
pub(super) struct Slot {
    /// `None` if it could not be opened again.
    database: RwLock<Option<Database>>,
    open: Open,
    path: Arc<str>,
}

impl Slot {
    pub(super) fn new(database: Database, open: Open, path: &str) -> Self {
        Self {
            database: RwLock::new(Some(database)),
            open,
            path: path.into(),
        }
    }

    /// Uses the file. A panic of the engine, as damaged files cause them, is an error.
    pub(super) fn with<T, E: From<Broken>>(
        &self,
        work: impl FnOnce(&Database) -> Result<T, E>,
    ) -> Result<T, E> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        match &*database {
            Some(database) => {
                uncaught(|| work(database)).unwrap_or_else(|broken| Err(broken.into()))
            }
            None => Err(Broken::Closed.into()),
        }
    }

    /// Closes the file and opens it again. Waits for the reads that are under way, and all others wait for it.
    pub(super) fn reopen(&self) -> Result<(), FileFailure> {
        let mut database = self
            .database
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let old = database.take();
        // It reports again what it has reported already.
        let _ = uncaught(|| drop(old));
        let opened = uncaught(|| (self.open)());
        *database = Some(match opened {
            Ok(Ok(opened)) => opened,
            Ok(Err(error)) => return Err(self.failure(Action::Open, Broken::File(error.into()))),
            Err(broken) => return Err(self.failure(Action::Open, broken)),
        });
        Ok(())
    }

    pub(super) fn failure(&self, action: Action, broken: Broken) -> FileFailure {
        let path = self.path.clone();
        let broken = Arc::new(broken);
        FileFailure {
            path,
            action,
            broken,
        }
    }
}

/// Runs `work`, whose panic is an error.
pub(super) fn uncaught<T>(work: impl FnOnce() -> T) -> Result<T, Broken> {
    // What is left half done belongs to a database that is dropped.
    let panicked = |panic: Box<dyn Any + Send>| Broken::Panicked(panic_text(&*panic));
    catch_unwind(AssertUnwindSafe(work)).map_err(panicked)
}

/// Why the engine did not do what it was asked for.
#[derive(Debug)]
pub(super) enum Broken {
    File(redb::Error),
    /// It found what it does not expect in the file.
    Panicked(String),
    /// It is not open: it failed, and could not be opened again.
    Closed,
}

impl From<redb::Error> for Broken {
    fn from(error: redb::Error) -> Self {
        Self::File(error)
    }
}

/// What was done with the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Open,
    Read,
    Write,
}

/// That the file failed, why, and what to do. Clones are for all requests of a commit.
#[derive(Debug, Clone)]
pub(super) struct FileFailure {
    path: Arc<str>,
    action: Action,
    broken: Arc<Broken>,
}

impl FileFailure {
    fn advice(&self) -> &'static str {
        use std::io::ErrorKind;
        match &*self.broken {
            Broken::File(redb::Error::Io(error)) => match error.kind() {
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
                    "free some space on its disk, the next request tries again"
                }
                ErrorKind::FileTooLarge => {
                    "raise the limit on the size of files, the next request tries again"
                }
                _ => "check its disk, the next request tries again",
            },
            Broken::File(redb::Error::Corrupted(_)) | Broken::Panicked(_) => {
                "the file is damaged: restore it from a copy, or remove it to begin with an empty cache"
            }
            Broken::File(_) | Broken::Closed => "the next request tries again",
        }
    }
}

impl std::fmt::Display for FileFailure {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let action = match self.action {
            Action::Open => "opened",
            Action::Read => "read",
            Action::Write => "written",
        };
        let (path, advice) = (&self.path, self.advice());
        write!(
            formatter,
            "the cache file `{path}` cannot be {action} ({advice})"
        )
    }
}

impl std::error::Error for FileFailure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &*self.broken {
            // The error of redb says the same, and has no source.
            Broken::File(redb::Error::Io(error)) => Some(error),
            Broken::File(error) => Some(error),
            broken @ (Broken::Panicked(_) | Broken::Closed) => Some(broken),
        }
    }
}

impl std::fmt::Display for Broken {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(error) => error.fmt(formatter),
            Self::Panicked(text) => write!(formatter, "the engine panicked: {text}"),
            Self::Closed => formatter.write_str("it failed, and could not be opened again"),
        }
    }
}

impl std::error::Error for Broken {}

impl From<FileFailure> for CacheError {
    fn from(failure: FileFailure) -> Self {
        Self::Store(failure.into())
    }
}
