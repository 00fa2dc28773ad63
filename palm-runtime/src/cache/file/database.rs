//! [`DatabaseSlot`]: the open database file, which is closed and opened again after a failure.
//!
//! After an I/O error redb rejects all operations, reads included, until the database is opened again. Opening repairs
//! the file as after a crash: it has the state of the last commit.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use parking_lot::RwLock;
use redb::{Database, DatabaseError};

use crate::cache::CacheError;
use crate::failure::panic_text;

type Open = Box<dyn Fn() -> Result<Database, DatabaseError> + Send + Sync>;

/// The open database. A request that uses it holds a read lock, so the database cannot be closed meanwhile.
pub(super) struct DatabaseSlot {
    /// `None` if the file could not be opened again.
    database: RwLock<Option<Database>>,
    open: Open,
    path: Arc<str>,
}

impl DatabaseSlot {
    pub(super) fn new(database: Database, open: Open, path: &str) -> Self {
        Self {
            database: RwLock::new(Some(database)),
            open,
            path: path.into(),
        }
    }

    /// Runs `work` on the database. A panic of the engine, which a damaged file can cause, becomes an error.
    pub(super) fn with<T, E: From<EngineError>>(
        &self,
        work: impl FnOnce(&Database) -> Result<T, E>,
    ) -> Result<T, E> {
        let database = self.database.read();
        match &*database {
            Some(database) => {
                catch_engine_panic(|| work(database)).unwrap_or_else(|broken| Err(broken.into()))
            }
            None => Err(EngineError::Closed.into()),
        }
    }

    /// Closes the file and opens it again. Waits for running reads, and blocks further ones.
    pub(super) fn reopen(&self) -> Result<(), FileFailure> {
        let mut database = self.database.write();
        let old = database.take();
        // Closing reports the same failure again.
        let _ = catch_engine_panic(|| drop(old));
        let opened = catch_engine_panic(|| (self.open)());
        *database = Some(match opened {
            Ok(Ok(opened)) => opened,
            Ok(Err(error)) => {
                return Err(self.failure(FileAction::Open, EngineError::File(error.into())));
            }
            Err(broken) => return Err(self.failure(FileAction::Open, broken)),
        });
        Ok(())
    }

    pub(super) fn failure(&self, action: FileAction, broken: EngineError) -> FileFailure {
        let path = self.path.clone();
        let broken = Arc::new(broken);
        FileFailure {
            path,
            action,
            broken,
        }
    }
}

/// Runs `work`, and converts a panic to an error.
pub(super) fn catch_engine_panic<T>(work: impl FnOnce() -> T) -> Result<T, EngineError> {
    // Unwind safe: the database is dropped after a panic.
    let panicked = |panic: Box<dyn Any + Send>| EngineError::Panicked(panic_text(&*panic));
    catch_unwind(AssertUnwindSafe(work)).map_err(panicked)
}

/// Error of the storage engine.
#[derive(Debug)]
pub(super) enum EngineError {
    File(redb::Error),
    /// The engine panicked, because the file violates its invariants.
    Panicked(String),
    /// The file is not open: it failed, and could not be opened again.
    Closed,
}

impl From<redb::Error> for EngineError {
    fn from(error: redb::Error) -> Self {
        Self::File(error)
    }
}

/// The operation on the file that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileAction {
    Open,
    Read,
    Write,
}

/// A failure of the file, with its cause and advice. It is cloned for each request of a failed commit.
#[derive(Debug, Clone)]
pub(super) struct FileFailure {
    path: Arc<str>,
    action: FileAction,
    broken: Arc<EngineError>,
}

impl FileFailure {
    fn advice(&self) -> &'static str {
        use std::io::ErrorKind;
        match &*self.broken {
            EngineError::File(redb::Error::Io(error)) => match error.kind() {
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
                    "free some space on its disk, the next request tries again"
                }
                ErrorKind::FileTooLarge => {
                    "raise the limit on the size of files, the next request tries again"
                }
                _ => "check its disk, the next request tries again",
            },
            EngineError::File(redb::Error::Corrupted(_)) | EngineError::Panicked(_) => {
                "the file is damaged: restore it from a copy, or remove it to begin with an empty cache"
            }
            EngineError::File(_) | EngineError::Closed => "the next request tries again",
        }
    }
}

impl std::fmt::Display for FileFailure {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let action = match self.action {
            FileAction::Open => "opened",
            FileAction::Read => "read",
            FileAction::Write => "written",
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
            // redb's error has the same text and no source.
            EngineError::File(redb::Error::Io(error)) => Some(error),
            EngineError::File(error) => Some(error),
            broken @ (EngineError::Panicked(_) | EngineError::Closed) => Some(broken),
        }
    }
}

impl std::fmt::Display for EngineError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(error) => error.fmt(formatter),
            Self::Panicked(text) => write!(formatter, "the engine panicked: {text}"),
            Self::Closed => formatter.write_str("it failed and could not be opened again"),
        }
    }
}

impl std::error::Error for EngineError {}

impl From<FileFailure> for CacheError {
    fn from(failure: FileFailure) -> Self {
        Self::Store(failure.into())
    }
}
