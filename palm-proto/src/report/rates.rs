//! [`Rates`]: what happened between two reports of a component.

use std::collections::VecDeque;
use std::time::Duration;

use super::{Edge, Report, Role};

/// Runs of a component whose late reports are still recognized.
const MAX_EARLIER_RUNS: usize = 16;

/// Computes rates from the reports of one component, which may arrive late, twice, out of order, or not at all.
///
/// A rate is a difference of counters divided by the difference of [`Report::uptime`], both by the clock of the
/// component. After a restart the counters begin at 0, and so do the rates: none is negative.
#[derive(Debug, Clone, Default)]
pub struct Rates {
    /// Empty unless two reports of this run have arrived.
    earlier: Option<Report>,
    /// The positions of the edges of `earlier`, sorted by [`Session`] and age: a master has many edges.
    earlier_edges: Vec<usize>,
    latest: Option<Report>,
    /// The runs before the latest one.
    earlier_runs: VecDeque<u64>,
}

impl Rates {
    /// Adds a report. Returns `false` if it is not newer than the latest one, and was ignored.
    pub fn add(&mut self, report: Report) -> bool {
        if self.earlier_runs.contains(&report.instance) {
            return false;
        }
        match self.latest.take() {
            Some(latest) if latest.instance == report.instance => {
                if report.uptime <= latest.uptime {
                    self.latest = Some(latest);
                    return false;
                }
                let edges = &latest.edges;
                self.earlier_edges = (0..edges.len()).collect();
                let order = |at: &usize| (session(&edges[*at]), edges[*at].age);
                self.earlier_edges.sort_by(|a, b| order(a).cmp(&order(b)));
                self.earlier = Some(latest);
            }
            Some(latest) => {
                self.earlier_runs.truncate(MAX_EARLIER_RUNS - 1);
                self.earlier_runs.push_front(latest.instance);
                self.earlier = None;
                self.earlier_edges.clear();
            }
            None => {}
        }
        self.latest = Some(report);
        true
    }

    /// Returns the newest report.
    pub fn latest(&self) -> Option<&Report> {
        self.latest.as_ref()
    }

    /// Returns the report before the newest one, if it is one of the same run.
    pub fn earlier(&self) -> Option<&Report> {
        self.earlier.as_ref()
    }

    /// Returns the state of an edge of the newest report in the report before, if it is the same session: of several ones
    /// with the same name, the one that has grown older by the time between the reports.
    pub fn earlier_edge(&self, edge: &Edge) -> Option<&Edge> {
        let edges = &self.earlier.as_ref()?.edges;
        // A session that is not older than that was opened since then.
        let age = edge.age.checked_sub(self.period())?;
        if age.is_zero() {
            return None;
        }
        let wanted = (session(edge), age);
        let sorted = &self.earlier_edges;
        let next = sorted.partition_point(|at| (session(&edges[*at]), edges[*at].age) < wanted);
        let nearest = next.saturating_sub(1)..(next + 1).min(sorted.len());
        sorted[nearest]
            .iter()
            .map(|at| &edges[*at])
            .filter(|it| session(it) == session(edge) && it.age < edge.age)
            .min_by_key(|it| it.age.abs_diff(age))
    }

    /// Returns the time between the two newest reports of this run of the component: since its start if there is one.
    pub fn period(&self) -> Duration {
        let uptime = |report: &Report| report.uptime;
        let latest = self.latest.as_ref().map(uptime).unwrap_or_default();
        latest.saturating_sub(self.earlier.as_ref().map(uptime).unwrap_or_default())
    }

    /// Returns by how much a counter of the component has grown per second. 0.0 until two reports have arrived.
    pub fn rate(&self, counter: impl Fn(&Report) -> u64) -> f64 {
        let (Some(earlier), Some(latest)) = (&self.earlier, &self.latest) else {
            return 0.0;
        };
        let grown = counter(latest).saturating_sub(counter(earlier));
        grown as f64 / self.period().as_secs_f64()
    }

    /// Returns by how much a counter of an edge of the newest report has grown per second. A session that was opened
    /// since the report before is measured since then.
    pub fn edge_rate(&self, edge: &Edge, counter: impl Fn(&Edge) -> u64) -> f64 {
        if self.earlier.is_none() {
            return 0.0;
        }
        let before = self.earlier_edge(edge).map(&counter).unwrap_or_default();
        let grown = counter(edge).saturating_sub(before);
        grown as f64 / self.period().as_secs_f64()
    }
}

/// What the edges of a session have in common in all reports.
type Session<'a> = (Role, &'a str, &'a str, &'a [String]);

fn session(edge: &Edge) -> Session<'_> {
    (edge.role, &edge.name, &edge.db_address, &edge.topics)
}
