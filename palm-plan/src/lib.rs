//! What the file of a cluster means: its model and rules, the processes that it describes, and the plan that leads from
//! running processes to these. Nothing here does I/O.
//!
//! [`kind`] and [`topology`] need no other crate, and [`wiring`] (feature `wiring`) needs `serde`: programs that run
//! components use them. All other modules need the feature `file`: [`instance`] is a process that should run, and
//! [`plan()`] compares two sets of them.
//!
//! The command `palm` uses this library, which changes without notice.

#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "file")]
mod address;
#[cfg(feature = "file")]
mod cluster;
#[cfg(feature = "file")]
mod format;
#[cfg(feature = "file")]
mod graph;
#[cfg(feature = "file")]
mod import;
#[cfg(feature = "file")]
pub mod instance;
#[cfg(feature = "file")]
mod instances;
#[cfg(feature = "file")]
mod keys;
pub mod kind;
#[cfg(feature = "file")]
mod logs;
#[cfg(feature = "file")]
pub mod mistake;
#[cfg(feature = "file")]
mod parse;
#[cfg(feature = "file")]
mod plan;
#[cfg(feature = "file")]
mod read;
#[cfg(feature = "file")]
mod rules;
#[cfg(feature = "file")]
mod schema;
#[cfg(feature = "file")]
pub mod surroundings;
#[cfg(feature = "file")]
mod template;
pub mod topology;
#[cfg(feature = "wiring")]
pub mod wiring;

#[cfg(feature = "file")]
pub use self::cluster::Cluster;
#[cfg(feature = "file")]
pub use self::format::{FormatError, format};
#[cfg(feature = "file")]
pub use self::import::{ImportError, import};
#[cfg(feature = "file")]
pub use self::instance::{Instance, InstanceId};
#[cfg(feature = "file")]
pub use self::instances::{InstancesError, Places, Scale};
pub use self::kind::Kind;
#[cfg(feature = "file")]
pub use self::logs::LogLimits;
#[cfg(feature = "file")]
pub use self::mistake::{Mistake, Mistakes};
#[cfg(feature = "file")]
pub use self::plan::{Change, Plan, plan};
#[cfg(feature = "file")]
pub use self::schema::schema;
#[cfg(feature = "wiring")]
pub use self::wiring::Wiring;
