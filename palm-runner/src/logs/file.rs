//! The file of a run that is being written.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use palm_plan::LogLimits;

use super::compress::{Compressor, delete_old_runs};
use super::failures::{WriteFailure, lost};
use super::format::{Line, Stream, timestamp};
use super::segment::{Part, Segment, segments};

/// Time between two attempts to write after one has failed.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// Free bytes of the disk from which on lines are written again after it was full: a few reads of output.
const MIN_FREE_BYTES: u64 = 256 * 1024;

/// The file of a run.
#[derive(Debug)]
pub(super) struct RunLog {
    folder: PathBuf,
    run: u32,
    limits: LogLimits,
    compressor: Compressor,
    /// `None` after the file could not be opened.
    file: Option<File>,
    bytes: u64,
    failure: Option<WriteFailure>,
}

impl RunLog {
    /// Opens the file of a run, and continues it if it exists. The folder of the instance is created.
    pub(super) fn open(folder: &Path, run: u32, limits: LogLimits, compressor: Compressor) -> Self {
        let mut this = Self {
            folder: folder.to_owned(),
            run,
            limits,
            compressor,
            file: None,
            bytes: 0,
            failure: None,
        };
        delete_old_runs(folder, run, limits.runs);
        if let Err(error) = this.open_file() {
            this.fail(&error, 0);
        }
        this
    }

    /// Continues with a failure of the runner before this one.
    pub(super) fn continue_failure(&mut self, lost_lines: u64, error: String) {
        self.failure = Some(WriteFailure {
            error,
            lost_lines,
            tried_at: Instant::now(),
        });
    }

    /// Sets other limits.
    pub(super) fn set_limits(&mut self, limits: LogLimits) {
        self.limits = limits;
    }

    /// Returns why lines are not written at present.
    pub(super) fn failure(&self) -> Option<&WriteFailure> {
        self.failure.as_ref()
    }

    /// Appends complete lines. If that fails, they are lost, and a line says so once writing succeeds again.
    pub(super) fn append(&mut self, lines: &[u8]) {
        let count = lines.iter().filter(|byte| **byte == b'\n').count();
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        self.retry();
        match &mut self.failure {
            Some(failure) => failure.lost_lines += count,
            None => {
                if let Err(error) = self.write(lines) {
                    self.fail(&error, count);
                }
            }
        }
    }

    /// Returns when [`retry`](Self::retry) tries again, if lines are not written at present.
    pub(super) fn retry_at(&self) -> Option<Instant> {
        let failure = self.failure.as_ref()?;
        Some(failure.tried_at + RETRY_INTERVAL)
    }

    /// After a failure: tries to write again, once a second.
    pub(super) fn retry(&mut self) {
        if self.retry_at().is_some_and(|at| at <= Instant::now()) {
            self.retry_at_once();
        }
    }

    /// After a failure: tries to write how many lines were lost.
    pub(super) fn retry_at_once(&mut self) {
        let Some(failure) = &self.failure else { return };
        let mut note = Vec::new();
        let text = format!("palm: {}: {}", lost(failure.lost_lines), failure.error);
        let line = Line {
            time: &timestamp(SystemTime::now()),
            stream: Stream::Stderr,
            is_partial: false,
            text: &text,
        };
        line.write(&mut note);
        match self.has_space().and_then(|()| self.write(&note)) {
            Ok(()) => self.failure = None,
            Err(error) => self.fail(&error, 0),
        }
    }

    /// Fails on a disk that is as good as full. A single line fits into what is left of its block, and the next
    /// lines would be lost again.
    fn has_space(&self) -> io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        let state = rustix::fs::statvfs(&self.folder)?;
        match state.f_bavail.saturating_mul(state.f_frsize) < MIN_FREE_BYTES {
            true => Err(rustix::io::Errno::NOSPC.into()),
            false => Ok(()),
        }
    }

    fn fail(&mut self, error: &io::Error, lines: u64) {
        let lost_before = self
            .failure
            .as_ref()
            .map_or(0, |failure| failure.lost_lines);
        self.failure = Some(WriteFailure {
            error: error.to_string(),
            lost_lines: lost_before + lines,
            tried_at: Instant::now(),
        });
    }

    fn open_file(&mut self) -> io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        let path = Segment::live(self.run).path(&self.folder);
        let file = OpenOptions::new().append(true).create(true).open(path)?;
        self.bytes = file.metadata()?.len();
        self.file = Some(file);
        Ok(())
    }

    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        if self.file.is_none() {
            self.open_file()?;
        }
        let Some(file) = &mut self.file else {
            return Ok(());
        };
        if let Err(error) = file.write_all(lines) {
            // A part of a line would spoil the next one.
            let _ = file.set_len(self.bytes);
            return Err(error);
        }
        self.bytes += u64::try_from(lines.len()).unwrap_or(0);
        if self.bytes >= self.limits.file_bytes {
            // The lines are written. If it fails, the file grows, or the next write opens it.
            let _ = self.rotate();
        }
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        let segments = segments(&self.folder);
        let numbers = segments
            .iter()
            .filter(|it| it.run == self.run)
            .map(|it| it.part);
        let last = numbers.filter_map(|part| match part {
            Part::Rotated(number) => Some(number),
            Part::Live => None,
        });
        let rotated = Segment::rotated(self.run, last.max().unwrap_or(0) + 1);
        let path = rotated.path(&self.folder);
        fs::rename(Segment::live(self.run).path(&self.folder), &path)?;
        self.file = None;
        self.compressor.compress(path, self.limits);
        self.open_file()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::sync::mpsc::sync_channel;

    use super::super::compress::{Job, compress, delete_aged, delete_old};
    use super::*;

    fn line(number: u32) -> Vec<u8> {
        format!("2026-11-28T12:00:00.000000000Z stdout F line {number}\n").into_bytes()
    }

    #[test]
    fn file_is_rotated_compressed_and_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let limits = LogLimits {
            file_bytes: 1000,
            instance_bytes: 1000,
            ..LogLimits::default()
        };
        let (sender, receiver) = sync_channel(1000);
        let mut log = RunLog::open(folder.path(), 3, limits, Compressor(sender));
        for number in 0..400 {
            log.append(&line(number));
        }
        assert!(log.failure().is_none());
        let mut all = String::new();
        for segment in segments(folder.path()) {
            segment
                .open(folder.path())
                .unwrap()
                .read_to_string(&mut all)
                .unwrap();
        }
        let expected: Vec<u8> = (0..400).flat_map(line).collect();
        assert_eq!(all.as_bytes(), expected);
        drop(log);
        let mut last = String::new();
        for job in receiver {
            match job {
                Job::Compress(path, _) => compress(&path).unwrap(),
                Job::Delete(..) => unreachable!("no folder was swept"),
            }
        }
        delete_old(folder.path(), limits);
        let segments = segments(folder.path());
        let size = |it: &Segment| fs::metadata(it.path(folder.path())).unwrap().len();
        assert!(segments.iter().map(size).sum::<u64>() < 2500);
        assert!(segments.len() > 2 && segments[0].is_compressed);
        for segment in segments {
            segment
                .open(folder.path())
                .unwrap()
                .read_to_string(&mut last)
                .unwrap();
        }
        assert!(all.ends_with(&last));
    }

    #[test]
    fn full_disk_loses_lines_and_says_how_many() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("1.log");
        std::os::unix::fs::symlink("/dev/full", &path).unwrap();
        let compressor = Compressor::start().unwrap();
        let mut log = RunLog::open(folder.path(), 1, LogLimits::default(), compressor);
        for number in 0..3 {
            log.append(&line(number));
        }
        let failure = log.failure().unwrap();
        assert_eq!(failure.lost_lines, 3);
        assert!(failure.error.contains("No space left"), "{}", failure.error);
        fs::remove_file(&path).unwrap();
        log.file = None;
        if let Some(failure) = &mut log.failure {
            failure.tried_at -= RETRY_INTERVAL;
        }
        log.append(&line(3));
        let text = fs::read_to_string(&path).unwrap();
        let mut lines = text.lines().map(|line| Line::parse(line).unwrap().text);
        let note = lines.next().unwrap();
        assert!(
            note.starts_with("palm: 3 lines were lost: No space"),
            "{note}"
        );
        assert_eq!(lines.collect::<Vec<_>>(), ["line 3"]);
    }

    #[test]
    fn old_runs_and_aged_files_are_deleted_but_not_the_last_one() {
        let folder = tempfile::tempdir().unwrap();
        let compressor = Compressor::start().unwrap();
        let limits = LogLimits {
            runs: 3,
            ..LogLimits::default()
        };
        let write = |run| {
            let mut log = RunLog::open(folder.path(), run, limits, compressor.clone());
            log.append(&line(run));
        };
        let runs = || -> Vec<_> {
            let segments = segments(folder.path());
            segments.iter().map(|it| it.run).collect()
        };
        (1..=5).for_each(write);
        assert_eq!(runs(), [3, 4, 5]);
        let fewer = LogLimits { runs: 2, ..limits };
        delete_old(folder.path(), fewer);
        assert_eq!(runs(), [4, 5]);
        let max_age = Duration::from_secs(3600);
        let now = SystemTime::now();
        delete_aged(folder.path(), max_age, now);
        assert_eq!(runs(), [4, 5]);
        // The system's clock was set back: files of the future are kept.
        delete_aged(folder.path(), max_age, now - 2 * max_age);
        assert_eq!(runs(), [4, 5]);
        delete_aged(folder.path(), max_age, now + 2 * max_age);
        assert_eq!(runs(), [5]);
    }
}
