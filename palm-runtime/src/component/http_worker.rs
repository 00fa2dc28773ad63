//! The composition of an HTTP worker, which a program starts at an address of its own.

use std::sync::Arc;

use super::compose::{AnyComponent, Composing};
use super::template::ServerTemplate;
use crate::component_error::StartError;
use crate::executor::Methods;
use crate::http::{ErasedHttpWorker, Listener};
use crate::parts::HttpWorkerService;

impl AnyComponent {
    pub(super) fn http_worker(self, methods: Arc<dyn Methods>) -> Composing {
        Box::pin(async move {
            self.check()?;
            let listener = self.http_listener()?;
            let concurrency = self.options.concurrency;
            let worker = ErasedHttpWorker::new(self.options.name.clone(), methods, concurrency);
            let mut template =
                ServerTemplate::with_settings(self.kind, self.options.name, self.options.settings);
            let service = HttpWorkerService::bind(listener, worker);
            template.register_bypass(service, "HttpWorker");
            Ok(template)
        })
    }

    fn http_listener(&self) -> Result<Listener, StartError> {
        let address = self.db_address()?.to_string();
        Ok(Listener::new(address.trim_start_matches("tcp://")))
    }
}
