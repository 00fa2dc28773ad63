//! The subcommands that `palm` calls itself with: `__exec` begins a component, `__run` a runner without a terminal.

use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::process::ExitCode;

use anstream::eprintln;
use palm_runner::process::{EXEC_ARGUMENT, exec};
use palm_runner::runner::{Launch, Progress, resume, run};
use serde::{Deserialize, Serialize};

use super::console;

/// The subcommand of a runner.
pub(super) const RUN_ARGUMENT: &str = "__run";
/// The argument of a runner that continues the work of an earlier version.
const RESUME_ARGUMENT: &str = "--resume";

/// What a runner without a terminal writes to its standard output, as lines of JSON, until it runs.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Begin {
    /// Its progress.
    Progress(Progress),
    /// It cannot begin.
    Failed(String),
}

/// Runs a hidden subcommand, if the arguments are those of one. It is called first in the main thread: the thread must
/// not end before the runner does.
pub fn hidden(mut arguments: impl Iterator<Item = OsString>) -> Option<ExitCode> {
    let subcommand = arguments.next()?;
    if subcommand == EXEC_ARGUMENT {
        let error = exec(arguments);
        eprintln!("palm: the program cannot be executed: {error}");
        return Some(ExitCode::from(126));
    }
    if subcommand != RUN_ARGUMENT {
        return None;
    }
    let done = match arguments.next().as_deref() == Some(OsStr::new(RESUME_ARGUMENT)) {
        true => {
            let mut shown = None;
            let done = resume(|launch| {
                if launch.foreground {
                    shown = console::start(&launch.folders);
                }
            });
            if let Some(console) = shown {
                console.finish();
            }
            done
        }
        false => match begin() {
            Ok(launch) => run(launch, report),
            Err(error) => {
                send(&Begin::Failed(format!("the runner cannot begin: {error}")));
                return Some(ExitCode::FAILURE);
            }
        },
    };
    Some(match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            super::super::report(&error);
            send(&Begin::Failed(super::super::chain(&error)));
            ExitCode::FAILURE
        }
    })
}

/// Leaves the terminal, and reads what should run from standard input.
fn begin() -> io::Result<Launch> {
    // A process that leads a group cannot; it has no terminal then, either.
    let _ = rustix::process::setsid();
    let mut text = String::new();
    io::stdin().read_to_string(&mut text)?;
    rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    Ok(serde_json::from_str(&text)?)
}

/// Reports progress to the process that started this one, which ends once the runner runs.
fn report(progress: Progress) {
    let is_running = progress == Progress::Running;
    send(&Begin::Progress(progress));
    if is_running {
        let null = OpenOptions::new().write(true).open("/dev/null");
        if let Ok(null) = null {
            let _ = rustix::stdio::dup2_stdout(null);
        }
    }
}

fn send(begin: &Begin) {
    if let Ok(mut line) = serde_json::to_vec(begin) {
        line.push(b'\n');
        // The reader may have been interrupted; the runner continues.
        let mut output = io::stdout().lock();
        let _ = output.write_all(&line).and_then(|()| output.flush());
    }
}
