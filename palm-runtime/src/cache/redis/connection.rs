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

use crate::cache::{CacheError, OpenStoreError};

/// How long a connection, and an answer, may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timeouts {
    pub(super) connect: Duration,
    pub(super) response: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        let limit = Duration::from_secs(2);
        Self {
            connect: limit,
            response: limit,
        }
    }
}

/// Connections, which are made anew when they break.
pub(super) struct Connection {
    way: Way,
    /// The servers, without passwords: for errors.
    place: String,
    timeouts: Timeouts,
}

enum Way {
    Single(ConnectionManager),
    Cluster(ClusterConnection),
}

/// That a server did not carry out a request.
#[derive(Debug, thiserror::Error)]
pub(super) enum RequestError {
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

impl From<RequestError> for CacheError {
    fn from(error: RequestError) -> Self {
        Self::Store(error.into())
    }
}

/// A node of a cluster that has keys.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Node {
    pub(super) host: String,
    pub(super) port: u16,
}

/// Connects to the first that answers, and, if it is in a cluster, to the others.
pub(super) async fn connect(
    urls: &[String],
    timeouts: Timeouts,
) -> Result<(Connection, Vec<Client>), OpenStoreError> {
    let mut clients = Vec::new();
    for (index, url) in urls.iter().enumerate() {
        // Not the URL itself, which may have a password in it.
        let client = Client::open(url.as_str());
        let client = client.map_err(|error| open_error(format!("URL {}", index + 1), error))?;
        clients.push(client);
    }
    let place_of = |client: &Client| client.get_connection_info().addr().to_string();
    let places: Vec<_> = clients.iter().map(place_of).collect();
    let mut refused = None;
    for (client, place) in clients.iter().zip(&places) {
        let waited = timeouts.connect;
        match tokio::time::timeout(waited, connect_to(client, urls, timeouts)).await {
            Ok(Ok(way)) => {
                let place = places.join("`, `");
                let connection = Connection {
                    way,
                    place,
                    timeouts,
                };
                return Ok((connection, clients));
            }
            Ok(Err(error)) if !error.is_timeout() => {
                refused = Some(open_error(place.clone(), error));
            }
            Ok(Err(_)) | Err(_) => {
                let place = format!("Redis at `{place}`");
                refused = Some(OpenStoreError::Timeout { place, waited });
            }
        }
    }
    Err(refused.expect("there is a first URL"))
}

fn open_error(place: String, error: RedisError) -> OpenStoreError {
    let source = error.into();
    OpenStoreError::Open { place, source }
}

async fn connect_to(client: &Client, urls: &[String], timeouts: Timeouts) -> RedisResult<Way> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(timeouts.connect))
        .set_response_timeout(Some(timeouts.response));
    let mut asked = client
        .get_multiplexed_async_connection_with_config(&config)
        .await?;
    let mut info = redis::cmd("INFO");
    let info: String = info.arg("cluster").query_async(&mut asked).await?;
    if info.contains("cluster_enabled:1") {
        let config = ClusterConfig::new()
            .set_connection_timeout(timeouts.connect)
            .set_response_timeout(timeouts.response);
        let cluster = ClusterClient::new(urls.iter().map(String::as_str))?;
        let cluster = cluster.get_async_connection_with_config(config).await?;
        return Ok(Way::Cluster(cluster));
    }
    let config = ConnectionManagerConfig::new()
        .set_connection_timeout(Some(timeouts.connect))
        .set_response_timeout(Some(timeouts.response))
        .set_number_of_retries(2)
        .set_max_delay(Duration::from_secs(1));
    let single = client.get_connection_manager_with_config(config).await?;
    Ok(Way::Single(single))
}

impl Connection {
    /// What comes of a request, within the limit: also while the connection is being made again.
    async fn within<T>(
        &self,
        request: impl Future<Output = RedisResult<T>>,
    ) -> Result<T, RequestError> {
        let waited = self.timeouts.response;
        let place = || self.place.clone();
        match tokio::time::timeout(waited, request).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(source)) if !source.is_timeout() => Err(RequestError::Failed {
                place: place(),
                source,
            }),
            Ok(Err(_)) | Err(_) => Err(RequestError::Timeout {
                place: place(),
                waited,
            }),
        }
    }

    /// The limits of this connection, which also hold for the one that listens.
    pub(super) fn timeouts(&self) -> Timeouts {
        self.timeouts
    }

    /// The same error for a request over another connection.
    pub(super) fn failed(&self, source: RedisError) -> RequestError {
        let place = self.place.clone();
        match source.is_timeout() {
            true => RequestError::Timeout {
                place,
                waited: self.timeouts.connect,
            },
            false => RequestError::Failed { place, source },
        }
    }

    pub(super) async fn query<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, RequestError> {
        self.within(async {
            match &self.way {
                Way::Single(single) => command.query_async(&mut single.clone()).await,
                Way::Cluster(cluster) => command.query_async(&mut cluster.clone()).await,
            }
        })
        .await
    }

    pub(super) async fn invoke<T: FromRedisValue>(
        &self,
        invocation: &ScriptInvocation<'_>,
    ) -> Result<T, RequestError> {
        self.within(async {
            match &self.way {
                Way::Single(single) => invocation.invoke_async(&mut single.clone()).await,
                Way::Cluster(cluster) => invocation.invoke_async(&mut cluster.clone()).await,
            }
        })
        .await
    }

    /// Asks one node of a cluster; `None` is the only server.
    pub(super) async fn query_at<T: FromRedisValue>(
        &self,
        node: Option<&Node>,
        command: Cmd,
    ) -> Result<T, RequestError> {
        let (Way::Cluster(cluster), Some(Node { host, port })) = (&self.way, node) else {
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

    /// The nodes that have keys, in an order that stays as long as they do; none where there is only one
    /// server.
    pub(super) async fn nodes(&self) -> Result<Vec<Node>, RequestError> {
        if let Way::Single(_) = self.way {
            return Ok(Vec::new());
        }
        let unreadable = |error: redis::ParsingError| self.failed(error.into());
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
