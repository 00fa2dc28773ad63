//! Addresses of components: their syntax, and which hosts can reach them.

use core::net::IpAddr;
use std::fmt;

/// The longest path of a Unix socket, in bytes: the limit of Linux, without the zero at its end.
pub(crate) const MAX_IPC_PATH: usize = 107;

/// An address of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    /// A host and a port. The host is an address, a name, or `*`.
    Tcp(String, u16),
    /// A path.
    Ipc(String),
}

impl Address {
    /// Reads `tcp://HOST:PORT` or `ipc://PATH`. The error says what is wrong.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("ipc://") {
            return match path.len() {
                0 => Err("the path is missing".to_owned()),
                len if len > MAX_IPC_PATH => Err(format!(
                    "the path of a socket has at most {MAX_IPC_PATH} bytes, and this one has {len}"
                )),
                _ => Ok(Self::Ipc(path.to_owned())),
            };
        }
        let Some(rest) = text.strip_prefix("tcp://") else {
            return Err("an address begins with `tcp://` or `ipc://`".to_owned());
        };
        let Some((host, port)) = rest.rsplit_once(':') else {
            return Err("the port is missing".to_owned());
        };
        if host.is_empty() || host.contains(['/', ' ']) {
            return Err("the host is missing or malformed".to_owned());
        }
        match port.parse() {
            Ok(0) => Err("the port has to be known to others, so it cannot be 0".to_owned()),
            Ok(port) => Ok(Self::Tcp(host.to_owned(), port)),
            Err(_) => Err("the port is not a number from 1 to 65535".to_owned()),
        }
    }

    /// Returns whether other hosts can reach it. The address of a name can change, so only `localhost` counts as local.
    pub(crate) fn is_open(&self) -> bool {
        let Self::Tcp(host, _) = self else {
            return false;
        };
        match ip(host) {
            Some(ip) => !ip.to_canonical().is_loopback(),
            None => !host.eq_ignore_ascii_case("localhost"),
        }
    }

    /// Returns whether both cannot be bound at the same time.
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Ipc(one), Self::Ipc(other)) => one == other,
            (Self::Tcp(host, port), Self::Tcp(other_host, other_port)) => {
                let is_any =
                    |host: &str| host == "*" || ip(host).is_some_and(|ip| ip.is_unspecified());
                port == other_port && (host == other_host || is_any(host) || is_any(other_host))
            }
            _ => false,
        }
    }

    /// Returns the address by which a component on the same host connects to it.
    pub(crate) fn connectable(&self) -> Self {
        match self {
            Self::Tcp(host, port) if host == "*" || host == "0.0.0.0" => {
                Self::Tcp("127.0.0.1".to_owned(), *port)
            }
            Self::Tcp(host, port) if host == "[::]" => Self::Tcp("[::1]".to_owned(), *port),
            _ => self.clone(),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(host, port) => write!(formatter, "tcp://{host}:{port}"),
            Self::Ipc(path) => write!(formatter, "ipc://{path}"),
        }
    }
}

fn ip(host: &str) -> Option<IpAddr> {
    let bare = host.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
    bare.unwrap_or(host).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_displayed_as_they_are_written() {
        for text in [
            "tcp://127.0.0.1:5559",
            "tcp://[::1]:1",
            "tcp://*:5559",
            "ipc:///tmp/a",
            "ipc://a",
        ] {
            assert_eq!(Address::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn malformed_addresses_are_explained() {
        let long = format!("ipc:///{}", "x".repeat(MAX_IPC_PATH));
        for (text, expected) in [
            ("localhost:5559", "begins with"),
            ("tcp://localhost", "port is missing"),
            ("tcp://:1", "host is missing"),
            ("tcp://a:0", "cannot be 0"),
            ("tcp://a:65536", "not a number"),
            ("tcp://a:*", "not a number"),
            ("ipc://", "path is missing"),
            (&long, "at most 107 bytes"),
        ] {
            let error = Address::parse(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn open_addresses_are_those_beyond_this_host() {
        let is_open = |text| Address::parse(text).unwrap().is_open();
        for text in [
            "tcp://127.0.0.1:1",
            "tcp://127.1.2.3:1",
            "tcp://[::1]:1",
            "tcp://localhost:1",
            "ipc:///a",
        ] {
            assert!(!is_open(text), "{text}");
        }
        for text in [
            "tcp://0.0.0.0:1",
            "tcp://*:1",
            "tcp://10.0.0.7:1",
            "tcp://node7:1",
            "tcp://[::]:1",
        ] {
            assert!(is_open(text), "{text}");
        }
    }

    #[test]
    fn overlapping_addresses_have_one_port() {
        let overlap = |one, other| {
            Address::parse(one)
                .unwrap()
                .overlaps(&Address::parse(other).unwrap())
        };
        assert!(overlap("tcp://127.0.0.1:1", "tcp://127.0.0.1:1"));
        assert!(overlap("tcp://0.0.0.0:1", "tcp://127.0.0.1:1"));
        assert!(overlap("tcp://127.0.0.1:1", "tcp://*:1"));
        assert!(overlap("ipc:///a", "ipc:///a"));
        assert!(!overlap("tcp://127.0.0.1:1", "tcp://127.0.0.1:2"));
        assert!(!overlap("tcp://127.0.0.1:1", "tcp://127.0.0.2:1"));
        assert!(!overlap("ipc:///a", "ipc:///b"));
    }
}
