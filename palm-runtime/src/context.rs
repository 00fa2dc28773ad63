//! [`Context`]: what a method or a hook can access in addition to its argument.

use std::sync::Arc;
use std::time::Duration;

use crate::cache::Cache;
use crate::message::{Deadline, Message};

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
}

/// State that all calls of a component share.
#[derive(Debug)]
pub(crate) struct ComponentContext {
    pub(crate) name: String,
    pub(crate) cache: Cache,
}

impl Context {
    pub(crate) fn new(component: Arc<ComponentContext>, message: Message) -> Self {
        Self { component, message }
    }

    /// Returns the received message.
    pub fn message(&self) -> &Message {
        &self.message
    }

    /// Returns the time until the caller stops waiting, or `None` if it has set no deadline.
    ///
    /// A slow method can use it to return early, or as the timeout of its own calls.
    pub fn time_left(&self) -> Option<Duration> {
        self.message.deadline().map(Deadline::left)
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
