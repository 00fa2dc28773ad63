//! The parts of the command `palm`, for its tests. Only the command is stable, not this library.

pub mod arguments;
pub mod commands;
pub mod model;
pub mod render;
pub mod text;
pub mod top;
