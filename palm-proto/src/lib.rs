//! What palm decides without I/O: messages, functions, payloads, fairness, budgets, the table of a router, and links:
//! their sessions, the dispatch of tasks and the subscriptions to topics.
//!
//! Nothing here does I/O, needs a runtime or reads a clock, so everything can be tested without a network.
//! `palm-runtime` runs it. Use it through the crate `palm`, which documents the types that programs need; the others
//! change without notice.

#![cfg_attr(docsrs, feature(doc_cfg))]
#![cfg_attr(not(test), warn(clippy::too_many_lines))]

// Programs name nothing in the modules with this attribute; their fields and methods have docs if a name is not enough.
#[allow(missing_docs)]
pub mod budget;
pub mod failure;
#[allow(missing_docs)]
pub mod fair_queue;
#[allow(missing_docs)]
pub mod flow;
pub mod function;
#[allow(missing_docs)]
pub mod id_map;
#[allow(missing_docs)]
pub mod link;
pub mod message;
pub mod outcome;
pub mod payload;
pub mod report;
#[allow(missing_docs)]
pub mod router;
pub mod shrink;
