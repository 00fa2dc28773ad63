//! [`Exporter`]: the metrics of a whole cluster at one address.

use std::sync::Arc;

use tokio::sync::Mutex;

use super::exposition::Exposition;
use super::service::{self, Source};
use crate::failure::BoxError;
use crate::http::{BoundListener, Listener};
use crate::inspect::{Answer, Cluster, Inspector};
use crate::network::NetworkTrust;

/// Serves the metrics of all components of a cluster at one address: what `palm exporter` does.
///
/// Each request of `/metrics` asks the components for their reports, within 5 s. Their metrics have the label `instance`,
/// the `db_address` of the component, and `palm_up` is 0 for a component that does not answer. `/readyz` responds with
/// 200 if the first component answers.
#[derive(Debug)]
pub struct Exporter {
    bound: BoundListener,
    cluster: InspectedCluster,
}

impl Exporter {
    /// Binds the address of `listener`, such as `"127.0.0.1:9600"`. The walk begins at the component of `inspector`.
    ///
    /// # Errors
    ///
    /// Returns an error if the address cannot be bound, or if other hosts can reach it and the network is not trusted
    /// (see [`Listener::trust_network`]).
    pub async fn bind(
        inspector: Inspector,
        listener: impl Into<Listener>,
    ) -> Result<Self, BoxError> {
        let network = NetworkTrust::new(false);
        let bound = BoundListener::bind(listener.into(), &network).await?;
        network.warn();
        Ok(Self {
            bound,
            cluster: InspectedCluster(Mutex::new(inspector)),
        })
    }

    /// Returns the URL, such as `http://127.0.0.1:9600`.
    pub fn url(&self) -> String {
        self.bound.url()
    }

    /// Serves until SIGTERM or Ctrl-C, and then finishes the pending requests within 10 s.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes all connections.
    pub async fn serve(self) {
        let service = service::service(Arc::new(self.cluster));
        self.bound.serve_until_signal(service).await;
    }
}

/// Asks the cluster once at a time.
#[derive(Debug)]
struct InspectedCluster(Mutex<Inspector>);

impl InspectedCluster {
    async fn walk(&self) -> Cluster {
        let mut inspector = self.0.lock().await;
        let cluster = inspector.inspect().await;
        // A component that no other one leads to any more is reported as unreachable.
        inspector.begin_also_at(cluster.components.keys().map(String::as_str));
        cluster
    }
}

impl Source for InspectedCluster {
    async fn exposition(&self) -> Exposition {
        let mut exposition = Exposition::new();
        exposition.add_cluster(self.walk().await);
        exposition
    }

    async fn unready_causes(&self) -> Vec<String> {
        let mut inspector = self.0.lock().await;
        match inspector.inspect_first().await {
            Answer::Unreachable(reason) => vec![reason],
            _ => Vec::new(),
        }
    }
}
