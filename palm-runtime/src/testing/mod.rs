//! Testing what is built with palm: one component without sockets, or a whole cluster in one process.
//!
//! [`Direct`] calls the methods of a component where they are, as a client would see them: arguments
//! and answers go through the same bytes, errors and panics come back as the same
//! [`CallError::Remote`](crate::CallError::Remote). [`Cluster`] runs components with their sockets, on
//! free ports of this machine, each attached to those before it.
//!
//! Begin with `Direct`: it is exact and takes microseconds. A `Cluster` shows what is between
//! components: steps that fit each other, work that is spread, hooks, and what is lost at a shutdown.
//!
//! # Failures
//!
//! [`Faults`] lets things go wrong, from a seed, so that a test that failed can be repeated. A [`FaultProxy`] is a
//! TCP proxy in front of an address, to which peers connect in its place: it is cut, held, made late,
//! or refuses everybody, at once or at the n-th message that passes. [`Cluster::fault_proxies`] puts one between
//! all components, and [`Faults::random`] plans what happens to each.
//! [`ComponentHandle::kill`](crate::ComponentHandle::kill) ends a component as a crash does, and a
//! [`Restartable`] one comes back.
//!
//! | it should happen | write |
//! |---|---|
//! | at the n-th message, exactly | [`FaultProxy::cut_after`]; or [`FaultProxy::hold_after`] and [`FaultProxy::held`], then [`Restartable::kill`] or anything else, then [`FaultProxy::heal`] |
//! | about when so much has passed | [`FaultProxy::passed`], [`FaultProxy::until`] |
//! | about when a component has done so much | [`Restartable::until`], [`until`] |
//! | at random | [`Faults::random`] |
//!
//! With the default [`LinkOptions`](crate::LinkOptions) a worker that is held counts as gone after 12 s; a
//! test of what happens then sets a shorter idle timeout.

mod cluster;
mod direct;
mod faults;
mod topology;

pub use cluster::{Cluster, ClusterHandle};
pub use direct::Direct;
pub use faults::{
    Fault, FaultPlan, FaultProxy, FaultProxyError, FaultProxyStatus, Faults, PlannedFault,
    ProxyTraffic, Restartable, until,
};
