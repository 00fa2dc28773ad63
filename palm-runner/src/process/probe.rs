//! Readiness of processes that do not report it: whether their address accepts connections.

use std::io;
use std::time::Duration;

use palm_plan::InstanceId;
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

/// Delays between the attempts of a process that starts: from the first, doubled up to the last.
const START_DELAYS: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(500));
/// Time between the attempts of a process that is ready: each is a connection that it may log.
const READY_INTERVAL: Duration = Duration::from_secs(5);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Failed attempts until a process counts as not ready.
const MAX_FAILURES: u32 = 3;

/// Connects to an address again and again, and reports when the result changes, until it is dropped.
pub(crate) async fn probe(
    id: InstanceId,
    pid: u32,
    address: String,
    sender: mpsc::Sender<(InstanceId, u32, Result<(), String>)>,
) {
    loop {
        let mut delay = START_DELAYS.0;
        while connect(&address).await.is_err() {
            sleep(delay).await;
            delay = (delay * 2).min(START_DELAYS.1);
        }
        if sender.send((id.clone(), pid, Ok(()))).await.is_err() {
            return;
        }
        let mut failures = 0;
        let error = loop {
            sleep(READY_INTERVAL).await;
            match connect(&address).await {
                Ok(()) => failures = 0,
                Err(error) if failures + 1 == MAX_FAILURES => break error,
                Err(_) => failures += 1,
            }
        };
        let why = format!("does not accept connections at {address}: {error}");
        if sender.send((id.clone(), pid, Err(why))).await.is_err() {
            return;
        }
    }
}

async fn connect(address: &str) -> io::Result<()> {
    let connected = timeout(CONNECT_TIMEOUT, async {
        match address.split_once("://") {
            Some(("ipc", path)) => match path.strip_prefix('@') {
                // A leading zero stands for an abstract name.
                Some(name) => UnixStream::connect(format!("\0{name}")).await.map(drop),
                None => UnixStream::connect(path).await.map(drop),
            },
            Some(("tcp", host)) => {
                let host = host
                    .replace("*", "127.0.0.1")
                    .replace("0.0.0.0", "127.0.0.1");
                TcpStream::connect(host).await.map(drop)
            }
            _ => Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "it is not tcp:// or ipc://",
            )),
        }
    });
    connected
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}
