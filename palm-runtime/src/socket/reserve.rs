//! A port that is reserved, and at which nothing listens yet.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use tokio::net::TcpSocket;

use super::Address;

/// Keeps a port for a socket that is bound later.
///
/// The reservation is bound and does not listen, so connections are refused. Linux lets a second socket with
/// `SO_REUSEADDR` bind the same port as long as none listens; other systems do not.
#[derive(Debug)]
pub(crate) struct ReservedPort {
    address: Address,
    _reservation: TcpSocket,
}

impl ReservedPort {
    /// Reserves a free port of the host of `address`. `None`: the port is given, or this system or host is not one
    /// where ports can be reserved.
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

    /// The host, and the port that is reserved.
    pub(crate) fn address(&self) -> &Address {
        &self.address
    }
}
