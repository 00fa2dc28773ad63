//! [`Listener`]: the address that HTTP is served at, and the limits of its connections.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::guard::HostGuard;
use crate::network::{ExposedError, NetworkTrust};
use crate::options::options;

#[cfg(feature = "tls")]
use super::tls::ServerTls;

/// Configures the address that HTTP is served at, and the limits of its connections. Text such as `"127.0.0.1:8888"`
/// converts to a listener with the defaults.
///
/// A listener serves HTTP/1.1 and HTTP/2. With TLS, client and server negotiate the version (ALPN). Without TLS,
/// HTTP/2 needs prior knowledge (`curl --http2-prior-knowledge`).
#[derive(Clone)]
#[must_use = "a listener does nothing until something is served on it"]
pub struct Listener {
    pub(super) address: String,
    pub(super) options: ListenerOptions,
    #[cfg(feature = "tls")]
    pub(super) tls: Option<ServerTls>,
}

options! {
    /// The options of a [`Listener`], whose methods set them as well.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct ListenerOptions {
        /// Sets the time within which a client has to send the head of a request, including the idle time of the
        /// connection before it. Default: 60 s.
        ///
        /// The time for the body is limited by the timeout of the request as a whole.
        header_timeout: Duration = Duration::from_secs(60),
        /// Sets the time within which a client has to receive 64 KiB, or the rest of a response if that is less.
        /// Default: 60 s.
        ///
        /// The connection of a slower client is reset. With HTTP/2, each response has a flow-control window of its own,
        /// so only the stream of that response is reset, after at most twice the timeout. A client that reads nothing at
        /// all does not answer pings either, and its connection is closed after 40 s.
        write_timeout: Duration = Duration::from_secs(60),
        /// Sets the number of connections that are open at once. Further ones wait to be accepted. Default: 16 384.
        /// 0 counts as 1.
        max_connections: usize = 16_384,
        /// Adds host names, without a port, that requests may be addressed to. `*` allows every name. A request for
        /// another name is answered by 421.
        ///
        /// Default at a loopback address: only `localhost`, the names below it, and loopback addresses, which are always
        /// allowed there. The reason is DNS rebinding: a web page can make its own host name resolve to a loopback
        /// address. If a proxy forwards requests to the listener, add the names that it forwards.
        ///
        /// Default at other addresses: every name, unless names are added.
        ///
        /// ```
        /// # use palm::http::Listener;
        /// let behind_a_proxy = Listener::new("127.0.0.1:8080").allowed_hosts(["images.example.org"]);
        /// ```
        allowed_hosts: Vec<String> | impl IntoIterator<Item: Into<String>> = Vec::new(),
        /// Adds origins whose web pages may send requests, in the form `https://shop.example.org`. `*` allows every
        /// origin. A request of a page of another origin is answered by 403.
        ///
        /// Default at a loopback address: only pages that the listener itself has served. Default at other addresses:
        /// every origin, unless origins are added.
        ///
        /// A browser shows the response to the page only if it also has CORS headers, which a layer of your application
        /// has to add.
        allowed_origins: Vec<String> | impl IntoIterator<Item: Into<String>> = Vec::new(),
        /// Allows addresses that other hosts can reach, such as `0.0.0.0`. Default: no, so that binding such an address
        /// fails, unless the component trusts the network or the environment variable `PALM_TRUST_NETWORK` is `1`.
        ///
        /// Every peer that can reach the address can call the service, unless the service has access control of its own.
        trust_network: bool = false,
    }
    methods of[] Listener, options
}

impl Listener {
    /// Creates a listener for `address`, as `host:port`. The system chooses a port in place of port 0.
    ///
    /// Hosts other than loopback addresses need [`trust_network`](Self::trust_network).
    pub fn new(address: impl Into<String>) -> Self {
        Self {
            address: address.into(),
            options: ListenerOptions::default(),
            #[cfg(feature = "tls")]
            tls: None,
        }
    }

    /// Sets all options that are data at once, such as those of a file or of the command line.
    pub fn options(mut self, options: ListenerOptions) -> Self {
        self.options = options;
        self
    }

    /// Returns the address as it was configured.
    #[cfg(feature = "monitor")]
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Serves HTTPS. Default: plain HTTP.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, tls: ServerTls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Rejects an address that other hosts can reach, unless the network is trusted.
    pub(super) fn check(&self, network: &NetworkTrust) -> Result<(), ExposedError> {
        if self.options.trust_network {
            return Ok(());
        }
        let (host, port) = self
            .address
            .rsplit_once(':')
            .unwrap_or((&self.address, "0"));
        network.check(host, &self.address, || format!("`127.0.0.1:{port}`"))
    }

    /// Returns the guard for the address that was bound.
    pub(super) fn guard(&self, address: IpAddr) -> HostGuard {
        let (hosts, origins) = (&self.options.allowed_hosts, &self.options.allowed_origins);
        HostGuard {
            is_loopback: address.to_canonical().is_loopback(),
            ..HostGuard::new(hosts, origins)
        }
    }

    /// Returns `http` or `https`.
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
            .field("options", &self.options)
            .finish()
    }
}
