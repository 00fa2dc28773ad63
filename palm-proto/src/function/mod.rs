//! The functions of a message: [`Function`] names one, with its types, [`Steps`] is the list that a
//! client sends.
//!
//! On the wire a list is one string, `server.function` for each step with a space between. A client
//! parses it once, when the call is made; a component looks its own step up in the string, which
//! costs no allocation. No I/O here.
//!
//! `step` is the string, `typed` names functions together with the types that they take and give,
//! and `fit` says which values and which steps go together.

mod fit;
mod nearest;
mod step;
mod typed;

pub use nearest::nearest;
pub use nearest::nearest_first;
pub use step::{has_next_step, step_at, unfinished_step};

pub use fit::{Answer, Argument, Feeds, NoAnswer, Untyped};
pub use step::{Step, StepError, Steps};
pub use typed::{Function, IntoSteps, Route};
