//! Search in log files, those of earlier runs included.

use std::collections::BTreeMap;
use std::io;
use std::num::NonZero;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::sync_channel;
use std::thread;

use grep_matcher::{LineMatchKind, LineTerminator, Match, Matcher, NoCaptures, NoError};
use grep_regex::{RegexMatcher, RegexMatcherBuilder};
use grep_searcher::{Searcher, SearcherBuilder, Sink, SinkContext, SinkMatch};
use palm_plan::InstanceId;

use super::Selection;
use super::entry::Entry;
use super::format::{Line, text_start};
use super::read::{folder, instances};
use super::segment::{Segment, segments};

/// Files whose results may wait for those of an earlier file.
const MAX_WAITING_RESULTS: usize = 64;

/// What is searched for.
#[derive(Debug, Clone)]
pub struct Search {
    /// A regular expression of the crate `regex`, for the text of lines.
    pub pattern: String,
    /// Whether upper and lower case are the same.
    pub ignore_case: bool,
    /// Lines that are shown before and after each match, within its file.
    pub context: usize,
}

/// A line that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// A line that matches.
    Match(Entry),
    /// A line before or after one that matches.
    Context(Entry),
    /// Lines are left out here.
    Gap,
}

/// A search cannot begin.
#[derive(Debug, thiserror::Error)]
#[error("`{pattern}` is not a regular expression")]
pub struct SearchError {
    pattern: String,
    #[source]
    source: grep_regex::Error,
}

/// Calls `found` with each line in the selected logs that matches, by instance and in the order of the output, until
/// it returns `false`. All processors search.
///
/// # Errors
///
/// The pattern is not a regular expression. Files that cannot be read are skipped.
pub fn search(
    logs: &Path,
    selection: &Selection,
    search: &Search,
    mut found: impl FnMut(Found) -> bool,
) -> Result<(), SearchError> {
    let matcher = TextMatcher::new(search)?;
    let selected = instances(logs)
        .into_iter()
        .filter(|id| selection.includes(id));
    let files: Vec<_> = selected
        .flat_map(|id| {
            let segments = segments(&folder(logs, &id));
            segments
                .into_iter()
                .map(move |segment| (id.clone(), segment))
        })
        .filter(|(_, segment)| selection.run.is_none_or(|run| run == segment.run))
        .collect();
    let threads = thread::available_parallelism()
        .map_or(1, NonZero::get)
        .min(files.len());
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        let (sender, results) = sync_channel(MAX_WAITING_RESULTS);
        for _ in 0..threads {
            let (sender, next, files, matcher) = (sender.clone(), &next, &files, &matcher);
            scope.spawn(move || {
                while let Some((id, segment)) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let found = search_file(logs, id, segment, selection, search, matcher);
                    if sender.send((id.clone(), segment.clone(), found)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        let mut waiting = BTreeMap::new();
        let mut order = files.iter();
        let mut expected = order.next();
        for (id, segment, lines) in results {
            waiting.insert((id, segment), lines);
            while let Some(lines) = expected.and_then(|file| waiting.remove(file)) {
                expected = order.next();
                if !lines.into_iter().all(&mut found) {
                    // The threads end when they find the channel closed.
                    next.store(usize::MAX / 2, Ordering::Relaxed);
                    return;
                }
            }
        }
    });
    Ok(())
}

fn search_file(
    logs: &Path,
    id: &InstanceId,
    segment: &Segment,
    selection: &Selection,
    search: &Search,
    matcher: &TextMatcher,
) -> Vec<Found> {
    let mut searcher = SearcherBuilder::new()
        .line_number(false)
        .before_context(search.context)
        .after_context(search.context)
        .build();
    let mut lines = Lines {
        id,
        run: segment.run,
        since: selection.since.as_deref(),
        found: Vec::new(),
    };
    if let Ok(file) = segment.open(&folder(logs, id)) {
        // What was found before an error counts.
        let _ = searcher.search_reader(matcher, file, &mut lines);
    }
    lines.found
}

/// Collects the lines of one file.
struct Lines<'a> {
    id: &'a InstanceId,
    run: u32,
    since: Option<&'a str>,
    found: Vec<Found>,
}

impl Lines<'_> {
    fn entry(&self, line: &[u8]) -> Option<Entry> {
        let text = String::from_utf8_lossy(line);
        let line = Line::parse(text.trim_end_matches('\n'))?;
        let is_late = self.since.is_none_or(|since| line.time >= since);
        is_late.then(|| Entry {
            id: self.id.clone(),
            run: self.run,
            time: line.time.to_owned(),
            stream: line.stream,
            text: line.text.to_owned(),
        })
    }
}

impl Sink for Lines<'_> {
    type Error = io::Error;

    fn matched(&mut self, _: &Searcher, matched: &SinkMatch<'_>) -> io::Result<bool> {
        let entry = self.entry(matched.bytes());
        self.found.extend(entry.map(Found::Match));
        Ok(true)
    }

    fn context(&mut self, _: &Searcher, context: &SinkContext<'_>) -> io::Result<bool> {
        let entry = self.entry(context.bytes());
        self.found.extend(entry.map(Found::Context));
        Ok(true)
    }

    fn context_break(&mut self, _: &Searcher) -> io::Result<bool> {
        if !self.found.is_empty() {
            self.found.push(Found::Gap);
        }
        Ok(true)
    }
}

/// Matches the text of a line, without its time and output. Candidates are searched for in whole files, and then
/// checked.
#[derive(Debug)]
struct TextMatcher {
    regex: RegexMatcher,
    /// Finds all lines that match, and perhaps others. `None` if each line has to be checked.
    candidates: Option<RegexMatcher>,
}

impl TextMatcher {
    fn new(search: &Search) -> Result<Self, SearchError> {
        let build = |pattern: &str| {
            let mut builder = RegexMatcherBuilder::new();
            builder
                .case_insensitive(search.ignore_case)
                .line_terminator(Some(b'\n'))
                .multi_line(true);
            builder.build(pattern).map_err(|source| SearchError {
                pattern: search.pattern.clone(),
                source,
            })
        };
        let regex = build(&search.pattern)?;
        let candidates = candidates(&search.pattern);
        Ok(Self {
            candidates: candidates.map(|pattern| build(&pattern)).transpose()?,
            regex,
        })
    }
}

/// Returns a pattern for whole lines that finds at least what `pattern` finds in their texts.
fn candidates(pattern: &str) -> Option<String> {
    let is_anchored = |pattern: &str| pattern.contains('^') || pattern.contains("\\A");
    if !is_anchored(pattern) {
        return Some(pattern.to_owned());
    }
    let rest = pattern.strip_prefix('^')?;
    // Time, output and tag come before the text.
    (!is_anchored(rest) && !rest.contains('|')).then(|| format!(r"^\S+ \S+ \S {rest}"))
}

impl Matcher for TextMatcher {
    type Captures = NoCaptures;
    type Error = NoError;

    fn find_at(&self, line: &[u8], at: usize) -> Result<Option<Match>, NoError> {
        let start = text_start(line);
        let at = at.saturating_sub(start);
        let found = self.regex.find_at(&line[start..], at)?;
        Ok(found.map(|it| it.offset(start)))
    }

    fn new_captures(&self) -> Result<NoCaptures, NoError> {
        Ok(NoCaptures::new())
    }

    fn line_terminator(&self) -> Option<LineTerminator> {
        Some(LineTerminator::byte(b'\n'))
    }

    fn find_candidate_line(&self, lines: &[u8]) -> Result<Option<LineMatchKind>, NoError> {
        let Some(candidates) = &self.candidates else {
            return Ok((!lines.is_empty()).then_some(LineMatchKind::Candidate(0)));
        };
        let candidate = candidates.find_candidate_line(lines)?;
        Ok(candidate.map(|it| match it {
            LineMatchKind::Confirmed(at) | LineMatchKind::Candidate(at) => {
                LineMatchKind::Candidate(at)
            }
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn found(logs: &Path, pattern: &str, context: usize) -> Vec<String> {
        let mut lines = Vec::new();
        let wanted = Search {
            pattern: pattern.to_owned(),
            ignore_case: false,
            context,
        };
        search(logs, &Selection::default(), &wanted, |found| {
            lines.push(match found {
                Found::Match(it) => format!("{}.{}: {}", it.id, it.run, it.text),
                Found::Context(it) => format!("{}.{}- {}", it.id, it.run, it.text),
                Found::Gap => "--".to_owned(),
            });
            true
        })
        .unwrap();
        lines
    }

    fn write(logs: &Path, file: &str, texts: &[&str]) {
        let path = logs.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let line = |text: &&str| format!("2026-11-28T12:00:00.000000000Z stdout F {text}\n");
        fs::write(path, texts.iter().map(line).collect::<String>()).unwrap();
    }

    #[test]
    fn text_of_all_runs_is_searched_without_time_and_output() {
        let logs = tempfile::tempdir().unwrap();
        let logs = logs.path();
        write(
            logs,
            "a/0/1.log",
            &["one", "two", "three", "four", "five", "one"],
        );
        write(logs, "a/0/2.log", &["two stdout"]);
        write(logs, "b/0/1.log", &["2026"]);
        assert_eq!(found(logs, "stdout", 0), ["a/0.2: two stdout"]);
        assert_eq!(
            found(logs, "2026|^one$", 0),
            ["a/0.1: one", "a/0.1: one", "b/0.1: 2026"]
        );
        for pattern in ["^t.*e$", "hree$", "^(three|x)$", r"^\w{5}$", r"\Athree"] {
            assert_eq!(found(logs, pattern, 0), ["a/0.1: three"], "{pattern}");
        }
        assert_eq!(
            found(logs, r"\bfour\b", 1),
            ["a/0.1- three", "a/0.1: four", "a/0.1- five"]
        );
        let expected = [
            "a/0.1: one",
            "a/0.1- two",
            "--",
            "a/0.1- five",
            "a/0.1: one",
        ];
        assert_eq!(found(logs, "one", 1), expected);
        let wrong = Search {
            pattern: "(".to_owned(),
            ignore_case: false,
            context: 0,
        };
        let error = search(logs, &Selection::default(), &wrong, |_| true).unwrap_err();
        assert_eq!(error.to_string(), "`(` is not a regular expression");
    }
}
