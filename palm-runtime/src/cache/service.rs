//! The cache service on the wire: requests as messages, replies as raw frames.
//!
//! `set`, `get` and `delete` are part 1 of the protocol, where an empty reply to `get` means that
//! there is no value, or an empty one. `find` is ours: its reply is `1` and the value, or `0`, so that
//! absent and empty are told apart. A peer of old answers it, as anything that it does not know,
//! with nothing. `store` is ours too: it has all the rest, see `operations`.

use bytes::{BufMut, Bytes, BytesMut};

pub(crate) use super::operations::{Handled, Poll, Refusal};
pub(crate) use super::repeated::Repeated;
use super::{CacheError, ComponentStore, operations};
use crate::component::descriptor;
use crate::message::{Message, new_id};
use crate::offers::OfferError;
use crate::part::Shared;

/// How many bytes a list of cancelled calls has at most. Clients remember 4096 calls.
const MAX_CANCEL_BYTES: usize = 2 * 1024 * 1024;

const FOUND: u8 = b'1';
const ABSENT: u8 = b'0';

/// A request to a cache service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    Get,
    Find,
    Set,
    Delete,
    /// What the four above cannot do.
    Store,
    /// Not of the cache: the calls, one topic a line, whose caller has given up.
    Cancel,
    /// Likewise: what a worker can do, as its descriptor.
    Offer,
}

impl Verb {
    fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Find => "find",
            Self::Set => "set",
            Self::Delete => "delete",
            Self::Store => "store",
            Self::Cancel => "cancel",
            Self::Offer => "offer",
        }
    }

    fn parse(name: &str) -> Option<Self> {
        const ALL: [Verb; 7] = [
            Verb::Get,
            Verb::Find,
            Verb::Set,
            Verb::Delete,
            Verb::Store,
            Verb::Cancel,
            Verb::Offer,
        ];
        ALL.into_iter().find(|verb| verb.name() == name)
    }
}

/// The message that asks for `verb`. Only `set` has a key and a value; `store` and `offer` have only a value.
pub(crate) fn request(server: &str, client: &str, verb: Verb, key: &str, value: Bytes) -> Bytes {
    let function = format!("{server}.{}", verb.name());
    let mut message = match verb {
        Verb::Set | Verb::Store | Verb::Offer => Message::new(function, value),
        _ => Message::new(function, Bytes::copy_from_slice(key.as_bytes())),
    };
    if verb == Verb::Set {
        message.set_cache(key);
    }
    message.set_pipeline(new_id());
    message.set_client(client);
    message.into_frame()
}

/// What a peer's answer to [`Verb::Find`] says; `None` when the peer does not know the verb.
pub(crate) fn found(mut reply: Bytes) -> Option<Option<Bytes>> {
    match reply.first() {
        Some(&FOUND) => Some(Some(reply.split_off(1))),
        Some(&ABSENT) => Some(None),
        _ => None,
    }
}

/// Why a request could not be carried out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServiceError {
    #[error("the request has {0} frames in the place of one")]
    Frames(usize),
    #[error("the request is no message")]
    Decode(#[from] crate::message::DecodeError),
    #[error("the request names no verb: `{0}`")]
    NoVerb(String),
    #[error("the verb `{0}` is not one of get, set, delete")]
    UnknownVerb(String),
    #[error("{0}")]
    Malformed(String),
    #[error("a list of cancelled calls has {bytes} bytes, and at most {MAX_CANCEL_BYTES} are read")]
    LongList { bytes: usize },
    #[error("the key is not UTF-8")]
    Key(#[from] std::str::Utf8Error),
    #[error(transparent)]
    Offer(#[from] OfferError),
    #[error("the component's descriptor cannot be read")]
    Descriptor(#[from] prost::DecodeError),
    #[error(transparent)]
    Cache(#[from] CacheError),
    #[error("the store {0}")]
    Panicked(#[source] crate::failure::CallFailure),
}

/// The beginning of a name, as errors show it.
fn short(name: &str) -> String {
    const LONGEST: usize = 256;
    name[..name.floor_char_boundary(LONGEST)].to_owned()
}

/// Carries out one request, whatever it is: what cannot be carried out is answered too, and the error
/// says why.
pub(crate) async fn handle(
    store: &ComponentStore,
    shared: &Shared,
    repeated: &Repeated,
    frames: &[Bytes],
) -> Result<Handled, Refusal> {
    let [frame] = frames else {
        return Err(ServiceError::Frames(frames.len()).into());
    };
    let message = Message::decode(frame.clone())?;
    // As with pylm, only the word after the first dot counts.
    let verb = message
        .function()
        .split('.')
        .nth(1)
        .ok_or_else(|| ServiceError::NoVerb(short(message.function())))?;
    let reply = match Verb::parse(verb) {
        Some(Verb::Get) => value(store, shared, key(&message)?)
            .await?
            .unwrap_or_default(),
        Some(Verb::Find) => match value(store, shared, key(&message)?).await? {
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
            store.delete(key(&message)?).await?;
            message.payload().clone()
        }
        Some(Verb::Store) => {
            let request = message.payload().clone();
            return operations::handle(store, shared, repeated, request).await;
        }
        Some(Verb::Cancel) => {
            let bytes = message.payload().len();
            if bytes > MAX_CANCEL_BYTES {
                return Err(ServiceError::LongList { bytes }.into());
            }
            shared.cancellations.cancel(message.payload());
            Bytes::new()
        }
        Some(Verb::Offer) => {
            // Only a component that has workers lists what they can do.
            if shared.workers.get().is_some() {
                let offered = shared.offers.add(message.payload())?;
                if offered.is_new {
                    let descriptor = store.get(descriptor::KEY).await?.unwrap_or_default();
                    let descriptor = descriptor::listing(&descriptor, &shared.offers.functions())?;
                    store.configure([(descriptor::KEY.to_owned(), descriptor)]);
                }
                if let Some(refused) = offered.refused {
                    return Err(refused.into());
                }
            }
            Bytes::from_static(b"1")
        }
        None => return Err(ServiceError::UnknownVerb(short(verb)).into()),
    };
    Ok(Handled::Reply(reply))
}

/// The value of a key; the peers that the descriptor lists are those of this moment.
pub(super) async fn value(
    store: &ComponentStore,
    shared: &Shared,
    key: &str,
) -> Result<Option<Bytes>, CacheError> {
    if key == descriptor::WAIT_KEY {
        return Ok(shared.wait_cause().map(Bytes::from));
    }
    if key.ends_with("_address") {
        shared.on_demand.bind(key).await;
    }
    let value = store.get(key).await?;
    Ok(match value {
        Some(value) if key == descriptor::KEY => {
            let followers = shared.links.followers();
            let unregistered_workers = shared.any_legacy_worker().await;
            Some(descriptor::with_peers(
                value,
                followers,
                unregistered_workers,
            ))
        }
        value => value,
    })
}

fn key(message: &Message) -> Result<&str, std::str::Utf8Error> {
    std::str::from_utf8(message.payload())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::cache::{CacheLimits, MemoryStore};
    use crate::link::LinkOptions;

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
        let (shared, repeated) = (Shared::new(LinkOptions::default()), Repeated::default());
        match (handle(store, &shared, &repeated, frames).await, expected) {
            (Ok(Handled::Reply(reply)), Ok(expected)) => assert_eq!(reply, expected),
            (Err(refusal), Err(expected)) => {
                assert_eq!(refusal.error.to_string(), expected);
                assert_eq!(refusal.reply, "");
            }
            (reply, _) => panic!("{reply:?} in the place of {expected:?}"),
        }
    }

    fn ask(verb: Verb, key: &str, value: &'static str) -> [Bytes; 1] {
        [request("server", "client", verb, key, value.into())]
    }

    #[tokio::test]
    async fn the_three_verbs_of_old() {
        let store = store();
        check(&store, &ask(Verb::Get, "name", ""), Ok("server")).await;
        check(&store, &ask(Verb::Get, "k", ""), Ok("")).await;
        check(&store, &ask(Verb::Set, "k", "value"), Ok("k")).await;
        check(&store, &ask(Verb::Get, "k", ""), Ok("value")).await;
        check(&store, &ask(Verb::Delete, "k", ""), Ok("k")).await;
        check(&store, &ask(Verb::Delete, "k", ""), Ok("k")).await;
        check(&store, &ask(Verb::Get, "k", ""), Ok("")).await;
    }

    #[tokio::test]
    async fn find_tells_absent_from_empty() {
        let store = store();
        check(&store, &ask(Verb::Find, "k", ""), Ok("0")).await;
        check(&store, &ask(Verb::Set, "k", ""), Ok("k")).await;
        check(&store, &ask(Verb::Find, "k", ""), Ok("1")).await;
        assert_eq!(found("1abc".into()), Some(Some("abc".into())));
        assert_eq!(found("0".into()), Some(None));
        assert_eq!(found("".into()), None);
    }

    #[tokio::test]
    async fn what_cannot_be_done_is_refused() {
        let store = store();
        check(
            &store,
            &[],
            Err("the request has 0 frames in the place of one"),
        )
        .await;
        check(&store, &["\u{ff}".into()], Err("the request is no message")).await;
        let no_verb = Message::new("get", "k").encode();
        check(&store, &[no_verb], Err("the request names no verb: `get`")).await;
        let unknown = Message::new("server.list", "").encode();
        check(
            &store,
            &[unknown],
            Err("the verb `list` is not one of get, set, delete"),
        )
        .await;
        let not_utf8 = Message::new("server.get", vec![0xff]).encode();
        check(&store, &[not_utf8], Err("the key is not UTF-8")).await;
        let own = "the key `name` is the component's own";
        check(&store, &ask(Verb::Set, "name", "x"), Err(own)).await;
        check(&store, &ask(Verb::Delete, "name", ""), Err(own)).await;
        let long = "the value has 11 bytes, the limit is 10";
        check(&store, &ask(Verb::Set, "k", "12345678901"), Err(long)).await;
    }

    #[tokio::test]
    async fn answers_to_reads_are_not_remembered() {
        use prost::Message as _;

        use crate::message::proto::cache_request::Operation;
        use crate::message::proto::{CacheGet, CacheReply, CacheRequest};

        let (store, shared) = (store(), Shared::new(LinkOptions::default()));
        let repeated = Repeated::default();
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
            let handled = handle(&store, &shared, &repeated, &frames).await;
            let Ok(Handled::Reply(reply)) = handled else {
                panic!("{handled:?} in the place of a reply");
            };
            let outcome = CacheReply::decode(reply).unwrap().outcome;
            assert_eq!(outcome, Some(super::super::wire::found(Some(value.into()))));
        }
    }
}
