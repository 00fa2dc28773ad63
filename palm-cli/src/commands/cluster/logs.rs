//! `palm logs` and `palm events`.

use std::io::{self, Write};
use std::path::Path;

use anstream::eprint;
use palm_plan::InstanceId;
use palm_runner::logs::{Follower, Found, History, Level, Search, Selection, instances, search};
use palm_runner::runner::{ClusterEvent, read_events};
use palm_runner::state::ClusterStatus;

use super::arguments::{Events, LogLevel, Logs};
use super::console::{LOOK_INTERVAL, Printer, before_now, short, style};
use super::file::File;
use super::ps::warnings;
use super::{ClusterFailure, Failure};
use crate::arguments::Output;

pub(super) fn logs(arguments: &Logs) -> Result<(), Failure> {
    let file = File::open(arguments.file.file.as_deref())?;
    let logs = file.folders.logs();
    // A cluster that does not run, or whose runner does not answer, has logs nevertheless.
    let status = file
        .connect()
        .ok()
        .and_then(|mut client| client.status().ok());
    let known = known(&logs, status.as_ref());
    let is_known = |name: &&String| {
        known
            .iter()
            .any(|id| id.component == **name || id.to_string() == **name)
    };
    // A replica may appear while its lines are followed.
    if let Some(name) = arguments
        .names
        .iter()
        .find(|name| !arguments.follow && !is_known(name))
    {
        let mut components: Vec<_> = known.iter().map(|id| id.component.clone()).collect();
        components.dedup();
        return Err(ClusterFailure::UnknownName {
            name: name.clone(),
            known: match &*components {
                [] => "no logs".to_owned(),
                all => all.join(", "),
            },
        }
        .into());
    }
    let selection = Selection {
        names: arguments.names.clone(),
        run: arguments.run,
        since: arguments.since.map(before_now),
        level: arguments.level.map(Level::from),
        tail: arguments.tail,
    };
    if let Some(status) = &status {
        // Once lines are written again, the log itself says that some are missing.
        eprint!("{}", warnings(&status.problems));
    }
    let mut printer = Printer::new(arguments.time, &known);
    match &arguments.grep {
        Some(pattern) => {
            let wanted = Search {
                pattern: pattern.clone(),
                ignore_case: arguments.ignore_case,
                context: arguments.context,
            };
            grep(&file, &selection, &wanted, &mut printer)
        }
        None => show(&file, selection, arguments.follow, &mut printer),
    }
}

/// Returns the instances that have logs or run, sorted: one that has just been started has none yet.
fn known(logs: &Path, status: Option<&ClusterStatus>) -> Vec<InstanceId> {
    let running = status.into_iter().flat_map(|status| &status.instances);
    let mut known = instances(logs);
    known.extend(running.map(|it| it.id.clone()));
    known.sort();
    known.dedup();
    known
}

fn show(
    file: &File,
    selection: Selection,
    follows: bool,
    printer: &mut Printer,
) -> Result<(), Failure> {
    let logs = file.folders.logs();
    // It watches before the files are read, so that no line is late.
    let follower = follows.then(|| Follower::new(&logs)).transpose()?;
    let mut history = History::new(&logs, selection);
    let mut output = io::BufWriter::new(anstream::stdout().lock());
    loop {
        for entry in history.by_ref() {
            printer.print(&mut output, &entry, '|')?;
        }
        output.flush()?;
        let Some(follower) = &follower else {
            return Ok(());
        };
        follower.wait(LOOK_INTERVAL)?;
        history.refresh();
    }
}

fn grep(
    file: &File,
    selection: &Selection,
    wanted: &Search,
    printer: &mut Printer,
) -> Result<(), Failure> {
    let mut output = io::BufWriter::new(anstream::stdout().lock());
    let mut written = Ok(());
    let found = search(&file.folders.logs(), selection, wanted, |found| {
        written = match &found {
            Found::Match(entry) => printer.print(&mut output, entry, '|'),
            Found::Context(entry) => printer.print(&mut output, entry, '-'),
            Found::Gap => writeln!(output, "--"),
        };
        written.is_ok()
    });
    found.map_err(ClusterFailure::from)?;
    written?;
    Ok(output.flush()?)
}

impl From<LogLevel> for Level {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Trace => Self::Trace,
            LogLevel::Debug => Self::Debug,
            LogLevel::Info => Self::Info,
            LogLevel::Warn => Self::Warn,
            LogLevel::Error => Self::Error,
        }
    }
}

pub(super) fn events(arguments: &Events) -> Result<(), Failure> {
    let file = File::open(arguments.file.file.as_deref())?;
    let path = file.folders.events();
    let folder = path.parent().unwrap_or(&path);
    let follower = arguments
        .follow
        .then(|| Follower::new(folder))
        .transpose()?;
    let mut events = read_events(&path)?;
    let mut last = events.last().cloned();
    if let Some(count) = arguments.tail {
        events.drain(..events.len().saturating_sub(count));
    }
    let mut output = anstream::stdout().lock();
    loop {
        for event in &events {
            print_event(&mut output, event, arguments.output)?;
        }
        output.flush()?;
        let Some(follower) = &follower else {
            return Ok(());
        };
        follower.wait(LOOK_INTERVAL)?;
        events = read_events(&path)?;
        // What follows the last one that was shown.
        let shown = events
            .iter()
            .rposition(|event| Some(event) == last.as_ref());
        events.drain(..shown.map_or(0, |index| index + 1));
        last = events.last().cloned().or(last);
    }
}

fn print_event(output: &mut impl Write, event: &ClusterEvent, form: Output) -> io::Result<()> {
    if form == Output::Json {
        return writeln!(output, "{}", serde_json::to_string(event)?);
    }
    let name = match (&event.instance, event.run) {
        (Some(id), Some(run)) => {
            let style = style(&id.component);
            format!("{style}{id}{style:#} run {run} ")
        }
        _ => String::new(),
    };
    let why = match &*event.why {
        "" => String::new(),
        why => format!(": {}", crate::text::clean(why)),
    };
    writeln!(output, "{} {name}{}{why}", short(&event.time), event.event)
}
