//! The step of the state machine: states are compared with goals.

use palm_plan::InstanceId;

use super::machine::{Reason, Supervised, WATCHDOG_TIMEOUT};
use super::supervisor::TICK_INTERVAL;
use super::{Action, Goal, Phase, Supervisor, Time};

impl Supervisor {
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

    /// If the runner itself was stopped for a while (SIGSTOP, a suspended machine), signs of life wait unread, and so do
    /// reports that a process is ready.
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
            if let Phase::Starting(_) | Phase::NotReady(..) = supervised.phase {
                supervised.since = (supervised.since + gap).min(now);
            }
        }
    }
}
