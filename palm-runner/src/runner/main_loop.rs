//! The loop of the runner.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use palm_plan::InstanceId;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::clock::{Clock, SystemClock};
use super::ends::{Ends, KILL_TIMEOUT, LOOK_INTERVAL};
use super::events::{ClusterEvent, Events};
use super::handover::{Descriptors, Output, State};
use super::inputs::{Inputs, ProbeResult, received};
use super::leftovers::stop_leftovers;
use super::lock::lock;
use super::saved::Saved;
use super::{Launch, Progress, RunError};
use crate::api::{Access, Server, Wanted};
use crate::logs::{Capture, last_run};
use crate::process::{NotifySocket, OutOfMemory, Report, adopt_orphans, descendants, kill, reap};
use crate::state::{ClusterStatus, ExitKind, Stopped, Supervisor, TICK_INTERVAL, Time};

/// Reports of processes that wait for the loop. Further ones wait in their sockets.
const MAX_WAITING_REPORTS: usize = 1024;
const MAX_WAITING_TASKS: usize = 64;
/// Time in which the last answers are written before the runner ends or replaces itself.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

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
        events: Vec::new(),
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
        runner.end(&mut inputs).await;
        Ok(())
    })
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
    pub(super) system_clock: SystemClock,
    pub(super) looked_at: Option<Instant>,
    pub(super) is_stopping: bool,
    pub(super) upgrades: u32,
    pub(super) save_failure: Option<String>,
    pub(super) report_sender: mpsc::Sender<Report>,
    pub(super) probe_sender: mpsc::Sender<ProbeResult>,
    pub(super) status: watch::Sender<Arc<ClusterStatus>>,
    pub(super) published_at: Option<Instant>,
}

impl Runner {
    fn new(
        state: State,
        lock: File,
        inherited: Option<Inherited>,
    ) -> Result<(Self, Inputs), RunError> {
        let folders = &state.launch.folders;
        let capture = Capture::start(folders.logs(), state.launch.wanted.log_limits);
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
            system_clock: SystemClock::new(),
            looked_at: None,
            is_stopping: state.is_stopping,
            upgrades: state.upgrades,
            save_failure: None,
            report_sender,
            probe_sender,
            status,
            published_at: None,
            supervisor: state.supervisor,
            launch: state.launch,
            lock,
        };
        this.events.append(state.events);
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
        self.events.append([ClusterEvent::new("up", why)]);
        let wanted = self.launch.wanted.clone();
        self.apply(wanted, Stopped::Start);
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
        self.events.append([ClusterEvent::new("upgrade", why)]);
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

    pub(super) fn apply(&mut self, wanted: Wanted, stopped: Stopped) {
        let logs = self.launch.folders.logs();
        let last = |id: &InstanceId| last_run(&logs.join(&id.component).join(id.index.to_string()));
        let now = self.clock.now();
        let instances = wanted.instances.clone();
        self.supervisor.apply(instances, stopped, last, now);
        if wanted.log_limits != self.launch.wanted.log_limits {
            self.capture.set_limits(wanted.log_limits);
        }
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
        self.look();
        self.record();
        let publish = self.publish();
        let ends = (!self.ends.is_empty()).then_some(LOOK_INTERVAL);
        let has_failed = self.events.failure().is_some() || self.save_failure.is_some();
        let tick = (!self.processes.is_empty() || has_failed).then_some(TICK_INTERVAL);
        let now = self.clock.now();
        let next = self.supervisor.next_tick().map(|at| at.saturating_sub(now));
        [publish, ends, tick, next].into_iter().flatten().min()
    }

    /// Looks at what no event announces, once a second: steps of the clock, a memory that was exhausted, and a disk
    /// that was full.
    fn look(&mut self) {
        let now = Instant::now();
        if self.looked_at.is_some_and(|at| now < at + TICK_INTERVAL) {
            return;
        }
        self.looked_at = Some(now);
        self.out_of_memory.look(now);
        let step = self.system_clock.step(now, SystemTime::now());
        let step = step.map(|why| ClusterEvent::new("clock", why));
        // Those that could not be written before are tried again, too.
        self.events.append(step);
        if self.save_failure.is_some() {
            self.save();
        }
    }

    /// Writes what has happened to instances and to their logs.
    pub(super) fn record(&mut self) {
        let transitions = self.supervisor.take_transitions();
        let changes = self.capture.take_changes();
        let events = transitions.into_iter().map(ClusterEvent::from);
        let events: Vec<_> = events
            .chain(changes.into_iter().map(ClusterEvent::from))
            .collect();
        if !events.is_empty() {
            self.events.append(events);
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
        self.events.append([ClusterEvent::new("down", why)]);
    }

    /// Kills what is left, answers the last requests, and leaves no socket behind.
    async fn end(&mut self, inputs: &mut Inputs) {
        let begin = Instant::now();
        let mut left = descendants();
        while !left.is_empty() && begin.elapsed() < KILL_TIMEOUT {
            left.into_iter().for_each(kill);
            sleep(LOOK_INTERVAL).await;
            while reap().is_some() {}
            left = descendants();
        }
        self.record();
        self.save();
        remove_sockets(self.launch.folders.runtime());
        // The last state says that all have stopped.
        self.published_at = None;
        self.publish();
        // A client that does not read its answer must not keep the runner.
        let _ = timeout(ANSWER_TIMEOUT, self.answer_last(inputs)).await;
    }

    /// Answers the requests that were sent before the server closes, and closes it.
    async fn answer_last(&mut self, inputs: &mut Inputs) {
        loop {
            let task = tokio::select! {
                biased;
                Some(task) = inputs.tasks.recv() => task,
                () = self.server.close() => return,
            };
            let answer = self.answer(task.request);
            // The client may have left.
            let _ = task.answer.send(answer);
        }
    }
}

/// Removes the folder of sockets. The lock is still held.
fn remove_sockets(runtime: &Path) {
    let _ = std::fs::remove_dir_all(runtime);
}

pub(super) fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}
