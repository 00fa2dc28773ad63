//! How components find each other, and what each reports about itself.
//!
//! A component has one address that its peers need, its `db_address`. There it reports its [`descriptor`] and the
//! addresses of its sockets, which a [`Directory`] requests. An [`Endpoint`] is an address to connect to, static or
//! discovered by a directory. Workers register their functions at their master, in its [`FunctionRegistry`].
//! [`Readiness`] is what a publisher reports of the streams upstream.

mod control_verb;
pub(crate) mod descriptor;
mod directory;
mod endpoint;
mod function_registry;
mod readiness;

pub(crate) use control_verb::ControlVerb;
pub(crate) use directory::{Directory, unfit};
pub use endpoint::IntoAddress;
pub(crate) use endpoint::{Endpoint, ParsedAddress};
pub(crate) use function_registry::{FunctionRegistry, RegistrationError};
pub(crate) use readiness::{
    READY_PREFIX, Readiness, UPSTREAM_TIMEOUT, ready_topic, until_in_place,
};
