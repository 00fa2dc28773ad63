//! The server of the interface. It passes requests to the runner's loop.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

use super::{Answer, Envelope, Request, VERSION};
use crate::state::ClusterStatus;

/// Connections at a time. Further ones wait.
const MAX_CONNECTIONS: usize = 64;
/// A longer request is refused.
const MAX_REQUEST_BYTES: u64 = 64 << 20;
/// Time in which a client that reads nothing is disconnected.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// Time in which a request arrives that was sent before the server closes.
const CLOSE_DELAY: Duration = Duration::from_millis(20);

/// A request that the runner's loop has to answer.
#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) request: Request,
    /// It is closed once the answer has been written.
    pub(crate) answer: oneshot::Sender<Answer>,
    /// Resolves once the answer has been written.
    pub(crate) written: oneshot::Receiver<()>,
}

/// The socket, and the task that accepts its connections.
#[derive(Debug)]
pub(crate) struct Server {
    /// A second descriptor of the socket, for the next runner.
    socket: OwnedFd,
    accepting: JoinHandle<()>,
    is_closing: watch::Sender<bool>,
}

/// What connections need.
#[derive(Debug, Clone)]
pub(crate) struct Access {
    pub(crate) tasks: mpsc::Sender<Task>,
    pub(crate) status: watch::Receiver<Arc<ClusterStatus>>,
}

impl Server {
    /// Binds the socket in place of one that an earlier runner left. The caller holds the lock of the cluster.
    pub(crate) fn bind(path: &Path, access: Access) -> io::Result<Self> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = std::os::unix::net::UnixListener::bind(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        Self::with_socket(listener.into(), access)
    }

    /// Continues with the socket of an earlier runner.
    pub(crate) fn with_socket(socket: OwnedFd, access: Access) -> io::Result<Self> {
        let listener = std::os::unix::net::UnixListener::from(socket.try_clone()?);
        listener.set_nonblocking(true)?;
        let listener = UnixListener::from_std(listener)?;
        let (is_closing, closing) = watch::channel(false);
        let accepting = tokio::spawn(accept(listener, access, closing));
        Ok(Self {
            socket,
            accepting,
            is_closing,
        })
    }

    /// Answers the requests that were sent, also over connections that were not accepted yet, and closes them all. The
    /// caller has removed the path of the socket, so that no further ones come, and answers the tasks. Otherwise the
    /// system would reset connections, and their clients would not know whether their requests arrived.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the server continues to close.
    pub(crate) async fn close(&mut self) {
        self.is_closing.send_replace(true);
        // It fails only if the task has panicked.
        let _ = (&mut self.accepting).await;
    }

    /// Returns the socket, for the next runner.
    pub(crate) fn socket(&self) -> &OwnedFd {
        &self.socket
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: UnixListener, access: Access, mut closing: watch::Receiver<bool>) {
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let accepted = async {
            let permit = permits.clone().acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            accepted = accepted => accepted,
            () = closed(&mut closing) => break,
        };
        match accepted {
            Ok((stream, _)) => {
                let connection = connection(stream, access.clone(), closing.clone());
                connections.spawn(async move {
                    connection.await;
                    drop(permit);
                });
            }
            // No descriptors are left: some may be returned.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
    // What tokio knows of the listener may be older than the last connections.
    if let Ok(listener) = listener.into_std() {
        while let Ok((stream, _)) = listener.accept() {
            let stream = stream.set_nonblocking(true).map(|()| stream);
            if let Ok(stream) = stream.and_then(UnixStream::from_std) {
                connections.spawn(connection(stream, access.clone(), closing.clone()));
            }
        }
    }
    while connections.join_next().await.is_some() {}
}

/// Waits until the server closes.
async fn closed(closing: &mut watch::Receiver<bool>) {
    // Without its sender, the server has ended.
    let _ = closing.wait_for(|is_closing| *is_closing).await;
}

async fn connection(stream: UnixStream, access: Access, closing: watch::Receiver<bool>) {
    // The client has left, or sends no request.
    let _ = serve(stream, access, closing).await;
}

async fn serve(
    stream: UnixStream,
    access: Access,
    mut closing: watch::Receiver<bool>,
) -> io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    loop {
        let mut line = Vec::new();
        let mut limited = (&mut reader).take(MAX_REQUEST_BYTES);
        let read = limited.read_until(b'\n', &mut line);
        let is_late = async {
            closed(&mut closing).await;
            tokio::time::sleep(CLOSE_DELAY).await;
        };
        tokio::select! {
            read = read => read?,
            () = is_late => return Ok(()),
        };
        if line.is_empty() {
            return Ok(());
        }
        let request = match parse(&line) {
            Ok(request) => request,
            Err(reason) => {
                write(&mut writer, &Answer::Refused(reason)).await?;
                continue;
            }
        };
        let is_watch = matches!(request, Request::Watch);
        let (answer, answered) = oneshot::channel();
        let (done, written) = oneshot::channel();
        let task = Task {
            request,
            answer,
            written,
        };
        let ended = || io::Error::from(io::ErrorKind::BrokenPipe);
        access.tasks.send(task).await.map_err(|_| ended())?;
        let answer = answered.await.map_err(|_| ended())?;
        if is_watch {
            return watch_status(reader, writer, access.status, closing).await;
        }
        write(&mut writer, &answer).await?;
        let _ = done.send(());
    }
}

fn parse(line: &[u8]) -> Result<Request, String> {
    let unreadable = |error: serde_json::Error| format!("the request is malformed: {error}");
    let envelope: Envelope = serde_json::from_slice(line).map_err(unreadable)?;
    if envelope.version != VERSION {
        return Err(format!(
            "this `palm` speaks version {} of the interface, and the runner version {VERSION}: use the `palm` that \
             started the cluster, or restart it",
            envelope.version
        ));
    }
    serde_json::from_value(envelope.request).map_err(unreadable)
}

async fn watch_status(
    mut reader: BufReader<OwnedReadHalf>,
    mut writer: OwnedWriteHalf,
    mut status: watch::Receiver<Arc<ClusterStatus>>,
    mut closing: watch::Receiver<bool>,
) -> io::Result<()> {
    loop {
        // States that a slow client misses are replaced by later ones.
        let answer = Answer::Status((**status.borrow_and_update()).clone());
        write(&mut writer, &answer).await?;
        let mut byte = [0];
        tokio::select! {
            biased;
            changed = status.changed() => if changed.is_err() {
                return Ok(());
            },
            _ = reader.read(&mut byte) => return Ok(()),
            () = closed(&mut closing) => return Ok(()),
        }
    }
}

async fn write(writer: &mut OwnedWriteHalf, answer: &Answer) -> io::Result<()> {
    let mut line = serde_json::to_vec(answer)?;
    line.push(b'\n');
    timeout(WRITE_TIMEOUT, writer.write_all(&line)).await?
}
