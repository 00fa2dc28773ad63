//! [`Cache`]: the store as methods and clients use it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;

use super::service::{self, Verb};
use super::{CacheError, ComponentStore};
use crate::payload::IntoPayload;
use crate::socket::{Request, RequestError};

/// A component's cache, in this process or behind its `db_address`.
///
/// Every method waits for the answer; over the network it asks again when none comes, and gives up
/// after a while ([`CacheError::Timeout`]). Every request can be repeated without harm.
#[derive(Clone)]
pub struct Cache(Arc<Place>);

enum Place {
    Here(Arc<ComponentStore>),
    There(Remote),
}

/// The cache service of another component.
pub(crate) struct Remote {
    request: Request,
    /// The name in front of the verb. Services do not look at it.
    server: String,
    client: String,
    timeout: Duration,
    /// Put in front of each key.
    session: String,
    /// Whether the service turned out not to know `find`.
    is_old: AtomicBool,
}

impl Cache {
    pub(crate) fn here(store: Arc<ComponentStore>) -> Self {
        Self(Arc::new(Place::Here(store)))
    }

    pub(crate) fn there(
        request: Request,
        server: &str,
        client: &str,
        timeout: Duration,
        session: &str,
    ) -> Self {
        Self(Arc::new(Place::There(Remote {
            request,
            server: server.to_owned(),
            client: client.to_owned(),
            timeout,
            session: session.to_owned(),
            is_old: AtomicBool::new(false),
        })))
    }

    /// The value of `key`; `None` when there is none.
    ///
    /// pylm's service does not tell an empty value from none: with it, an empty one is `None` too.
    ///
    /// # Errors
    ///
    /// [`CacheError`] when the store or the way to it fails.
    ///
    /// # Cancel safety
    ///
    /// Nothing is changed.
    pub async fn get(&self, key: &str) -> Result<Option<Bytes>, CacheError> {
        match &*self.0 {
            Place::Here(store) => store.get(key).await,
            Place::There(remote) => remote.get(key).await,
        }
    }

    /// Sets `key` to `value`.
    ///
    /// # Errors
    ///
    /// [`CacheError`] when it is too large, when the key is one of the component's own, or when the
    /// store or the way to it fails.
    ///
    /// # Cancel safety
    ///
    /// The value may be set or not.
    pub async fn set(&self, key: &str, value: impl IntoPayload) -> Result<(), CacheError> {
        let value = value
            .into_payload()
            .map_err(|error| CacheError::Encode(error.into()))?;
        match &*self.0 {
            Place::Here(store) => store.set(key, value).await,
            Place::There(remote) => remote.set(key, value).await,
        }
    }

    /// Removes `key`, whether it is there or not.
    ///
    /// # Errors
    ///
    /// [`CacheError`] when the key is one of the component's own, or when the store or the way to
    /// it fails.
    ///
    /// # Cancel safety
    ///
    /// The key may be removed or not.
    pub async fn delete(&self, key: &str) -> Result<(), CacheError> {
        match &*self.0 {
            Place::Here(store) => store.delete(key).await,
            Place::There(remote) => remote.delete(key).await,
        }
    }
}

impl Remote {
    async fn get(&self, key: &str) -> Result<Option<Bytes>, CacheError> {
        let key = format!("{}{key}", self.session);
        if !self.is_old.load(Ordering::Relaxed) {
            let reply = self.ask(Verb::Find, &key, Bytes::new()).await?;
            if let Some(found) = service::found(reply) {
                return Ok(found);
            }
            self.is_old.store(true, Ordering::Relaxed);
        }
        let value = self.ask(Verb::Get, &key, Bytes::new()).await?;
        Ok(Some(value).filter(|value| !value.is_empty()))
    }

    async fn set(&self, key: &str, value: Bytes) -> Result<(), CacheError> {
        let key = format!("{}{key}", self.session);
        let reply = self.ask(Verb::Set, &key, value).await?;
        if reply.is_empty() {
            return Err(CacheError::Refused { key });
        }
        Ok(())
    }

    async fn delete(&self, key: &str) -> Result<(), CacheError> {
        let key = format!("{}{key}", self.session);
        // pylm's service ends for ever when asked to delete a key that it does not have.
        if self.is_old.load(Ordering::Relaxed) || self.get_is_old(&key).await? {
            let value = self.ask(Verb::Get, &key, Bytes::new()).await?;
            if value.is_empty() {
                return Ok(());
            }
        }
        let reply = self.ask(Verb::Delete, &key, Bytes::new()).await?;
        if reply.is_empty() && !key.is_empty() {
            return Err(CacheError::Refused { key });
        }
        Ok(())
    }

    async fn get_is_old(&self, key: &str) -> Result<bool, CacheError> {
        let reply = self.ask(Verb::Find, key, Bytes::new()).await?;
        let is_old = service::found(reply).is_none();
        self.is_old.store(is_old, Ordering::Relaxed);
        Ok(is_old)
    }

    async fn ask(&self, verb: Verb, key: &str, value: Bytes) -> Result<Bytes, CacheError> {
        let body = service::request(&self.server, &self.client, verb, key, value);
        ask_again(&self.request, body, self.timeout).await
    }
}

/// Asks, and asks again each second while no answer comes: the service may have been restarted in
/// between, and then the request is lost.
pub(crate) async fn ask_again(
    request: &Request,
    body: Bytes,
    timeout: Duration,
) -> Result<Bytes, CacheError> {
    const ATTEMPT: Duration = Duration::from_secs(1);
    let mut left = timeout;
    loop {
        match request.request(body.clone(), left.min(ATTEMPT)).await {
            Ok(reply) => return Ok(reply),
            Err(RequestError::Closed(_)) => return Err(CacheError::Closed),
            Err(RequestError::Timeout { waited }) => left -= waited,
        }
        if left.is_zero() {
            return Err(CacheError::Timeout {
                address: request.address().to_string(),
                waited: timeout,
            });
        }
    }
}

impl std::fmt::Debug for Cache {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &*self.0 {
            Place::Here(_) => formatter.write_str("Cache(here)"),
            Place::There(remote) => write!(formatter, "Cache({})", remote.request.address()),
        }
    }
}
