//! The task of a fault proxy: accepts connections, and carries their bytes to the target and back.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use fastrand::Rng;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::message_counter::MessageCounter;
use super::state::{Direction, ProxySettings, ProxyState};

/// Maximum number of bytes that are read at once.
const MAX_CHUNK_BYTES: usize = 16 * 1024;

/// Maximum number of chunks that are buffered in each direction of a connection.
const MAX_CHUNKS: usize = 64;

/// Further connections wait in the backlog of the operating system.
const MAX_CONNECTIONS: usize = 1024;

/// Serves connections until it is aborted, which closes all of them.
pub(super) async fn relay(listener: TcpListener, state: Arc<ProxyState>, mut rng: Rng) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => {
                match accepted {
                    Ok((peer, _)) => {
                        connections.spawn(connection(peer, state.clone(), rng.fork()));
                    }
                    Err(error) => {
                        tracing::warn!(%error, "a fault proxy cannot accept a connection");
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                }
            }
        }
    }
}

async fn connection(peer: TcpStream, state: Arc<ProxyState>, rng: Rng) {
    // The generation is read first: `refuse` sets its flag before it cuts, so that a connection of the next generation sees it.
    let generation = state.generation();
    if state.settings.borrow().is_refused {
        return;
    }
    let carried = carry(peer, &state, &generation.cut, rng);
    let carried = generation.cut.run_until_cancelled(carried);
    let carried = generation.connections.track_future(carried).await;
    if let Some(Err(error)) = carried {
        tracing::debug!(%error, "a connection of a fault proxy ended");
    }
}

async fn carry(
    peer: TcpStream,
    state: &Arc<ProxyState>,
    cut: &CancellationToken,
    mut rng: Rng,
) -> io::Result<()> {
    let mut settings = state.settings.subscribe();
    let target = until_passing(&mut settings).await.target;
    let target = TcpStream::connect(&*target).await?;
    peer.set_nodelay(true)?;
    target.set_nodelay(true)?;
    let _open = OpenConnection::new(state);
    let (from_peer, to_peer) = peer.into_split();
    let (from_target, to_target) = target.into_split();
    let (up, down) = (Direction::ToTarget, Direction::ToPeers);
    tokio::try_join!(
        pass(from_peer, to_target, (state, cut, up), rng.fork()),
        pass(from_target, to_peer, (state, cut, down), rng.fork()),
    )?;
    Ok(())
}

/// Waits until traffic may pass, and returns the settings of that moment. Cancel safe.
async fn until_passing(settings: &mut watch::Receiver<ProxySettings>) -> ProxySettings {
    let passing = settings.wait_for(ProxySettings::is_passing).await;
    passing.expect("the state outlives its connections").clone()
}

/// Counts a connection while it is open.
struct OpenConnection<'a>(&'a ProxyState);

impl<'a> OpenConnection<'a> {
    fn new(state: &'a ProxyState) -> Self {
        state.status.send_modify(|status| {
            status.connections += 1;
            status.open += 1;
        });
        Self(state)
    }
}

impl Drop for OpenConnection<'_> {
    fn drop(&mut self) {
        self.0.status.send_modify(|status| status.open -= 1);
    }
}

/// Bytes that were read, and the time from which they may be written.
struct Chunk {
    due: Instant,
    /// Empty at the end of the stream; an error if the sender aborted the connection.
    bytes: io::Result<Bytes>,
}

/// The proxy, the token that cuts the connection, and the direction.
type RelayPath<'a> = (&'a Arc<ProxyState>, &'a CancellationToken, Direction);

/// Relays one direction of a connection until it ends.
async fn pass(
    from: OwnedReadHalf,
    to: OwnedWriteHalf,
    way: RelayPath<'_>,
    rng: Rng,
) -> io::Result<()> {
    let (sender, chunks) = mpsc::channel(MAX_CHUNKS);
    let settings = way.0.settings.subscribe();
    tokio::try_join!(read(from, sender, settings, rng), write(chunks, to, way))?;
    Ok(())
}

async fn read(
    mut from: OwnedReadHalf,
    chunks: mpsc::Sender<Chunk>,
    settings: watch::Receiver<ProxySettings>,
    mut rng: Rng,
) -> io::Result<()> {
    let mut buffer = vec![0; MAX_CHUNK_BYTES];
    let mut due = Instant::now();
    loop {
        let bytes = from.read(&mut buffer).await;
        let bytes = bytes.map(|count| Bytes::copy_from_slice(&buffer[..count]));
        let is_end = !matches!(&bytes, Ok(bytes) if !bytes.is_empty());
        let delay = settings.borrow().delay.clone();
        let (least, most) = (nanos(*delay.start()), nanos(*delay.end()));
        let delay = Duration::from_nanos(rng.u64(least..=most.max(least)));
        // Chunks of one direction do not overtake each other.
        due = due.max(Instant::now() + delay);
        // An error is passed on after the bytes that were read before it, as on a network.
        let sent = chunks.send(Chunk { due, bytes }).await;
        if is_end || sent.is_err() {
            return Ok(());
        }
    }
}

fn nanos(duration: Duration) -> u64 {
    // A day outlasts any test, and can be added to any `Instant`.
    duration.min(Duration::from_secs(86_400)).as_nanos() as u64
}

async fn write(
    mut chunks: mpsc::Receiver<Chunk>,
    mut to: OwnedWriteHalf,
    (state, cut, direction): RelayPath<'_>,
) -> io::Result<()> {
    let mut settings = state.settings.subscribe();
    let mut messages = MessageCounter::new();
    while let Some(Chunk { due, bytes }) = chunks.recv().await {
        tokio::time::sleep_until(due).await;
        until_passing(&mut settings).await;
        let mut bytes = bytes?;
        if bytes.is_empty() {
            return to.shutdown().await;
        }
        while !bytes.is_empty() {
            let Some(admitted) = state.admit(cut, &mut messages, &bytes)? else {
                until_passing(&mut settings).await;
                continue;
            };
            to.write_all(&bytes[..admitted.bytes]).await?;
            bytes.advance(admitted.bytes);
            state.count(direction, &admitted);
        }
    }
    Ok(())
}
