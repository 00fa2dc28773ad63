//! Encoding of the verb `store`: replies, changes, and errors, which a client receives as the service had them.

use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;

use super::{CacheError, Change, Entry, Page, Position, Swap};
use crate::failure::chain;
use crate::message::proto::cache_failure::Kind;
use crate::message::proto::cache_reply::Outcome;
use crate::message::proto::cache_request::Operation;
use crate::message::proto::{
    CacheChange, CacheChanges, CacheCursor, CacheDiffers, CacheDone, CacheEntry, CacheFailure,
    CacheFound, CachePage, CacheReply,
};

use super::change_log::ChangeCursor;

/// Encodes a reply. It is never empty, because an empty reply comes from a service that does not know the verb.
pub(super) fn encode(outcome: Outcome) -> Bytes {
    let outcome = Some(outcome);
    CacheReply { outcome }.encode_to_vec().into()
}

pub(super) fn ttl(ms: u64) -> Option<Duration> {
    (ms > 0).then(|| Duration::from_millis(ms))
}

/// Converts a time to live to milliseconds, rounded up.
pub(super) fn ttl_ms(ttl: Option<Duration>) -> u64 {
    ttl.map_or(0, |ttl| {
        let ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        let part = u64::from(!ttl.subsec_nanos().is_multiple_of(1_000_000));
        ms.saturating_add(part).max(1)
    })
}

/// Returns the name of an operation for errors.
pub(super) fn describe(operation: &Operation) -> &'static str {
    match operation {
        Operation::Get(_) => "get",
        Operation::Set(_) => "set for a time",
        Operation::Delete(_) => "delete",
        Operation::CompareAndSet(_) => "compare and set",
        Operation::Add(_) => "add",
        Operation::Scan(_) => "scan",
        Operation::DeletePrefix(_) => "delete by prefix",
        Operation::Watch(_) => "watch",
    }
}

pub(super) fn done() -> Outcome {
    Outcome::Done(CacheDone {})
}

pub(super) fn found(value: Option<Bytes>) -> Outcome {
    Outcome::Found(CacheFound { value })
}

pub(super) fn swapped(swap: Swap) -> Outcome {
    match swap {
        Swap::Done => done(),
        Swap::Differs { current } => Outcome::Differs(CacheDiffers { current }),
    }
}

pub(super) fn page(page: Page) -> Outcome {
    let entries = page.entries.into_iter();
    let entries = entries.map(|Entry { key, value }| CacheEntry { key, value });
    Outcome::Page(CachePage {
        entries: entries.collect(),
        next: page.next.map(|next| next.as_str().to_owned()),
    })
}

pub(super) fn read_page(page: CachePage) -> Page {
    let entries = page.entries.into_iter();
    let entries = entries.map(|CacheEntry { key, value }| Entry { key, value });
    Page {
        entries: entries.collect(),
        next: page.next.map(Position::new),
    }
}

pub(super) fn cursor(cursor: ChangeCursor) -> CacheCursor {
    let ChangeCursor { record, number } = cursor;
    CacheCursor { record, number }
}

pub(super) fn read_cursor(cursor: CacheCursor) -> ChangeCursor {
    let CacheCursor { record, number } = cursor;
    ChangeCursor { record, number }
}

pub(super) fn changes(changes: Vec<Change>, next: ChangeCursor, crowded: bool) -> Outcome {
    let mut reply = CacheChanges {
        next: Some(cursor(next)),
        crowded,
        ..CacheChanges::default()
    };
    for change in changes {
        match change {
            Change::Set { key, value } => {
                let value = Some(value);
                reply.changes.push(CacheChange { key, value });
            }
            Change::Removed { key } => reply.changes.push(CacheChange { key, value: None }),
            Change::Lagged => reply.lagged = true,
        }
    }
    Outcome::Changes(reply)
}

pub(super) fn read_change(change: CacheChange) -> Change {
    let CacheChange { key, value } = change;
    match value {
        Some(value) => Change::Set { key, value },
        None => Change::Removed { key },
    }
}

/// Returns the outcome for a malformed request.
pub(super) fn malformed(why: impl Into<String>) -> Outcome {
    failed(Kind::Malformed, why.into(), 0, 0)
}

pub(super) fn failure(error: &CacheError) -> Outcome {
    let (kind, len, limit) = match error {
        CacheError::TooLarge {
            what: "key",
            len,
            limit,
        } => (Kind::KeyTooLarge, *len, *limit),
        CacheError::TooLarge { len, limit, .. } => (Kind::ValueTooLarge, *len, *limit),
        CacheError::EmptyKey => (Kind::EmptyKey, 0, 0),
        CacheError::Damaged { .. } => (Kind::Damaged, 0, 0),
        CacheError::Full { limit } => (Kind::Full, 0, *limit),
        CacheError::Reserved { .. } => (Kind::Reserved, 0, 0),
        CacheError::NotANumber { .. } => (Kind::NotANumber, 0, 0),
        CacheError::Overflow { .. } => (Kind::Overflow, 0, 0),
        CacheError::Position { .. } => (Kind::Position, 0, 0),
        CacheError::Unsupported { .. } => (Kind::Unsupported, 0, 0),
        _ => (Kind::Store, 0, 0),
    };
    // The kind says that the store failed, so the message has only the cause.
    let message = match error {
        CacheError::Store(source) => chain(&**source),
        error => chain(error),
    };
    failed(kind, message, len as u64, limit as u64)
}

fn failed(kind: Kind, message: String, len: u64, limit: u64) -> Outcome {
    Outcome::Failure(CacheFailure {
        kind: kind.into(),
        message,
        len,
        limit,
    })
}

/// Converts a failure to the error of the service. `key` is the key of the request, as the caller knows it.
pub(super) fn read_failure(failure: CacheFailure, key: &str, operation: &Operation) -> CacheError {
    let kind = failure.kind();
    let number = |number| usize::try_from(number).unwrap_or(usize::MAX);
    let (len, limit) = (number(failure.len), number(failure.limit));
    let key = key.to_owned();
    match kind {
        Kind::KeyTooLarge => CacheError::TooLarge {
            what: "key",
            len,
            limit,
        },
        Kind::ValueTooLarge => CacheError::TooLarge {
            what: "value",
            len,
            limit,
        },
        Kind::EmptyKey => CacheError::EmptyKey,
        // For a scan, only the message names the damaged key.
        Kind::Damaged if !matches!(operation, Operation::Scan(_)) => CacheError::Damaged { key },
        Kind::Full => CacheError::Full { limit },
        Kind::Reserved => CacheError::Reserved { key },
        Kind::NotANumber => CacheError::NotANumber { key },
        Kind::Overflow => CacheError::Overflow { key },
        Kind::Position => CacheError::Position {
            position: match operation {
                Operation::Scan(scan) => scan.after.clone().unwrap_or_default(),
                _ => String::new(),
            },
        },
        Kind::Unsupported => CacheError::Unsupported {
            operation: describe(operation).to_owned(),
        },
        Kind::Store | Kind::Damaged | Kind::Malformed => CacheError::Store(failure.message.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::proto::CacheScan;

    fn check(error: CacheError) {
        let expected = chain(&error);
        let reply = CacheReply::decode(encode(failure(&error))).unwrap();
        let Some(Outcome::Failure(failure)) = reply.outcome else {
            panic!("{reply:?} instead of a failure");
        };
        let operation = Operation::Scan(CacheScan {
            after: Some("there".into()),
            ..CacheScan::default()
        });
        let error = read_failure(failure, "k", &operation);
        assert_eq!(chain(&error), expected);
    }

    #[test]
    fn errors_survive_encoding() {
        for what in ["key", "value"] {
            let (len, limit) = (20, 10);
            check(CacheError::TooLarge { what, len, limit });
        }
        check(CacheError::EmptyKey);
        check(CacheError::Full { limit: 10 });
        check(CacheError::Reserved { key: "k".into() });
        check(CacheError::NotANumber { key: "k".into() });
        check(CacheError::Overflow { key: "k".into() });
        check(CacheError::Position {
            position: "there".into(),
        });
        check(CacheError::Unsupported {
            operation: "scan".into(),
        });
        check(CacheError::Store("the disk is full".into()));
    }

    #[test]
    fn replies_are_never_empty_and_times_are_rounded_up() {
        for outcome in [
            done(),
            found(None),
            Outcome::Number(0),
            page(Page::default()),
        ] {
            assert!(!encode(outcome).is_empty());
        }
        assert_eq!(ttl_ms(None), 0);
        assert_eq!(ttl_ms(Some(Duration::ZERO)), 1);
        assert_eq!(ttl_ms(Some(Duration::from_micros(1001))), 2);
        assert_eq!(ttl_ms(Some(Duration::MAX)), u64::MAX);
        assert_eq!(
            ttl(ttl_ms(Some(Duration::from_secs(1)))),
            Some(Duration::from_secs(1))
        );
    }
}
