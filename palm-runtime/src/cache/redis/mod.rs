//! The store on a Redis or Valkey server, or a cluster of them.
//!
//! `connection` is the way there, `scripts` what changes a key and tells it in one go, `scan` how keys
//! are found, `listen` how changes come back.

mod connection;
mod listen;
mod scan;
mod scripts;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use redis::Client;
use tokio::sync::Mutex;
use tokio_util::task::AbortOnDropHandle;

use self::connection::{Connection, Timeouts};
use super::page::Filling;
use super::store::lifetime;
use super::{CacheError, Changes, KeyValue, OpenStoreError, Page, PageLimits, Position, Swap};

/// How many requests of one scan or deletion are under way at once.
const AT_ONCE: usize = 16;

/// Keeps everything on a Redis or Valkey server (6 or newer), or a cluster of them: for when the memory
/// of one machine is not enough, or several components share their keys. Clones share the connection.
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
/// Whether the server is one of a cluster, it tells itself. Each key has a namespace in front, `palm:`
/// unless [`RedisStoreBuilder::namespace`] says otherwise; whatever else is on the server is not
/// touched. The connection is made again when it breaks.
///
/// A server that hangs makes a request wait for 2 s ([`RedisStoreBuilder::response_timeout`]), and then it ends
/// with [`CacheError::Store`], which names the server. The request may have been carried out.
///
/// What is different from the other stores:
///
/// - A scan gives the keys in no order, and one that is there from the beginning to the end at least
///   once: twice is possible while the server's table grows or shrinks, which is how `SCAN` works.
/// - Watchers are told what is changed through palm, by this store or another one with the same
///   namespace, and not what is changed otherwise. That the time of a key is over is not told. In a
///   cluster, changes of different keys may be told in another order than they happened.
/// - How much there may be is the server's to limit (`maxmemory`). What survives a restart of the server
///   is what it is configured to keep.
/// - A watcher may still be told what happened shortly before it began.
/// - In a cluster, a request whose answer is lost with its connection is sent again. So when a node
///   fails, an [`add`](crate::Cache::add) may count twice, and a compare-and-set that was done be told
///   as [`Swap::Differs`] with the value that it has set.
///
/// It belongs to the runtime on which it was connected: that has to run as long as the store is used.
#[derive(Clone)]
pub struct RedisStore(Arc<Inner>);

struct Inner {
    connection: Connection,
    clients: Vec<Client>,
    namespace: String,
    changes: Changes,
    listener: Mutex<Option<AbortOnDropHandle<()>>>,
}

/// The options of a [`RedisStore`].
#[must_use = "nothing is connected until `.connect().await`"]
#[derive(Clone)]
pub struct RedisStoreBuilder {
    urls: Vec<String>,
    namespace: String,
    timeouts: Timeouts,
}

impl RedisStoreBuilder {
    /// Another node of the cluster, where to begin if the first one is not there.
    pub fn node(mut self, url: impl Into<String>) -> Self {
        self.urls.push(url.into());
        self
    }

    /// What stands in front of each key on the server. Default: `palm:`. Stores with the same namespace
    /// have the same keys; an empty one is for keys that other programs know by their names. A scan of one
    /// namespace finds the keys of others that begin with its name, so end it with a character that no name
    /// contains.
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = namespace.into();
        self
    }

    /// How long a connection to one server may take, until it answers. Default: 2 s.
    pub fn connect_timeout(mut self, limit: Duration) -> Self {
        self.timeouts.connect = limit;
        self
    }

    /// How long a request waits for its answer, also while the connection is made again. Default: 2 s; large
    /// values over a slow network may need more.
    pub fn response_timeout(mut self, limit: Duration) -> Self {
        self.timeouts.response = limit;
        self
    }

    /// Connects to the first server that answers.
    ///
    /// # Errors
    ///
    /// [`OpenStoreError::Open`] when a URL is malformed or a server refuses, and [`OpenStoreError::Timeout`]
    /// when it does not answer within the [`connect_timeout`](Self::connect_timeout). Of several servers, the
    /// error is that of the last one.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes what it had opened.
    pub async fn connect(self) -> Result<RedisStore, OpenStoreError> {
        let (connection, clients) = connection::connect(&self.urls, self.timeouts).await?;
        Ok(RedisStore(Arc::new(Inner {
            connection,
            clients,
            namespace: self.namespace,
            changes: Changes::new(),
            listener: Mutex::default(),
        })))
    }
}

impl RedisStore {
    /// Connects to the server at `url`, such as `redis://10.0.0.7:6379`, with the default options. A
    /// user, a password and the number of the database may be in it, as in
    /// `redis://user:password@10.0.0.7:6379/2`.
    ///
    /// # Errors
    ///
    /// As [`RedisStoreBuilder::connect`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes what it had opened.
    pub async fn connect(url: impl Into<String>) -> Result<Self, OpenStoreError> {
        Self::builder(url).connect().await
    }

    /// A store with options.
    pub fn builder(url: impl Into<String>) -> RedisStoreBuilder {
        RedisStoreBuilder {
            urls: vec![url.into()],
            namespace: "palm:".to_owned(),
            timeouts: Timeouts::default(),
        }
    }

    fn full(&self, key: &str) -> String {
        format!("{}{key}", self.0.namespace)
    }

    fn channel(&self) -> String {
        listen::channel(&self.0.namespace)
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
        // Not the URL, which may have a password in it.
        write!(formatter, "RedisStore({})", self.0.namespace)
    }
}

impl std::fmt::Debug for RedisStoreBuilder {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "RedisStoreBuilder({})", self.namespace)
    }
}

/// A time to live as scripts take it: milliseconds, or nothing.
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
        // As text: a script's numbers have no 64 bits.
        let (sum, refused): (Option<String>, Option<String>) = added?;
        let key = key.to_owned();
        match (sum.and_then(|sum| sum.parse().ok()), refused) {
            (Some(sum), _) => Ok(sum),
            (None, Some(refused)) if refused.contains("overflow") => {
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
        let mut place = scan::Place::after(after.as_ref(), &full_prefix)?;
        let mut page = Filling::new(limits);
        // Some steps of the server find nothing, since they pass over all keys that it has.
        for _ in 0..scan::STEPS {
            if page.is_full() || !place.find_more(&self.0.connection, &pattern).await? {
                break;
            }
            let found = place.take_found();
            let keys = stream::iter(found.clone());
            let values = keys.map(|key| async move { self.get_full(&key).await });
            let mut values = std::pin::pin!(values.buffered(AT_ONCE));
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
            place.put_back(&found[taken..]);
        }
        Ok(page.up_to(place.position()))
    }

    async fn delete_prefix(&self, prefix: &str) -> Result<u64, CacheError> {
        let pattern = scan::pattern(&self.full(prefix));
        let mut place = scan::Place::default();
        let mut deleted = 0;
        while place.find_more(&self.0.connection, &pattern).await? {
            let found = place.take_found();
            let keys = stream::iter(found);
            let deletions = keys.map(|key| async move { self.delete_full(&key).await });
            let mut deletions = std::pin::pin!(deletions.buffer_unordered(AT_ONCE));
            while let Some(was_there) = deletions.try_next().await? {
                deleted += u64::from(was_there);
            }
        }
        Ok(deleted)
    }

    async fn changes(&self) -> Result<Changes, CacheError> {
        let mut listener = self.0.listener.lock().await;
        // It ends only with the runtime that it was begun on.
        if listener
            .as_ref()
            .is_none_or(|listener| listener.is_finished())
        {
            let (clients, namespace) = (self.0.clients.clone(), self.0.namespace.clone());
            let limit = self.0.connection.timeouts().connect;
            let listen = listen::begin(clients, namespace, self.0.changes.clone(), limit);
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

    /// Accepts connections and never answers.
    async fn silent() -> (TcpListener, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        (listener, address)
    }

    #[tokio::test]
    async fn a_server_that_never_answers_is_an_error_within_the_default_timeout() {
        let (_listener, address) = silent().await;
        let begin = std::time::Instant::now();
        let refused = RedisStore::connect(format!("redis://user:secret@{address}")).await;
        let text = format!(
            "Redis at `{address}` did not answer within 2s: check that it runs and that the address is right"
        );
        assert_eq!(chain(&refused.unwrap_err()), text);
        assert!(begin.elapsed() >= Duration::from_secs(2));
    }

    #[tokio::test]
    async fn the_connect_timeout_can_be_set() {
        let (_listener, address) = silent().await;
        let store = RedisStore::builder(format!("redis://{address}"));
        let refused = { store }.connect_timeout(Duration::from_millis(50));
        let refused = refused.connect().await.unwrap_err();
        assert!(
            refused.to_string().contains("did not answer within 50ms"),
            "{refused}"
        );
    }

    #[tokio::test]
    async fn a_time_to_live_of_zero_is_refused() {
        assert!(matches!(
            ttl_text(Some(Duration::ZERO)),
            Err(CacheError::ZeroTtl)
        ));
        assert_eq!(ttl_text(Some(Duration::from_nanos(1))).unwrap(), "1");
        assert_eq!(ttl_text(None).unwrap(), "");
    }
}
