//! [`Bottleneck`]: which component slows the others down.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::fmt;

use palm::report::{Backlog, Edge, Report, Role};

use super::{Component, Monitor, Problem};
use crate::text::{clean, count, percent};

/// A component that waits for a peer for less than this share of time is not slowed down by it.
const MIN_STALLED: f64 = 0.05;

/// The methods of workers that are busy for less than this share of time are not slow.
const MIN_BUSY: f64 = 0.2;

/// Fewer waiting messages without a known reason are normal.
const MIN_BACKLOG: u64 = 100;

/// Which component slows the others down, as a sentence.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Bottleneck {
    /// No component was asked twice, so rates are unknown.
    Unknown,
    /// No component waits for another one.
    Nothing,
    /// This component, client or these workers.
    Slow(Slow),
    /// No component waits for another one, but messages wait in this component, or for it.
    Backlogged(Backlogged),
}

/// A component in which messages wait, or for which they wait at another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backlogged {
    /// The name of the component.
    pub subject: String,
    /// The address of the component, if it is known.
    pub address: Option<String>,
    /// The messages that wait.
    pub messages: u64,
    /// Whether they wait in the component, and not at another one.
    pub is_inside: bool,
    /// The reason, if it is known.
    pub cause: Option<String>,
}

/// The slow component, client or workers.
#[derive(Debug, Clone, PartialEq)]
pub struct Slow {
    /// Who it is, such as "`index`" or "the 8 workers of `master`".
    pub subject: String,
    /// The role of the slow peer.
    pub role: Role,
    /// Whether `subject` is a plural.
    pub is_several: bool,
    /// The address of the slow component, if it has one.
    pub address: Option<String>,
    /// The name of the component that waits.
    pub waits: String,
    /// The share of time for which it waits, from 0 to 1.
    pub stalled: f64,
    /// The messages that wait for the slow peer.
    pub backlog: Backlog,
    /// The busy share of workers, from 0 to 1.
    pub busy: Option<f64>,
    /// Why the peer does not answer.
    pub problem: Option<String>,
}

/// A component that waits for a peer.
struct Stall<'a> {
    component: &'a Component,
    edge: &'a Edge,
    share: f64,
    /// The component at the other end.
    peer: Option<&'a Component>,
}

/// Returns the peer that others wait for the longest and that waits for no peer itself: the cause of a slow chain is at
/// its end, since the components before it wait in turn.
pub(super) fn find(monitor: &Monitor) -> Bottleneck {
    let measured = monitor.components().filter(|it| it.is_measured());
    let mut is_measured = false;
    let mut by_component: HashMap<&str, Vec<Stall<'_>>> = HashMap::new();
    for component in measured {
        is_measured = true;
        let stalls = stalls(monitor, component);
        if !stalls.is_empty() {
            by_component.insert(&component.address, stalls);
        }
    }
    if !is_measured {
        return Bottleneck::Unknown;
    }
    let all = || by_component.values().flatten();
    let waits_itself = |stall: &&Stall<'_>| match stall.peer {
        Some(peer) => by_component.contains_key(&*peer.address),
        None => false,
    };
    let last = all().filter(|stall| !waits_itself(stall));
    // In a circle each waits for the next one.
    let worst = last.max_by(compare).or_else(|| all().max_by(compare));
    match worst {
        Some(stall) => Bottleneck::Slow(slow(stall)),
        None => match backlogged(monitor) {
            Some(backlogged) => Bottleneck::Backlogged(backlogged),
            None => Bottleneck::Nothing,
        },
    }
}

/// Returns where most messages wait, of components with a known reason if there are any.
fn backlogged(monitor: &Monitor) -> Option<Backlogged> {
    let inside = monitor.components().filter_map(|component| {
        let report = component.current()?;
        let earlier = component.rates.earlier();
        let earlier = earlier.map_or(0, Report::messages_waiting);
        let messages = report.messages_waiting().min(earlier);
        let cause = (!report.waits.is_empty()).then(|| clean(&report.waits).into());
        Some(Backlogged {
            subject: quoted(component.name()),
            address: Some(component.address.clone()),
            messages,
            is_inside: true,
            cause,
        })
    });
    let reports = monitor.components().filter_map(Component::current);
    let edges = reports.flat_map(|report| &report.edges);
    let ahead = edges
        .filter(|edge| edge.role != Role::Worker)
        .filter_map(|edge| {
            let peer = monitor.peer(edge)?;
            let Some(Problem::Unreachable(reason)) = &peer.problem else {
                return None;
            };
            let cause = format!("it does not answer: {}", clean(reason));
            Some(Backlogged {
                subject: quoted(peer.name()),
                address: Some(peer.address.clone()),
                messages: edge.waiting.messages,
                is_inside: false,
                cause: Some(cause),
            })
        });
    let all = inside.chain(ahead);
    let is_one = |it: &Backlogged| match it.cause {
        Some(_) => it.messages > 0,
        None => it.messages >= MIN_BACKLOG,
    };
    all.filter(is_one)
        .max_by_key(|it| (it.cause.is_some(), it.messages))
}

/// Returns for which peers a component waits.
fn stalls<'a>(monitor: &'a Monitor, component: &'a Component) -> Vec<Stall<'a>> {
    let edges = component.current().into_iter().flat_map(|it| &it.edges);
    let mut stalls: Vec<_> = edges
        .filter(|edge| !matches!(edge.role, Role::Upstream | Role::Master))
        .filter_map(|edge| {
            let share = component.stalled(edge)?;
            (share >= MIN_STALLED).then(|| Stall {
                component,
                edge,
                share,
                peer: monitor.peer(edge),
            })
        })
        .collect();
    // Workers wait until their results can be passed on, so they are not slow if a subscriber is.
    if stalls.iter().any(|stall| stall.edge.role != Role::Worker) {
        stalls.retain(|stall| stall.edge.role != Role::Worker);
    }
    stalls
}

fn compare(one: &&Stall<'_>, other: &&Stall<'_>) -> Ordering {
    let backlog = |stall: &Stall<'_>| stall.edge.waiting.messages;
    let shares = one.share.total_cmp(&other.share);
    shares
        .then(backlog(one).cmp(&backlog(other)))
        .then(other.edge.name.cmp(&one.edge.name))
}

fn slow(stall: &Stall<'_>) -> Slow {
    let Stall {
        component, edge, ..
    } = *stall;
    let master = component.name();
    let mut slow = Slow {
        subject: quoted(&edge.name),
        role: edge.role,
        is_several: false,
        address: None,
        waits: master.to_owned(),
        stalled: stall.share,
        backlog: edge.waiting,
        busy: component.busy(edge),
        problem: None,
    };
    match (edge.role, stall.peer) {
        (Role::Worker, _) => {
            if let Some(report) = component.current() {
                workers(&mut slow, component, report, edge);
            }
        }
        (_, Some(peer)) => {
            slow.subject = quoted(peer.name());
            slow.address = Some(peer.address.clone());
            slow.problem = peer.reason().map(clean).map(Into::into);
        }
        (Role::Client, None) => slow.subject = format!("the client {}", quoted(&edge.name)),
        (_, None) if !edge.db_address.is_empty() => slow.address = Some(edge.db_address.clone()),
        (_, None) => {}
    }
    slow
}

/// Sums up all workers, if the master waits for all of them.
fn workers(slow: &mut Slow, component: &Component, report: &Report, edge: &Edge) {
    let master = quoted(component.name());
    let all: Vec<_> = report.edges_of(Role::Worker).collect();
    let waits = |edge: &&&Edge| component.stalled(edge) >= Some(MIN_STALLED);
    let many = all.len();
    if many == 1 || all.iter().filter(waits).count() < many {
        slow.subject = format!("the worker {} of {master}", quoted(&edge.name));
        return;
    }
    slow.subject = format!("the {} workers of {master}", count(many as u64));
    slow.is_several = true;
    let busy: Vec<_> = all.iter().filter_map(|it| component.busy(it)).collect();
    slow.busy = match busy.is_empty() {
        true => None,
        false => Some(busy.iter().sum::<f64>() / busy.len() as f64),
    };
    let waiting = all.iter().map(|edge| edge.waiting.messages).sum::<u64>();
    slow.backlog = Backlog::new(report.tasks.messages + waiting, 0);
}

fn quoted(name: &str) -> String {
    match name.is_empty() {
        true => "a peer without a name".to_owned(),
        false => format!("`{}`", clean(name)),
    }
}

impl fmt::Display for Bottleneck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => {
                f.write_str("Rates are unknown: no component has answered twice in a row.")
            }
            Self::Nothing => f.write_str("Nothing is slow: no component waits for another one."),
            Self::Slow(slow) => slow.fmt(f),
            Self::Backlogged(backlogged) => backlogged.fmt(f),
        }
    }
}

impl fmt::Display for Backlogged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (messages, wait) = match self.messages {
            1 => ("message", "waits"),
            _ => ("messages", "wait"),
        };
        let place = if self.is_inside { "in" } else { "for" };
        write!(f, "Bottleneck: {}. ", self.subject)?;
        write!(f, "{} {messages} {wait} {place} it", count(self.messages))?;
        match &self.cause {
            Some(cause) => write!(f, ": {cause}."),
            None => f.write_str("; no component waits for it yet."),
        }
    }
}

impl fmt::Display for Slow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (is, it) = match self.is_several {
            true => ("are", "they"),
            false => ("is", "it"),
        };
        let them = if self.is_several { "them" } else { "it" };
        write!(f, "Bottleneck: {}. ", self.subject)?;
        write!(f, "{} waits for {them} ", quoted(&self.waits))?;
        write!(f, "{} of the time", percent(self.stalled))?;
        if self.backlog.messages > 0 {
            write!(f, ", with {}", count(self.backlog.messages))?;
            if self.backlog.limit_messages > 0 {
                write!(f, " of {}", count(self.backlog.limit_messages))?;
            }
            f.write_str(" messages waiting")?;
        }
        if let Some(busy) = self.busy {
            write!(f, "; {it} {is} {} busy", percent(busy))?;
        }
        f.write_str(".")?;
        match (&self.problem, self.role) {
            (Some(problem), _) => write!(f, " It does not answer: {problem}."),
            (None, Role::Client) => f.write_str(" It does not read its answers fast enough."),
            (None, Role::Worker) if self.busy.is_some_and(|busy| busy < MIN_BUSY) => f.write_str(
                " Methods are not slow: the processors are in use, or `prefetch` is too small.",
            ),
            _ => Ok(()),
        }
    }
}
