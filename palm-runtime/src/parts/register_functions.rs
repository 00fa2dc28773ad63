//! The part by which a worker registers its functions at its master.

use std::sync::Arc;
use std::time::Duration;

use crate::cache::ComponentStore;
use crate::component_state::ComponentState;
use crate::discovery::{ControlVerb, Directory, descriptor};
use crate::failure::BoxError;
use crate::part::{Bypass, OpenError, Setup, Stop};

/// The bypass of a worker that registers its functions at the master, after each connect.
#[derive(Debug)]
pub(crate) struct RegistrationConnection {
    directory: Arc<Directory>,
    opened: Option<(Arc<ComponentStore>, Arc<ComponentState>)>,
}

impl RegistrationConnection {
    /// Returns the part; `directory` is that of the master.
    pub(crate) fn to(directory: Arc<Directory>) -> Self {
        Self {
            directory,
            opened: None,
        }
    }
}

impl Bypass for RegistrationConnection {
    async fn open(&mut self, setup: &mut Setup<'_>) -> Result<(), OpenError> {
        self.opened = Some((setup.store.clone(), setup.state.clone()));
        Ok(())
    }

    async fn run(self, stop: Stop) -> Result<(), BoxError> {
        /// The timeout of a registration. A legacy master answers it as well, with an empty reply.
        const REQUEST_TIMEOUT: Duration = Duration::from_secs(1);

        let (store, state) = self.opened.expect("a part is opened before it runs");
        let request = self.directory.request();
        let peers = request.peers();
        let offer = async {
            let descriptor = store.get(descriptor::KEY).await?.unwrap_or_default();
            state.streams.in_place().await;
            loop {
                peers.connected().await?;
                let body = ControlVerb::Offer.request("_", descriptor.clone());
                if request.request(body, REQUEST_TIMEOUT).await.is_ok() {
                    peers.disconnected().await?;
                }
            }
        };
        tokio::select! {
            () = stop.stopped() => Ok(()),
            failed = offer => {
                let failed: Result<(), BoxError> = failed;
                failed
            }
        }
    }
}
