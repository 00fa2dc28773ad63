//! Search in log files, those of earlier runs included.

use std::collections::BTreeMap;
use std::io;
use std::num::NonZero;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use grep_matcher::{LineMatchKind, LineTerminator, Match, Matcher, NoCaptures, NoError};
use grep_regex::{RegexMatcher, RegexMatcherBuilder};
use grep_searcher::{Searcher, SearcherBuilder, Sink, SinkContext, SinkMatch};
use palm_plan::InstanceId;
use regex_syntax::ParserBuilder;
use regex_syntax::hir::{Hir, HirKind, Look, Repetition};

use super::Selection;
use super::entry::Entry;
use super::format::{Line, text_start};
use super::read::{folder, instances};
use super::segment::{Segment, segments};

/// Files that a thread searches, on average, before their results are passed on.
const FILES_PER_THREAD: usize = 2;

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
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    // The results of a group are in memory at once, and those of a pattern that finds all lines are large.
    for group in files.chunks(FILES_PER_THREAD * threads) {
        let next = AtomicUsize::new(0);
        let results = thread::scope(|scope| {
            let search_next = || {
                let mut results = Vec::new();
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some((id, segment)) = group.get(index) else {
                        return results;
                    };
                    let found = search_file(logs, id, segment, selection, search, &matcher);
                    results.push((index, found));
                }
            };
            let threads: Vec<_> = (0..threads.min(group.len()))
                .map(|_| scope.spawn(search_next))
                .collect();
            let results = threads.into_iter().filter_map(|thread| thread.join().ok());
            results.flatten().collect::<BTreeMap<_, _>>()
        });
        if !results.into_values().flatten().all(&mut found) {
            return Ok(());
        }
    }
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
    /// Finds all lines that match, and perhaps others.
    candidates: RegexMatcher,
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
        Ok(Self {
            regex: build(&search.pattern)?,
            candidates: build(&candidates(search))?,
        })
    }
}

/// Returns a pattern for whole lines that finds at least what the pattern finds in their texts: the same one without
/// the begin of the text, which is in the middle of its line. What remains mostly has words that can be searched for
/// at the speed of the memory; with the time and the output in front of the text, it would be slower by far.
fn candidates(search: &Search) -> String {
    let mut parser = ParserBuilder::new();
    let parser = parser
        .multi_line(true)
        .case_insensitive(search.ignore_case)
        .utf8(false);
    let is_changed = |hir: &Hir| {
        let mut looks = hir.properties().look_set().iter();
        looks.any(|look| other(look) != Some(look))
    };
    match parser.build().parse(&search.pattern) {
        Ok(hir) if is_changed(&hir) => without_begin(&hir).to_string(),
        // A mistake is reported for the pattern itself.
        _ => search.pattern.clone(),
    }
}

/// Returns what an assertion about the text is for its whole line; `None` for one that can be true in its middle.
fn other(look: Look) -> Option<Look> {
    match look {
        Look::Start | Look::StartLF | Look::StartCRLF => None,
        Look::End => Some(Look::EndLF),
        other => Some(other),
    }
}

fn without_begin(hir: &Hir) -> Hir {
    match hir.kind() {
        HirKind::Look(look) => other(*look).map_or_else(Hir::empty, Hir::look),
        HirKind::Repetition(repetition) => Hir::repetition(Repetition {
            sub: Box::new(without_begin(&repetition.sub)),
            ..repetition.clone()
        }),
        HirKind::Capture(capture) => without_begin(&capture.sub),
        HirKind::Concat(all) => Hir::concat(all.iter().map(without_begin).collect()),
        HirKind::Alternation(all) => Hir::alternation(all.iter().map(without_begin).collect()),
        HirKind::Empty | HirKind::Literal(_) | HirKind::Class(_) => hir.clone(),
    }
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
        let candidate = self.candidates.find_candidate_line(lines)?;
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
        for pattern in [
            "^t.*e$",
            "hree$",
            "^(three|x)$",
            r"^\w{5}$",
            r"\Athree",
            r"thr[^x]+\z",
            "(?i)^THREE|^x",
            "(^th|^xx)ree",
            "(?:^t|x){1,2}h",
        ] {
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

    #[test]
    fn results_of_many_files_keep_their_order_until_the_caller_has_enough() {
        let logs = tempfile::tempdir().unwrap();
        let logs = logs.path();
        for run in 1..=50 {
            let text = format!("line of {run}");
            write(logs, &format!("a/0/{run}.log"), &[&text, "other"]);
        }
        let expected: Vec<_> = (1..=50)
            .map(|run| format!("a/0.{run}: line of {run}"))
            .collect();
        assert_eq!(found(logs, "^line", 0), expected);
        let wanted = Search {
            pattern: "line".to_owned(),
            ignore_case: false,
            context: 0,
        };
        let mut count = 0;
        let enough = |_| {
            count += 1;
            count < 30
        };
        search(logs, &Selection::default(), &wanted, enough).unwrap();
        assert_eq!(count, 30);
    }
}
