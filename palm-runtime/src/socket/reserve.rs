//! Ports that are reserved for sockets that are bound later.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use tokio::net::TcpSocket;

use super::Address;

/// Reserves a port for a socket that is bound later.
///
/// The reservation is a bound socket that does not listen, so connections are refused. Linux allows a second socket with
/// `SO_REUSEADDR` to bind the same port while neither listens. Other systems do not.
#[derive(Debug)]
pub(crate) struct ReservedPort {
    address: Address,
    _reservation: TcpSocket,
}

impl ReservedPort {
    /// Reserves a free port of the host of `address`.
    ///
    /// Returns `None` if the address has a port, or if ports cannot be reserved on this system or for this host.
    pub(crate) fn new(address: &Address) -> io::Result<Option<Self>> {
        let Some((host, 0)) = address.tcp_parts() else {
            return Ok(None);
        };
        let ip = match host {
            "*" => Some(Ipv4Addr::UNSPECIFIED.into()),
            host => host.parse::<IpAddr>().ok(),
        };
        let Some(ip) = ip.filter(|_| cfg!(target_os = "linux")) else {
            return Ok(None);
        };
        let reservation = match ip {
            IpAddr::V4(_) => TcpSocket::new_v4()?,
            IpAddr::V6(_) => TcpSocket::new_v6()?,
        };
        reservation.set_reuseaddr(true)?;
        reservation.bind(SocketAddr::new(ip, 0))?;
        let port = reservation.local_addr()?.port();
        Ok(Some(Self {
            address: address.with_port(port),
            _reservation: reservation,
        }))
    }

    /// Returns the address with the reserved port.
    pub(crate) fn address(&self) -> &Address {
        &self.address
    }
}
