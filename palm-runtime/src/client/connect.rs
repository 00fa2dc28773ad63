//! How a client connects: it asks the first server's cache for what it has not been told.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use bytestring::ByteString;
use futures_util::future::join_all;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::answers::{self, InFlightCalls};
use super::cancel;
use super::known::DescriptorCache;
use super::routes::{AnswerLink, AnswerSource, LinkFactory, Routes};
use super::way::Transport;
use super::{CallError, ConnectError, Eval, Job, Reader, pending};
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

/// How many calls that were given up wait to be told of; beyond that, some run to their end.
const MAX_PENDING_CANCELLATIONS: usize = 4096;

/// How long the component may take to tell what it is.
const DESCRIPTOR_TIMEOUT: Duration = Duration::from_secs(2);

/// Calls the functions of a cluster.
///
/// Clones share the connection, and any number of calls may be under way at once.
///
/// ```no_run
/// # async fn example() -> palm::Result<()> {
/// use palm::Client;
///
/// let client = Client::connect("server", "tcp://127.0.0.1:5559").await?;
/// let answer = client.eval("server.foo", "a message").await?;
/// let mut job = client.job("server.foo", (0..10).map(|n| n.to_string())).expect_answers(10);
/// while let Some(answer) = job.next().await {
///     println!("{:?}", answer?);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Client(pub(super) Arc<ClientState>);

#[derive(Debug)]
pub(super) struct ClientState {
    server: String,
    pipeline: ByteString,
    pub(super) transport: Transport,
    /// Whether calls and answers go over links, so that it is known what is complete.
    pub(super) tracks_completion: bool,
    pub(super) answers: Arc<InFlightCalls>,
    pub(super) timeout: Duration,
    pub(super) window: usize,
    max_message_bytes: usize,
    memory: Mutex<FrameMemory>,
    cache: Cache,
    pub(super) known: Arc<DescriptorCache>,
    pub(super) routes: Routes,
    /// Why calls wait for answers, as the component that is called reports it.
    callee_wait_cause: Arc<WaitCause>,
    connections: Mutex<Option<OpenConnections>>,
    /// Where its tasks run.
    runtime: Handle,
}

/// What a client has open until it is closed.
#[derive(Debug)]
struct OpenConnections {
    links: Vec<AnswerLink>,
    tasks: Vec<Reader>,
    /// Sends the topics of cancelled calls; ends when all are sent.
    cancel: Reader,
}

/// The options of a [`Client`].
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
    /// Where messages are pushed to: the `pull_address` of the first server. Default: asked for at
    /// `db_address`.
    pub fn push_address(mut self, address: impl IntoAddress) -> Self {
        self.push_address = Some(address.into_address());
        self
    }

    /// Where answers are published: the `pub_address` of the *last* component of a pipeline. Needed if a
    /// component on the way is a legacy (pylm) peer. Default: answers come over a link, see
    /// [`answered_by`](Self::answered_by), or from the `pub_address` of the component that is called.
    pub fn sub_address(mut self, address: impl IntoAddress) -> Self {
        self.sub_address = Some(address.into_address());
        self
    }

    /// The `db_address` of the component that answers: the *last* one of a pipeline.
    ///
    /// Default: the client finds it. A component lists the components that follow it over links; the client goes
    /// from one to the next by the names of a call's steps, when such a call is made for the first time, and
    /// takes its answers from the last one over a link. It waits up to 5 s for components that are not there
    /// yet, and reports [`CallError::NoRoute`] if one of them does not come. So this is needed only if a
    /// component on the way follows without a link (`sub_address`, a legacy peer).
    pub fn answered_by(mut self, db_address: impl IntoAddress) -> Self {
        self.answered_by = Some(db_address.into_address());
        self
    }

    /// How large a part of a component that several clients share this one gets, from 1 to 100: one with 3 gets
    /// three times as much as one with 1. Other numbers count as the nearest of these. Default: 1.
    pub fn weight(mut self, weight: u32) -> Self {
        self.weight = weight.clamp(1, 100);
        self
    }

    /// How links behave. Without links (`enabled`), and with a component that offers none, calls are pushed
    /// and answers published as in pylm; then they get lost with a connection, and a job does not know
    /// when it is complete.
    pub fn link_options(mut self, options: LinkOptions) -> Self {
        self.link = options;
        self
    }

    /// Asks nothing at `db_address`: the name is taken for granted, and both addresses have to be
    /// given. Default: `false`.
    pub fn this_config(mut self, this_config: bool) -> Self {
        self.this_config = this_config;
        self
    }

    /// An id for the stream, and a session for cache keys: each has the id and a slash in front, so that the
    /// client reaches no keys of other sessions. In front of keys, a slash in the id is `%2F` and a percent sign
    /// `%25`. Default: a random id, and keys as they are.
    pub fn session(mut self, session: impl Into<String>) -> Self {
        self.session = Some(session.into());
        self
    }

    /// How long a call waits for its answer, and a job for the next one, unless they are told
    /// otherwise. A single call's deadline travels with it, and components drop what is late.
    /// Default: 60 s.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How long [`connect`](Self::connect) waits for the components. Default: 30 s.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How many messages of a job are under way at once. Default: 2000; 0 counts as 1.
    ///
    /// It is no strict bound: a function that gives no answer would close the window for ever, so
    /// when no answer has come for 200 ms, as many messages again are sent.
    pub fn window(mut self, messages: usize) -> Self {
        self.window = messages.max(1);
        self
    }

    /// Whether names of functions are checked before anything is sent, as far as the component that it
    /// connects to tells what it has: one of palm does, unless it is a master or hub, whose workers may
    /// come and go. Default: `true`.
    pub fn check_functions(mut self, check: bool) -> Self {
        self.check_functions = check;
        self
    }

    /// How sockets behave towards peers.
    pub fn socket_options(mut self, options: SocketOptions) -> Self {
        self.options = options;
        self
    }

    /// Connects. The components may be started later, within
    /// [`connect_timeout`](Self::connect_timeout).
    ///
    /// When it returns, the subscription to the answers is in place: a publisher of ours says so. One
    /// of pylm cannot; then it was connected and given time to hear it.
    ///
    /// # Errors
    ///
    /// [`ConnectError`] when nobody is there, or somebody else.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes what it had opened.
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

        // Who gives the address of a socket wants that.
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

        // Whose answers they are, where they do not come over the link of the calls.
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
                // Only to a connected publisher do the subscriptions go out in this order.
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
                let reader = tokio::spawn(answers::read(subscribe, answers.clone(), ready_sender));
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
        let explain = pending::explain(
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

    /// Refuses addresses whose hosts are not found: a misspelt name is far more likely than one that is about to
    /// become known.
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
    /// Why calls wait for answers, if that is known.
    pub(super) fn wait_cause(&self) -> Option<String> {
        let cause = self
            .transport
            .wait_cause()
            .or_else(|| self.callee_wait_cause.get());
        cause.map(|cause| cause.to_string())
    }

    /// Whether a call is sent again that was lost with a component: not one that must not run twice, as far as
    /// the descriptor of the first component says. `completes`: whether it is known when the call is complete.
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

/// How long a client that is closed waits until what it has sent is acknowledged.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);

/// The same for one that ends, also for the calls that it gives up.
const END_TIMEOUT: Duration = Duration::from_secs(1);

/// How long the drop of a client may keep a thread on which no task of a runtime waits. It says goodbye within a
/// millisecond, usually.
const DROP_TIMEOUT: Duration = Duration::from_millis(200);

impl ClientState {
    /// Ends all calls; returns what is left to be closed, the first time.
    fn end(&self) -> Option<OpenConnections> {
        let open = self.connections.lock();
        let mut open = open.unwrap_or_else(PoisonError::into_inner).take()?;
        self.answers.cancel_all();
        open.links.extend(self.routes.close());
        Some(open)
    }
}

impl OpenConnections {
    /// Waits for at most `flush` until all messages are acknowledged, and says goodbye.
    async fn close(self, transport: Transport, flush: Duration) {
        let sent = async { tokio::join!(transport.delivered(), self.cancel) };
        let _ = tokio::time::timeout(flush, sent).await;
        let links = self.links.into_iter().map(AnswerLink::into_parts);
        // Without its reader the link's socket is free.
        let links: Vec<_> = links.map(|(link, _)| link).collect();
        drop(self.tasks);
        join_all(links.iter().map(|link| link.close())).await;
    }
}

impl Drop for ClientState {
    /// Says goodbye. A program whose `main` ends with this goes on at once, and its runtime, which would have to
    /// send that, may end in the next moment: so this waits for it where other threads do the work.
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

/// What the component at `db_address` tells, until a deadline.
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

    /// What the component says of itself, if it is one that can be called.
    async fn callable(&self) -> Result<Descriptor, ConnectError> {
        const KEY: &str = "pull_address";
        let descriptor = self.descriptor().await?;
        let is_linked = descriptor.links.iter().any(|offered| offered == CLIENT);
        // A legacy component may not have set all of its keys yet.
        let is_callable = is_linked
            || descriptor.version.is_empty()
            || self.until_deadline(KEY, self.directory.has_key(KEY)).await?;
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
    /// Connects to the component called `server`, whose `db_address` this is.
    ///
    /// # Errors
    ///
    /// [`ConnectError`] when nobody is there within 30 s, or somebody else.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes what it had opened.
    pub async fn connect(
        server: impl Into<String>,
        db_address: impl IntoAddress,
    ) -> Result<Self, ConnectError> {
        Self::builder(server, db_address).connect().await
    }

    /// A client with options.
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

    /// Closes the client, and all of its clones: waits until what was sent is acknowledged, at most 5 s, and says
    /// goodbye to the components that it is connected to. Calls that are under way are given up, and end with
    /// [`CallError::Closed`] like later ones.
    ///
    /// Dropping the last clone does the same in the background. On a runtime of one thread (`current_thread`) that
    /// ends at once, the goodbye is lost then, and components keep the session for a while.
    ///
    /// # Cancel safety
    ///
    /// The client is closed, or it is not.
    pub async fn close(&self) {
        let transport = self.0.transport.clone();
        let _ = tokio::time::timeout(FLUSH_TIMEOUT, transport.delivered()).await;
        if let Some(open) = self.0.end() {
            open.close(transport, END_TIMEOUT).await;
        }
    }

    /// The name of the component that it is connected to.
    pub fn server(&self) -> &str {
        &self.0.server
    }

    /// What the component that it is connected to tells of itself: its version, kind, addresses and
    /// functions. `None` where it tells nothing, as one of pylm, or was not asked.
    pub fn descriptor(&self) -> Option<Arc<Descriptor>> {
        self.0.known.descriptor()
    }

    /// Calls a function, or several in a row, with one argument; awaiting it gives the answer.
    ///
    /// What is called brings its types: a constant that a macro generated, or steps in a row, take and
    /// give what the methods do. A string takes any payload and gives bytes.
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
    ///
    /// # Errors
    ///
    /// [`CallError`] when what is called is no function's name, the argument cannot be written, the
    /// function fails, no answer comes in time, or it is not what it is said to be.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future before the answer is there gives the call up: components are told, do not begin
    /// what is queued of it, and drop a method that awaits. A peer of pylm runs it all the same.
    pub fn eval<S: IntoSteps<Output: Answer>>(
        &self,
        steps: S,
        argument: impl Argument<S::Input>,
    ) -> Eval<'_, S::Output> {
        Eval::new(self, steps, argument)
    }

    /// Calls a function, or several in a row, with each of many arguments; answers come as a stream,
    /// in the order in which they are done, while arguments are still being sent.
    ///
    /// Say how many answers there will be with [`Job::expect_answers`]. A call that fails is one of them
    /// ([`CallError::Remote`]); the others go on. An argument that cannot be sent ends the job.
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

    /// [`job`](Self::job) for arguments that come as a stream.
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

    /// Calls a function that gives no answer, or whose answer nobody wants. When it returns, the
    /// message is on its way.
    ///
    /// # Errors
    ///
    /// [`CallError`] when what is called is no function's name, the argument cannot be written, or the
    /// first component cannot be reached within the client's timeout.
    ///
    /// # Cancel safety
    ///
    /// The message may be sent or not.
    pub async fn send<S: IntoSteps>(
        &self,
        steps: S,
        argument: impl Argument<S::Input>,
    ) -> Result<(), CallError> {
        Eval::new(self, steps, argument).send().await
    }

    /// The cache of the component that it is connected to. Keys have the session, if there is one, in
    /// front.
    pub fn cache(&self) -> &Cache {
        &self.0.cache
    }

    /// The value of `key` in the component's cache; see [`Cache::get`].
    ///
    /// # Errors
    ///
    /// [`CacheError`] when the cache service does not answer.
    pub async fn get(&self, key: &str) -> Result<Option<Bytes>, CacheError> {
        self.0.cache.get(key).await
    }

    /// Sets `key` in the component's cache; see [`Cache::set`].
    ///
    /// # Errors
    ///
    /// [`CacheError`] when the cache service refuses, or does not answer.
    pub async fn set(&self, key: &str, value: impl IntoPayload) -> Result<(), CacheError> {
        self.0.cache.set(key, value).await
    }

    /// Removes `key` from the component's cache; see [`Cache::delete`].
    ///
    /// # Errors
    ///
    /// [`CacheError`] when the cache service refuses, or does not answer.
    pub async fn delete(&self, key: &str) -> Result<(), CacheError> {
        self.0.cache.delete(key).await
    }

    /// Sets `key` in the component's cache for a time; see [`Cache::set_for`].
    ///
    /// # Errors
    ///
    /// [`CacheError`] when the cache service refuses, cannot do it, or does not answer.
    pub async fn set_for(
        &self,
        key: &str,
        value: impl IntoPayload,
        ttl: Duration,
    ) -> Result<(), CacheError> {
        self.0.cache.set_for(key, value, ttl).await
    }

    /// Sets `key` in the component's cache if it has a certain value; see
    /// [`Cache::compare_and_set`].
    ///
    /// # Errors
    ///
    /// [`CacheError`] when the cache service refuses, cannot do it, or does not answer.
    pub async fn compare_and_set(
        &self,
        key: &str,
        expected: Option<Bytes>,
        new: Option<Bytes>,
    ) -> Result<Swap, CacheError> {
        self.0.cache.compare_and_set(key, expected, new).await
    }

    /// The same for a time; see [`Cache::compare_and_set_for`].
    ///
    /// # Errors
    ///
    /// [`CacheError`] when the cache service refuses, cannot do it, or does not answer.
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

    /// Adds to a number in the component's cache, and tells the sum; see [`Cache::add`].
    ///
    /// # Errors
    ///
    /// [`CacheError`] when the value is no number, or the cache service refuses, cannot do it, or does
    /// not answer.
    pub async fn add(&self, key: &str, amount: i64) -> Result<i64, CacheError> {
        self.0.cache.add(key, amount).await
    }

    /// The entries of the component's cache whose keys begin with `prefix`; see [`Cache::scan`].
    pub fn scan(&self, prefix: &str) -> Scan {
        self.0.cache.scan(prefix)
    }

    /// Removes the keys that begin with `prefix`, and tells how many; see [`Cache::delete_prefix`].
    ///
    /// # Errors
    ///
    /// [`CacheError`] when the cache service refuses, cannot do it, or does not answer.
    pub async fn delete_prefix(&self, prefix: &str) -> Result<u64, CacheError> {
        self.0.cache.delete_prefix(prefix).await
    }

    /// Tells what happens to the keys that begin with `prefix`; see [`Cache::watch`].
    ///
    /// # Errors
    ///
    /// [`CacheError`] when the cache service cannot do it, or does not answer.
    pub async fn watch(&self, prefix: &str) -> Result<Watch, CacheError> {
        self.0.cache.watch(prefix).await
    }

    /// The message that asks for `steps`, and its length, if it is not too large. It has its id from here,
    /// so that a master need not write it anew to give it one.
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

    /// A message as a frame.
    pub(super) fn frame(&self, content: Content<'_>) -> Bytes {
        let memory = self.0.memory.lock();
        let mut memory = memory.unwrap_or_else(PoisonError::into_inner);
        memory.encode(content)
    }
}

/// What a call tells besides the fields of old, written into `memory`.
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
