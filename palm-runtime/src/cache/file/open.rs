//! Opens the file of a [`FileStore`]: validates an existing file, and creates a new one durably.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use redb::{Database, DatabaseError};

use super::database::{DatabaseSlot, EngineError, catch_engine_panic};
use super::table::{self, FileContent};
use super::writer::FileWriter;
use super::{FileStore, FileStoreInner};
use crate::cache::{ChangeLog, OpenStoreError};

/// Builds a [`FileStore`]. Created by [`FileStore::builder`].
#[must_use = "nothing is opened until `.open()`"]
#[derive(Debug, Clone)]
pub struct FileStoreBuilder {
    path: PathBuf,
    limit_bytes: u64,
    memory_bytes: usize,
}

impl FileStoreBuilder {
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            limit_bytes: 64 * 1024 * 1024 * 1024,
            memory_bytes: 64 * 1024 * 1024,
        }
    }

    /// Sets the limit on all entries, in bytes, including 64 bytes of overhead for each. Default: 64 GiB.
    ///
    /// The file may grow to about twice the limit, because a commit writes changed pages to new places.
    pub fn limit_bytes(mut self, bytes: u64) -> Self {
        self.limit_bytes = bytes;
        self
    }

    /// Sets how many bytes of the file are cached in memory. Default: 64 MiB.
    pub fn memory_bytes(mut self, bytes: usize) -> Self {
        self.memory_bytes = bytes;
        self
    }

    /// Opens the file, or creates it if it does not exist.
    ///
    /// This blocks the thread, for long after a crash, when the whole file is read.
    ///
    /// # Errors
    ///
    /// Returns [`OpenStoreError`] if the file is already open, if it is empty or not a cache file (it is then not
    /// changed), or if the system denies access.
    pub fn open(self) -> Result<FileStore, OpenStoreError> {
        let is_new = !check_existing(&self.path)?;
        let (path, memory_bytes) = (self.path.clone(), self.memory_bytes);
        let was_opened = AtomicBool::new(false);
        let open = move || {
            let mut builder = Database::builder();
            builder.set_cache_size(memory_bytes);
            // Only the first call creates the file. Later, a missing file is an error: a new one would silently be an
            // empty cache.
            match was_opened.swap(true, Ordering::Relaxed) {
                false => builder.create(&path),
                true => builder.open(&path),
            }
        };
        let opened = self.open_by(Box::new(open));
        if opened.is_err() && is_new {
            // Removes a file that was only partly created, because it would be rejected from now on. If that fails too,
            // the error of the next attempt says what to do.
            let path = opened.as_ref().err().and_then(|(_, path)| path.clone());
            if let Some(path) = path {
                let _ = std::fs::remove_file(path);
            }
        }
        opened.map_err(|(error, _)| error)
    }

    /// Opens the file by `open`. The error includes the path of a file that may have been partly created.
    pub(super) fn open_by(
        self,
        open: Box<dyn Fn() -> Result<Database, DatabaseError> + Send + Sync>,
    ) -> Result<FileStore, (OpenStoreError, Option<PathBuf>)> {
        let place = self.path.display().to_string();
        let half_made = |error| (error, Some(self.path.clone()));
        let failed = |source: redb::Error| {
            let place = place.clone();
            let source = match source {
                redb::Error::Io(error) => error.into(),
                error => error.into(),
            };
            half_made(OpenStoreError::Open { place, source })
        };
        let broken = |broken: EngineError| {
            let place = place.clone();
            let source = broken.into();
            (OpenStoreError::Open { place, source }, None)
        };
        let database = match catch_engine_panic(&*open).map_err(broken)? {
            Ok(database) => database,
            Err(DatabaseError::DatabaseAlreadyOpen) => {
                return Err((OpenStoreError::InUse { path: place }, None));
            }
            Err(error) => return Err(failed(error.into())),
        };
        sync_directory(&self.path).map_err(|error| failed(redb::Error::Io(error)))?;
        let found = catch_engine_panic(|| table::prepare(&database)).map_err(broken)?;
        match found.map_err(failed)? {
            FileContent::Cache(table::FORMAT) => {}
            FileContent::Cache(found) => {
                let expected = table::FORMAT;
                let error = OpenStoreError::Format {
                    path: place,
                    found,
                    expected,
                };
                return Err((error, None));
            }
            FileContent::Foreign(table) => {
                let found = format!("a redb database of another program, with the table `{table}`");
                return Err((OpenStoreError::Foreign { path: place, found }, None));
            }
        }
        let changes = ChangeLog::new();
        let slot = Arc::new(DatabaseSlot::new(database, open, &place));
        let writer = FileWriter::start(slot.clone(), changes.clone(), self.limit_bytes)
            .map_err(|error| failed(redb::Error::Io(error)))?;
        Ok(FileStore(Arc::new(FileStoreInner {
            path: self.path,
            slot,
            writer,
            changes,
        })))
    }
}

/// Returns whether the file exists. Rejects an empty file, which the engine would initialise, and a file that is not a
/// redb database, whose content the engine's error would not describe.
fn check_existing(path: &Path) -> Result<bool, OpenStoreError> {
    const MAGIC: &[u8] = b"redb\x1A\x0A\xA9\x0D\x0A";
    let place = || path.display().to_string();
    let failed = |error: std::io::Error| OpenStoreError::Open {
        place: place(),
        source: error.into(),
    };
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(failed(error)),
    };
    if file.metadata().map_err(failed)?.is_dir() {
        let found = "a directory".to_owned();
        return Err(OpenStoreError::Foreign {
            path: place(),
            found,
        });
    }
    let mut begin = Vec::new();
    let mut head = file.take(32);
    head.read_to_end(&mut begin).map_err(failed)?;
    if begin.is_empty() {
        return Err(OpenStoreError::Empty { path: place() });
    }
    if !begin.starts_with(MAGIC) {
        let found = format!(
            "begins with `{}`",
            begin[..begin.len().min(16)].escape_ascii()
        );
        return Err(OpenStoreError::Foreign {
            path: place(),
            found,
        });
    }
    Ok(true)
}

/// Syncs the directory of the file: a new file survives a crash only if its directory entry is on the disk.
fn sync_directory(path: &Path) -> std::io::Result<()> {
    if !cfg!(unix) {
        return Ok(());
    }
    let folder = path.parent().filter(|path| !path.as_os_str().is_empty());
    std::fs::File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}
