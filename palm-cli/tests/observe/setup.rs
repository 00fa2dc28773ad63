//! Processes, and what the command says about them.

use std::future::Future;
use std::ops::{Deref, DerefMut};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use palm::testing::Process;
use serde_json::Value;

/// An address at which a component binds any port.
pub(crate) const ANY: &str = "tcp://127.0.0.1:0";

/// Time within which a test must end.
const LIMIT: Duration = Duration::from_secs(100);

/// Time within which a component must start, and end once it was asked to.
pub(crate) const START_LIMIT: Duration = Duration::from_secs(30);

/// Time within which the command must end: a walk takes 5 s at most, and the machine may be busy.
const COMMAND_LIMIT: Duration = Duration::from_secs(20);

/// A test with a runtime of its own.
pub(crate) fn trial<T>(name: &str, test: impl FnOnce() -> T + Send + 'static) -> Trial
where
    T: Future<Output = ()>,
{
    Trial::test(name, move || {
        let runtime = tokio::runtime::Runtime::new()?;
        let done = runtime.block_on(async { tokio::time::timeout(LIMIT, test()).await.is_ok() });
        runtime.shutdown_background();
        assert!(done, "not done within {LIMIT:?}");
        Ok(())
    })
}

/// A component in a process of its own, which is killed at the end.
pub(crate) struct Component {
    process: Process,
    pub(crate) db_address: String,
    pub(crate) pub_address: String,
}

impl Component {
    /// Starts a component of this program, and waits until it is ready.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(arguments);
        Self::spawn(command)
    }

    /// Starts a component of pylm.
    pub(crate) fn pylm(arguments: &[&str]) -> Self {
        let python = std::env::var_os("PALM_PYTHON");
        let mut command = Command::new(python.expect("PALM_PYTHON names a Python with pylm"));
        let program = concat!(env!("CARGO_MANIFEST_DIR"), "/../interop/components.py");
        command.args(["-u", program]).args(arguments);
        Self::spawn(command)
    }

    fn spawn(command: Command) -> Self {
        let mut process = Process::start("component", command).unwrap();
        let line = process.blocking_stdout_line(START_LIMIT).unwrap();
        let (db_address, pub_address) = line.split_once(' ').unwrap();
        Self {
            process,
            db_address: db_address.to_owned(),
            pub_address: pub_address.to_owned(),
        }
    }
}

impl Deref for Component {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.process
    }
}

impl DerefMut for Component {
    fn deref_mut(&mut self) -> &mut Process {
        &mut self.process
    }
}

/// Runs the command, and returns its exit code, standard output and standard error.
pub(crate) async fn palm(arguments: &[&str]) -> (i32, String, String) {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_palm"));
    command.args(arguments).env_remove("PALM_ADDRESS");
    command.stdin(Stdio::null()).kill_on_drop(true);
    let begin = Instant::now();
    let ended = tokio::time::timeout(COMMAND_LIMIT, command.output()).await;
    let Ok(output) = ended else {
        panic!("{arguments:?} hangs for {:?}", begin.elapsed());
    };
    let Output {
        status,
        stdout,
        stderr,
    } = output.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

/// [`palm`] for a command that succeeds; returns its standard output.
pub(crate) async fn succeed(arguments: &[&str]) -> String {
    let (code, stdout, stderr) = palm(arguments).await;
    assert_eq!(code, 0, "{arguments:?}: {stdout}{stderr}");
    stdout
}

/// Returns what `palm inspect --all` says, begun at this address.
pub(crate) async fn inspect(address: &str) -> Value {
    let arguments = ["inspect", address, "--all", "-o", "json", "--measure", "0"];
    serde_json::from_str(&succeed(&arguments).await).unwrap()
}

/// Returns the processor time that all threads of a process have used.
pub(crate) fn cpu_time(pid: u32) -> Duration {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let nanos = threads.map(|thread| {
        // A thread may have ended.
        let times = std::fs::read_to_string(thread.unwrap().path().join("schedstat"));
        let times = times.unwrap_or_default();
        let nanos = times.split_whitespace().next();
        nanos.map_or(0, |nanos| nanos.parse::<u64>().unwrap())
    });
    Duration::from_nanos(nanos.sum())
}
