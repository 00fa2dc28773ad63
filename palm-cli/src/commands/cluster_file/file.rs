//! Finding and reading the file of a cluster.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::FileFailure;

const FILE_NAME: &str = "cluster.toml";

/// The file of a cluster.
#[derive(Debug)]
pub(in crate::commands) struct File {
    pub(super) path: PathBuf,
    pub(in crate::commands) text: String,
}

impl File {
    /// Reads the file that was named, or the nearest `cluster.toml`.
    pub(in crate::commands) fn open(path: Option<&Path>) -> Result<Self, FileFailure> {
        let path = match path {
            Some(path) => path.to_owned(),
            None => find()?,
        };
        let text = read(&path)?;
        Ok(Self { path, text })
    }

    /// Returns the path for messages: a relative one if it is below this folder.
    pub(in crate::commands) fn shown(&self) -> String {
        let here = std::env::current_dir().unwrap_or_default();
        let path = self.path.strip_prefix(here).unwrap_or(&self.path);
        path.display().to_string()
    }

    /// Returns the folder of the file, as an absolute path.
    pub(in crate::commands) fn folder(&self) -> Result<PathBuf, FileFailure> {
        let read = |source| FileFailure::Read {
            path: self.path.clone(),
            source,
        };
        let full = self.path.canonicalize().map_err(read)?;
        Ok(full.parent().unwrap_or(Path::new("/")).to_owned())
    }
}

/// Reads a text file.
pub(super) fn read(path: &Path) -> Result<String, FileFailure> {
    fs::read_to_string(path).map_err(|source| FileFailure::Read {
        path: path.to_owned(),
        source,
    })
}

/// Returns the nearest `cluster.toml`, in this folder or in one above it.
fn find() -> Result<PathBuf, FileFailure> {
    let here = std::env::current_dir().map_err(FileFailure::Folder)?;
    let mut files = here.ancestors().map(|folder| folder.join(FILE_NAME));
    files.find(|file| file.is_file()).ok_or(FileFailure::NoFile)
}

/// Writes a file, so that it has the old or the new text at each moment.
pub(super) fn replace(path: &Path, text: &str) -> io::Result<()> {
    // A link stays a link.
    let path = path.canonicalize()?;
    let new = path.with_extension("toml.new");
    fs::write(&new, text)?;
    fs::set_permissions(&new, fs::metadata(&path)?.permissions())?;
    fs::rename(new, path)
}
