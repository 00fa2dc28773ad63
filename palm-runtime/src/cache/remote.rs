//! [`RemoteCache`]: a client of the cache service of another component.
//!
//! A request is sent over REQ-like sockets that may lose it when the service restarts, so it is repeated until a reply
//! arrives, and the reply to any repetition counts. Requests that must not be performed twice carry an id, see
//! `idempotency`. Services of pylm know only the verbs `get`, `set` and `delete`, so the client finds out which verbs a
//! service knows ([`Dialect`]) from its first replies.

use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use prost::Message as _;
use tokio::time::Instant;

use super::change_log::ChangeCursor;
use super::service::{self, Verb};
use super::session::Session;
use super::store::{lifetime, reject_empty};
use super::{CacheError, Change, Page, Position, Swap, wire};
use crate::message::new_id;
use crate::message::proto::cache_reply::Outcome;
use crate::message::proto::cache_request::Operation;
use crate::message::proto::{
    CacheAdd, CacheChanges, CacheCompareAndSet, CacheDelete, CacheDeletePrefix, CacheGet,
    CacheReply, CacheRequest, CacheScan, CacheSet, CacheWatch,
};
use crate::socket::{Request, RequestError};

/// Time until a request without a reply is repeated. It is lost if the service was restarted meanwhile.
const FIRST_REPEAT_DELAY: Duration = Duration::from_secs(1);

/// Upper bound on that time, which doubles with each repetition. A store may need long for a reply, and repeated
/// requests occupy the service.
const MAX_REPEAT_DELAY: Duration = Duration::from_secs(8);

/// Time for which a request that must not be performed twice is repeated. Services keep its reply for two minutes.
const MAX_REPEAT_TIME: Duration = Duration::from_secs(60);

/// Largest value, in bytes, that is sent to a service before its dialect is known.
const MAX_UNPROBED_VALUE: usize = 4096;

/// Time that the service waits for a change before it replies, and the time that the reply may take beyond that.
const WATCH_WAIT: Duration = Duration::from_secs(5);
const WATCH_REPLY_TIMEOUT: Duration = Duration::from_secs(2);

/// Delay until a watcher polls again if the service has too many watchers.
const CROWDED_DELAY: Duration = Duration::from_secs(1);

/// A client of the cache service of another component.
pub(super) struct RemoteCache {
    pub(super) request: Request,
    /// The name that precedes the verb. Services ignore it.
    pub(super) server: String,
    pub(super) client: String,
    pub(super) timeout: Duration,
    /// Adds its prefix to each key.
    pub(super) session: Session,
    pub(super) dialect: Dialect,
}

/// The verbs that the service supports, according to its replies.
#[derive(Debug, Default)]
pub(super) struct Dialect(AtomicU8);

impl Dialect {
    const UNKNOWN: u8 = 0;
    /// Neither `find` nor `store`.
    const LEGACY: u8 = 1;
    const PALM: u8 = 2;

    fn is(&self, dialect: u8) -> bool {
        self.0.load(Ordering::Relaxed) == dialect
    }

    fn set(&self, dialect: u8) {
        self.0.store(dialect, Ordering::Relaxed);
    }
}

impl RemoteCache {
    pub(super) async fn get(&self, key: &str) -> Result<Option<Bytes>, CacheError> {
        let full_key = self.full(key);
        if !self.is_legacy() {
            let get = CacheGet {
                key: full_key.clone(),
            };
            match self.operate(key, Operation::Get(get)).await {
                Ok(Outcome::Found(found)) => {
                    self.dialect.set(Dialect::PALM);
                    return Ok(found.value);
                }
                Ok(_) => return Err(self.malformed_reply()),
                Err(CacheError::Unsupported { .. }) => self.dialect.set(Dialect::LEGACY),
                Err(error) => return Err(error),
            }
        }
        let value = self.request_key(Verb::Get, &full_key, Bytes::new()).await?;
        Ok(Some(value).filter(|value| !value.is_empty()))
    }

    pub(super) async fn set(
        &self,
        key: &str,
        value: Bytes,
        ttl: Option<Duration>,
    ) -> Result<(), CacheError> {
        reject_empty(key)?;
        let ttl = lifetime(ttl)?;
        let full_key = self.full(key);
        // A legacy service would receive the value twice, so a large value is preceded by a small request.
        if self.dialect.is(Dialect::UNKNOWN) && value.len() > MAX_UNPROBED_VALUE {
            let get = CacheGet {
                key: full_key.clone(),
            };
            match self.operate(key, Operation::Get(get)).await {
                Err(CacheError::Unsupported { .. }) => self.dialect.set(Dialect::LEGACY),
                Err(error @ (CacheError::Timeout { .. } | CacheError::Closed)) => {
                    return Err(error);
                }
                // A store that cannot be read may still be writable.
                _ => self.dialect.set(Dialect::PALM),
            }
        }
        if !self.is_legacy() || ttl.is_some() {
            let set = CacheSet {
                key: full_key.clone(),
                value: value.clone(),
                ttl_ms: wire::ttl_ms(ttl),
            };
            match self.operate(key, Operation::Set(set)).await {
                Ok(Outcome::Done(_)) => {
                    self.dialect.set(Dialect::PALM);
                    return Ok(());
                }
                Ok(_) => return Err(self.malformed_reply()),
                Err(CacheError::Unsupported { .. })
                    if ttl.is_none() && !self.dialect.is(Dialect::PALM) =>
                {
                    self.dialect.set(Dialect::LEGACY);
                }
                Err(error) => return Err(error),
            }
        }
        let reply = self.request_key(Verb::Set, &full_key, value).await?;
        match reply.is_empty() {
            true => Err(CacheError::Refused {
                key: key.to_owned(),
            }),
            false => Ok(()),
        }
    }

    pub(super) async fn delete(&self, key: &str) -> Result<(), CacheError> {
        let full_key = self.full(key);
        let delete = CacheDelete {
            key: full_key.clone(),
        };
        if !self.is_legacy() {
            match self.operate(key, Operation::Delete(delete)).await {
                Ok(Outcome::Done(_)) => return Ok(()),
                Ok(_) => return Err(self.malformed_reply()),
                Err(CacheError::Unsupported { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        // The service of pylm crashes when it deletes an absent key.
        let value = self.request_key(Verb::Get, &full_key, Bytes::new()).await?;
        if value.is_empty() {
            return Ok(());
        }
        let reply = self
            .request_key(Verb::Delete, &full_key, Bytes::new())
            .await?;
        if reply.is_empty() {
            return Err(CacheError::Refused {
                key: key.to_owned(),
            });
        }
        Ok(())
    }

    pub(super) async fn compare_and_set(
        &self,
        key: &str,
        expected: Option<Bytes>,
        new: Option<Bytes>,
        ttl: Option<Duration>,
    ) -> Result<Swap, CacheError> {
        reject_empty(key)?;
        let ttl = lifetime(ttl)?;
        let swap = CacheCompareAndSet {
            key: self.full(key),
            expected,
            new,
            ttl_ms: wire::ttl_ms(ttl),
        };
        match self.operate(key, Operation::CompareAndSet(swap)).await? {
            Outcome::Done(_) => Ok(Swap::Done),
            Outcome::Differs(differs) => Ok(Swap::Differs {
                current: differs.current,
            }),
            _ => Err(self.malformed_reply()),
        }
    }

    pub(super) async fn add(&self, key: &str, amount: i64) -> Result<i64, CacheError> {
        reject_empty(key)?;
        let full_key = self.full(key);
        let add = CacheAdd {
            key: full_key,
            amount,
        };
        match self.operate(key, Operation::Add(add)).await? {
            Outcome::Number(sum) => Ok(sum),
            _ => Err(self.malformed_reply()),
        }
    }

    pub(super) async fn scan(
        &self,
        prefix: &str,
        after: Option<Position>,
    ) -> Result<Page, CacheError> {
        let scan = CacheScan {
            prefix: self.full(prefix),
            after: after.map(|after| after.as_str().to_owned()),
            entries: 0,
        };
        let Outcome::Page(page) = self.operate(prefix, Operation::Scan(scan)).await? else {
            return Err(self.malformed_reply());
        };
        let mut page = wire::read_page(page);
        for entry in &mut page.entries {
            entry.key = self.without_session(std::mem::take(&mut entry.key));
        }
        Ok(page)
    }

    pub(super) async fn delete_prefix(&self, prefix: &str) -> Result<u64, CacheError> {
        let delete = CacheDeletePrefix {
            prefix: self.full(prefix),
        };
        match self
            .operate(prefix, Operation::DeletePrefix(delete))
            .await?
        {
            Outcome::Number(deleted) => Ok(deleted.unsigned_abs()),
            _ => Err(self.malformed_reply()),
        }
    }

    /// Returns the cursor of a watcher that begins now.
    pub(super) async fn now(&self, prefix: &str) -> Result<ChangeCursor, CacheError> {
        let operation = self.watch(prefix, None, Duration::ZERO);
        match self.operate(prefix, operation).await? {
            Outcome::Changes(CacheChanges {
                next: Some(next), ..
            }) => Ok(wire::read_cursor(next)),
            _ => Err(self.malformed_reply()),
        }
    }

    /// Waits for changes from `cursor` on, and advances the cursor. Cancel safe.
    pub(super) async fn next(
        &self,
        prefix: &str,
        cursor: &mut ChangeCursor,
    ) -> Result<Vec<Change>, CacheError> {
        let mut left = self.timeout;
        loop {
            let operation = self.watch(prefix, Some(*cursor), WATCH_WAIT);
            let body = self.body(operation.clone(), Bytes::new());
            let reply = match self
                .request
                .request(body, WATCH_WAIT + WATCH_REPLY_TIMEOUT)
                .await
            {
                Ok(reply) => reply,
                Err(RequestError::Closed(_)) => return Err(CacheError::Closed),
                Err(RequestError::Timeout { waited }) => {
                    left = left.saturating_sub(waited);
                    if left.is_zero() {
                        return Err(self.timed_out(self.timeout));
                    }
                    continue;
                }
            };
            left = self.timeout;
            let Outcome::Changes(polled) = self.read(reply, prefix, &operation)? else {
                return Err(self.malformed_reply());
            };
            if let Some(next) = polled.next {
                *cursor = wire::read_cursor(next);
            }
            let mut changes = Vec::with_capacity(polled.changes.len());
            if polled.lagged {
                changes.push(Change::Lagged);
            }
            changes.extend(polled.changes.into_iter().map(wire::read_change));
            if !changes.is_empty() {
                let shorten = |change: Change| change.with_key(|key| self.without_session(key));
                return Ok(changes.into_iter().map(shorten).collect());
            }
            if polled.crowded {
                tokio::time::sleep(CROWDED_DELAY).await;
            }
        }
    }

    fn watch(&self, prefix: &str, after: Option<ChangeCursor>, wait: Duration) -> Operation {
        Operation::Watch(CacheWatch {
            prefix: self.full(prefix),
            after: after.map(wire::cursor),
            wait_ms: u32::try_from(wait.as_millis()).unwrap_or(u32::MAX),
        })
    }

    fn is_legacy(&self) -> bool {
        self.dialect.is(Dialect::LEGACY)
    }

    fn full(&self, key: &str) -> String {
        self.session.full(key)
    }

    fn without_session(&self, key: String) -> String {
        self.session.without(key)
    }

    async fn request_key(&self, verb: Verb, key: &str, value: Bytes) -> Result<Bytes, CacheError> {
        let body = service::request(&self.server, &self.client, verb, key, value);
        self.request_repeatedly(body, self.timeout, FIRST_REPEAT_DELAY)
            .await
    }

    fn body(&self, operation: Operation, id: Bytes) -> Bytes {
        let operation = Some(operation);
        let request = CacheRequest { id, operation }.encode_to_vec();
        service::request(&self.server, &self.client, Verb::Store, "", request.into())
    }

    /// Sends an operation of the verb `store`. Errors name `key`.
    async fn operate(&self, key: &str, operation: Operation) -> Result<Outcome, CacheError> {
        let (id, timeout) = match operation {
            Operation::CompareAndSet(_) | Operation::Add(_) | Operation::DeletePrefix(_) => {
                (new_id().into_bytes(), self.timeout.min(MAX_REPEAT_TIME))
            }
            _ => (Bytes::new(), self.timeout),
        };
        let body = self.body(operation.clone(), id);
        let reply = self
            .request_repeatedly(body, timeout, MAX_REPEAT_DELAY)
            .await?;
        self.read(reply, key, &operation)
    }

    fn read(&self, reply: Bytes, key: &str, operation: &Operation) -> Result<Outcome, CacheError> {
        if reply.is_empty() {
            return Err(CacheError::Unsupported {
                operation: wire::describe(operation).to_owned(),
            });
        }
        let reply = CacheReply::decode(reply).map_err(|_| self.malformed_reply())?;
        match reply.outcome {
            Some(Outcome::Failure(failure)) => Err(wire::read_failure(failure, key, operation)),
            Some(outcome) => Ok(outcome),
            None => Err(self.malformed_reply()),
        }
    }

    /// Sends a request, and repeats it until a reply arrives: after a second, then at intervals that double up to
    /// `max_delay`. The reply to any repetition counts, because a store may need longer than one interval.
    async fn request_repeatedly(
        &self,
        body: Bytes,
        timeout: Duration,
        max_delay: Duration,
    ) -> Result<Bytes, CacheError> {
        let end = Instant::now() + timeout;
        let send = || {
            let left = end.saturating_duration_since(Instant::now());
            self.request.request(body.clone(), left)
        };
        let mut attempts: FuturesUnordered<_> = std::iter::once(send()).collect();
        let mut attempt = FIRST_REPEAT_DELAY;
        loop {
            tokio::select! {
                Some(result) = attempts.next() => return match result {
                    Ok(reply) => Ok(reply),
                    Err(RequestError::Closed(_)) => Err(CacheError::Closed),
                    // All repetitions have the same deadline.
                    Err(RequestError::Timeout { .. }) => Err(self.timed_out(timeout)),
                },
                () = tokio::time::sleep(attempt) => {
                    attempts.push(send());
                    attempt = (2 * attempt).min(max_delay);
                }
            }
        }
    }

    fn timed_out(&self, waited: Duration) -> CacheError {
        let address = self.request.address().to_string();
        CacheError::Timeout { address, waited }
    }

    fn malformed_reply(&self) -> CacheError {
        let address = self.request.address().to_string();
        CacheError::Answer { address }
    }
}
