//! [`AnyOptions`]: the options of a component of any kind and type, and the default name of a worker.

use std::collections::HashMap;
use std::sync::LazyLock;

use parking_lot::Mutex;

use super::settings::Settings;
use crate::call_service::Layers;
use crate::call_slots::Prefetch;
use crate::component_state::host_name;
use crate::discovery::ParsedAddress;
use crate::executor::default_concurrency;
use crate::failure::CallFailure;
#[cfg(feature = "http")]
use crate::http::{Gateway, Listener};
use crate::parts::PendingLimits;

/// The options of a component of any kind. Each kind uses those that its builder has methods for.
#[derive(Debug)]
pub(super) struct AnyOptions {
    pub(super) name: String,
    pub(super) db_address: ParsedAddress,
    pub(super) settings: Settings,
    pub(super) concurrency: usize,
    pub(super) layers: Layers<CallFailure>,
    pub(super) prefetch: Prefetch,
    pub(super) pull_address: Option<ParsedAddress>,
    pub(super) push_address: Option<ParsedAddress>,
    pub(super) pub_address: Option<ParsedAddress>,
    pub(super) worker_pull_address: Option<ParsedAddress>,
    pub(super) worker_push_address: Option<ParsedAddress>,
    pub(super) sources: Vec<StreamSource>,
    /// The topic to follow, if the source does not set one.
    pub(super) previous: Option<String>,
    /// Whether results are published to followers; `None` if the steps of each message decide.
    pub(super) pipelined: Option<bool>,
    pub(super) pending_limits: PendingLimits,
    /// The HTTP gateway, and its listener if the component serves it.
    #[cfg(feature = "http")]
    pub(super) http: Option<(Gateway, Option<Listener>)>,
}

impl AnyOptions {
    pub(super) fn new(name: String, db_address: ParsedAddress) -> Self {
        Self {
            name,
            db_address,
            settings: Settings::default(),
            concurrency: default_concurrency(),
            layers: Layers::default(),
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
        }
    }
}

/// A stream that a component follows.
#[derive(Debug, Clone)]
pub(super) struct StreamSource {
    pub(super) address: StreamAddress,
    /// The topic; `None` if another option sets it.
    pub(super) previous: Option<String>,
}

/// The address by which a stream is found.
#[derive(Debug, Clone)]
pub(super) enum StreamAddress {
    /// The `pub_address` of its publisher.
    Publisher(ParsedAddress),
    /// The `db_address` of its component, where the `pub_address` is discovered.
    Component(ParsedAddress),
}

impl StreamAddress {
    pub(super) fn get(&self) -> &ParsedAddress {
        match self {
            Self::Publisher(address) | Self::Component(address) => address,
        }
    }
}

/// Writes the option that has set the stream, for errors.
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

/// Returns the default name of a worker: its prefix (a type), host and process id, and a number for later workers of the
/// same prefix and process. Names are for logs; a worker is identified by its session.
pub(super) fn worker_name(prefix: &str) -> String {
    static NAMES: LazyLock<Mutex<HashMap<String, u64>>> = LazyLock::new(Mutex::default);
    let prefix = prefix.split('<').next().unwrap_or(prefix);
    let (host, process) = (host_name(), std::process::id());
    let mut names = NAMES.lock();
    let count = names.entry(prefix.to_owned()).or_default();
    *count += 1;
    match *count {
        1 => format!("{prefix}@{host}:{process}"),
        number => format!("{prefix}@{host}:{process}/{number}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_name_of_a_worker_has_its_type_host_and_process() {
        let first = worker_name("Resizer<u8>");
        let process = std::process::id();
        let address = first
            .strip_prefix("Resizer@")
            .expect("starts with the type");
        let (host, number) = address.rsplit_once(':').expect("has a host");
        assert!(!host.is_empty());
        assert_eq!(number, process.to_string());
        assert_eq!(worker_name("Resizer<u8>"), format!("{first}/2"));
    }
}
