//! The functions that a message calls: [`Function`] names one with its types, [`Steps`] is the list that a client
//! sends.
//!
//! On the wire, a list of steps is one string: `server.function` for each step, separated by spaces. A client parses it
//! once per call. A component looks up its own step in the string without allocating. There is no I/O here.
//!
//! `step` parses the string, `typed` names functions with the types of their arguments and results, and `fit`
//! decides which values can be passed, which answers can be decoded, and which steps can follow each other.

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
