//! How changes come back: the scripts publish them on a channel, and one connection listens to it.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use redis::aio::PubSub;
use redis::{Client, RedisResult};

use crate::cache::Changes;

/// How long the way back may be silent until it is tried.
const SILENCE: Duration = Duration::from_secs(10);

/// First and longest wait before it listens anew; between, it doubles.
const AGAIN: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// Where the changes of a namespace are told. In a cluster all nodes tell them.
pub(super) fn channel(namespace: &str) -> String {
    format!("{namespace}palm.changes")
}

/// Begins to listen; when this returns, it does. The future that it gives listens for ever. `limit` is how long
/// a connection, and an answer, may take.
pub(super) async fn begin(
    clients: Vec<Client>,
    namespace: String,
    changes: Changes,
    limit: Duration,
) -> RedisResult<impl Future<Output = ()> + Send> {
    let mut listening = subscribe(&clients, &channel(&namespace), limit).await?;
    Ok(async move {
        loop {
            record(&mut listening, &namespace, &changes, limit).await;
            tracing::warn!("the store's server does not tell its changes any more; asking again");
            let (mut wait, longest) = AGAIN;
            listening = loop {
                tokio::time::sleep(wait).await;
                match subscribe(&clients, &channel(&namespace), limit).await {
                    Ok(listening) => break listening,
                    Err(error) => tracing::debug!("it does not yet: {error}"),
                }
                wait = (2 * wait).min(longest);
            };
            // Only now, so that who scans because of it misses nothing.
            changes.record_gap();
        }
    })
}

/// Subscribes at the first server that answers.
async fn subscribe(clients: &[Client], channel: &str, limit: Duration) -> RedisResult<PubSub> {
    let mut refused = None;
    for client in clients {
        let subscribe = async {
            let mut listening = client.get_async_pubsub().await?;
            listening.subscribe(channel).await?;
            Ok(listening)
        };
        match tokio::time::timeout(limit, subscribe).await {
            Ok(Ok(listening)) => return Ok(listening),
            Ok(Err(error)) => refused = Some(error),
            Err(elapsed) => refused = Some(std::io::Error::from(elapsed).into()),
        }
    }
    Err(refused.expect("there is a first server"))
}

/// Records what is told, until the connection is gone.
async fn record(listening: &mut PubSub, namespace: &str, changes: &Changes, limit: Duration) {
    loop {
        let told = {
            let mut messages = listening.on_message();
            tokio::time::timeout(SILENCE, messages.next()).await
        };
        match told {
            Ok(Some(message)) => match parse(message.get_payload_bytes()) {
                Some((key, value)) => {
                    if let Some(key) = key.strip_prefix(namespace) {
                        changes.record(key, value);
                    }
                }
                None => tracing::warn!("somebody tells a change that makes no sense"),
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

/// A key and its new value, or none.
fn parse(told: &[u8]) -> Option<(&str, Option<Bytes>)> {
    let digits = told.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (len, rest) = told.split_at(digits);
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

    fn check(told: &[u8], expected: Option<(&str, Option<&str>)>) {
        let expected = expected.map(|(key, value)| {
            let value = value.map(|value| Bytes::copy_from_slice(value.as_bytes()));
            (key, value)
        });
        assert_eq!(parse(told), expected);
    }

    #[test]
    fn what_is_told() {
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
