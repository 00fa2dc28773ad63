//! The change feed: receives the changes that the scripts publish on a channel (`PUBLISH` and `SUBSCRIBE`), and records
//! them in the change log of the store.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use redis::aio::PubSub;
use redis::{Client, RedisResult};

use crate::cache::ChangeLog;

/// Interval of pings on a silent connection.
const PING_INTERVAL: Duration = Duration::from_secs(10);

/// Delay before the first attempt to subscribe again. It doubles with each attempt.
const MIN_RECONNECT_DELAY: Duration = Duration::from_millis(50);
const MAX_RECONNECT_DELAY: Duration = Duration::from_secs(2);

/// Returns the channel of a namespace. In a cluster, all nodes deliver its messages.
pub(super) fn channel(namespace: &str) -> String {
    format!("{namespace}palm.changes")
}

/// Subscribes, and returns the future that receives changes forever. `limit` is the timeout of a connection and of an
/// answer.
pub(super) async fn begin(
    clients: Vec<Client>,
    namespace: String,
    changes: ChangeLog,
    limit: Duration,
) -> RedisResult<impl Future<Output = ()> + Send> {
    let mut listening = subscribe(&clients, &channel(&namespace), limit).await?;
    Ok(async move {
        loop {
            record(&mut listening, &namespace, &changes, limit).await;
            tracing::warn!(
                "lost the subscription to changes of the Redis store, subscribing again"
            );
            let mut delay = MIN_RECONNECT_DELAY;
            listening = loop {
                tokio::time::sleep(delay).await;
                match subscribe(&clients, &channel(&namespace), limit).await {
                    Ok(listening) => break listening,
                    Err(error) => {
                        tracing::debug!(%error, "cannot subscribe to changes of the Redis store yet");
                    }
                }
                delay = (2 * delay).min(MAX_RECONNECT_DELAY);
            };
            // Recorded after the subscription, so that a watcher that scans because of the gap misses no later change.
            changes.record_gap();
        }
    })
}

/// Subscribes at the first server that answers.
async fn subscribe(clients: &[Client], channel: &str, limit: Duration) -> RedisResult<PubSub> {
    let mut last_failure = None;
    for client in clients {
        let subscribe = async {
            let mut listening = client.get_async_pubsub().await?;
            listening.subscribe(channel).await?;
            Ok(listening)
        };
        match tokio::time::timeout(limit, subscribe).await {
            Ok(Ok(listening)) => return Ok(listening),
            Ok(Err(error)) => last_failure = Some(error),
            Err(elapsed) => last_failure = Some(std::io::Error::from(elapsed).into()),
        }
    }
    Err(last_failure.expect("there is a first server"))
}

/// Records received changes until the connection breaks.
async fn record(listening: &mut PubSub, namespace: &str, changes: &ChangeLog, limit: Duration) {
    loop {
        let received = {
            let mut messages = listening.on_message();
            tokio::time::timeout(PING_INTERVAL, messages.next()).await
        };
        match received {
            Ok(Some(message)) => match parse(message.get_payload_bytes()) {
                Some((key, value)) => {
                    if let Some(key) = key.strip_prefix(namespace) {
                        changes.record(key, value);
                    }
                }
                None => tracing::warn!(
                    "ignoring a malformed message on the change channel of the Redis store"
                ),
            },
            Ok(None) => return,
            Err(_) => {
                let answer = tokio::time::timeout(limit, listening.ping::<redis::Value>());
                if !matches!(answer.await, Ok(Ok(_))) {
                    return;
                }
            }
        }
    }
}

/// Parses a change: the key and its new value, or `None` if it was removed.
fn parse(message: &[u8]) -> Option<(&str, Option<Bytes>)> {
    let digits = message
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    let (len, rest) = message.split_at(digits);
    let len: usize = std::str::from_utf8(len).ok()?.parse().ok()?;
    let (what, rest) = rest.split_first()?;
    let (key, value) = rest.split_at_checked(len)?;
    let value = match what {
        b'S' => Some(Bytes::copy_from_slice(value)),
        b'R' => None,
        _ => return None,
    };
    Some((std::str::from_utf8(key).ok()?, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(message: &[u8], expected: Option<(&str, Option<&str>)>) {
        let expected = expected.map(|(key, value)| {
            let value = value.map(|value| Bytes::copy_from_slice(value.as_bytes()));
            (key, value)
        });
        assert_eq!(parse(message), expected);
    }

    #[test]
    fn published_changes_are_parsed_and_malformed_ones_rejected() {
        check(b"6Spalm:kvalue", Some(("palm:k", Some("value"))));
        check(b"6Spalm:k", Some(("palm:k", Some(""))));
        check(b"6Rpalm:k", Some(("palm:k", None)));
        check(b"0S", Some(("", Some(""))));
        for none in [&b""[..], b"6", b"S", b"7Spalm:k", b"1Xk", b"1S\xff"] {
            check(none, None);
        }
        check(b"99999999999999999999Sk", None);
    }
}
