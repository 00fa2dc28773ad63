//! Finds out why a socket cannot connect to an address.
//!
//! Sockets reconnect without reporting why an attempt fails. [`probe`] opens a connection of its own, reads the
//! greeting of a ZeroMQ peer (RFC 23/ZMTP), and closes the connection. It sends no READY, so the peer does not count it
//! as a socket.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::lookup_host;
use tokio::time::timeout;

use super::{Address, tcp};

/// Time within which a host has to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Times within which a peer has to send its greeting, and then the type of its socket.
const GREETING_TIMEOUT: Duration = Duration::from_millis(500);
const READY_TIMEOUT: Duration = Duration::from_millis(200);

/// Time within which a name server has to answer.
const LOOKUP_TIMEOUT: Duration = Duration::from_millis(1500);

const GREETING_LEN: usize = 64;

/// The cause that prevents a socket from connecting.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ConnectFault {
    #[error("host `{host}` not found ({cause}): correct the name, or add it to the name server")]
    HostNotFound { host: String, cause: String },
    #[error("no name server answers for host `{0}`: check the network, or use an IP address")]
    NameServer(String),
    #[error(
        "connection refused, nothing listens there: start the component, or correct the address"
    )]
    Refused,
    #[error("no socket exists at this path: start the component, or correct the path")]
    NoPath,
    #[error("the file at this path is not a socket: correct the path")]
    NotASocket,
    #[error(
        "the host accepts no connection within {CONNECT_TIMEOUT:?}: it is down, or a firewall drops the connection"
    )]
    Unreachable,
    #[error("the program that listens there sends nothing: it is stopped, or not a palm component")]
    Silent,
    #[error(
        "the program that listens there does not speak ZeroMQ, so it is not a palm component: correct the address"
    )]
    NotZeroMq,
    #[error(
        "a {0} socket listens there: give the `db_address` of its component instead of this address"
    )]
    Socket(String),
    #[error("{0}")]
    Other(String),
}

impl ConnectFault {
    fn from_io(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Self::Refused,
            io::ErrorKind::NotFound => Self::NoPath,
            _ => Self::Other(error.to_string()),
        }
    }
}

/// Checks that a component listens at `address`. Cancel safe.
pub(crate) async fn probe(address: &Address) -> Result<(), ConnectFault> {
    let socket_type = match (address.tcp_parts(), address.ipc_path()) {
        (Some((host, port)), _) => {
            let addresses = resolve(host, port).await?;
            let connecting = timeout(CONNECT_TIMEOUT, tcp::connect(&*addresses)).await;
            let connected = connecting.map_err(|_| ConnectFault::Unreachable)?;
            greet(connected.map_err(|error| ConnectFault::from_io(&error))?).await?
        }
        #[cfg(unix)]
        (None, Some(path)) if !path.starts_with('@') => {
            use std::os::unix::fs::FileTypeExt as _;
            match std::fs::metadata(path) {
                Ok(file) if !file.file_type().is_socket() => return Err(ConnectFault::NotASocket),
                Ok(_) => {}
                Err(error) => return Err(ConnectFault::from_io(&error)),
            }
            let connecting = tokio::net::UnixStream::connect(path);
            let connecting = timeout(CONNECT_TIMEOUT, connecting).await;
            let connected = connecting.map_err(|_| ConnectFault::Unreachable)?;
            greet(connected.map_err(|error| ConnectFault::from_io(&error))?).await?
        }
        _ => return Ok(()),
    };
    match socket_type.as_deref() {
        None | Some("ROUTER" | "REP") => Ok(()),
        Some(other) => Err(ConnectFault::Socket(other.to_owned())),
    }
}

/// Resolves the host of `address`, and fails if it is not found within `limit`.
///
/// A name server that does not answer is not a fault. Cancel safe.
pub(crate) async fn find_host(address: &Address, limit: Duration) -> Result<(), ConnectFault> {
    const INTERVAL: Duration = Duration::from_millis(200);
    let Some((host, port)) = address.tcp_parts() else {
        return Ok(());
    };
    let mut fault = None;
    let found = timeout(limit, async {
        while let Err(error @ ConnectFault::HostNotFound { .. }) = resolve(host, port).await {
            fault = Some(error);
            tokio::time::sleep(INTERVAL).await;
        }
    });
    match (found.await, fault) {
        (Err(_), Some(fault)) => Err(fault),
        _ => Ok(()),
    }
}

async fn resolve(host: &str, port: u16) -> Result<Vec<std::net::SocketAddr>, ConnectFault> {
    // IPv6 addresses are in brackets.
    let host = host.trim_start_matches('[').trim_end_matches(']');
    match timeout(LOOKUP_TIMEOUT, lookup_host((host, port))).await {
        Ok(Ok(addresses)) => Ok(addresses.collect()),
        Ok(Err(error)) => {
            let cause = error.to_string();
            let prefix = "failed to lookup address information: ";
            Err(ConnectFault::HostNotFound {
                host: host.to_owned(),
                cause: cause.strip_prefix(prefix).unwrap_or(&cause).to_owned(),
            })
        }
        Err(_) => Err(ConnectFault::NameServer(host.to_owned())),
    }
}

/// Exchanges greetings. Returns the type of the peer's socket, if the peer reports it.
async fn greet(
    mut peer: impl AsyncRead + AsyncWrite + Unpin,
) -> Result<Option<String>, ConnectFault> {
    // Signature, version 3.0, mechanism NULL.
    let mut own = [0; GREETING_LEN];
    (own[0], own[9], own[10]) = (0xff, 0x7f, 3);
    own[12..16].copy_from_slice(b"NULL");
    let mut greeting = [0; GREETING_LEN];
    let exchange = async {
        peer.write_all(&own).await?;
        peer.read_exact(&mut greeting[..10]).await?;
        if greeting[0] != 0xff || greeting[9] & 1 == 0 {
            return Err(io::ErrorKind::InvalidData.into());
        }
        peer.read_exact(&mut greeting[10..]).await
    };
    match timeout(GREETING_TIMEOUT, exchange).await {
        Ok(Ok(_)) => {}
        Ok(Err(_)) => return Err(ConnectFault::NotZeroMq),
        Err(_) => return Err(ConnectFault::Silent),
    }
    let mut command = Vec::new();
    let ready = async {
        let [_, len] = [peer.read_u8().await?, peer.read_u8().await?];
        peer.take(len.into()).read_to_end(&mut command).await
    };
    Ok(match timeout(READY_TIMEOUT, ready).await {
        Ok(Ok(_)) => socket_type(&command).map(str::to_owned),
        _ => None,
    })
}

/// Returns the property `Socket-Type` of a READY command.
fn socket_type(command: &[u8]) -> Option<&str> {
    let mut rest = command.strip_prefix(b"\x05READY")?;
    while let Some((&name_len, tail)) = rest.split_first() {
        let (name, tail) = tail.split_at_checked(name_len.into())?;
        let (value_len, tail) = tail.split_first_chunk::<4>()?;
        let value_len = usize::try_from(u32::from_be_bytes(*value_len)).ok()?;
        let (value, tail) = tail.split_at_checked(value_len)?;
        if name.eq_ignore_ascii_case(b"socket-type") {
            return str::from_utf8(value).ok();
        }
        rest = tail;
    }
    None
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;
    use crate::socket::{Publish, Pull, Reply, SocketOptions};

    fn address(text: &str) -> Address {
        text.parse().unwrap()
    }

    async fn fault(text: &str) -> String {
        probe(&address(text)).await.unwrap_err().to_string()
    }

    fn check(text: &str, expected: &str) {
        assert!(text.contains(expected), "`{expected}` is not in: {text}");
    }

    #[tokio::test]
    async fn probe_of_a_reply_socket_succeeds() {
        let options = SocketOptions::default();
        let any = address("tcp://127.0.0.1:0");
        let (_reply, bound) = Reply::bind(&any, &options).await.unwrap();
        assert_eq!(probe(&bound).await, Ok(()));
    }

    #[tokio::test]
    async fn sockets_for_other_uses_are_named() {
        let options = SocketOptions::default();
        let any = address("tcp://127.0.0.1:0");
        let (_pull, bound) = Pull::bind(&any, &options).await.unwrap();
        check(&fault(&bound.to_string()).await, "a PULL socket listens");
        let (_publish, bound) = Publish::bind(&any, &options).await.unwrap();
        let text = fault(&bound.to_string()).await;
        check(&text, "give the `db_address`");
    }

    #[tokio::test]
    async fn probe_of_a_closed_port_reports_refused() {
        // It is bound, so that no other program listens there, and does not listen.
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let bound = socket.local_addr().unwrap();
        let text = fault(&format!("tcp://{bound}")).await;
        check(&text, "connection refused");
    }

    #[tokio::test]
    async fn probe_of_an_unknown_host_names_it() {
        let text = fault("tcp://nowhere.invalid:5559").await;
        check(&text, "`nowhere.invalid`");
        let unknown = address("tcp://nowhere.invalid:5559");
        let limit = Duration::from_millis(300);
        let found = find_host(&unknown, limit).await;
        if let Err(fault) = found {
            assert!(matches!(fault, ConnectFault::HostNotFound { .. }));
        }
        let known = address("tcp://127.0.0.1:5559");
        assert_eq!(find_host(&known, limit).await, Ok(()));
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn probe_distinguishes_missing_paths_files_and_closed_sockets() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("db");
        let at = format!("ipc://{}", path.display());
        check(&fault(&at).await, "no socket exists at this path");
        std::fs::write(&path, "text").unwrap();
        check(&fault(&at).await, "not a socket");
        std::fs::remove_file(&path).unwrap();
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        check(&fault(&at).await, "connection refused");
    }

    #[tokio::test]
    async fn probe_distinguishes_other_protocols_and_silence() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = format!("tcp://{}", listener.local_addr().unwrap());
        let answer = async {
            let (mut peer, _) = listener.accept().await.unwrap();
            peer.write_all(b"HTTP/1.1 400 Bad Request\r\n")
                .await
                .unwrap();
        };
        let (text, ()) = tokio::join!(fault(&at), answer);
        check(&text, "does not speak ZeroMQ");
        // The system accepts the connection, but the program does not read from it.
        check(&fault(&at).await, "sends nothing");
    }

    #[test]
    fn malformed_ready_commands_have_no_socket_type() {
        assert_eq!(socket_type(b""), None);
        assert_eq!(socket_type(b"\x05READY"), None);
        assert_eq!(socket_type(b"\x05READY\x0bSocket-Type\0\0\0\x09PUB"), None);
        assert_eq!(
            socket_type(b"\x05READY\x0bSocket-Type\xff\xff\xff\xffPUB"),
            None
        );
        let ready = b"\x05READY\x01x\0\0\0\x01y\x0bSocket-Type\0\0\0\x03PUB";
        assert_eq!(socket_type(ready), Some("PUB"));
    }
}
