//! Who can reach an address that is bound, and whether the program wants that.
//!
//! A socket has no keys: every peer that reaches it can join, read and stop others. So a component binds an
//! address that other hosts can reach only if its program, or its environment, says that the network is
//! trusted. All sockets of a component ask [`NetworkTrust::check`] before they are bound, and [`reach_of`]
//! decides.

use std::ffi::OsStr;
use std::net::{IpAddr, ToSocketAddrs as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Says that the network is trusted, if it is `1`.
const VARIABLE: &str = "PALM_TRUST_NETWORK";

/// From where a TCP socket can be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    ThisMachine,
    Network,
}

/// From where a TCP socket can be reached that is bound to `host`, an address, a name, an interface or `*`.
/// `localhost` gives the addresses of that name, which the system may have set to any.
fn reach_of(host: &str, localhost: impl FnOnce() -> Vec<IpAddr>) -> Reach {
    let bare = host.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
    let host = bare.unwrap_or(host);
    let is_loopback = |ip: &IpAddr| ip.to_canonical().is_loopback();
    let is_local = match host.parse::<IpAddr>() {
        Ok(ip) => is_loopback(&ip),
        Err(_) if host.eq_ignore_ascii_case("localhost") => localhost().iter().all(is_loopback),
        // What a name stands for can change, and a name of this host usually stands for its network address.
        Err(_) => false,
    };
    match is_local {
        true => Reach::ThisMachine,
        false => Reach::Network,
    }
}

fn resolve_localhost() -> Vec<IpAddr> {
    let addresses = ("localhost", 0).to_socket_addrs();
    // Where it is unknown, binding fails as well, and says so.
    addresses.map_or_else(|_| Vec::new(), |them| them.map(|it| it.ip()).collect())
}

fn is_trusted(option: bool, variable: Option<&OsStr>) -> bool {
    option || variable.is_some_and(|value| value == "1")
}

/// An address that was to be bound can be reached from other hosts, and nothing says that the network is
/// trusted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{address}` can be reached from other hosts, and every peer that reaches it can join, read and stop others: \
     bind {alternative}, or, on a private network that is trusted, say `.trust_network(true)` or set \
     `PALM_TRUST_NETWORK=1` in the environment"
)]
pub struct ExposedError {
    address: String,
    /// What to bind instead.
    alternative: String,
}

/// Whether a component may bind addresses that other hosts can reach, and which of them it has bound.
#[derive(Debug, Clone)]
pub(crate) struct NetworkTrust {
    is_trusted: bool,
    exposed: Arc<Mutex<Vec<String>>>,
}

/// It says nothing of how a socket behaves.
impl PartialEq for NetworkTrust {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for NetworkTrust {}

impl NetworkTrust {
    /// The network is trusted if the option or the environment says so.
    pub(crate) fn new(option: bool) -> Self {
        Self {
            is_trusted: is_trusted(option, std::env::var_os(VARIABLE).as_deref()),
            exposed: Arc::default(),
        }
    }

    /// Refuses to bind `host`, unless only this machine can reach it or the network is trusted. `address` is what
    /// was given, `alternative` what to bind instead.
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

    /// Takes note of an address that was bound.
    pub(crate) fn note(&self, host: &str, address: impl ToString) {
        if reach_of(host, resolve_localhost) == Reach::Network {
            self.exposed().push(address.to_string());
        }
    }

    /// Warns once of all addresses that were bound and that other hosts can reach.
    pub(crate) fn warn(&self) {
        let exposed = std::mem::take(&mut *self.exposed());
        if !exposed.is_empty() {
            let addresses = exposed.join(", ");
            tracing::warn!(
                addresses,
                "bound beyond this machine: everybody who reaches these addresses can join, read and stop others"
            );
        }
    }

    fn exposed(&self) -> MutexGuard<'_, Vec<String>> {
        self.exposed.lock().unwrap_or_else(PoisonError::into_inner)
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
            // Short forms, which some systems expand.
            "127.1",
            "0",
            "0x7f.1",
            "",
        ] {
            check_reach(host, &[], Reach::Network);
        }
    }

    #[test]
    fn localhost_is_what_the_system_says() {
        for host in ["localhost", "LocalHost"] {
            check_reach(host, &["127.0.0.1", "::1"], Reach::ThisMachine);
            check_reach(host, &["::ffff:127.0.0.1"], Reach::ThisMachine);
            check_reach(host, &["127.0.0.1", "10.0.0.7"], Reach::Network);
            check_reach(host, &[], Reach::ThisMachine);
        }
    }

    #[test]
    fn the_network_is_trusted_by_the_option_or_the_variable() {
        assert!(is_trusted(true, None));
        assert!(is_trusted(false, Some("1".as_ref())));
        for value in [None, Some(""), Some("0"), Some("true"), Some("11")] {
            assert!(!is_trusted(false, value.map(AsRef::as_ref)), "{value:?}");
        }
    }
}
