//! [`ClientBuilder`], and [`ClientOptions`]: those options of a client that are data.

use std::time::Duration;

use bytestring::ByteString;
use tower::Layer;

use super::{CallError, ClientService};
use crate::call_service::{LayeredService, Layers};
use crate::discovery::{IntoAddress, ParsedAddress};
use crate::link::LinkOptions;
use crate::message::Headers;
use crate::options::options;
use crate::socket::SocketOptions;

/// Configures a [`Client`](crate::Client). Created by [`Client::builder`](crate::Client::builder).
#[must_use = "a client does nothing until `.connect().await`"]
#[derive(Debug)]
pub struct ClientBuilder {
    pub(super) server: String,
    pub(super) db_address: ParsedAddress,
    pub(super) push_address: Option<ParsedAddress>,
    pub(super) sub_address: Option<ParsedAddress>,
    pub(super) this_config: bool,
    pub(super) answered_by: Option<ParsedAddress>,
    pub(super) options: ClientOptions,
    pub(super) headers: Headers,
    pub(super) layers: Layers<CallError>,
}

options! {
    /// The options of a client, which methods of [`ClientBuilder`] set as well.
    #[derive(Debug, Clone, PartialEq)]
    pub struct ClientOptions {
        /// Sets the id of the stream of messages, and a prefix for cache keys.
        ///
        /// Each cache key is prefixed with the id and a slash, so the client cannot reach keys of other sessions. In the
        /// prefix, a slash in the id becomes `%2F` and a percent sign `%25`. Default: a random id, and keys without a
        /// prefix.
        session: Option<String> => impl Into<String> = None,
        /// Sets how long a call waits for its answer, and a job for its next answer. Default: 60 s.
        ///
        /// [`Eval::timeout`](crate::Eval::timeout) and [`Job::timeout`](crate::Job::timeout) override it. The deadline of
        /// a single call travels with its message, and components drop messages whose deadline has passed.
        timeout: Duration = Duration::from_secs(60),
        /// Sets how long [`connect`](crate::ClientBuilder::connect) waits for the components to start. Default: 30 s.
        connect_timeout: Duration = Duration::from_secs(30),
        /// Sets how many messages of a job are in flight at once. Default: 2000 messages. 0 counts as 1.
        ///
        /// The bound is soft unless the job tracks completion (see
        /// [`Job::expect_answers`](crate::Job::expect_answers)): a function that does not answer would keep the window
        /// closed forever. So if no answer arrives for 200 ms, the messages in flight count as answered.
        window: usize = 2000,
        /// Sets whether a call of an unknown function fails before anything is sent. Default: yes.
        ///
        /// The check uses the function list in the descriptor of the connected component. Legacy peers publish no list.
        /// The list of a master or hub is incomplete while it has workers that have not registered their functions. In
        /// both cases the check is skipped.
        check_functions: bool = true,
        /// Sets this client's weight among the clients of a component, from 1 to 100. Default: 1.
        ///
        /// Components serve clients in proportion to their weights: a client with weight 3 receives three times the
        /// share of a client with weight 1. 0 counts as 1, and more than 100 as 100.
        weight: u32 = 1,
        /// Sets the options of links.
        ///
        /// If links are disabled (`enabled`), or the component accepts none, calls and answers travel over PUSH and SUB
        /// sockets as in pylm. Messages are then lost with a broken connection, and a job cannot detect its end (see
        /// [`Job::expect_answers`](crate::Job::expect_answers)).
        link_options: LinkOptions = LinkOptions::default(),
        /// Sets the options of sockets.
        socket_options: SocketOptions = SocketOptions::default(),
    }
    methods of[] ClientBuilder, options
}

impl ClientBuilder {
    /// Sets all options that are data at once, such as those of a file or of the command line.
    pub fn options(mut self, options: ClientOptions) -> Self {
        self.options = options;
        self
    }

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
    /// [`CallError::NoRoute`](crate::CallError::NoRoute).
    pub fn answered_by(mut self, db_address: impl IntoAddress) -> Self {
        self.answered_by = Some(db_address.into_address());
        self
    }

    /// Skips the handshake at `db_address`: the component's name is not verified, and both
    /// [`push_address`](Self::push_address) and [`sub_address`](Self::sub_address) are required. Default: `false`.
    pub fn this_config(mut self, this_config: bool) -> Self {
        self.this_config = this_config;
        self
    }

    /// Adds a header to each call, job and sent message of the client, such as a token. Default: none.
    ///
    /// [`Eval::header`](crate::Eval::header) and [`Job::header`](crate::Job::header) add one to a single call or job.
    /// Headers are not encrypted; see [`Headers`](crate::middleware::Headers).
    pub fn header(mut self, name: impl Into<ByteString>, value: impl Into<ByteString>) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// Puts a layer around each [`eval`](crate::Client::eval): any `tower::Layer` whose service receives a
    /// [`CallRequest`](crate::middleware::CallRequest). Default: none.
    ///
    /// Each layer wraps those that were added before, so the last one receives a call first. Layers are created when
    /// the client connects, in its runtime. A layer may make the call several times, as `tower::retry` does: each time
    /// is a new call for components. The timeout of the `eval` includes all of them.
    ///
    /// Jobs and [`send`](crate::Client::send) do not pass the layers, since they have no single answer. Headers of the
    /// client apply to them as well.
    ///
    /// The chapter `palm::guide::middleware` describes layers, errors, and what a retry may cause.
    pub fn layer<L>(mut self, layer: L) -> Self
    where
        L: Layer<ClientService, Service: LayeredService> + Send + 'static,
    {
        self.layers.add(layer);
        self
    }
}
