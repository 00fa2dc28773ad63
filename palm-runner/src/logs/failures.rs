//! Runs whose output cannot be written at present, such as on a full disk.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use palm_plan::InstanceId;
use parking_lot::{Mutex, MutexGuard};

/// Lines cannot be written.
#[derive(Debug, Clone)]
pub(super) struct WriteFailure {
    pub(super) error: String,
    pub(super) lost_lines: u64,
    pub(super) tried_at: Instant,
}

/// What has changed for the output of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogChange {
    pub(crate) id: InstanceId,
    pub(crate) run: u32,
    pub(crate) kind: LogChangeKind,
}

/// What has changed for the output of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LogChangeKind {
    /// Its lines cannot be written, for this reason.
    Stopped(String),
    /// Its lines are written again, after so many were lost.
    Resumed(u64),
    /// Nothing more is written, and so many lines were lost, for this reason.
    Lost(u64, String),
}

/// The failures of all runs, which the thread of the logs notes and the runner reads.
#[derive(Debug, Clone, Default)]
pub(super) struct Failures(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    failing: BTreeMap<InstanceId, WriteFailure>,
    changes: Vec<LogChange>,
}

impl Failures {
    /// Notes whether the lines of a run can be written.
    pub(super) fn update(&self, id: &InstanceId, run: u32, failure: Option<&WriteFailure>) {
        let mut state = self.state();
        let kind = match (state.failing.remove(id), failure) {
            (None, None) => return,
            (None, Some(failure)) => Some(LogChangeKind::Stopped(failure.error.clone())),
            (Some(before), None) => Some(LogChangeKind::Resumed(before.lost_lines)),
            (Some(_), Some(_)) => None,
        };
        state
            .changes
            .extend(kind.map(|kind| LogChange::new(id, run, kind)));
        if let Some(failure) = failure {
            state.failing.insert(id.clone(), failure.clone());
        }
    }

    /// Notes that nothing more is written of a run.
    pub(super) fn end(&self, id: &InstanceId, run: u32) {
        let mut state = self.state();
        if let Some(WriteFailure {
            lost_lines, error, ..
        }) = state.failing.remove(id)
        {
            let kind = LogChangeKind::Lost(lost_lines, error);
            state.changes.push(LogChange::new(id, run, kind));
        }
    }

    /// Returns a sentence for each instance whose lines are not written at present.
    pub(super) fn sentences(&self) -> Vec<String> {
        let sentence = |(id, failure): (&InstanceId, &WriteFailure)| {
            let WriteFailure {
                lost_lines, error, ..
            } = failure;
            format!("logs of {id}: {}: {error}", lost(*lost_lines))
        };
        self.state().failing.iter().map(sentence).collect()
    }

    /// Returns what has changed since the last call.
    pub(super) fn take_changes(&self) -> Vec<LogChange> {
        std::mem::take(&mut self.state().changes)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock()
    }
}

/// Returns how many lines were lost, as a sentence.
pub(crate) fn lost(lines: u64) -> String {
    match lines {
        1 => "1 line was lost".to_owned(),
        _ => format!("{lines} lines were lost"),
    }
}

impl LogChange {
    fn new(id: &InstanceId, run: u32, kind: LogChangeKind) -> Self {
        Self {
            id: id.clone(),
            run,
            kind,
        }
    }
}
