//! Lines of components on a terminal.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};

use anstyle::{AnsiColor, Style};
use palm_plan::InstanceId;
use palm_runner::logs::{Entry, Follower, History, Selection};
use palm_runner::runner::Folders;

/// Longest time until a further line is shown if the system does not report it.
pub(super) const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// Writes lines with the name of their instance.
#[derive(Debug, Default)]
pub(super) struct Printer {
    /// The width of the longest name until now.
    width: usize,
    pub(super) shows_time: bool,
}

impl Printer {
    pub(super) fn new(shows_time: bool, ids: &[InstanceId]) -> Self {
        let widths = ids.iter().map(|id| id.to_string().len());
        Self {
            width: widths.max().unwrap_or(0),
            shows_time,
        }
    }

    /// Writes a line. `separator` is between the name and the text.
    pub(super) fn print(
        &mut self,
        output: &mut impl Write,
        entry: &Entry,
        separator: char,
    ) -> io::Result<()> {
        let name = entry.id.to_string();
        self.width = self.width.max(name.len());
        let (style, width) = (style(&entry.id.component), self.width);
        write!(output, "{style}{name:width$}{style:#} {separator} ")?;
        if self.shows_time {
            write!(output, "{} ", short(&entry.time))?;
        }
        // The text may end with another colour.
        let reset = match entry.text.contains('\u{1b}') {
            true => "\u{1b}[0m",
            false => "",
        };
        writeln!(output, "{}{reset}", entry.text)
    }
}

/// Returns a time with milliseconds.
pub(super) fn short(time: &str) -> String {
    match time.get(..23) {
        Some(short) => format!("{short}Z"),
        None => time.to_owned(),
    }
}

/// Returns the time before now, as log files have it.
pub(super) fn before_now(duration: Duration) -> String {
    let time = SystemTime::now().checked_sub(duration);
    let time = time.unwrap_or(SystemTime::UNIX_EPOCH);
    humantime::format_rfc3339_nanos(time).to_string()
}

/// Each component has a colour of its own.
pub(super) fn style(component: &str) -> Style {
    const COLOURS: [AnsiColor; 6] = [
        AnsiColor::Cyan,
        AnsiColor::Yellow,
        AnsiColor::Green,
        AnsiColor::Magenta,
        AnsiColor::Blue,
        AnsiColor::BrightRed,
    ];
    let sum: usize = component.bytes().map(usize::from).sum();
    COLOURS[sum % COLOURS.len()].on_default()
}

/// A thread that shows the lines of all components, for a runner on a terminal.
#[derive(Debug)]
pub(super) struct Console {
    is_done: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

/// Shows lines from now on.
pub(super) fn start(folders: &Folders) -> Option<Console> {
    let logs = folders.logs();
    let is_done = Arc::new(AtomicBool::new(false));
    let shared = is_done.clone();
    let selection = Selection {
        since: Some(before_now(Duration::ZERO)),
        ..Selection::default()
    };
    let show = move || {
        let Ok(follower) = Follower::new(&logs) else {
            return;
        };
        let mut history = History::new(&logs, selection);
        let mut printer = Printer::default();
        loop {
            // What was written before the end is shown.
            let is_last = shared.load(Ordering::Acquire);
            let mut output = anstream::stdout().lock();
            for entry in history.by_ref() {
                if printer.print(&mut output, &entry, '|').is_err() {
                    return;
                }
            }
            drop(output);
            if is_last || follower.wait(LOOK_INTERVAL).is_err() {
                return;
            }
            history.refresh();
        }
    };
    let thread = thread::Builder::new()
        .name("palm-console".to_owned())
        .spawn(show);
    thread.ok().map(|thread| Console { is_done, thread })
}

impl Console {
    /// Shows the rest.
    pub(super) fn finish(self) {
        self.is_done.store(true, Ordering::Release);
        let _ = self.thread.join();
    }
}
