//! How `palm::main!` starts a linked component: with a value of its type, and the options of its kind.
//!
//! A [`Registration`] holds a [`Starter`] if the type implements `Default`. Expanded code cannot ask for that: it names
//! `StarterOf::<Type>::STARTER`, which is the inherent constant if the type has the trait, and otherwise that of the
//! blanket trait [`NotDefault`]. Without the feature `main` there is only the latter.

use std::fmt;
use std::marker::PhantomData;

use super::Registration;
use crate::component::FromComponent;

/// A type that a macro made a component which palm can start. Implemented by the macros.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a component that `palm::main!` can start",
    label = "no component",
    note = "annotate an `impl` block of it with `#[palm::server]`, `#[palm::worker]` or another kind"
)]
pub trait Linked: Sized + Send + 'static {
    /// The builder of its kind.
    type Builder: FromComponent<Self>;
    /// Its entry in the list of components.
    const REGISTRATION: &'static Registration;
}

/// Starts a component, or does not, if no value of its type can be made.
#[derive(Clone, Copy)]
pub struct Starter {
    #[cfg(feature = "main")]
    pub(crate) start: Option<&'static dyn main::StartComponent>,
}

impl Starter {
    pub(crate) const NONE: Self = Self {
        #[cfg(feature = "main")]
        start: None,
    };
}

impl fmt::Debug for Starter {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Starter")
    }
}

/// A type has one starter at most, so that registrations differ in other fields.
impl PartialEq for Starter {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Starter {}

/// Has the starter of the type `C` as a constant.
#[derive(Debug)]
pub struct StarterOf<C>(PhantomData<fn() -> C>);

/// The starter of a type that does not implement `Default`.
pub trait NotDefault {
    /// None.
    const STARTER: Starter = Starter::NONE;
}

impl<C> NotDefault for StarterOf<C> {}

#[cfg(feature = "main")]
pub(crate) mod main {
    //! The starters themselves.

    use std::marker::PhantomData;
    use std::pin::Pin;

    use clap::{ArgMatches, Command, FromArgMatches};

    use super::{Linked, Starter, StarterOf};
    use crate::component::{
        Bind, ComponentHandle, FromComponent, Hub, HubBuilder, HubOptions, Master, MasterBuilder,
        MasterOptions, PipelineBuilder, PipelineOptions, ServerBuilder, ServerOptions, SinkBuilder,
        SinkOptions, StartFuture, WorkerBuilder, WorkerOptions,
    };
    #[cfg(feature = "http")]
    use crate::component::{HttpWorkerBuilder, HttpWorkerOptions};
    use crate::discovery::IntoAddress;
    use crate::executor::Callable;
    use crate::failure::BoxError;
    use crate::method::Shape;

    /// A component that was asked for, with the arguments that were given.
    #[derive(Debug, Clone, Copy)]
    pub struct StartRequest<'a> {
        /// The `db_address` that the component binds; for a worker that of its master.
        pub(crate) db_address: &'a str,
        /// The `db_address`es of the components that it follows.
        pub(crate) follows: &'a [String],
        /// The options of its kind.
        pub(crate) options: &'a ArgMatches,
        /// The arguments of its constructor.
        pub(crate) arguments: &'a ArgMatches,
    }

    /// The start of a component, in the program's main task.
    pub(crate) type Starting = Pin<Box<dyn Future<Output = Result<ComponentHandle, BoxError>>>>;

    /// Starts a component that is known by its type alone.
    pub trait StartComponent: Send + Sync {
        /// Adds the arguments of its constructor.
        #[doc(hidden)]
        fn add_arguments(&self, command: Command) -> Command;

        /// Begins the start.
        ///
        /// # Errors
        ///
        /// The command line has a mistake.
        #[doc(hidden)]
        fn start(&self, request: StartRequest<'_>) -> Result<Starting, clap::Error>;
    }

    /// A builder whose component can be started with options of the command line.
    pub trait Launch: Sized + 'static {
        /// The options of the kind.
        #[doc(hidden)]
        type Options: FromArgMatches;

        #[doc(hidden)]
        fn launch(
            self,
            options: Self::Options,
            follows: Vec<String>,
        ) -> StartFuture<ComponentHandle>;
    }

    macro_rules! launch {
        ($($builder:ident, $options:ident: $bound:ident $(, $follow:ident)?;)*) => {
            $(impl<C: $bound> Launch for $builder<C> {
                type Options = $options;

                fn launch(self, options: $options, follows: Vec<String>) -> StartFuture<ComponentHandle> {
                    let builder = self.options(options);
                    $(let builder = follows.iter().fold(builder, $builder::$follow);)?
                    let _ = follows;
                    builder.spawn()
                }
            })*
        };
    }

    launch! {
        ServerBuilder, ServerOptions: Callable;
        PipelineBuilder, PipelineOptions: Callable, follow;
        SinkBuilder, SinkOptions: Callable, follow;
        MasterBuilder, MasterOptions: Shape;
        HubBuilder, HubOptions: Shape, follow;
        WorkerBuilder, WorkerOptions: Callable;
    }

    #[cfg(feature = "http")]
    launch! {
        HttpWorkerBuilder, HttpWorkerOptions: Callable;
    }

    impl StartRequest<'_> {
        /// Begins the start of the component that `construct` returns.
        pub(crate) fn start<B: Launch>(
            self,
            build: impl AsyncFnOnce(String) -> Result<B, BoxError> + 'static,
        ) -> Result<Starting, clap::Error> {
            let options = B::Options::from_arg_matches(self.options)?;
            let (db_address, follows) = (self.db_address.to_owned(), self.follows.to_vec());
            Ok(Box::pin(async move {
                let builder = build(db_address).await?;
                Ok(builder.launch(options, follows).await?)
            }))
        }
    }

    /// Starts the default value of a component.
    struct StartDefault<C>(PhantomData<fn() -> C>);

    impl<C: Default + Linked<Builder: Launch>> StarterOf<C> {
        #[doc(hidden)]
        pub const STARTER: Starter = Starter {
            start: Some(&StartDefault::<C>(PhantomData)),
        };
    }

    impl<C: Default + Linked<Builder: Launch>> StartComponent for StartDefault<C> {
        fn add_arguments(&self, command: Command) -> Command {
            command
        }

        fn start(&self, request: StartRequest<'_>) -> Result<Starting, clap::Error> {
            request.start(async |db_address: String| {
                Ok(C::Builder::from_component(
                    C::default(),
                    db_address.into_address(),
                ))
            })
        }
    }

    /// Starts a master without hooks.
    #[derive(Debug)]
    pub(crate) struct PlainMaster(pub(crate) String);

    /// Starts a hub without hooks.
    #[derive(Debug)]
    pub(crate) struct PlainHub(pub(crate) String);

    macro_rules! plain {
        ($($plain:ident: $type:ident;)*) => {
            $(impl StartComponent for $plain {
                fn add_arguments(&self, command: Command) -> Command {
                    command
                }

                fn start(&self, request: StartRequest<'_>) -> Result<Starting, clap::Error> {
                    let component = $type::new(&self.0);
                    request.start(async |db_address: String| Ok(component.bind(db_address)))
                }
            })*
        };
    }

    plain! {
        PlainMaster: Master;
        PlainHub: Hub;
    }
}
