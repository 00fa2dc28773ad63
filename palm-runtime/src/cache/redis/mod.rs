//! [`RedisStore`]: a store on a Redis or Valkey server or cluster.
//!
//! `connection` sends requests with a timeout, `scripts` are the Lua scripts that change a key and publish the change
//! atomically, `scan` finds keys by prefix across the nodes of a cluster, and `change_feed` subscribes to the published
//! changes.

mod change_feed;
mod connection;
mod scan;
mod scripts;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use redis::Client;
use tokio::sync::Mutex;
use tokio_util::task::AbortOnDropHandle;

use self::connection::{RedisConnection, RedisTimeouts};
use super::page::PageBuilder;
use super::store::lifetime;
use super::{CacheError, ChangeLog, KeyValue, OpenStoreError, Page, PageLimits, Position, Swap};

/// Concurrent requests of one scan or deletion.
const MAX_CONCURRENT_REQUESTS: usize = 16;

/// Keeps entries on a Redis or Valkey server or cluster (version 6 or newer). Use it if the memory of one machine is not
/// enough, or if several components share keys. Clones share the connection.
///
/// ```no_run
/// # async fn example() -> palm::Result<()> {
/// use palm::{Bind, Master, RedisStore};
///
/// let store = RedisStore::connect("redis://10.0.0.7:6379").await?;
/// Master::new("images").bind("tcp://127.0.0.1:5559").cache(store).start().await
/// # }
/// ```
///
/// Whether the server belongs to a cluster is detected. Each key has a namespace as its prefix, by default `palm:`
/// ([`RedisStoreBuilder::namespace`]). Other keys of the server are not touched. A broken connection is reopened.
///
/// If the server hangs, a request fails after 2 s ([`RedisStoreBuilder::response_timeout`]) with [`CacheError::Store`],
/// which names the server. The request may have been performed.
///
/// Differences from the other stores:
///
/// - A scan returns keys in no order. A key that exists during the whole scan is returned at least once, and twice if
///   the server resizes its hash table meanwhile, as `SCAN` does.
/// - Watchers receive only changes made through palm, by a store with the same namespace. They do not receive
///   expiries. In a cluster, changes of different keys may be reported in another order than they happened.
/// - A watcher may receive changes that happened shortly before it began.
/// - The server limits the memory (`maxmemory`), and its configuration decides which entries survive a restart.
/// - In a cluster, a request whose connection breaks before the answer is sent again. So when a node fails, an
///   [`add`](crate::Cache::add) may count twice, and a successful compare-and-set may return [`Swap::Differs`] with the
///   value that it has set.
///
/// The store uses the tokio runtime on which it was connected, which has to outlive it.
#[derive(Clone)]
pub struct RedisStore(Arc<RedisStoreInner>);

struct RedisStoreInner {
    connection: RedisConnection,
    clients: Vec<Client>,
    namespace: String,
    changes: ChangeLog,
    listener: Mutex<Option<AbortOnDropHandle<()>>>,
}

/// Builds a [`RedisStore`]. Created by [`RedisStore::builder`].
#[must_use = "nothing is connected until `.connect().await`"]
#[derive(Clone)]
pub struct RedisStoreBuilder {
    urls: Vec<String>,
    namespace: String,
    timeouts: RedisTimeouts,
}

impl RedisStoreBuilder {
    /// Adds a node of the cluster, to connect to if the first one is not available.
    pub fn node(mut self, url: impl Into<String>) -> Self {
        self.urls.push(url.into());
        self
    }

    /// Sets the prefix of each key on the server. Default: `palm:`.
    ///
    /// Stores with the same namespace share their keys. Use an empty namespace to share keys with other programs. A scan
    /// also finds keys of namespaces that begin with this one, so end it with a character that no namespace contains.
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = namespace.into();
        self
    }

    /// Sets the time within which a server has to accept a connection and answer over it. Default: 2 s.
    pub fn connect_timeout(mut self, limit: Duration) -> Self {
        self.timeouts.connect = limit;
        self
    }

    /// Sets the time that a request waits for its answer, including the time to reopen the connection. Default: 2 s.
    /// Large values over a slow network may need more.
    pub fn response_timeout(mut self, limit: Duration) -> Self {
        self.timeouts.response = limit;
        self
    }

    /// Connects to the first server that answers.
    ///
    /// # Errors
    ///
    /// Returns [`OpenStoreError::Open`] if a URL is malformed or the server rejects the connection, and
    /// [`OpenStoreError::Timeout`] if it does not answer within [`connect_timeout`](Self::connect_timeout). If there are
    /// several servers, the error is that of the last one.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes its connections.
    pub async fn connect(self) -> Result<RedisStore, OpenStoreError> {
        let (connection, clients) = connection::connect(&self.urls, self.timeouts).await?;
        Ok(RedisStore(Arc::new(RedisStoreInner {
            connection,
            clients,
            namespace: self.namespace,
            changes: ChangeLog::new(),
            listener: Mutex::default(),
        })))
    }
}

impl RedisStore {
    /// Connects to the server at `url` with the default options.
    ///
    /// A URL is `redis://10.0.0.7:6379`, or, with a user, a password and the number of a database,
    /// `redis://user:password@10.0.0.7:6379/2`.
    ///
    /// # Errors
    ///
    /// As [`RedisStoreBuilder::connect`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes its connections.
    pub async fn connect(url: impl Into<String>) -> Result<Self, OpenStoreError> {
        Self::builder(url).connect().await
    }

    /// Returns a builder, to set options.
    pub fn builder(url: impl Into<String>) -> RedisStoreBuilder {
        RedisStoreBuilder {
            urls: vec![url.into()],
            namespace: "palm:".to_owned(),
            timeouts: RedisTimeouts::default(),
        }
    }

    fn full(&self, key: &str) -> String {
        format!("{}{key}", self.0.namespace)
    }

    fn channel(&self) -> String {
        change_feed::channel(&self.0.namespace)
    }

    async fn delete_full(&self, full_key: &str) -> Result<bool, CacheError> {
        let mut invocation = scripts::DELETE.key(full_key);
        invocation.arg(self.channel());
        Ok(self.0.connection.invoke(&invocation).await?)
    }

    async fn get_full(&self, full_key: &str) -> Result<Option<Bytes>, CacheError> {
        let mut get = redis::cmd("GET");
        get.arg(full_key);
        Ok(self.0.connection.query(&get).await?)
    }
}

impl std::fmt::Debug for RedisStore {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The URL may contain a password.
        write!(formatter, "RedisStore({})", self.0.namespace)
    }
}

impl std::fmt::Debug for RedisStoreBuilder {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "RedisStoreBuilder({})", self.namespace)
    }
}

/// Formats a time to live for the scripts: milliseconds, or an empty text.
fn ttl_text(ttl: Option<Duration>) -> Result<String, CacheError> {
    let ms = |ttl: Duration| ttl.as_micros().div_ceil(1000).to_string();
    Ok(lifetime(ttl)?.map(ms).unwrap_or_default())
}

impl KeyValue for RedisStore {
    async fn get(&self, key: &str) -> Result<Option<Bytes>, CacheError> {
        self.get_full(&self.full(key)).await
    }

    async fn set(&self, key: &str, value: Bytes, ttl: Option<Duration>) -> Result<(), CacheError> {
        let mut invocation = scripts::SET.key(self.full(key));
        invocation.arg(self.channel()).arg(&value[..]);
        invocation.arg(ttl_text(ttl)?);
        Ok(self.0.connection.invoke(&invocation).await?)
    }

    async fn delete(&self, key: &str) -> Result<bool, CacheError> {
        self.delete_full(&self.full(key)).await
    }

    async fn compare_and_set(
        &self,
        key: &str,
        expected: Option<Bytes>,
        new: Option<Bytes>,
        ttl: Option<Duration>,
    ) -> Result<Swap, CacheError> {
        let mut invocation = scripts::COMPARE_AND_SET.key(self.full(key));
        invocation.arg(self.channel());
        for value in [&expected, &new] {
            invocation.arg(i32::from(value.is_some()));
            invocation.arg(value.as_deref().unwrap_or_default());
        }
        invocation.arg(ttl_text(ttl)?);
        let swapped = self.0.connection.invoke(&invocation).await;
        let (is_done, current): (bool, Option<Bytes>) = swapped?;
        Ok(match is_done {
            true => Swap::Done,
            false => Swap::Differs { current },
        })
    }

    async fn add(&self, key: &str, amount: i64) -> Result<i64, CacheError> {
        let mut invocation = scripts::ADD.key(self.full(key));
        invocation.arg(self.channel()).arg(amount);
        let added = self.0.connection.invoke(&invocation).await;
        // As text, because numbers in Lua do not have 64 bits.
        let (sum, rejected): (Option<String>, Option<String>) = added?;
        let key = key.to_owned();
        match (sum.and_then(|sum| sum.parse().ok()), rejected) {
            (Some(sum), _) => Ok(sum),
            (None, Some(rejected)) if rejected.contains("overflow") => {
                Err(CacheError::Overflow { key })
            }
            _ => Err(CacheError::NotANumber { key }),
        }
    }

    async fn scan(
        &self,
        prefix: &str,
        after: Option<Position>,
        limits: PageLimits,
    ) -> Result<Page, CacheError> {
        let full_prefix = self.full(prefix);
        let pattern = scan::pattern(&full_prefix);
        let mut cursor = scan::ScanCursor::after(after.as_ref(), &full_prefix)?;
        let mut page = PageBuilder::new(limits);
        // `SCAN` steps through all keys of the server, so a step may find none with the prefix.
        for _ in 0..scan::MAX_STEPS {
            if page.is_full() || !cursor.find_more(&self.0.connection, &pattern).await? {
                break;
            }
            let found = cursor.take_found();
            let keys = stream::iter(found.clone());
            let values = keys.map(|key| async move { self.get_full(&key).await });
            let mut values = std::pin::pin!(values.buffered(MAX_CONCURRENT_REQUESTS));
            let mut taken = 0;
            while !page.is_full()
                && let Some(value) = values.try_next().await?
            {
                let key = found[taken].strip_prefix(&self.0.namespace);
                if let (Some(key), Some(value)) = (key, value) {
                    page.push(key, value);
                }
                taken += 1;
            }
            cursor.put_back(&found[taken..]);
        }
        Ok(page.up_to(cursor.position()))
    }

    async fn delete_prefix(&self, prefix: &str) -> Result<u64, CacheError> {
        let pattern = scan::pattern(&self.full(prefix));
        let mut cursor = scan::ScanCursor::default();
        let mut deleted = 0;
        while cursor.find_more(&self.0.connection, &pattern).await? {
            let found = cursor.take_found();
            let keys = stream::iter(found);
            let deletions = keys.map(|key| async move { self.delete_full(&key).await });
            let mut deletions = std::pin::pin!(deletions.buffer_unordered(MAX_CONCURRENT_REQUESTS));
            while let Some(was_there) = deletions.try_next().await? {
                deleted += u64::from(was_there);
            }
        }
        Ok(deleted)
    }

    async fn changes(&self) -> Result<ChangeLog, CacheError> {
        let mut listener = self.0.listener.lock().await;
        // The task ends only with the runtime on which it was spawned.
        if listener
            .as_ref()
            .is_none_or(|listener| listener.is_finished())
        {
            let (clients, namespace) = (self.0.clients.clone(), self.0.namespace.clone());
            let limit = self.0.connection.timeouts().connect;
            let listen = change_feed::begin(clients, namespace, self.0.changes.clone(), limit);
            let listen = listen.await;
            let listen = listen.map_err(|error| self.0.connection.failed(error))?;
            if listener.is_some() {
                self.0.changes.record_gap();
            }
            *listener = Some(AbortOnDropHandle::new(tokio::spawn(listen)));
        }
        Ok(self.0.changes.clone())
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;
    use crate::failure::chain;

    /// Binds a listener that accepts connections and never answers.
    async fn silent() -> (TcpListener, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        (listener, address)
    }

    #[tokio::test]
    async fn connect_to_a_silent_server_fails_after_the_default_timeout() {
        let (_listener, address) = silent().await;
        let begin = std::time::Instant::now();
        let rejected = RedisStore::connect(format!("redis://user:secret@{address}")).await;
        let text = format!(
            "Redis at `{address}` did not answer within 2s: check that it runs and that the address is right"
        );
        assert_eq!(chain(&rejected.unwrap_err()), text);
        assert!(begin.elapsed() >= Duration::from_secs(2));
    }

    #[tokio::test]
    async fn connect_timeout_can_be_set() {
        let (_listener, address) = silent().await;
        let store = RedisStore::builder(format!("redis://{address}"));
        let rejected = { store }.connect_timeout(Duration::from_millis(50));
        let rejected = rejected.connect().await.unwrap_err();
        assert!(
            rejected.to_string().contains("did not answer within 50ms"),
            "{rejected}"
        );
    }

    #[tokio::test]
    async fn time_to_live_of_zero_is_rejected_and_others_are_rounded_up() {
        assert!(matches!(
            ttl_text(Some(Duration::ZERO)),
            Err(CacheError::ZeroTtl)
        ));
        assert_eq!(ttl_text(Some(Duration::from_nanos(1))).unwrap(), "1");
        assert_eq!(ttl_text(None).unwrap(), "");
    }
}
