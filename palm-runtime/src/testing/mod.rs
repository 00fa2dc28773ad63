//! Tests of components: one component without sockets, or a whole cluster in one process.
//!
//! [`Direct`] calls the methods of a component in place, with the same results as a client: arguments and answers
//! pass through the same encoding, and errors and panics are returned as
//! [`CallError::Remote`](crate::CallError::Remote). [`Cluster`] runs components with their sockets on free ports of
//! this machine, or within the process, and connects each to its upstream components.
//!
//! Start with `Direct`: it is exact, and a call takes microseconds. A `Cluster` tests what happens between
//! components: whether steps fit each other, the distribution of work, hooks, and shutdowns.
//!
//! # Paused time
//!
//! All timeouts, deadlines and heartbeats of palm follow tokio's clock, which a test can pause
//! (`#[tokio::test(start_paused = true)]`, tokio's feature `test-util`). Whenever all tasks wait, tokio advances the
//! clock to the next timer, so minutes pass in a moment, and durations are exact.
//!
//! Input and output of the system do not follow that clock: time would advance while a message is on its way. So
//! use [`Cluster::inproc`], or bind `inproc://*` and connect to the address of the handle. These keep to real time,
//! too: components with `own_thread`, the blocking client, caches in files and on Redis, and HTTP. A blocking method
//! is waited for, and time does not advance meanwhile.
//!
//! Pause time before components and clients start.
//!
//! # Faults
//!
//! [`Faults`] injects faults from a seed, so that a failed test can be repeated. A [`FaultProxy`] is a TCP proxy in
//! front of an address, which peers connect to instead. It cuts, holds, delays or refuses connections, at once or
//! after the n-th message. [`Cluster::fault_proxies`] puts one between all components, and [`Faults::random`]
//! schedules random faults on each. [`ComponentHandle::kill`](crate::ComponentHandle::kill) ends a component as a
//! crash does, and a [`Restartable`] starts it again, e.g. at an [`unused_address()`]. A [`Process`] is a component in a
//! process of its own, which a test kills, pauses or asks to stop by the signals of the system.
//!
//! | a fault should happen | use |
//! |---|---|
//! | exactly at the n-th message | [`FaultProxy::cut_after`]; or [`FaultProxy::hold_after`] and [`FaultProxy::held`], then [`Restartable::kill`] or anything else, then [`FaultProxy::heal`] |
//! | after about n messages | [`FaultProxy::passed`], [`FaultProxy::until`] |
//! | when a component has handled about n calls | [`Restartable::until`], [`until`] |
//! | at random | [`Faults::random`] |
//! | again and again, while each call is checked | [`Faults::soak`] |
//!
//! With the default [`LinkOptions`](crate::LinkOptions) a worker whose traffic is held counts as lost after 12 s; set
//! a shorter `idle_timeout` to test what happens then.

mod cluster;
mod direct;
mod faults;
mod process;
mod unused_address;

pub use cluster::{Cluster, ClusterHandle};
pub use direct::Direct;
pub use faults::{
    Fault, FaultPlan, FaultProxy, FaultProxyError, FaultProxyStatus, Faults, PlannedFault,
    ProxyTraffic, Restartable, Soak, SoakFailure, SoakReport, until,
};
pub use process::{Process, ProcessError};
pub use unused_address::unused_address;
