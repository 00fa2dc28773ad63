//! The loop of the runner.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use palm_plan::InstanceId;
use palm_plan::instance::Readiness;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::clock::Clock;
use super::ends::{End, Ends, LOOK_INTERVAL};
use super::events::{ClusterEvent, Events};
use super::handover::{Descriptors, Output, State};
use super::lock::lock;
use super::saved::Saved;
use super::{Folders, Launch, Progress, RunError};
use crate::api::{Access, Server, Task, Wanted};
use crate::logs::{Capture, OpenOutput, last_run};
use crate::process::{
    Environment, Notification, NotifySocket, OutOfMemory, Report, Survivor, adopt_orphans,
    descendants, kill, kill_group, occupied, probe, reap, signal_group, spawn, survivors,
};
use crate::state::{Action, ClusterStatus, Exit, ExitKind, Phase, Supervisor, TICK_INTERVAL, Time};

/// Reports of processes that wait for the loop. Further ones wait in their sockets.
const MAX_WAITING_REPORTS: usize = 1024;
const MAX_WAITING_TASKS: usize = 64;
/// Time in which the answer of the last request is written before the runner replaces itself.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
/// Time in which the last lines of an ended process are read. A disk can be slow.
const LAST_LINES_TIMEOUT: Duration = Duration::from_secs(2);
/// Time from SIGKILL of the last processes until the runner ends in any case.
const KILL_TIMEOUT: Duration = Duration::from_secs(10);

/// The result of a probe: the process, and whether it accepts connections.
type ProbeResult = (InstanceId, u32, Result<(), String>);

pub(super) fn run(launch: Launch, mut progress: impl FnMut(Progress)) -> Result<(), RunError> {
    let lock = lock(&launch.cluster, &launch.folders)?;
    stop_leftovers(&launch.folders, &mut progress);
    let state = State {
        supervisor: Supervisor::default(),
        now: Time::ZERO,
        is_stopping: false,
        upgrades: 0,
        sockets: Vec::new(),
        outputs: Vec::new(),
        ends: Vec::new(),
        launch,
    };
    block_on(state, lock, None, progress)
}

pub(super) fn resume(
    state: State,
    descriptors: Descriptors,
    progress: impl FnMut(Progress),
) -> Result<(), RunError> {
    let Descriptors {
        lock,
        api,
        sockets,
        pipes,
    } = descriptors;
    block_on(
        state,
        File::from(lock),
        Some((api, sockets, pipes)),
        progress,
    )
}

/// Waits for processes of a runner that was killed. They have received SIGTERM when it ended, unless they were started
/// by another process of their instance.
fn stop_leftovers(folders: &Folders, progress: &mut impl FnMut(Progress)) {
    let find = || survivors(&folders.notify());
    let mut left = find();
    if left.is_empty() {
        return;
    }
    let name = |it: &Survivor| format!("{} ({}, process {})", it.instance, it.name, it.pid);
    progress(Progress::Leftovers(left.iter().map(name).collect()));
    left.iter().for_each(|it| signal_group(it.pid));
    let drain = Saved::read(&folders.saved()).drain;
    let begin = Instant::now();
    while !left.is_empty() && begin.elapsed() < drain + KILL_TIMEOUT {
        if begin.elapsed() >= drain {
            left.iter().for_each(|it| kill(it.pid));
        }
        // They are no children of this process, so that nothing reports their end.
        thread::sleep(LOOK_INTERVAL);
        left = find();
    }
}

type Inherited = (OwnedFd, Vec<OwnedFd>, Vec<OwnedFd>);

fn block_on(
    state: State,
    lock: File,
    inherited: Option<Inherited>,
    mut progress: impl FnMut(Progress),
) -> Result<(), RunError> {
    adopt_orphans().map_err(RunError::io("the runner cannot adopt orphaned processes"))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(RunError::io("the runner cannot wait for events"))?;
    runtime.block_on(async {
        let (mut runner, mut inputs) = Runner::new(state, lock, inherited)?;
        progress(Progress::Running);
        runner.serve(&mut inputs).await;
        runner.end().await;
        Ok(())
    })
}

/// What the loop waits for.
pub(super) struct Inputs {
    pub(super) reports: mpsc::Receiver<Report>,
    pub(super) probes: mpsc::Receiver<ProbeResult>,
    pub(super) tasks: mpsc::Receiver<Task>,
    pub(super) child: Signal,
    pub(super) terminate: Signal,
    pub(super) interrupt: Signal,
    /// `None` if it is ignored, as `nohup` asks for.
    pub(super) hangup: Option<Signal>,
}

pub(super) struct Runner {
    pub(super) launch: Launch,
    pub(super) lock: File,
    pub(super) clock: Clock,
    pub(super) supervisor: Supervisor,
    pub(super) capture: Capture,
    pub(super) server: Server,
    pub(super) sockets: BTreeMap<InstanceId, (u32, NotifySocket)>,
    pub(super) probes: BTreeMap<InstanceId, JoinHandle<()>>,
    pub(super) processes: HashMap<u32, InstanceId>,
    pub(super) ends: Ends,
    pub(super) events: Events,
    pub(super) out_of_memory: OutOfMemory,
    pub(super) is_stopping: bool,
    pub(super) upgrades: u32,
    pub(super) save_failure: Option<String>,
    pub(super) report_sender: mpsc::Sender<Report>,
    pub(super) probe_sender: mpsc::Sender<ProbeResult>,
    pub(super) status: watch::Sender<Arc<ClusterStatus>>,
    pub(super) published_at: Option<Instant>,
    /// Answers to requests to stop, which are written before the runner ends.
    pub(super) last_answers: Vec<oneshot::Receiver<()>>,
}

impl Runner {
    fn new(
        state: State,
        lock: File,
        inherited: Option<Inherited>,
    ) -> Result<(Self, Inputs), RunError> {
        let folders = &state.launch.folders;
        let capture = Capture::start(folders.logs(), state.launch.log_limits);
        let capture = capture.map_err(RunError::io("the thread for logs"))?;
        let (report_sender, reports) = mpsc::channel(MAX_WAITING_REPORTS);
        let (probe_sender, probes) = mpsc::channel(MAX_WAITING_REPORTS);
        let (tasks, task_receiver) = mpsc::channel(MAX_WAITING_TASKS);
        let (status, status_receiver) = watch::channel(Arc::new(ClusterStatus::default()));
        let access = Access {
            tasks,
            status: status_receiver,
        };
        let path = folders.api();
        let is_new = inherited.is_none();
        let (server, sockets, pipes) = match inherited {
            None => (Server::bind(&path, access), Vec::new(), Vec::new()),
            Some((api, sockets, pipes)) => (Server::with_socket(api, access), sockets, pipes),
        };
        let server = server.map_err(RunError::io(format!("the socket `{}`", path.display())))?;
        let mut this = Self {
            clock: Clock::new(state.now),
            capture,
            server,
            sockets: BTreeMap::new(),
            probes: BTreeMap::new(),
            processes: HashMap::new(),
            ends: Ends::default(),
            events: Events::new(folders.events()),
            out_of_memory: OutOfMemory::new(),
            is_stopping: state.is_stopping,
            upgrades: state.upgrades,
            save_failure: None,
            report_sender,
            probe_sender,
            status,
            published_at: None,
            last_answers: Vec::new(),
            supervisor: state.supervisor,
            launch: state.launch,
            lock,
        };
        match is_new {
            true => this.begin(),
            false => this.continue_runs(state.sockets, sockets, state.outputs, pipes, state.ends),
        }
        let inputs = Inputs::new(reports, probes, task_receiver)?;
        Ok((this, inputs))
    }

    /// Begins with the wanted instances.
    fn begin(&mut self) {
        let count = self.launch.wanted.instances.len();
        let why = format!("process {} runs {count} instances", std::process::id());
        self.events.append(&[ClusterEvent::new("up", why)]);
        let wanted = self.launch.wanted.clone();
        self.apply(wanted);
    }

    /// Continues with the processes of the previous version.
    fn continue_runs(
        &mut self,
        runs: Vec<(InstanceId, u32)>,
        sockets: Vec<OwnedFd>,
        outputs: Vec<Output>,
        pipes: Vec<OwnedFd>,
        ends: Vec<(InstanceId, u32, u32, ExitKind)>,
    ) {
        let why = format!(
            "process {} is now version {}",
            std::process::id(),
            version()
        );
        self.events.append(&[ClusterEvent::new("upgrade", why)]);
        for ((id, run), socket) in runs.into_iter().zip(sockets) {
            let sender = self.report_sender.clone();
            if let Ok(socket) = NotifySocket::with_socket(socket, id.clone(), run, sender) {
                self.sockets.insert(id, (run, socket));
            }
        }
        let mut pipes = pipes.into_iter();
        for output in outputs {
            self.capture.attach(output.join(&mut pipes));
        }
        let ids: Vec<_> = self.supervisor.ids().cloned().collect();
        for id in ids {
            if let Some(pid) = self.supervisor.pid(&id) {
                self.processes.insert(pid, id.clone());
                self.start_probe(&id, pid);
            }
        }
        for (id, run, pid, kind) in ends {
            self.processes.remove(&pid);
            self.ends.push(id, run, pid, kind);
        }
    }

    pub(super) fn apply(&mut self, wanted: Wanted) {
        let logs = self.launch.folders.logs();
        let last = |id: &InstanceId| last_run(&logs.join(&id.component).join(id.index.to_string()));
        let now = self.clock.now();
        self.supervisor.apply(wanted.instances.clone(), last, now);
        self.launch.wanted = wanted;
        self.save();
    }

    fn save(&mut self) {
        let drains = self.launch.wanted.instances.iter().map(|it| it.drain);
        let saved = Saved {
            runner_pid: std::process::id(),
            is_stopped: self.is_stopping,
            drain: drains.max().unwrap_or_default(),
            notes: self.launch.wanted.notes.clone(),
        };
        let written = saved.write(&self.launch.folders.saved());
        self.save_failure = written.err().map(|error| format!("state: {error}"));
    }

    /// Serves until all processes have ended after a request to stop.
    async fn serve(&mut self, inputs: &mut Inputs) {
        loop {
            let delay = self.step().await;
            if self.is_stopping && self.supervisor.is_idle() && self.ends.is_empty() {
                return;
            }
            tokio::select! {
                biased;
                _ = inputs.child.recv() => {}
                Some(report) = inputs.reports.recv() => {
                    self.report(report);
                    // Many may wait; each of them would cause a step.
                    while let Ok(report) = inputs.reports.try_recv() {
                        self.report(report);
                    }
                }
                Some(result) = inputs.probes.recv() => self.probed(result),
                _ = inputs.terminate.recv() => self.stop("SIGTERM"),
                _ = inputs.interrupt.recv() => self.stop("an interrupt"),
                () = received(&mut inputs.hangup) => self.stop("the end of its terminal"),
                Some(task) = inputs.tasks.recv() => self.task(task, inputs).await,
                () = sleep(delay.unwrap_or_default()), if delay.is_some() => {}
            }
        }
    }

    /// Handles ended processes, and does what the state machine asks for. Returns the time until the next step.
    async fn step(&mut self) -> Option<Duration> {
        while let Some((pid, kind)) = reap() {
            if let Some(id) = self.processes.remove(&pid) {
                if let Some(probe) = self.probes.remove(&id) {
                    probe.abort();
                }
                let run = self.supervisor.run(&id);
                self.ends.push(id, run, pid, kind);
            }
        }
        for end in self.ends.finished(&self.launch.folders.notify()) {
            self.ended(end).await;
        }
        loop {
            let actions = self.supervisor.tick(self.clock.now());
            if actions.is_empty() {
                break;
            }
            for action in actions {
                self.perform(action);
            }
        }
        let transitions = self.supervisor.take_transitions();
        let events: Vec<_> = transitions.into_iter().map(ClusterEvent::from).collect();
        self.events.append(&events);
        let publish = self.publish();
        let ends = (!self.ends.is_empty()).then_some(LOOK_INTERVAL);
        let tick = (!self.processes.is_empty()).then_some(TICK_INTERVAL);
        let now = self.clock.now();
        let next = self.supervisor.next_tick().map(|at| at.saturating_sub(now));
        [publish, ends, tick, next].into_iter().flatten().min()
    }

    async fn ended(&mut self, end: End) {
        let End {
            id, run, pid, kind, ..
        } = end;
        let was_asked = matches!(self.supervisor.phase(&id), Some(Phase::Draining(_)));
        let kind = match kind {
            ExitKind::Signal(9) if !was_asked && self.out_of_memory.has_killed() => {
                ExitKind::OutOfMemory
            }
            kind => kind,
        };
        if self
            .sockets
            .get(&id)
            .is_some_and(|(of_run, _)| *of_run == run)
        {
            self.sockets.remove(&id);
        }
        let lines = self.capture.finish(&id, kind.to_string());
        let exit = Exit {
            last_lines: timeout(LAST_LINES_TIMEOUT, lines).await.unwrap_or_default(),
            kind,
        };
        self.supervisor.exited(&id, pid, exit, self.clock.now());
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Start { id, run } => {
                if let Err(reason) = self.start(&id, run) {
                    self.sockets.remove(&id);
                    self.supervisor.start_failed(&id, reason, self.clock.now());
                }
            }
            Action::Terminate { pid, .. } => signal_group(pid),
            Action::Kill { pid, .. } => kill_group(pid),
            Action::Forget { id } => drop(self.sockets.remove(&id)),
        }
    }

    fn start(&mut self, id: &InstanceId, run: u32) -> Result<(), String> {
        let instance = self.supervisor.instance(id).ok_or("it was removed")?;
        if let Some(reason) = occupied(instance) {
            return Err(reason);
        }
        let path = self.launch.folders.notify_socket(id);
        let sender = self.report_sender.clone();
        let socket = NotifySocket::bind(&path, id.clone(), run, sender);
        let socket = socket.map_err(|error| format!("the socket `{}`: {error}", path.display()))?;
        self.sockets.insert(id.clone(), (run, socket));
        let environment = Environment {
            executable: &self.launch.executable,
            cluster: &self.launch.cluster,
            notify_socket: &path,
            run,
        };
        let spawned = spawn(instance, &environment)?;
        self.processes.insert(spawned.pid, id.clone());
        self.capture.attach(OpenOutput {
            id: id.clone(),
            run,
            pipes: [Some(spawned.stdout), Some(spawned.stderr)],
            pending: Default::default(),
            last_lines: Default::default(),
        });
        self.start_probe(id, spawned.pid);
        let now = self.clock.now();
        self.supervisor.started(id, spawned.pid, now);
        Ok(())
    }

    fn start_probe(&mut self, id: &InstanceId, pid: u32) {
        let instance = self.supervisor.instance(id);
        if let Some(Readiness::Address(address)) = instance.map(|it| &it.readiness) {
            let sender = self.probe_sender.clone();
            let probe = tokio::spawn(probe(id.clone(), pid, address.clone(), sender));
            self.probes.insert(id.clone(), probe);
        }
    }

    pub(super) fn report(&mut self, (id, run, notification): Report) {
        if self.supervisor.run(&id) != run {
            return;
        }
        let now = self.clock.now();
        let instance = self.supervisor.instance(&id);
        let is_notified = instance.is_some_and(|it| it.readiness == Readiness::Notify);
        match notification {
            Notification::Ready if is_notified => self.supervisor.ready(&id, now),
            Notification::Reloading if is_notified => {
                let why = "has reported RELOADING=1".to_owned();
                self.supervisor.not_ready(&id, why, now);
            }
            Notification::Stopping if is_notified => {
                let why = "has reported STOPPING=1".to_owned();
                self.supervisor.not_ready(&id, why, now);
            }
            Notification::Status(text) => self.supervisor.status_text(&id, text),
            Notification::Watchdog => self.supervisor.heard(&id, now),
            Notification::Ready | Notification::Reloading | Notification::Stopping => {}
        }
    }

    fn probed(&mut self, (id, pid, result): ProbeResult) {
        if self.supervisor.pid(&id) == Some(pid) {
            let now = self.clock.now();
            match result {
                Ok(()) => self.supervisor.ready(&id, now),
                Err(why) => self.supervisor.not_ready(&id, why, now),
            }
        }
    }

    /// Stops the cluster. A second request kills its processes.
    pub(super) fn stop(&mut self, by: &str) {
        if self.is_stopping {
            let now = self.clock.now();
            return self.supervisor.kill_all(now);
        }
        self.is_stopping = true;
        self.supervisor.stop_all();
        let why = format!("was asked by {by}");
        self.events.append(&[ClusterEvent::new("down", why)]);
    }

    /// Kills what is left, and leaves no socket behind.
    async fn end(&mut self) {
        let begin = Instant::now();
        let mut left = descendants();
        while !left.is_empty() && begin.elapsed() < KILL_TIMEOUT {
            left.into_iter().for_each(kill);
            sleep(LOOK_INTERVAL).await;
            while reap().is_some() {}
            left = descendants();
        }
        self.save();
        // The last state says that all have stopped.
        self.published_at = None;
        self.publish();
        for written in self.last_answers.drain(..) {
            // The client may have left.
            let _ = timeout(ANSWER_TIMEOUT, written).await;
        }
        remove_sockets(self.launch.folders.runtime());
    }
}

impl Inputs {
    fn new(
        reports: mpsc::Receiver<Report>,
        probes: mpsc::Receiver<ProbeResult>,
        tasks: mpsc::Receiver<Task>,
    ) -> Result<Self, RunError> {
        let listen =
            |kind| signal(kind).map_err(RunError::io("the runner cannot wait for signals"));
        Ok(Self {
            reports,
            probes,
            tasks,
            child: listen(SignalKind::child())?,
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hangup: match ignores_hangup() {
                true => None,
                false => Some(listen(SignalKind::hangup())?),
            },
        })
    }
}

/// Waits for a signal, if the runner listens to it.
async fn received(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}

/// Returns whether the program that started this one has made it ignore SIGHUP.
fn ignores_hangup() -> bool {
    let status = procfs::process::Process::myself().and_then(|process| process.status());
    status.is_ok_and(|status| status.sigign & 1 != 0)
}

/// Removes the folder of sockets. The lock is still held.
fn remove_sockets(runtime: &Path) {
    let _ = std::fs::remove_dir_all(runtime);
}

pub(super) fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}
