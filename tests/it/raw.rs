//! A peer that speaks ZMTP 3 by hand, and wrongly where a test wants it to.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::setup::soon;

/// More frames of the same message follow.
pub(crate) const MORE: u8 = 1;
/// A command, not a message.
pub(crate) const COMMAND: u8 = 4;
/// The length has eight bytes.
const LONG: u8 = 2;

/// Mechanism NULL, version 3.0.
pub(crate) fn greeting() -> [u8; 64] {
    let mut greeting = [0; 64];
    greeting[0] = 0xff;
    greeting[9] = 0x7f;
    greeting[10] = 3;
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

/// The header of a frame that claims to have `len` bytes.
pub(crate) fn long_header(flags: u8, len: u64) -> [u8; 9] {
    let mut header = [0; 9];
    header[0] = flags | LONG;
    header[1..].copy_from_slice(&len.to_be_bytes());
    header
}

/// The frames of one message.
pub(crate) fn message<B: AsRef<[u8]>>(frames: &[B]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (number, body) in frames.iter().enumerate() {
        let more = if number + 1 < frames.len() { MORE } else { 0 };
        bytes.extend(frame(more, body.as_ref()));
    }
    bytes
}

/// The READY command of a socket of this type.
pub(crate) fn ready(socket_type: &str) -> Vec<u8> {
    let mut body = b"\x05READY\x0bSocket-Type".to_vec();
    body.extend_from_slice(&u32::try_from(socket_type.len()).unwrap().to_be_bytes());
    body.extend_from_slice(socket_type.as_bytes());
    frame(COMMAND, &body)
}

/// Bytes that look like nothing, the same in each run.
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

/// One connection.
pub(crate) struct RawPeer(TcpStream);

impl RawPeer {
    /// Connects to `tcp://…`, and says nothing.
    pub(crate) async fn connect(address: &str) -> Self {
        let address = address.strip_prefix("tcp://").unwrap();
        Self(
            soon("a raw connection", TcpStream::connect(address))
                .await
                .unwrap(),
        )
    }

    /// Connects as a socket of `socket_type`, and introduces itself.
    pub(crate) async fn introduced(address: &str, socket_type: &str) -> Self {
        let mut peer = Self::connect(address).await;
        soon("the handshake", peer.introduce(socket_type))
            .await
            .unwrap();
        peer
    }

    /// Does the handshake of either side.
    pub(crate) async fn introduce(&mut self, socket_type: &str) -> io::Result<()> {
        self.write(&greeting()).await?;
        self.0.read_exact(&mut [0; 64]).await?;
        self.write(&ready(socket_type)).await?;
        let (flags, body) = self.frame().await?;
        assert_eq!(flags & COMMAND, COMMAND);
        assert!(
            body.starts_with(b"\x05READY"),
            "the answer to READY was {body:?}"
        );
        Ok(())
    }

    /// Sends bytes as they are.
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes).await?;
        self.0.flush().await
    }

    /// The next frame: its flags and its body.
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

    /// Waits for the other side to end the connection; what still comes is thrown away.
    pub(crate) async fn closed(&mut self) {
        let end = async {
            let mut bytes = vec![0; 64 * 1024];
            while self.0.read(&mut bytes).await.is_ok_and(|count| count > 0) {}
        };
        soon("the end of the raw connection", end).await;
    }
}

/// A PUB by hand: it sends what it likes, whatever its subscriber asked for.
pub(crate) struct RawPublisher {
    listener: TcpListener,
    pub(crate) address: String,
    peer: Option<RawPeer>,
}

impl RawPublisher {
    pub(crate) async fn bind() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("tcp://{}", listener.local_addr().unwrap());
        Self {
            listener,
            address,
            peer: None,
        }
    }

    /// The next connection, on which nothing has been said.
    pub(crate) async fn accept(&self) -> RawPeer {
        let accepted = soon("a subscriber's connection", self.listener.accept()).await;
        RawPeer(accepted.unwrap().0)
    }

    /// The connection to the subscriber, which has subscribed.
    pub(crate) async fn subscriber(&mut self) -> &mut RawPeer {
        if self.peer.is_none() {
            let subscribed = async {
                loop {
                    let mut peer = self.accept().await;
                    // A connection that was given up meanwhile says nothing.
                    if peer.introduce("PUB").await.is_ok() && peer.frame().await.is_ok() {
                        return peer;
                    }
                }
            };
            self.peer = Some(soon("a subscription", subscribed).await);
        }
        self.peer.as_mut().unwrap()
    }

    /// Publishes one message of these frames.
    pub(crate) async fn publish<B: AsRef<[u8]>>(&mut self, frames: &[B]) {
        let bytes = message(frames);
        self.subscriber().await.write(&bytes).await.unwrap();
    }

    /// Gives the connection up; the next use waits for a new one.
    pub(crate) fn hang_up(&mut self) {
        self.peer = None;
    }
}
