//! The forms in which reports are shown.

pub mod dot;
pub mod graph;
pub mod json;
pub mod processes;
pub mod svg;
pub mod table;
pub mod trace;
