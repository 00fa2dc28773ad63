//! The start of a component that a [`Builder`] describes, whose type is erased first.
//!
//! For each of its components, a program compiles only what is generic here: the methods and hooks as trait objects
//! ([`Methods`](crate::executor::Methods), [`Hooks`](crate::method::Hooks)). The code that composes, starts and runs
//! components is compiled once, in this crate. Each kind has a function of its own, so that a program contains only the
//! parts of the kinds that it starts.

use std::sync::Arc;

use super::builder::Builder;
use super::compose::{AnyComponent, Compose, Composing};
use super::dedicated_thread::start_on;
use super::handle::ComponentHandle;
use super::kind::{self, Kind};
use super::start_future::StartFuture;
use super::until_signal::{until_completed, until_stopped};
use crate::error::{Error, Result};
use crate::executor::Callable;
use crate::method::{Shape, State};

impl<C, K: Kind> Builder<C, K>
where
    Self: Compose + Send + 'static,
{
    /// Starts the component, and runs it until SIGTERM, Ctrl-C, its limit of messages or an error.
    ///
    /// The component drains before this returns. A second signal ends it at once.
    ///
    /// # Errors
    ///
    /// [`Error::Start`] if the component cannot be started, [`Error::Run`] if a part fails or the drain is incomplete.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops the component: it drains in the background.
    pub fn start(self) -> StartFuture<()> {
        until_stopped(self.spawn())
    }

    /// Starts the component, and runs it until `stop` completes, its limit of messages or an error.
    ///
    /// The component then drains, as [`start`](Self::start) does after SIGTERM, before this returns. The output of
    /// `stop` is ignored. Signals are not handled: a program that has handlers of its own, or none, uses this.
    ///
    /// # Errors
    ///
    /// [`Error::Start`] if the component cannot be started, [`Error::Run`] if a part fails or the drain is incomplete.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops the component: it drains in the background.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn example() -> palm::Result<()> {
    /// use palm::{Bind, Master};
    ///
    /// let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    /// let master = Master::new("images").bind("tcp://127.0.0.1:5559");
    /// let running = tokio::spawn(master.start_until(stopped));
    /// // Later, elsewhere in the program:
    /// drop(stop);
    /// running.await.expect("the component does not panic")
    /// # }
    /// ```
    pub async fn start_until(self, stop: impl Future) -> Result<()> {
        until_completed(self.spawn(), stop).await
    }

    /// Starts the component, and returns once all of its sockets are bound.
    ///
    /// A worker, or a component that follows another one, then connects to its upstream in the background.
    ///
    /// # Errors
    ///
    /// [`Error::Start`] if the component cannot be started. No part runs then.
    ///
    /// # Cancel safety
    ///
    /// No part runs if the future is dropped before it is ready.
    pub fn spawn(self) -> StartFuture<ComponentHandle> {
        let options = &self.options;
        let (own_thread, name) = (options.settings.own_thread, options.name.clone());
        spawn(own_thread, name, self.compose())
    }
}

fn spawn(own_thread: bool, name: String, composing: Composing) -> StartFuture<ComponentHandle> {
    let start = async move {
        let template = composing.await.map_err(Error::Start)?;
        template.spawn_here().await
    };
    StartFuture::new(start_on(own_thread, name, Box::pin(start)))
}

impl<C: Shape, K: Kind> Builder<C, K> {
    /// Returns the component without its type, and the user's value.
    fn erase(self) -> (AnyComponent, Arc<State<C>>) {
        let mistakes = self.component.mistakes();
        let state = State::new(self.component);
        let component = AnyComponent {
            kind: K::KIND,
            options: self.options,
            mistakes,
            hooks: state.clone(),
        };
        (component, state)
    }
}

impl<C: Callable> Compose for Builder<C, kind::Server> {
    fn compose(self) -> Composing {
        let (component, methods) = self.erase();
        component.server(methods)
    }
}

impl<C: Callable> Compose for Builder<C, kind::Pipeline> {
    fn compose(self) -> Composing {
        let (component, methods) = self.erase();
        component.pipeline(methods)
    }
}

impl<C: Callable> Compose for Builder<C, kind::Sink> {
    fn compose(self) -> Composing {
        let (component, methods) = self.erase();
        component.sink(methods)
    }
}

impl<C: Shape> Compose for Builder<C, kind::Master> {
    fn compose(self) -> Composing {
        let (component, _) = self.erase();
        component.master()
    }
}

impl<C: Shape> Compose for Builder<C, kind::Hub> {
    fn compose(self) -> Composing {
        let (component, _) = self.erase();
        component.hub()
    }
}

#[cfg(feature = "http")]
impl<C: Callable> Compose for Builder<C, kind::HttpWorker> {
    fn compose(self) -> Composing {
        let (component, methods) = self.erase();
        component.http_worker(methods)
    }
}

impl<C: Callable> Compose for Builder<C, kind::Worker> {
    fn compose(self) -> Composing {
        let (component, methods) = self.erase();
        component.worker(methods)
    }
}
