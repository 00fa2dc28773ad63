//! All instances of a cluster.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use palm_plan::InstanceId;
use palm_plan::instance::{Instance, Readiness};
use serde::{Deserialize, Serialize};

use super::machine::{Reason, Supervised};
use super::{Action, Exit, ExitKind, Goal, Phase, Time, Transition};

/// Time without `WATCHDOG=1` after which a process counts as hung. Processes read it from `WATCHDOG_USEC`.
pub(crate) const WATCHDOG_TIMEOUT: Duration = Duration::from_secs(30);
/// [`Supervisor::tick`] is called at least this often while there are processes.
pub(crate) const TICK_INTERVAL: Duration = Duration::from_secs(1);
/// Failed runs of one instance after which a rolling restart ends.
const MAX_ROLLING_FAILURES: u32 = 3;

/// The state of all instances of a cluster. See [the module](super).
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Supervisor {
    pub(super) instances: BTreeMap<InstanceId, Supervised>,
    pub(super) rolling: Rolling,
    transitions: Vec<Transition>,
    ticked_at: Option<Time>,
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
    /// Stopped and failed ones begin again. `last_run` returns the number of the last run of an instance that is new.
    pub fn apply(
        &mut self,
        wanted: Vec<Instance>,
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

    /// The process of an [`Action::Start`] runs.
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

    /// The process of an [`Action::Start`] could not be started.
    pub fn start_failed(&mut self, id: &InstanceId, reason: String, now: Time) {
        let exit = Exit {
            kind: ExitKind::NotStarted(reason),
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
            let process = process.clone();
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

    /// Compares states with goals, and returns what has to be done.
    pub fn tick(&mut self, now: Time) -> Vec<Action> {
        self.forgive_gap(now);
        self.advance_rolling(now);
        let mut actions = Vec::new();
        let ids: Vec<_> = self.instances.keys().cloned().collect();
        for id in &ids {
            self.tick_one(id, now, &mut actions);
        }
        self.ticked_at = Some(now);
        actions
    }

    /// Returns the time at which [`tick`](Self::tick) has something to do, if no event happens before.
    pub fn next_tick(&self) -> Option<Time> {
        let due = |it: &Supervised| {
            let process = it.phase.process();
            let kill = process.and_then(|process| {
                let termination = process.terminated.as_ref()?;
                (!termination.killed).then_some(termination.kill_at)
            });
            let ready = match it.phase {
                Phase::Starting(_) | Phase::NotReady(..) => it.ready_deadline(),
                _ => None,
            };
            let backoff = match it.phase {
                Phase::Backoff { until } => Some(until),
                _ => None,
            };
            let watchdog = process.and_then(|process| process.heard_at);
            let watchdog = watchdog.map(|heard| heard + WATCHDOG_TIMEOUT);
            [kill, ready, backoff, watchdog].into_iter().flatten().min()
        };
        self.instances.values().filter_map(due).min()
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
                state: supervised.phase.name().to_owned(),
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

    fn tick_one(&mut self, id: &InstanceId, now: Time, actions: &mut Vec<Action>) {
        let Some(supervised) = self.instances.get(id) else {
            return;
        };
        match (&supervised.phase, supervised.goal) {
            (Phase::Pending | Phase::Backoff { .. } | Phase::Stopped, Goal::Remove)
            | (Phase::Completed | Phase::Failed, Goal::Remove) => {
                self.instances.remove(id);
                actions.push(Action::Forget { id: id.clone() });
            }
            (Phase::Pending | Phase::Backoff { .. }, Goal::Stop) => {
                self.update(id, |it| it.enter(Phase::Stopped, now));
            }
            (Phase::Stopped, Goal::Run) => {
                self.update(id, |it| it.enter(Phase::Pending, now));
                self.start_if_possible(id, now, actions);
            }
            (Phase::Pending, Goal::Run) => self.start_if_possible(id, now, actions),
            (Phase::Backoff { until }, Goal::Run) => {
                if *until <= now {
                    self.update(id, |it| it.enter(Phase::Pending, now));
                    self.start_if_possible(id, now, actions);
                }
            }
            (Phase::Draining(_), _) => self.kill_if_due(id, now, actions),
            (Phase::Starting(_) | Phase::Ready(_) | Phase::NotReady(..), _) => {
                self.tick_process(id, now, actions);
            }
            (Phase::Stopped | Phase::Completed | Phase::Failed, _) => {}
        }
    }

    /// A tick of an instance whose process has not been asked to stop.
    fn tick_process(&mut self, id: &InstanceId, now: Time, actions: &mut Vec<Action>) {
        let Some(supervised) = self.instances.get_mut(id) else {
            return;
        };
        let reset_after = supervised.instance.restart.reset_after;
        if matches!(supervised.phase, Phase::Ready(_)) && now >= supervised.since + reset_after {
            supervised.failures = 0;
        }
        let supervised = &self.instances[id];
        let reason = match supervised.goal {
            Goal::Run if supervised.restart => Some(Reason::Restart),
            Goal::Run => supervised.failure(now),
            Goal::Stop | Goal::Remove => self.may_stop(supervised).then_some(Reason::Stop),
        };
        let Some(reason) = reason else { return };
        let Some(pid) = self.pid(id) else { return };
        let mut is_new = false;
        self.update(id, |it| is_new = it.terminate(reason, now));
        if is_new {
            let id = id.clone();
            actions.push(Action::Terminate { id, pid });
        }
    }

    fn kill_if_due(&mut self, id: &InstanceId, now: Time, actions: &mut Vec<Action>) {
        let Some(pid) = self.pid(id) else { return };
        let supervised = self.instances.get_mut(id);
        let process = supervised.and_then(|it| it.phase.process_mut());
        if let Some(termination) = process.and_then(|it| it.terminated.as_mut())
            && !termination.killed
            && termination.kill_at <= now
        {
            termination.killed = true;
            let id = id.clone();
            actions.push(Action::Kill { id, pid });
        }
    }

    fn start_if_possible(&mut self, id: &InstanceId, now: Time, actions: &mut Vec<Action>) {
        if self.missing(&self.instances[id].instance).next().is_some() {
            return;
        }
        if let Some(supervised) = self.instances.get_mut(id) {
            supervised.start(now);
            let (id, run) = (id.clone(), supervised.run);
            actions.push(Action::Start { id, run });
        }
    }

    /// Returns whether everything that has to stop before has stopped.
    fn may_stop(&self, stopping: &Supervised) -> bool {
        let mut earlier = self.instances.values().filter(|it| {
            it.goal != Goal::Run && it.instance.stop_order < stopping.instance.stop_order
        });
        earlier.all(|it| it.phase.process().is_none())
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

    fn update(&mut self, id: &InstanceId, change: impl FnOnce(&mut Supervised)) {
        if let Some(supervised) = self.instances.get_mut(id) {
            change(supervised);
            self.record(id);
        }
    }

    /// Begins a rolling restart, or extends the one under way. The failure of an earlier one is forgotten: the wish of
    /// a person has replaced it.
    fn roll(&mut self, ids: Vec<InstanceId>) {
        if self.rolling.current.is_none() && self.rolling.waiting.is_empty() {
            self.rolling = Rolling::default();
        }
        for id in ids {
            if !self.rolling.waiting.contains(&id) {
                self.rolling.waiting.push_back(id);
            }
        }
    }

    /// Restarts the next instance once the previous one is ready. A new version that fails replaces no further ones.
    fn advance_rolling(&mut self, now: Time) {
        loop {
            if let Some((id, run)) = self.rolling.current.clone() {
                let Some(supervised) = self.instances.get(&id) else {
                    self.rolling.current = None;
                    continue;
                };
                let has_failed = supervised.phase == Phase::Failed
                    || supervised.failures >= MAX_ROLLING_FAILURES;
                if has_failed {
                    let why = format!("{id} {}", self.why(&id, now));
                    self.rolling.failure = Some(why);
                    self.rolling.waiting.clear();
                    self.rolling.current = None;
                    return;
                }
                let is_replaced = supervised.run > run && supervised.is_ready();
                if !is_replaced && supervised.goal == Goal::Run {
                    return;
                }
                self.rolling.done += 1;
                self.rolling.current = None;
            }
            let Some(id) = self.rolling.waiting.pop_front() else {
                return;
            };
            if let Some(supervised) = self.instances.get_mut(&id)
                && supervised.goal == Goal::Run
            {
                supervised.failures = 0;
                match supervised.phase.process() {
                    Some(_) => supervised.restart = true,
                    None => supervised.retry(now),
                }
                self.rolling.current = Some((id, supervised.run));
            }
        }
    }

    /// If the runner itself was stopped for a while (SIGSTOP, a suspended machine), signs of life wait unread.
    fn forgive_gap(&mut self, now: Time) {
        let gap = self
            .ticked_at
            .map_or(Time::ZERO, |at| now.saturating_sub(at));
        if gap <= 2 * TICK_INTERVAL {
            return;
        }
        for supervised in self.instances.values_mut() {
            if let Some(process) = supervised.phase.process_mut() {
                process.heard_at = process.heard_at.map(|_| now);
            }
        }
    }
}

impl Supervised {
    /// Returns whether dependents may start: the process is ready, or a job has succeeded.
    pub(super) fn is_ready(&self) -> bool {
        matches!(self.phase, Phase::Ready(_) | Phase::Completed)
    }

    /// Returns whether nothing happens by itself any more.
    pub(super) fn is_settled(&self) -> bool {
        matches!(self.phase, Phase::Stopped | Phase::Failed)
    }

    /// Returns the time at which the process counts as failed, unless it is ready by then.
    pub(super) fn ready_deadline(&self) -> Option<Time> {
        let has_deadline = self.instance.readiness != Readiness::Exit;
        has_deadline.then(|| self.since + self.instance.ready_timeout)
    }

    /// Returns why the process has to be replaced.
    fn failure(&self, now: Time) -> Option<Reason> {
        let heard = self.phase.process().and_then(|process| process.heard_at);
        if heard.is_some_and(|heard| heard + WATCHDOG_TIMEOUT <= now) {
            return Some(Reason::Watchdog);
        }
        let is_late = self
            .ready_deadline()
            .is_some_and(|deadline| deadline <= now);
        match &self.phase {
            Phase::Starting(_) if is_late => Some(Reason::NotReady(self.readiness_text())),
            Phase::NotReady(_, why) if is_late => Some(Reason::NotReady(why.clone())),
            _ => None,
        }
    }
}
