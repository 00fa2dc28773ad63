//! The components: which parts each is made of, and its defaults.
//!
//! A [`Builder`] collects the options of a component, in one place for all kinds; its kind decides
//! which options there are and which parts it is composed of (`compose`), and from there on it is a
//! [`ServerTemplate`] like any that users make. None has a loop of its own.

mod builder;
mod compose;
mod configuration;
mod description;
mod handle;
mod kind;
mod run;
mod settings;
mod template;
mod thread;
mod until_signal;

pub use builder::{Bind, Builder, Connect, FromComponent};
pub(crate) use compose::Compose;
pub use compose::{Hub, Master};
pub use description::Description;
pub use handle::ComponentHandle;
pub(crate) use kind::Kind;
pub use kind::{
    HubBuilder, MasterBuilder, PipelineBuilder, ServerBuilder, SinkBuilder, WorkerBuilder,
};
pub use settings::Settings;
pub use template::{InboundEntry, OutboundEntry, ServerTemplate};
