//! [`RedisConnection`]: connects to a server or a cluster, and sends requests with a timeout.

use std::time::Duration;

use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::cluster::{ClusterClient, ClusterConfig};
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{RoutingInfo, SingleNodeRoutingInfo};
use redis::{
    AsyncConnectionConfig, Client, Cmd, FromRedisValue, RedisError, RedisResult, ScriptInvocation,
    Value,
};

use crate::cache::{CacheError, OpenStoreError};

/// The timeouts of a connection and of a request.
#[derive(Debug, Clone, Copy)]
pub(super) struct RedisTimeouts {
    pub(super) connect: Duration,
    pub(super) response: Duration,
}

impl Default for RedisTimeouts {
    fn default() -> Self {
        let limit = Duration::from_secs(2);
        Self {
            connect: limit,
            response: limit,
        }
    }
}

/// Connections to a server or to the nodes of a cluster. Broken ones are reopened.
pub(super) struct RedisConnection {
    client: RedisClient,
    /// The addresses of the servers, without passwords, for errors.
    place: String,
    timeouts: RedisTimeouts,
}

enum RedisClient {
    Single(ConnectionManager),
    Cluster(ClusterConnection),
}

/// Error of a request to Redis.
#[derive(Debug, thiserror::Error)]
pub(super) enum RedisRequestError {
    #[error(
        "Redis at `{place}` did not answer within {waited:?}: check that it runs and is not overloaded; the \
         request may have been carried out, and the next one tries again"
    )]
    Timeout { place: String, waited: Duration },
    #[error("Redis at `{place}` failed")]
    Failed {
        place: String,
        #[source]
        source: RedisError,
    },
}

impl From<RedisRequestError> for CacheError {
    fn from(error: RedisRequestError) -> Self {
        Self::Store(error.into())
    }
}

/// A primary node of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ClusterNode {
    pub(super) host: String,
    pub(super) port: u16,
}

/// Connects to the first server that answers, and if it belongs to a cluster, to the other nodes.
pub(super) async fn connect(
    urls: &[String],
    timeouts: RedisTimeouts,
) -> Result<(RedisConnection, Vec<Client>), OpenStoreError> {
    let mut clients = Vec::new();
    for (index, url) in urls.iter().enumerate() {
        // The URL may contain a password, so errors have its number.
        let client = Client::open(url.as_str());
        let client = client.map_err(|error| open_error(format!("URL {}", index + 1), error))?;
        clients.push(client);
    }
    let address_of = |client: &Client| client.get_connection_info().addr().to_string();
    let addresses: Vec<_> = clients.iter().map(address_of).collect();
    let mut last_failure = None;
    for (client, place) in clients.iter().zip(&addresses) {
        let waited = timeouts.connect;
        match tokio::time::timeout(waited, connect_to(client, urls, timeouts)).await {
            Ok(Ok(client)) => {
                let place = addresses.join("`, `");
                let connection = RedisConnection {
                    client,
                    place,
                    timeouts,
                };
                return Ok((connection, clients));
            }
            Ok(Err(error)) if !error.is_timeout() => {
                last_failure = Some(open_error(place.clone(), error));
            }
            Ok(Err(_)) | Err(_) => {
                let place = format!("Redis at `{place}`");
                last_failure = Some(OpenStoreError::Timeout { place, waited });
            }
        }
    }
    Err(last_failure.expect("there is a first URL"))
}

fn open_error(place: String, error: RedisError) -> OpenStoreError {
    let source = error.into();
    OpenStoreError::Open { place, source }
}

async fn connect_to(
    client: &Client,
    urls: &[String],
    timeouts: RedisTimeouts,
) -> RedisResult<RedisClient> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(timeouts.connect))
        .set_response_timeout(Some(timeouts.response));
    let mut connection = client
        .get_multiplexed_async_connection_with_config(&config)
        .await?;
    let mut info = redis::cmd("INFO");
    let info: String = info.arg("cluster").query_async(&mut connection).await?;
    if info.contains("cluster_enabled:1") {
        let config = ClusterConfig::new()
            .set_connection_timeout(timeouts.connect)
            .set_response_timeout(timeouts.response);
        let cluster = ClusterClient::new(urls.iter().map(String::as_str))?;
        let cluster = cluster.get_async_connection_with_config(config).await?;
        return Ok(RedisClient::Cluster(cluster));
    }
    let config = ConnectionManagerConfig::new()
        .set_connection_timeout(Some(timeouts.connect))
        .set_response_timeout(Some(timeouts.response))
        .set_number_of_retries(2)
        .set_max_delay(Duration::from_secs(1));
    let single = client.get_connection_manager_with_config(config).await?;
    Ok(RedisClient::Single(single))
}

impl RedisConnection {
    /// Awaits a request within the response timeout, including the time to reopen the connection.
    async fn within<T>(
        &self,
        request: impl Future<Output = RedisResult<T>>,
    ) -> Result<T, RedisRequestError> {
        let waited = self.timeouts.response;
        let place = || self.place.clone();
        match tokio::time::timeout(waited, request).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(source)) if !source.is_timeout() => Err(RedisRequestError::Failed {
                place: place(),
                source,
            }),
            Ok(Err(_)) | Err(_) => Err(RedisRequestError::Timeout {
                place: place(),
                waited,
            }),
        }
    }

    /// Returns the timeouts, which apply to the connection of the change feed as well.
    pub(super) fn timeouts(&self) -> RedisTimeouts {
        self.timeouts
    }

    /// Converts an error of the change feed's connection.
    pub(super) fn failed(&self, source: RedisError) -> RedisRequestError {
        let place = self.place.clone();
        match source.is_timeout() {
            true => RedisRequestError::Timeout {
                place,
                waited: self.timeouts.connect,
            },
            false => RedisRequestError::Failed { place, source },
        }
    }

    pub(super) async fn query<T: FromRedisValue>(
        &self,
        command: &Cmd,
    ) -> Result<T, RedisRequestError> {
        self.within(async {
            match &self.client {
                RedisClient::Single(single) => command.query_async(&mut single.clone()).await,
                RedisClient::Cluster(cluster) => command.query_async(&mut cluster.clone()).await,
            }
        })
        .await
    }

    pub(super) async fn invoke<T: FromRedisValue>(
        &self,
        invocation: &ScriptInvocation<'_>,
    ) -> Result<T, RedisRequestError> {
        self.within(async {
            match &self.client {
                RedisClient::Single(single) => invocation.invoke_async(&mut single.clone()).await,
                RedisClient::Cluster(cluster) => {
                    invocation.invoke_async(&mut cluster.clone()).await
                }
            }
        })
        .await
    }

    /// Sends a command to one node of a cluster. `None` stands for a single server.
    pub(super) async fn query_at<T: FromRedisValue>(
        &self,
        node: Option<&ClusterNode>,
        command: Cmd,
    ) -> Result<T, RedisRequestError> {
        let (RedisClient::Cluster(cluster), Some(ClusterNode { host, port })) =
            (&self.client, node)
        else {
            return self.query(&command).await;
        };
        let (host, port) = (host.clone(), *port);
        let node = SingleNodeRoutingInfo::ByAddress { host, port };
        let mut cluster = cluster.clone();
        self.within(async {
            let answer = cluster.route_command(command, RoutingInfo::SingleNode(node));
            Ok(redis::from_redis_value(answer.await?)?)
        })
        .await
    }

    /// Returns the primary nodes of a cluster in a stable order, or none for a single server.
    pub(super) async fn nodes(&self) -> Result<Vec<ClusterNode>, RedisRequestError> {
        if let RedisClient::Single(_) = self.client {
            return Ok(Vec::new());
        }
        let unreadable = |error: redis::ParsingError| self.failed(error.into());
        let mut slots = redis::cmd("CLUSTER");
        let ranges: Vec<Vec<Value>> = self.query(slots.arg("SLOTS")).await?;
        let mut nodes = Vec::new();
        for range in ranges {
            // A range is its first slot, its last slot, the primary node, and the replicas.
            let Some(Value::Array(primary)) = range.into_iter().nth(2) else {
                continue;
            };
            let mut primary = primary.into_iter();
            if let (Some(host), Some(port)) = (primary.next(), primary.next()) {
                nodes.push(ClusterNode {
                    host: redis::from_redis_value(host).map_err(unreadable)?,
                    port: redis::from_redis_value(port).map_err(unreadable)?,
                });
            }
        }
        nodes.sort();
        nodes.dedup();
        Ok(nodes)
    }
}
