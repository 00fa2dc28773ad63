//! One runner for each cluster.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};

use super::{Folders, RunError};

/// Locks the cluster for this process. The lock ends with the file, so also with the process, however that ends.
pub(super) fn lock(cluster: &str, folders: &Folders) -> Result<File, RunError> {
    let what = || format!("the lock `{}`", folders.lock().display());
    let opened = OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(folders.lock());
    let mut file = opened.map_err(RunError::io(what()))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            let _ = file.read_to_string(&mut pid);
            return Err(RunError::Locked {
                cluster: cluster.to_owned(),
                pid: pid.trim().to_owned(),
            });
        }
        Err(TryLockError::Error(error)) => return Err(RunError::io(what())(error)),
    }
    write_pid(&mut file).map_err(RunError::io(what()))?;
    Ok(file)
}

fn write_pid(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}
