//! Testing what is built with palm: one component without sockets, or a whole cluster in one process.
//!
//! [`Direct`] calls the methods of a component where they are, as a client would see them: arguments
//! and answers go through the same bytes, errors and panics come back as the same
//! [`CallError::Remote`](crate::CallError::Remote). [`Cluster`] runs components with their sockets, on
//! free ports of this machine, each attached to those before it.
//!
//! Begin with `Direct`: it is exact and takes microseconds. A `Cluster` shows what is between
//! components: steps that fit each other, work that is spread, hooks, and what is lost at a shutdown.

mod cluster;
mod direct;
mod layout;

pub use cluster::{Cluster, ClusterHandle};
pub use direct::Direct;
