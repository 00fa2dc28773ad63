//! What the file of a cluster means: its model and rules, the processes that it describes, and the plan that leads from
//! running processes to these. Nothing here does I/O.
//!
//! [`kind`] and [`wiring`] need `serde` alone, and are shared with the programs that run components. All other modules
//! need the feature `file`: [`instance`] is a process that should run, and [`plan()`] compares two sets of them.
//!
//! The command `palm` uses this library, which changes without notice.

#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "file")]
pub mod instance;
pub mod kind;
#[cfg(feature = "file")]
mod plan;
pub mod wiring;

#[cfg(feature = "file")]
pub use self::instance::{Instance, InstanceId};
pub use self::kind::Kind;
#[cfg(feature = "file")]
pub use self::plan::{Change, Plan, plan};
pub use self::wiring::Wiring;
