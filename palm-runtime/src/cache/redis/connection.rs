//! The way to a server, or to the nodes of a cluster.

use std::time::Duration;

use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::cluster::{ClusterClient, ClusterConfig};
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{RoutingInfo, SingleNodeRoutingInfo};
use redis::{
    AsyncConnectionConfig, Client, Cmd, FromRedisValue, RedisError, RedisResult, ScriptInvocation,
    Value,
};

use crate::cache::OpenStoreError;

/// How long an answer, and a connection, may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Connections, which are made anew when they break.
pub(super) enum Connection {
    Single(ConnectionManager),
    Cluster(ClusterConnection),
}

/// A node of a cluster that has keys.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Node {
    pub(super) host: String,
    pub(super) port: u16,
}

/// Connects to the first that answers, and, if it is in a cluster, to the others.
pub(super) async fn connect(urls: &[String]) -> Result<(Connection, Vec<Client>), OpenStoreError> {
    let mut clients = Vec::new();
    for (index, url) in urls.iter().enumerate() {
        // Not the URL itself, which may have a password in it.
        let client = Client::open(url.as_str());
        let client = client.map_err(|error| open_error(format!("URL {}", index + 1), error))?;
        clients.push(client);
    }
    let mut refused = None;
    for client in &clients {
        match connect_to(client, urls).await {
            Ok(connection) => return Ok((connection, clients)),
            Err(error) => {
                let place = client.get_connection_info().addr().to_string();
                refused = Some(open_error(place, error));
            }
        }
    }
    Err(refused.expect("there is a first URL"))
}

fn open_error(place: String, error: RedisError) -> OpenStoreError {
    let source = error.into();
    OpenStoreError::Open { place, source }
}

async fn connect_to(client: &Client, urls: &[String]) -> RedisResult<Connection> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(PATIENCE))
        .set_response_timeout(Some(PATIENCE));
    let mut asked = client
        .get_multiplexed_async_connection_with_config(&config)
        .await?;
    let mut info = redis::cmd("INFO");
    let info: String = info.arg("cluster").query_async(&mut asked).await?;
    if info.contains("cluster_enabled:1") {
        let config = ClusterConfig::new()
            .set_connection_timeout(PATIENCE)
            .set_response_timeout(PATIENCE);
        let cluster = ClusterClient::new(urls.iter().map(String::as_str))?;
        let cluster = cluster.get_async_connection_with_config(config).await?;
        return Ok(Connection::Cluster(cluster));
    }
    let config = ConnectionManagerConfig::new()
        .set_connection_timeout(Some(PATIENCE))
        .set_response_timeout(Some(PATIENCE))
        .set_number_of_retries(2)
        .set_max_delay(Duration::from_secs(1));
    let single = client.get_connection_manager_with_config(config).await?;
    Ok(Connection::Single(single))
}

impl Connection {
    pub(super) async fn query<T: FromRedisValue>(&self, command: &Cmd) -> RedisResult<T> {
        match self {
            Self::Single(single) => command.query_async(&mut single.clone()).await,
            Self::Cluster(cluster) => command.query_async(&mut cluster.clone()).await,
        }
    }

    pub(super) async fn invoke<T: FromRedisValue>(
        &self,
        invocation: &ScriptInvocation<'_>,
    ) -> RedisResult<T> {
        match self {
            Self::Single(single) => invocation.invoke_async(&mut single.clone()).await,
            Self::Cluster(cluster) => invocation.invoke_async(&mut cluster.clone()).await,
        }
    }

    /// Asks one node of a cluster; `None` is the only server.
    pub(super) async fn query_at<T: FromRedisValue>(
        &self,
        node: Option<&Node>,
        command: Cmd,
    ) -> RedisResult<T> {
        let (Self::Cluster(cluster), Some(Node { host, port })) = (self, node) else {
            return self.query(&command).await;
        };
        let (host, port) = (host.clone(), *port);
        let node = SingleNodeRoutingInfo::ByAddress { host, port };
        let mut cluster = cluster.clone();
        let answer = cluster.route_command(command, RoutingInfo::SingleNode(node));
        Ok(redis::from_redis_value(answer.await?)?)
    }

    /// The nodes that have keys, in an order that stays as long as they do; none where there is only one
    /// server.
    pub(super) async fn nodes(&self) -> RedisResult<Vec<Node>> {
        if let Self::Single(_) = self {
            return Ok(Vec::new());
        }
        let mut slots = redis::cmd("CLUSTER");
        let ranges: Vec<Vec<Value>> = self.query(slots.arg("SLOTS")).await?;
        let mut nodes = Vec::new();
        for range in ranges {
            // From, to, the node that has them, and its replicas.
            let Some(Value::Array(primary)) = range.into_iter().nth(2) else {
                continue;
            };
            let mut primary = primary.into_iter();
            if let (Some(host), Some(port)) = (primary.next(), primary.next()) {
                nodes.push(Node {
                    host: redis::from_redis_value(host)?,
                    port: redis::from_redis_value(port)?,
                });
            }
        }
        nodes.sort();
        nodes.dedup();
        Ok(nodes)
    }
}
