//! The client for programs without async.
//!
//! ```no_run
//! # fn example() -> palm_runtime::Result<()> {
//! use palm_runtime::blocking::Client;
//!
//! let client = Client::connect("server", "tcp://127.0.0.1:5559")?;
//! println!("{:?}", client.eval("server.foo", "a message")?);
//! for answer in client.job("server.foo", ["one", "two"]).messages(2) {
//!     println!("{:?}", answer?);
//! }
//! # Ok(())
//! # }
//! ```

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use tokio::runtime::Runtime;

use super::{CallError, ClientBuilder, ConnectError};
use crate::cache::CacheError;
use crate::function::IntoSteps;
use crate::parts::IntoAddress;
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
    pub fn eval(
        &self,
        steps: impl IntoSteps,
        payload: impl IntoPayload,
    ) -> Result<Bytes, CallError> {
        let eval = self.client.eval(steps, payload).into_future();
        self.runtime.block_on(eval)
    }

    /// [`eval`](Self::eval) with a timeout of its own.
    ///
    /// # Errors
    ///
    /// [`CallError`] when what is called is no function's name, or no answer comes in time.
    pub fn eval_timeout(
        &self,
        steps: impl IntoSteps,
        payload: impl IntoPayload,
        timeout: Duration,
    ) -> Result<Bytes, CallError> {
        let eval = self.client.eval(steps, payload).timeout(timeout);
        self.runtime.block_on(eval.into_future())
    }

    /// Calls a function, or several in a row, with each of many payloads; answers come as an
    /// iterator. See [`crate::Client::job`].
    pub fn job<'a, I>(&self, steps: impl IntoSteps, payloads: I) -> Job<'a>
    where
        I: IntoIterator<Item: IntoPayload, IntoIter: Send + 'a>,
    {
        let _context = self.runtime.enter();
        Job {
            job: self.client.job(steps, payloads),
            runtime: self.runtime.clone(),
        }
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
}

/// Many calls: an iterator of answers, in the order in which they are done.
#[must_use = "a job does nothing unless it is iterated"]
#[derive(Debug)]
pub struct Job<'a> {
    job: super::Job<'a>,
    runtime: Arc<Runtime>,
}

impl Job<'_> {
    /// How many answers there will be; see [`crate::Job::messages`].
    pub fn messages(mut self, messages: u64) -> Self {
        self.job = self.job.messages(messages);
        self
    }

    /// How long to wait for the next answer; see [`crate::Job::timeout`].
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.job = self.job.timeout(timeout);
        self
    }
}

impl Iterator for Job<'_> {
    type Item = Result<Bytes, CallError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.runtime.block_on(self.job.next())
    }
}
