//! Connects the parts of a component by queues according to their routes, and starts them.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::part_registration::{AnyPart, PartRegistration, PartRole};
use super::supervisor::PartTasks;
use super::template::ServerTemplate;
use crate::metrics::{PartCounters, PartCountersEntry};
use crate::part::{Inlet, Outlet, Stop};
use crate::queue::queue;
use crate::router::{self, PartKind};

impl ServerTemplate {
    /// Returns the route of results, along which messages that are not tasks bypass the workers.
    pub(super) fn results_route(&self) -> Option<String> {
        let mut parts = self.entries.iter().zip(&self.registrations);
        let results = parts.find(|(_, it)| it.role == PartRole::ReceivesResults);
        results.and_then(|(entry, _)| entry.route.clone())
    }

    /// Connects the parts by queues according to their routes, and starts them.
    pub(super) fn run_parts(
        mut self,
        stop: &Stop,
        counters: Vec<Arc<PartCounters>>,
    ) -> (PartTasks, Vec<PartCountersEntry>) {
        let mut inlets = HashMap::new();
        let mut queues = HashMap::new();
        for entry in &self.entries {
            if entry.kind == PartKind::Outbound {
                let (sender, receiver) = queue(self.settings.queue_limits);
                queues.insert(entry.name.clone(), sender);
                let inlet = Inlet {
                    queue: receiver,
                    stop: stop.clone(),
                };
                inlets.insert(entry.name.clone(), inlet);
            }
        }

        // Outbound parts share a task only if no part runs user code. User code may block its thread, and with it the
        // task that it has woken last, which sits in the thread's LIFO slot: the part that receives its results.
        let all_forward = self
            .registrations
            .iter()
            .all(PartRegistration::forwards_only);
        let remaining = self.settings.messages.map(AtomicU64::new).map(Arc::new);
        for index in 0..self.entries.len() {
            let sends_tasks = self.registrations[index].role == PartRole::SendsTasks;
            if sends_tasks && self.entries[index].route.is_none() {
                // A part that is routed to itself would never end.
                let route = self.results_route();
                let route = route.filter(|to| !router::leads_to(&self.entries, to, index));
                self.entries[index].route = route;
            }
        }
        let mut parts = PartTasks::new(self.name, stop.clone());
        let mut entries = Vec::new();
        for ((entry, registration), counters) in self
            .entries
            .into_iter()
            .zip(self.registrations)
            .zip(counters)
        {
            let to = |route: &String| queues.get(route).cloned();
            let outlet = Outlet {
                route: entry.route.as_ref().and_then(to),
                failures: entry.failures.as_ref().and_then(to),
                block: registration.block,
                log: registration.log,
                part: entry.name.as_str().into(),
                remaining: remaining.clone(),
                stop: stop.clone(),
            };
            let name = &entry.name;
            let shares_task =
                registration.forwards_only() && (all_forward || entry.kind != PartKind::Outbound);
            match registration.part {
                AnyPart::Inbound(part) => parts.run(name, shares_task, part.run(outlet)),
                AnyPart::Outbound(part) => {
                    let inlet = inlets.remove(name);
                    let inlet = inlet.expect("every outbound part has an inlet");
                    parts.run(name, shares_task, part.run(inlet, outlet));
                }
                AnyPart::Bypass(part) => {
                    let stop = parts.bypass_stop();
                    parts.run_bypass(name, shares_task, part.run(stop));
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
}
