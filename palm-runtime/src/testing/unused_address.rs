//! [`unused_address`]: addresses that stay the same when a test restarts a component.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Range;

use parking_lot::Mutex;
use socket2::{Domain, Socket, Type};

/// The ports of [`unused_address`].
///
/// They are below those that systems give to sockets which need any port: by default from 32768 on Linux, and from 49152
/// on macOS and Windows (RFC 6335, section 6).
const PORTS: Range<u16> = 30_720..32_768;

/// Ports that a process reserves at a time. The first one is its lock.
const BLOCK: u16 = 32;

/// The blocks that this process has reserved.
struct ReservedBlocks {
    /// Ports that remain of the newest block.
    remaining: Range<u16>,
    locks: Vec<Socket>,
}

/// Returns the address `tcp://127.0.0.1:PORT` of a port at which nothing listens, and which is reserved for this process.
///
/// It is for components that a test starts later, or starts again, as with [`Restartable`](super::Restartable). A port
/// that was bound with `tcp://127.0.0.1:0` before is not safe for this: as soon as it is closed, the system may give it to
/// another socket of any process. With the default settings of Linux, macOS and Windows, it gives no port of this range.
///
/// Each call of a process returns another address, 1,984 at most. Other processes that call this function get other
/// addresses until this process ends: for 31 addresses it listens at one port, as a lock.
///
/// # Errors
///
/// - [`io::ErrorKind::AddrNotAvailable`] if other processes have reserved all ports from 30720 to 32767, in blocks of 32.
/// - The error of the system if it provides no socket.
///
/// # Example
///
/// ```
/// # use palm::prelude::*;
/// use palm::testing::{Restartable, unused_address};
/// # struct Squares;
/// # #[palm::server(name = "squares")]
/// # impl Squares {
/// #     #[palm::method]
/// #     fn square(&self, number: String) -> Result<String, std::num::ParseIntError> {
/// #         Ok(number.parse::<u64>()?.pow(2).to_string())
/// #     }
/// # }
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let at = unused_address()?;
/// let client = Client::builder("squares", &*at);
/// let mut server = Restartable::start(move || Squares.bind(&*at).spawn()).await?;
/// let client = client.connect().await?;
/// server.restart().await?;
/// assert_eq!(client.eval(Squares::SQUARE, "12").await?, "144");
/// # Ok(())
/// # }
/// ```
pub fn unused_address() -> io::Result<String> {
    static BLOCKS: Mutex<ReservedBlocks> = Mutex::new(ReservedBlocks {
        remaining: 0..0,
        locks: Vec::new(),
    });

    let mut blocks = BLOCKS.lock();
    loop {
        if let Some(port) = next_unused(&mut blocks.remaining)? {
            return Ok(format!("tcp://{}:{port}", Ipv4Addr::LOCALHOST));
        }
        let (lock, block) = reserve_block()?;
        blocks.locks.push(lock);
        blocks.remaining = block;
    }
}

/// Returns the next of these ports at which no other program listens.
fn next_unused(ports: &mut Range<u16>) -> io::Result<Option<u16>> {
    for port in ports {
        if bind(port)?.is_some() {
            return Ok(Some(port));
        }
    }
    Ok(None)
}

/// Locks a block that no process has reserved, and returns its other ports.
fn reserve_block() -> io::Result<(Socket, Range<u16>)> {
    // Processes begin at different blocks: what an earlier one has left behind may still connect to its addresses.
    let count = (PORTS.end - PORTS.start) / BLOCK;
    let begin = std::process::id() % u32::from(count);
    for number in (0..count).cycle().skip(begin as usize).take(count.into()) {
        let first = PORTS.start + number * BLOCK;
        if let Some(lock) = bind(first)?
            && is_free(lock.listen(1))?
        {
            return Ok((lock, first + 1..first + BLOCK));
        }
    }
    let text = format!(
        "all ports from {} to {} are reserved",
        PORTS.start,
        PORTS.end - 1
    );
    Err(io::Error::new(io::ErrorKind::AddrNotAvailable, text))
}

/// Binds a port, and does not listen. Returns `None` if the port is in use.
///
/// While a thread starts a process, the new process has copies of all sockets. On Linux, the copy of a socket that does
/// not listen does not prevent others from binding the port.
fn bind(port: u16) -> io::Result<Option<Socket>> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    // On Windows, this would allow two listeners at one port.
    #[cfg(not(windows))]
    socket.set_reuse_address(true)?;
    let bound = socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into());
    Ok(is_free(bound)?.then_some(socket))
}

/// Returns whether a port could be bound. Windows reports one that it keeps for itself as `PermissionDenied`.
fn is_free(bound: io::Result<()>) -> io::Result<bool> {
    match bound {
        Ok(()) => Ok(true),
        Err(error) => match error.kind() {
            io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied => Ok(false),
            _ => Err(error),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn addresses_differ_beyond_one_block() {
        let count = 3 * usize::from(BLOCK);
        let addresses: BTreeSet<_> = (0..count).map(|_| unused_address().unwrap()).collect();
        assert_eq!(addresses.len(), count);
    }

    #[test]
    fn ports_that_listen_are_skipped() {
        let (_lock, mut block) = reserve_block().unwrap();
        let first = block.start;
        let listener = bind(first).unwrap().unwrap();
        listener.listen(1).unwrap();
        assert_eq!(next_unused(&mut block).unwrap(), Some(first + 1));
        assert_eq!(block.start, first + 2);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn port_stays_free_while_a_copy_of_its_probe_is_open() {
        let (_lock, block) = reserve_block().unwrap();
        let _copy = bind(block.start).unwrap().unwrap();
        let listener = bind(block.start).unwrap().unwrap();
        listener.listen(1).unwrap();
    }

    #[test]
    fn blocks_of_a_process_are_locked() {
        let (_first, one) = reserve_block().unwrap();
        let (_second, other) = reserve_block().unwrap();
        assert_ne!(one, other);
        for block in [one, other] {
            assert!(PORTS.contains(&block.start) && block.end <= PORTS.end);
            assert!(bind(block.start - 1).unwrap().is_none());
        }
    }
}
