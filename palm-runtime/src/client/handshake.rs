//! [`ClientBuilder::connect`]: the handshake with the first component.
//!
//! A client needs the name and the `db_address` of the first component. It reads everything else from there: the
//! descriptor, once, which has the component's name and lists the links that it accepts; and the addresses of its sockets
//! if it accepts no link. Calls leave over a link or a PUSH
//! socket; answers arrive over the same link, a second link with the component that answers, or a SUB socket.

use std::sync::Arc;
use std::time::Duration;

use bytestring::ByteString;
use futures_util::future::join_all;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::answer_link::{AnswerLink, LinkFactory};
use super::descriptor_cache::DescriptorCache;
use super::in_flight::{self, InFlightCalls};
use super::routes::{AnswerSource, Routes};
use super::state::{ClientState, OpenConnections};
use super::transport::Transport;
use super::{Client, ClientBuilder, ConnectError, Reader, cancel, wait_report};
use crate::cache::Cache;
use crate::clock;
use crate::component_kind::ComponentKind;
use crate::discovery::descriptor::offers_link;
use crate::discovery::{
    Directory, Endpoint, ParsedAddress, ready_topic, unfit, until_upstream_connected,
};
use crate::fair_queue::MAX_WEIGHT;
use crate::link::{CLIENT, SUBSCRIBER};
use crate::message::new_id;
use crate::message::proto::Descriptor;
use crate::socket::{Address, Push, SocketError, Subscribe, find_host};
use crate::spawn::spawn;
use crate::wait_cause::{Connecting, WaitCause};

/// Cancelled calls that wait to be reported to the first component. Further ones run to their end.
const MAX_PENDING_CANCELLATIONS: usize = 4096;

/// Limit on one request for the descriptor.
const DESCRIPTOR_TIMEOUT: Duration = Duration::from_secs(2);

impl ClientBuilder {
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
        clock::detect_pause();
        let deadline = Instant::now() + self.options.connect_timeout;
        let id = new_id();
        let db_address = self.db_address.clone().map_err(SocketError::from)?;
        self.check_hosts(&db_address).await?;
        let handshake = Handshake {
            waited: self.options.connect_timeout,
            deadline,
            directory: Directory::connect(&db_address, &id, &self.options.socket_options).await?,
        };
        let first = self.read_first(&handshake).await?;
        let path = self.choose_path(&handshake, &first).await?;
        let (cancellations, cancelled) = mpsc::channel(MAX_PENDING_CANCELLATIONS);
        let answers = InFlightCalls::new(id.clone(), cancellations);
        let (transport_sender, transport) = watch::channel(None);
        let link_factory = LinkFactory {
            id: id.clone(),
            sockets: self.options.socket_options.clone(),
            options: self.options.link_options.clone(),
            weight: self.options.weight.clamp(1, MAX_WEIGHT),
            answers,
            transport,
        };
        let mut opened = Opened::default();
        let transport = self
            .open_calls(&handshake, &path, &link_factory, &mut opened)
            .await?;
        transport_sender.send_replace(Some(transport.clone()));
        let mut tracks_completion = path.over_link;
        if !(path.over_link && path.answers_here) {
            let answers_over_link = self
                .open_answers(&handshake, &path, &first, &link_factory, &mut opened)
                .await?;
            tracks_completion &= answers_over_link;
        }
        handshake.await_links(&opened.links).await?;
        Ok(self.client(ConnectedClient {
            directory: handshake.directory,
            first,
            path,
            cancelled,
            link_factory,
            transport,
            tracks_completion,
            opened,
        }))
    }

    /// Reads the descriptor of the first component and checks its name, unless all is configured here.
    async fn read_first(&self, handshake: &Handshake) -> Result<Descriptor, ConnectError> {
        if self.this_config {
            if self.push_address.is_none() || self.sub_address.is_none() {
                return Err(ConnectError::Incomplete);
            }
            return Ok(Descriptor::default());
        }
        let first = handshake.descriptor().await?;
        handshake.check_name(&self.server, &first).await?;
        Ok(first)
    }

    /// Returns whether a link may be used instead of the socket with this address: a configured address disables it.
    fn may_link(&self, address: Option<&ParsedAddress>) -> bool {
        self.options.link_options.enabled && !self.this_config && address.is_none()
    }

    /// Chooses how calls leave and where their answers come from. Fails if the component accepts no calls.
    async fn choose_path(
        &self,
        handshake: &Handshake,
        first: &Descriptor,
    ) -> Result<CallPath, ConnectError> {
        let may_link = self.may_link(self.push_address.as_ref());
        if may_link {
            handshake.check_callable(first).await?;
        }
        let over_link = may_link && offers_link(first, CLIENT);
        let answered_by = self.answered_by.clone();
        let answered_by = answered_by.filter(|configured| *configured != self.db_address);
        let answers_here = self.sub_address.is_none() && answered_by.is_none();
        Ok(CallPath {
            by_name: may_link && first.kind == ComponentKind::Server.to_string(),
            over_link,
            answers_here,
            answer_source: match (answers_here, over_link) {
                (false, _) => AnswerSource::Configured,
                (true, true) => AnswerSource::Discovered,
                (true, false) => AnswerSource::Unlisted,
            },
            answered_by,
        })
    }

    /// Opens the connection that calls leave by.
    async fn open_calls(
        &self,
        handshake: &Handshake,
        path: &CallPath,
        link_factory: &LinkFactory,
        opened: &mut Opened,
    ) -> Result<Transport, ConnectError> {
        if path.over_link {
            let requests = handshake.directory.request();
            let link = link_factory.open(requests, CLIENT, path.answers_here);
            let transport = Transport::Link(link.link.clone());
            opened.links.push(link);
            return Ok(transport);
        }
        let configured = self.push_address.clone();
        let (push_at, push_address) = handshake.resolve("pull_address", configured).await?;
        let push = Push::connect(&push_address, &self.options.socket_options).await?;
        let followed = push_at.follow(push.peers(), push_address, |_| {});
        opened.tasks.extend(followed);
        Ok(Transport::Sockets(push))
    }

    /// Opens the connection by which answers arrive, unless they arrive over the link of the calls. Returns whether it is
    /// a link.
    async fn open_answers(
        &self,
        handshake: &Handshake,
        path: &CallPath,
        first: &Descriptor,
        link_factory: &LinkFactory,
        opened: &mut Opened,
    ) -> Result<bool, ConnectError> {
        let may_link = self.may_link(self.sub_address.as_ref());
        let other;
        let (last, over_link) = match &path.answered_by {
            Some(configured) if self.sub_address.is_none() => {
                let address = configured.clone().map_err(SocketError::from)?;
                let (id, sockets) = (&link_factory.id, &self.options.socket_options);
                other = Handshake {
                    directory: Directory::connect(&address, id, sockets).await?,
                    ..*handshake
                };
                let over_link = may_link && offers_link(&other.descriptor().await?, SUBSCRIBER);
                (&other, over_link)
            }
            _ => (handshake, may_link && offers_link(first, SUBSCRIBER)),
        };
        if over_link {
            let link = link_factory.open(last.directory.request(), SUBSCRIBER, true);
            opened.links.push(link);
        } else {
            self.subscribe(last, link_factory, opened).await?;
        }
        Ok(over_link)
    }

    /// Subscribes to answers at a PUB socket, and waits until the subscription has taken effect.
    async fn subscribe(
        &self,
        last: &Handshake,
        link_factory: &LinkFactory,
        opened: &mut Opened,
    ) -> Result<(), ConnectError> {
        let configured = self.sub_address.clone();
        let (sub_at, sub_address) = last.resolve("pub_address", configured).await?;
        let subscribe = Subscribe::connect(&sub_address, &self.options.socket_options).await?;
        let followed = sub_at.follow(subscribe.peers(), sub_address.clone(), |_| {});
        opened.tasks.extend(followed);
        let peers = subscribe.peers();
        let publisher = Connecting::new(&sub_address);
        let unanswered = || "it is connected, but publishes nothing".to_owned();
        let connected = publisher.wait_for(peers.connected(), unanswered);
        // Subscriptions are sent in this order only to a connected publisher.
        match tokio::time::timeout_at(last.deadline, connected).await {
            Ok(connected) => connected.map_err(SocketError::from)?,
            Err(_) => return Err(last.no_publisher(&sub_address, publisher.cause())),
        }
        let id = &link_factory.id;
        for topic in [id.clone().into_bytes(), ready_topic(id)] {
            let subscribed = subscribe.subscribe(topic).await;
            subscribed.map_err(SocketError::from)?;
        }
        let (ready_sender, ready) = watch::channel(None);
        let reader = in_flight::read(subscribe, link_factory.answers.clone(), ready_sender);
        let reader = AbortOnDropHandle::new(spawn(reader));
        opened.tasks.push(reader);
        until_upstream_connected(ready).await;
        Ok(())
    }

    /// Creates the client, and starts its tasks.
    fn client(self, connected: ConnectedClient) -> Client {
        let ConnectedClient {
            directory,
            first,
            path,
            cancelled,
            link_factory,
            transport,
            tracks_completion,
            opened: Opened { links, mut tasks },
        } = connected;
        let answers = link_factory.answers.clone();
        let session = self.options.session.as_deref().unwrap_or_default();
        let cache = |timeout, session| {
            let request = directory.request().clone();
            Cache::remote(request, &self.server, &link_factory.id, timeout, session)
        };
        // A legacy component has no descriptor.
        let first = Some(first).filter(|first| *first != Descriptor::default());
        let cache_of_keys = cache(DESCRIPTOR_TIMEOUT, "");
        let known = DescriptorCache::new(cache_of_keys, first, self.options.check_functions);
        let known = Arc::new(known);
        let cancel =
            cancel::send_cancellations(directory.request().clone(), known.clone(), cancelled);
        let cache = cache(self.options.timeout, session);
        let cancel = AbortOnDropHandle::new(spawn(cancel));
        let callee_wait_cause = Arc::<WaitCause>::default();
        let explain = wait_report::explain(
            answers.clone(),
            directory.clone(),
            self.server.clone(),
            callee_wait_cause.clone(),
        );
        tasks.push(AbortOnDropHandle::new(spawn(explain)));
        let source = path.answer_source;
        let routes = Routes::new(source, directory, &self.server, path.by_name, link_factory);
        Client(Arc::new(ClientState {
            pipeline: self.options.session.map_or_else(new_id, ByteString::from),
            server: self.server,
            transport,
            tracks_completion,
            answers,
            timeout: self.options.timeout,
            window: self.options.window.max(1),
            max_message_bytes: self.options.socket_options.max_message_bytes,
            memory: Mutex::default(),
            encoded_headers: self.headers.encode(),
            headers: self.headers,
            layers: self.layers.into_service(),
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
        }))
    }

    /// Fails if the host of an address is not found. A misspelt name is far more likely than a host that is about to be
    /// registered.
    async fn check_hosts(&self, db_address: &Address) -> Result<(), ConnectError> {
        const HOST_TIMEOUT: Duration = Duration::from_secs(1);
        let configured = [&self.push_address, &self.sub_address, &self.answered_by];
        let configured = configured.into_iter().flatten().flatten();
        let limit = HOST_TIMEOUT.min(self.options.connect_timeout);
        let checks = std::iter::once(db_address)
            .chain(configured)
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

/// How calls leave, and where their answers come from.
struct CallPath {
    /// Whether the component rejects steps for other names, as a server does and a master does not.
    by_name: bool,
    over_link: bool,
    /// Whether the component also answers.
    answers_here: bool,
    answer_source: AnswerSource,
    /// The component that answers, if another one is configured.
    answered_by: Option<ParsedAddress>,
}

/// The connections of a client that connects.
#[derive(Default)]
struct Opened {
    links: Vec<AnswerLink>,
    tasks: Vec<Reader>,
}

/// What a client consists of, once it is connected.
struct ConnectedClient {
    directory: Arc<Directory>,
    first: Descriptor,
    path: CallPath,
    cancelled: mpsc::Receiver<ByteString>,
    link_factory: LinkFactory,
    transport: Transport,
    tracks_completion: bool,
    opened: Opened,
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

    /// Waits until all links are open, and their components connected upstream.
    async fn await_links(&self, links: &[AnswerLink]) -> Result<(), ConnectError> {
        for answers in links {
            let ready = AnswerLink::ready(answers.readiness());
            let ready = tokio::time::timeout_at(self.deadline, ready).await;
            if ready.is_err() {
                let link = &answers.link;
                return Err(self.no_publisher(link.address(), link.wait_cause()));
            }
        }
        Ok(())
    }

    /// Returns the error for a component at `address` that sends no answers in time.
    fn no_publisher(&self, address: &Address, cause: Option<Arc<str>>) -> ConnectError {
        ConnectError::NoPublisher {
            address: address.to_string(),
            waited: self.waited,
            cause: cause.map(|cause| cause.to_string()),
        }
    }

    async fn until_deadline<T>(
        &self,
        key: &'static str,
        request: impl Future<Output = T>,
    ) -> Result<T, ConnectError> {
        let reply = tokio::time::timeout_at(self.deadline, request).await;
        reply.map_err(|_| ConnectError::NoAnswer {
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

    /// Fails if the component with this descriptor accepts no calls.
    async fn check_callable(&self, descriptor: &Descriptor) -> Result<(), ConnectError> {
        const KEY: &str = "pull_address";
        // A legacy peer may not have set all of its keys yet.
        let is_callable = offers_link(descriptor, CLIENT)
            || descriptor.version.is_empty()
            || self
                .until_deadline(KEY, self.directory.has_key(KEY))
                .await?;
        if is_callable {
            return Ok(());
        }
        let address = self.directory.request().address();
        Err(ConnectError::NotCallable {
            address: address.to_string(),
            problem: unfit(CLIENT, descriptor, address),
        })
    }

    async fn check_name(
        &self,
        expected: &str,
        descriptor: &Descriptor,
    ) -> Result<(), ConnectError> {
        if descriptor.name == expected {
            return Ok(());
        }
        // A legacy component has no descriptor, and a preset of the key overrides the name.
        let found = self.read_key("name").await?;
        if found == expected {
            return Ok(());
        }
        let has_workers = [ComponentKind::Master, ComponentKind::Hub]
            .iter()
            .any(|it| it.to_string() == descriptor.kind);
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
        configured: Option<ParsedAddress>,
    ) -> Result<(Endpoint, Address), ConnectError> {
        if let Some(configured) = configured {
            let address = configured.clone().map_err(SocketError::from)?;
            return Ok((Endpoint::Static(configured), address));
        }
        let value = self.read_key(key).await?;
        let publisher = self.directory.request().address();
        match value.parse::<Address>() {
            Ok(address) => Ok((
                Endpoint::Discovered(self.directory.clone(), key),
                address.as_published_by(publisher),
            )),
            Err(_) => Err(ConnectError::BadAddress {
                address: self.address(),
                key,
                value,
            }),
        }
    }
}
