//! The kinds of components, and what each of them has.

use crate::component_kind::ComponentKind;

/// The kind of component that a builder makes.
pub trait Kind: Send + Sync + 'static {
    /// The kind as a value.
    const KIND: ComponentKind;
    /// The names of the traits that it has, and its own: the tags of its options.
    const HAS: &'static [&'static str];
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident: $($has:ident),*;)*) => {
        $(
            $(#[$doc])*
            ///
            #[doc = concat!("As a type parameter of a `Builder`, the kind `", stringify!($name), "`.")]
            #[derive(Debug)]
            pub enum $name {}

            impl Kind for $name {
                const KIND: ComponentKind = ComponentKind::$name;
                const HAS: &'static [&'static str] = &["Kind", stringify!($name), $(stringify!($has)),*];
            }

            $(impl $has for $name {})*
        )*
    };
}

/// Runs methods.
pub trait Calls: Kind {}
/// Receives messages of clients.
pub trait Pulls: Kind {}
/// Follows the topic of one component.
pub trait Follows: Kind {}
/// Publishes results.
pub trait Publishes: Kind {}
/// Has workers.
pub trait HasWorkers: Kind {}

kinds! {
    /// A server whose methods are closures ([`Server::builder`]).
    Server: Calls, Pulls, Publishes;
    /// A pipeline whose methods are closures ([`Pipeline::builder`]).
    Pipeline: Calls, Follows, Publishes;
    /// A sink whose methods are closures ([`Sink::builder`]).
    Sink: Calls, Publishes;
    /// A master.
    Master: Pulls, Publishes, HasWorkers;
    /// A hub.
    Hub: Follows, Publishes, HasWorkers;
    /// A worker whose methods are closures ([`Worker::builder`]).
    Worker: Calls;
    /// A worker that is reached by HTTP.
    HttpWorker: ;
}
