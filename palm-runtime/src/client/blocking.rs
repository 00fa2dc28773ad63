//! The client for programs without async.
//!
//! ```no_run
//! # fn example() -> palm::Result<()> {
//! use palm::blocking::Client;
//!
//! let client = Client::connect("server", "tcp://127.0.0.1:5559")?;
//! println!("{:?}", client.eval("server.foo", "a message")?);
//! for answer in client.job("server.foo", ["one", "two"]).expect_answers(2) {
//!     println!("{:?}", answer?);
//! }
//! # Ok(())
//! # }
//! ```

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

/// Calls the functions of a cluster, and blocks the thread meanwhile. Clones share the connection.
///
/// It brings one thread of its own. Not for use within async code, where it panics.
#[derive(Debug, Clone)]
pub struct Client {
    client: super::Client,
    runtime: Arc<Runtime>,
}

impl Client {
    /// Connects to the component called `server`, whose `db_address` this is.
    ///
    /// # Errors
    ///
    /// [`ConnectError`] when nobody is there within 30 s, or somebody else.
    pub fn connect(
        server: impl Into<String>,
        db_address: impl IntoAddress,
    ) -> Result<Self, ConnectError> {
        Self::with(super::Client::builder(server, db_address))
    }

    /// Connects with options: those of [`crate::Client::builder`].
    ///
    /// # Errors
    ///
    /// [`ConnectError`] when nobody is there in time, or somebody else.
    pub fn with(builder: ClientBuilder) -> Result<Self, ConnectError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("palm-client")
            .enable_all()
            .build()
            .map_err(|source| SocketError::Runtime { source })?;
        let client = runtime.block_on(builder.connect())?;
        Ok(Self {
            client,
            runtime: Arc::new(runtime),
        })
    }

    /// Calls a function, or several in a row, with one payload; see [`crate::Client::eval`].
    ///
    /// # Errors
    ///
    /// [`CallError`] when what is called is no function's name, or no answer comes in time.
    pub fn eval<S: IntoSteps<Output: Answer>>(
        &self,
        steps: S,
        argument: impl Argument<S::Input>,
    ) -> Result<<S::Output as Answer>::Value, CallError> {
        let eval = self.client.eval(steps, argument).into_future();
        self.runtime.block_on(eval)
    }

    /// [`eval`](Self::eval) with a timeout of its own.
    ///
    /// # Errors
    ///
    /// [`CallError`] when what is called is no function's name, or no answer comes in time.
    pub fn eval_timeout<S: IntoSteps<Output: Answer>>(
        &self,
        steps: S,
        argument: impl Argument<S::Input>,
        timeout: Duration,
    ) -> Result<<S::Output as Answer>::Value, CallError> {
        let eval = self.client.eval(steps, argument).timeout(timeout);
        self.runtime.block_on(eval.into_future())
    }

    /// Calls a function that gives no answer; see [`crate::Client::send`].
    ///
    /// # Errors
    ///
    /// [`CallError`] when what is called is no function's name, the argument cannot be written, or the
    /// first component cannot be reached in time.
    pub fn send<S: IntoSteps>(
        &self,
        steps: S,
        argument: impl Argument<S::Input>,
    ) -> Result<(), CallError> {
        self.runtime.block_on(self.client.send(steps, argument))
    }

    /// Calls a function, or several in a row, with each of many arguments; answers come as an
    /// iterator. See [`crate::Client::job`].
    pub fn job<'a, S: IntoSteps<Input: 'a, Output: Answer>, I>(
        &self,
        steps: S,
        arguments: I,
    ) -> Job<'a, S::Output>
    where
        I: IntoIterator<Item: Argument<S::Input>, IntoIter: Send + 'a>,
    {
        let _context = self.runtime.enter();
        Job {
            job: self.client.job(steps, arguments),
            runtime: self.runtime.clone(),
        }
    }

    /// Closes the client, and all of its clones; see [`crate::Client::close`].
    pub fn close(&self) {
        self.runtime.block_on(self.client.close());
    }

    /// The value of `key` in the component's cache; see [`crate::Cache::get`].
    ///
    /// # Errors
    ///
    /// [`CacheError`] when the cache service does not answer.
    pub fn get(&self, key: &str) -> Result<Option<Bytes>, CacheError> {
        self.runtime.block_on(self.client.get(key))
    }

    /// Sets `key` in the component's cache; see [`crate::Cache::set`].
    ///
    /// # Errors
    ///
    /// [`CacheError`] when the cache service refuses, or does not answer.
    pub fn set(&self, key: &str, value: impl IntoPayload) -> Result<(), CacheError> {
        self.runtime.block_on(self.client.set(key, value))
    }

    /// Removes `key` from the component's cache; see [`crate::Cache::delete`].
    ///
    /// # Errors
    ///
    /// [`CacheError`] when the cache service refuses, or does not answer.
    pub fn delete(&self, key: &str) -> Result<(), CacheError> {
        self.runtime.block_on(self.client.delete(key))
    }

    /// Sets `key` in the component's cache for a time; see [`crate::Cache::set_for`].
    ///
    /// # Errors
    ///
    /// [`CacheError`] when the cache service refuses, cannot do it, or does not answer.
    pub fn set_for(
        &self,
        key: &str,
        value: impl IntoPayload,
        ttl: Duration,
    ) -> Result<(), CacheError> {
        self.runtime.block_on(self.client.set_for(key, value, ttl))
    }

    /// Sets `key` in the component's cache if it has a certain value; see
    /// [`crate::Cache::compare_and_set`].
    ///
    /// # Errors
    ///
    /// [`CacheError`] when the cache service refuses, cannot do it, or does not answer.
    pub fn compare_and_set(
        &self,
        key: &str,
        expected: Option<Bytes>,
        new: Option<Bytes>,
    ) -> Result<Swap, CacheError> {
        let swap = self.client.compare_and_set(key, expected, new);
        self.runtime.block_on(swap)
    }

    /// The same for a time; see [`crate::Cache::compare_and_set_for`].
    ///
    /// # Errors
    ///
    /// [`CacheError`] when the cache service refuses, cannot do it, or does not answer.
    pub fn compare_and_set_for(
        &self,
        key: &str,
        expected: Option<Bytes>,
        new: Bytes,
        ttl: Duration,
    ) -> Result<Swap, CacheError> {
        let swap = self.client.compare_and_set_for(key, expected, new, ttl);
        self.runtime.block_on(swap)
    }

    /// Adds to a number in the component's cache, and tells the sum; see [`crate::Cache::add`].
    ///
    /// # Errors
    ///
    /// [`CacheError`] when the value is no number, or the cache service refuses, cannot do it, or does
    /// not answer.
    pub fn add(&self, key: &str, amount: i64) -> Result<i64, CacheError> {
        self.runtime.block_on(self.client.add(key, amount))
    }

    /// The entries of the component's cache whose keys begin with `prefix`; see
    /// [`crate::Cache::scan`].
    pub fn scan(&self, prefix: &str) -> Items<Entry> {
        self.items(self.client.scan(prefix).boxed())
    }

    /// Removes the keys that begin with `prefix`, and tells how many; see
    /// [`crate::Cache::delete_prefix`].
    ///
    /// # Errors
    ///
    /// [`CacheError`] when the cache service refuses, cannot do it, or does not answer.
    pub fn delete_prefix(&self, prefix: &str) -> Result<u64, CacheError> {
        self.runtime.block_on(self.client.delete_prefix(prefix))
    }

    /// Tells what happens to the keys that begin with `prefix`; see [`crate::Cache::watch`]. The
    /// iterator waits for the next change for as long as it takes.
    ///
    /// # Errors
    ///
    /// [`CacheError`] when the cache service cannot do it, or does not answer.
    pub fn watch(&self, prefix: &str) -> Result<Items<Change>, CacheError> {
        let watch = self.runtime.block_on(self.client.watch(prefix))?;
        Ok(self.items(watch.boxed()))
    }

    fn items<T>(&self, stream: BoxStream<'static, Result<T, CacheError>>) -> Items<T> {
        let runtime = self.runtime.clone();
        Items { stream, runtime }
    }
}

/// Entries or changes of a component's cache, one by one.
#[must_use = "nothing is asked for unless it is iterated"]
pub struct Items<T> {
    stream: BoxStream<'static, Result<T, CacheError>>,
    runtime: Arc<Runtime>,
}

impl<T> Iterator for Items<T> {
    type Item = Result<T, CacheError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.runtime.block_on(self.stream.next())
    }
}

impl<T> std::fmt::Debug for Items<T> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Items")
    }
}

/// Many calls: an iterator of answers, in the order in which they are done.
#[must_use = "a job does nothing unless it is iterated"]
#[derive(Debug)]
pub struct Job<'a, Output = Bytes> {
    job: super::Job<'a, Output>,
    runtime: Arc<Runtime>,
}

impl<Output> Job<'_, Output> {
    /// How many answers there will be; see [`crate::Job::expect_answers`].
    pub fn expect_answers(mut self, answers: u64) -> Self {
        self.job = self.job.expect_answers(answers);
        self
    }

    /// How long each call may take; see [`crate::Job::deadline`].
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.job = self.job.deadline(deadline);
        self
    }

    /// How long to wait for the next answer; see [`crate::Job::timeout`].
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.job = self.job.timeout(timeout);
        self
    }
}

impl<Output: Answer> Iterator for Job<'_, Output> {
    type Item = Result<Output::Value, CallError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.runtime.block_on(self.job.next())
    }
}
