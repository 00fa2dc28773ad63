//! The deliveries of tasks to workers, as spans and as recent calls.
//!
//! A master does not read the messages that it forwards, so deliveries are observed only while a subscriber listens for
//! spans of calls. A delivery begins when a task is assigned, and ends with the last result of the task, or when its
//! worker returns it or is lost.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tracing::Span;

use crate::clock;
use crate::failure::FailureKind;
use crate::id_map::IdMap;
use crate::link::PeerKey;
use crate::link::dispatch::{Assignment, TaskId};
use crate::message::{Batch, BatchSizes, Message};
use crate::report::{RecentCall, Work};
use crate::trace::{self, RecentCalls, SpanEnd};

/// The deliveries that have not ended. Empty unless a subscriber listens.
#[derive(Debug, Default)]
pub(super) struct Deliveries {
    /// The name of the component, and the calls that it remembers.
    owner: Option<(Arc<str>, Arc<RecentCalls>)>,
    open: IdMap<OpenDelivery>,
}

#[derive(Debug)]
struct OpenDelivery {
    worker: PeerKey,
    span: Span,
    begun: Instant,
    call: RecentCall,
    is_sampled: bool,
}

/// How a delivery ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DeliveryEnd {
    /// The worker has sent the last result.
    Completed,
    /// The worker has returned the task.
    Returned,
    /// The worker was lost.
    Lost,
}

impl Deliveries {
    /// Sets the component whose deliveries these are. Without it none is observed.
    pub(super) fn set_owner(&mut self, component: &str, recent: Arc<RecentCalls>) {
        self.owner = Some((component.into(), recent));
    }

    fn is_observed(&self) -> bool {
        self.owner.is_some() && trace::is_enabled()
    }

    /// Returns whether no delivery is observed.
    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Begins the deliveries of assigned tasks. Returns the messages to send, whose traces continue with the deliveries.
    pub(super) fn begin(
        &mut self,
        assigned: Assignment,
        name: &str,
        delivery: u32,
        now: Instant,
    ) -> Batch {
        let Assignment {
            worker,
            first,
            tasks,
            submitted,
        } = assigned;
        if !self.is_observed() {
            return tasks;
        }
        let waited = submitted.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        let mut frames = Vec::with_capacity(tasks.len());
        for (id, frame) in (first..).zip(tasks.frames()) {
            let Ok(mut task) = Message::decode(frame.clone()) else {
                frames.push(frame);
                continue;
            };
            let opened = self.open(&mut task, (worker, name), delivery, (waited, now));
            self.open.extend(opened.map(|opened| (id, opened)));
            frames.push(task.into_frame());
        }
        join(frames).unwrap_or(tasks)
    }

    fn open(
        &self,
        task: &mut Message,
        (worker, name): (PeerKey, &str),
        delivery: u32,
        (waited, now): (Duration, Instant),
    ) -> Option<OpenDelivery> {
        let (component, _) = self.owner.as_ref()?;
        let function = trace::called(task);
        let mut call = RecentCall::new(
            Work::Delivery,
            task.client(),
            task.cache(),
            &function,
            task.stage(),
        );
        let span = trace::delivery_span(component, name, task, delivery, waited);
        let trace = task.trace().unwrap_or_default();
        call.trace = trace.id().unwrap_or_default().to_owned();
        call.begun_at = clock::wall();
        call.waited = waited;
        call.delivery = delivery;
        name.clone_into(&mut call.worker);
        Some(OpenDelivery {
            worker,
            span,
            begun: now,
            call,
            is_sampled: trace.is_sampled(),
        })
    }

    /// Ends the deliveries of tasks with consecutive ids.
    pub(super) fn end(&mut self, first: TaskId, tasks: usize, end: DeliveryEnd, now: Instant) {
        if self.is_empty() {
            return;
        }
        for id in first..first + tasks as u64 {
            if let Some(delivery) = self.open.remove(&id) {
                self.record(delivery, end, now);
            }
        }
    }

    /// Ends the delivery of a task that a worker has returned, unless the task was assigned to another one since.
    pub(super) fn end_returned(&mut self, worker: PeerKey, task: TaskId, now: Instant) {
        if self.open.get(&task).is_some_and(|it| it.worker == worker) {
            self.end(task, 1, DeliveryEnd::Returned, now);
        }
    }

    /// Ends all deliveries to a worker that was lost.
    pub(super) fn lose(&mut self, worker: PeerKey) {
        if self.is_empty() {
            return;
        }
        let now = clock::now();
        let lost = self.open.extract_if(|_, it| it.worker == worker);
        for (_, delivery) in lost.collect::<Vec<_>>() {
            self.record(delivery, DeliveryEnd::Lost, now);
        }
    }

    fn record(&self, delivery: OpenDelivery, end: DeliveryEnd, now: Instant) {
        let worked = now.saturating_duration_since(delivery.begun);
        let failure = match end {
            DeliveryEnd::Completed => None,
            DeliveryEnd::Returned => Some("the worker has returned the task"),
            DeliveryEnd::Lost => Some("the worker was lost"),
        };
        trace::finish(&delivery.span, SpanEnd { worked, failure });
        let mut call = delivery.call;
        call.worked = worked;
        call.failure = failure.map(|_| FailureKind::Unavailable);
        if let Some((_, recent)) = &self.owner
            && (failure.is_some()
                || delivery.is_sampled
                || recent.is_slow(call.waited + call.worked))
        {
            recent.record(call, delivery.is_sampled);
        }
    }
}

/// Joins the messages of a batch.
fn join(frames: Vec<Bytes>) -> Option<Batch> {
    if let [frame] = &frames[..] {
        return Some(frame.clone().into());
    }
    let sizes = frames.iter().map(|frame| frame.len() as u32).collect();
    Batch::from_sizes(frames.concat().into(), BatchSizes::new(sizes))
}
