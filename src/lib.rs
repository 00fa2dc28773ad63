#![doc = include_str!("../README.md")]
//!
//! # Where to start reading
//!
//! | you want to | see |
//! |---|---|
//! | answer calls | [`macro@server`], [`Bind`] |
//! | spread calls over workers | [`macro@master`] or [`Master`], [`macro@worker`], [`macro@mux_worker`] |
//! | process a stream in steps | [`macro@pipeline`], [`macro@sink`], [`macro@hub`] or [`Hub`] |
//! | call functions | [`Client`], [`blocking::Client`]; at length: [`guide::calls`] |
//! | share the functions of a component with its callers | [`macro@interface`], [`Function`], [`Route`] |
//! | send values of your own | [`FromPayload`], [`IntoPayload`], [`guide::calls`] |
//! | keep values between calls, share and watch them | [`Cache`], [`KeyValue`]; at length: [`guide::cache`] |
//! | call functions by HTTP, or be called so | with the feature `http`: `http`, `http_worker`; at length: `guide::http` |
//! | build a component from its parts | [`ServerTemplate`], [`parts`], [`part`]; of your own: [`macro@inbound`], [`macro@outbound`], [`macro@bypass`] |
//! | test what you have built | [`testing`] |
//! | write a peer in another language | [`guide::protocol`] |
//! | see what goes on | [`logging`], [`ComponentHandle::metrics`], [`components`] |

#[cfg(feature = "json")]
pub use palm_runtime::Json;
#[cfg(feature = "messagepack")]
pub use palm_runtime::MessagePack;
#[cfg(feature = "http")]
pub use palm_runtime::http;
pub use palm_runtime::{
    Addressee, Answer, Argument, Bind, BoxError, ByteString, Bytes, Cache, CacheError, CacheLimits,
    CallError, CallFailure, Change, Changes, Client, ClientBuilder, ComponentHandle, ComponentKind,
    ConfigurationError, Connect, ConnectError, Context, DecodeError, Durations, Entry, Error, Eval,
    Executor, FailureKind, Feeds, FromPayload, Function, FunctionMetrics, Hub, IntoPayload,
    IntoSteps, Job, KeyValue, LinkOptions, Master, MemoryStore, Message, Metrics, NoAnswer,
    OpenStoreError, Order, Page, PageLimits, PartKind, PartMetrics, Position, PositionedError,
    Progress, Protobuf, QueueLimits, Registration, RemoteError, Result, Route, RunError, Scan,
    ServerTemplate, StartError, Step, StepError, Steps, Swap, Untyped, Watch, blocking, callable,
    component, components, logging, part, parts, proto, socket,
};
#[cfg(feature = "file-cache")]
pub use palm_runtime::{FileStore, FileStoreBuilder};
#[cfg(feature = "redis")]
pub use palm_runtime::{RedisStore, RedisStoreBuilder};
#[cfg(feature = "progress")]
pub use palm_runtime::{WithProgress, progress};

/// # Examples
///
/// A component's methods, called directly:
///
/// ```
/// use palm::prelude::*;
/// use palm::testing::Direct;
/// use palm::{CallError, FailureKind};
///
/// struct Splitter;
///
/// #[palm::server(name = "words")]
/// impl Splitter {
///     #[palm::method]
///     fn split(&self, text: String) -> impl Iterator<Item = String> + use<> {
///         let words: Vec<_> = text.split_whitespace().map(str::to_owned).collect();
///         words.into_iter()
///     }
///
///     #[palm::method]
///     fn first(&self, text: String) -> Result<String, &'static str> {
///         let word = text.split_whitespace().next();
///         word.map(str::to_owned).ok_or("there is no word")
///     }
///
///     #[palm::method]
///     async fn remembered(&self, context: Context) -> Result<Bytes, palm::CacheError> {
///         Ok(context.cache().get("word").await?.unwrap_or_default())
///     }
/// }
///
/// # #[tokio::main]
/// # async fn main() -> palm::Result<()> {
/// let splitter = Direct::new(Splitter);
/// let word: String = splitter.call(Splitter::FIRST, "one two").await?;
/// assert_eq!(word, "one");
///
/// let words: Vec<String> = splitter.call_all(Splitter::SPLIT, "one two").await?;
/// assert_eq!(words, ["one", "two"]);
///
/// let Err(CallError::Remote(error)) = splitter.call(Splitter::FIRST, "").await else {
///     panic!("there is no word to be found");
/// };
/// assert_eq!(error.kind, FailureKind::Failed);
/// assert_eq!(error.message, "there is no word");
///
/// splitter.cache().set("word", "three").await?;
/// assert_eq!(splitter.call(Splitter::REMEMBERED, ()).await?, "three");
/// # Ok(())
/// # }
/// ```
///
/// A cluster in one process:
///
/// ```
/// use palm::prelude::*;
/// use palm::testing::Cluster;
///
/// struct Resizer {
///     quality: usize,
/// }
///
/// #[palm::worker(server = "images")]
/// impl Resizer {
///     #[palm::method]
///     fn thumbnail(&self, image: Vec<u8>) -> Vec<u8> {
///         image.into_iter().step_by(self.quality).collect()
///     }
/// }
///
/// # #[tokio::main]
/// # async fn main() -> palm::Result<()> {
/// let cluster = Cluster::new()
///     .master(Master::new("images"))
///     .worker(Resizer { quality: 2 })
///     .worker_with(Resizer { quality: 2 }, |builder| builder.name("second").concurrency(1))
///     .start()
///     .await?;
/// let client = cluster.client().await?;
/// assert_eq!(client.eval(Resizer::THUMBNAIL, b"abcd").await?, b"ac");
///
/// let master = cluster.handle("images").expect("it is in the cluster");
/// assert_eq!(master.metrics().part("WorkerPush").map(|part| part.messages), Some(1));
/// cluster.shutdown().await?;
/// # Ok(())
/// # }
/// ```
///
/// Streams that part and meet again:
///
/// ```no_run
/// # use palm::prelude::*;
/// # use palm::testing::{Cluster, ClusterHandle};
/// # struct Tee;
/// # #[palm::server(name = "tee")]
/// # impl Tee { #[palm::method] fn pass(&self, text: String) -> String { text } }
/// # struct Even;
/// # #[palm::pipeline(name = "even")]
/// # impl Even { #[palm::method] fn mark(&self, text: String) -> String { text } }
/// # struct Odd;
/// # #[palm::pipeline(name = "odd")]
/// # impl Odd { #[palm::method] fn mark(&self, text: String) -> String { text } }
/// # struct Collect;
/// # #[palm::sink(name = "collect")]
/// # impl Collect { #[palm::method] fn mark(&self, text: String) -> String { text } }
/// # async fn example() -> palm::Result<ClusterHandle> {
/// Cluster::new()
///     .server(Tee) // its `handle_stream` publishes under the topic `even` or `odd`
///     .pipeline_with(Even, |builder| builder.previous("even"))
///     .downstream_of("tee") // not of the pipeline before
///     .pipeline_with(Odd, |builder| builder.previous("odd"))
///     .sink(Collect) // follows both, which have no follower yet
///     .start()
///     .await
/// # }
/// ```
///
/// Faults between a master and its workers, one of which is killed:
///
/// ```
/// use std::time::Duration;
///
/// use palm::prelude::*;
/// use palm::testing::{Faults, Restartable};
///
/// struct Squares;
///
/// #[palm::worker(server = "squares")]
/// impl Squares {
///     #[palm::method]
///     async fn square(&self, number: String) -> Result<String, std::num::ParseIntError> {
///         tokio::time::sleep(Duration::from_millis(1)).await;
///         Ok(number.parse::<u64>()?.pow(2).to_string())
///     }
/// }
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), palm::BoxError> {
/// // With `Faults::new()`, `PALM_FAULTS_SEED=.. cargo test` repeats a failed test.
/// let faults = Faults::seeded(42);
/// let master = Master::new("squares").bind("tcp://127.0.0.1:0").spawn().await?;
/// // The workers connect through proxies; the client connects to the master.
/// let first_proxy = faults.proxy(master.db_address()).await?;
/// let second_proxy = faults.proxy(master.db_address()).await?;
/// let at = first_proxy.address().to_owned();
/// let mut first = Restartable::start(move || Squares.connect(&*at).spawn()).await?;
/// let _second = Squares.connect(second_proxy.address()).spawn().await?;
///
/// let client = Client::connect("squares", master.db_address()).await?;
/// let numbers = (0..500).map(|number| number.to_string());
/// let mut job = client.job(Squares::SQUARE, numbers).expect_answers(500);
/// let squares = async {
///     let mut squares = 0;
///     while let Some(square) = job.next().await {
///         squares += usize::from(square.is_ok());
///     }
///     squares
/// };
/// let failures = async {
///     second_proxy.delay(Duration::ZERO..=Duration::from_millis(5));
///     first_proxy.hold_after(10);
///     first_proxy.held().await;
///     first.kill().await; // as a crash of its process would
///     first_proxy.heal();
///     second_proxy.cut().await;
///     first.restart().await.map(drop)
/// };
/// let (squares, restarted) = tokio::join!(squares, failures);
/// restarted?;
/// assert_eq!(squares, 500);
/// # Ok(())
/// # }
/// ```
///
/// Random faults between all components of a [`Cluster`](testing::Cluster), for three seconds:
///
/// ```no_run
/// # use std::time::Duration;
/// # use palm::prelude::*;
/// # use palm::testing::{Cluster, Faults};
/// # struct Squares;
/// # #[palm::worker(server = "squares")]
/// # impl Squares { #[palm::method] fn square(&self, text: String) -> String { text } }
/// # async fn example() -> palm::Result<()> {
/// let faults = Faults::new();
/// let cluster = Cluster::new().fault_proxies(&faults).master(Master::new("squares")).worker(Squares);
/// let cluster = cluster.start().await?;
/// let calls = async { /* the test */ };
/// let proxies = cluster.fault_proxies();
/// tokio::join!(calls, faults.random(&proxies, Duration::from_secs(3)));
/// // Now all proxies are healed.
/// # Ok(())
/// # }
/// ```
pub use palm_runtime::testing;

/// What most programs need: `use palm::prelude::*;`.
pub mod prelude {
    #[cfg(feature = "http")]
    pub use palm_runtime::http::IntoHttpWorker;
    pub use palm_runtime::{
        Bind, Bytes, Client, Connect, Context, FromPayload, Function, Hub, IntoPayload, Master,
        Message, ServerTemplate,
    };
}

/// What takes more than a page to say.
pub mod guide {
    #[doc = include_str!("../docs/cache.md")]
    pub mod cache {}

    #[doc = include_str!("../docs/calls.md")]
    pub mod calls {}

    #[cfg(feature = "http")]
    #[doc = include_str!("../docs/http.md")]
    pub mod http {}

    #[doc = include_str!("../docs/protocol.md")]
    pub mod protocol {}
}

/// Makes the methods of an `impl` block callable from afar: a server answers each call itself.
///
/// ```
/// use palm::prelude::*;
///
/// struct Greeter {
///     greeting: String,
/// }
///
/// /// Greets.
/// #[palm::server(name = "greeter")]
/// impl Greeter {
///     /// Says hello to whom the payload names.
///     #[palm::method]
///     fn hello(&self, name: String) -> String {
///         format!("{}, {name}!", self.greeting)
///     }
/// }
///
/// # async fn example() -> palm::Result<()> {
/// let greeter = Greeter { greeting: "Hello".into() };
/// greeter.bind("tcp://127.0.0.1:5555").start().await?; // until SIGTERM, Ctrl-C or an error
/// # Ok(())
/// # }
/// ```
///
/// # Options
///
/// | option | type | default | |
/// |---|---|---|---|
/// | `name` | string | needed | the name that clients call it by; without dot and space |
/// | `crate` | path | `::palm` | where to find this crate, if it has another name |
///
/// # Methods
///
/// Only what is marked [`#[palm::method]`](macro@method) can be called. A method
///
/// - takes `&self`, and then calls run side by side, up to
///   [`concurrency`](component::Builder::concurrency); or `&mut self`, and then one call runs at a time;
/// - takes nothing more, or the payload as any [`FromPayload`] type, and then, if it likes, a
///   [`Context`];
/// - is `async` or not; one that computes for long is `#[palm::method(blocking)]` and gets a thread;
/// - returns a payload (any [`IntoPayload`] type); `()` or an `Option`, where nothing is answered if
///   there is nothing; a `Result<_, E>` of these; or `impl Iterator` or `impl Stream` of them, for many
///   answers.
///
/// `E` is any type that is an error (`std::error::Error`, or else converts to a boxed one, as `String`
/// does), becomes [`palm::Error`](Error), or has a text (`Display`). It is logged and comes back to the
/// caller, as a panic does ([`CallError::Remote`]; pylm's clients get the payload `0`).
///
/// `echo` can be called too, unless a method has that name: it returns its payload.
///
/// [`#[palm::handle_stream]`](macro@handle_stream) says where each answer goes.
///
/// # What is generated
///
/// The impl block as it is; a constant for each method (`Greeter::HELLO`, a [`Function<String,
/// String>`](Function)), which names it for [`Client::eval`] and has its types, so that a call that is
/// misspelt or does not fit does not compile; a `match` over the names ([`callable::Callable`]);
/// [`Bind`]; and an entry in [`components`].
///
/// On an `impl` of an [`macro@interface`], all functions can be called, and `name` may be left out.
///
/// ```compile_fail
/// # use palm::prelude::*;
/// struct Server;
///
/// #[palm::server(name = "my.server")] // error: a name has no dot
/// impl Server {
///     #[palm::method]
///     fn foo(&self, first: Bytes, second: Bytes) {} // error: a method takes one payload
/// }
/// ```
pub use palm_macros::server;

/// Makes the methods of an `impl` block a step of a stream: a pipeline takes what the component
/// before it publishes, and publishes its results.
///
/// ```
/// use palm::prelude::*;
///
/// struct Shout;
///
/// #[palm::pipeline(name = "shout")]
/// impl Shout {
///     #[palm::method]
///     fn upper(&self, text: String) -> String {
///         text.to_uppercase()
///     }
/// }
///
/// # async fn example() -> palm::Result<()> {
/// Shout
///     .bind("tcp://127.0.0.1:5560")
///     .follow("tcp://127.0.0.1:5555") // the `db_address` of the component before
///     .start()
///     .await
/// # }
/// ```
///
/// Options, methods and what is generated are those of [`macro@server`]. A method that returns
/// nothing ends the stream here.
///
/// ```compile_fail
/// # struct Shout;
/// #[palm::pipeline] // error: give it a name
/// impl Shout {
///     #[palm::method]
///     fn upper(&self, text: String) -> String {
///         text.to_uppercase()
///     }
/// }
/// ```
pub use palm_macros::pipeline;

/// Makes the methods of an `impl` block the step that gathers several streams.
///
/// ```
/// use palm::prelude::*;
///
/// struct Collect;
///
/// #[palm::sink(name = "collect")]
/// impl Collect {
///     #[palm::method]
///     fn mark(&self, text: String) -> String {
///         format!("collected {text}")
///     }
/// }
///
/// # async fn example() -> palm::Result<()> {
/// Collect
///     .bind("tcp://127.0.0.1:5580")
///     .follow("tcp://127.0.0.1:5560")
///     .follow("tcp://127.0.0.1:5570")
///     .start()
///     .await
/// # }
/// ```
///
/// Options, methods and what is generated are those of [`macro@server`].
///
/// ```compile_fail
/// # struct Collect;
/// #[palm::sink(name = "collect", streams = 2)] // error: unknown option
/// impl Collect {
///     #[palm::method]
///     fn mark(&self) {}
/// }
/// ```
pub use palm_macros::sink;

/// Makes the methods of an `impl` block answer the calls that a master or hub spreads.
///
/// ```
/// use palm::prelude::*;
///
/// struct Resizer;
///
/// #[palm::worker(server = "images")] // answers calls to images.*
/// impl Resizer {
///     #[palm::method(blocking)]
///     fn thumbnail(&self, image: Vec<u8>) -> Vec<u8> {
///         image.into_iter().step_by(2).collect()
///     }
/// }
///
/// # async fn example() -> palm::Result<()> {
/// Resizer.connect("tcp://10.0.0.7:5559").start().await
/// # }
/// ```
///
/// # Options
///
/// | option | type | default | |
/// |---|---|---|---|
/// | `server` | string | `_`; of an [`macro@interface`], its name | the master's name, for the constants; a worker answers whatever its master gives it |
/// | `crate` | path | `::palm` | where to find this crate, if it has another name |
///
/// Methods and what is generated are those of [`macro@server`], with [`Connect`] for [`Bind`]. Answers
/// leave as soon as they are done. The cache of a [`Context`] is the master's.
///
/// ```compile_fail
/// # struct Resizer;
/// #[palm::worker(name = "images")] // error: unknown option `name`
/// impl Resizer {
///     #[palm::method]
///     fn thumbnail(self) {} // error: a method takes `&self` or `&mut self`
/// }
/// ```
pub use palm_macros::worker;

/// A [`macro@worker`] whose methods all give many results: an iterator or a stream.
///
/// ```
/// use palm::prelude::*;
///
/// struct Splitter;
///
/// #[palm::mux_worker(server = "words")]
/// impl Splitter {
///     #[palm::method]
///     fn split(&self, text: String) -> Vec<String> {
///         text.split_whitespace().map(str::to_owned).collect()
///     }
/// }
///
/// # async fn example() -> palm::Result<()> {
/// Splitter.connect("tcp://10.0.0.7:5559").start().await
/// # }
/// ```
///
/// Options and what is generated are those of [`macro@worker`].
///
/// ```compile_fail
/// # struct Splitter;
/// #[palm::mux_worker(server = "words")]
/// impl Splitter {
///     #[palm::method]
///     fn split(&self, text: String) -> u32 { 1 } // error: `u32` is not an iterator
/// }
/// ```
pub use palm_macros::mux_worker;

/// A worker that is reached by HTTP: its methods become a tower service, which any HTTP server, axum
/// application or serverless runtime can serve.
///
/// ```no_run
/// use palm::prelude::*;
///
/// struct Resizer;
///
/// #[palm::http_worker(server = "images")]
/// impl Resizer {
///     #[palm::method]
///     fn thumbnail(&self, image: Vec<u8>) -> Vec<u8> {
///         image.into_iter().step_by(2).collect()
///     }
/// }
///
/// # async fn example() -> Result<(), palm::BoxError> {
/// palm::http::serve(Resizer.into_service(), "127.0.0.1:8888").await // until SIGTERM or Ctrl-C
/// # }
/// ```
///
/// Its master has an [`HttpConnection`](parts::HttpConnection) in the place of workers' sockets. What
/// goes over the wire is described at [`HttpWorker`](http::HttpWorker).
///
/// Options and methods are those of [`macro@worker`], but each method gives one result. The cache of a
/// [`Context`] is the worker's own, in memory. What is generated implements
/// [`IntoHttpWorker`](http::IntoHttpWorker) in the place of [`Connect`].
///
/// ```compile_fail
/// # struct Splitter;
/// #[palm::http_worker]
/// impl Splitter {
///     #[palm::method]
///     fn split(&self, text: String) -> impl Iterator<Item = String> + use<> { // error: many results
///         std::iter::once(text)
///     }
/// }
/// ```
#[cfg(feature = "http")]
pub use palm_macros::http_worker;

/// Shapes the streams of a master, which spreads calls over workers. One that shapes nothing is
/// [`Master::new`].
///
/// ```
/// use palm::prelude::*;
///
/// struct Tripler;
///
/// #[palm::master(name = "server")]
/// impl Tripler {
///     #[palm::scatter]
///     fn three(&self, message: Message) -> impl Iterator<Item = Message> {
///         std::iter::repeat_n(message, 3)
///     }
/// }
///
/// # async fn example() -> palm::Result<()> {
/// Tripler.bind("tcp://127.0.0.1:5559").start().await
/// # }
/// ```
///
/// Options are those of [`macro@server`]. Inside go [`macro@scatter`], [`macro@gather`] and
/// [`macro@handle_stream`], each at most once.
///
/// # What is generated
///
/// The impl block as it is; the hooks as [`callable::Shape`]; [`Bind`]; and an entry in
/// [`components`].
///
/// ```compile_fail
/// # struct Tripler;
/// #[palm::master(name = "server")]
/// impl Tripler {
///     #[palm::method] // error: methods belong to servers, pipelines, sinks and workers
///     fn foo(&self) {}
/// }
/// ```
pub use palm_macros::master;

/// Shapes the streams of a hub: a master whose messages come from another component. One that
/// shapes nothing is [`Hub::new`].
///
/// ```
/// use palm::prelude::*;
///
/// struct Filter;
///
/// #[palm::hub(name = "filter")]
/// impl Filter {
///     #[palm::gather]
///     fn not_empty(&self, message: Message) -> Option<Message> {
///         Some(message).filter(|message| !message.payload().is_empty())
///     }
/// }
///
/// # async fn example() -> palm::Result<()> {
/// Filter.bind("tcp://127.0.0.1:5561").follow("tcp://127.0.0.1:5555").start().await
/// # }
/// ```
///
/// Options, hooks and what is generated are those of [`macro@master`].
///
/// ```compile_fail
/// # struct Filter;
/// #[palm::hub(name = "filter")] // error: it overrides nothing
/// impl Filter {}
/// ```
pub use palm_macros::hub;

/// Marks a method that can be called, inside of [`macro@server`], [`macro@pipeline`], [`macro@sink`],
/// [`macro@worker`] or [`macro@mux_worker`].
///
/// | option | type | default | |
/// |---|---|---|---|
/// | `name` | string | the method's name | the name that it is called by; not on an `impl` of an [`macro@interface`] |
/// | `blocking` | flag | off | it computes for long, and gets a thread of its own; not for `async` methods and streams |
/// | `at_most_once` | flag | off | a call must not run twice: if a worker is lost with it, it fails with [`FailureKind::Unavailable`]; if the component is killed, its clients do not send it again, and it ends with [`CallError::Timeout`]. What this covers: [`guide::calls`] |
/// | `max_runtime_ms` | number | no limit | how long a call may run, in milliseconds; then it fails with [`FailureKind::DeadlineExceeded`]. A method that awaits is dropped where it does, one that is `blocking` goes on for nobody |
///
/// ```
/// struct Server;
///
/// #[palm::server(name = "server")]
/// impl Server {
///     #[palm::method(name = "compute", blocking)]
///     fn slow(&self) -> String {
///         "done".to_owned()
///     }
/// }
///
/// assert_eq!(Server::SLOW.to_string(), "server.compute");
/// ```
///
/// ```compile_fail
/// #[palm::method] // error: it belongs inside of an impl block
/// fn foo() {}
/// ```
pub use palm_macros::method;

/// Marks the hook that turns a message that came in into those that go on to the workers, inside of
/// [`macro@master`] or [`macro@hub`].
///
/// It takes the [`Message`], and a [`Context`] if it likes, and returns any iterator or stream of
/// messages, or a `Result` of one. See [`macro@master`]. With `&mut self` all that one call yields is
/// collected before it goes on. When it fails or panics the error is logged and comes back to the
/// caller, as that of a method does; [`macro@gather`] does not see it.
///
/// ```compile_fail
/// #[palm::scatter] // error: it belongs inside of an impl block
/// fn scatter() {}
/// ```
pub use palm_macros::scatter;

/// Marks the hook that turns a worker's result into those that are published, inside of
/// [`macro@master`] or [`macro@hub`].
///
/// It takes the [`Message`], and a [`Context`] if it likes, and returns any iterator or stream of
/// messages, or a `Result` of one. What one call yields is collected before it goes on. See
/// [`macro@hub`].
///
/// ```compile_fail
/// #[palm::gather] // error: it belongs inside of an impl block
/// fn gather() {}
/// ```
pub use palm_macros::gather;

/// Marks the hook that says under which topic a message is published, inside of [`macro@server`],
/// [`macro@pipeline`], [`macro@sink`], [`macro@master`] or [`macro@hub`].
///
/// It takes the [`Message`], and a [`Context`] if it likes, and returns the topic and the message that
/// is to be published, or a `Result` of them. A message that goes on to a further step needs the next
/// [`stage`](Message::set_stage).
///
/// ```
/// use palm::prelude::*;
///
/// #[derive(Default)]
/// struct Tee {
///     messages: u64,
/// }
///
/// #[palm::server(name = "tee")]
/// impl Tee {
///     #[palm::method]
///     fn pass(&self, text: String) -> String {
///         text
///     }
///
///     #[palm::handle_stream]
///     fn alternate(&mut self, mut message: Message) -> (&'static str, Message) {
///         self.messages += 1;
///         message.set_stage(message.stage() + 1);
///         (if self.messages % 2 == 1 { "even" } else { "odd" }, message)
///     }
/// }
/// ```
///
/// ```compile_fail
/// #[palm::handle_stream] // error: it belongs inside of an impl block
/// fn route() {}
/// ```
pub use palm_macros::handle_stream;

/// Makes a trait the contract of a component, for a crate that both sides share: components implement
/// it, and a client that is generated calls it.
///
/// ```
/// use palm::prelude::*;
///
/// // In the crate that both sides share:
///
/// /// Makes images smaller.
/// #[palm::interface(name = "images")]
/// pub trait Images {
///     /// A small image.
///     async fn thumbnail(&self, image: Vec<u8>) -> Result<Vec<u8>, String>;
/// }
///
/// // In the component:
///
/// struct Resizer;
///
/// #[palm::worker]
/// impl Images for Resizer {
///     async fn thumbnail(&self, image: Vec<u8>) -> Result<Vec<u8>, String> {
///         Ok(image.into_iter().step_by(2).collect())
///     }
/// }
///
/// // In a program that calls it, which needs no line of the component:
///
/// # async fn example() -> palm::Result<()> {
/// let images = ImagesClient::connect("tcp://127.0.0.1:5559").await?;
/// let thumbnail: Vec<u8> = images.thumbnail(vec![1, 2, 3]).await?;
/// # Ok(())
/// # }
/// ```
///
/// # Options
///
/// | option | type | default | |
/// |---|---|---|---|
/// | `name` | string | needed | the name that clients call it by: the server's, or the master's of the workers that implement it |
/// | `crate` | path | `::palm` | where to find this crate, if it has another name |
///
/// # Functions
///
/// Each is a method as those of [`macro@server`] are, without a body, and not called `new`, `connect`,
/// `on` or `client`, which the client has. `#[palm::server]`,
/// `#[palm::pipeline]`, `#[palm::sink]` and `#[palm::worker]` go on an `impl` of the trait, and all of
/// its functions can be called. `#[palm::method(blocking)]` may mark them there; their names are
/// the interface's. The component has the interface's name unless the attribute gives it another.
///
/// # What is generated
///
/// The trait, where the future of an `async` function is `Send`; and, for `Images`, the client
/// `ImagesClient`, with a method for each function, which carries its documentation, and a constant
/// (`ImagesClient::THUMBNAIL`), which can be a step of a [`Route`]. A method that gives one answer
/// returns an [`Eval`], which is awaited and may be given a timeout; one that gives many a [`Job`]; one
/// that gives none is sent and not waited for. `ImagesClient::new(client)` uses a client that is
/// connected, and `.on("other")` calls another component.
///
/// ```compile_fail
/// # use palm::prelude::*;
/// #[palm::interface(name = "images")]
/// pub trait Images<T> { // error: an interface cannot be generic
///     async fn thumbnail(&self, image: T) -> T {} // error: no body
/// }
/// ```
pub use palm_macros::interface;

/// Hooks of an inbound part: what becomes of messages before they go on, and what of their answers.
///
/// ```no_run
/// use palm::parts::{CacheService, PubService, RepService};
/// use palm::prelude::*;
///
/// /// Lets each message go on once for each line in it.
/// struct Lines;
///
/// #[palm::inbound]
/// impl Lines {
///     fn scatter(&mut self, message: Message) -> Vec<Message> {
///         let lines = message.payload().split(|byte| *byte == b'\n').map(<[u8]>::to_vec);
///         lines.map(|line| message.clone().with_payload(line)).collect()
///     }
///
///     fn reply_feedback(&mut self, _: Bytes) -> &'static str {
///         "thank you"
///     }
/// }
///
/// # async fn example() -> palm::Result<()> {
/// let requests = RepService::bind("tcp://127.0.0.1:5555").hooks(Lines);
/// let mut server = ServerTemplate::new("lines");
/// server.register_inbound(requests, "Rep").route("Pub");
/// server.register_outbound(PubService::bind("tcp://127.0.0.1:5556"), "Pub");
/// server.register_bypass(CacheService::bind("tcp://127.0.0.1:5559"), "Cache");
/// server.start().await
/// # }
/// ```
///
/// # Hooks
///
/// They are known by their names; each may be left out, and other methods are the type's own.
///
/// | hook | |
/// |---|---|
/// | `fn scatter(&mut self, message: Message) -> ..` | the messages that go on: `Message`, `Option<Message>`, `Vec<Message>`, an iterator or a stream, or a `Result` of these; may be `async`, and take a [`Context`]. It does not see a message that [is done](Message::is_done) |
/// | `fn handle_feedback(&mut self, feedback: &Bytes)` | what the router answered |
/// | `fn reply_feedback(&mut self, feedback: Bytes) -> ..` | what the peer is answered, where one waits: whatever is `Into<Bytes>` |
///
/// The option `crate = path` says where to find this crate, if it has another name. What is generated
/// implements [`part::InboundHooks`].
///
/// ```compile_fail
/// # use palm::prelude::*;
/// # struct Lines;
/// #[palm::inbound]
/// impl Lines {
///     fn scater(&mut self, message: Message) -> Message { message } // error: did you mean `scatter`?
/// }
/// ```
pub use palm_macros::inbound;

/// An outbound part of your own: what it does with each message.
///
/// ```no_run
/// use palm::parts::{CacheService, Handler, PubService, PullService};
/// use palm::prelude::*;
///
/// /// Writes payloads to a file, and lets the messages go on without them.
/// struct Archive(tokio::fs::File);
///
/// #[palm::outbound]
/// impl Archive {
///     async fn handle(&mut self, message: Message) -> std::io::Result<Message> {
///         use tokio::io::AsyncWriteExt;
///         self.0.write_all(message.payload()).await?;
///         Ok(message.with_payload("archived"))
///     }
/// }
///
/// # async fn example() -> Result<(), palm::BoxError> {
/// let archive = Archive(tokio::fs::File::create("archive").await?);
/// let mut server = ServerTemplate::new("archive");
/// server.register_inbound(PullService::bind("tcp://127.0.0.1:5555"), "Pull").route("Archive");
/// server.register_outbound(Handler::new(archive), "Archive").route("Pub");
/// server.register_outbound(PubService::bind("tcp://127.0.0.1:5556"), "Pub");
/// server.register_bypass(CacheService::bind("tcp://127.0.0.1:5559"), "Cache");
/// server.start().await?;
/// # Ok(())
/// # }
/// ```
///
/// The hook is `handle`, with the parameters and results of `scatter` of [`macro@inbound`]. An error
/// goes on as the error of the message. What is generated implements [`part::OutboundHooks`].
pub use palm_macros::outbound;

/// What a part beside the router takes, or gives.
///
/// ```no_run
/// use palm::parts::{BypassSender, PushBypassConnection, RepBypassService};
/// use palm::prelude::*;
///
/// /// Answers questions of a protocol of its own, and tells another process that it is there.
/// struct Clock;
///
/// #[palm::bypass]
/// impl Clock {
///     fn recv(&mut self, zone: String) -> Result<String, String> {
///         match zone.as_str() {
///             "UTC" => Ok(format!("{:?}", std::time::SystemTime::now())),
///             _ => Err(format!("no time zone `{zone}`")),
///         }
///     }
/// }
///
/// struct Heartbeat;
///
/// #[palm::bypass]
/// impl Heartbeat {
///     async fn run(self, sender: BypassSender) {
///         let mut beat = tokio::time::interval(std::time::Duration::from_secs(1));
///         while sender.send("alive").await {
///             beat.tick().await;
///         }
///     }
/// }
///
/// # fn example(server: &mut ServerTemplate) {
/// server.register_bypass(RepBypassService::bind("tcp://127.0.0.1:5570", Clock), "Clock");
/// let heart = PushBypassConnection::connect("tcp://10.0.0.9:5600").producer(Heartbeat);
/// server.register_bypass(heart, "Heart");
/// # }
/// ```
///
/// # Hooks
///
/// | hook | |
/// |---|---|
/// | `fn recv(&mut self, body: T) -> ..` | takes a body, as any type that a method may take; gives the answer, as a method gives its result; may be `async`. For [`parts::RepBypassService`] and [`parts::PullBypassConnection`] |
/// | `async fn run(self, sender: BypassSender) -> ..` | gives bodies, until the component stops; returns nothing or a `Result`. For [`parts::PushBypassConnection`] |
///
/// What is generated implements [`part::BypassInbound`] or [`part::BypassOutbound`].
pub use palm_macros::bypass;

/// Steps that are written as literals, checked when they are compiled: [`Steps`].
///
/// ```
/// let steps = palm::steps!["first.split", "second.count"];
/// assert_eq!(steps.to_string(), "first.split second.count");
/// assert_eq!(palm::steps!("first.split second.count"), steps);
/// ```
///
/// ```compile_fail
/// palm::steps!["first.split", "second"]; // error: `second` is not of the form `server.function`
/// ```
#[macro_export]
macro_rules! steps {
    ($($step:literal),* $(,)?) => {
        $crate::__private::steps!($crate; $($step),*)
    };
}

/// What the expansions of the macros name. No promise is made about anything in here.
#[doc(hidden)]
pub mod __private {
    pub use palm_macros::steps;
    pub use palm_runtime::callable::{
        Call, Callable, Emit, Emitted, FunctionInfo, IntoMessages, IntoOutcome, IntoPublication,
        Outcome, Receiver, Results, Shape, Shared, State, blocking,
    };
    pub use palm_runtime::component::{
        HubBuilder, MasterBuilder, PipelineBuilder, ServerBuilder, SinkBuilder, WorkerBuilder,
    };
    #[cfg(feature = "http")]
    pub use palm_runtime::http::IntoHttpWorker;
    pub use palm_runtime::part::{BypassInbound, BypassOutbound, InboundHooks, OutboundHooks};
    pub use palm_runtime::parts::{BypassSender, IntoAddress};
    pub use palm_runtime::{
        Argument, Bind, BoxError, CallError, CallFailure, Client, ComponentKind, Connect,
        ConnectError, Context, Eval, FromPayload, Function, Job, Message, NoAnswer, Registration,
        Stream, check, inventory,
    };
    pub use palm_runtime::{ByteString, Bytes};
    pub use std::sync::Arc;
}
