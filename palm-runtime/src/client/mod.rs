//! The client: [`Client`] calls functions, runs jobs and reads the cache of a cluster. Its clones share one
//! connection.
//!
//! Each call has its own topic, the client's id followed by a number, in the field `client` of its message.
//! Subscriptions match by prefix, so the client subscribes to its id once. An answer finds its call by the number
//! in its topic, whichever component sends it.
//!
//! A call passes these modules in this order: [`eval`] or [`job`] encodes the message, [`descriptor_cache`] checks
//! its function, [`routes`] finds the component that answers, [`transport`] sends the frame, and [`in_flight`] hands
//! each answer to the pending call. [`completion`] decides when a call or an input of a job is complete.
//! [`handshake`] sets all of this up.

mod answer_link;
pub mod blocking;
mod builder;
mod cancel;
mod completion;
mod descriptor;
mod descriptor_cache;
mod encode;
mod error;
mod eval;
mod handshake;
mod in_flight;
mod job;
mod layered;
#[cfg(feature = "progress")]
mod progress;
mod routes;
mod sent_call;
mod service;
mod state;
mod transport;
mod wait_report;

pub use builder::{ClientBuilder, ClientOptions};
pub use descriptor::{DescribedFunction, Descriptor};
pub use error::{CallError, ConnectError};
pub use eval::Eval;
use eval::PreparedCall;
pub use job::{Job, Progress};
#[cfg(feature = "progress")]
pub use progress::{WithProgress, progress};
pub use service::ClientService;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use self::state::{ClientState, END_TIMEOUT, FLUSH_TIMEOUT};
use crate::cache::{Cache, CacheError, Scan, Swap, Watch};
use crate::call_service::Layers;
use crate::discovery::IntoAddress;
use crate::failure::BoxError;
use crate::function::{Answer, Argument, IntoSteps};
use crate::message::Headers;
use crate::payload::IntoPayload;

/// A task that reads answers for a client. It is aborted when the handle is dropped.
type Reader = tokio_util::task::AbortOnDropHandle<()>;

/// Calls the functions of a cluster.
///
/// A client is connected to one component, which runs the first step of each call. Clones are cheap and share the
/// connection, and any number of calls can be in flight.
///
/// # Examples
///
/// ```no_run
/// # async fn example() -> palm::Result<()> {
/// use palm::Client;
///
/// let client = Client::connect("server", "tcp://127.0.0.1:5559").await?;
/// let answer = client.eval("server.foo", "a message").await?;
/// let mut job = client.job("server.foo", (0..10).map(|n| n.to_string()));
/// while let Some(answer) = job.next().await {
///     println!("{:?}", answer?);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Client(Arc<ClientState>);

impl Client {
    /// Connects to the component called `server` at `db_address`.
    ///
    /// Waits up to 30 s for the component to start. See [`builder`](Self::builder) for other options.
    ///
    /// # Errors
    ///
    /// [`ConnectError`] if the component does not answer in time, has another name, or cannot be called.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes all connections that it has opened.
    pub async fn connect(
        server: impl Into<String>,
        db_address: impl IntoAddress,
    ) -> Result<Self, ConnectError> {
        Self::builder(server, db_address).connect().await
    }

    /// Creates a builder for a client with options.
    pub fn builder(server: impl Into<String>, db_address: impl IntoAddress) -> ClientBuilder {
        ClientBuilder {
            server: server.into(),
            db_address: db_address.into_address(),
            push_address: None,
            sub_address: None,
            this_config: false,
            answered_by: None,
            options: ClientOptions::default(),
            headers: Headers::new(),
            layers: Layers::default(),
        }
    }

    /// Closes the client and all of its clones.
    ///
    /// Waits at most 5 s until sent messages are acknowledged, and closes its sessions with components. Pending
    /// calls are cancelled; they and later calls fail with [`CallError::Closed`].
    ///
    /// Dropping the last clone does the same in the background. On a `current_thread` runtime that ends immediately
    /// afterwards, the close is not sent, and components keep the session until it expires.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the client is either closed or unchanged.
    pub async fn close(&self) {
        let transport = self.0.transport.clone();
        let _ = tokio::time::timeout(FLUSH_TIMEOUT, transport.delivered()).await;
        if let Some(open) = self.0.end() {
            open.close(transport, END_TIMEOUT).await;
        }
    }

    /// Returns the name of the connected component.
    pub fn server(&self) -> &str {
        &self.0.server
    }

    /// Returns the descriptor of the connected component: its version, kind, addresses and functions.
    ///
    /// Returns `None` if the component is a legacy peer, or if it was not queried
    /// ([`this_config`](ClientBuilder::this_config)).
    pub fn descriptor(&self) -> Option<Descriptor> {
        let descriptor = self.0.known.descriptor()?;
        Some(Descriptor::from_wire(&descriptor))
    }

    /// Calls a function, or several in sequence, with one argument. Awaiting the result returns the answer.
    ///
    /// The types of argument and answer follow from `steps`: a constant that a macro generated, or a [`Route`] of them,
    /// has the types of its methods. A string accepts any payload and returns bytes.
    ///
    /// [`Route`]: crate::Route
    ///
    /// # Errors
    ///
    /// [`CallError`] if `steps` is not of the form `server.function`, the argument cannot be encoded, the function
    /// fails, no answer arrives in time, or the answer cannot be decoded.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future before the answer arrives cancels the call: components discard it if it is queued, and drop
    /// an async method that runs it. A pylm peer still runs it.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # use palm::{Client, Function};
    /// # struct Words;
    /// # impl Words {
    /// #     const COUNT: Function<String, String> = Function::new("words", "count");
    /// #     const SPELL: Function<String, String> = Function::new("spell", "out");
    /// # }
    /// # async fn example(client: Client) -> palm::Result<()> {
    /// let count: String = client.eval(Words::COUNT, "one two three").await?;
    /// let spelt: String = client.eval(Words::COUNT.then(Words::SPELL), "one two three").await?;
    /// let bytes = client.eval("words.count", "one two three").await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn eval<S: IntoSteps<Output: Answer<Value = V>>, V>(
        &self,
        steps: S,
        argument: impl Argument<S::Input>,
    ) -> Eval<'_, V> {
        self.eval_with(steps, argument, S::Output::read)
    }

    /// Like [`eval`](Self::eval), with the function that decodes the answer. For expansions of macros.
    #[doc(hidden)]
    pub fn eval_with<S: IntoSteps, V>(
        &self,
        steps: S,
        argument: impl Argument<S::Input>,
        read: fn(Bytes) -> Result<V, BoxError>,
    ) -> Eval<'_, V> {
        Eval::new(PreparedCall::new(self, steps, argument), read)
    }

    /// Calls a function, or several in sequence, with each of many arguments. Returns the answers as a stream.
    ///
    /// Answers arrive in the order in which calls complete, while further arguments are sent. The job ends when all
    /// arguments are complete; if that cannot be known, set the number of answers with [`Job::expect_answers`]. A
    /// call that fails is one of the answers ([`CallError::Remote`]), and the job continues. An argument that cannot
    /// be sent ends the job.
    pub fn job<'a, S: IntoSteps<Input: 'a, Output: Answer<Value = V>>, I, V>(
        &self,
        steps: S,
        arguments: I,
    ) -> Job<'a, V>
    where
        I: IntoIterator<Item: Argument<S::Input>, IntoIter: Send + 'a>,
    {
        self.job_stream(steps, futures_util::stream::iter(arguments))
    }

    /// Runs a [`job`](Self::job) whose arguments are a stream.
    pub fn job_stream<'a, S: IntoSteps<Input: 'a, Output: Answer<Value = V>>, A, V>(
        &self,
        steps: S,
        arguments: A,
    ) -> Job<'a, V>
    where
        A: futures_core::Stream<Item: Argument<S::Input>> + Send + 'a,
    {
        Job::new(self.clone(), steps, arguments, S::Output::read)
    }

    /// Like [`job`](Self::job), with the function that decodes the answers. For expansions of macros.
    #[doc(hidden)]
    pub fn job_with<'a, S: IntoSteps<Input: 'a>, I, V>(
        &self,
        steps: S,
        arguments: I,
        read: fn(Bytes) -> Result<V, BoxError>,
    ) -> Job<'a, V>
    where
        I: IntoIterator<Item: Argument<S::Input>, IntoIter: Send + 'a>,
    {
        let arguments = futures_util::stream::iter(arguments);
        Job::new(self.clone(), steps, arguments, read)
    }

    /// Calls a function without waiting for an answer.
    ///
    /// Use this for functions that return nothing. When it returns, the message has been queued on the connection.
    ///
    /// # Errors
    ///
    /// [`CallError`] if `steps` is not of the form `server.function`, the function is unknown, the argument cannot be
    /// encoded, or the message cannot be queued within the client's [`timeout`](ClientBuilder::timeout).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the message may or may not be sent.
    pub async fn send<S: IntoSteps>(
        &self,
        steps: S,
        argument: impl Argument<S::Input>,
    ) -> Result<(), CallError> {
        PreparedCall::new(self, steps, argument).send().await
    }

    /// Returns the cache of the connected component. Keys have the prefix of the [`session`](ClientBuilder::session),
    /// if one is set.
    pub fn cache(&self) -> &Cache {
        &self.0.cache
    }

    /// Returns the value of `key` in the component's cache; see [`Cache::get`].
    ///
    /// # Errors
    ///
    /// [`CacheError`] if the cache service does not answer.
    pub async fn get(&self, key: &str) -> Result<Option<Bytes>, CacheError> {
        self.0.cache.get(key).await
    }

    /// Sets `key` in the component's cache; see [`Cache::set`].
    ///
    /// # Errors
    ///
    /// [`CacheError`] if the cache service rejects the request or does not answer.
    pub async fn set(&self, key: &str, value: impl IntoPayload) -> Result<(), CacheError> {
        self.0.cache.set(key, value).await
    }

    /// Deletes `key` from the component's cache; see [`Cache::delete`].
    ///
    /// # Errors
    ///
    /// [`CacheError`] if the cache service rejects the request or does not answer.
    pub async fn delete(&self, key: &str) -> Result<(), CacheError> {
        self.0.cache.delete(key).await
    }

    /// Sets `key` in the component's cache with a time to live; see [`Cache::set_for`].
    ///
    /// # Errors
    ///
    /// [`CacheError`] if the cache service rejects or does not support the request, or does not answer.
    pub async fn set_for(
        &self,
        key: &str,
        value: impl IntoPayload,
        ttl: Duration,
    ) -> Result<(), CacheError> {
        self.0.cache.set_for(key, value, ttl).await
    }

    /// Sets or deletes `key` in the component's cache if it has the expected value; see [`Cache::compare_and_set`].
    ///
    /// # Errors
    ///
    /// [`CacheError`] if the cache service rejects or does not support the request, or does not answer.
    pub async fn compare_and_set(
        &self,
        key: &str,
        expected: Option<Bytes>,
        new: Option<Bytes>,
    ) -> Result<Swap, CacheError> {
        self.0.cache.compare_and_set(key, expected, new).await
    }

    /// Like [`compare_and_set`](Self::compare_and_set), with a time to live; see [`Cache::compare_and_set_for`].
    ///
    /// # Errors
    ///
    /// [`CacheError`] if the cache service rejects or does not support the request, or does not answer.
    pub async fn compare_and_set_for(
        &self,
        key: &str,
        expected: Option<Bytes>,
        new: Bytes,
        ttl: Duration,
    ) -> Result<Swap, CacheError> {
        let cache = &self.0.cache;
        cache.compare_and_set_for(key, expected, new, ttl).await
    }

    /// Adds `amount` to a number in the component's cache and returns the sum; see [`Cache::add`].
    ///
    /// # Errors
    ///
    /// [`CacheError`] if the value is not an integer, or if the cache service rejects or does not support the
    /// request, or does not answer.
    pub async fn add(&self, key: &str, amount: i64) -> Result<i64, CacheError> {
        self.0.cache.add(key, amount).await
    }

    /// Returns the entries of the component's cache whose keys start with `prefix`; see [`Cache::scan`].
    pub fn scan(&self, prefix: &str) -> Scan {
        self.0.cache.scan(prefix)
    }

    /// Deletes the keys that start with `prefix` and returns their number; see [`Cache::delete_prefix`].
    ///
    /// # Errors
    ///
    /// [`CacheError`] if the cache service rejects or does not support the request, or does not answer.
    pub async fn delete_prefix(&self, prefix: &str) -> Result<u64, CacheError> {
        self.0.cache.delete_prefix(prefix).await
    }

    /// Watches the keys that start with `prefix` for changes; see [`Cache::watch`].
    ///
    /// # Errors
    ///
    /// [`CacheError`] if the cache service does not support the request or does not answer.
    pub async fn watch(&self, prefix: &str) -> Result<Watch, CacheError> {
        self.0.cache.watch(prefix).await
    }
}
