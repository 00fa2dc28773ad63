//! Connects the parts of a component by queues according to their routes, and starts them.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::part_registration::{AnyRunning, OpenedPart, PartRole};
use super::settings::Settings;
use super::supervisor::PartTasks;
use crate::metrics::PartCountersEntry;
use crate::part::{Inlet, Outlet, Stop};
use crate::queue::queue;
use crate::router::{self, PartKind, RouteEntry};

/// Connects the open parts of a component by queues according to their routes, and starts them.
pub(super) fn run_parts(
    component: String,
    settings: &Settings,
    stop: &Stop,
    mut opened: Vec<OpenedPart>,
) -> (PartTasks, Vec<PartCountersEntry>) {
    let mut inlets = HashMap::new();
    let mut queues = HashMap::new();
    for OpenedPart { entry, .. } in &opened {
        if entry.kind == PartKind::Outbound {
            let (sender, receiver) = queue(settings.queue_limits);
            queues.insert(entry.name.clone(), sender);
            let inlet = Inlet {
                queue: receiver,
                stop: stop.clone(),
            };
            inlets.insert(entry.name.clone(), inlet);
        }
    }
    route_done_tasks(&mut opened);

    // Outbound parts share a task only if no part runs user code. User code may block its thread, and with it the
    // task that it has woken last, which sits in the thread's LIFO slot: the part that receives its results.
    let all_forward = opened.iter().all(|part| part.forwards_only);
    let remaining = settings.messages.map(AtomicU64::new).map(Arc::new);
    let mut parts = PartTasks::new(component, stop.clone());
    let mut entries = Vec::new();
    for part in opened {
        let OpenedPart {
            running,
            entry,
            forwards_only,
            block,
            log,
            counters,
            ..
        } = part;
        let to = |route: &String| queues.get(route).cloned();
        let outlet = Outlet {
            route: entry.route.as_ref().and_then(to),
            failures: entry.failures.as_ref().and_then(to),
            block,
            log,
            part: entry.name.as_str().into(),
            remaining: remaining.clone(),
            stop: stop.clone(),
        };
        let name = &entry.name;
        let shares_task = forwards_only && (all_forward || entry.kind != PartKind::Outbound);
        match running {
            AnyRunning::Inbound(part) => parts.run(name, shares_task, part.start(outlet)),
            AnyRunning::Outbound(part) => {
                let inlet = inlets.remove(name);
                let inlet = inlet.expect("every outbound part has an inlet");
                parts.run(name, shares_task, part.start((inlet, outlet)));
            }
            AnyRunning::Bypass(part) => {
                let stop = parts.bypass_stop();
                parts.run_bypass(name, shares_task, part.start(stop));
            }
        }
        entries.push(PartCountersEntry {
            queue: queues.get(&entry.name).map(|queue| queue.gauge()),
            name: entry.name,
            counters,
        });
    }
    parts.spawn_shared();
    // Only parts hold senders now, so that each queue is closed when the parts upstream have ended.
    (parts, entries)
}

/// Routes parts that send tasks, and have no route, to where results are routed: there, messages that are not tasks
/// bypass the workers.
fn route_done_tasks(opened: &mut [OpenedPart]) {
    let is_results = |part: &&OpenedPart| part.role == PartRole::ReceivesResults;
    let results = opened.iter().find(is_results);
    let Some(results) = results.and_then(|part| part.entry.route.clone()) else {
        return;
    };
    let entries: Vec<RouteEntry> = opened.iter().map(|part| part.entry.clone()).collect();
    for (index, part) in opened.iter_mut().enumerate() {
        // A part that is routed to itself would never end.
        let is_unrouted = part.role == PartRole::SendsTasks && part.entry.route.is_none();
        if is_unrouted && !router::leads_to(&entries, &results, index) {
            part.entry.route = Some(results.clone());
        }
    }
}
