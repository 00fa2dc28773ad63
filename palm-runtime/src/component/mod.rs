//! The components: the parts that each kind is composed of, its defaults, and its start.
//!
//! A [`Builder`] collects the options of a component, for all kinds in one place. `configuration` checks them, and
//! `compose` turns the builder into a [`ServerTemplate`] with the parts of its kind. From there on the component is
//! like one that a user composes by hand. `template` starts it, and `supervisor` owns its tasks until it ends.

mod builder;
mod compose;
mod configuration;
mod dedicated_thread;
mod description;
mod handle;
mod kind;
mod settings;
mod supervisor;
mod template;
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
