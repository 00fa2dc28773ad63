//! Rolling restarts: one instance after the other.

use palm_plan::InstanceId;

use super::supervisor::Rolling;
use super::{Goal, Phase, Supervisor, Time};

/// Failed runs of one instance after which a rolling restart ends.
const MAX_ROLLING_FAILURES: u32 = 3;

impl Supervisor {
    /// Begins a rolling restart, or extends the one under way. The failure of an earlier one is forgotten: the wish of
    /// a person has replaced it.
    pub(super) fn roll(&mut self, ids: Vec<InstanceId>) {
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
    pub(super) fn advance_rolling(&mut self, now: Time) {
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
}
