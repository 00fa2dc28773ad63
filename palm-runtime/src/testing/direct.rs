//! [`Direct`]: a component's methods, called without sockets.
//!
//! Each call is a run of the [`Executor`] between two queues, one message long, so that there is no
//! second way in which a method is called.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::alone::alone;
use crate::cache::{Cache, CacheLimits, ComponentStore, MemoryStore};
use crate::callable::{Callable, State};
use crate::client::CallError;
use crate::context::ComponentContext;
use crate::executor::{Executor, Order};
use crate::flow::IN_ORDER;
use crate::function::{Answer, Argument, Function};
use crate::message::Message;
use crate::part::{BATCH, Envelope};
use crate::payload::type_name;
use crate::queue::{QueueLimits, queue};

/// A component whose methods are called where they are, without sockets.
///
/// Calls see and change one value of the component, as remote calls do: those of `&self` methods run
/// side by side, those of `&mut self` methods one at a time. A method that asks for a
/// [`Context`](crate::Context) gets one with the component's name from its macro (a worker has its
/// master's), a message from nobody, and a cache in memory, which is [`cache`](Self::cache).
///
/// Hooks (`scatter`, `gather`, `handle_stream`) are not run: they are between components, so test them
/// in a [`Cluster`](super::Cluster).
///
/// An example is at the top of `palm::testing`.
#[derive(Debug)]
pub struct Direct<C> {
    state: Arc<State<C>>,
    context: Arc<ComponentContext>,
    store: Arc<ComponentStore>,
    timeout: Duration,
}

impl<C: Callable> Direct<C> {
    /// Calls the methods of `component`.
    pub fn new(component: C) -> Self {
        let store = ComponentStore::new(Arc::new(MemoryStore::default()), CacheLimits::default());
        let store = Arc::new(store);
        let context = ComponentContext {
            name: C::NAME.to_owned(),
            cache: Cache::here(store.clone()),
        };
        Self {
            state: State::new(component),
            context: Arc::new(context),
            store,
            timeout: Duration::from_secs(60),
        }
    }

    /// How long a call may take. Default: 60 s, as a client's.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The cache that methods see in their [`Context`](crate::Context): fill it before a call, and look
    /// at it afterwards. It is in memory, and empty at first.
    pub fn cache(&self) -> &Cache {
        &self.context.cache
    }

    /// Calls `function` with `argument`, and gives its answer.
    ///
    /// Of a function that gives many results it is the first one, and the others are not asked for; see
    /// [`call_all`](Self::call_all).
    ///
    /// # Errors
    ///
    /// Those of [`Client::eval`](crate::Client::eval):
    ///
    /// - [`CallError::Remote`]: the method failed or panicked, could not read its argument, or does not
    ///   exist. Its [`kind`](crate::RemoteError::kind) tells which.
    /// - [`CallError::Timeout`]: it is not done within [`timeout`](Self::timeout), or it is done and gave
    ///   no answer (`None`), which is told at once.
    /// - [`CallError::Encode`], [`CallError::Decode`]: argument or answer are not what their types say.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime, when the method needs one: it is `blocking`, or waits.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the method where it waits; one that is `blocking` goes on in its thread.
    pub async fn call<Input, Output: Answer>(
        &self,
        function: Function<Input, Output>,
        argument: impl Argument<Input>,
    ) -> Result<Output::Value, CallError> {
        let begun = Instant::now();
        let mut answers = self.answers(function, argument, Wanted::First).await?;
        match answers.pop() {
            Some(answer) => read(function, answer),
            None => Err(CallError::Timeout {
                function: function.to_string(),
                input: None,
                waited: begun.elapsed(),
                cause: None,
            }),
        }
    }

    /// Calls `function` with `argument`, and gives all of its results: any number for a method that gives
    /// an iterator or a stream, none for one that gives `None`.
    ///
    /// # Errors
    ///
    /// As [`call`](Self::call), but for an answer that is missing: the first result that is an error.
    /// To see those around it, use [`results`](Self::results).
    ///
    /// # Panics
    ///
    /// As [`call`](Self::call).
    ///
    /// # Cancel safety
    ///
    /// As [`call`](Self::call).
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

    /// [`call_all`](Self::call_all), with each result for itself, as a [`Job`](crate::Job) gives them:
    /// a method may go on after a result that is an error.
    ///
    /// # Errors
    ///
    /// [`CallError::Encode`] and [`CallError::Timeout`], which leave no result.
    ///
    /// # Panics
    ///
    /// As [`call`](Self::call).
    ///
    /// # Cancel safety
    ///
    /// As [`call`](Self::call).
    pub async fn results<Input, Output: Answer>(
        &self,
        function: Function<Input, Output>,
        argument: impl Argument<Input>,
    ) -> Result<Vec<Result<Output::Value, CallError>>, CallError> {
        let answers = self.answers(function, argument, Wanted::All).await?;
        let read = |answer| read(function, answer);
        Ok(answers.into_iter().map(read).collect())
    }

    /// Calls a function whose answer nobody wants, such as one that gives nothing, and waits until it is
    /// done. Remotely that is [`Client::send`](crate::Client::send), which waits for nothing.
    ///
    /// # Errors
    ///
    /// As [`call`](Self::call), but for an answer that is missing or cannot be read.
    ///
    /// # Panics
    ///
    /// As [`call`](Self::call).
    ///
    /// # Cancel safety
    ///
    /// As [`call`](Self::call).
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
        let answers = self.execute(message, wanted);
        tokio::time::timeout(self.timeout, answers)
            .await
            .map_err(|_| CallError::Timeout {
                function: function.to_string(),
                input: None,
                waited: self.timeout,
                cause: None,
            })
    }

    /// The messages that an executor makes of one.
    async fn execute(&self, message: Message, wanted: Wanted) -> Vec<Message> {
        // There is no other call whose results could come before: they leave as they are given.
        let executor = Executor::new(self.state.clone()).order(Order::AsDone);
        let (outlet, mut results) = queue(QueueLimits::default());
        let (calls, running) = alone(executor, &self.context, &self.store, Some(outlet)).await;
        let call = Envelope::new(message, IN_ORDER, Instant::now());
        let sent = calls.send(call).await;
        sent.expect("the inlet is here, and has room for one message");
        // There is no other: the executor ends with this call.
        drop(calls);

        let mut answers = Vec::new();
        let collect = async {
            let enough = match wanted {
                Wanted::First => 1,
                Wanted::All => usize::MAX,
            };
            // The executor holds the other end until it is done.
            while answers.len() < enough && results.recv_many(&mut answers, BATCH).await > 0 {}
            answers.truncate(enough);
        };
        let run = async {
            let ended = running.await;
            ended.expect("an executor runs until its inlet has run dry");
            // What it gave may still be in the queue.
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = collect => {}
            () = run => {}
        }
        answers.into_iter().map(|answer| answer.message).collect()
    }
}

/// How many results of a call somebody looks at.
#[derive(Debug, Clone, Copy)]
enum Wanted {
    First,
    All,
}

/// What the caller gets for the message that comes back.
fn read<Input, Output: Answer>(
    function: Function<Input, Output>,
    answer: Message,
) -> Result<Output::Value, CallError> {
    if let Some(error) = answer.error() {
        return Err(error.into());
    }
    Output::read(answer.payload().clone()).map_err(|source| CallError::Decode {
        function: function.to_string(),
        expected: type_name::<Output::Value>(),
        source,
    })
}
