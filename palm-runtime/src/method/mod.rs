//! Methods and hooks of a user's type, as the macros describe them.
//!
//! [`FunctionInfo`] describes a function, and [`Outcome`] is what a call of it returns. [`Shape`] contains the hooks
//! that shape a stream; they yield messages into an [`Emit`]. [`Hooks`] are these hooks as a trait object. [`State`] is
//! the user's value, which grants `&self` to many calls at once and `&mut self` to one. The executor runs the methods;
//! nothing here does.

mod blocking;
mod emit;
mod hooks;
mod info;
mod shape;
mod state;

pub use crate::outcome::{Emitted, IntoOutcome, Outcome};
pub use blocking::blocking;
pub(crate) use emit::EmitQueue;
pub use emit::{Emit, IntoMessages, IntoPublication};
pub(crate) use hooks::Hooks;
pub use info::{FunctionInfo, Receiver, Results};
pub use shape::{Plain, Shape};
pub use state::{State, StateRef};
