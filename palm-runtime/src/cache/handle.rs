//! [`Cache`]: the handle to a store, for methods and clients.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt, TryStreamExt};

use super::remote::{Dialect, RemoteCache};
use super::session::Session;
use super::{
    CacheError, CacheLimits, Change, ComponentStore, KeyValue, PageLimits, Scan, Swap, Watch,
};
use crate::payload::IntoPayload;
use crate::socket::Request;

/// A handle to the cache of a component, in this process or behind its `db_address`. Clones share the store.
///
/// Over the network, a request without a reply is repeated until its timeout ([`CacheError::Timeout`]). Repeated
/// requests are performed once: the service keeps the replies of the last two minutes, up to 100 000, for requests that
/// must not be performed twice. A restart of the component loses them.
///
/// ```
/// use std::time::Duration;
///
/// use futures_util::TryStreamExt;
/// use palm::{Cache, MemoryStore};
///
/// # #[tokio::main]
/// # async fn main() -> palm::Result<()> {
/// let cache = Cache::new(MemoryStore::default());
/// cache.set("users/1", "Ada").await?;
/// cache.set_for("users/2", "Grace", Duration::from_secs(60)).await?;
/// assert_eq!(cache.add("visits", 1).await?, 1);
///
/// let leader = cache.compare_and_set("leader", None, Some("me".into())).await?;
/// assert!(leader.is_done());
///
/// let users: Vec<_> = cache.scan("users/").try_collect().await?;
/// assert_eq!(users[0].value, "Ada");
/// assert_eq!(cache.delete_prefix("users/").await?, 2);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Cache(Arc<CacheBackend>);

enum CacheBackend {
    Local(Arc<ComponentStore>),
    Remote(RemoteCache),
}

impl Cache {
    /// Creates a handle to a store without a component, with the default [`CacheLimits`]. For tests, and for a store that
    /// several components of a program share.
    pub fn new(store: impl KeyValue) -> Self {
        let limits = CacheLimits::default();
        Self::local(Arc::new(ComponentStore::new(Arc::new(store), limits)))
    }

    pub(crate) fn local(store: Arc<ComponentStore>) -> Self {
        Self(Arc::new(CacheBackend::Local(store)))
    }

    pub(crate) fn remote(
        request: Request,
        server: &str,
        client: &str,
        timeout: Duration,
        session: &str,
    ) -> Self {
        Self(Arc::new(CacheBackend::Remote(RemoteCache {
            request,
            server: server.to_owned(),
            client: client.to_owned(),
            timeout,
            session: Session::new(session),
            dialect: Dialect::default(),
        })))
    }

    /// Returns the value of `key`, or `None` if the key is absent.
    ///
    /// A service of pylm does not distinguish an empty value from an absent key: both are `None`.
    ///
    /// # Errors
    ///
    /// Returns [`CacheError`] if the store or the connection to it fails.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn get(&self, key: &str) -> Result<Option<Bytes>, CacheError> {
        match &*self.0 {
            CacheBackend::Local(store) => store.get(key).await,
            CacheBackend::Remote(remote) => remote.get(key).await,
        }
    }

    /// Sets `key` to `value`, without an expiry.
    ///
    /// # Errors
    ///
    /// Returns [`CacheError`] if the key or the value is too large, if the key is empty or reserved for the component, or
    /// if the store or the connection to it fails.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the value may be set or not.
    pub async fn set(&self, key: &str, value: impl IntoPayload) -> Result<(), CacheError> {
        self.set_payload(key, value, None).await
    }

    /// Sets `key` to `value`, and removes it after `ttl`.
    ///
    /// Times are rounded up to milliseconds and limited to a hundred years.
    ///
    /// # Errors
    ///
    /// As [`set`](Self::set), [`CacheError::ZeroTtl`] if `ttl` is zero, and [`CacheError::Unsupported`] from a service of
    /// pylm.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the value may be set or not.
    pub async fn set_for(
        &self,
        key: &str,
        value: impl IntoPayload,
        ttl: Duration,
    ) -> Result<(), CacheError> {
        self.set_payload(key, value, Some(ttl)).await
    }

    async fn set_payload(
        &self,
        key: &str,
        value: impl IntoPayload,
        ttl: Option<Duration>,
    ) -> Result<(), CacheError> {
        let value = value
            .into_payload()
            .map_err(|error| CacheError::Encode(error.into()))?;
        match &*self.0 {
            CacheBackend::Local(store) => store.set(key, value, ttl).await,
            CacheBackend::Remote(remote) => remote.set(key, value, ttl).await,
        }
    }

    /// Removes `key`. Succeeds if the key is absent.
    ///
    /// # Errors
    ///
    /// Returns [`CacheError`] if the key is reserved for the component, or if the store or the connection to it fails.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the key may be removed or not.
    pub async fn delete(&self, key: &str) -> Result<(), CacheError> {
        match &*self.0 {
            CacheBackend::Local(store) => store.delete(key).await.map(drop),
            CacheBackend::Remote(remote) => remote.delete(key).await,
        }
    }

    /// Sets `key` to `new`, without an expiry, if its value is `expected`. Otherwise returns its value as
    /// [`Swap::Differs`].
    ///
    /// `None` as `expected` stands for an absent key, and `None` as `new` removes the key.
    ///
    /// # Errors
    ///
    /// As [`set`](Self::set), and [`CacheError::Unsupported`] from a service of pylm.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the value may be set or not.
    pub async fn compare_and_set(
        &self,
        key: &str,
        expected: Option<Bytes>,
        new: Option<Bytes>,
    ) -> Result<Swap, CacheError> {
        self.swap(key, expected, new, None).await
    }

    /// Sets `key` to `new` if its value is `expected`, and removes it after `ttl`.
    ///
    /// With `None` as `expected`, this acquires a lock with a lease: only one caller sets the absent key.
    ///
    /// # Errors
    ///
    /// As [`set_for`](Self::set_for).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the value may be set or not.
    pub async fn compare_and_set_for(
        &self,
        key: &str,
        expected: Option<Bytes>,
        new: Bytes,
        ttl: Duration,
    ) -> Result<Swap, CacheError> {
        self.swap(key, expected, Some(new), Some(ttl)).await
    }

    async fn swap(
        &self,
        key: &str,
        expected: Option<Bytes>,
        new: Option<Bytes>,
        ttl: Option<Duration>,
    ) -> Result<Swap, CacheError> {
        match &*self.0 {
            CacheBackend::Local(store) => store.compare_and_set(key, expected, new, ttl).await,
            CacheBackend::Remote(remote) => remote.compare_and_set(key, expected, new, ttl).await,
        }
    }

    /// Adds `amount` to the value of `key`, and returns the sum.
    ///
    /// The value is decimal text, as `i64` prints it. An absent key counts as 0. The time to live does not change.
    ///
    /// # Errors
    ///
    /// Returns [`CacheError::NotANumber`] or [`CacheError::Overflow`], and leaves the value unchanged, if there is no
    /// sum. Other errors are those of [`set`](Self::set), and [`CacheError::Unsupported`] from a service of pylm.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the amount may be added or not.
    pub async fn add(&self, key: &str, amount: i64) -> Result<i64, CacheError> {
        match &*self.0 {
            CacheBackend::Local(store) => store.add(key, amount).await,
            CacheBackend::Remote(remote) => remote.add(key, amount).await,
        }
    }

    /// Returns a stream of the entries whose keys begin with `prefix`, in the byte order of the keys.
    ///
    /// Entries are requested in pages of at most 1000 entries and about 1 MiB. Entries that exist during the whole scan
    /// are found. Entries that are set or deleted meanwhile may be found or not. The component's own keys are not
    /// found. A `RedisStore` returns entries in no order, and may return one twice.
    ///
    /// # Errors
    ///
    /// The stream yields [`CacheError`] and ends if the store or the connection to it fails, or with
    /// [`CacheError::Unsupported`] from a service of pylm.
    pub fn scan(&self, prefix: &str) -> Scan {
        let begin = (self.clone(), prefix.to_owned(), Some(None));
        let pages = stream::try_unfold(begin, |(cache, prefix, after)| async move {
            let Some(after) = after else {
                return Ok::<_, CacheError>(None);
            };
            let page = match &*cache.0 {
                CacheBackend::Local(store) => {
                    store.scan(&prefix, after, PageLimits::default()).await
                }
                CacheBackend::Remote(remote) => remote.scan(&prefix, after).await,
            }?;
            let entries = stream::iter(page.entries.into_iter().map(Ok));
            Ok(Some((entries, (cache, prefix, page.next.map(Some)))))
        });
        Scan(pages.try_flatten().boxed())
    }

    /// Removes all keys that begin with `prefix`, and returns their number. The component's own keys remain, and a key
    /// that is set meanwhile may remain.
    ///
    /// # Errors
    ///
    /// Returns [`CacheError`] if the store or the connection to it fails, when some keys may have been removed, and
    /// [`CacheError::Unsupported`] from a service of pylm.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, all, some or none of the keys may be removed.
    pub async fn delete_prefix(&self, prefix: &str) -> Result<u64, CacheError> {
        match &*self.0 {
            CacheBackend::Local(store) => store.delete_prefix(prefix).await,
            CacheBackend::Remote(remote) => remote.delete_prefix(prefix).await,
        }
    }

    /// Watches the keys that begin with `prefix`. The stream yields every change after this method returns.
    ///
    /// The store keeps the last 4096 changes, up to 8 MiB. A watcher that reads so late that changes of its keys were
    /// dropped receives [`Change::Lagged`] once, and can scan again to find out what it has missed. Over the network,
    /// a watcher also receives it when the component is restarted, and when 1024 other watchers have polled since its
    /// last poll and any change was dropped.
    ///
    /// ```
    /// use palm::{Cache, Change, MemoryStore};
    ///
    /// # #[tokio::main]
    /// # async fn main() -> palm::Result<()> {
    /// let cache = Cache::new(MemoryStore::default());
    /// let mut users = cache.watch("users/").await?;
    /// cache.set("users/1", "Ada").await?;
    /// match users.next().await.transpose()? {
    ///     Some(Change::Set { key, value }) => assert_eq!((&*key, value), ("users/1", "Ada".into())),
    ///     other => panic!("{other:?}"),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns [`CacheError`] if the store or the connection to it fails, and [`CacheError::Unsupported`] if the store
    /// does not report changes or the service is one of pylm. The stream yields later failures, and then continues.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe. Dropping a wait for the stream loses no change.
    pub async fn watch(&self, prefix: &str) -> Result<Watch, CacheError> {
        let cache = self.clone();
        let prefix = prefix.to_owned();
        Ok(Watch(match &*self.0 {
            CacheBackend::Local(store) => {
                let changes = store.changes().await?;
                let begin = (cache, changes.watch(&prefix));
                flatten_batches(stream::unfold(begin, |(cache, mut watcher)| async {
                    let mut changes = watcher.next().await;
                    if let CacheBackend::Local(store) = &*cache.0 {
                        store.retain_visible(&mut changes);
                    }
                    Some((Ok(changes), (cache, watcher)))
                }))
            }
            CacheBackend::Remote(remote) => {
                let begin = (cache, remote.now(&prefix).await?, prefix);
                flatten_batches(stream::unfold(begin, |mut watcher| async {
                    let (cache, cursor, prefix) = &mut watcher;
                    let CacheBackend::Remote(remote) = &*cache.0 else {
                        return None;
                    };
                    let changes = remote.next(prefix, cursor).await;
                    Some((changes, watcher))
                }))
            }
        }))
    }
}

/// Flattens batches of changes.
fn flatten_batches(
    batches: impl futures_core::Stream<Item = Result<Vec<Change>, CacheError>> + Send + 'static,
) -> futures_core::stream::BoxStream<'static, Result<Change, CacheError>> {
    let changes = batches.map(|batch| match batch {
        Ok(changes) => stream::iter(changes).map(Ok).left_stream(),
        Err(error) => stream::iter([Err(error)]).right_stream(),
    });
    changes.flatten().boxed()
}

impl std::fmt::Debug for Cache {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &*self.0 {
            CacheBackend::Local(_) => formatter.write_str("Cache(local)"),
            CacheBackend::Remote(remote) => {
                write!(formatter, "Cache({})", remote.request.address())
            }
        }
    }
}
