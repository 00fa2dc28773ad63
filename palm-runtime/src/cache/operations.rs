//! The verb `store` of the cache service: everything that a store can do, and what comes of it.

use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;

use super::changes::Cursor;
use super::repeated::{ID_BYTES, Repeated};
use super::service::{LiveKeys, ServiceError};
use super::{CacheError, Change, Changes, ComponentStore, PageLimits, Position, wire};
use crate::failure::catch_panic;
use crate::message::proto::cache_reply::Outcome;
use crate::message::proto::cache_request::Operation;
use crate::message::proto::{CacheRequest, CacheWatch};

/// Longest wait for a change, whatever a peer asks for.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// What becomes of a request.
#[derive(Debug)]
pub(crate) enum Handled {
    Reply(Bytes),
    /// It is answered when something changes.
    Waits(Poll),
}

/// A request that is not carried out: the answer, and what is to be logged.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) reply: Bytes,
    pub(crate) error: ServiceError,
}

impl<E: Into<ServiceError>> From<E> for Refusal {
    /// The answer of old to all that goes wrong.
    fn from(error: E) -> Self {
        let (reply, error) = (Bytes::new(), error.into());
        Self { reply, error }
    }
}

impl Refusal {
    fn told(outcome: Outcome, error: ServiceError) -> Self {
        let reply = wire::encode(outcome);
        Self { reply, error }
    }

    fn cache(error: CacheError) -> Self {
        Self::told(wire::failure(&error), error.into())
    }
}

/// Carries out one request. Whatever happens, the answer is a `CacheReply`: an empty one would mean
/// that this service does not know the verb.
pub(super) async fn handle(
    store: &ComponentStore,
    live: &impl LiveKeys,
    repeated: &Repeated,
    payload: Bytes,
) -> Result<Handled, Refusal> {
    let handled = async {
        let request = CacheRequest::decode(payload)
            .map_err(|error| malformed(&format!("the request cannot be read: {error}")))?;
        if request.id.len() > ID_BYTES {
            return Err(malformed("the id of the request is too long"));
        }
        match request.operation {
            None => Err(Refusal::cache(CacheError::Unsupported {
                operation: "do what it is asked for".to_owned(),
            })),
            Some(Operation::Watch(watch)) => {
                self::watch(store, watch).await.map_err(Refusal::cache)
            }
            // What only reads is not remembered: it may be done twice, and its answer may be large.
            Some(operation) if request.id.is_empty() || only_reads(&operation) => {
                let outcome = carry_out(store, live, operation).await;
                let outcome = outcome.map_err(Refusal::cache)?;
                Ok(Handled::Reply(wire::encode(outcome)))
            }
            Some(operation) => once(store, live, repeated, &request.id, operation).await,
        }
    };
    catch_panic(handled, |panic| {
        let error = CacheError::Store(format!("the store {panic}").into());
        let reply = wire::failure(&error);
        Err(Refusal::told(reply, ServiceError::Panicked(panic)))
    })
    .await
}

fn only_reads(operation: &Operation) -> bool {
    matches!(
        operation,
        Operation::Get(_) | Operation::Scan(_) | Operation::Watch(_)
    )
}

fn malformed(why: &str) -> Refusal {
    Refusal::told(
        wire::malformed(why),
        ServiceError::Malformed(why.to_owned()),
    )
}

/// Carries out what must not be done twice.
async fn once(
    store: &ComponentStore,
    live: &impl LiveKeys,
    repeated: &Repeated,
    id: &Bytes,
    operation: Operation,
) -> Result<Handled, Refusal> {
    let mut refused = None;
    let reply = repeated
        .once(id, || async {
            match carry_out(store, live, operation).await {
                // Nothing was changed, so that it may come out differently next time.
                Ok(outcome @ Outcome::Differs(_)) => Err(wire::encode(outcome)),
                Ok(outcome) => Ok(wire::encode(outcome)),
                Err(error) => {
                    let Refusal { reply, error } = Refusal::cache(error);
                    refused = Some(error);
                    Err(reply)
                }
            }
        })
        .await;
    match refused {
        Some(error) => Err(Refusal { reply, error }),
        None => Ok(Handled::Reply(reply)),
    }
}

async fn carry_out(
    store: &ComponentStore,
    live: &impl LiveKeys,
    operation: Operation,
) -> Result<Outcome, CacheError> {
    Ok(match operation {
        Operation::Get(get) => wire::found(live.value(store, &get.key).await?),
        Operation::Set(set) => {
            let ttl = wire::ttl(set.ttl_ms);
            store.set(&set.key, set.value, ttl).await?;
            wire::done()
        }
        Operation::Delete(delete) => {
            store.delete(&delete.key).await?;
            wire::done()
        }
        Operation::CompareAndSet(swap) => {
            let ttl = wire::ttl(swap.ttl_ms);
            let swapped = store.compare_and_set(&swap.key, swap.expected, swap.new, ttl);
            wire::swapped(swapped.await?)
        }
        Operation::Add(add) => Outcome::Number(store.add(&add.key, add.amount).await?),
        Operation::Scan(scan) => {
            let mut limits = PageLimits::default();
            if scan.entries > 0 {
                limits.entries = limits.entries.min(scan.entries as usize);
            }
            let after = scan.after.map(Position::new);
            wire::page(store.scan(&scan.prefix, after, limits).await?)
        }
        Operation::DeletePrefix(delete) => {
            let deleted = store.delete_prefix(&delete.prefix).await?;
            Outcome::Number(i64::try_from(deleted).unwrap_or(i64::MAX))
        }
        // Its answer may take long, and is not made here.
        Operation::Watch(_) => {
            return Err(CacheError::Unsupported {
                operation: "watch".to_owned(),
            });
        }
    })
}

async fn watch(store: &ComponentStore, watch: CacheWatch) -> Result<Handled, CacheError> {
    let changes = store.changes().await?;
    let Some(after) = watch.after else {
        let now = changes.now_for_peer(&watch.prefix);
        return Ok(Handled::Reply(wire::encode(wire::changes(
            Vec::new(),
            now,
            false,
        ))));
    };
    let mut poll = Poll {
        cursor: wire::read_cursor(after),
        wait: Duration::from_millis(watch.wait_ms.into()).min(LONGEST_WAIT),
        prefix: watch.prefix,
        changes,
    };
    poll.changes.asked_by_peer(&poll.prefix);
    let mut told = poll.changes.read(&poll.prefix, &mut poll.cursor);
    store.retain_visible(&mut told);
    if told.is_empty() && !poll.wait.is_zero() {
        return Ok(Handled::Waits(poll));
    }
    Ok(Handled::Reply(poll.reply(told, false)))
}

/// A watcher that waits for a change.
#[derive(Debug)]
pub(crate) struct Poll {
    changes: Changes,
    prefix: String,
    cursor: Cursor,
    wait: Duration,
}

impl Poll {
    fn reply(&self, told: Vec<Change>, crowded: bool) -> Bytes {
        wire::encode(wire::changes(told, self.cursor, crowded))
    }

    /// The answer where there is no room for one more that waits.
    pub(crate) fn crowded(self) -> Bytes {
        self.reply(Vec::new(), true)
    }

    /// The answer, when something has changed, or the wait is over, or `stopped`.
    pub(crate) async fn answer(
        mut self,
        store: &ComponentStore,
        stopped: impl Future<Output = ()>,
    ) -> Bytes {
        let changed = async {
            loop {
                let mut told = self.changes.next(&self.prefix, &mut self.cursor).await;
                store.retain_visible(&mut told);
                if !told.is_empty() {
                    return told;
                }
            }
        };
        let told = tokio::select! {
            told = tokio::time::timeout(self.wait, changed) => told.unwrap_or_default(),
            () = stopped => Vec::new(),
        };
        self.reply(told, false)
    }
}
