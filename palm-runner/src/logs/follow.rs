//! Waiting for further lines.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};

use super::instances;
use super::read::folder;

/// Wakes when files in the folder of logs change. It says nothing of what changed, so that no change can be missed:
/// the reader looks at the files.
#[derive(Debug)]
pub struct Follower {
    logs: PathBuf,
    inotify: OwnedFd,
}

impl Follower {
    /// Watches a folder that has a folder for each component. It is created.
    ///
    /// # Errors
    ///
    /// The folder cannot be created, or the system permits no further watches.
    pub fn new(logs: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(logs)?;
        let this = Self {
            inotify: inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?,
            logs: logs.to_owned(),
        };
        this.watch()?;
        Ok(this)
    }

    /// Watches folders that are new. A folder that is watched is not watched twice.
    fn watch(&self) -> io::Result<()> {
        let changes = WatchFlags::CREATE | WatchFlags::MODIFY | WatchFlags::MOVED_TO;
        inotify::add_watch(&self.inotify, &self.logs, changes)?;
        for id in instances(&self.logs) {
            // A folder may have been deleted since.
            let _ = inotify::add_watch(&self.inotify, self.logs.join(&id.component), changes);
            let _ = inotify::add_watch(&self.inotify, folder(&self.logs, &id), changes);
        }
        Ok(())
    }

    /// Waits until files change, for this time at most. The caller looks at the files before each wait.
    ///
    /// # Errors
    ///
    /// The system cannot wait.
    pub fn wait(&self, limit: Duration) -> io::Result<()> {
        let limit = Timespec::try_from(limit).map_err(|_| io::ErrorKind::InvalidInput)?;
        let mut descriptors = [PollFd::new(&self.inotify, PollFlags::IN)];
        match poll(&mut descriptors, Some(&limit)) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        let mut buffer = [const { MaybeUninit::uninit() }; 4096];
        let mut events = Reader::new(&self.inotify, &mut buffer);
        let mut has_new_folder = false;
        while let Ok(event) = events.next() {
            has_new_folder |= event.events().contains(ReadFlags::ISDIR);
        }
        match has_new_folder {
            true => self.watch(),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Instant;

    use super::*;

    #[test]
    fn change_of_a_new_instance_wakes() {
        let logs = tempfile::tempdir().unwrap();
        let follower = Follower::new(logs.path()).unwrap();
        let limit = Duration::from_secs(60);
        let begin = Instant::now();
        let folder = logs.path().join("a/0");
        fs::create_dir_all(&folder).unwrap();
        follower.wait(limit).unwrap();
        fs::write(folder.join("1.log"), "x").unwrap();
        follower.wait(limit).unwrap();
        assert!(begin.elapsed() < limit);
    }
}
