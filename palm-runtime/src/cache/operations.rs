//! The verb `store` of the cache service: decodes an operation, performs it on the store, and encodes the reply.

use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;

use super::change_log::ChangeCursor;
use super::idempotency::{IdempotencyCache, MAX_ID_BYTES};
use super::overlay::LiveKeys;
use super::service_error::ServiceError;
use super::{CacheError, Change, ChangeLog, ComponentStore, PageLimits, Position, wire};
use crate::failure::catch_panic;
use crate::message::proto::cache_reply::Outcome;
use crate::message::proto::cache_request::Operation;
use crate::message::proto::{CacheRequest, CacheWatch};

/// Upper bound on the time that a watcher may wait for a change.
const MAX_WATCH_WAIT: Duration = Duration::from_secs(30);

/// The outcome of a request.
#[derive(Debug)]
pub(crate) enum Handled {
    Reply(Bytes),
    /// The request of a watcher, which is answered when a key changes.
    Waits(Poll),
}

/// A rejected request: the reply, and the error for the log.
#[derive(Debug)]
pub(crate) struct RejectedRequest {
    pub(crate) reply: Bytes,
    pub(crate) error: ServiceError,
}

impl<E: Into<ServiceError>> From<E> for RejectedRequest {
    /// Replies with an empty frame, as legacy services do for every error.
    fn from(error: E) -> Self {
        let (reply, error) = (Bytes::new(), error.into());
        Self { reply, error }
    }
}

impl RejectedRequest {
    fn with_reply(outcome: Outcome, error: ServiceError) -> Self {
        let reply = wire::encode(outcome);
        Self { reply, error }
    }

    fn cache(error: CacheError) -> Self {
        Self::with_reply(wire::failure(&error), error.into())
    }
}

/// Performs one operation. The reply is always a `CacheReply`, because an empty reply means that the service does not
/// know the verb.
pub(super) async fn handle(
    store: &ComponentStore,
    live: &impl LiveKeys,
    idempotency: &IdempotencyCache,
    payload: Bytes,
) -> Result<Handled, RejectedRequest> {
    let handled = async {
        let request = CacheRequest::decode(payload)
            .map_err(|error| malformed(&format!("the request cannot be read: {error}")))?;
        if request.id.len() > MAX_ID_BYTES {
            return Err(malformed("the id of the request is too long"));
        }
        match request.operation {
            None => Err(RejectedRequest::cache(CacheError::Unsupported {
                operation: "do what it is asked for".to_owned(),
            })),
            Some(Operation::Watch(watch)) => self::watch(store, watch)
                .await
                .map_err(RejectedRequest::cache),
            // Replies to reads are not kept: reads may be repeated, and their replies may be large.
            Some(operation) if request.id.is_empty() || only_reads(&operation) => {
                let outcome = carry_out(store, live, operation).await;
                let outcome = outcome.map_err(RejectedRequest::cache)?;
                Ok(Handled::Reply(wire::encode(outcome)))
            }
            Some(operation) => once(store, live, idempotency, &request.id, operation).await,
        }
    };
    catch_panic(handled, |panic| {
        let error = CacheError::Store(format!("the store {panic}").into());
        let reply = wire::failure(&error);
        Err(RejectedRequest::with_reply(
            reply,
            ServiceError::Panicked(panic),
        ))
    })
    .await
}

fn only_reads(operation: &Operation) -> bool {
    matches!(
        operation,
        Operation::Get(_) | Operation::Scan(_) | Operation::Watch(_)
    )
}

fn malformed(why: &str) -> RejectedRequest {
    RejectedRequest::with_reply(
        wire::malformed(why),
        ServiceError::Malformed(why.to_owned()),
    )
}

/// Performs an operation that must not be performed twice, unless its reply is known.
async fn once(
    store: &ComponentStore,
    live: &impl LiveKeys,
    idempotency: &IdempotencyCache,
    id: &Bytes,
    operation: Operation,
) -> Result<Handled, RejectedRequest> {
    let mut rejected = None;
    let reply = idempotency
        .once(id, || async {
            match carry_out(store, live, operation).await {
                // Nothing was changed, so the reply is not kept.
                Ok(outcome @ Outcome::Differs(_)) => Err(wire::encode(outcome)),
                Ok(outcome) => Ok(wire::encode(outcome)),
                Err(error) => {
                    let RejectedRequest { reply, error } = RejectedRequest::cache(error);
                    rejected = Some(error);
                    Err(reply)
                }
            }
        })
        .await;
    match rejected {
        Some(error) => Err(RejectedRequest { reply, error }),
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
                limits.max_entries = limits.max_entries.min(scan.entries as usize);
            }
            let after = scan.after.map(Position::new);
            wire::page(store.scan(&scan.prefix, after, limits).await?)
        }
        Operation::DeletePrefix(delete) => {
            let deleted = store.delete_prefix(&delete.prefix).await?;
            Outcome::Number(i64::try_from(deleted).unwrap_or(i64::MAX))
        }
        // Handled by `watch`, because its reply may take long.
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
        let now = changes.cursor_for_peer(&watch.prefix);
        return Ok(Handled::Reply(wire::encode(wire::changes(
            Vec::new(),
            now,
            false,
        ))));
    };
    let mut poll = Poll {
        cursor: wire::read_cursor(after),
        wait: Duration::from_millis(watch.wait_ms.into()).min(MAX_WATCH_WAIT),
        prefix: watch.prefix,
        changes,
    };
    poll.changes.keep_peer_prefix(&poll.prefix);
    let mut found = poll.changes.read(&poll.prefix, &mut poll.cursor);
    store.retain_visible(&mut found);
    if found.is_empty() && !poll.wait.is_zero() {
        return Ok(Handled::Waits(poll));
    }
    Ok(Handled::Reply(poll.reply(found, false)))
}

/// The request of a watcher that waits for a change (long polling).
#[derive(Debug)]
pub(crate) struct Poll {
    changes: ChangeLog,
    prefix: String,
    cursor: ChangeCursor,
    wait: Duration,
}

impl Poll {
    fn reply(&self, changes: Vec<Change>, crowded: bool) -> Bytes {
        wire::encode(wire::changes(changes, self.cursor, crowded))
    }

    /// Returns the reply if too many watchers wait. The peer polls again after a delay.
    pub(crate) fn crowded(self) -> Bytes {
        self.reply(Vec::new(), true)
    }

    /// Returns the reply when a key has changed, the wait is over, or `stopped` completes.
    pub(crate) async fn answer(
        mut self,
        store: &ComponentStore,
        stopped: impl Future<Output = ()>,
    ) -> Bytes {
        let changed = async {
            loop {
                let mut found = self.changes.next(&self.prefix, &mut self.cursor).await;
                store.retain_visible(&mut found);
                if !found.is_empty() {
                    return found;
                }
            }
        };
        let found = tokio::select! {
            found = tokio::time::timeout(self.wait, changed) => found.unwrap_or_default(),
            () = stopped => Vec::new(),
        };
        self.reply(found, false)
    }
}
