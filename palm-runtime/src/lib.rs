//! The runtime of palm. Use it through the crate `palm`, which documents it.
//!
//! The modules are the layers of `ARCHITECTURE.md`: `socket` is the network, `link` delivers messages over it, `part`
//! is the building block of a component, `parts` and `executor` contain the available parts, `component` the
//! compositions, and `client` calls them. What is decided without I/O is in the crate `palm-proto`: messages,
//! functions, the router's table and the state machines of links.

#![cfg_attr(docsrs, feature(doc_cfg))]
#![cfg_attr(not(test), warn(clippy::too_many_lines))]

pub mod cache;
mod call_service;
mod call_slots;
mod cancellation;
mod client;
mod clock;
pub mod component;
mod component_error;
mod component_kind;
mod component_state;
mod context;
mod discovery;
mod error;
mod executor;
#[cfg(feature = "http")]
pub mod http;
pub mod inspect;
mod link;
mod linked_components;
mod log_limit;
#[cfg(feature = "logging")]
pub mod logging;
#[doc(hidden)]
pub mod macro_support;
mod memory_trimmer;
mod method;
mod metrics;
#[cfg(feature = "monitor")]
pub mod monitor;
mod network;
mod options;
pub mod part;
pub mod parts;
#[cfg(feature = "main")]
#[doc(hidden)]
pub mod program;
mod queue;
mod signals;
pub mod socket;
mod spawn;
mod stop;
mod task_group;
#[cfg(feature = "testing")]
pub mod testing;
pub mod trace;
mod type_map;
mod wait_cause;
mod watchdog;

use palm_proto::{
    budget, failure, fair_queue, flow, function, id_map, message, outcome, payload, router, shrink,
};

/// Traits that the macros implement for a user's type, and that the executor and the parts call.
///
/// [`Callable`](callable::Callable) is a table of functions with a dispatch by index. [`Shape`](callable::Shape)
/// contains the hooks that shape a stream (`scatter`, `gather`, `handle_stream`). Both access the user's value through
/// [`State`](callable::State), which grants `&self` to many calls at once and `&mut self` to one.
pub mod callable {
    pub use crate::executor::{Call, Callable};
    pub use crate::method::{
        Emit, Emitted, FunctionInfo, IntoMessages, IntoOutcome, IntoPublication, Outcome, Plain,
        Receiver, Results, Shape, State, StateRef, blocking,
    };
}

/// Layers around calls, at components and at clients: authorisation, limits, timing, retries.
///
/// [`Builder::layer`](component::Builder::layer) puts a `tower::Layer` around the methods of a component, and
/// [`ClientBuilder::layer`] one around the calls of a client. [`from_fn`](middleware::from_fn) makes a layer of an async
/// function. The chapter `palm::guide::middleware` describes them.
pub mod middleware {
    pub use crate::call_service::{
        CallRequest, CallResponse, CallService, CallServiceError, FromFn, FromFnLayer,
        LayeredService, MethodService, Next, from_fn,
    };
    pub use crate::client::ClientService;
    pub use crate::message::Headers;
}

pub use palm_proto::report;
pub use report::{Durations, Report};

pub use cache::{
    Cache, CacheError, CacheLimits, Change, ChangeLog, Entry, KeyValue, MemoryStore,
    OpenStoreError, Page, PageLimits, Position, Scan, Swap, Watch,
};
#[cfg(feature = "file-cache")]
pub use cache::{FileStore, FileStoreBuilder};
#[cfg(feature = "redis")]
pub use cache::{RedisStore, RedisStoreBuilder};
pub use client::{
    CallError, Client, ClientBuilder, ClientOptions, ConnectError, DescribedFunction, Descriptor,
    Eval, Job, Progress, blocking,
};
#[cfg(feature = "progress")]
pub use client::{WithProgress, progress};
pub use component::{
    Bind, ComponentHandle, Connect, Hub, Master, Pipeline, Server, ServerTemplate, Sink, Worker,
};
pub use component_error::{ConfigurationError, RunError, StartError};
pub use component_kind::ComponentKind;
pub use context::Context;
#[doc(hidden)]
pub use error::PalmError;
pub use error::{Error, Result};
pub use executor::{Addressee, BoxMethod, Executor, Order};
pub use failure::{BoxError, CallFailure, FailureKind};
pub use function::{
    Answer, Argument, Feeds, Function, IntoSteps, NoAnswer, Route, Step, StepError, Steps, Untyped,
};
pub use link::LinkOptions;
pub use linked_components::{Registration, components};
pub use message::{DecodeError, Message, RemoteError, Trace, WireFormatError};
pub use metrics::{FunctionMetrics, Metrics, PartMetrics};
pub use network::ExposedError;
#[cfg(feature = "json")]
pub use payload::Json;
#[cfg(feature = "messagepack")]
pub use payload::MessagePack;
pub use payload::{CodecError, FromPayload, IntoPayload, PositionedError, Protobuf};
pub use queue::QueueLimits;
pub use router::PartKind;

#[cfg(feature = "main")]
#[doc(hidden)]
pub use linked_components::{Launch, StartComponent, StartRequest};
#[doc(hidden)]
pub use linked_components::{Linked, NotDefault, Starter, StarterOf, inventory};
#[doc(hidden)]
pub use {bytes::Bytes, bytestring::ByteString, futures_core::Stream};
