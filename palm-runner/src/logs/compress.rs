//! The thread that compresses rotated files and deletes old ones.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, SystemTime};

use flate2::Compression;
use flate2::write::GzEncoder;
use palm_plan::LogLimits;

use super::segment::{Segment, segments};

/// Rotated files that wait for their compression. Further ones remain uncompressed.
const MAX_WAITING_FILES: usize = 1024;

/// The thread that compresses rotated files and deletes old ones. It ends with the last handle.
#[derive(Debug, Clone)]
pub(super) struct Compressor(pub(super) SyncSender<Job>);

/// What the thread has to do.
#[derive(Debug)]
pub(super) enum Job {
    /// Compress a file, and delete old ones in its folder.
    Compress(PathBuf, LogLimits),
    /// Delete old files in the folder of an instance.
    Delete(PathBuf, LogLimits),
}

impl Compressor {
    pub(super) fn start() -> io::Result<Self> {
        let (sender, receiver) = sync_channel(MAX_WAITING_FILES);
        let run = move || {
            for job in receiver {
                match job {
                    Job::Compress(path, limits) => {
                        // The uncompressed file remains if the disk is full.
                        let _ = compress(&path);
                        if let Some(folder) = path.parent() {
                            delete_old(folder, limits);
                        }
                    }
                    Job::Delete(folder, limits) => delete_old(&folder, limits),
                }
            }
        };
        thread::Builder::new()
            .name("palm-compress".to_owned())
            .spawn(run)?;
        Ok(Self(sender))
    }

    pub(super) fn compress(&self, path: PathBuf, limits: LogLimits) {
        let _ = self.0.try_send(Job::Compress(path, limits));
    }

    /// Deletes files of an instance that are beyond the limits.
    pub(super) fn delete_old(&self, folder: PathBuf, limits: LogLimits) {
        let _ = self.0.try_send(Job::Delete(folder, limits));
    }
}

pub(super) fn compress(path: &Path) -> io::Result<()> {
    let with_suffix = |suffix: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    let temporary = with_suffix(".gz.tmp");
    let compressed = (|| {
        let mut source = File::open(path)?;
        let mut encoder = GzEncoder::new(File::create(&temporary)?, Compression::fast());
        io::copy(&mut source, &mut encoder)?;
        encoder.finish()?;
        fs::rename(&temporary, with_suffix(".gz"))?;
        fs::remove_file(path)
    })();
    if compressed.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    compressed
}

/// Deletes the files of runs long before this one, which a component that fails again and again would pile up.
pub(super) fn delete_old_runs(folder: &Path, run: u32, max_runs: u32) {
    for segment in segments(folder) {
        if segment.run.saturating_add(max_runs) <= run {
            let _ = fs::remove_file(segment.path(folder));
        }
    }
}

/// Deletes the files of an instance that are beyond the limits. The last one remains: it may be written at present.
pub(super) fn delete_old(folder: &Path, limits: LogLimits) {
    if let Some(last) = segments(folder).last() {
        delete_old_runs(folder, last.run, limits.runs);
    }
    if let Some(max_age) = limits.max_age {
        delete_aged(folder, max_age, SystemTime::now());
    }
    delete_oldest(folder, limits.instance_bytes);
}

/// Deletes files to which nothing was written for `max_age`. A file whose time is in the future has no age.
pub(super) fn delete_aged(folder: &Path, max_age: Duration, now: SystemTime) {
    let mut segments = segments(folder);
    segments.pop();
    for segment in segments {
        let path = segment.path(folder);
        let written = fs::metadata(&path).and_then(|it| it.modified());
        let age = written.ok().and_then(|it| now.duration_since(it).ok());
        if age.is_some_and(|age| age >= max_age) {
            let _ = fs::remove_file(path);
        }
    }
}

/// Deletes the oldest files of an instance until the rest has this size. The file that is being written remains.
fn delete_oldest(folder: &Path, max_bytes: u64) {
    let mut segments = segments(folder);
    segments.pop();
    let size = |segment: &Segment| fs::metadata(segment.path(folder)).map_or(0, |it| it.len());
    let mut bytes: u64 = segments.iter().map(size).sum();
    for segment in segments {
        if bytes <= max_bytes {
            return;
        }
        bytes -= size(&segment);
        let _ = fs::remove_file(segment.path(folder));
    }
}
