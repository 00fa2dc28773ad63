//! Methods and hooks of a user's type, as the macros describe them.
//!
//! [`FunctionInfo`] describes a function, [`Outcome`] is what a call of it ends with. [`Shape`] has the hooks that
//! shape a stream, which yield messages into an [`Emit`]. [`State`] is the user's value, which gives `&self` to many
//! calls at once and `&mut self` to one. Nothing here runs methods: that is the executor.

mod blocking;
mod emit;
mod info;
mod shape;
mod state;

pub use crate::outcome::{Emitted, IntoOutcome, Outcome};
pub use blocking::blocking;
pub(crate) use emit::EmitQueue;
pub use emit::{Emit, IntoMessages, IntoPublication};
pub use info::{FunctionInfo, Receiver, Results};
pub use shape::{Plain, Shape};
pub use state::{State, StateRef};
