//! A cluster for a test.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use palm_plan::instance::{Instance, Readiness, Restart, RestartPolicy};
use palm_plan::{InstanceId, Kind};
use palm_runner::api::{Client, Request, Wanted};
use palm_runner::logs::{History, LogLimits, Selection};
use palm_runner::runner::{Folders, Launch, Progress};
use palm_runner::state::{ClusterStatus, InstanceStatus};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

/// Time within which anything a test waits for has to happen.
pub(crate) const LIMIT: Duration = Duration::from_secs(40);

pub(crate) fn trial(name: &str, test: fn()) -> Trial {
    Trial::test(name, move || {
        test();
        Ok(())
    })
}

/// A runner in a process of its own.
pub(crate) struct Cluster {
    _folder: tempfile::TempDir,
    pub(crate) folders: Folders,
    runner: RefCell<Option<Child>>,
    pub(crate) progress: RefCell<Vec<Progress>>,
}

impl Cluster {
    /// Starts the instances, and waits until the runner listens.
    pub(crate) fn start(instances: Vec<Instance>) -> Self {
        let this = Self::new();
        this.start_again(instances);
        this
    }

    /// As [`start`](Self::start), not ignoring SIGHUP, although the tests may run with `nohup`.
    pub(crate) fn start_noticing_hangup(instances: Vec<Instance>) -> Self {
        let this = Self::new();
        let mut command = Command::new("env");
        command.arg("--default-signal=HUP").arg(program());
        this.start_by(command, instances);
        this
    }

    /// As [`start`](Self::start), with `nohup`.
    pub(crate) fn start_ignoring_hangup(instances: Vec<Instance>) -> Self {
        let this = Self::new();
        let mut command = Command::new("nohup");
        command.arg(program());
        this.start_by(command, instances);
        this
    }

    /// As [`start`](Self::start), by a command that executes this program with further arguments.
    pub(crate) fn start_by_command(command: Command, instances: Vec<Instance>) -> Self {
        let this = Self::new();
        this.start_by(command, instances);
        this
    }

    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self {
            folders: Folders::new("test", folder.path()),
            _folder: folder,
            runner: RefCell::new(None),
            progress: RefCell::default(),
        }
    }

    /// Starts another runner after the end of the one before.
    pub(crate) fn start_again(&self, instances: Vec<Instance>) {
        self.start_by(Command::new(program()), instances);
    }

    fn start_by(&self, command: Command, instances: Vec<Instance>) {
        let mut runner = self.spawn_by(command, instances);
        let output = BufReader::new(runner.stdout.take().unwrap());
        *self.runner.borrow_mut() = Some(runner);
        for line in output.lines() {
            let line = line.unwrap();
            let progress: Progress = serde_json::from_str(&line).expect(&line);
            self.progress.borrow_mut().push(progress.clone());
            if progress == Progress::Running {
                return;
            }
        }
        panic!("the runner has ended");
    }

    /// Starts a runner, which may fail.
    pub(crate) fn spawn(&self, instances: Vec<Instance>) -> Child {
        self.spawn_by(Command::new(program()), instances)
    }

    fn spawn_by(&self, mut command: Command, instances: Vec<Instance>) -> Child {
        let launch = Launch {
            cluster: "test".to_owned(),
            folders: self.folders.clone(),
            executable: program(),
            wanted: Wanted {
                instances,
                log_limits: LogLimits {
                    file_bytes: 1 << 20,
                    ..LogLimits::default()
                },
                ..Wanted::default()
            },
            foreground: false,
        };
        let mut runner = command
            .arg("__run")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = runner.stdin.take().unwrap();
        input
            .write_all(&serde_json::to_vec(&launch).unwrap())
            .unwrap();
        runner
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(&self.folders.api()).unwrap()
    }

    pub(crate) fn request(&self, request: &Request) {
        self.client().command(request).unwrap();
    }

    pub(crate) fn status(&self) -> ClusterStatus {
        self.client().status().unwrap()
    }

    /// Waits for a state of the cluster.
    #[track_caller]
    pub(crate) fn until(
        &self,
        what: &str,
        wanted: impl Fn(&ClusterStatus) -> bool,
    ) -> ClusterStatus {
        let begin = Instant::now();
        let mut last = None;
        let found = self.client().watch(|status| {
            if let Some(status) = status {
                last = Some(status.clone());
                if wanted(status) {
                    return Some(true);
                }
            }
            (begin.elapsed() > LIMIT).then_some(false)
        });
        assert!(matches!(found, Ok(true)), "{what}: {found:?}: {last:#?}");
        last.unwrap()
    }

    #[track_caller]
    pub(crate) fn until_ready(&self) -> ClusterStatus {
        self.until("all are ready", |status| {
            status
                .instances
                .iter()
                .all(|it| it.settled && it.is_ready())
        })
    }

    /// Waits for a state of one instance.
    #[track_caller]
    pub(crate) fn until_instance(
        &self,
        name: &str,
        wanted: impl Fn(&InstanceStatus) -> bool,
    ) -> InstanceStatus {
        let status = self.until(name, |status| wanted(instance_of(status, name)));
        instance_of(&status, name).clone()
    }

    /// Returns the lines of an instance that its process wrote.
    pub(crate) fn lines(&self, name: &str) -> Vec<String> {
        let selection = Selection {
            names: vec![name.to_owned()],
            ..Selection::default()
        };
        let texts = History::new(&self.folders.logs(), selection).map(|entry| entry.text);
        texts.filter(|text| !text.starts_with("palm: ")).collect()
    }

    /// Waits until the runner has ended after SIGTERM, a request or SIGKILL.
    #[track_caller]
    pub(crate) fn until_ended(&self) {
        eventually("the runner ends", || {
            let mut runner = self.runner.borrow_mut();
            runner.as_mut().unwrap().try_wait().unwrap().is_some()
        });
        *self.runner.borrow_mut() = None;
    }

    /// Stops the cluster, and expects that no process of it is left.
    #[track_caller]
    pub(crate) fn down(&self) {
        self.request(&Request::Down { kill: false });
        self.until_ended();
        assert_eq!(self.processes(), Vec::<u32>::new());
    }

    pub(crate) fn runner_pid(&self) -> u32 {
        self.runner.borrow().as_ref().unwrap().id()
    }

    /// Returns the resident memory of the runner, in bytes.
    pub(crate) fn memory_of_runner(&self) -> u64 {
        let text = fs::read_to_string(format!("/proc/{}/status", self.runner_pid())).unwrap();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .unwrap();
        let kib: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
        kib * 1024
    }

    /// Returns the processes that carry the marks of this cluster.
    pub(crate) fn processes(&self) -> Vec<u32> {
        let mark = format!("NOTIFY_SOCKET={}/", self.folders.runtime().display());
        let is_marked = |pid: &u32| {
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment
                .split(|byte| *byte == 0)
                .any(|it| it.starts_with(mark.as_bytes()))
        };
        let names = fs::read_dir("/proc").unwrap();
        let pids = names.filter_map(|it| it.ok()?.file_name().to_str()?.parse().ok());
        pids.filter(is_marked).collect()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(mut runner) = self.runner.borrow_mut().take() {
            let _ = runner.kill();
            let _ = runner.wait();
        }
        for pid in self.processes() {
            send(pid, Signal::KILL);
        }
    }
}

pub(crate) fn instance_of<'a>(status: &'a ClusterStatus, name: &str) -> &'a InstanceStatus {
    let mut all = status.instances.iter();
    all.find(|it| it.id.to_string() == name).unwrap()
}

/// Polls a condition that no event announces.
#[track_caller]
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < LIMIT, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

pub(crate) fn send(pid: u32, signal: Signal) {
    let _ = kill_process(pid_of(pid), signal);
}

pub(crate) fn is_alive(pid: u32) -> bool {
    test_kill_process(pid_of(pid)).is_ok()
}

fn pid_of(pid: u32) -> Pid {
    Pid::from_raw(pid.try_into().unwrap()).unwrap()
}

pub(crate) fn program() -> PathBuf {
    std::env::current_exe().unwrap()
}

/// An instance that runs a shell script. `$0 notify READY=1` in the script reports readiness.
pub(crate) fn script(name: &str, script: &str) -> Instance {
    let program = program();
    let arguments = ["-c", script, program.to_str().unwrap()];
    instance(name, "/bin/sh".as_ref(), &arguments)
}

/// An instance that is ready and does nothing.
pub(crate) fn idle(name: &str) -> Instance {
    script(name, r#""$0" notify READY=1; exec sleep 1000"#)
}

/// An instance that writes numbered lines.
pub(crate) fn counter(name: &str) -> Instance {
    instance(name, &program(), &["count"])
}

fn instance(name: &str, command: &Path, arguments: &[&str]) -> Instance {
    let id: InstanceId = name.parse().unwrap();
    Instance {
        component: id.component,
        index: id.index,
        kind: Kind::Process,
        command: command.to_owned(),
        args: arguments.iter().map(|it| (*it).to_owned()).collect(),
        env: BTreeMap::new(),
        secrets: BTreeMap::new(),
        working_dir: "/".into(),
        readiness: Readiness::Notify,
        ready_timeout: LIMIT,
        restart: Restart {
            policy: RestartPolicy::Always,
            backoff: Duration::from_millis(20)..=Duration::from_millis(200),
            max: None,
            reset_after: Duration::from_secs(60),
        },
        drain: Duration::from_secs(10),
        after: Vec::new(),
        stop_order: 0,
    }
}
