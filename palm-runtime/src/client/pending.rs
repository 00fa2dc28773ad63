//! Why calls wait for their answers: the component is asked, once no answer has come for a while.

use std::sync::Arc;
use std::time::Duration;

use super::answers::InFlightCalls;
use crate::discovery::Directory;
use crate::discovery::descriptor::WAIT_KEY;
use crate::wait_cause::WaitCause;

/// How often it is looked whether calls wait.
const INTERVAL: Duration = Duration::from_secs(1);

/// Asks the component that is called why no answer comes, while calls wait and none does, and logs it once whenever
/// it changes. Does not end. Cancel safe.
pub(super) async fn explain(
    answers: Arc<InFlightCalls>,
    directory: Arc<Directory>,
    server: String,
    cause: Arc<WaitCause>,
) {
    let mut delivered = answers.delivered();
    loop {
        tokio::time::sleep(INTERVAL).await;
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
