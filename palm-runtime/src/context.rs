//! [`Context`]: what a method or a hook can access in addition to its argument.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::cache::Cache;
use crate::cancellation::Cancellations;
use crate::clock;
use crate::message::Message;
use crate::type_map::TypeMap;

/// What a method or a hook can access in addition to its argument. Take it as the last parameter.
///
/// # Examples
///
/// ```ignore
/// #[palm::method]
/// async fn foo(&self, message: Bytes, context: Context) -> Result<Bytes, CacheError> {
///     let data = context.cache().get("cached").await?.unwrap_or_default();
///     Ok([data, message].concat().into())
/// }
/// ```
#[derive(Debug, Clone)]
pub struct Context {
    component: Arc<ComponentContext>,
    message: Message,
    /// Cancelled once the call has ended; `None` in a hook.
    ended: Option<CancellationToken>,
    /// Values that layers have attached.
    extensions: TypeMap,
}

/// State that all calls of a component share.
#[derive(Debug)]
pub(crate) struct ComponentContext {
    pub(crate) name: String,
    pub(crate) cache: Cache,
    pub(crate) cancellations: Arc<Cancellations>,
}

impl Context {
    pub(crate) fn new(component: Arc<ComponentContext>, message: Message) -> Self {
        Self {
            component,
            message,
            ended: None,
            extensions: TypeMap::default(),
        }
    }

    /// Sets the token that is cancelled once the call has ended.
    pub(crate) fn with_end(mut self, ended: CancellationToken) -> Self {
        self.ended = Some(ended);
        self
    }

    /// Returns the token that is cancelled once the call has ended.
    pub(crate) fn end(&self) -> Option<&CancellationToken> {
        self.ended.as_ref()
    }

    /// Sets the values that layers have attached.
    pub(crate) fn with_extensions(mut self, extensions: TypeMap) -> Self {
        self.extensions = extensions;
        self
    }

    /// Returns the value of the type `T` that a layer has attached to the call; see
    /// [`CallRequest::insert_extension`](crate::middleware::CallRequest::insert_extension).
    pub fn extension<T: 'static>(&self) -> Option<&T> {
        self.extensions.get()
    }

    /// Returns the received message.
    pub fn message(&self) -> &Message {
        &self.message
    }

    /// Returns the time until the caller stops waiting, or `None` if it has set no deadline.
    ///
    /// A slow method can use it to return early, or as the timeout of its own calls.
    pub fn time_left(&self) -> Option<Duration> {
        self.message
            .deadline()
            .map(|deadline| deadline.left(clock::wall()))
    }

    /// Waits until the call is cancelled: its caller has dropped it, its client has disconnected, its deadline or the
    /// method's `max_runtime_ms` has passed, or the component stops it at the drain limit.
    ///
    /// Also completes once the call has ended, so that a task that the method has spawned can end with it. Never
    /// completes in a hook of a message without a deadline that is not cancelled.
    ///
    /// An `async` method is dropped when its call is cancelled. If it waits for this future, it is polled once more
    /// before that: it can release what it holds, but not await. A `blocking` method is not stopped, and may call
    /// [`is_cancelled`](Self::is_cancelled) between the steps of its work. The result of a method that was dropped is discarded.
    ///
    /// # Cancel safety
    ///
    /// This method is cancel safe: it can be dropped and called again.
    ///
    /// # Examples
    ///
    /// ```
    /// use palm::prelude::*;
    ///
    /// struct Search;
    ///
    /// #[palm::server(name = "search")]
    /// impl Search {
    ///     /// Runs a search in a task of its own, which stops with the call.
    ///     #[palm::method]
    ///     async fn find(&self, text: String, context: Context) -> Result<String, &'static str> {
    ///         let search = tokio::spawn(async move {
    ///             tokio::select! {
    ///                 found = search_everywhere(text) => Ok(found),
    ///                 () = context.cancelled() => Err("the search was cancelled"),
    ///             }
    ///         });
    ///         search.await.map_err(|_| "the search panicked")?
    ///     }
    ///
    ///     /// Computes for a long time, unless its caller has left.
    ///     #[palm::method(blocking)]
    ///     fn sum(&self, numbers: Vec<u8>, context: Context) -> Result<String, &'static str> {
    ///         let mut sum = 0;
    ///         for number in numbers {
    ///             if context.is_cancelled() {
    ///                 return Err("the sum was cancelled");
    ///             }
    ///             sum += u64::from(number);
    ///         }
    ///         Ok(sum.to_string())
    ///     }
    /// }
    ///
    /// async fn search_everywhere(text: String) -> String {
    ///     text
    /// }
    /// ```
    pub async fn cancelled(&self) {
        let ended = async {
            match &self.ended {
                Some(ended) => ended.cancelled().await,
                None => std::future::pending().await,
            }
        };
        let late = async {
            match self.time_left() {
                Some(left) => tokio::time::sleep(left).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = ended => {}
            () = late => {}
            () = self.component.cancellations.cancelled(self.message.client()) => {}
        }
    }

    /// Returns whether the call is cancelled, or has ended; see [`cancelled`](Self::cancelled).
    ///
    /// Costs a lookup, and decodes the deadline if the caller has set one: call it every millisecond rather than in an
    /// inner loop.
    pub fn is_cancelled(&self) -> bool {
        self.ended
            .as_ref()
            .is_some_and(CancellationToken::is_cancelled)
            || self.component.cancellations.concern(&self.message)
            || self.time_left().is_some_and(|left| left.is_zero())
    }

    /// Returns the component's name. A worker has its own name, not that of its master.
    pub fn name(&self) -> &str {
        &self.component.name
    }

    /// Returns the component's cache. A worker uses the cache of its master, over the network.
    pub fn cache(&self) -> &Cache {
        &self.component.cache
    }
}
