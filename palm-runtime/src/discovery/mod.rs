//! How components find each other, and what each reports about itself.
//!
//! A peer needs only one address of a component, its `db_address`. There a [`Directory`] requests the component's
//! [`descriptor`] and the addresses of its sockets. An [`Endpoint`] is an address to connect to, either static or
//! discovered by a directory. Workers register their functions in the [`FunctionRegistry`] of their master.
//! [`Readiness`] reports to a subscriber whether its publisher is connected upstream.

mod control_verb;
pub(crate) mod descriptor;
mod directory;
mod endpoint;
mod function_registry;
mod readiness;

pub(crate) use control_verb::{ControlVerb, OperatorVerb};
pub(crate) use directory::{Directory, unfit};
pub use endpoint::IntoAddress;
pub(crate) use endpoint::{Endpoint, ParsedAddress};
pub(crate) use function_registry::{FunctionRegistry, RegistrationError, RegistrationOutcome};
pub(crate) use readiness::{
    READY_PREFIX, Readiness, UPSTREAM_TIMEOUT, ready_topic, until_upstream_connected,
};
