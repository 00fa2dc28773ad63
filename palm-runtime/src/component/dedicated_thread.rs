//! Starts a component on a dedicated thread.

use std::io;

use futures_core::future::BoxFuture;
use tokio::sync::oneshot;

use super::handle::ComponentHandle;
use crate::component_error::StartError;
use crate::error::{Error, Result};

/// Starts a component in the current runtime, or on a dedicated thread with a single-threaded runtime, which ends with
/// the component.
pub(super) async fn start_on(
    own_thread: bool,
    component: String,
    start: BoxFuture<'static, Result<ComponentHandle>>,
) -> Result<ComponentHandle> {
    if !own_thread {
        return start.await;
    }
    let (started, handle) = oneshot::channel();
    let run = {
        let component = component.clone();
        move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            let runtime = match runtime {
                Ok(runtime) => runtime,
                Err(source) => {
                    let _ = started.send(Err(no_thread(component, source)));
                    return;
                }
            };
            runtime.block_on(async {
                match start.await {
                    Ok(handle) => {
                        let ended = handle.has_ended.clone();
                        // If the caller has stopped waiting, the handle is dropped, which stops the component.
                        let _ = started.send(Ok(handle));
                        ended.cancelled().await;
                    }
                    Err(error) => {
                        let _ = started.send(Err(error));
                    }
                }
            });
        }
    };
    std::thread::Builder::new()
        .name(component.clone())
        .spawn(run)
        .map_err(|source| no_thread(component.clone(), source))?;
    match handle.await {
        Ok(started) => started,
        Err(_) => Err(no_thread(
            component,
            io::Error::other("the thread panicked"),
        )),
    }
}

fn no_thread(component: String, source: io::Error) -> Error {
    Error::Start(StartError::Thread { component, source })
}
