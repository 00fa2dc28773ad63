//! Asks the called component why calls wait, once no answer has arrived for a while.

use std::sync::Arc;
use std::time::Duration;

use super::in_flight::InFlightCalls;
use crate::discovery::Directory;
use crate::discovery::descriptor::WAIT_KEY;
use crate::wait_cause::WaitCause;

/// Interval between checks whether calls wait.
const INTERVAL: Duration = Duration::from_secs(1);

/// Asks the called component for its wait cause while calls are pending and no answers arrive. Logs a cause once for each
/// time that no answers arrive.
///
/// Never returns. Cancel safe.
pub(super) async fn explain(
    answers: Arc<InFlightCalls>,
    directory: Arc<Directory>,
    server: String,
    cause: Arc<WaitCause>,
) {
    let mut delivered = answers.delivered();
    // The first call of a program may have a timeout of a second.
    let mut interval = INTERVAL / 2;
    loop {
        tokio::time::sleep(std::mem::replace(&mut interval, INTERVAL)).await;
        let before = std::mem::replace(&mut delivered, answers.delivered());
        if delivered != before || !answers.has_pending() {
            cause.clear();
            continue;
        }
        match directory.request_value(WAIT_KEY).await {
            Some(text) if cause.set(&text) => {
                let address = directory.request().address();
                tracing::warn!("waiting for `{server}` at {address}: {text}");
            }
            Some(_) => {}
            None => {
                cause.clear();
            }
        }
    }
}
