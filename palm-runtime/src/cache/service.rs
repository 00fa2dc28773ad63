//! The verbs of the cache service. Requests are messages, replies are raw frames.
//!
//! `set`, `get` and `delete` are the verbs of pylm, where an empty reply to `get` stands for an absent key or an empty
//! value. `find` and `store` are palm's. The reply to `find` is `1` and the value, or `0`, which distinguishes absent
//! keys from empty values. `store` has all other operations, see `operations`. A legacy service replies to unknown verbs
//! with an empty frame.

use bytes::{BufMut, Bytes, BytesMut};

pub(crate) use super::idempotency::IdempotencyCache;
pub(crate) use super::operations::{Handled, Poll, RejectedRequest};
pub(crate) use super::overlay::LiveKeys;
pub(crate) use super::service_error::ServiceError;
use super::{ComponentStore, operations};
use crate::message::{Message, new_id};

const FOUND: u8 = b'1';
const ABSENT: u8 = b'0';

/// A verb of the cache service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    Get,
    Find,
    Set,
    Delete,
    /// All operations that the other verbs lack.
    Store,
}

impl Verb {
    fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Find => "find",
            Self::Set => "set",
            Self::Delete => "delete",
            Self::Store => "store",
        }
    }

    fn parse(name: &str) -> Option<Self> {
        const ALL: [Verb; 5] = [Verb::Get, Verb::Find, Verb::Set, Verb::Delete, Verb::Store];
        ALL.into_iter().find(|verb| verb.name() == name)
    }
}

/// The frame that requests `verb`. Only `set` has a key and a value; `store` has only a value.
pub(crate) fn request(server: &str, client: &str, verb: Verb, key: &str, value: Bytes) -> Bytes {
    let function = format!("{server}.{}", verb.name());
    let mut message = match verb {
        Verb::Set | Verb::Store => Message::new(function, value),
        _ => Message::new(function, Bytes::copy_from_slice(key.as_bytes())),
    };
    if verb == Verb::Set {
        message.set_cache(key);
    }
    message.set_pipeline(new_id());
    message.set_client(client);
    message.into_frame()
}

/// Truncates a name for an error.
fn short(name: &str) -> String {
    const MAX_NAME_BYTES: usize = 256;
    name[..name.floor_char_boundary(MAX_NAME_BYTES)].to_owned()
}

/// Decodes the message of a request.
pub(crate) fn decode(frames: &[Bytes]) -> Result<Message, ServiceError> {
    match frames {
        [frame] => Ok(Message::decode(frame.clone())?),
        _ => Err(ServiceError::Frames(frames.len())),
    }
}

/// Returns the verb of a request: the word after the first dot, as in pylm.
pub(crate) fn verb(message: &Message) -> Result<&str, ServiceError> {
    let function = message.function();
    let verb = function.split('.').nth(1);
    verb.ok_or_else(|| ServiceError::NoVerb(short(function)))
}

/// Performs one request. A rejected request has a reply too, and its error is the cause.
pub(crate) async fn handle(
    store: &ComponentStore,
    live: &impl LiveKeys,
    idempotency: &IdempotencyCache,
    message: &Message,
) -> Result<Handled, RejectedRequest> {
    let verb = verb(message)?;
    let reply = match Verb::parse(verb) {
        Some(Verb::Get) => live.value(store, key(message)?).await?.unwrap_or_default(),
        Some(Verb::Find) => match live.value(store, key(message)?).await? {
            Some(value) => {
                let mut reply = BytesMut::with_capacity(1 + value.len());
                reply.put_u8(FOUND);
                reply.extend_from_slice(&value);
                reply.freeze()
            }
            None => Bytes::from_static(&[ABSENT]),
        },
        Some(Verb::Set) => {
            let key = match message.cache() {
                "" => new_id(),
                key => key.into(),
            };
            store.set(&key, message.payload().clone(), None).await?;
            key.into_bytes()
        }
        Some(Verb::Delete) => {
            store.delete(key(message)?).await?;
            message.payload().clone()
        }
        Some(Verb::Store) => {
            let request = message.payload().clone();
            return operations::handle(store, live, idempotency, request).await;
        }
        None => return Err(ServiceError::UnknownVerb(short(verb)).into()),
    };
    Ok(Handled::Reply(reply))
}

fn key(message: &Message) -> Result<&str, std::str::Utf8Error> {
    std::str::from_utf8(message.payload())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::cache::{CacheError, CacheLimits, MemoryStore};

    /// Computes no keys.
    struct Stored;

    impl LiveKeys for Stored {
        async fn value(
            &self,
            store: &ComponentStore,
            key: &str,
        ) -> Result<Option<Bytes>, CacheError> {
            store.get(key).await
        }
    }

    fn store() -> ComponentStore {
        let limits = CacheLimits {
            key_bytes: 10,
            value_bytes: 10,
        };
        let store = ComponentStore::new(Arc::new(MemoryStore::default()), limits);
        store.configure([("name".to_owned(), "server".to_owned())]);
        store
    }

    async fn check(store: &ComponentStore, frames: &[Bytes], expected: Result<&str, &str>) {
        let handled = async {
            let message = decode(frames)?;
            handle(store, &Stored, &IdempotencyCache::default(), &message).await
        };
        match (handled.await, expected) {
            (Ok(Handled::Reply(reply)), Ok(expected)) => assert_eq!(reply, expected),
            (Err(rejected), Err(expected)) => {
                assert_eq!(rejected.error.to_string(), expected);
                assert_eq!(rejected.reply, "");
            }
            (reply, _) => panic!("{reply:?} instead of {expected:?}"),
        }
    }

    fn frames(verb: Verb, key: &str, value: &'static str) -> [Bytes; 1] {
        [request("server", "client", verb, key, value.into())]
    }

    #[tokio::test]
    async fn verbs_of_pylm_set_get_and_delete() {
        let store = store();
        check(&store, &frames(Verb::Get, "name", ""), Ok("server")).await;
        check(&store, &frames(Verb::Get, "k", ""), Ok("")).await;
        check(&store, &frames(Verb::Set, "k", "value"), Ok("k")).await;
        check(&store, &frames(Verb::Get, "k", ""), Ok("value")).await;
        check(&store, &frames(Verb::Delete, "k", ""), Ok("k")).await;
        check(&store, &frames(Verb::Delete, "k", ""), Ok("k")).await;
        check(&store, &frames(Verb::Get, "k", ""), Ok("")).await;
    }

    #[tokio::test]
    async fn find_distinguishes_absent_keys_from_empty_values() {
        let store = store();
        check(&store, &frames(Verb::Find, "k", ""), Ok("0")).await;
        check(&store, &frames(Verb::Set, "k", ""), Ok("k")).await;
        check(&store, &frames(Verb::Find, "k", ""), Ok("1")).await;
    }

    #[tokio::test]
    async fn malformed_and_forbidden_requests_are_rejected() {
        let store = store();
        check(&store, &[], Err("the request has 0 frames, expected one")).await;
        check(
            &store,
            &["\u{ff}".into()],
            Err("the request is not a message"),
        )
        .await;
        let no_verb = Message::new("get", "k").encode();
        let expected = "expected `<component>.<verb>` as the function, found `get`";
        check(&store, &[no_verb], Err(expected)).await;
        let unknown = Message::new("server.list", "").encode();
        check(
            &store,
            &[unknown],
            Err("unknown verb `list`, expected get, set or delete"),
        )
        .await;
        let not_utf8 = Message::new("server.get", vec![0xff]).encode();
        check(&store, &[not_utf8], Err("the key is not UTF-8")).await;
        let own = "the key `name` is reserved for the component";
        check(&store, &frames(Verb::Set, "name", "x"), Err(own)).await;
        check(&store, &frames(Verb::Delete, "name", ""), Err(own)).await;
        let long = "the value has 11 bytes, the limit is 10";
        check(&store, &frames(Verb::Set, "k", "12345678901"), Err(long)).await;
    }

    #[tokio::test]
    async fn replies_to_reads_are_not_kept() {
        use prost::Message as _;

        use crate::message::proto::cache_request::Operation;
        use crate::message::proto::{CacheGet, CacheReply, CacheRequest};

        let store = store();
        let idempotency = IdempotencyCache::default();
        let key = "k".to_owned();
        let get = CacheRequest {
            id: "1".into(),
            operation: Some(Operation::Get(CacheGet { key })),
        };
        let frames = [request(
            "server",
            "client",
            Verb::Store,
            "",
            get.encode_to_vec().into(),
        )];
        for value in ["first", "second"] {
            store.set("k", value.into(), None).await.unwrap();
            let message = decode(&frames).unwrap();
            let handled = handle(&store, &Stored, &idempotency, &message).await;
            let Ok(Handled::Reply(reply)) = handled else {
                panic!("{handled:?} instead of a reply");
            };
            let outcome = CacheReply::decode(reply).unwrap().outcome;
            assert_eq!(outcome, Some(super::super::wire::found(Some(value.into()))));
        }
    }
}
