//! Everything of palm that runs. Use it through the crate `palm`, which documents it.
//!
//! The modules are the layers of `ARCHITECTURE.md`: `message` and `function` are what goes over the
//! wire, `socket` is the network, `part` and `router` are what a component is made of, `parts` and
//! `executor` the parts that there are, `component` the compositions, and `client` the other side.

mod alone;
mod budget;
mod by_number;
pub mod cache;
pub mod callable;
mod cancel;
#[doc(hidden)]
pub mod check;
mod client;
pub mod component;
mod context;
mod error;
mod executor;
mod failure;
mod fair_queue;
mod flow;
mod function;
#[cfg(feature = "http")]
pub mod http;
mod link;
mod log_limit;
pub mod logging;
mod memory;
mod message;
mod metrics;
mod network;
mod offers;
pub mod part;
pub mod parts;
mod payload;
mod places;
mod queue;
mod registration;
mod router;
pub mod socket;
pub mod testing;
mod together;
mod wait_cause;
mod watchdog;

pub use cache::{
    Cache, CacheError, CacheLimits, Change, Changes, Entry, KeyValue, MemoryStore, OpenStoreError,
    Page, PageLimits, Position, Scan, Swap, Watch,
};
#[cfg(feature = "file-cache")]
pub use cache::{FileStore, FileStoreBuilder};
#[cfg(feature = "redis")]
pub use cache::{RedisStore, RedisStoreBuilder};
pub use client::{CallError, Client, ClientBuilder, ConnectError, Eval, Job, Progress, blocking};
#[cfg(feature = "progress")]
pub use client::{WithProgress, progress};
pub use component::{
    Bind, ComponentHandle, ComponentKind, ConfigurationError, Connect, Hub, Master, RunError,
    ServerTemplate, StartError,
};
pub use context::Context;
pub use error::{Error, Result};
pub use executor::{Addressee, Executor, Order};
pub use failure::{BoxError, CallFailure, FailureKind};
pub use function::{
    Answer, Argument, Feeds, Function, IntoSteps, NoAnswer, Route, Step, StepError, Steps, Untyped,
};
pub use link::LinkOptions;
pub use message::{DecodeError, Message, RemoteError, proto};
pub use metrics::{Durations, FunctionMetrics, Metrics, PartMetrics};
pub use network::ExposedError;
#[cfg(feature = "json")]
pub use payload::Json;
#[cfg(feature = "messagepack")]
pub use payload::MessagePack;
pub use payload::{FromPayload, IntoPayload, PositionedError, Protobuf};
pub use queue::QueueLimits;
pub use registration::{Registration, components};
pub use router::PartKind;

#[doc(hidden)]
pub use registration::inventory;
#[doc(hidden)]
pub use {bytes::Bytes, bytestring::ByteString, futures_core::Stream};
