//! Runs a component until SIGTERM or Ctrl-C.

use super::handle::ComponentHandle;
use crate::error::{Error, Result};
use crate::signals::Signals;

/// Starts a component and waits until it stops, by itself or by a signal. A signal also counts while the component is
/// starting. A second signal ends the component at once.
pub(super) async fn until_stopped(
    start: impl Future<Output = Result<ComponentHandle>>,
) -> Result<()> {
    let mut signals = Signals::listen();
    let mut handle = start.await?;
    tokio::select! {
        ended = handle.ended() => return ended.map_err(Error::Run),
        () = signals.next() => {}
    }
    handle.stop.cancel();
    tokio::select! {
        ended = handle.ended() => ended.map_err(Error::Run),
        () = signals.next() => Ok(()),
    }
}
