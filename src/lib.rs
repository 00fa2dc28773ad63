// Links of the documents that this documentation includes lead to files. The first definition of a reference
// counts, so those of `rustdoc-links.md` before a document make its links lead to the pages of those files.
#![doc = include_str!("../docs/book/rustdoc-links.md")]
#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]
//!
//! # Where to start reading
//!
//! | to | read |
//! |---|---|
//! | learn palm | [`guide::introduction`], [`guide::concepts`], [`guide::tour`] |
//! | answer calls | [`macro@server`], [`Bind`] |
//! | distribute calls to workers | [`macro@master`] or [`Master`], [`macro@worker`], [`macro@mux_worker`] |
//! | process a stream in steps | [`macro@pipeline`], [`macro@sink`], [`macro@hub`] or [`Hub`] |
//! | call functions | [`Client`], [`blocking::Client`]; chapter: [`guide::calls`] |
//! | share the interface of a component with its callers | [`macro@interface`], [`Function`], [`Route`] |
//! | send your own types | [`FromPayload`], [`IntoPayload`], [`guide::calls`] |
//! | store, share and watch values | [`Cache`], [`KeyValue`]; chapter: [`guide::cache`] |
//! | authorise, limit, time or retry calls | [`middleware`]; chapter: [`guide::middleware`] |
//! | use HTTP | with the feature `http`: `http`, `http_worker`; chapter: [`guide::http`] |
//! | build a component from parts | [`ServerTemplate`], [`parts`], [`part`]; your own parts: [`macro@inbound`], [`macro@outbound`], [`macro@bypass`] |
//! | test components | with the feature `testing`: `testing`; chapter: [`guide::testing`] |
//! | make a program of components | with the feature `main`: `main!`; chapter: [`guide::programs`] |
//! | find the cause of an error | [`guide::errors`] |
//! | write a peer in another language | [`guide::protocol`] |
//! | observe a component, or a cluster | chapter: [`guide::observe`]; [`inspect`](mod@inspect), [`report`], [`trace`], [`logging`], [`ComponentHandle::metrics`], [`components`]; with the feature `monitor`: `monitor` |

#[cfg(feature = "json")]
pub use palm_runtime::Json;
#[cfg(feature = "messagepack")]
pub use palm_runtime::MessagePack;
#[doc(hidden)]
pub use palm_runtime::PalmError;
#[cfg(feature = "http")]
pub use palm_runtime::http;
#[cfg(feature = "logging")]
pub use palm_runtime::logging;
#[cfg(feature = "monitor")]
pub use palm_runtime::monitor;
pub use palm_runtime::{
    Addressee, Answer, Argument, Bind, BoxError, BoxMethod, ByteString, Bytes, Cache, CacheError,
    CacheLimits, CallError, CallFailure, Change, ChangeLog, Client, ClientBuilder, ClientOptions,
    CodecError, ComponentHandle, ComponentKind, ConfigurationError, Connect, ConnectError, Context,
    DecodeError, DescribedFunction, Descriptor, Durations, Entry, Error, Eval, Executor,
    ExposedError, FailureKind, Feeds, FromPayload, Function, FunctionMetrics, Hub, IntoPayload,
    IntoSteps, Job, KeyValue, LinkOptions, Master, MemoryStore, Message, Metrics, NoAnswer,
    OpenStoreError, Order, Page, PageLimits, PartKind, PartMetrics, Pipeline, Position,
    PositionedError, Progress, Protobuf, QueueLimits, Registration, RemoteError, Report, Result,
    Route, RunError, Scan, Server, ServerTemplate, Sink, StartError, Step, StepError, Steps, Swap,
    Trace, Untyped, Watch, WireFormatError, Worker, blocking, callable, component, components,
    inspect, middleware, part, parts, report, socket, trace,
};
#[cfg(feature = "file-cache")]
pub use palm_runtime::{FileStore, FileStoreBuilder};
#[cfg(feature = "redis")]
pub use palm_runtime::{RedisStore, RedisStoreBuilder};
#[cfg(feature = "progress")]
pub use palm_runtime::{WithProgress, progress};

/// # Examples
///
/// Calling the methods of a component directly:
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
///         word.map(str::to_owned).ok_or("the text is empty")
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
///     panic!("an empty text has no first word");
/// };
/// assert_eq!(error.kind, FailureKind::Failed);
/// assert_eq!(error.message, "the text is empty");
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
#[cfg(feature = "testing")]
pub use palm_runtime::testing;

/// The items that most programs need: `use palm::prelude::*;`.
pub mod prelude {
    #[cfg(feature = "http")]
    pub use palm_runtime::http::IntoHttpWorker;
    pub use palm_runtime::{
        Bind, Bytes, Client, Connect, Context, FromPayload, Function, Hub, IntoPayload, Master,
        Message, ServerTemplate,
    };
}

/// The chapters of the guide, which `docs/book` in the repository also has as a book.
///
/// Begin with [`introduction`](guide::introduction), [`concepts`](guide::concepts) and [`tour`](guide::tour).
pub mod guide {
    #[doc = include_str!("../docs/book/rustdoc-links.md")]
    #[doc = include_str!("../docs/book/src/introduction.md")]
    pub mod introduction {}

    #[doc = include_str!("../docs/book/rustdoc-pictures.md")]
    #[doc = include_str!("../docs/book/rustdoc-links.md")]
    #[doc = include_str!("../docs/book/src/concepts.md")]
    pub mod concepts {}

    #[doc = include_str!("../docs/book/rustdoc-links.md")]
    #[doc = include_str!("../docs/book/src/tour.md")]
    pub mod tour {}

    #[doc = include_str!("../docs/book/rustdoc-links.md")]
    #[doc = include_str!("../docs/book/src/components.md")]
    pub mod components {}

    #[doc = include_str!("../docs/book/rustdoc-links.md")]
    #[doc = include_str!("../docs/book/src/calls.md")]
    pub mod calls {}

    #[doc = include_str!("../docs/book/rustdoc-links.md")]
    #[doc = include_str!("../docs/book/src/streams.md")]
    pub mod streams {}

    #[doc = include_str!("../docs/book/rustdoc-links.md")]
    #[doc = include_str!("../docs/book/src/delivery.md")]
    pub mod delivery {}

    #[doc = include_str!("../docs/book/rustdoc-links.md")]
    #[doc = include_str!("../docs/book/src/cache.md")]
    pub mod cache {}

    #[doc = include_str!("../docs/book/rustdoc-links.md")]
    #[doc = include_str!("../docs/book/src/http.md")]
    pub mod http {}

    #[doc = include_str!("../docs/book/rustdoc-links.md")]
    #[doc = include_str!("../docs/book/src/middleware.md")]
    pub mod middleware {}

    #[doc = include_str!("../docs/book/rustdoc-links.md")]
    #[doc = include_str!("../docs/book/src/testing.md")]
    pub mod testing {}

    #[doc = include_str!("../docs/book/rustdoc-links.md")]
    #[doc = include_str!("../docs/book/src/programs.md")]
    pub mod programs {}

    #[doc = include_str!("../docs/book/rustdoc-links.md")]
    #[doc = include_str!("../docs/book/src/cluster.md")]
    pub mod cluster {}

    #[doc = include_str!("../docs/book/rustdoc-links.md")]
    #[doc = include_str!("../docs/book/src/configuration.md")]
    pub mod configuration {}

    #[doc = include_str!("../docs/book/rustdoc-pictures.md")]
    #[doc = include_str!("../docs/book/rustdoc-links.md")]
    #[doc = include_str!("../docs/book/src/observe.md")]
    pub mod observe {}

    #[doc = include_str!("../docs/book/rustdoc-links.md")]
    #[doc = include_str!("../docs/book/src/tuning.md")]
    pub mod tuning {}

    #[doc = include_str!("../docs/book/rustdoc-links.md")]
    #[doc = include_str!("../docs/book/src/limits.md")]
    pub mod limits {}

    #[doc = include_str!("../docs/book/rustdoc-links.md")]
    #[doc = include_str!("../docs/book/src/errors.md")]
    pub mod errors {}

    #[doc = include_str!("../docs/book/rustdoc-links.md")]
    #[doc = include_str!("../docs/book/src/cluster-errors.md")]
    pub mod cluster_errors {}

    #[doc = include_str!("../docs/book/rustdoc-links.md")]
    #[doc = include_str!("../docs/book/src/faq.md")]
    pub mod faq {}

    #[doc = include_str!("../docs/book/rustdoc-links.md")]
    #[doc = include_str!("../docs/book/src/comparison.md")]
    pub mod comparison {}

    #[doc = include_str!("../docs/book/rustdoc-links.md")]
    #[doc = include_str!("../docs/book/src/porting.md")]
    pub mod porting {}

    #[doc = include_str!("../docs/book/rustdoc-links.md")]
    #[doc = include_str!("../docs/book/src/protocol.md")]
    pub mod protocol {}

    #[doc = include_str!("../docs/book/rustdoc-links.md")]
    #[doc = include_str!("../docs/book/src/glossary.md")]
    pub mod glossary {}

    #[doc = include_str!("../docs/book/rustdoc-links.md")]
    #[doc = include_str!("../ARCHITECTURE.md")]
    pub mod architecture {}

    #[doc = include_str!("../docs/book/rustdoc-links.md")]
    #[doc = include_str!("../proto/README.md")]
    pub mod wire {}

    #[doc = include_str!("../docs/book/rustdoc-links.md")]
    #[doc = include_str!("../SECURITY.md")]
    pub mod security {}

    #[doc = include_str!("../docs/book/rustdoc-links.md")]
    #[doc = include_str!("../benches/README.md")]
    pub mod benchmarks {}
}

/// Makes the methods of an `impl` block callable by clients: a server.
///
/// ```
/// use palm::prelude::*;
///
/// struct Greeter {
///     greeting: String,
/// }
///
/// /// Greets people.
/// #[palm::server(name = "greeter")]
/// impl Greeter {
///     /// Greets the person with this name.
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
/// | `name` | string | required | the name in calls, without dot and space |
/// | `crate` | path | `::palm` | the path of this crate, if it has another name |
///
/// # Methods
///
/// Methods with the attribute [`#[palm::method]`](macro@method) can be called. A method
///
/// - has `&self`, so that calls run concurrently, up to
///   [`concurrency`](component::Builder::concurrency), or `&mut self`, so that one call runs at a time;
/// - has no further parameter, or the payload as any [`FromPayload`] type, and optionally a [`Context`];
/// - is sync or `async`; a long computation is marked `#[palm::method(blocking)]` and runs on a thread of
///   its own;
/// - returns a payload (any [`IntoPayload`] type); `()` or an `Option`, which may have no answer; a
///   `Result<_, E>` of these; or `impl Iterator` or `impl Stream` of them, for many answers.
///
/// `E` is any type that is an error or converts to a boxed error (`std::error::Error`, `String`), converts
/// to [`palm::Error`](Error), or implements `Display`. Errors and panics are logged and returned to the
/// caller ([`CallError::Remote`]; clients of pylm receive the payload `0`).
///
/// Every component also has a function `echo`, which returns its payload, unless a method has that name.
///
/// [`#[palm::handle_stream]`](macro@handle_stream) marks the hook that chooses the topic of each answer.
///
/// # What is generated
///
/// The unchanged impl block; a constant for each method (`Greeter::HELLO`, a [`Function<String,
/// String>`](Function)) with its name and types, so that a wrong [call](Client::eval) does not compile; an
/// implementation of [`callable::Callable`], a `match` over the names; [`Bind`]; and an entry in
/// [`components`].
///
/// On an `impl` of an [`macro@interface`], all functions can be called, and `name` is optional.
///
/// ```compile_fail
/// # use palm::prelude::*;
/// struct Server;
///
/// #[palm::server(name = "my.server")] // error: a name cannot contain a dot
/// impl Server {
///     #[palm::method]
///     fn foo(&self, first: Bytes, second: Bytes) {} // error: a method takes one payload
/// }
/// ```
pub use palm_macros::server;

/// Makes the methods of an `impl` block a step of a stream: a pipeline.
///
/// A pipeline receives the publications of its upstream component, and publishes its results.
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
///     .follow("tcp://127.0.0.1:5555") // the `db_address` of the upstream component
///     .start()
///     .await
/// # }
/// ```
///
/// Options, methods and generated items are those of [`macro@server`]. A method that returns nothing ends
/// the stream.
///
/// ```compile_fail
/// # struct Shout;
/// #[palm::pipeline] // error: give the pipeline a name
/// impl Shout {
///     #[palm::method]
///     fn upper(&self, text: String) -> String {
///         text.to_uppercase()
///     }
/// }
/// ```
pub use palm_macros::pipeline;

/// Makes the methods of an `impl` block a step that merges several streams: a sink.
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
/// Options, methods and generated items are those of [`macro@server`].
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

/// Makes the methods of an `impl` block run the tasks of a master or hub: a worker.
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
/// | `server` | string | `_`; of an [`macro@interface`], its name | the master's name in the constants; the worker itself ignores the name in a task |
/// | `crate` | path | `::palm` | the path of this crate, if it has another name |
///
/// Methods and generated items are those of [`macro@server`], with [`Connect`] instead of [`Bind`]. A
/// worker sends each answer as soon as it is complete. The cache of a [`Context`] is the master's.
///
/// ```compile_fail
/// # struct Resizer;
/// #[palm::worker(name = "images")] // error: unknown option `name`
/// impl Resizer {
///     #[palm::method]
///     fn thumbnail(self) {} // error: a `#[palm::method]` takes `&self`, or `&mut self` for exclusive access
/// }
/// ```
pub use palm_macros::worker;

/// A [`macro@worker`] whose methods all return many results: an iterator or a stream.
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
/// Options and generated items are those of [`macro@worker`].
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

/// Makes the methods of an `impl` block a worker behind HTTP.
///
/// The worker becomes a tower service for any HTTP server, axum application or serverless runtime.
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
/// A program of [`main!`](crate::main) starts it as `my_program http_worker images --bind 127.0.0.1:8888`.
/// Its master has an [`HttpConnection`](parts::HttpConnection) instead of sockets for workers.
/// [`HttpWorker`](http::HttpWorker) describes the wire format.
///
/// Options and methods are those of [`macro@worker`], but each method returns one result. The cache of a
/// [`Context`] is the worker's own, in memory. The generated code implements
/// [`IntoHttpWorker`](http::IntoHttpWorker) instead of [`Connect`].
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
#[cfg(not(feature = "http"))]
#[doc(hidden)]
pub use palm_macros::http_worker_without_feature as http_worker;

/// Adds hooks to a master, which distributes calls to workers.
///
/// For a master without hooks, use [`Master::new`].
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
/// Options are those of [`macro@server`]. The hooks are [`macro@scatter`], [`macro@gather`] and
/// [`macro@handle_stream`], each at most once.
///
/// # What is generated
///
/// The unchanged impl block; an implementation of [`callable::Shape`] with the hooks; [`Bind`]; and an
/// entry in [`components`].
///
/// ```compile_fail
/// # struct Tripler;
/// #[palm::master(name = "server")]
/// impl Tripler {
///     #[palm::method] // error: a master has no callable methods
///     fn foo(&self) {}
/// }
/// ```
pub use palm_macros::master;

/// Adds hooks to a hub: a master that receives its messages from an upstream component.
///
/// For a hub without hooks, use [`Hub::new`].
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
/// Options, hooks and generated items are those of [`macro@master`].
///
/// ```compile_fail
/// # struct Filter;
/// #[palm::hub(name = "filter")] // error: this hub has no hooks
/// impl Filter {}
/// ```
pub use palm_macros::hub;

/// Marks a method that can be called.
///
/// Used inside of [`macro@server`], [`macro@pipeline`], [`macro@sink`], [`macro@worker`],
/// [`macro@mux_worker`] and `http_worker`.
///
/// | option | type | default | |
/// |---|---|---|---|
/// | `name` | string | the method's name | the name of the function; not on an `impl` of an [`macro@interface`] |
/// | `blocking` | flag | off | runs on a thread of its own, for long computations; not for `async` methods and streams |
/// | `at_most_once` | flag | off | a call must not run twice: if a worker is lost with it, it fails with [`FailureKind::Unavailable`]; if the component is killed, its clients do not send it again, and it ends with [`CallError::Timeout`]. Details: [`guide::delivery`] |
/// | `max_runtime_ms` | number | no limit | how long a call may run, in milliseconds, before it fails with [`FailureKind::DeadlineExceeded`]. The future of an `async` method is dropped; a `blocking` method continues, and its result is dropped |
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
/// #[palm::method] // error: `#[palm::method]` belongs on a method in an `impl` block
/// fn foo() {}
/// ```
pub use palm_macros::method;

/// Marks the hook that turns a received message into the tasks of workers.
///
/// Used inside of [`macro@master`] and [`macro@hub`]. The hook receives the [`Message`], and optionally a
/// [`Context`], and returns any iterator or stream of messages, or a `Result` of one. See
/// [`macro@master`]. With `&mut self`, all messages of one call are collected before they are passed on.
/// If the hook fails or panics, the error is logged and returned to the caller, as that of a method is;
/// [`macro@gather`] does not receive it.
///
/// ```compile_fail
/// #[palm::scatter] // error: `#[palm::scatter]` belongs on a method in an `impl` block
/// fn scatter() {}
/// ```
pub use palm_macros::scatter;

/// Marks the hook that turns a worker's result into publications.
///
/// Used inside of [`macro@master`] and [`macro@hub`]. The hook receives the [`Message`], and optionally a
/// [`Context`], and returns any iterator or stream of messages, or a `Result` of one. All messages of one
/// call are collected before they are published. See [`macro@hub`].
///
/// ```compile_fail
/// #[palm::gather] // error: `#[palm::gather]` belongs on a method in an `impl` block
/// fn gather() {}
/// ```
pub use palm_macros::gather;

/// Marks the hook that chooses the topic of a publication.
///
/// Used inside of [`macro@server`], [`macro@pipeline`], [`macro@sink`], [`macro@master`] and
/// [`macro@hub`]. The hook receives the [`Message`], and optionally a [`Context`], and returns the topic
/// and the message to publish, or a `Result` of them. A message for a further step needs the next
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
/// #[palm::handle_stream] // error: `#[palm::handle_stream]` belongs on a method in an `impl` block
/// fn route() {}
/// ```
pub use palm_macros::handle_stream;

/// Makes a trait the interface of a component, in a crate that both sides share.
///
/// Components implement the trait, and callers use a generated client.
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
/// // In the caller, which does not depend on the component:
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
/// | `name` | string | required | the name in calls: that of the server, or of the master of the workers |
/// | `crate` | path | `::palm` | the path of this crate, if it has another name |
///
/// # Functions
///
/// Each function is a method as in [`macro@server`], without a body. The names `new`, `connect`, `on` and
/// `client` are reserved for the generated client.
///
/// `#[palm::server]`, `#[palm::pipeline]`, `#[palm::sink]` or `#[palm::worker]` is put on an `impl` of the
/// trait, and all of its functions can be called. `#[palm::method(blocking)]` may mark them there; their
/// names are those of the interface. The component has the name of the interface unless its attribute
/// sets another one.
///
/// # What is generated
///
/// The trait, with `Send` futures for `async` functions; and, for `Images`, the client `ImagesClient`. The
/// client has a documented method for each function, and a constant (`ImagesClient::THUMBNAIL`), which can
/// be a step of a [`Route`]. A method with one answer returns an [`Eval`], which is awaited and may have a
/// timeout; a method with many answers returns a [`Job`]; a method without an answer only sends the call.
/// `ImagesClient::new(client)` shares the connection of a client, and `.on("other")` calls another
/// component.
///
/// ```compile_fail
/// # use palm::prelude::*;
/// #[palm::interface(name = "images")]
/// pub trait Images<T> { // error: an interface cannot be generic
///     async fn thumbnail(&self, image: T) -> T {} // error: no body
/// }
/// ```
pub use palm_macros::interface;

/// Makes the methods of an `impl` block the hooks of an inbound part.
///
/// The hooks transform messages before they are passed on, and their answers.
///
/// ```no_run
/// use palm::parts::{CacheService, PubService, RepService};
/// use palm::prelude::*;
///
/// /// Splits each message into lines.
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
/// let requests = RepService::bind("tcp://127.0.0.1:5555");
/// let mut server = ServerTemplate::new("lines");
/// server.register_inbound(requests, "Rep").hooks(Lines).route("Pub");
/// server.register_outbound(PubService::bind("tcp://127.0.0.1:5556"), "Pub");
/// server.register_bypass(CacheService::bind("tcp://127.0.0.1:5559"), "Cache");
/// server.start().await
/// # }
/// ```
///
/// # Hooks
///
/// Hooks are found by their names. Each is optional, and other methods are left alone.
///
/// | hook | |
/// |---|---|
/// | `fn scatter(&mut self, message: Message) -> ..` | returns the messages to pass on: `Message`, `Option<Message>`, `Vec<Message>`, an iterator or a stream, or a `Result` of these; may be `async`, and have a [`Context`]. Messages that [are done](Message::is_done) bypass it |
/// | `fn handle_feedback(&mut self, feedback: &Bytes)` | receives the answer of the router |
/// | `fn reply_feedback(&mut self, feedback: Bytes) -> ..` | returns the answer to a peer that waits, as any `Into<Bytes>` |
///
/// The option `crate = path` sets the path of this crate, if it has another name. The generated code
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

/// Makes the method `handle` of an `impl` block an outbound part.
///
/// ```no_run
/// use palm::parts::{CacheService, Handler, PubService, PullService};
/// use palm::prelude::*;
///
/// /// Writes payloads to a file, and passes the messages on without them.
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
/// The hook `handle` has the parameters and results of `scatter` of [`macro@inbound`]. Its error becomes
/// the error of the message. The generated code implements [`part::OutboundHooks`].
pub use palm_macros::outbound;

/// Makes a method of an `impl` block a bypass part, which receives or sends bodies alongside the router.
///
/// ```no_run
/// use palm::parts::{BypassSender, PushBypassConnection, RepBypassService};
/// use palm::prelude::*;
///
/// /// Answers requests for the time in a time zone.
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
/// /// Sends a sign of life every second.
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
/// | `fn recv(&mut self, body: T) -> ..` | receives a body as any type of a method's parameter, and returns the answer as a method returns its result; may be `async`. For [`parts::RepBypassService`] and [`parts::PullBypassConnection`] |
/// | `async fn run(self, sender: BypassSender) -> ..` | sends bodies until the component stops; returns nothing or a `Result`. For [`parts::PushBypassConnection`] |
///
/// The generated code implements [`part::BypassInbound`] or [`part::BypassOutbound`].
pub use palm_macros::bypass;

/// Makes [`Steps`] of literals, whose form is checked at compile time.
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

/// Makes the `main` function of a program whose components are its commands. Feature `main`.
///
/// ```no_run
/// use palm::prelude::*;
///
/// #[derive(Default)]
/// struct Splitter;
///
/// /// Splits texts.
/// #[palm::server(name = "words")]
/// impl Splitter {
///     /// Returns the first word.
///     #[palm::method]
///     fn first(&self, text: String) -> String {
///         text.split_whitespace().next().unwrap_or_default().to_owned()
///     }
/// }
///
/// palm::main!();
/// ```
///
/// ```text
/// my_program                                        lists the components and their functions
/// my_program server words --bind tcp://127.0.0.1:5555 --concurrency 4
/// my_program server words --help                    describes the options
/// my_program run                                    does what PALM_WIRING says, for runners
/// ```
///
/// All components that are linked into the program and implement `Default` are commands, and so are a master and a hub
/// without hooks for the workers. A component that is made in another way is an entry, with its constructor:
///
/// ```no_run
/// # use palm::prelude::*;
/// /// How images are made small.
/// #[derive(clap::Args)]
/// struct Settings {
///     /// Keep every n-th byte of an image
///     #[arg(long, env = "QUALITY", default_value_t = 2)]
///     quality: usize,
/// }
///
/// struct Resizer(Settings);
///
/// impl Resizer {
///     async fn open(settings: Settings) -> Result<Self, String> {
///         match settings.quality {
///             0 => Err("the quality is 0".to_owned()),
///             _ => Ok(Self(settings)),
///         }
///     }
/// }
///
/// #[palm::worker(server = "images")]
/// impl Resizer {
///     #[palm::method]
///     fn thumbnail(&self, image: Vec<u8>) -> Vec<u8> {
///         image.into_iter().step_by(self.0.quality).collect()
///     }
/// }
///
/// palm::main!(Resizer => Resizer::open);
/// ```
///
/// A constructor is a function or a closure without captures, sync or async, that returns the component or a `Result`
/// of it. It takes nothing, or one argument that implements `clap::Args`, whose fields become arguments of the command.
///
/// The constructor runs in the program's runtime. The component then runs until SIGTERM or Ctrl-C, drains, and the
/// program exits with 0. It exits with 1 if the component does not start, fails, or does not drain within its limit,
/// with 2 if the command line, the environment, the configuration file or `PALM_WIRING` has a mistake, and with 3 if a
/// second signal ended the drain.
///
/// ```compile_fail
/// # struct Resizer;
/// # #[palm::worker(server = "images")]
/// # impl Resizer { #[palm::method] fn thumbnail(&self, image: Vec<u8>) -> Vec<u8> { image } }
/// palm::main!(Resizer => |path: String| Resizer); // error: `palm::main!` cannot construct `Resizer` with this
/// ```
#[cfg(feature = "main")]
#[macro_export]
macro_rules! main {
    ($($entries:tt)*) => {
        $crate::__private::main!($crate; $($entries)*);
    };
}

/// Needs the feature `main`.
#[cfg(not(feature = "main"))]
#[macro_export]
#[doc(hidden)]
macro_rules! main {
    ($($entries:tt)*) => {
        fn main() {
            ::core::compile_error!(
                "`palm::main!` needs the feature `main` of palm: add `features = [\"main\"]` to the dependency in Cargo.toml"
            );
        }
    };
}

/// The items that expanded macros use. Not covered by any stability guarantee.
#[doc(hidden)]
pub mod __private {
    #[cfg(feature = "main")]
    pub use palm_macros::main;
    pub use palm_macros::steps;
    pub use palm_runtime::callable::{
        Call, Callable, Emit, Emitted, FunctionInfo, IntoMessages, IntoOutcome, IntoPublication,
        Outcome, Receiver, Results, Shape, State, StateRef, blocking,
    };
    pub use palm_runtime::component::{
        HttpWorkerBuilder, HubBuilder, MasterBuilder, PipelineBuilder, ServerBuilder, SinkBuilder,
        WorkerBuilder,
    };
    #[cfg(feature = "http")]
    pub use palm_runtime::http::IntoHttpWorker;
    pub use palm_runtime::part::{BypassInbound, BypassOutbound, InboundHooks, OutboundHooks};
    pub use palm_runtime::parts::{BypassSender, IntoAddress};
    #[cfg(feature = "main")]
    pub use palm_runtime::program;
    pub use palm_runtime::{
        Answer, Argument, Bind, BoxError, CallError, CallFailure, Client, ComponentKind, Connect,
        ConnectError, Context, Eval, FromPayload, Function, Job, Linked, Message, NoAnswer,
        NotDefault, Registration, StarterOf, Stream, Untyped, inventory, macro_support as check,
    };
    pub use palm_runtime::{ByteString, Bytes};
    pub use std::sync::Arc;
}
