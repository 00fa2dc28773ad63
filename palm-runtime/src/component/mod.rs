//! The components: the parts that each kind is composed of, its defaults, and its start.
//!
//! A [`Builder`] collects the options of a component, for all kinds in one place. When it starts, its type is erased
//! (`erase`), so that all that follows is compiled once. `configuration` checks the options, and `compose` turns
//! the component into a [`ServerTemplate`] with the parts of its kind. From there on the component is like one that a
//! user composes by hand. `start` opens its parts, `wiring` connects them by queues, and `supervisor`
//! owns their tasks until the component ends.

mod any_options;
mod builder;
mod closure_builder;
mod compose;
mod configuration;
mod dedicated_thread;
mod description;
mod erase;
mod handle;
#[cfg(feature = "http")]
mod http_worker;
mod kind;
#[cfg(any(feature = "serde", feature = "clap"))]
mod options;
mod part_registration;
mod settings;
mod start;
mod start_future;
mod supervisor;
mod template;
mod until_signal;
mod wiring;

pub use builder::{
    Bind, Builder, Connect, FromComponent, HttpWorkerBuilder, HubBuilder, MasterBuilder,
    PipelineBuilder, ServerBuilder, SinkBuilder, WorkerBuilder,
};
pub use closure_builder::ClosureBuilder;
#[cfg(feature = "testing")]
pub(crate) use compose::Compose;
pub use compose::{Hub, Master};
pub use description::Description;
pub use handle::ComponentHandle;
#[cfg(feature = "main")]
pub(crate) use handle::ComponentReadiness;
#[cfg(feature = "testing")]
pub(crate) use kind::Kind;
pub use kind::{Pipeline, Server, Sink, Worker};
#[cfg(any(feature = "serde", feature = "clap"))]
pub use options::{
    ComponentOptions, HttpWorkerOptions, HubOptions, MasterOptions, PipelineOptions, ServerOptions,
    SinkOptions, WorkerOptions,
};
pub use part_registration::{InboundEntry, OutboundEntry};
pub use start_future::StartFuture;
pub use template::ServerTemplate;
