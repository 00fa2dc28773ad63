//! [`Builder`]: the options of a component, those of all kinds in one place.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::{Mutex, PoisonError};

use super::kind::{Calls, Follows, HasWorkers, Kind, Publishes, Pulls, Sink, Worker};
use super::settings::{Settings, settings_methods};
use crate::discovery::{IntoAddress, ParsedAddress};
use crate::executor::default_concurrency;
#[cfg(feature = "http")]
use crate::http::{Gateway, Listener};
use crate::link::connection::Prefetch;
use crate::method::Shape;
use crate::parts::PendingLimits;
use crate::payload::type_name;

/// The options of a component, and the start of it.
///
/// It comes from [`bind`](Bind::bind), or from [`connect`](Connect::connect) for a worker, both of
/// which take the one address that is needed. Every other one is for peers without links, and defaults to a
/// port that the system picks. Such peers find it by asking at `db_address`, and it is opened when one asks
/// (on Linux; elsewhere when the component starts). Which options there are depends on the kind `K`.
#[must_use = "a component does nothing until `.start().await` or `.spawn().await`"]
#[derive(Debug)]
pub struct Builder<C, K> {
    pub(super) component: C,
    pub(super) name: String,
    pub(super) db_address: ParsedAddress,
    pub(super) settings: Settings,
    pub(super) concurrency: usize,
    pub(super) prefetch: Prefetch,
    pub(super) pull_address: Option<ParsedAddress>,
    pub(super) push_address: Option<ParsedAddress>,
    pub(super) pub_address: Option<ParsedAddress>,
    pub(super) worker_pull_address: Option<ParsedAddress>,
    pub(super) worker_push_address: Option<ParsedAddress>,
    pub(super) sources: Vec<StreamSource>,
    /// The topic to follow, where the source does not bring its own.
    pub(super) previous: Option<String>,
    /// Whether results go to followers: `None`: by the steps of each message.
    pub(super) pipelined: Option<bool>,
    pub(super) pending_limits: PendingLimits,
    /// The HTTP gateway, and its listener if the component serves it.
    #[cfg(feature = "http")]
    pub(super) http: Option<(Gateway, Option<Listener>)>,
    pub(super) kind: PhantomData<K>,
}

/// A stream that a component follows.
#[derive(Debug, Clone)]
pub(super) struct StreamSource {
    pub(super) address: StreamAddress,
    /// The topic; `None` if another option sets it.
    pub(super) previous: Option<String>,
}

/// Where a stream is published.
#[derive(Debug, Clone)]
pub(super) enum StreamAddress {
    /// The `pub_address` of its publisher.
    Publisher(ParsedAddress),
    /// By the component with this `db_address`, which tells where.
    Component(ParsedAddress),
}

impl StreamAddress {
    pub(super) fn get(&self) -> &ParsedAddress {
        match self {
            Self::Publisher(address) | Self::Component(address) => address,
        }
    }
}

/// As its option: for errors.
impl std::fmt::Display for StreamSource {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let address = self.address.get();
        let address = match address {
            Ok(address) => address.to_string(),
            Err(_) => "..".to_owned(),
        };
        match (&self.address, &self.previous) {
            (StreamAddress::Component(_), _) => write!(formatter, "`.follow(\"{address}\")`"),
            (StreamAddress::Publisher(_), None) => {
                write!(formatter, "`.sub_address(\"{address}\")`")
            }
            (StreamAddress::Publisher(_), Some(previous)) => {
                write!(formatter, "`.stream(\"{address}\", \"{previous}\")`")
            }
        }
    }
}

/// A component that others connect to. Implemented by the macros.
pub trait Bind: Sized {
    /// The options of its kind.
    type Builder: FromComponent<Self>;

    /// Begins to set the component up, with its cache service at `db_address`: the address that
    /// clients, and workers, are told. Other addresses default to free ports of the same host, which are opened
    /// when a peer without links asks for them.
    fn bind(self, db_address: impl IntoAddress) -> Self::Builder {
        FromComponent::from_component(self, db_address.into_address())
    }
}

/// A worker, which connects to its master. Implemented by the macros.
pub trait Connect: Sized {
    /// Its options.
    type Builder: FromComponent<Self>;

    /// Begins to set the worker up; `db_address` is its master's.
    fn connect(self, db_address: impl IntoAddress) -> Self::Builder {
        FromComponent::from_component(self, db_address.into_address())
    }
}

/// A builder that can be made of a component.
pub trait FromComponent<C> {
    #[doc(hidden)]
    fn from_component(component: C, db_address: ParsedAddress) -> Self;
}

impl<C: Shape, K: Kind> FromComponent<C> for Builder<C, K> {
    fn from_component(component: C, db_address: ParsedAddress) -> Self {
        Self::new(component, C::NAME.to_owned(), db_address)
    }
}

impl<C, K: Kind> Builder<C, K> {
    pub(super) fn new(component: C, name: String, db_address: ParsedAddress) -> Self {
        // A worker's name says who did something; the constant is its master's.
        let name = match K::KIND {
            Worker::KIND => worker_name(&type_name::<C>()),
            _ => name,
        };
        Self {
            component,
            name,
            db_address,
            settings: Settings::default(),
            concurrency: default_concurrency(),
            prefetch: Prefetch::Measured,
            pull_address: None,
            push_address: None,
            pub_address: None,
            worker_pull_address: None,
            worker_push_address: None,
            sources: Vec::new(),
            previous: None,
            pipelined: None,
            pending_limits: PendingLimits::default(),
            #[cfg(feature = "http")]
            http: None,
            kind: PhantomData,
        }
    }

    /// The component's name. Default: the one in its macro; for a worker, its type, host and
    /// process id, as in `Resizer@node7:4711`, and a number for further ones of the process.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    settings_methods!();

    /// The name that it has by now.
    pub(crate) fn given_name(&self) -> &str {
        &self.name
    }

    /// Where the cache service is, for whoever learns it after the options.
    pub(crate) fn at(mut self, db_address: impl IntoAddress) -> Self {
        self.db_address = db_address.into_address();
        self
    }

    /// Returns whether the options name a component to follow.
    pub(crate) fn has_sources(&self) -> bool {
        !self.sources.is_empty()
    }
}

impl<C, K: Calls> Builder<C, K> {
    /// How many calls may run at once. Default: as many as there are processors. With 0 the component does not
    /// start.
    pub fn concurrency(mut self, calls: usize) -> Self {
        self.concurrency = calls;
        self
    }
}

impl<C, K: Pulls> Builder<C, K> {
    /// Where clients push their messages to.
    pub fn pull_address(mut self, address: impl IntoAddress) -> Self {
        self.pull_address = Some(address.into_address());
        self
    }
}

impl<C, K: Publishes> Builder<C, K> {
    /// Where results are published.
    pub fn pub_address(mut self, address: impl IntoAddress) -> Self {
        self.pub_address = Some(address.into_address());
        self
    }

    /// Whether results go to the components that follow this one (`true`), or back to the client (`false`),
    /// whatever steps the message has.
    ///
    /// Default: by the steps of each message. The result of a step that has a further one goes on, and its
    /// caller gets an error if no component follows. That of the last step goes to the client; from a pipeline
    /// or sink whose clients do not take their answers there over a link, it goes to followers.
    pub fn pipelined(mut self, pipelined: bool) -> Self {
        self.pipelined = Some(pipelined);
        self
    }

    /// Whether results go back to the client: the opposite of [`pipelined`](Self::pipelined).
    pub fn to_client(self, to_client: bool) -> Self {
        self.pipelined(!to_client)
    }

    /// Sets the bounds of results that are kept until their topic has a subscriber. Default: 10 s, 10 000 messages,
    /// 64 MiB.
    pub fn pending_limits(mut self, limits: PendingLimits) -> Self {
        self.pending_limits = limits;
        self
    }
}

impl<C, K: HasWorkers> Builder<C, K> {
    /// Where tasks are pushed, and workers pull.
    pub fn worker_push_address(mut self, address: impl IntoAddress) -> Self {
        self.worker_push_address = Some(address.into_address());
        self
    }

    /// Where results are pulled, and workers push.
    pub fn worker_pull_address(mut self, address: impl IntoAddress) -> Self {
        self.worker_pull_address = Some(address.into_address());
        self
    }
}

#[cfg(feature = "http")]
impl<C, K: HasWorkers> Builder<C, K> {
    /// Serves the functions of its workers over HTTP at `listener`, an address such as
    /// `"127.0.0.1:8080"`: a path names a function, the body is its payload. The hooks `gather` and
    /// `handle_stream` see no results of requests. Default: no HTTP.
    pub fn http(self, listener: impl Into<Listener>) -> Self {
        self.gateway(listener, &Gateway::new())
    }

    /// [`http`](Self::http) with options of requests.
    pub fn gateway(mut self, listener: impl Into<Listener>, gateway: &Gateway) -> Self {
        self.http = Some((gateway.clone(), Some(listener.into())));
        self
    }

    /// Takes the requests of a gateway whose service is mounted in an application of your own.
    pub fn mounted_gateway(mut self, gateway: &Gateway) -> Self {
        self.http = Some((gateway.clone(), None));
        self
    }
}

impl<C, K: Follows> Builder<C, K> {
    /// Where the component before publishes: its `pub_address`. This, or [`follow`](Self::follow), is
    /// needed, once: a pipeline or hub with two components to follow does not start.
    pub fn sub_address(mut self, address: impl IntoAddress) -> Self {
        self.sources.push(StreamSource {
            address: StreamAddress::Publisher(address.into_address()),
            previous: None,
        });
        self
    }

    /// The topic to follow: the name of the component before, unless its `handle_stream` says
    /// otherwise. Needed with [`sub_address`](Self::sub_address).
    pub fn previous(mut self, topic: impl Into<String>) -> Self {
        self.previous = Some(topic.into());
        self
    }

    /// Follows the component whose `db_address` this is: where it publishes, and its name, are asked
    /// there. A pipeline or hub follows one component, and does not start with two; a sink follows several.
    pub fn follow(mut self, db_address: impl IntoAddress) -> Self {
        self.sources.push(StreamSource {
            address: StreamAddress::Component(db_address.into_address()),
            previous: None,
        });
        self
    }
}

impl<C> Builder<C, Sink> {
    /// Adds a stream: what is published at `sub_address`, a component's `pub_address`, under the topic
    /// `previous`. Call it once for each.
    pub fn stream(mut self, sub_address: impl IntoAddress, previous: impl Into<String>) -> Self {
        self.sources.push(StreamSource {
            address: StreamAddress::Publisher(sub_address.into_address()),
            previous: Some(previous.into()),
        });
        self
    }

    /// Adds a stream: what the component whose `db_address` this is publishes under its name.
    pub fn follow(mut self, db_address: impl IntoAddress) -> Self {
        self.sources.push(StreamSource {
            address: StreamAddress::Component(db_address.into_address()),
            previous: None,
        });
        self
    }
}

impl<C> Builder<C, Worker> {
    /// How many tasks the worker holds besides those that it runs, so that it need not wait for the next
    /// one. Default: as many as it does in 10 ms, 1000 at most, and so none where a task takes longer: what
    /// waits here nobody else does. Only over a link, see [`LinkOptions`](crate::LinkOptions).
    pub fn prefetch(mut self, tasks: u64) -> Self {
        self.prefetch = Prefetch::Fixed(tasks);
        self
    }

    /// Where the master pushes tasks: its `worker_push_address`. Default: asked for at `db_address`.
    pub fn push_address(mut self, address: impl IntoAddress) -> Self {
        self.push_address = Some(address.into_address());
        self
    }

    /// Where the master pulls results: its `worker_pull_address`. Default: asked for at `db_address`.
    pub fn pull_address(mut self, address: impl IntoAddress) -> Self {
        self.pull_address = Some(address.into_address());
        self
    }
}

/// The name of a worker that has been given none: `type_name` with the host and the process, and a number for the
/// second and further ones of the process. It is for people; a worker's identity is its session.
fn worker_name(type_name: &str) -> String {
    static NAMES: Mutex<BTreeMap<String, u64>> = Mutex::new(BTreeMap::new());
    let type_name = type_name.split('<').next().unwrap_or(type_name);
    let host = gethostname::gethostname();
    let (host, process) = (host.to_string_lossy(), std::process::id());
    let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    let count = names.entry(type_name.to_owned()).or_default();
    *count += 1;
    match *count {
        1 => format!("{type_name}@{host}:{process}"),
        number => format!("{type_name}@{host}:{process}/{number}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_name_of_a_worker_has_its_type_host_and_process() {
        let first = worker_name("Resizer<u8>");
        let process = std::process::id();
        let place = first
            .strip_prefix("Resizer@")
            .expect("starts with the type");
        let (host, number) = place.rsplit_once(':').expect("has a host");
        assert!(!host.is_empty());
        assert_eq!(number, process.to_string());
        assert_eq!(worker_name("Resizer<u8>"), format!("{first}/2"));
    }
}
