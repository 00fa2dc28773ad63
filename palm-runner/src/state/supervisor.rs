//! All instances of a cluster.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use palm_plan::InstanceId;
use palm_plan::instance::{Instance, Readiness};
use serde::{Deserialize, Serialize};

use super::machine::{Reason, Supervised};
use super::{Exit, ExitKind, Goal, Phase, Time, Transition};

/// [`Supervisor::tick`] is called at least this often while there are processes.
pub(crate) const TICK_INTERVAL: Duration = Duration::from_secs(1);

/// The state of all instances of a cluster. See [the module](super).
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Supervisor {
    pub(super) instances: BTreeMap<InstanceId, Supervised>,
    pub(super) rolling: Rolling,
    transitions: Vec<Transition>,
    pub(super) ticked_at: Option<Time>,
}

/// What becomes of stopped and failed instances when others are changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// They start again.
    Start,
    /// They remain as they are.
    Remain,
}

/// Instances that are restarted one after the other.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Rolling {
    pub(super) waiting: VecDeque<InstanceId>,
    /// The one that restarts, and its run before.
    pub(super) current: Option<(InstanceId, u32)>,
    pub(super) done: u32,
    /// Why the last rolling restart ended early.
    pub(super) failure: Option<String>,
}

impl Supervisor {
    /// Sets which instances should run. New ones start; others are removed; changed ones restart one after the other.
    /// `stopped` says what becomes of those that were stopped or have failed. `last_run` returns the number of the last
    /// run of an instance that is new.
    pub fn apply(
        &mut self,
        wanted: Vec<Instance>,
        stopped: Stopped,
        last_run: impl Fn(&InstanceId) -> u32,
        now: Time,
    ) {
        let mut wanted: BTreeMap<_, _> = wanted.into_iter().map(|it| (it.id(), it)).collect();
        let mut changed = Vec::new();
        for (id, supervised) in &mut self.instances {
            match wanted.remove(id) {
                None => supervised.goal = Goal::Remove,
                Some(instance) => {
                    let is_other = instance.fingerprint() != supervised.instance.fingerprint();
                    supervised.instance = instance;
                    let is_stopped = supervised.goal == Goal::Stop || supervised.is_settled();
                    if stopped == Stopped::Remain && is_stopped && !is_other {
                        continue;
                    }
                    let is_idle =
                        supervised.goal != Goal::Run || is_other || supervised.is_settled();
                    supervised.goal = Goal::Run;
                    if is_other || matches!(supervised.phase, Phase::Draining(_)) {
                        supervised.failures = 0;
                    }
                    if supervised.phase.process().is_none() {
                        if is_idle && supervised.phase != Phase::Completed || is_other {
                            supervised.retry(now);
                        }
                    } else if is_other {
                        changed.push(id.clone());
                    }
                }
            }
        }
        for (id, instance) in wanted {
            let run = last_run(&id);
            self.instances
                .insert(id, Supervised::new(instance, run, now));
        }
        self.roll(changed);
    }

    /// Restarts instances, all at once or one after the other. Stopped ones start.
    pub fn restart(&mut self, ids: &[InstanceId], is_rolling: bool, now: Time) {
        let mut rolling = Vec::new();
        for id in ids {
            let Some(supervised) = self.instances.get_mut(id) else {
                continue;
            };
            if supervised.goal == Goal::Remove {
                continue;
            }
            supervised.goal = Goal::Run;
            if supervised.phase.process().is_none() {
                supervised.retry(now);
            } else if is_rolling {
                rolling.push(id.clone());
            } else {
                supervised.failures = 0;
                supervised.restart = true;
            }
        }
        self.roll(rolling);
    }

    /// Drains and stops instances.
    pub fn stop(&mut self, ids: &[InstanceId]) {
        for id in ids {
            if let Some(supervised) = self.instances.get_mut(id)
                && supervised.goal == Goal::Run
            {
                supervised.goal = Goal::Stop;
            }
        }
        self.rolling.waiting.retain(|id| !ids.contains(id));
    }

    /// Drains and stops all instances.
    pub fn stop_all(&mut self) {
        let ids: Vec<_> = self.instances.keys().cloned().collect();
        self.stop(&ids);
    }

    /// Lets the drain time of all stopping processes end now, and no longer waits for an order among them.
    pub fn kill_all(&mut self, now: Time) {
        self.stop_all();
        for supervised in self.instances.values_mut() {
            supervised.terminate(Reason::Stop, now);
            if let Phase::Draining(process) = &mut supervised.phase
                && let Some(termination) = &mut process.terminated
            {
                termination.kill_at = now;
            }
        }
    }

    /// The process of an [`Action::Start`](super::Action::Start) runs.
    pub fn started(&mut self, id: &InstanceId, pid: u32, now: Time) {
        let Some(supervised) = self.instances.get_mut(id) else {
            return;
        };
        if let Some(process) = supervised.phase.process_mut() {
            process.pid = Some(pid);
        }
        let readiness = self.instances.get(id).map(|it| &it.instance.readiness);
        match readiness == Some(&Readiness::Running) {
            true => self.ready(id, now),
            false => self.record(id),
        }
    }

    /// The process of an [`Action::Start`](super::Action::Start) could not be started.
    pub fn start_failed(&mut self, id: &InstanceId, reason: String, now: Time) {
        let exit = Exit {
            kind: ExitKind::NotStarted(reason),
            cause: None,
            last_lines: Vec::new(),
        };
        self.end(id, exit, now);
    }

    /// The process has ended, and so have its descendants.
    pub fn exited(&mut self, id: &InstanceId, pid: u32, exit: Exit, now: Time) {
        if self.pid(id) == Some(pid) {
            self.end(id, exit, now);
        }
    }

    /// The process is ready.
    pub fn ready(&mut self, id: &InstanceId, now: Time) {
        let Some(supervised) = self.instances.get_mut(id) else {
            return;
        };
        if let Phase::Starting(process) | Phase::NotReady(process, _) = &supervised.phase {
            let mut process = process.clone();
            // It said what the process was waiting for.
            process.status = None;
            supervised.enter(Phase::Ready(process), now);
            self.record(id);
        }
    }

    /// The process was ready, and is not any more.
    pub fn not_ready(&mut self, id: &InstanceId, why: String, now: Time) {
        let Some(supervised) = self.instances.get_mut(id) else {
            return;
        };
        if let Phase::Ready(process) = &supervised.phase {
            let process = process.clone();
            supervised.enter(Phase::NotReady(process, why), now);
            self.record(id);
        }
    }

    /// The process has sent `STATUS=`.
    pub fn status_text(&mut self, id: &InstanceId, text: String) {
        let supervised = self.instances.get_mut(id);
        if let Some(process) = supervised.and_then(|it| it.phase.process_mut()) {
            process.status = Some(text);
        }
    }

    /// The process has sent `WATCHDOG=1`.
    pub fn heard(&mut self, id: &InstanceId, now: Time) {
        let supervised = self.instances.get_mut(id);
        if let Some(process) = supervised.and_then(|it| it.phase.process_mut()) {
            process.heard_at = Some(now);
        }
    }

    /// Returns and forgets the changes of states since the last call.
    pub fn take_transitions(&mut self) -> Vec<Transition> {
        std::mem::take(&mut self.transitions)
    }

    /// Returns the instances and how they are started, without those that are being removed.
    pub fn wanted(&self) -> Vec<Instance> {
        let wanted = self.instances.values().filter(|it| it.goal != Goal::Remove);
        wanted.map(|it| it.instance.clone()).collect()
    }

    /// Returns the ids of all instances.
    pub fn ids(&self) -> impl Iterator<Item = &InstanceId> {
        self.instances.keys()
    }

    /// Returns how an instance is started.
    pub fn instance(&self, id: &InstanceId) -> Option<&Instance> {
        self.instances.get(id).map(|it| &it.instance)
    }

    /// Returns the phase of an instance.
    pub fn phase(&self, id: &InstanceId) -> Option<&Phase> {
        self.instances.get(id).map(|it| &it.phase)
    }

    /// Returns the process of an instance.
    pub fn pid(&self, id: &InstanceId) -> Option<u32> {
        self.phase(id)?.process()?.pid
    }

    /// Returns the number of the last run of an instance.
    pub fn run(&self, id: &InstanceId) -> u32 {
        self.instances.get(id).map_or(0, |it| it.run)
    }

    /// Returns whether no process runs.
    pub fn is_idle(&self) -> bool {
        let mut all = self.instances.values();
        all.all(|it| it.phase.process().is_none())
    }

    fn end(&mut self, id: &InstanceId, exit: Exit, now: Time) {
        if let Some(supervised) = self.instances.get_mut(id) {
            supervised.end(exit, now);
            self.record(id);
        }
    }

    /// Adds the present state of an instance to the transitions, unless it starts in the same tick.
    fn record(&mut self, id: &InstanceId) {
        if let Some(supervised) = self.instances.get(id) {
            if supervised.phase == Phase::Pending
                && self.missing(&supervised.instance).next().is_none()
            {
                return;
            }
            let transition = Transition {
                id: id.clone(),
                run: supervised.run,
                state: supervised.state().to_owned(),
                why: match &supervised.phase {
                    Phase::Starting(process) => match process.pid {
                        Some(pid) => format!("is process {pid}"),
                        None => String::new(),
                    },
                    _ => self.why(id, supervised.since),
                },
            };
            self.transitions.push(transition);
        }
    }

    /// Returns the components that an instance waits for.
    pub(super) fn missing<'a>(&'a self, instance: &'a Instance) -> impl Iterator<Item = &'a str> {
        let is_missing = |component: &&String| !self.is_component_ready(component);
        instance.after.iter().filter(is_missing).map(String::as_str)
    }

    fn is_component_ready(&self, component: &str) -> bool {
        let mut replicas = self.replicas(component).peekable();
        replicas.peek().is_some() && replicas.all(Supervised::is_ready)
    }

    /// Returns the replicas of a component that should run.
    pub(super) fn replicas(&self, component: &str) -> impl Iterator<Item = &Supervised> {
        let replicas = self.instances.iter();
        let replicas = replicas.filter(move |(id, _)| id.component == component);
        replicas
            .map(|(_, it)| it)
            .filter(|it| it.goal != Goal::Remove)
    }

    pub(super) fn update(&mut self, id: &InstanceId, change: impl FnOnce(&mut Supervised)) {
        if let Some(supervised) = self.instances.get_mut(id) {
            change(supervised);
            self.record(id);
        }
    }
}
