//! The kinds of components, and what each of them has.

use crate::component_kind::ComponentKind;

/// The kind of component that a builder makes.
pub trait Kind: Send + Sync + 'static {
    /// The kind as a value.
    const KIND: ComponentKind;
}

macro_rules! kinds {
    ($($name:ident: $($has:ident),*;)*) => {
        $(
            #[doc = concat!("The kind of a `", stringify!($name), "`, as a type parameter of a builder.")]
            #[derive(Debug)]
            pub enum $name {}

            impl Kind for $name {
                const KIND: ComponentKind = ComponentKind::$name;
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
    Server: Calls, Pulls, Publishes;
    Pipeline: Calls, Follows, Publishes;
    Sink: Calls, Publishes;
    Master: Pulls, Publishes, HasWorkers;
    Hub: Follows, Publishes, HasWorkers;
    Worker: Calls;
}
