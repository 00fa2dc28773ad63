//! The client for programs without async.
//!
//! # Examples
//!
//! ```no_run
//! # fn example() -> palm::Result<()> {
//! use palm::blocking::Client;
//!
//! let client = Client::connect("server", "tcp://127.0.0.1:5559")?;
//! println!("{:?}", client.eval("server.foo", "a message")?);
//! for answer in client.job("server.foo", ["one", "two"]) {
//!     println!("{:?}", answer?);
//! }
//! # Ok(())
//! # }
//! ```

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_core::stream::BoxStream;
use futures_util::StreamExt;
use tokio::runtime::Runtime;

use super::{CallError, ClientBuilder, ConnectError};
use crate::cache::{CacheError, Change, Entry, Swap};
use crate::discovery::IntoAddress;
use crate::function::{Answer, Argument, IntoSteps};
use crate::payload::IntoPayload;
use crate::socket::SocketError;

/// Calls the functions of a cluster, and blocks the thread until they return.
///
/// Clones are cheap and share the connection, which runs on one thread of its own.
///
/// # Panics
///
/// All methods panic within async code.
#[derive(Debug, Clone)]
pub struct Client {
    client: super::Client,
    runtime: Arc<Runtime>,
}

impl Client {
    /// Connects to the component called `server` at `db_address`.
    ///
    /// Waits up to 30 s for the component to start.
    ///
    /// # Errors
    ///
    /// [`ConnectError`] if the component does not answer in time, has another name, or cannot be called.
    pub fn connect(
        server: impl Into<String>,
        db_address: impl IntoAddress,
    ) -> Result<Self, ConnectError> {
        Self::with(super::Client::builder(server, db_address))
    }

    /// Connects with the options of [`crate::Client::builder`].
    ///
    /// # Errors
    ///
    /// [`ConnectError`] if the component does not answer in time, has another name, or cannot be called.
    pub fn with(builder: ClientBuilder) -> Result<Self, ConnectError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("palm-client")
            .enable_all()
            .build()
            .map_err(|source| SocketError::Runtime { source })?;
        let client = wait_for(&runtime, builder.connect())?;
        Ok(Self {
            client,
            runtime: Arc::new(runtime),
        })
    }

    /// Calls a function, or several in sequence, with one argument, and returns the answer; see
    /// [`crate::Client::eval`].
    ///
    /// # Errors
    ///
    /// [`CallError`] if `steps` is not of the form `server.function`, the argument cannot be encoded, the function
    /// fails, no answer arrives in time, or the answer cannot be decoded.
    pub fn eval<S: IntoSteps<Output: Answer<Value = V>>, V>(
        &self,
        steps: S,
        argument: impl Argument<S::Input>,
    ) -> Result<V, CallError> {
        let eval = self.client.eval(steps, argument).into_future();
        wait_for(&self.runtime, eval)
    }

    /// Like [`eval`](Self::eval), with a timeout for this call.
    ///
    /// # Errors
    ///
    /// Those of [`eval`](Self::eval).
    pub fn eval_timeout<S: IntoSteps<Output: Answer<Value = V>>, V>(
        &self,
        steps: S,
        argument: impl Argument<S::Input>,
        timeout: Duration,
    ) -> Result<V, CallError> {
        let eval = self.client.eval(steps, argument).timeout(timeout);
        wait_for(&self.runtime, eval.into_future())
    }

    /// Calls a function without waiting for an answer; see [`crate::Client::send`].
    ///
    /// # Errors
    ///
    /// [`CallError`] if `steps` is not of the form `server.function`, the function is unknown, the argument cannot be
    /// encoded, or the message cannot be queued in time.
    pub fn send<S: IntoSteps>(
        &self,
        steps: S,
        argument: impl Argument<S::Input>,
    ) -> Result<(), CallError> {
        wait_for(&self.runtime, self.client.send(steps, argument))
    }

    /// Calls a function, or several in sequence, with each of many arguments. Returns the answers as an iterator; see
    /// [`crate::Client::job`].
    pub fn job<'a, S: IntoSteps<Input: 'a, Output: Answer<Value = V>>, I, V>(
        &self,
        steps: S,
        arguments: I,
    ) -> Job<'a, V>
    where
        I: IntoIterator<Item: Argument<S::Input>, IntoIter: Send + 'a>,
    {
        let _context = self.runtime.enter();
        Job {
            job: self.client.job(steps, arguments),
            runtime: self.runtime.clone(),
        }
    }

    /// Closes the client and all of its clones; see [`crate::Client::close`].
    pub fn close(&self) {
        wait_for(&self.runtime, self.client.close());
    }

    /// Returns the value of `key` in the component's cache; see [`crate::Cache::get`].
    ///
    /// # Errors
    ///
    /// [`CacheError`] if the cache service does not answer.
    pub fn get(&self, key: &str) -> Result<Option<Bytes>, CacheError> {
        wait_for(&self.runtime, self.client.get(key))
    }

    /// Sets `key` in the component's cache; see [`crate::Cache::set`].
    ///
    /// # Errors
    ///
    /// [`CacheError`] if the cache service rejects the request or does not answer.
    pub fn set(&self, key: &str, value: impl IntoPayload) -> Result<(), CacheError> {
        wait_for(&self.runtime, self.client.set(key, value))
    }

    /// Deletes `key` from the component's cache; see [`crate::Cache::delete`].
    ///
    /// # Errors
    ///
    /// [`CacheError`] if the cache service rejects the request or does not answer.
    pub fn delete(&self, key: &str) -> Result<(), CacheError> {
        wait_for(&self.runtime, self.client.delete(key))
    }

    /// Sets `key` in the component's cache with a time to live; see [`crate::Cache::set_for`].
    ///
    /// # Errors
    ///
    /// [`CacheError`] if the cache service rejects or does not support the request, or does not answer.
    pub fn set_for(
        &self,
        key: &str,
        value: impl IntoPayload,
        ttl: Duration,
    ) -> Result<(), CacheError> {
        wait_for(&self.runtime, self.client.set_for(key, value, ttl))
    }

    /// Sets or deletes `key` in the component's cache if it has the expected value; see
    /// [`crate::Cache::compare_and_set`].
    ///
    /// # Errors
    ///
    /// [`CacheError`] if the cache service rejects or does not support the request, or does not answer.
    pub fn compare_and_set(
        &self,
        key: &str,
        expected: Option<Bytes>,
        new: Option<Bytes>,
    ) -> Result<Swap, CacheError> {
        let swap = self.client.compare_and_set(key, expected, new);
        wait_for(&self.runtime, swap)
    }

    /// Like [`compare_and_set`](Self::compare_and_set), with a time to live; see [`crate::Cache::compare_and_set_for`].
    ///
    /// # Errors
    ///
    /// [`CacheError`] if the cache service rejects or does not support the request, or does not answer.
    pub fn compare_and_set_for(
        &self,
        key: &str,
        expected: Option<Bytes>,
        new: Bytes,
        ttl: Duration,
    ) -> Result<Swap, CacheError> {
        let swap = self.client.compare_and_set_for(key, expected, new, ttl);
        wait_for(&self.runtime, swap)
    }

    /// Adds `amount` to a number in the component's cache and returns the sum; see [`crate::Cache::add`].
    ///
    /// # Errors
    ///
    /// [`CacheError`] if the value is not an integer, or if the cache service rejects or does not support the
    /// request, or does not answer.
    pub fn add(&self, key: &str, amount: i64) -> Result<i64, CacheError> {
        wait_for(&self.runtime, self.client.add(key, amount))
    }

    /// Returns the entries of the component's cache whose keys start with `prefix`; see [`crate::Cache::scan`].
    pub fn scan(&self, prefix: &str) -> Items<Entry> {
        self.items(self.client.scan(prefix).boxed())
    }

    /// Deletes the keys that start with `prefix` and returns their number; see [`crate::Cache::delete_prefix`].
    ///
    /// # Errors
    ///
    /// [`CacheError`] if the cache service rejects or does not support the request, or does not answer.
    pub fn delete_prefix(&self, prefix: &str) -> Result<u64, CacheError> {
        wait_for(&self.runtime, self.client.delete_prefix(prefix))
    }

    /// Watches the keys that start with `prefix` for changes; see [`crate::Cache::watch`].
    ///
    /// The iterator blocks until the next change, without a limit.
    ///
    /// # Errors
    ///
    /// [`CacheError`] if the cache service does not support the request or does not answer.
    pub fn watch(&self, prefix: &str) -> Result<Items<Change>, CacheError> {
        let watch = wait_for(&self.runtime, self.client.watch(prefix))?;
        Ok(self.items(watch.boxed()))
    }

    fn items<T>(&self, stream: BoxStream<'static, Result<T, CacheError>>) -> Items<T> {
        let runtime = self.runtime.clone();
        Items { stream, runtime }
    }
}

/// An iterator over entries or changes of a component's cache. Created by [`Client::scan`] and [`Client::watch`].
#[must_use = "nothing is asked for unless it is iterated"]
pub struct Items<T> {
    stream: BoxStream<'static, Result<T, CacheError>>,
    runtime: Arc<Runtime>,
}

impl<T> Iterator for Items<T> {
    type Item = Result<T, CacheError>;

    fn next(&mut self) -> Option<Self::Item> {
        wait_for(&self.runtime, self.stream.next())
    }
}

impl<T> std::fmt::Debug for Items<T> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Items")
    }
}

/// Many calls: an iterator over their answers, in the order in which calls complete. Created by [`Client::job`].
#[must_use = "a job does nothing unless it is iterated"]
#[derive(Debug)]
pub struct Job<'a, Value = Bytes> {
    job: super::Job<'a, Value>,
    runtime: Arc<Runtime>,
}

impl<Value> Job<'_, Value> {
    /// Sets the number of answers; see [`crate::Job::expect_answers`].
    pub fn expect_answers(mut self, answers: u64) -> Self {
        self.job = self.job.expect_answers(answers);
        self
    }

    /// Sets the limit on each call; see [`crate::Job::call_timeout`].
    pub fn call_timeout(mut self, timeout: Duration) -> Self {
        self.job = self.job.call_timeout(timeout);
        self
    }

    /// Returns the number of the argument that the last answer or failure belongs to; see [`crate::Job::input`].
    pub fn input(&self) -> Option<u64> {
        self.job.input()
    }

    /// Sets how long to wait for the next answer; see [`crate::Job::timeout`].
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.job = self.job.timeout(timeout);
        self
    }
}

impl<Value> Iterator for Job<'_, Value> {
    type Item = Result<Value, CallError>;

    fn next(&mut self) -> Option<Self::Item> {
        wait_for(&self.runtime, self.job.next())
    }
}

/// Waits for a future. The runtime sees one type of future, so its scheduler is compiled once, and not for each method.
fn wait_for<T>(runtime: &Runtime, future: impl Future<Output = T>) -> T {
    let mut output = None;
    {
        let future: Pin<&mut dyn Future<Output = ()>> = pin!(async {
            output = Some(future.await);
        });
        runtime.block_on(future);
    }
    output.expect("the future has completed")
}
