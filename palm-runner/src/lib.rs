//! Runs the components of a palm cluster on one machine: processes that start in order, are restarted and drained, and
//! whose output is kept.
//!
//! [`state`] decides, without I/O and without a clock. The command `palm` uses this library, which changes without
//! notice.

#![cfg(target_os = "linux")]

pub mod api;
pub mod logs;
pub mod process;
pub mod runner;
pub mod state;
