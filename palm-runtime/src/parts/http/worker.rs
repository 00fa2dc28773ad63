//! [`HttpWorkerService`]: the part of a component that is an HTTP worker.

use super::gateway::bind_http;
use crate::http::{ErasedHttpWorker, Listener};
use crate::part::{Bypass, OpenError, Running, Setup, Stop};

/// Serves an HTTP worker. Announced as `http_address`.
#[derive(Debug)]
pub(crate) struct HttpWorkerService {
    listener: Listener,
    worker: ErasedHttpWorker,
}

impl HttpWorkerService {
    pub(crate) fn bind(listener: Listener, worker: ErasedHttpWorker) -> Self {
        Self { listener, worker }
    }
}

impl Bypass for HttpWorkerService {
    async fn open(self, setup: &mut Setup<'_>) -> Result<Running<Stop>, OpenError> {
        let bound = bind_http(self.listener, setup).await?;
        setup
            .announced
            .insert("http_address".to_owned(), bound.url());
        let worker = self.worker;
        Ok(Running::bypass(|stop: Stop| async move {
            bound.serve(worker, stop.token.clone(), stop.linger()).await;
            Ok(())
        }))
    }
}
