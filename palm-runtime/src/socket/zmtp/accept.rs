//! Accepts connections, and closes others for them.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::codec::Role;
use super::connection;
use super::core::Core;
use super::listener::Listener;
use super::peer::Peer;
use super::stream::Stream;
use super::table::Admission;

/// Delay after a connection could not be accepted, because the process has too many open files.
const ACCEPT_DELAY: Duration = Duration::from_millis(50);

/// Accepts connections, for as long as the future is polled.
pub(super) async fn accept(core: Arc<Core>, mut listener: Listener) {
    loop {
        match listener.accept().await {
            Ok(stream) => admit(core.clone(), stream),
            Err(error) => {
                if is_out_of_files(&error) {
                    let evicted = core.table.lock().evict(core.now());
                    if let Some(peer) = evicted {
                        peer.closed.cancel();
                        core.log_replaced("the process may open no more files");
                    }
                }
                tokio::time::sleep(ACCEPT_DELAY).await;
            }
        }
    }
}

/// Returns whether the process or the system has as many open files as it may have (EMFILE, ENFILE).
fn is_out_of_files(error: &io::Error) -> bool {
    cfg!(unix) && matches!(error.raw_os_error(), Some(23 | 24))
}

/// Begins to serve an accepted connection, or closes it.
fn admit(core: Arc<Core>, stream: Stream) {
    let peer = Arc::new(Peer::new(
        core.has_capacity.clone(),
        core.killed.child_token(),
    ));
    peer.activity.set_heard(core.now());
    let mut table = core.table.lock();
    let admission = table.admit(core.now());
    match &admission {
        Admission::Refused => {
            drop(table);
            return core.log_replaced("no connection is silent, so the new one is closed");
        }
        Admission::Replaces(silent) => silent.closed.cancel(),
        Admission::Free => {}
    }
    table.insert(peer.number, peer.clone());
    drop(table);
    if matches!(admission, Admission::Replaces(_)) {
        core.log_replaced("a silent connection is closed for a new one");
    }
    stream.configure(core.kind);
    let connection = connection::run(core.clone(), stream, Role::Server, peer);
    core.spawn(connection);
}
