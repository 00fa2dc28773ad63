//! Calls as tower services, which layers wrap.
//!
//! A component and a client make a [`CallService`] of their [`Layers`] when they start. It is the outermost service; the
//! innermost one runs the call. A [`CallRequest`] carries what the innermost service needs to run its call
//! ([`InnermostCall`]), so that a service refers neither to the component nor to the client that it belongs to. A
//! layer that keeps requests keeps neither the queues of the one nor the connections of the other open.
//!
//! tower's services need not be `Clone`, and are called only after `poll_ready`. So all calls share one service behind
//! a lock, which a call holds from `poll_ready` to `call`, and not while the service answers.

mod error;
mod from_fn;
mod layers;
mod request;
mod service;

pub use error::CallServiceError;
pub(crate) use error::{LayerFailure, failure_kind};
pub use from_fn::{FromFn, FromFnLayer, Next, from_fn};
pub(crate) use layers::Layers;
pub(crate) use request::InnermostCall;
pub use request::{CallRequest, CallResponse};
pub use service::{CallService, LayeredService};

use crate::failure::CallFailure;

/// The service that a layer of a component wraps: the innermost one, which runs the method, or a layered one.
pub type MethodService = CallService<CallFailure>;
