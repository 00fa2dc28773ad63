//! One runner for each cluster.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use super::{Folders, RunError};

/// Time in which a runner that does not listen any more ends.
const END_TIMEOUT: Duration = Duration::from_secs(5);
const RETRY_INTERVAL: Duration = Duration::from_millis(10);

/// Creates the folders of a cluster, and locks it for this process. The lock ends with the file, so also with the
/// process, however that ends.
pub(super) fn lock(cluster: &str, folders: &Folders) -> Result<File, RunError> {
    let path = folders.lock();
    let what = || format!("the lock `{}`", path.display());
    let begin = Instant::now();
    loop {
        folders.create()?;
        let opened = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path);
        let mut file = opened.map_err(RunError::io(what()))?;
        match file.try_lock() {
            // The runner before removes its folder: the file that was opened may be the removed one.
            Ok(()) if is_file_at(&file, folders) => {
                write_pid(&mut file).map_err(RunError::io(what()))?;
                return Ok(file);
            }
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let listens = UnixStream::connect(folders.api()).is_ok();
                if listens || begin.elapsed() >= END_TIMEOUT {
                    let mut pid = String::new();
                    let _ = file.read_to_string(&mut pid);
                    return Err(RunError::Locked {
                        cluster: cluster.to_owned(),
                        pid: pid.trim().to_owned(),
                    });
                }
            }
            Err(TryLockError::Error(error)) => return Err(RunError::io(what())(error)),
        }
        // It ends now, or begins; no event reports either.
        thread::sleep(RETRY_INTERVAL);
    }
}

fn is_file_at(file: &File, folders: &Folders) -> bool {
    let inode = |metadata: io::Result<fs::Metadata>| metadata.map(|it| it.ino()).ok();
    let own = inode(file.metadata());
    own.is_some() && own == inode(fs::metadata(folders.lock()))
}

fn write_pid(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}
