//! [`Context`]: what a method or a hook can learn besides its argument.

use std::sync::Arc;
use std::time::Duration;

use crate::cache::Cache;
use crate::message::{Deadline, Message};

/// What a method or a hook can learn besides its argument: take it as the last parameter.
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

/// What is the same for all calls of a component.
#[derive(Debug)]
pub(crate) struct ComponentContext {
    pub(crate) name: String,
    pub(crate) cache: Cache,
}

impl Context {
    pub(crate) fn new(component: Arc<ComponentContext>, message: Message) -> Self {
        Self { component, message }
    }

    /// The message that is being handled, as it came in.
    pub fn message(&self) -> &Message {
        &self.message
    }

    /// How much time is left until nobody wants the result any more; `None` where the caller has set no
    /// deadline. A method that takes long may look at it and give up, or pass it on to calls of its own.
    pub fn time_left(&self) -> Option<Duration> {
        self.message.deadline().map(Deadline::left)
    }

    /// The component's name; a worker's own one.
    pub fn name(&self) -> &str {
        &self.component.name
    }

    /// The component's cache. A worker's is its master's, over the network.
    pub fn cache(&self) -> &Cache {
        &self.component.cache
    }
}
