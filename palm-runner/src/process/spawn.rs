//! The start of a process.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use palm_plan::Instance;
use palm_plan::instance::Secret;

use super::EXEC_ARGUMENT;
use crate::state::WATCHDOG_TIMEOUT;

/// What the processes of a cluster know of the runner.
#[derive(Debug)]
pub(crate) struct Environment<'a> {
    /// The command `palm`.
    pub(crate) executable: &'a Path,
    pub(crate) cluster: &'a str,
    pub(crate) notify_socket: &'a Path,
    pub(crate) run: u32,
}

/// A started process.
#[derive(Debug)]
pub(crate) struct Spawned {
    pub(crate) pid: u32,
    pub(crate) stdout: OwnedFd,
    pub(crate) stderr: OwnedFd,
}

/// Starts a process. It is called in the main thread: the process receives SIGTERM when the thread ends that started it.
///
/// The error is a sentence, for the state of the instance.
pub(crate) fn spawn(instance: &Instance, environment: &Environment<'_>) -> Result<Spawned, String> {
    let program = find(instance)?;
    let mut command = Command::new(environment.executable);
    command
        .arg(EXEC_ARGUMENT)
        .arg(std::process::id().to_string())
        .arg(program)
        .args(&instance.args)
        .envs(&instance.env)
        .env("PALM_CLUSTER", environment.cluster)
        .env("PALM_INSTANCE", instance.id().to_string())
        .env("PALM_RUN", environment.run.to_string())
        .env("NOTIFY_SOCKET", environment.notify_socket)
        .env("WATCHDOG_USEC", WATCHDOG_TIMEOUT.as_micros().to_string())
        .env_remove("WATCHDOG_PID")
        .current_dir(&instance.working_dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    for (name, secret) in &instance.secrets {
        command.env(name, value(name, secret)?);
    }
    let mut child = command.spawn().map_err(|error| error.to_string())?;
    match (child.stdout.take(), child.stderr.take()) {
        (Some(stdout), Some(stderr)) => Ok(Spawned {
            pid: child.id(),
            stdout: stdout.into(),
            stderr: stderr.into(),
        }),
        _ => Err("its output has no pipes".to_owned()),
    }
}

/// Returns the path of the program, or a sentence that says why it cannot run.
fn find(instance: &Instance) -> Result<PathBuf, String> {
    let directory = &instance.working_dir;
    if !directory.is_dir() {
        return Err(format!(
            "the working directory `{}` does not exist",
            directory.display()
        ));
    }
    let command = &instance.command;
    let shown = command.display();
    if command.components().count() > 1 || command.is_absolute() {
        let path = directory.join(command);
        return match fs::metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(format!("the program `{shown}` does not exist"))
            }
            Err(error) => Err(format!("the program `{shown}`: {error}")),
            Ok(metadata) if !is_program(&metadata) => Err(format!(
                "`{shown}` is not executable: `chmod +x {shown}` changes that"
            )),
            Ok(_) => Ok(path),
        };
    }
    let path = match instance.env.get("PATH") {
        Some(path) => Some(path.into()),
        None => std::env::var_os("PATH"),
    };
    let path = path.unwrap_or_default();
    let mut candidates = std::env::split_paths(&path).map(|folder| folder.join(command));
    candidates
        .find(|path| fs::metadata(path).is_ok_and(|it| is_program(&it)))
        .ok_or_else(|| format!("the command `{shown}` is not in any folder of PATH"))
}

fn is_program(metadata: &fs::Metadata) -> bool {
    metadata.is_file() && metadata.permissions().mode() & 0o111 != 0
}

/// Reads the value of a secret.
fn value(name: &str, secret: &Secret) -> Result<String, String> {
    match secret {
        Secret::File(path) => {
            let text = fs::read_to_string(path);
            let text =
                text.map_err(|error| format!("`{name}` from `{}`: {error}", path.display()))?;
            Ok(text.strip_suffix('\n').unwrap_or(&text).to_owned())
        }
        Secret::Env(variable) => std::env::var(variable)
            .map_err(|_| format!("`{name}`: the variable `{variable}` is not set for the runner")),
        _ => Err(format!("`{name}` is a secret of an unknown kind")),
    }
}
