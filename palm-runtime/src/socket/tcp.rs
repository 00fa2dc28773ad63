//! Connects to `tcp://` addresses.

use std::io;

use tokio::net::{TcpStream, ToSocketAddrs};

/// Connects to the first of these addresses that accepts. Cancel safe.
///
/// While nothing listens at a port that the system also gives to connecting sockets, a connection to it on the same host
/// may get this port for its own end. It is then connected to itself (RFC 9293, section 3.5, simultaneous open), and keeps
/// the component that is waited for from binding its port. Such a connection counts as refused.
pub(super) async fn connect(addresses: impl ToSocketAddrs) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(addresses).await?;
    match is_connected_to_itself(&stream) {
        true => Err(io::ErrorKind::ConnectionRefused.into()),
        false => Ok(stream),
    }
}

fn is_connected_to_itself(stream: &TcpStream) -> bool {
    match (stream.local_addr(), stream.peer_addr()) {
        (Ok(own), Ok(peer)) => own == peer,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpSocket};

    use super::*;

    #[tokio::test]
    async fn connection_to_itself_is_detected() {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let own = socket.local_addr().unwrap();
        let stream = socket.connect(own).await.unwrap();
        assert!(is_connected_to_itself(&stream));
    }

    #[tokio::test]
    async fn connection_to_a_listener_is_kept() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = connect(listener.local_addr().unwrap()).await.unwrap();
        assert!(!is_connected_to_itself(&stream));
    }
}
