//! Runs a component until SIGTERM or Ctrl-C, or until a future of the program completes.

use std::pin::pin;

use super::handle::ComponentHandle;
use super::start_future::StartFuture;
use crate::error::{Error, Result};
use crate::signals::Signals;

/// Starts a component and waits until it stops, by itself or by a signal. A signal also counts while the component is
/// starting. A second signal ends the component at once.
pub(super) fn until_stopped(start: StartFuture<ComponentHandle>) -> StartFuture<()> {
    StartFuture::new(async {
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
    })
}

/// Starts a component and waits until it stops by itself, or until `stop` completes; then the component drains. If
/// `stop` completes while the component is starting, no part runs.
pub(super) async fn until_completed(
    start: impl Future<Output = Result<ComponentHandle>>,
    stop: impl Future,
) -> Result<()> {
    let mut stop = pin!(stop);
    let mut handle = tokio::select! {
        biased;
        started = start => started?,
        _ = &mut stop => return Ok(()),
    };
    tokio::select! {
        ended = handle.ended() => return ended.map_err(Error::Run),
        _ = stop => {}
    }
    handle.shutdown().await.map_err(Error::Run)
}
