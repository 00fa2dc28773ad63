//! What is known about a cluster: the newest reports, rates, and the component that slows the others down.
//!
//! Nothing here does I/O, and time is an argument.

mod bottleneck;
pub mod path;
pub mod processes;

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use palm::Durations;
use palm::inspect::{Answer, Cluster};
use palm::report::{Edge, Rates, Report, Role};

pub use bottleneck::{Backlogged, Bottleneck, Slow};

use self::processes::{ComponentProcesses, Processes};

/// The most components that are remembered. Those that have not answered for the longest time are forgotten first.
const MAX_COMPONENTS: usize = 1000;

/// What is known about a cluster.
#[derive(Debug, Clone, Default)]
pub struct Monitor {
    components: BTreeMap<String, Component>,
    /// Further addresses of components.
    aliases: HashMap<String, String>,
    is_incomplete: bool,
    /// The processes of the cluster, or why they are unknown. `None` if no runner is asked for them.
    processes: Option<Result<Processes, String>>,
}

/// What is known about a component.
#[derive(Debug, Clone)]
pub struct Component {
    /// The address at which it was asked.
    pub address: String,
    /// Its key in the file of the cluster, if the cluster is one of a file.
    pub key: Option<String>,
    /// Its reports.
    pub rates: Rates,
    /// When its newest answer arrived.
    pub answered_at: Option<Instant>,
    /// The reason for a missing report.
    pub problem: Option<Problem>,
}

/// The reason for a missing report of a component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// It answers, but does not report.
    NoReport {
        /// The name; empty if it has none.
        name: String,
        /// The kind and version, such as `pylm`.
        what: String,
    },
    /// It does not answer, for this reason.
    Unreachable(String),
}

impl Monitor {
    /// Adds the answers of a walk that ended at `now`.
    pub fn update(&mut self, cluster: Cluster, now: Instant) {
        self.is_incomplete = cluster.is_incomplete;
        self.aliases.clear();
        let mut instances: HashMap<u64, String> = HashMap::new();
        for component in self.components.values_mut() {
            if !cluster.components.contains_key(&component.address) {
                let reason = "no component leads to it any more";
                component.problem = Some(Problem::Unreachable(reason.to_owned()));
            }
        }
        for (address, answer) in cluster.components {
            if let Answer::Report(report) = &answer {
                let first = instances.entry(report.instance);
                let first = first.or_insert_with(|| address.clone());
                if *first != address {
                    self.components.remove(&address);
                    self.aliases.insert(address, first.clone());
                    continue;
                }
                if report.db_address != address {
                    self.aliases
                        .insert(report.db_address.clone(), address.clone());
                }
            }
            let component = self.components.entry(address.clone());
            let component = component.or_insert_with(|| Component {
                address,
                key: None,
                rates: Rates::default(),
                answered_at: None,
                problem: None,
            });
            component.answer(answer, now);
        }
        while self.components.len() > MAX_COMPONENTS {
            let silent = self.components.values().filter(|it| it.problem.is_some());
            let Some(oldest) = silent.min_by_key(|it| it.answered_at) else {
                break;
            };
            let address = oldest.address.clone();
            self.components.remove(&address);
        }
        self.explain_gaps();
    }

    /// Sets the processes of the cluster, or why they are unknown.
    pub fn set_processes(&mut self, processes: Result<Processes, String>) {
        self.processes = Some(processes);
        self.explain_gaps();
    }

    /// A component that does not answer because its process is missing has the runner's reason.
    fn explain_gaps(&mut self) {
        let Some(Ok(processes)) = &self.processes else {
            return;
        };
        for process in &processes.components {
            let Some(address) = &process.address else {
                continue;
            };
            let address = self.aliases.get(address).unwrap_or(address);
            let Some(component) = self.components.get_mut(address) else {
                continue;
            };
            component.key = Some(process.key.clone());
            let gaps = process.gaps();
            if let (Some(Problem::Unreachable(reason)), false) =
                (&mut component.problem, gaps.is_empty())
            {
                *reason = gaps.join(", ");
            }
        }
    }

    /// Returns the processes of the cluster, or why they are unknown. `None` if no runner is asked for them.
    pub fn processes(&self) -> Option<Result<&Processes, &str>> {
        let processes = self.processes.as_ref()?;
        Some(processes.as_ref().map_err(String::as_str))
    }

    /// Returns the addresses of the components that should run, if that is known.
    pub fn process_addresses(&self) -> impl Iterator<Item = &str> {
        let processes = self.processes().and_then(Result::ok);
        let components = processes.into_iter().flat_map(|it| &it.components);
        components.filter_map(|it| it.address.as_deref())
    }

    /// Returns the processes of a component, if they are known.
    pub fn processes_of(&self, component: &Component) -> Option<&ComponentProcesses> {
        self.processes()?.ok()?.component(component.key.as_deref()?)
    }

    /// Returns the components, sorted by address.
    pub fn components(&self) -> impl Iterator<Item = &Component> {
        self.components.values()
    }

    /// Returns the component at an address.
    pub fn component(&self, address: &str) -> Option<&Component> {
        let known = self.aliases.get(address).map_or(address, |it| it);
        self.components.get(known)
    }

    /// Returns the component at the other end of an edge, if it is known.
    pub fn peer(&self, edge: &Edge) -> Option<&Component> {
        match edge.db_address.is_empty() {
            true => None,
            false => self.component(&edge.db_address),
        }
    }

    /// Returns whether the last walk has not found all components.
    pub fn is_incomplete(&self) -> bool {
        self.is_incomplete
    }

    /// Returns which component slows the others down.
    pub fn bottleneck(&self) -> Bottleneck {
        bottleneck::find(self)
    }
}

impl Component {
    fn answer(&mut self, answer: Answer, now: Instant) {
        self.problem = match answer {
            Answer::Report(report) => {
                self.rates.add(*report);
                None
            }
            Answer::NoReport {
                name,
                kind,
                version,
            } => Some(Problem::NoReport {
                name,
                what: match kind.is_empty() {
                    true => "pylm".to_owned(),
                    false => format!("{kind} of palm {version}"),
                },
            }),
            Answer::Unreachable(reason) => Some(Problem::Unreachable(reason)),
            _ => Some(Problem::Unreachable("its answer is unknown".to_owned())),
        };
        if !matches!(self.problem, Some(Problem::Unreachable(_))) {
            self.answered_at = Some(now);
        }
    }

    /// Returns the newest report, also if the component does not answer any more.
    pub fn report(&self) -> Option<&Report> {
        self.rates.latest()
    }

    /// Returns the newest report, if the component still answers.
    pub fn current(&self) -> Option<&Report> {
        self.report().filter(|_| self.problem.is_none())
    }

    /// Returns the name, or if it is unknown the key in the file of the cluster, or the address.
    pub fn name(&self) -> &str {
        let name = match &self.problem {
            Some(Problem::NoReport { name, .. }) => name,
            _ => self.report().map_or("", |report| &report.name),
        };
        match name.is_empty() {
            true => self.key.as_deref().unwrap_or(&self.address),
            false => name,
        }
    }

    /// Returns the kind, such as `master`.
    pub fn kind(&self) -> &str {
        match (&self.problem, self.report()) {
            (Some(Problem::NoReport { what, .. }), _) => what,
            (_, Some(report)) if report.kind.is_empty() => "parts",
            (_, Some(report)) => &report.kind,
            (_, None) => "unknown",
        }
    }

    /// Returns the state, such as `ready`.
    pub fn state(&self) -> &str {
        match (&self.problem, self.report()) {
            (Some(Problem::NoReport { .. }), _) => "no report",
            (Some(Problem::Unreachable(_)), _) | (None, None) => "unreachable",
            (None, Some(report)) => report.state.as_str(),
        }
    }

    /// Returns the reason for a missing report.
    pub fn reason(&self) -> Option<&str> {
        match &self.problem {
            Some(Problem::Unreachable(reason)) => Some(reason),
            Some(Problem::NoReport { .. }) => Some("it does not report about itself"),
            None => None,
        }
    }

    /// Returns whether rates are known: two reports of this run have arrived.
    pub fn is_measured(&self) -> bool {
        self.current().is_some() && self.rates.earlier().is_some()
    }

    /// Returns the messages per second that the component handles: the calls of its functions; without functions, the
    /// messages of its busiest part.
    pub fn rate(&self) -> Option<f64> {
        let report = self.current().filter(|_| self.is_measured())?;
        if report.functions.is_empty() {
            let parts = report.parts.iter().filter(|part| part.name != "Cache");
            let rates = parts.map(|part| {
                let messages =
                    |report: &Report| report.part(&part.name).map_or(0, |it| it.messages);
                self.rates.rate(messages)
            });
            return Some(rates.fold(0.0, f64::max));
        }
        let calls = |report: &Report| report.functions.iter().map(|it| it.calls).sum();
        Some(self.rates.rate(calls))
    }

    /// Returns how many messages wait in the component and for its peers.
    pub fn waiting(&self) -> u64 {
        self.report().map_or(0, messages)
    }

    /// Returns the messages per second on an edge: those that were sent to the peer, or received from one that sends.
    pub fn edge_rate(&self, edge: &Edge) -> Option<f64> {
        let counter = |edge: &Edge| match edge.role {
            Role::Client | Role::Upstream | Role::Master => edge.received,
            _ => edge.sent,
        };
        let rate = || self.rates.edge_rate(edge, counter);
        self.is_measured().then(rate)
    }

    /// Returns the share of time for which the component had to wait for the peer, from 0 to 1.
    pub fn stalled(&self, edge: &Edge) -> Option<f64> {
        let stalled = |edge: &Edge| micros(edge.stalled);
        let share = || (self.rates.edge_rate(edge, stalled) / 1e6).min(1.0);
        self.is_measured().then(share)
    }

    /// Returns the time within which 99 % of the latest calls were run.
    pub fn p99(&self) -> Option<Duration> {
        let worked = |report: &Report| {
            let mut all = Durations::default();
            for function in &report.functions {
                all.merge(&function.working);
            }
            all
        };
        let latest = worked(self.current()?);
        recent(latest, self.rates.earlier().map(worked))
    }

    /// Returns the time within which 99 % of the latest messages to the peer were acknowledged.
    pub fn edge_p99(&self, edge: &Edge) -> Option<Duration> {
        let earlier = self.rates.earlier_edge(edge);
        recent(edge.time.clone(), earlier.map(|it| it.time.clone()))
    }

    /// Returns the share of a worker's concurrency that was busy, from 0 to 1. A call counts when it ends; if none has
    /// ended, calls that run count.
    pub fn busy(&self, edge: &Edge) -> Option<f64> {
        let worker = edge.worker.as_ref().filter(|it| it.concurrency > 0)?;
        let worked = |edge: &Edge| edge.worker.as_ref().map_or(0, |it| micros(it.worked));
        let measured = || self.rates.edge_rate(edge, worked) / 1e6;
        let running = worker.running as f64;
        let calls = match self.is_measured().then(measured) {
            Some(calls) if calls > 0.0 => calls,
            Some(_) => running,
            None => return None,
        };
        Some((calls / f64::from(worker.concurrency)).min(1.0))
    }
}

/// Returns how many messages are in a component, and its peers have not acknowledged or completed.
pub fn messages(report: &Report) -> u64 {
    let edges = report.edges.iter().map(|edge| edge.waiting.messages);
    report.messages_inside() + edges.sum::<u64>() + report.legacy.tasks
}

/// Returns the 99th percentile of what was recorded since `earlier`; of everything, if nothing was.
fn recent(latest: Durations, earlier: Option<Durations>) -> Option<Duration> {
    let since = earlier.and_then(|earlier| latest.since(&earlier));
    let since = since.filter(|since| !since.is_empty());
    since.unwrap_or(latest).quantile(0.99)
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
