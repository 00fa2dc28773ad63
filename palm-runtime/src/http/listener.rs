//! [`Listener`]: where HTTP is served, and how much a connection may ask for.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::guard::HostGuard;
use crate::network::{ExposedError, NetworkTrust};

#[cfg(feature = "tls")]
use super::tls::ServerTls;

/// Where HTTP is served, and how much a connection may ask for. Text such as `"127.0.0.1:8888"` is one
/// with the defaults.
///
/// HTTP/1.1 and HTTP/2 are spoken, whichever a client begins with. Without TLS, HTTP/2 is for clients
/// that know it before (`curl --http2-prior-knowledge`); with TLS it is agreed on.
#[derive(Clone)]
#[must_use = "a listener does nothing until something is served on it"]
pub struct Listener {
    pub(super) address: String,
    pub(super) header_timeout: Duration,
    pub(super) write_timeout: Duration,
    pub(super) connections: usize,
    pub(super) trusts_network: bool,
    guard: HostGuard,
    #[cfg(feature = "tls")]
    pub(super) tls: Option<ServerTls>,
}

impl Listener {
    /// At `address`, as `host:port`. Port 0 is one that the system picks. A host other than a loopback address
    /// has to be [allowed](Self::trust_network).
    pub fn new(address: impl Into<String>) -> Self {
        Self {
            address: address.into(),
            header_timeout: Duration::from_secs(60),
            write_timeout: Duration::from_secs(60),
            connections: 16_384,
            trusts_network: false,
            guard: HostGuard::default(),
            #[cfg(feature = "tls")]
            tls: None,
        }
    }

    /// How long a client may take for the head of a request, and how long a connection may be idle
    /// before it. Default: 60 s. The body has the time that the whole request has.
    pub fn header_timeout(mut self, timeout: Duration) -> Self {
        self.header_timeout = timeout;
        self
    }

    /// How long a client may take to read 64 KiB, or what is left of a response if that is less. Default: 60 s.
    ///
    /// The connection of a slower client is reset. With HTTP/2, each response has a window of its own, so only the
    /// stream of the response is reset, within twice the timeout; a client that reads nothing at all also fails to
    /// answer pings, and its connection is closed after 40 s.
    pub fn write_timeout(mut self, timeout: Duration) -> Self {
        self.write_timeout = timeout;
        self
    }

    /// How many connections there may be at once; further ones wait to be accepted. Default: 16 384.
    /// 0 counts as 1.
    pub fn max_connections(mut self, connections: usize) -> Self {
        self.connections = connections.max(1);
        self
    }

    /// Host names, without a port, that requests may be addressed to. `*` allows every name.
    ///
    /// Default: at a loopback address none besides `localhost`, the names below it, and loopback addresses, which are
    /// always allowed there; at other addresses every name, unless this gives some. A request for another name is
    /// answered by 421. A name that a web page controls can resolve to a loopback address (DNS rebinding), so a server
    /// at a loopback address that is reached through a proxy needs the names that the proxy passes on.
    ///
    /// ```
    /// # use palm::http::Listener;
    /// let behind_a_proxy = Listener::new("127.0.0.1:8080").allowed_hosts(["images.example.org"]);
    /// ```
    pub fn allowed_hosts(mut self, hosts: impl IntoIterator<Item: Into<String>>) -> Self {
        let added = hosts.into_iter().map(|host| host.into().to_lowercase());
        self.guard.hosts.get_or_insert_default().extend(added);
        self
    }

    /// Origins whose web pages may send requests, as browsers write them: `https://shop.example.org`. `*` allows
    /// every origin.
    ///
    /// Default: at a loopback address only pages that this address has served itself; at other addresses every
    /// origin, unless this gives some. A request of a page of another origin is answered by 403. That a browser shows
    /// the response to the page needs CORS besides, which is a layer of an application.
    pub fn allowed_origins(mut self, origins: impl IntoIterator<Item: Into<String>>) -> Self {
        let added = origins
            .into_iter()
            .map(|origin| origin.into().to_lowercase());
        self.guard.origins.get_or_insert_default().extend(added);
        self
    }

    /// Whether it may listen where other hosts can reach it, such as at `0.0.0.0`. Default: no, so that it does
    /// not start there, unless its component says that the network is trusted, or the environment variable
    /// `PALM_TRUST_NETWORK` is `1`.
    ///
    /// Every peer that reaches it can call what it serves, unless that has access control of its own.
    pub fn trust_network(mut self, trust: bool) -> Self {
        self.trusts_network = trust;
        self
    }

    /// Serves HTTPS. Default: plain HTTP.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, tls: ServerTls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Refuses what other hosts could reach, if the network is not trusted.
    pub(super) fn check(&self, network: &NetworkTrust) -> Result<(), ExposedError> {
        if self.trusts_network {
            return Ok(());
        }
        let (host, port) = self
            .address
            .rsplit_once(':')
            .unwrap_or((&self.address, "0"));
        network.check(host, &self.address, || format!("`127.0.0.1:{port}`"))
    }

    /// What is accepted where `address` is bound.
    pub(super) fn guard(&self, address: IpAddr) -> HostGuard {
        HostGuard {
            is_loopback: address.to_canonical().is_loopback(),
            ..self.guard.clone()
        }
    }

    /// `http` or `https`.
    pub(super) fn scheme(&self) -> &'static str {
        #[cfg(feature = "tls")]
        if self.tls.is_some() {
            return "https";
        }
        "http"
    }
}

impl From<&str> for Listener {
    fn from(address: &str) -> Self {
        Self::new(address)
    }
}

impl From<String> for Listener {
    fn from(address: String) -> Self {
        Self::new(address)
    }
}

impl From<SocketAddr> for Listener {
    fn from(address: SocketAddr) -> Self {
        Self::new(address.to_string())
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Listener")
            .field("scheme", &self.scheme())
            .field("address", &self.address)
            .field("header_timeout", &self.header_timeout)
            .field("write_timeout", &self.write_timeout)
            .field("connections", &self.connections)
            .field("trusts_network", &self.trusts_network)
            .field("allowed_hosts", &self.guard.hosts)
            .field("allowed_origins", &self.guard.origins)
            .finish()
    }
}
