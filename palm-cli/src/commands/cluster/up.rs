//! `palm up`.

use std::fs::OpenOptions;
use std::io::{self, BufRead as _, BufReader, IsTerminal as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use anstream::eprintln;
use palm_plan::{Plan, plan};
use palm_runner::api::{Client, ClientError, Request, Wanted};
use palm_runner::runner::{Launch, Progress, RunError, run};

use super::arguments::Up;
use super::file::File;
use super::hidden::{Begin, RUN_ARGUMENT};
use super::plan::log_changes;
use super::wait::{summary, until_settled};
use super::{ClusterFailure, Failure, console, write};

pub(super) fn up(up: &Up) -> Result<(), Failure> {
    let file = File::open(up.file.file.as_deref())?;
    match file.connect() {
        Err(ClusterFailure::Client(ClientError::NotRunning)) => begin(&file, up),
        client => change(&file, client?, up),
    }
}

/// Starts a cluster that does not run.
fn begin(file: &File, up: &Up) -> Result<(), Failure> {
    let mut notes = file.last_notes();
    notes.profiles.extend(up.profiles.iter().cloned());
    file.check_programs(&notes)?;
    let is_detached = up.detach || up.wait;
    let launch = Launch {
        cluster: file.name.clone(),
        folders: file.folders.clone(),
        executable: std::env::current_exe()?,
        wanted: file.plan(&notes)?,
        foreground: !is_detached,
    };
    if is_detached {
        detach(&launch, file)?;
        return finish(file, up);
    }
    let console = console::start(&launch.folders);
    let name = launch.cluster.clone();
    let done = run(launch, |progress| match progress {
        Progress::Running => eprintln!("{name} is starting; Ctrl-C stops it"),
        Progress::Leftovers(names) => show_leftovers(&names),
    });
    if let Some(console) = console {
        console.finish();
    }
    Ok(done.map_err(ClusterFailure::from)?)
}

fn show_leftovers(names: &[String]) {
    eprintln!(
        "the previous runner ended without stopping its components; waiting for {}",
        names.join(", ")
    );
}

/// Waits if that was asked for, and says what runs.
fn finish(file: &File, up: &Up) -> Result<(), Failure> {
    if up.wait {
        until_settled(file.connect()?, up.timeout.timeout)?;
    }
    let status = file.connect()?.status().map_err(ClusterFailure::from)?;
    let line = format!(
        "{} runs: {} (process {})\n",
        file.name,
        summary(&status),
        status.runner_pid
    );
    Ok(write(line.as_bytes())?)
}

/// Starts a runner without a terminal, and returns once it listens to requests.
fn detach(launch: &Launch, file: &File) -> Result<(), Failure> {
    let log = file.folders.runner_log();
    let named = |path: &Path| {
        let what = format!("`{}` cannot be created", path.display());
        move |source| ClusterFailure::from(RunError::Io { what, source })
    };
    if let Some(folder) = log.parent() {
        std::fs::create_dir_all(folder).map_err(named(folder))?;
    }
    let opened = OpenOptions::new().create(true).append(true).open(&log);
    let log = opened.map_err(named(&log))?;
    let mut runner = Command::new(&launch.executable)
        .arg(RUN_ARGUMENT)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()?;
    if let Some(mut input) = runner.stdin.take() {
        let text = serde_json::to_vec(launch).map_err(io::Error::from)?;
        input.write_all(&text)?;
    }
    let Some(output) = runner.stdout.take() else {
        return Ok(());
    };
    for line in BufReader::new(output).lines() {
        match serde_json::from_str(&line?).map_err(io::Error::from)? {
            Begin::Progress(Progress::Running) => return Ok(()),
            Begin::Progress(Progress::Leftovers(names)) => show_leftovers(&names),
            Begin::Failed(reason) => return Err(ClusterFailure::Background(reason).into()),
        }
    }
    let reason = format!(
        "the runner ended: `{}` has its messages",
        file.folders.runner_log().display()
    );
    Err(ClusterFailure::Background(reason).into())
}

/// Changes a running cluster to what its file says.
fn change(file: &File, mut client: Client, up: &Up) -> Result<(), Failure> {
    let running = client.wanted().map_err(ClusterFailure::from)?;
    let status = client.status().map_err(ClusterFailure::from)?;
    let mut notes = file.remembered(running.notes);
    notes.profiles.extend(up.profiles.iter().cloned());
    let wanted = Wanted {
        revision: running.revision,
        ..file.plan(&notes)?
    };
    let plan = plan(&running.instances, &wanted.instances);
    let is_stopped = status
        .instances
        .iter()
        .any(|it| matches!(&*it.state, "stopped" | "failed"));
    let logs = log_changes(&running.log_limits, &wanted.log_limits);
    if plan.is_empty() && logs.is_none() && !is_stopped {
        let pid = status.runner_pid;
        eprintln!(
            "{} is run by process {pid} already, and its file has not changed",
            file.name
        );
        return finish(file, up);
    }
    if let Some(logs) = logs {
        anstream::eprint!("{logs}");
    }
    if !plan.is_empty() {
        file.check_programs(&notes)?;
        confirm(&plan, up)?;
    }
    client
        .command(&Request::Apply(wanted))
        .map_err(ClusterFailure::from)?;
    finish(file, up)
}

/// Shows what would change, and asks if that is a change of what runs.
fn confirm(plan: &Plan, up: &Up) -> Result<(), Failure> {
    anstream::eprint!("{plan}");
    if up.yes || (plan.stop.is_empty() && plan.restart.is_empty()) {
        return Ok(());
    }
    if !io::stdin().is_terminal() {
        return Err(ClusterFailure::NoQuestion.into());
    }
    anstream::eprint!("Apply? [y/N] ");
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(ClusterFailure::Declined.into()),
    }
}
