//! Addresses of sockets, as they are bound and as peers use them.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::network::{ExposedError, NetworkTrust};

/// The address of a socket: `tcp://host:port`, `ipc://path` or `inproc://name`.
///
/// To bind, the host may be `*` (all interfaces), the port `*` or 0 (a free one), and the name `*` (an unused one).
/// `inproc` sockets exchange messages within a process.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address(Transport);

/// The name that stands for an unused one.
const ANY_NAME: &str = "*";

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Transport {
    Tcp { host: String, port: u16 },
    Ipc { path: String },
    Inproc { name: String },
}

/// Error of parsing an [`Address`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is not an address: {why}; write `tcp://host:port`, `ipc://path` or `inproc://name`"
)]
pub struct AddressError {
    text: String,
    why: &'static str,
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let error = |why| AddressError {
            text: text.to_owned(),
            why,
        };
        let (scheme, rest) = text
            .split_once("://")
            .ok_or_else(|| error("it has no `://`"))?;
        match scheme {
            "tcp" => {
                let (host, port) = rest
                    .rsplit_once(':')
                    .ok_or_else(|| error("it has no port"))?;
                let port = match port {
                    "*" => 0,
                    port => port
                        .parse()
                        .map_err(|_| error("its port is not a number up to 65535"))?,
                };
                let bracketed = host.starts_with('[') && host.ends_with(']');
                if host.is_empty() || (host.contains(':') && !bracketed) {
                    return Err(error(if host.is_empty() {
                        "it has no host"
                    } else {
                        "an IPv6 host goes into brackets"
                    }));
                }
                let host = match host {
                    "0.0.0.0" => "*",
                    host => host,
                };
                Ok(Self::tcp(host, port))
            }
            "ipc" if rest.is_empty() => Err(error("it has no path")),
            "ipc" => Ok(Self(Transport::Ipc {
                path: rest.to_owned(),
            })),
            "inproc" if rest.is_empty() => Err(error("it has no name")),
            "inproc" => Ok(Self::inproc(rest)),
            _ => Err(error("only tcp, ipc and inproc are supported")),
        }
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Transport::Tcp { host, port } => write!(formatter, "tcp://{host}:{port}"),
            Transport::Ipc { path } => write!(formatter, "ipc://{path}"),
            Transport::Inproc { name } => write!(formatter, "inproc://{name}"),
        }
    }
}

impl Address {
    fn tcp(host: &str, port: u16) -> Self {
        let host = host.to_owned();
        Self(Transport::Tcp { host, port })
    }

    fn inproc(name: &str) -> Self {
        let name = name.to_owned();
        Self(Transport::Inproc { name })
    }

    /// Returns the path of an `ipc://` address.
    pub(super) fn ipc_path(&self) -> Option<&str> {
        match &self.0 {
            Transport::Ipc { path } => Some(path),
            _ => None,
        }
    }

    /// Returns the name of an `inproc://` address.
    pub(super) fn inproc_name(&self) -> Option<&str> {
        match &self.0 {
            Transport::Inproc { name } => Some(name),
            _ => None,
        }
    }

    /// Replaces the name of `inproc://*` by one that no other address of this process has.
    pub(super) fn with_unused_name(&self) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        match &self.0 {
            Transport::Inproc { name } if name == ANY_NAME => {
                let number = NEXT.fetch_add(1, Ordering::Relaxed);
                Self::inproc(&format!("*{number}"))
            }
            _ => self.clone(),
        }
    }

    /// Returns whether the address has a certain host and port, or name, so that a socket can connect to it.
    pub(crate) fn can_be_connected_to(&self) -> bool {
        match &self.0 {
            Transport::Tcp { host, port } => *port != 0 && !Self::is_any_host(host),
            Transport::Ipc { .. } => true,
            Transport::Inproc { name } => name != ANY_NAME,
        }
    }

    /// Returns the address with another port.
    pub(super) fn with_port(&self, port: u16) -> Self {
        match &self.0 {
            Transport::Tcp { host, .. } => Self::tcp(host, port),
            _ => self.clone(),
        }
    }

    /// Returns the host and port of a `tcp://` address.
    pub(super) fn tcp_parts(&self) -> Option<(&str, u16)> {
        match &self.0 {
            Transport::Tcp { host, port } => Some((host, *port)),
            _ => None,
        }
    }

    /// Returns whether only one of two addresses can be bound: they are equal, or one of them has the same port on all
    /// interfaces.
    pub(crate) fn collides(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (
                Transport::Tcp { host, port },
                Transport::Tcp {
                    host: other_host,
                    port: other_port,
                },
            ) => {
                let same_host =
                    host == other_host || Self::is_any_host(host) || Self::is_any_host(other_host);
                *port != 0 && port == other_port && same_host
            }
            (one, other) => one == other && self.can_be_connected_to(),
        }
    }

    /// Returns the host of a `tcp://` address.
    pub(crate) fn host(&self) -> Option<&str> {
        match &self.0 {
            Transport::Tcp { host, .. } => Some(host),
            _ => None,
        }
    }

    /// Rejects an address that other hosts can reach, unless the network is trusted.
    pub(crate) fn check(&self, network: &NetworkTrust) -> Result<(), ExposedError> {
        match &self.0 {
            Transport::Tcp { host, port } => network.check(host, self, || {
                let local = Self::tcp("127.0.0.1", *port);
                format!("`{local}` or an `ipc://` address")
            }),
            _ => Ok(()),
        }
    }

    fn is_any_host(host: &str) -> bool {
        matches!(host, "*" | "[::]")
    }

    /// Returns an address for another socket of the same component: a free port of the same host, or the path or name
    /// with `.suffix` appended.
    pub fn sibling(&self, suffix: &str) -> Self {
        Self(match &self.0 {
            Transport::Tcp { host, .. } => Transport::Tcp {
                host: host.clone(),
                port: 0,
            },
            Transport::Ipc { path } => Transport::Ipc {
                path: format!("{path}.{suffix}"),
            },
            Transport::Inproc { name } if name == ANY_NAME => self.0.clone(),
            Transport::Inproc { name } => Transport::Inproc {
                name: format!("{name}.{suffix}"),
            },
        })
    }

    /// Returns the address that peers connect to. A wildcard host is replaced by `advertised`, or by the address of the
    /// interface with the default route.
    pub fn for_peers(&self, advertised: Option<&str>) -> Self {
        match &self.0 {
            Transport::Tcp { host, port } if Self::is_any_host(host) => match advertised {
                Some(host) => Self::tcp(host, *port),
                None => Self::tcp(&primary_ip().to_string(), *port),
            },
            _ => self.clone(),
        }
    }

    /// Replaces a wildcard host by that of `publisher`, the peer that published this address.
    ///
    /// pylm publishes addresses with wildcard hosts. The host that reached the peer is then the best guess.
    pub fn as_published_by(&self, publisher: &Address) -> Self {
        match (&self.0, &publisher.0) {
            (Transport::Tcp { host, port }, Transport::Tcp { host: theirs, .. })
                if Self::is_any_host(host) =>
            {
                Self::tcp(theirs, *port)
            }
            _ => self.clone(),
        }
    }
}

/// Returns the address of the interface with the default route. Connecting a UDP socket sends nothing.
fn primary_ip() -> IpAddr {
    UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))
        .and_then(|socket| {
            socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9))?;
            socket.local_addr()
        })
        .map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |address| address.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        text.parse().unwrap()
    }

    #[test]
    fn addresses_are_parsed_as_displayed() {
        for text in [
            "tcp://127.0.0.1:5555",
            "tcp://*:0",
            "tcp://[::1]:80",
            "ipc:///tmp/a",
            "tcp://host:1",
            "inproc://images",
            "inproc://*",
        ] {
            assert_eq!(address(text).to_string(), text);
        }
        assert_eq!(address("tcp://0.0.0.0:*"), address("tcp://*:0"));
    }

    #[test]
    fn address_errors_name_the_mistake() {
        let check = |text: &str, why: &str| {
            assert_eq!(text.parse::<Address>().unwrap_err().why, why);
        };
        check("localhost:5555", "it has no `://`");
        check("tcp://localhost", "it has no port");
        check(
            "tcp://localhost:http",
            "its port is not a number up to 65535",
        );
        check("tcp://:5555", "it has no host");
        check("tcp://::1:5555", "an IPv6 host goes into brackets");
        check(
            "udp://localhost:5555",
            "only tcp, ipc and inproc are supported",
        );
        check("ipc://", "it has no path");
        check("inproc://", "it has no name");
    }

    #[test]
    fn advertised_addresses_have_a_host() {
        let bound = address("tcp://*:5555");
        assert_eq!(bound.for_peers(Some("node7")), address("tcp://node7:5555"));
        assert!(!bound.for_peers(None).to_string().contains('*'));
        assert_eq!(
            address("tcp://node1:1").for_peers(Some("node7")),
            address("tcp://node1:1")
        );
        assert_eq!(
            bound.as_published_by(&address("tcp://node2:1")),
            address("tcp://node2:5555")
        );
        assert_eq!(
            address("ipc:///tmp/db").sibling("pub"),
            address("ipc:///tmp/db.pub")
        );
        assert_eq!(
            address("inproc://db").sibling("pub"),
            address("inproc://db.pub")
        );
    }

    #[test]
    fn any_name_is_replaced_by_unused_ones() {
        let any = address("inproc://*");
        assert!(!any.can_be_connected_to() && !any.collides(&any));
        assert_eq!(any.sibling("pub"), any);
        let (one, other) = (any.with_unused_name(), any.with_unused_name());
        assert!(one.can_be_connected_to() && one.collides(&one));
        assert!(!one.collides(&other));
        assert_eq!(one.with_unused_name(), one);
    }
}
