//! `palm ps` and `palm status`.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anstream::eprint;
use palm_runner::state::{ClusterStatus, InstanceStatus};

use super::arguments::{Ps, Status};
use super::file::File;
use super::processes::CpuMeter;
use super::wait::{reasons, summary, until_settled};
use super::{ClusterFailure, Failure, write};
use crate::arguments::Output;
use crate::text::{self, Align};

/// How long the use of the processor is measured.
const MEASURE: Duration = Duration::from_millis(200);

pub(super) fn ps(ps: &Ps) -> Result<(), Failure> {
    let file = File::open(ps.file.file.as_deref())?;
    let mut client = file.connect()?;
    let first = client.status().map_err(ClusterFailure::from)?;
    let text = match ps.output {
        Output::Json => format!(
            "{:#}\n",
            serde_json::to_value(&first).map_err(std::io::Error::from)?
        ),
        Output::Table => {
            let mut meter = CpuMeter::default();
            meter.measure(&first, Instant::now());
            std::thread::sleep(MEASURE);
            let second = client.status().map_err(ClusterFailure::from)?;
            let used = meter.measure(&second, Instant::now());
            table(&second, &used)
        }
    };
    Ok(write(text.as_bytes())?)
}

fn table(status: &ClusterStatus, used: &HashMap<u32, f64>) -> String {
    let columns = [
        ("instance", Align::Left),
        ("kind", Align::Left),
        ("state", Align::Left),
        ("for", Align::Right),
        ("process", Align::Right),
        ("run", Align::Right),
        ("exits", Align::Right),
        ("cpu", Align::Right),
        ("memory", Align::Right),
        ("why", Align::Left),
    ];
    let row = |it: &InstanceStatus| {
        let share = it.pid.and_then(|pid| used.get(&pid).copied());
        vec![
            it.id.to_string(),
            it.kind.to_string(),
            it.state.clone(),
            text::duration(Duration::from_millis(it.since_ms)),
            text::or_unknown(it.pid, |pid| pid.to_string()),
            it.run.to_string(),
            it.exits.to_string(),
            text::or_unknown(share, text::percent),
            text::or_unknown(it.memory_bytes, text::bytes),
            match (&*it.why, &it.last_failure) {
                ("", Some(exit)) => format!("before: {exit}"),
                (why, _) => why.to_owned(),
            },
        ]
    };
    let rows: Vec<_> = status.instances.iter().map(row).collect();
    text::table("", &columns, &rows) + &warnings(&status.problems)
}

pub(super) fn status(arguments: &Status) -> Result<(), Failure> {
    let file = File::open(arguments.file.file.as_deref())?;
    if arguments.wait {
        until_settled(file.connect()?, arguments.timeout.timeout)?;
    }
    let status = file.connect()?.status().map_err(ClusterFailure::from)?;
    let reasons = reasons(status.instances.iter().filter(|it| !it.is_running()));
    if !reasons.is_empty() {
        eprint!("{}", warnings(&status.problems));
        return Err(ClusterFailure::NotReady(reasons.join("\n")).into());
    }
    let line = format!("{}: {}\n", status.cluster, summary(&status));
    let text = line + &warnings(&status.problems);
    Ok(write(text.as_bytes())?)
}

/// Returns a line for each problem of the runner itself, such as a full disk.
pub(super) fn warnings(problems: &[String]) -> String {
    let line = |problem: &String| format!("warning: {problem}\n");
    problems.iter().map(line).collect()
}
