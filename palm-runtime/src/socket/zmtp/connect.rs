//! Connects to an address, and again after each loss of the connection.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::super::Address;
use super::codec::Role;
use super::connection;
use super::core::Core;
use super::peer::Peer;
use super::stream::Stream;

/// Keeps a connection to an address until the socket closes, or [`disconnect`] ends it.
pub(super) fn connect(core: &Arc<Core>, address: &Address) {
    let ended = core.killed.child_token();
    let mut connections = core.connections.lock();
    if let Some(previous) = connections.insert(address.clone(), ended.clone()) {
        previous.cancel();
    }
    drop(connections);
    let keep = keep_connected(core.clone(), address.clone(), ended);
    core.spawn(keep);
}

/// Ends the connection to an address.
pub(super) fn disconnect(core: &Core, address: &Address) {
    if let Some(ended) = core.connections.lock().remove(address) {
        ended.cancel();
    }
}

async fn keep_connected(core: Arc<Core>, address: Address, ended: CancellationToken) {
    let options = &core.options;
    let mut delay = Duration::ZERO;
    loop {
        let attempt = async {
            // Jitter, so that the peers of a restarted component do not all reconnect at the same moment.
            tokio::time::sleep(delay.mul_f32(1.0 + fastrand::f32() / 4.0)).await;
            tokio::time::timeout(options.handshake_timeout, Stream::connect(&address)).await
        };
        let connected = tokio::select! {
            connected = attempt => connected,
            () = core.closing.cancelled() => return,
            () = ended.cancelled() => return,
        };
        let is_introduced = match connected {
            Ok(Ok(stream)) => exchange(&core, stream, &ended).await,
            _ => false,
        };
        delay = match delay {
            _ if is_introduced => options.min_reconnect_delay,
            Duration::ZERO => options.min_reconnect_delay,
            delay => (2 * delay).min(options.max_reconnect_delay),
        };
    }
}

/// Runs a connection to its end. Returns whether the peer has completed its handshake.
async fn exchange(core: &Arc<Core>, stream: Stream, ended: &CancellationToken) -> bool {
    let peer = Arc::new(Peer::new(core.has_capacity.clone(), ended.child_token()));
    core.table.lock().insert(peer.number, peer.clone());
    stream.configure(core.kind);
    connection::run(core.clone(), stream, Role::Client, peer.clone()).await;
    peer.activity.is_introduced()
}
