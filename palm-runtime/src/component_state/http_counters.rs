//! [`HttpCounters`]: the requests of a component's HTTP gateways, and their messages that are in no part.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::report::{Backlog, Edge, HTTP_EDGE, Role};

/// What gateways count. A request is under way until its response is complete.
#[derive(Debug, Default)]
pub(crate) struct HttpCounters {
    has_gateway: AtomicBool,
    /// Requests under way.
    requests: AtomicU64,
    /// Messages of requests that have not reached a queue.
    unrouted: AtomicU64,
    /// Results that are not written to their responses.
    unread: AtomicU64,
    received: AtomicU64,
    results: AtomicU64,
}

/// Counts one request, message or result until it is dropped.
#[derive(Debug)]
pub(crate) struct Counted {
    counters: Arc<HttpCounters>,
    gauge: fn(&HttpCounters) -> &AtomicU64,
}

impl Counted {
    fn new(counters: &Arc<HttpCounters>, gauge: fn(&HttpCounters) -> &AtomicU64) -> Self {
        gauge(counters).fetch_add(1, Ordering::Relaxed);
        Self {
            counters: counters.clone(),
            gauge,
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        (self.gauge)(&self.counters).fetch_sub(1, Ordering::Relaxed);
    }
}

impl HttpCounters {
    /// Reports the clients of gateways from now on.
    pub(crate) fn set_gateway(&self) {
        self.has_gateway.store(true, Ordering::Relaxed);
    }

    /// Counts a request until its response is complete.
    pub(crate) fn request(self: &Arc<Self>) -> Counted {
        self.received.fetch_add(1, Ordering::Relaxed);
        Counted::new(self, |it| &it.requests)
    }

    /// Counts the message of a request until a part has sent it to a queue.
    pub(crate) fn unrouted(self: &Arc<Self>) -> Counted {
        Counted::new(self, |it| &it.unrouted)
    }

    /// Counts a result until it is written to its response.
    pub(crate) fn result(self: &Arc<Self>) -> Counted {
        self.results.fetch_add(1, Ordering::Relaxed);
        Counted::new(self, |it| &it.unread)
    }

    /// Returns how many requests are under way.
    pub(super) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Returns the edge of the clients of all gateways; `None` for a component without gateways.
    pub(super) fn edge(&self, age: Duration) -> Option<Edge> {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        if !self.has_gateway.load(Ordering::Relaxed) {
            return None;
        }
        let mut edge = Edge::default();
        edge.role = Role::Client;
        HTTP_EDGE.clone_into(&mut edge.name);
        edge.age = age;
        let unread = load(&self.unread);
        edge.sent = load(&self.results);
        edge.acknowledged = edge.sent.saturating_sub(unread);
        edge.received = load(&self.received);
        edge.unread = Backlog::new(load(&self.unrouted), 0);
        edge.waiting = Backlog::new(unread, 0);
        Some(edge)
    }
}
