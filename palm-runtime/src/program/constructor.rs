//! The functions that construct components: with or without arguments, with or without an error, sync or async.

use std::marker::PhantomData;
use std::pin::Pin;

use clap::{ArgMatches, Args, Command};

use crate::component::FromComponent;
use crate::discovery::IntoAddress;
use crate::failure::BoxError;
use crate::linked_components::{
    Launch, Linked, Registration, StartComponent, StartRequest, Starting,
};

/// The value of a component that is being constructed.
type Constructing<C> = Pin<Box<dyn Future<Output = Result<C, BoxError>>>>;

/// A function that constructs a component of the type `C`. `M` tells the implementations apart.
#[diagnostic::on_unimplemented(
    message = "`palm::main!` cannot construct `{C}` with this",
    label = "not a constructor of `{C}`",
    note = "a constructor is a function or closure without captures, sync or async, that returns `{C}` or \
            `Result<{C}, E>`; it takes nothing, or one argument that implements `clap::Args` (`#[derive(clap::Args)]`)"
)]
pub trait Constructor<C, M>: Send + Sync + 'static {
    #[doc(hidden)]
    fn add_arguments(command: Command) -> Command;

    #[doc(hidden)]
    fn construct(&self, matches: &ArgMatches) -> Result<Constructing<C>, clap::Error>;
}

impl<C, F, R, M> Constructor<C, ((), M)> for F
where
    F: Fn() -> R + Send + Sync + 'static,
    R: Constructed<C, M>,
{
    fn add_arguments(command: Command) -> Command {
        command
    }

    fn construct(&self, _: &ArgMatches) -> Result<Constructing<C>, clap::Error> {
        Ok(self().constructed())
    }
}

impl<C, F, A, R, M> Constructor<C, ((A,), M)> for F
where
    F: Fn(A) -> R + Send + Sync + 'static,
    A: Args,
    R: Constructed<C, M>,
{
    fn add_arguments(command: Command) -> Command {
        A::augment_args(command)
    }

    fn construct(&self, matches: &ArgMatches) -> Result<Constructing<C>, clap::Error> {
        Ok(self(A::from_arg_matches(matches)?).constructed())
    }
}

/// What a constructor returns.
pub trait Constructed<C, M>: 'static {
    #[doc(hidden)]
    fn constructed(self) -> Constructing<C>;
}

/// Tells apart what constructors return.
#[doc(hidden)]
#[derive(Debug)]
pub enum Value {}
#[doc(hidden)]
#[derive(Debug)]
pub enum Fallible {}
#[doc(hidden)]
#[derive(Debug)]
pub enum AsyncValue {}
#[doc(hidden)]
#[derive(Debug)]
pub enum AsyncFallible {}

impl<C: 'static> Constructed<C, Value> for C {
    fn constructed(self) -> Constructing<C> {
        Box::pin(std::future::ready(Ok(self)))
    }
}

impl<C: 'static, E: Into<BoxError> + 'static> Constructed<C, Fallible> for Result<C, E> {
    fn constructed(self) -> Constructing<C> {
        Box::pin(std::future::ready(self.map_err(Into::into)))
    }
}

impl<C, F: Future<Output = C> + 'static> Constructed<C, AsyncValue> for F {
    fn constructed(self) -> Constructing<C> {
        Box::pin(async { Ok(self.await) })
    }
}

impl<C, E, F> Constructed<C, AsyncFallible> for F
where
    E: Into<BoxError>,
    F: Future<Output = Result<C, E>> + 'static,
{
    fn constructed(self) -> Constructing<C> {
        Box::pin(async { self.await.map_err(Into::into) })
    }
}

/// A constructor could not make a component.
#[derive(Debug, thiserror::Error)]
#[error("cannot construct `{type_name}`")]
struct ConstructError {
    type_name: &'static str,
    #[source]
    source: BoxError,
}

/// A component with its constructor, of the entry `Type => constructor` of `palm::main!`.
#[expect(missing_debug_implementations, reason = "a constructor has none")]
pub struct ConstructedComponent {
    pub(super) registration: &'static Registration,
    pub(super) starter: Box<dyn StartComponent>,
}

/// Starts a component whose value a function constructs.
struct StartConstructed<C, F, M> {
    constructor: F,
    types: PhantomData<fn(M) -> C>,
}

/// Returns the component of the type `C` with its constructor.
pub fn constructed<C, F, M>(constructor: F) -> ConstructedComponent
where
    C: Linked<Builder: Launch>,
    F: Constructor<C, M>,
    M: 'static,
{
    ConstructedComponent {
        registration: C::REGISTRATION,
        starter: Box::new(StartConstructed::<C, F, M> {
            constructor,
            types: PhantomData,
        }),
    }
}

impl<C, F, M> StartComponent for StartConstructed<C, F, M>
where
    C: Linked<Builder: Launch>,
    F: Constructor<C, M>,
    M: 'static,
{
    fn add_arguments(&self, command: Command) -> Command {
        F::add_arguments(command)
    }

    fn start(&self, request: StartRequest<'_>) -> Result<Starting, clap::Error> {
        let constructing = self.constructor.construct(request.arguments)?;
        request.start(async move |db_address: String| {
            let component = constructing.await.map_err(|source| ConstructError {
                type_name: C::REGISTRATION.type_name,
                source,
            })?;
            let db_address = db_address.into_address();
            Ok(C::Builder::from_component(component, db_address))
        })
    }
}
