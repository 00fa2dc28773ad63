//! A peer that speaks ZMTP 3.x without a library (RFC 23 and 37), so that a test can violate the protocol.
//!
//! The tests of `palm` include this file as well. It depends only on `setup::soon`.

use std::io;

use palm_runtime::socket::Address;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, UnixListener, UnixStream};

use super::setup::soon;

/// More frames of the same message follow.
pub(crate) const MORE: u8 = 1;
/// The length has eight bytes.
const LONG: u8 = 2;
/// A command, not a message.
pub(crate) const COMMAND: u8 = 4;

/// Size of the system's receive buffer of a raw peer, which limits what a peer that does not read receives.
const RECEIVE_BUFFER_BYTES: u32 = 64 * 1024;

/// Mechanism NULL, version 3.`minor`.
pub(crate) fn greeting(minor: u8) -> [u8; 64] {
    let mut greeting = [0; 64];
    greeting[0] = 0xff;
    greeting[9] = 0x7f;
    greeting[10] = 3;
    greeting[11] = minor;
    greeting[12..16].copy_from_slice(b"NULL");
    greeting
}

/// A frame with its header.
pub(crate) fn frame(flags: u8, body: &[u8]) -> Vec<u8> {
    let mut frame = match u8::try_from(body.len()) {
        Ok(len) => vec![flags, len],
        Err(_) => long_header(flags, body.len() as u64).to_vec(),
    };
    frame.extend_from_slice(body);
    frame
}

/// The header of a frame that announces `len` bytes.
pub(crate) fn long_header(flags: u8, len: u64) -> [u8; 9] {
    let mut header = [0; 9];
    header[0] = flags | LONG;
    header[1..].copy_from_slice(&len.to_be_bytes());
    header
}

/// A command frame.
pub(crate) fn command(name: &str, data: &[u8]) -> Vec<u8> {
    let mut body = vec![name.len().try_into().unwrap()];
    body.extend_from_slice(name.as_bytes());
    body.extend_from_slice(data);
    frame(COMMAND, &body)
}

/// One property of a READY command.
pub(crate) fn property(name: &str, value: &[u8]) -> Vec<u8> {
    let mut property = vec![name.len().try_into().unwrap()];
    property.extend_from_slice(name.as_bytes());
    property.extend_from_slice(&u32::try_from(value.len()).unwrap().to_be_bytes());
    property.extend_from_slice(value);
    property
}

/// The READY command of a socket of this type, with an identity if there is one.
pub(crate) fn ready(socket_type: &str, identity: &[u8]) -> Vec<u8> {
    let mut properties = property("Socket-Type", socket_type.as_bytes());
    if !identity.is_empty() {
        properties.extend(property("Identity", identity));
    }
    command("READY", &properties)
}

/// Pseudo-random bytes, the same in each run.
pub(crate) fn random_bytes(len: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_be_bytes()
    };
    std::iter::repeat_with(&mut next)
        .flatten()
        .take(len)
        .collect()
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// One connection, without a buffer: unread bytes stay in the system's buffers.
pub(crate) struct RawPeer(Box<dyn Stream>);

impl RawPeer {
    /// Connects without sending anything.
    pub(crate) async fn connect(address: &Address) -> Self {
        let text = address.to_string();
        let (scheme, rest) = text.split_once("://").unwrap();
        let connect = async {
            Self(match scheme {
                "tcp" => {
                    let socket = TcpSocket::new_v4().unwrap();
                    socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES).unwrap();
                    Box::new(socket.connect(rest.parse().unwrap()).await.unwrap())
                }
                _ => Box::new(UnixStream::connect(rest).await.unwrap()),
            })
        };
        soon("a raw connection", connect).await
    }

    /// Connects as a socket of `socket_type`, and completes the handshake.
    pub(crate) async fn introduced(address: &Address, socket_type: &str) -> Self {
        Self::introduced_as(address, socket_type, b"").await
    }

    /// [`introduced`](Self::introduced) with an identity.
    pub(crate) async fn introduced_as(
        address: &Address,
        socket_type: &str,
        identity: &[u8],
    ) -> Self {
        let mut peer = Self::connect(address).await;
        soon("the handshake", peer.introduce(socket_type, identity))
            .await
            .unwrap();
        peer
    }

    /// Completes the handshake, on either side.
    pub(crate) async fn introduce(&mut self, socket_type: &str, identity: &[u8]) -> io::Result<()> {
        // Subscriptions are messages in version 3.0, and commands since 3.1.
        let minor = if matches!(socket_type, "PUB" | "SUB") {
            0
        } else {
            1
        };
        self.write(&greeting(minor)).await?;
        self.0.read_exact(&mut [0; 64]).await?;
        self.write(&ready(socket_type, identity)).await?;
        let (flags, body) = self.frame().await?;
        assert_eq!(flags & COMMAND, COMMAND);
        assert!(
            body.starts_with(b"\x05READY"),
            "the answer to READY was {body:?}"
        );
        Ok(())
    }

    /// Sends raw bytes.
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes).await?;
        self.0.flush().await
    }

    /// Sends a message of one frame.
    pub(crate) async fn send(&mut self, body: &[u8]) {
        self.write(&frame(0, body)).await.unwrap();
    }

    /// Returns the flags and the body of the next frame.
    pub(crate) async fn frame(&mut self) -> io::Result<(u8, Vec<u8>)> {
        let flags = self.0.read_u8().await?;
        let len = match flags & LONG {
            0 => u64::from(self.0.read_u8().await?),
            _ => self.0.read_u64().await?,
        };
        let mut body = vec![0; len.try_into().unwrap()];
        self.0.read_exact(&mut body).await?;
        Ok((flags, body))
    }

    /// Returns the frames of the next message, and ignores commands.
    pub(crate) async fn message(&mut self) -> Vec<Vec<u8>> {
        let message = async {
            let mut frames = Vec::new();
            loop {
                let (flags, body) = self.frame().await.unwrap();
                if flags & COMMAND != 0 {
                    continue;
                }
                frames.push(body);
                if flags & MORE == 0 {
                    return frames;
                }
            }
        };
        soon("a message for the raw peer", message).await
    }

    /// Splits the connection into one that only reads, and one that only writes.
    pub(crate) fn split(self) -> (Self, Self) {
        let (reader, writer) = tokio::io::split(self.0);
        let reader = tokio::io::join(reader, tokio::io::sink());
        let writer = tokio::io::join(tokio::io::empty(), writer);
        (Self(Box::new(reader)), Self(Box::new(writer)))
    }

    /// Waits until the other side closes the connection, and discards received bytes.
    pub(crate) async fn closed(&mut self) {
        soon("the end of the raw connection", self.read_to_end()).await;
    }

    /// Discards received bytes until the other side closes the connection.
    pub(crate) async fn read_to_end(&mut self) {
        let mut bytes = vec![0; 64 * 1024];
        while self.0.read(&mut bytes).await.is_ok_and(|count| count > 0) {}
    }
}

/// The binding side of raw peers.
pub(crate) enum RawListener {
    Tcp(TcpListener),
    Ipc(UnixListener),
}

impl RawListener {
    /// Binds an address, and returns it with its port.
    pub(crate) fn bind(address: &Address) -> (Self, Address) {
        let text = address.to_string();
        let (scheme, rest) = text.split_once("://").unwrap();
        if scheme != "tcp" {
            return (
                Self::Ipc(UnixListener::bind(rest).unwrap()),
                address.clone(),
            );
        }
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES).unwrap();
        socket.bind(rest.parse().unwrap()).unwrap();
        let listener = socket.listen(64).unwrap();
        let bound = format!("tcp://{}", listener.local_addr().unwrap());
        (Self::Tcp(listener), bound.parse().unwrap())
    }

    /// Returns the next connection, before its handshake.
    pub(crate) async fn accept(&self) -> RawPeer {
        let accept = async {
            RawPeer(match self {
                Self::Tcp(listener) => Box::new(listener.accept().await.unwrap().0),
                Self::Ipc(listener) => Box::new(listener.accept().await.unwrap().0),
            })
        };
        soon("a connection to the raw listener", accept).await
    }

    /// Returns the next connection, after a handshake as a socket of `socket_type`.
    pub(crate) async fn accept_as(&self, socket_type: &str) -> RawPeer {
        let mut peer = self.accept().await;
        soon("the handshake", peer.introduce(socket_type, b""))
            .await
            .unwrap();
        peer
    }
}
