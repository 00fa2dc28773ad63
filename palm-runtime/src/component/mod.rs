//! The components: which parts each is made of, and its defaults.
//!
//! A [`Builder`] collects the options of a component, in one place for all kinds; its kind decides
//! which options there are and which parts it is composed of (`compose`), and from there on it is a
//! [`ServerTemplate`] like any that users make. None has a loop of its own.

mod builder;
mod compose;
mod configuration;
mod description;
pub(crate) mod descriptor;
mod handle;
mod kind;
mod run;
mod settings;
mod signal;
mod template;
mod thread;

pub use builder::{Bind, Builder, Connect, FromComponent};
pub(crate) use compose::Compose;
pub use compose::{Hub, Master};
pub use configuration::ConfigurationError;
pub use description::Description;
pub use handle::ComponentHandle;
pub(crate) use kind::Kind;
pub use kind::{
    ComponentKind, HubBuilder, MasterBuilder, PipelineBuilder, ServerBuilder, SinkBuilder,
    WorkerBuilder,
};
pub use run::RunError;
pub use settings::Settings;
#[cfg(feature = "http")]
pub(crate) use signal::Signals;
pub use template::{InboundEntry, OutboundEntry, ServerTemplate, StartError};
