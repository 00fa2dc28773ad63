//! [`ClientBuilder`], the handshake with the first component, and [`Client`].
//!
//! A client needs the name and the `db_address` of the first component. [`ClientBuilder::connect`] reads everything
//! else from there, in this order: the component's name, its descriptor (which lists the links that it accepts), the
//! addresses of its sockets if it accepts no link, and the descriptor again once the connections are open. Calls leave
//! over a link or a PUSH socket; answers arrive over the same link, a second link with the component that answers,
//! or a SUB socket.
//!
//! [`ClientState`] owns the connections. [`Client::close`] or the drop of the last clone cancels pending calls,
//! flushes the links and says goodbye.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use bytestring::ByteString;
use futures_util::future::join_all;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::cancel;
use super::descriptor_cache::DescriptorCache;
use super::in_flight::{self, InFlightCalls};
use super::routes::{AnswerLink, AnswerSource, LinkFactory, Routes};
use super::transport::Transport;
use super::{CallError, ConnectError, Eval, Job, Reader, wait_report};
use crate::cache::{Cache, CacheError, Scan, Swap, Watch};
use crate::component_kind::ComponentKind;
use crate::discovery::{
    Directory, Endpoint, IntoAddress, ParsedAddress, ready_topic, unfit, until_in_place,
};
use crate::function::{Answer, Argument, IntoSteps, Steps};
use crate::link::connection::Resend;
use crate::link::{CLIENT, LinkOptions, SUBSCRIBER};
use crate::message::proto::Descriptor;
use crate::message::{Content, Deadline, FrameMemory, Share, new_id};
use crate::payload::IntoPayload;
use crate::socket::{Address, Push, SocketError, SocketOptions, Subscribe, find_host};
use crate::wait_cause::{Connecting, WaitCause};

/// Cancelled calls that wait to be reported to the first component. Further ones run to their end.
const MAX_PENDING_CANCELLATIONS: usize = 4096;

/// Limit on one request for the descriptor.
const DESCRIPTOR_TIMEOUT: Duration = Duration::from_secs(2);

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
pub struct Client(pub(super) Arc<ClientState>);

/// The shared state of all clones of a client.
#[derive(Debug)]
pub(super) struct ClientState {
    server: String,
    pipeline: ByteString,
    pub(super) transport: Transport,
    /// Whether calls and answers travel over links, so that the end of a job is known.
    pub(super) tracks_completion: bool,
    pub(super) answers: Arc<InFlightCalls>,
    pub(super) timeout: Duration,
    pub(super) window: usize,
    max_message_bytes: usize,
    memory: Mutex<FrameMemory>,
    cache: Cache,
    pub(super) known: Arc<DescriptorCache>,
    pub(super) routes: Routes,
    /// Why calls wait for answers, as reported by the called component.
    callee_wait_cause: Arc<WaitCause>,
    /// `None` once the client is closed.
    connections: Mutex<Option<OpenConnections>>,
    /// The runtime that runs the client's tasks.
    runtime: Handle,
}

/// The links and tasks of a client until it is closed.
#[derive(Debug)]
struct OpenConnections {
    links: Vec<AnswerLink>,
    tasks: Vec<Reader>,
    /// Sends cancellations. Ends when the last one is sent.
    cancel: Reader,
}

/// Configures a [`Client`]. Created by [`Client::builder`].
#[must_use = "a client does nothing until `.connect().await`"]
#[derive(Debug)]
pub struct ClientBuilder {
    server: String,
    db_address: ParsedAddress,
    push_address: Option<ParsedAddress>,
    sub_address: Option<ParsedAddress>,
    this_config: bool,
    session: Option<String>,
    timeout: Duration,
    connect_timeout: Duration,
    window: usize,
    check_functions: bool,
    answered_by: Option<ParsedAddress>,
    weight: u32,
    link: LinkOptions,
    options: SocketOptions,
}

impl ClientBuilder {
    /// Sets the address of a PUSH socket for calls: the `pull_address` of the first component.
    ///
    /// Calls then leave over this socket instead of a link.
    ///
    /// Default: a link, or the `pull_address` that a legacy peer publishes at its `db_address`.
    pub fn push_address(mut self, address: impl IntoAddress) -> Self {
        self.push_address = Some(address.into_address());
        self
    }

    /// Sets the address of a SUB socket for answers: the `pub_address` of the *last* component of a pipeline.
    ///
    /// This is needed if a component of the pipeline is a legacy (pylm) peer.
    ///
    /// Default: answers arrive over a link (see [`answered_by`](Self::answered_by)), or from the `pub_address` of the
    /// called component.
    pub fn sub_address(mut self, address: impl IntoAddress) -> Self {
        self.sub_address = Some(address.into_address());
        self
    }

    /// Sets the `db_address` of the component that answers: the *last* one of a pipeline.
    ///
    /// This is needed only if a component of the pipeline follows its upstream without a link (`sub_address`, a legacy
    /// peer).
    ///
    /// Default: the client discovers the component. Each component lists its followers in its descriptor. For the first
    /// call of a sequence of steps, the client walks from component to component by the names of the steps, and opens
    /// a link with the last one. It waits up to 5 s for components that have not started yet; then the call fails with
    /// [`CallError::NoRoute`].
    pub fn answered_by(mut self, db_address: impl IntoAddress) -> Self {
        self.answered_by = Some(db_address.into_address());
        self
    }

    /// Sets this client's weight among the clients of a component, from 1 to 100.
    ///
    /// Components serve clients in proportion to their weights: a client with weight 3 receives three times the share
    /// of a client with weight 1. Other values are clamped to the range. Default: 1.
    pub fn weight(mut self, weight: u32) -> Self {
        self.weight = weight.clamp(1, 100);
        self
    }

    /// Sets the options of links.
    ///
    /// If links are disabled (`enabled`), or the component accepts none, calls and answers travel over PUSH and SUB
    /// sockets as in pylm. Messages are then lost with a broken connection, and a job cannot detect its end (see
    /// [`Job::expect_answers`]).
    pub fn link_options(mut self, options: LinkOptions) -> Self {
        self.link = options;
        self
    }

    /// Skips the handshake at `db_address`: the component's name is not verified, and both
    /// [`push_address`](Self::push_address) and [`sub_address`](Self::sub_address) are required. Default: `false`.
    pub fn this_config(mut self, this_config: bool) -> Self {
        self.this_config = this_config;
        self
    }

    /// Sets the id of the stream of messages, and a prefix for cache keys.
    ///
    /// Each cache key is prefixed with the id and a slash, so the client cannot reach keys of other sessions. In the
    /// prefix, a slash in the id becomes `%2F` and a percent sign `%25`. Default: a random id, and keys without a
    /// prefix.
    pub fn session(mut self, session: impl Into<String>) -> Self {
        self.session = Some(session.into());
        self
    }

    /// Sets how long a call waits for its answer, and a job for its next answer. Default: 60 s.
    ///
    /// [`Eval::timeout`] and [`Job::timeout`] override it. The deadline of a single call travels with its message, and
    /// components drop messages whose deadline has passed.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets how long [`connect`](Self::connect) waits for the components to start. Default: 30 s.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Sets how many messages of a job are in flight at once. Default: 2000 messages. 0 counts as 1.
    ///
    /// The bound is soft unless the job tracks completion (see [`Job::expect_answers`]): a function that does not
    /// answer would keep the window closed forever. So if no answer arrives for 200 ms, the messages in flight count
    /// as answered.
    pub fn window(mut self, messages: usize) -> Self {
        self.window = messages.max(1);
        self
    }

    /// Sets whether a call of an unknown function fails before anything is sent. Default: `true`.
    ///
    /// The check uses the function list in the descriptor of the connected component. Legacy peers publish no list.
    /// The list of a master or hub is incomplete while it has workers that have not registered their functions. In
    /// both cases the check is skipped.
    pub fn check_functions(mut self, check: bool) -> Self {
        self.check_functions = check;
        self
    }

    /// Sets the options of sockets.
    pub fn socket_options(mut self, options: SocketOptions) -> Self {
        self.options = options;
        self
    }

    /// Connects to the component. It may start later, within [`connect_timeout`](Self::connect_timeout).
    ///
    /// When this returns, the subscription to answers is in place: a palm publisher confirms it. A pylm publisher
    /// cannot, so the client waits until it is connected, and then long enough for the subscription to take effect.
    ///
    /// # Errors
    ///
    /// [`ConnectError`] if the component does not answer in time, has another name or cannot be called, or if an
    /// address is invalid or its host is not found.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes all connections that it has opened.
    pub async fn connect(self) -> Result<Client, ConnectError> {
        let deadline = Instant::now() + self.connect_timeout;
        let id = new_id();
        let db_address = self.db_address.clone().map_err(SocketError::from)?;
        self.check_hosts(&db_address).await?;
        let directory = Directory::connect(&db_address, &id, &self.options).await?;
        let handshake = Handshake {
            directory: directory.clone(),
            waited: self.connect_timeout,
            deadline,
        };
        if self.this_config {
            if self.push_address.is_none() || self.sub_address.is_none() {
                return Err(ConnectError::Incomplete);
            }
        } else {
            handshake.check_name(&self.server).await?;
        }
        let (cancellations, topics) = mpsc::channel(MAX_PENDING_CANCELLATIONS);
        let answers = InFlightCalls::new(id.clone(), cancellations);
        let mut tasks = Vec::new();
        let may_link = |address: &Option<ParsedAddress>| {
            self.link.enabled && !self.this_config && address.is_none()
        };

        // An explicit socket address disables the link.
        let first = match may_link(&self.push_address) {
            true => handshake.callable().await?,
            false => Descriptor::default(),
        };
        let is_offered = |role: &str| first.links.iter().any(|offered| offered == role);
        let calls_by_name = first.kind == ComponentKind::Server.to_string();
        let calls_over_link = is_offered(CLIENT);
        let answered_by = self.answered_by.filter(|given| *given != self.db_address);
        let answers_here = self.sub_address.is_none() && answered_by.is_none();
        let answer_source = match (answers_here, calls_over_link) {
            (false, _) => AnswerSource::Configured,
            (true, true) => AnswerSource::Discovered,
            (true, false) => AnswerSource::Unlisted,
        };
        let (transport_sender, transport) = watch::channel(None);
        let link_factory = LinkFactory {
            id: id.clone(),
            sockets: self.options.clone(),
            options: self.link.clone(),
            weight: self.weight,
            answers: answers.clone(),
            transport,
        };
        let mut links = Vec::new();
        let transport = if calls_over_link {
            let opened = link_factory.open(&db_address, CLIENT, answers_here, None);
            let transport = Transport::Link(opened.link.clone());
            links.push(opened);
            transport
        } else {
            let (push_at, push_address) =
                handshake.resolve("pull_address", self.push_address).await?;
            let push = Push::connect(&push_address, &self.options).await?;
            tasks.extend(push_at.follow(push.peers(), push_address, |_| {}));
            Transport::Sockets(push)
        };
        transport_sender.send_replace(Some(transport.clone()));

        // The component that answers, unless answers arrive over the link of the calls.
        let last = match &answered_by {
            Some(given) if self.sub_address.is_none() => {
                let address = given.clone().map_err(SocketError::from)?;
                let directory = Directory::connect(&address, &id, &self.options).await?;
                Handshake {
                    directory,
                    ..handshake
                }
            }
            _ => handshake,
        };
        let mut tracks_completion = calls_over_link;
        if !(calls_over_link && answers_here) {
            let offer = match may_link(&self.sub_address) {
                true => last.descriptor().await?.links,
                false => Vec::new(),
            };
            if offer.iter().any(|offered| offered == SUBSCRIBER) {
                let last_at = last.directory.request().address().clone();
                links.push(link_factory.open(&last_at, SUBSCRIBER, true, None));
            } else {
                tracks_completion = false;
                let (sub_at, sub_address) = last.resolve("pub_address", self.sub_address).await?;
                let subscribe = Subscribe::connect(&sub_address, &self.options).await?;
                tasks.extend(sub_at.follow(subscribe.peers(), sub_address.clone(), |_| {}));
                let peers = subscribe.peers();
                let publisher = Connecting::new(&sub_address);
                let unanswered = || "it is connected, but publishes nothing".to_owned();
                let connected = publisher.wait_for(peers.connected(), unanswered);
                // Subscriptions are sent in this order only to a connected publisher.
                match tokio::time::timeout_at(deadline, connected).await {
                    Ok(connected) => connected.map_err(SocketError::from)?,
                    Err(_) => {
                        return Err(ConnectError::NoPublisher {
                            address: sub_address.to_string(),
                            waited: self.connect_timeout,
                            cause: publisher.cause().map(|cause| cause.to_string()),
                        });
                    }
                }
                let topics = [id.clone().into_bytes(), ready_topic(&id)];
                for topic in topics {
                    let subscribed = subscribe.subscribe(topic).await;
                    subscribed.map_err(SocketError::from)?;
                }
                let (ready_sender, ready) = watch::channel(None);
                let reader =
                    tokio::spawn(in_flight::read(subscribe, answers.clone(), ready_sender));
                tasks.push(AbortOnDropHandle::new(reader));
                until_in_place(ready).await;
            }
        }
        for opened in &links {
            let ready = AnswerLink::ready(opened.readiness());
            if tokio::time::timeout_at(deadline, ready).await.is_err() {
                return Err(ConnectError::NoPublisher {
                    address: opened.link.address().to_string(),
                    waited: self.connect_timeout,
                    cause: opened.link.wait_cause().map(|cause| cause.to_string()),
                });
            }
        }

        let session = self.session.as_deref().unwrap_or_default();
        let cache = |timeout, session| {
            let request = directory.request().clone();
            Cache::remote(request, &self.server, &id, timeout, session)
        };
        let known = DescriptorCache::new(cache(DESCRIPTOR_TIMEOUT, ""), self.check_functions);
        if !self.this_config {
            known.refresh().await;
        }
        let known = Arc::new(known);
        let cancel = cancel::send_cancellations(directory.request().clone(), known.clone(), topics);
        let cache = cache(self.timeout, session);
        let cancel = AbortOnDropHandle::new(tokio::spawn(cancel));
        let callee_wait_cause = Arc::<WaitCause>::default();
        let explain = wait_report::explain(
            answers.clone(),
            directory.clone(),
            self.server.clone(),
            callee_wait_cause.clone(),
        );
        tasks.push(AbortOnDropHandle::new(tokio::spawn(explain)));
        let routes = Routes::new(
            answer_source,
            directory.clone(),
            &self.server,
            calls_by_name,
            link_factory,
        );
        Ok(Client(Arc::new(ClientState {
            pipeline: self.session.map_or_else(new_id, ByteString::from),
            server: self.server,
            transport,
            tracks_completion,
            answers,
            timeout: self.timeout,
            window: self.window,
            max_message_bytes: self.options.max_message_bytes,
            memory: Mutex::default(),
            cache,
            known,
            routes,
            callee_wait_cause,
            connections: Mutex::new(Some(OpenConnections {
                links,
                tasks,
                cancel,
            })),
            runtime: Handle::current(),
        })))
    }

    /// Fails if the host of an address is not found. A misspelt name is far more likely than a host that is about to be
    /// registered.
    async fn check_hosts(&self, db_address: &Address) -> Result<(), ConnectError> {
        const HOST_TIMEOUT: Duration = Duration::from_secs(1);
        let given = [&self.push_address, &self.sub_address, &self.answered_by];
        let given = given.into_iter().flatten().flatten();
        let limit = HOST_TIMEOUT.min(self.connect_timeout);
        let checks = std::iter::once(db_address)
            .chain(given)
            .map(|address| async move {
                let found = find_host(address, limit).await;
                found.map_err(|fault| ConnectError::HostNotFound {
                    address: address.to_string(),
                    cause: fault.to_string(),
                })
            });
        join_all(checks).await.into_iter().collect()
    }
}

impl ClientState {
    /// Returns why calls wait for answers, if it is known.
    pub(super) fn wait_cause(&self) -> Option<String> {
        let cause = self
            .transport
            .wait_cause()
            .or_else(|| self.callee_wait_cause.get());
        cause.map(|cause| cause.to_string())
    }

    /// Returns how calls that were lost with a component are sent again.
    ///
    /// A function that the descriptor of the first component marks as `at_most_once` is not sent again. `completes`:
    /// whether the end of the call is known.
    pub(super) fn resend(&self, steps: &Steps, completes: bool) -> Resend {
        if self.known.is_at_most_once(steps) {
            Resend::IfUntransmitted
        } else if completes {
            Resend::BySender
        } else {
            Resend::ByLink
        }
    }
}

/// Limit on the wait for acknowledgements in [`Client::close`].
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);

/// Limit on the wait for acknowledgements once the client has ended, including those of its cancellations.
const END_TIMEOUT: Duration = Duration::from_secs(1);

/// Limit on the time that dropping a client blocks its thread. The goodbye usually takes less than a millisecond.
const DROP_TIMEOUT: Duration = Duration::from_millis(200);

impl ClientState {
    /// Cancels all calls. Returns the open connections on the first call.
    fn end(&self) -> Option<OpenConnections> {
        let open = self.connections.lock();
        let mut open = open.unwrap_or_else(PoisonError::into_inner).take()?;
        self.answers.cancel_all();
        open.links.extend(self.routes.close());
        Some(open)
    }
}

impl OpenConnections {
    /// Waits at most `flush` for acknowledgements, and says goodbye to each component.
    async fn close(self, transport: Transport, flush: Duration) {
        let sent = async { tokio::join!(transport.delivered(), self.cancel) };
        let _ = tokio::time::timeout(flush, sent).await;
        let links = self.links.into_iter().map(AnswerLink::into_parts);
        // The socket of a link is free once its reader is gone.
        let links: Vec<_> = links.map(|(link, _)| link).collect();
        drop(self.tasks);
        join_all(links.iter().map(|link| link.close())).await;
    }
}

impl Drop for ClientState {
    /// Says goodbye in the background.
    ///
    /// A program whose `main` ends here may end its runtime at once, and with it the task that sends the goodbye. So
    /// this blocks for a moment if other threads run that task.
    fn drop(&mut self) {
        let Some(open) = self.end() else {
            return;
        };
        let transport = self.transport.clone();
        let (done, closed) = std::sync::mpsc::channel::<()>();
        let has_threads = self.runtime.runtime_flavor() == RuntimeFlavor::MultiThread;
        let is_task = tokio::task::try_id().is_some();
        self.runtime.spawn(async move {
            open.close(transport, END_TIMEOUT).await;
            drop(done);
        });
        if has_threads && !is_task {
            let _ = closed.recv_timeout(DROP_TIMEOUT);
        }
    }
}

/// Reads what the component at `db_address` publishes about itself, until a deadline.
struct Handshake {
    directory: Arc<Directory>,
    waited: Duration,
    deadline: Instant,
}

impl Handshake {
    fn address(&self) -> String {
        self.directory.request().address().to_string()
    }

    async fn until_deadline<T>(
        &self,
        key: &'static str,
        asking: impl Future<Output = T>,
    ) -> Result<T, ConnectError> {
        let asked = tokio::time::timeout_at(self.deadline, asking).await;
        asked.map_err(|_| ConnectError::NoAnswer {
            address: self.address(),
            key,
            waited: self.waited,
            cause: self.directory.wait_cause().map(|cause| cause.to_string()),
        })
    }

    async fn read_key(&self, key: &'static str) -> Result<String, ConnectError> {
        self.until_deadline(key, self.directory.value(key)).await
    }

    async fn descriptor(&self) -> Result<Descriptor, ConnectError> {
        let descriptor = self.directory.descriptor();
        self.until_deadline("descriptor", descriptor).await
    }

    /// Returns the descriptor of the component, or an error if it accepts no calls.
    async fn callable(&self) -> Result<Descriptor, ConnectError> {
        const KEY: &str = "pull_address";
        let descriptor = self.descriptor().await?;
        let is_linked = descriptor.links.iter().any(|offered| offered == CLIENT);
        // A legacy peer may not have set all of its keys yet.
        let is_callable = is_linked
            || descriptor.version.is_empty()
            || self
                .until_deadline(KEY, self.directory.has_key(KEY))
                .await?;
        if is_callable {
            return Ok(descriptor);
        }
        let address = self.directory.request().address();
        Err(ConnectError::NotCallable {
            address: address.to_string(),
            problem: unfit(CLIENT, &descriptor, address),
        })
    }

    async fn check_name(&self, expected: &str) -> Result<(), ConnectError> {
        let found = self.read_key("name").await?;
        if found == expected {
            return Ok(());
        }
        let kind = self.descriptor().await.unwrap_or_default().kind;
        let has_workers = [ComponentKind::Master, ComponentKind::Hub]
            .iter()
            .any(|it| it.to_string() == kind);
        let hint = match has_workers {
            true => format!(
                "its workers are called by its name, as `{found}.<function>`; for another component give its `db_address`"
            ),
            false => "correct the name, or give the `db_address` of the other component".to_owned(),
        };
        Err(ConnectError::Name {
            address: self.address(),
            expected: expected.to_owned(),
            found,
            hint,
        })
    }

    async fn resolve(
        &self,
        key: &'static str,
        given: Option<ParsedAddress>,
    ) -> Result<(Endpoint, Address), ConnectError> {
        if let Some(given) = given {
            let address = given.clone().map_err(SocketError::from)?;
            return Ok((Endpoint::Static(given), address));
        }
        let value = self.read_key(key).await?;
        let teller = self.directory.request().address();
        match value.parse::<Address>() {
            Ok(address) => Ok((
                Endpoint::Discovered(self.directory.clone(), key),
                address.as_published_by(teller),
            )),
            Err(_) => Err(ConnectError::BadAddress {
                address: self.address(),
                key,
                value,
            }),
        }
    }
}

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
            session: None,
            timeout: Duration::from_secs(60),
            connect_timeout: Duration::from_secs(30),
            window: 2000,
            check_functions: true,
            answered_by: None,
            weight: 1,
            link: LinkOptions::default(),
            options: SocketOptions::default(),
        }
    }

    /// Closes the client and all of its clones.
    ///
    /// Waits at most 5 s until sent messages are acknowledged, and says goodbye to the connected components. Pending
    /// calls are cancelled; they and later calls fail with [`CallError::Closed`].
    ///
    /// Dropping the last clone does the same in the background. On a `current_thread` runtime that ends immediately
    /// afterwards, the goodbye is lost, and components keep the session until it expires.
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
    /// Returns `None` if the component is a legacy peer, or if it was not asked
    /// ([`this_config`](ClientBuilder::this_config)).
    pub fn descriptor(&self) -> Option<Arc<Descriptor>> {
        self.0.known.descriptor()
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
    pub fn eval<S: IntoSteps<Output: Answer>>(
        &self,
        steps: S,
        argument: impl Argument<S::Input>,
    ) -> Eval<'_, S::Output> {
        Eval::new(self, steps, argument)
    }

    /// Calls a function, or several in sequence, with each of many arguments. Returns the answers as a stream.
    ///
    /// Answers arrive in the order in which calls complete, while further arguments are sent. The job ends when all
    /// arguments are complete; if that cannot be known, set the number of answers with [`Job::expect_answers`]. A
    /// call that fails is one of the answers ([`CallError::Remote`]), and the job continues. An argument that cannot
    /// be sent ends the job.
    pub fn job<'a, S: IntoSteps<Input: 'a, Output: Answer>, I>(
        &self,
        steps: S,
        arguments: I,
    ) -> Job<'a, S::Output>
    where
        I: IntoIterator<Item: Argument<S::Input>, IntoIter: Send + 'a>,
    {
        self.job_stream(steps, futures_util::stream::iter(arguments))
    }

    /// Runs a [`job`](Self::job) whose arguments are a stream.
    pub fn job_stream<'a, S: IntoSteps<Input: 'a, Output: Answer>, A>(
        &self,
        steps: S,
        arguments: A,
    ) -> Job<'a, S::Output>
    where
        A: futures_core::Stream<Item: Argument<S::Input>> + Send + 'a,
    {
        Job::new(self.clone(), steps, arguments)
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
        Eval::new(self, steps, argument).send().await
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
    /// [`CacheError`] if the cache service refuses the request or does not answer.
    pub async fn set(&self, key: &str, value: impl IntoPayload) -> Result<(), CacheError> {
        self.0.cache.set(key, value).await
    }

    /// Deletes `key` from the component's cache; see [`Cache::delete`].
    ///
    /// # Errors
    ///
    /// [`CacheError`] if the cache service refuses the request or does not answer.
    pub async fn delete(&self, key: &str) -> Result<(), CacheError> {
        self.0.cache.delete(key).await
    }

    /// Sets `key` in the component's cache with a time to live; see [`Cache::set_for`].
    ///
    /// # Errors
    ///
    /// [`CacheError`] if the cache service refuses or does not support the request, or does not answer.
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
    /// [`CacheError`] if the cache service refuses or does not support the request, or does not answer.
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
    /// [`CacheError`] if the cache service refuses or does not support the request, or does not answer.
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
    /// [`CacheError`] if the value is not an integer, or if the cache service refuses or does not support the
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
    /// [`CacheError`] if the cache service refuses or does not support the request, or does not answer.
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

    /// Returns the message that calls `steps`, and its length in bytes, unless it exceeds the limit.
    ///
    /// The message gets its id here, so that a master does not need to encode it again to add one.
    pub(super) fn content<'a>(
        &'a self,
        steps: &'a Steps,
        topic: &'a str,
        id: &'a str,
        extensions: &'a [u8],
        payload: &'a [u8],
    ) -> Result<(Content<'a>, usize), CallError> {
        let content = Content {
            pipeline: self.0.pipeline.as_bytes(),
            client: topic.as_bytes(),
            stage: 0,
            function: steps.text().as_bytes(),
            cache: id.as_bytes(),
            payload,
            unknown: extensions,
        };
        let (len, limit) = (content.len(), self.0.max_message_bytes);
        if len > limit {
            return Err(CallError::TooLarge {
                function: steps.to_string(),
                len,
                limit,
            });
        }
        Ok((content, len))
    }

    /// Encodes a message.
    pub(super) fn frame(&self, content: Content<'_>) -> Bytes {
        let memory = self.0.memory.lock();
        let mut memory = memory.unwrap_or_else(PoisonError::into_inner);
        memory.encode(content)
    }
}

/// Encodes the extension fields of a call into `memory`.
pub(super) fn extensions(
    deadline: Option<Deadline>,
    share: Option<Share>,
    memory: &mut [u8; 40],
) -> &[u8] {
    let mut written = 0;
    if let Some(deadline) = deadline.map(Deadline::encode) {
        memory[..deadline.len()].copy_from_slice(&deadline);
        written = deadline.len();
    }
    if let Some(share) = share {
        written = share.write(memory, written);
    }
    &memory[..written]
}
