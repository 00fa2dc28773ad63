//! Protection of addresses that other hosts can reach.
//!
//! Sockets have no access control: every peer that reaches an address can join, read messages and stop peers. Therefore
//! a component binds such an address only if its program, or its environment, declares the network as trusted. Each
//! socket of a component calls [`NetworkTrust::check`] before it binds an address and [`NetworkTrust::note`] afterwards,
//! and the component calls [`NetworkTrust::warn`] once all are bound. [`reach_of`] decides.

use std::ffi::OsStr;
use std::net::{IpAddr, ToSocketAddrs as _};
use std::sync::Arc;

use parking_lot::Mutex;

/// The environment variable that declares the network as trusted, with the value `1`.
const VARIABLE: &str = "PALM_TRUST_NETWORK";

/// The hosts that can reach a TCP socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    ThisMachine,
    Network,
}

/// Returns which hosts can reach a TCP socket that is bound to `host`: an address, a name, an interface or `*`.
///
/// `localhost` returns the addresses of that name, which the system may map to any address.
fn reach_of(host: &str, localhost: impl FnOnce() -> Vec<IpAddr>) -> Reach {
    let bare = host.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
    let host = bare.unwrap_or(host);
    let is_loopback = |ip: &IpAddr| ip.to_canonical().is_loopback();
    let is_local = match host.parse::<IpAddr>() {
        Ok(ip) => is_loopback(&ip),
        Err(_) if host.eq_ignore_ascii_case("localhost") => localhost().iter().all(is_loopback),
        // The address of a name can change, and the name of a host usually has the address of its network interface.
        Err(_) => false,
    };
    match is_local {
        true => Reach::ThisMachine,
        false => Reach::Network,
    }
}

fn resolve_localhost() -> Vec<IpAddr> {
    let addresses = ("localhost", 0).to_socket_addrs();
    // If the name is unknown, binding fails too, with that error.
    addresses.map_or_else(|_| Vec::new(), |them| them.map(|it| it.ip()).collect())
}

fn is_trusted(option: bool, variable: Option<&OsStr>) -> bool {
    option || variable.is_some_and(|value| value == "1")
}

/// Other hosts could reach an address, and the network is not declared as trusted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{address}` can be reached from other hosts, and every peer that reaches it can join, read and stop others: \
     bind {alternative}, or, on a trusted private network, allow it by `.trust_network(true)`, `--trust-network` or \
     `PALM_TRUST_NETWORK=1` in the environment"
)]
pub struct ExposedError {
    address: String,
    /// A text that names addresses to bind instead.
    alternative: String,
}

/// Records whether a component may bind addresses that other hosts can reach, and which of them it has bound.
#[derive(Debug, Clone)]
pub(crate) struct NetworkTrust {
    is_trusted: bool,
    exposed: Arc<Mutex<Vec<String>>>,
}

/// All values are equal, because they do not affect how a socket behaves.
impl PartialEq for NetworkTrust {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for NetworkTrust {}

impl NetworkTrust {
    /// Trusts the network if the option or the environment variable is set.
    pub(crate) fn new(option: bool) -> Self {
        Self {
            is_trusted: is_trusted(option, std::env::var_os(VARIABLE).as_deref()),
            exposed: Arc::default(),
        }
    }

    /// Rejects a host that other machines can reach, unless the network is trusted.
    ///
    /// The error contains `address`, as configured, and the `alternative`.
    pub(crate) fn check(
        &self,
        host: &str,
        address: impl ToString,
        alternative: impl FnOnce() -> String,
    ) -> Result<(), ExposedError> {
        if self.is_trusted || reach_of(host, resolve_localhost) == Reach::ThisMachine {
            return Ok(());
        }
        Err(ExposedError {
            address: address.to_string(),
            alternative: alternative(),
        })
    }

    /// Records an address that was bound.
    pub(crate) fn note(&self, host: &str, address: impl ToString) {
        if reach_of(host, resolve_localhost) == Reach::Network {
            self.exposed.lock().push(address.to_string());
        }
    }

    /// Logs the recorded addresses that other hosts can reach, and forgets them.
    pub(crate) fn warn(&self) {
        let exposed = std::mem::take(&mut *self.exposed.lock());
        if !exposed.is_empty() {
            let addresses = exposed.join(", ");
            tracing::warn!(
                addresses,
                "other hosts can reach bound addresses: every peer that reaches them can join, read and stop others"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_reach(host: &str, localhost: &[&str], expected: Reach) {
        let localhost = || localhost.iter().map(|ip| ip.parse().unwrap()).collect();
        assert_eq!(reach_of(host, localhost), expected, "{host}");
    }

    #[test]
    fn loopback_addresses_are_reached_from_this_machine_only() {
        for host in [
            "127.0.0.1",
            "127.0.0.2",
            "127.255.255.254",
            "::1",
            "[::1]",
            "[::ffff:127.0.0.1]",
        ] {
            check_reach(host, &[], Reach::ThisMachine);
        }
    }

    #[test]
    fn other_addresses_names_and_interfaces_are_reached_from_the_network() {
        for host in [
            "*",
            "0.0.0.0",
            "[::]",
            "::",
            "[::ffff:0.0.0.0]",
            "[::ffff:10.0.0.7]",
            "10.0.0.7",
            "192.168.1.1",
            "169.254.0.1",
            "128.0.0.1",
            "[fe80::1]",
            "[fe80::1%lo]",
            "[::1%lo]",
            "eth0",
            "lo",
            "node7",
            "localhost.example.org",
            // Short forms of addresses, which some systems expand.
            "127.1",
            "0",
            "0x7f.1",
            "",
        ] {
            check_reach(host, &[], Reach::Network);
        }
    }

    #[test]
    fn localhost_has_the_reach_of_its_addresses() {
        for host in ["localhost", "LocalHost"] {
            check_reach(host, &["127.0.0.1", "::1"], Reach::ThisMachine);
            check_reach(host, &["::ffff:127.0.0.1"], Reach::ThisMachine);
            check_reach(host, &["127.0.0.1", "10.0.0.7"], Reach::Network);
            check_reach(host, &[], Reach::ThisMachine);
        }
    }

    #[test]
    fn network_is_trusted_by_the_option_or_the_variable() {
        assert!(is_trusted(true, None));
        assert!(is_trusted(false, Some("1".as_ref())));
        for value in [None, Some(""), Some("0"), Some("true"), Some("11")] {
            assert!(!is_trusted(false, value.map(AsRef::as_ref)), "{value:?}");
        }
    }
}
