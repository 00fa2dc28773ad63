//! The cache service of another component.

use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use prost::Message as _;
use tokio::time::Instant;

use super::changes::Cursor;
use super::service::{self, Verb};
use super::session::Session;
use super::store::{lifetime, refuse_empty};
use super::{CacheError, Change, Page, Position, Swap, wire};
use crate::message::new_id;
use crate::message::proto::cache_reply::Outcome;
use crate::message::proto::cache_request::Operation;
use crate::message::proto::{
    CacheAdd, CacheChanges, CacheCompareAndSet, CacheDelete, CacheDeletePrefix, CacheGet,
    CacheReply, CacheRequest, CacheScan, CacheSet, CacheWatch,
};
use crate::socket::{Request, RequestError};

/// How long it takes until a request is repeated. The service may have been restarted meanwhile, and
/// then the request is lost.
const ATTEMPT: Duration = Duration::from_secs(1);

/// The same after several attempts, where an answer may take long: those that come again wait beside
/// each other.
const LONGEST_ATTEMPT: Duration = Duration::from_secs(8);

/// For how long a request is repeated that must not be carried out twice: services remember it for
/// two minutes.
const REPEATS: Duration = Duration::from_secs(60);

/// A value that may be sent to a service that turns out not to know the verb, in bytes.
const SMALL: usize = 4096;

/// How long the service may wait for a change, and an answer take beyond that.
const WATCH: Duration = Duration::from_secs(5);
const WATCH_ANSWER: Duration = Duration::from_secs(2);

/// How long a watcher waits for which the service has no room.
const CROWDED: Duration = Duration::from_secs(1);

/// The cache service of another component.
pub(super) struct Remote {
    pub(super) request: Request,
    /// The name in front of the verb. Services do not look at it.
    pub(super) server: String,
    pub(super) client: String,
    pub(super) timeout: Duration,
    /// Put in front of each key.
    pub(super) session: Session,
    pub(super) dialect: Dialect,
}

/// Which verbs the service turned out to know.
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

impl Remote {
    pub(super) async fn get(&self, key: &str) -> Result<Option<Bytes>, CacheError> {
        let full_key = self.full(key);
        if self.dialect.is(Dialect::UNKNOWN) {
            let reply = self.ask(Verb::Find, &full_key, Bytes::new()).await?;
            if let Some(found) = service::found(reply) {
                self.dialect.set(Dialect::PALM);
                return Ok(found);
            }
            // It failed, and `store` says why, or the service is a legacy one.
        }
        if !self.is_old() {
            let get = CacheGet {
                key: full_key.clone(),
            };
            match self.operate(key, Operation::Get(get)).await {
                Ok(Outcome::Found(found)) => return Ok(found.value),
                Ok(_) => return Err(self.senseless()),
                Err(CacheError::Unsupported { .. }) => self.dialect.set(Dialect::LEGACY),
                Err(error) => return Err(error),
            }
        }
        let value = self.ask(Verb::Get, &full_key, Bytes::new()).await?;
        Ok(Some(value).filter(|value| !value.is_empty()))
    }

    pub(super) async fn set(
        &self,
        key: &str,
        value: Bytes,
        ttl: Option<Duration>,
    ) -> Result<(), CacheError> {
        refuse_empty(key)?;
        let ttl = lifetime(ttl)?;
        let full_key = self.full(key);
        // A service that does not know `store` would receive a large value twice, so it is asked first.
        if self.dialect.is(Dialect::UNKNOWN) && value.len() > SMALL {
            let get = CacheGet {
                key: full_key.clone(),
            };
            match self.operate(key, Operation::Get(get)).await {
                Err(CacheError::Unsupported { .. }) => self.dialect.set(Dialect::LEGACY),
                Err(error @ (CacheError::Timeout { .. } | CacheError::Closed)) => {
                    return Err(error);
                }
                // It may not be able to read, and still to write.
                _ => self.dialect.set(Dialect::PALM),
            }
        }
        if !self.is_old() || ttl.is_some() {
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
                Ok(_) => return Err(self.senseless()),
                Err(CacheError::Unsupported { .. })
                    if ttl.is_none() && !self.dialect.is(Dialect::PALM) =>
                {
                    self.dialect.set(Dialect::LEGACY);
                }
                Err(error) => return Err(error),
            }
        }
        let reply = self.ask(Verb::Set, &full_key, value).await?;
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
        if !self.is_old() {
            match self.operate(key, Operation::Delete(delete)).await {
                Ok(Outcome::Done(_)) => return Ok(()),
                Ok(_) => return Err(self.senseless()),
                Err(CacheError::Unsupported { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        // pylm's service ends for ever when asked to delete a key that it does not have.
        let value = self.ask(Verb::Get, &full_key, Bytes::new()).await?;
        if value.is_empty() {
            return Ok(());
        }
        let reply = self.ask(Verb::Delete, &full_key, Bytes::new()).await?;
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
        refuse_empty(key)?;
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
            _ => Err(self.senseless()),
        }
    }

    pub(super) async fn add(&self, key: &str, amount: i64) -> Result<i64, CacheError> {
        refuse_empty(key)?;
        let full_key = self.full(key);
        let add = CacheAdd {
            key: full_key,
            amount,
        };
        match self.operate(key, Operation::Add(add)).await? {
            Outcome::Number(sum) => Ok(sum),
            _ => Err(self.senseless()),
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
            return Err(self.senseless());
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
            _ => Err(self.senseless()),
        }
    }

    /// Where a watcher begins that wants to know what happens from now on.
    pub(super) async fn now(&self, prefix: &str) -> Result<Cursor, CacheError> {
        let operation = self.watch(prefix, None, Duration::ZERO);
        match self.operate(prefix, operation).await? {
            Outcome::Changes(CacheChanges {
                next: Some(next), ..
            }) => Ok(wire::read_cursor(next)),
            _ => Err(self.senseless()),
        }
    }

    /// The changes from `cursor` on, as soon as there is one, and moves it behind them. Cancel safe.
    pub(super) async fn next(
        &self,
        prefix: &str,
        cursor: &mut Cursor,
    ) -> Result<Vec<Change>, CacheError> {
        let mut left = self.timeout;
        loop {
            let operation = self.watch(prefix, Some(*cursor), WATCH);
            let body = self.body(operation.clone(), Bytes::new());
            let reply = match self.request.request(body, WATCH + WATCH_ANSWER).await {
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
            let Outcome::Changes(told) = self.read(reply, prefix, &operation)? else {
                return Err(self.senseless());
            };
            if let Some(next) = told.next {
                *cursor = wire::read_cursor(next);
            }
            let mut changes = Vec::with_capacity(told.changes.len());
            if told.lagged {
                changes.push(Change::Lagged);
            }
            changes.extend(told.changes.into_iter().map(wire::read_change));
            if !changes.is_empty() {
                let shorten = |change: Change| change.with_key(|key| self.without_session(key));
                return Ok(changes.into_iter().map(shorten).collect());
            }
            if told.crowded {
                tokio::time::sleep(CROWDED).await;
            }
        }
    }

    fn watch(&self, prefix: &str, after: Option<Cursor>, wait: Duration) -> Operation {
        Operation::Watch(CacheWatch {
            prefix: self.full(prefix),
            after: after.map(wire::cursor),
            wait_ms: u32::try_from(wait.as_millis()).unwrap_or(u32::MAX),
        })
    }

    fn is_old(&self) -> bool {
        self.dialect.is(Dialect::LEGACY)
    }

    fn full(&self, key: &str) -> String {
        self.session.full(key)
    }

    fn without_session(&self, key: String) -> String {
        self.session.without(key)
    }

    async fn ask(&self, verb: Verb, key: &str, value: Bytes) -> Result<Bytes, CacheError> {
        let body = service::request(&self.server, &self.client, verb, key, value);
        self.ask_again(body, self.timeout, ATTEMPT).await
    }

    fn body(&self, operation: Operation, id: Bytes) -> Bytes {
        let operation = Some(operation);
        let request = CacheRequest { id, operation }.encode_to_vec();
        service::request(&self.server, &self.client, Verb::Store, "", request.into())
    }

    /// Asks for what the verbs of old cannot do. `key` is what errors name.
    async fn operate(&self, key: &str, operation: Operation) -> Result<Outcome, CacheError> {
        let (id, timeout) = match operation {
            Operation::CompareAndSet(_) | Operation::Add(_) | Operation::DeletePrefix(_) => {
                (new_id().into_bytes(), self.timeout.min(REPEATS))
            }
            _ => (Bytes::new(), self.timeout),
        };
        let body = self.body(operation.clone(), id);
        let reply = self.ask_again(body, timeout, LONGEST_ATTEMPT).await?;
        self.read(reply, key, &operation)
    }

    fn read(&self, reply: Bytes, key: &str, operation: &Operation) -> Result<Outcome, CacheError> {
        if reply.is_empty() {
            return Err(CacheError::Unsupported {
                operation: wire::describe(operation).to_owned(),
            });
        }
        let reply = CacheReply::decode(reply).map_err(|_| self.senseless())?;
        match reply.outcome {
            Some(Outcome::Failure(failure)) => Err(wire::read_failure(failure, key, operation)),
            Some(outcome) => Ok(outcome),
            None => Err(self.senseless()),
        }
    }

    /// Sends a request, and repeats it until it is answered: after a second, then at intervals that double up to
    /// `longest`. The answer to any of the attempts counts, since a store may need longer than one lasts.
    async fn ask_again(
        &self,
        body: Bytes,
        timeout: Duration,
        longest: Duration,
    ) -> Result<Bytes, CacheError> {
        let end = Instant::now() + timeout;
        let ask = || {
            let left = end.saturating_duration_since(Instant::now());
            self.request.request(body.clone(), left)
        };
        let mut attempts: FuturesUnordered<_> = std::iter::once(ask()).collect();
        let mut attempt = ATTEMPT;
        loop {
            tokio::select! {
                Some(asked) = attempts.next() => return match asked {
                    Ok(reply) => Ok(reply),
                    Err(RequestError::Closed(_)) => Err(CacheError::Closed),
                    // All attempts end together.
                    Err(RequestError::Timeout { .. }) => Err(self.timed_out(timeout)),
                },
                () = tokio::time::sleep(attempt) => {
                    attempts.push(ask());
                    attempt = (2 * attempt).min(longest);
                }
            }
        }
    }

    fn timed_out(&self, waited: Duration) -> CacheError {
        let address = self.request.address().to_string();
        CacheError::Timeout { address, waited }
    }

    fn senseless(&self) -> CacheError {
        let address = self.request.address().to_string();
        CacheError::Answer { address }
    }
}
