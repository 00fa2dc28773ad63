//! [`Direct`]: calls a component's methods without sockets.
//!
//! Each call runs the [`Executor`](crate::executor::Executor) on a single message, between two queues, so that methods are called by the same
//! code as in a component.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use crate::cache::{Cache, CacheLimits, ComponentStore, MemoryStore};
use crate::client::CallError;
use crate::clock;
use crate::context::ComponentContext;
use crate::executor::{AnyExecutor, Callable, Methods, Order, standalone};
use crate::flow::IN_ORDER;
use crate::function::{Answer, Argument, Function};
use crate::message::Message;
use crate::method::State;
use crate::part::{BATCH, Envelope};
use crate::queue::{QueueLimits, queue};

/// Calls the methods of a component without sockets.
///
/// All calls share one value of the component, as remote calls do: `&self` methods run concurrently, `&mut self`
/// methods one at a time. The [`Context`](crate::Context) of a method has the component's name from its macro (of a
/// worker, its master's), a message without a client, and a cache in memory, which [`cache`](Self::cache) returns.
///
/// Hooks (`scatter`, `gather`, `handle_stream`) do not run. They act between components: test them in a
/// [`Cluster`](super::Cluster).
///
/// An example is at the top of `palm::testing`.
#[derive(Debug)]
pub struct Direct<C> {
    calls: AnyDirect,
    timeout: Duration,
    component: PhantomData<fn() -> C>,
}

/// A [`Direct`] of any component, without a limit of time.
#[derive(Debug)]
struct AnyDirect {
    methods: Arc<dyn Methods>,
    context: Arc<ComponentContext>,
    store: Arc<ComponentStore>,
}

impl<C: Callable> Direct<C> {
    /// Returns a `Direct` that calls the methods of `component`.
    pub fn new(component: C) -> Self {
        let store = ComponentStore::new(Arc::new(MemoryStore::default()), CacheLimits::default());
        let store = Arc::new(store);
        let context = ComponentContext {
            name: component.name().to_owned(),
            cache: Cache::local(store.clone()),
            cancellations: Arc::default(),
        };
        let calls = AnyDirect {
            methods: State::new(component),
            context: Arc::new(context),
            store,
        };
        Self {
            calls,
            timeout: Duration::from_secs(60),
            component: PhantomData,
        }
    }

    /// Sets how long a call may take. Default: 60 s, as for a client.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Returns the cache that methods find in their [`Context`](crate::Context). It is in memory and initially empty.
    pub fn cache(&self) -> &Cache {
        &self.calls.context.cache
    }

    /// Calls `function` with `argument`, and returns its answer.
    ///
    /// Returns the first result of a function with several results, and ends the call then; see
    /// [`call_all`](Self::call_all).
    ///
    /// # Errors
    ///
    /// The errors of [`Client::eval`](crate::Client::eval):
    ///
    /// - [`CallError::Remote`]: the method failed, panicked, could not decode its argument, or does not exist;
    ///   [`kind`](crate::RemoteError::kind) says which.
    /// - [`CallError::Timeout`]: the method did not return within [`timeout`](Self::timeout), or returned no answer
    ///   (`None`), in which case the error is returned at once.
    /// - [`CallError::Encode`], [`CallError::Decode`]: the argument could not be encoded, or the answer not decoded.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime, if the method needs one: it is `blocking`, or awaits a timer or I/O.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the method at its current `.await`; a `blocking` method runs on in its thread.
    pub async fn call<Input, Output: Answer>(
        &self,
        function: Function<Input, Output>,
        argument: impl Argument<Input>,
    ) -> Result<Output::Value, CallError> {
        let begun = clock::now();
        let mut answers = self.answers(function, argument, Wanted::First).await?;
        match answers.pop() {
            Some(answer) => read(function, answer),
            None => Err(CallError::Timeout {
                function: function.to_string(),
                input: None,
                waited: clock::since(begun),
                cause: None,
            }),
        }
    }

    /// Calls `function` with `argument`, and returns all of its results.
    ///
    /// A method that returns an iterator or a stream has any number of results, one that returns `None` has none.
    ///
    /// # Errors
    ///
    /// As for [`call`](Self::call), except that no result is not an error. If a result is an error, the first one is
    /// returned; [`results`](Self::results) returns each result by itself.
    ///
    /// # Panics
    ///
    /// As for [`call`](Self::call).
    ///
    /// # Cancel safety
    ///
    /// As for [`call`](Self::call).
    pub async fn call_all<Input, Output: Answer>(
        &self,
        function: Function<Input, Output>,
        argument: impl Argument<Input>,
    ) -> Result<Vec<Output::Value>, CallError> {
        self.results(function, argument)
            .await?
            .into_iter()
            .collect()
    }

    /// Calls `function` with `argument`, and returns each result by itself, as a [`Job`](crate::Job) does: further
    /// results may follow one that is an error.
    ///
    /// # Errors
    ///
    /// [`CallError::Encode`] and [`CallError::Timeout`].
    ///
    /// # Panics
    ///
    /// As for [`call`](Self::call).
    ///
    /// # Cancel safety
    ///
    /// As for [`call`](Self::call).
    pub async fn results<Input, Output: Answer>(
        &self,
        function: Function<Input, Output>,
        argument: impl Argument<Input>,
    ) -> Result<Vec<Result<Output::Value, CallError>>, CallError> {
        let answers = self.answers(function, argument, Wanted::All).await?;
        let read = |answer| read(function, answer);
        Ok(answers.into_iter().map(read).collect())
    }

    /// Calls `function` with `argument`, waits until it has returned, and discards its results.
    ///
    /// The remote equivalent is [`Client::send`](crate::Client::send), which does not wait.
    ///
    /// # Errors
    ///
    /// As for [`call`](Self::call), except that results may be missing and are not decoded.
    ///
    /// # Panics
    ///
    /// As for [`call`](Self::call).
    ///
    /// # Cancel safety
    ///
    /// As for [`call`](Self::call).
    pub async fn run<Input, Output>(
        &self,
        function: Function<Input, Output>,
        argument: impl Argument<Input>,
    ) -> Result<(), CallError> {
        let answers = self.answers(function, argument, Wanted::All).await?;
        let failed = answers.iter().find_map(Message::error);
        failed.map_or(Ok(()), |error| Err(error.into()))
    }

    async fn answers<Input, Output>(
        &self,
        function: Function<Input, Output>,
        argument: impl Argument<Input>,
        wanted: Wanted,
    ) -> Result<Vec<Message>, CallError> {
        let payload = argument
            .into_argument()
            .map_err(|source| CallError::encode(function, source))?;
        let mut message = Message::new(function.to_string(), payload);
        message.ensure_id();
        let answers = self.calls.execute(message, wanted);
        tokio::time::timeout(self.timeout, answers)
            .await
            .map_err(|_| CallError::Timeout {
                function: function.to_string(),
                input: None,
                waited: self.timeout,
                cause: None,
            })
    }
}

impl AnyDirect {
    /// Runs an executor on one message, and returns the messages that it sends.
    async fn execute(&self, message: Message, wanted: Wanted) -> Vec<Message> {
        // There is only one call, so its results need not be reordered.
        let executor = AnyExecutor::new(self.methods.clone()).order(Order::AsDone);
        let (outlet, mut results) = queue(QueueLimits::default());
        let (calls, running) = standalone(executor, &self.context, &self.store, Some(outlet)).await;
        let call = Envelope::new(message, IN_ORDER, clock::now());
        let sent = calls.send(call).await;
        sent.expect("the inlet is open, and has capacity for one message");
        // Closes the queue, so that the executor ends after this call.
        drop(calls);

        let mut answers = Vec::new();
        let collect = async {
            let enough = match wanted {
                Wanted::First => 1,
                Wanted::All => usize::MAX,
            };
            // The executor holds the sending end until it has ended.
            while answers.len() < enough && results.recv_many(&mut answers, BATCH).await > 0 {}
            answers.truncate(enough);
        };
        let run = async {
            let ended = running.await;
            ended.expect("an executor runs until its inlet is closed and empty");
            // Results may still be in the queue.
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = collect => {}
            () = run => {}
        }
        answers.into_iter().map(|answer| answer.message).collect()
    }
}

/// The number of results that the caller of a method wants.
#[derive(Debug, Clone, Copy)]
enum Wanted {
    First,
    All,
}

/// Decodes the answer to a call.
fn read<Input, Output: Answer>(
    function: Function<Input, Output>,
    answer: Message,
) -> Result<Output::Value, CallError> {
    if let Some(error) = answer.error() {
        return Err(error.into());
    }
    Output::read(answer.payload().clone())
        .map_err(|source| CallError::decode::<Output::Value>(function.to_string(), source))
}
