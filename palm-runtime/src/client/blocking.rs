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
use crate::function::{Answer, Argument, IntoSteps};
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
pub struct Job<'a, Output = Bytes> {
    job: super::Job<'a, Output>,
    runtime: Arc<Runtime>,
}

impl<Output> Job<'_, Output> {
    /// How many answers there will be; see [`crate::Job::messages`].
    pub fn messages(mut self, messages: u64) -> Self {
        self.job = self.job.messages(messages);
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
