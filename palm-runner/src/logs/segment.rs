//! The files of an instance.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;

/// A file with a part of the output of a run. The order is that of the output.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Segment {
    pub(super) run: u32,
    pub(super) part: Part,
    pub(super) is_compressed: bool,
}

/// Which part of a run a file has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    /// One of the earlier parts, from 1.
    Rotated(u32),
    /// The last part.
    Live,
}

impl Segment {
    pub(super) fn live(run: u32) -> Self {
        Self {
            run,
            part: Part::Live,
            is_compressed: false,
        }
    }

    pub(super) fn rotated(run: u32, number: u32) -> Self {
        Self {
            part: Part::Rotated(number),
            ..Self::live(run)
        }
    }

    pub(super) fn name(&self) -> String {
        let run = self.run;
        match (self.part, self.is_compressed) {
            (Part::Live, _) => format!("{run}.log"),
            (Part::Rotated(number), false) => format!("{run}.log.{number}"),
            (Part::Rotated(number), true) => format!("{run}.log.{number}.gz"),
        }
    }

    pub(super) fn path(&self, folder: &Path) -> PathBuf {
        folder.join(self.name())
    }

    fn parse(name: &str) -> Option<Self> {
        let (run, rest) = name.split_once(".log")?;
        let run = run.parse().ok()?;
        if rest.is_empty() {
            return Some(Self::live(run));
        }
        let (number, is_compressed) = match rest.strip_suffix(".gz") {
            Some(rest) => (rest, true),
            None => (rest, false),
        };
        let number = number.strip_prefix('.')?.parse().ok()?;
        Some(Self {
            is_compressed,
            ..Self::rotated(run, number)
        })
    }

    /// Opens the file for reading. It may have been rotated or compressed since it was listed.
    pub(super) fn open(&self, folder: &Path) -> io::Result<Box<dyn Read + Send>> {
        let compressed = Self {
            is_compressed: true,
            ..self.clone()
        };
        let missing = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
        match File::open(self.path(folder)) {
            Ok(file) if !self.is_compressed => Ok(Box::new(file)),
            Ok(file) => Ok(Box::new(MultiGzDecoder::new(file))),
            Err(error) if missing(&error) && !self.is_compressed => {
                let file = File::open(compressed.path(folder))?;
                Ok(Box::new(MultiGzDecoder::new(file)))
            }
            Err(error) => Err(error),
        }
    }
}

/// Returns the files in the folder of an instance, in the order of the output. A part that is being compressed is
/// there twice for a moment, and returned once.
pub(super) fn segments(folder: &Path) -> Vec<Segment> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut segments: Vec<_> = names.filter_map(|name| Segment::parse(&name)).collect();
    segments.sort();
    segments.dedup_by(|second, first| (second.run, second.part) == (first.run, first.part));
    segments
}

/// Returns the number of the last run in the folder of an instance; 0 if there is none.
pub fn last_run(folder: &Path) -> u32 {
    segments(folder).last().map_or(0, |segment| segment.run)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_sorted_by_run_and_part() {
        let folder = tempfile::tempdir().unwrap();
        let names = [
            "10.log",
            "2.log",
            "2.log.10",
            "2.log.9.gz",
            "2.log.9",
            "x",
            "2.log.1.tmp",
        ];
        for name in names {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let found: Vec<_> = segments(folder.path()).iter().map(Segment::name).collect();
        assert_eq!(found, ["2.log.9", "2.log.10", "2.log", "10.log"]);
        assert_eq!(last_run(folder.path()), 10);
        assert_eq!(last_run(&folder.path().join("none")), 0);
    }
}
