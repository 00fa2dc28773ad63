//! [`Cache`]: the store as methods and clients use it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt, TryStreamExt};

use super::remote::{Dialect, Remote};
use super::session::Session;
use super::{
    CacheError, CacheLimits, Change, ComponentStore, KeyValue, PageLimits, Scan, Swap, Watch,
};
use crate::payload::IntoPayload;
use crate::socket::Request;

/// A component's cache, in this process or behind its `db_address`.
///
/// Every method waits for the answer; over the network it asks again when none comes, and gives up
/// after a while ([`CacheError::Timeout`]). A request that comes again is carried out once: the
/// service remembers those of the last two minutes that may not be repeated, up to 100 000, unless it
/// is restarted in between.
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
pub struct Cache(Arc<Place>);

enum Place {
    Here(Arc<ComponentStore>),
    There(Remote),
}

impl Cache {
    /// A store without a component around it, with the default [`CacheLimits`]: for tests, or for
    /// several components of one program that share it.
    pub fn new(store: impl KeyValue) -> Self {
        let limits = CacheLimits::default();
        Self::here(Arc::new(ComponentStore::new(Arc::new(store), limits)))
    }

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
            session: Session::new(session),
            dialect: Dialect::default(),
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

    /// Sets `key` to `value`, for good.
    ///
    /// # Errors
    ///
    /// [`CacheError`] when it is too large, when the key is empty or one of the component's own, or when the
    /// store or the way to it fails.
    ///
    /// # Cancel safety
    ///
    /// The value may be set or not.
    pub async fn set(&self, key: &str, value: impl IntoPayload) -> Result<(), CacheError> {
        self.set_payload(key, value, None).await
    }

    /// Sets `key` to `value` for the time `ttl`, and then removes it. Stores count in milliseconds;
    /// less than one counts as one, and more than a hundred years as a hundred.
    ///
    /// # Errors
    ///
    /// As [`set`](Self::set), [`CacheError::ZeroTtl`] when `ttl` is zero, and [`CacheError::Unsupported`] from a service of pylm.
    ///
    /// # Cancel safety
    ///
    /// The value may be set or not.
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
            Place::Here(store) => store.set(key, value, ttl).await,
            Place::There(remote) => remote.set(key, value, ttl).await,
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
            Place::Here(store) => store.delete(key).await.map(drop),
            Place::There(remote) => remote.delete(key).await,
        }
    }

    /// Sets `key` to `new`, for good, if its value is `expected`; tells its value if it is another.
    /// `None` as `expected` means that the key has to be absent, as `new` that it is removed.
    ///
    /// # Errors
    ///
    /// As [`set`](Self::set), and [`CacheError::Unsupported`] from a service of pylm.
    ///
    /// # Cancel safety
    ///
    /// The value may be set or not.
    pub async fn compare_and_set(
        &self,
        key: &str,
        expected: Option<Bytes>,
        new: Option<Bytes>,
    ) -> Result<Swap, CacheError> {
        self.swap(key, expected, new, None).await
    }

    /// [`compare_and_set`](Self::compare_and_set) for the time `ttl`, as in
    /// [`set_for`](Self::set_for): who sets a key that has to be absent holds it for so long.
    ///
    /// # Errors
    ///
    /// As [`set_for`](Self::set_for).
    ///
    /// # Cancel safety
    ///
    /// The value may be set or not.
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
            Place::Here(store) => store.compare_and_set(key, expected, new, ttl).await,
            Place::There(remote) => remote.compare_and_set(key, expected, new, ttl).await,
        }
    }

    /// Adds `amount` to the number that is the value of `key`, and tells the sum. An absent key counts
    /// as 0. The number is decimal text, as `i64` prints it; a time to live stays as it is.
    ///
    /// # Errors
    ///
    /// [`CacheError::NotANumber`] and [`CacheError::Overflow`], and then the value is as it was;
    /// otherwise as [`set_for`](Self::set_for).
    ///
    /// # Cancel safety
    ///
    /// The amount may be added or not.
    pub async fn add(&self, key: &str, amount: i64) -> Result<i64, CacheError> {
        match &*self.0 {
            Place::Here(store) => store.add(key, amount).await,
            Place::There(remote) => remote.add(key, amount).await,
        }
    }

    /// The entries whose keys begin with `prefix`, in the order of the keys' bytes (from a `RedisStore` in
    /// none, and one may come twice).
    ///
    /// They come in pages of at most 1000 entries, and about 1 MiB. What is there from the beginning to
    /// the end is found; what is set or deleted meanwhile may be found or not. The component's own
    /// keys are not. After an error the stream ends.
    ///
    /// # Errors
    ///
    /// [`CacheError`] when the store or the way to it fails, and [`CacheError::Unsupported`] from a
    /// service of pylm.
    pub fn scan(&self, prefix: &str) -> Scan {
        let begin = (self.clone(), prefix.to_owned(), Some(None));
        let pages = stream::try_unfold(begin, |(cache, prefix, after)| async move {
            let Some(after) = after else {
                return Ok::<_, CacheError>(None);
            };
            let page = match &*cache.0 {
                Place::Here(store) => store.scan(&prefix, after, PageLimits::default()).await,
                Place::There(remote) => remote.scan(&prefix, after).await,
            }?;
            let entries = stream::iter(page.entries.into_iter().map(Ok));
            Ok(Some((entries, (cache, prefix, page.next.map(Some)))))
        });
        Scan(pages.try_flatten().boxed())
    }

    /// Removes all keys that begin with `prefix`, and tells how many there were. The component's own
    /// keys stay, and one that is set meanwhile may stay.
    ///
    /// # Errors
    ///
    /// [`CacheError`] when the store or the way to it fails, and then some may be removed; and
    /// [`CacheError::Unsupported`] from a service of pylm.
    ///
    /// # Cancel safety
    ///
    /// All, some or none may be removed.
    pub async fn delete_prefix(&self, prefix: &str) -> Result<u64, CacheError> {
        match &*self.0 {
            Place::Here(store) => store.delete_prefix(prefix).await,
            Place::There(remote) => remote.delete_prefix(prefix).await,
        }
    }

    /// Tells what happens to the keys that begin with `prefix`, from when this returns on.
    ///
    /// The store keeps the last 4096 changes, up to 8 MiB. A watcher that comes so late that changes of its
    /// keys were dropped is told [`Change::Lagged`] once, and scans again if it wants to know what it has
    /// missed. Over the network that also happens when the component is restarted, and to a watcher that does
    /// not ask while 1024 others do, whatever was dropped.
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
    /// [`CacheError`] when the store or the way to it fails, here or in the stream, which then goes on;
    /// and [`CacheError::Unsupported`] when the store, or a service of pylm, cannot tell.
    ///
    /// # Cancel safety
    ///
    /// Nothing is changed. Of the stream, no change is lost by giving up the wait for it.
    pub async fn watch(&self, prefix: &str) -> Result<Watch, CacheError> {
        let cache = self.clone();
        let prefix = prefix.to_owned();
        Ok(Watch(match &*self.0 {
            Place::Here(store) => {
                let changes = store.changes().await?;
                let begin = (cache, changes.watch(&prefix));
                told(stream::unfold(begin, |(cache, mut watcher)| async {
                    let mut told = watcher.next().await;
                    if let Place::Here(store) = &*cache.0 {
                        store.retain_visible(&mut told);
                    }
                    Some((Ok(told), (cache, watcher)))
                }))
            }
            Place::There(remote) => {
                let begin = (cache, remote.now(&prefix).await?, prefix);
                told(stream::unfold(begin, |mut watcher| async {
                    let (cache, cursor, prefix) = &mut watcher;
                    let Place::There(remote) = &*cache.0 else {
                        return None;
                    };
                    let told = remote.next(prefix, cursor).await;
                    Some((told, watcher))
                }))
            }
        }))
    }
}

/// Changes one by one.
fn told(
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
            Place::Here(_) => formatter.write_str("Cache(here)"),
            Place::There(remote) => write!(formatter, "Cache({})", remote.request.address()),
        }
    }
}
