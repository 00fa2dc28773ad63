//! Model test: stores and a map have the same results for any sequence of requests.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;

use super::store::sum;
use super::{Change, KeyValue, MemoryStore, PageLimits, Swap};

#[derive(Debug, Clone)]
enum Operation {
    Get(String),
    Set(String, Bytes, bool),
    Delete(String),
    CompareAndSet(String, Option<Bytes>, Option<Bytes>),
    Add(String, i64),
    Scan(String, usize),
    DeletePrefix(String),
    Reopen,
}

fn operation() -> impl Strategy<Value = Operation> {
    // Few keys and values, so that requests meet the same keys. One key is not ASCII.
    let key = || prop_oneof!["[ab]{0,3}", Just("a\u{fc}".to_owned())];
    let value = || prop_oneof!["[0-9]{0,2}", "x{0,20}"].prop_map(Bytes::from);
    let maybe = move || proptest::option::of(value());
    prop_oneof![
        2 => key().prop_map(Operation::Get),
        4 => (key(), value(), any::<bool>()).prop_map(|(k, v, ends)| Operation::Set(k, v, ends)),
        2 => key().prop_map(Operation::Delete),
        3 => (key(), maybe(), maybe()).prop_map(|(k, old, new)| Operation::CompareAndSet(k, old, new)),
        2 => (key(), any::<i64>()).prop_map(|(k, n)| Operation::Add(k, n)),
        2 => ("[ab]{0,2}", 1..4usize).prop_map(|(k, n)| Operation::Scan(k, n)),
        1 => "[ab]{1,2}".prop_map(Operation::DeletePrefix),
        1 => Just(Operation::Reopen),
    ]
}

type Model = BTreeMap<String, Bytes>;

fn below<'a>(model: &'a Model, prefix: &'a str) -> impl Iterator<Item = (&'a String, &'a Bytes)> {
    model.iter().filter(move |(key, _)| key.starts_with(prefix))
}

async fn scan(store: &impl KeyValue, prefix: &str, entries: usize) -> Vec<(String, Bytes)> {
    let bytes = usize::MAX;
    let mut found = Vec::new();
    let mut after = None;
    loop {
        let limits = PageLimits::new().max_entries(entries).max_bytes(bytes);
        let page = store.scan(prefix, after, limits).await.unwrap();
        assert!(page.entries.len() <= entries);
        found.extend(
            page.entries
                .into_iter()
                .map(|entry| (entry.key, entry.value)),
        );
        after = page.next;
        if after.is_none() {
            return found;
        }
    }
}

/// Performs one request on the store and on the model, and compares the results.
async fn step(store: &impl KeyValue, model: &mut Model, operation: Operation) {
    const LONG: Duration = Duration::from_secs(1000);
    match operation {
        Operation::Get(key) => {
            assert_eq!(store.get(&key).await.unwrap(), model.get(&key).cloned());
        }
        Operation::Set(key, value, ends) => {
            let ttl = ends.then_some(LONG);
            store.set(&key, value.clone(), ttl).await.unwrap();
            model.insert(key, value);
        }
        Operation::Delete(key) => {
            let was_there = model.remove(&key).is_some();
            assert_eq!(store.delete(&key).await.unwrap(), was_there);
        }
        Operation::CompareAndSet(key, expected, new) => {
            let current = model.get(&key).cloned();
            let swap = store.compare_and_set(&key, expected.clone(), new.clone(), Some(LONG));
            let swap = swap.await.unwrap();
            if current != expected {
                assert_eq!(swap, Swap::Differs { current });
                return;
            }
            assert_eq!(swap, Swap::Done);
            match new {
                Some(value) => model.insert(key, value),
                None => model.remove(&key),
            };
        }
        Operation::Add(key, amount) => {
            let value = model.get(&key).map(|value| &value[..]);
            let expected = sum(&key, value, amount);
            if let Ok(sum) = expected {
                model.insert(key.clone(), sum.to_string().into());
            }
            let comparable =
                |sum: Result<i64, super::CacheError>| sum.map_err(|error| error.to_string());
            assert_eq!(
                comparable(store.add(&key, amount).await),
                comparable(expected)
            );
        }
        Operation::Scan(prefix, entries) => {
            let expected = below(model, &prefix).map(|(key, value)| (key.clone(), value.clone()));
            let expected: Vec<_> = expected.collect();
            assert_eq!(scan(store, &prefix, entries).await, expected);
        }
        Operation::DeletePrefix(prefix) => {
            let count = below(model, &prefix).count() as u64;
            model.retain(|key, _| !key.starts_with(&prefix));
            assert_eq!(store.delete_prefix(&prefix).await.unwrap(), count);
        }
        Operation::Reopen => {}
    }
}

/// Checks that a copy made from the reported changes equals the store.
async fn check_watched(
    store: &impl KeyValue,
    seen: &mut Model,
    cursor: &mut super::change_log::ChangeCursor,
) {
    for change in store.changes().await.unwrap().read("", cursor) {
        match change {
            Change::Set { key, value } => seen.insert(key, value),
            Change::Removed { key } => seen.remove(&key),
            Change::Lagged => panic!("lagged"),
        };
    }
    let found = scan(store, "", 100).await;
    assert_eq!(found, seen.clone().into_iter().collect::<Vec<_>>());
}

/// Performs all operations on the store and on the model. If `reopens`, `open` returns a store with the same entries.
fn check<S: KeyValue>(operations: Vec<Operation>, open: impl Fn() -> S, reopens: bool) {
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_time().build().unwrap();
    runtime.block_on(async {
        let mut store = open();
        let mut cursor = store.changes().await.unwrap().now();
        let (mut model, mut seen) = (Model::new(), Model::new());
        for operation in operations {
            if reopens && matches!(operation, Operation::Reopen) {
                check_watched(&store, &mut seen, &mut cursor).await;
                drop(store);
                store = open();
                cursor = store.changes().await.unwrap().now();
            }
            step(&store, &mut model, operation).await;
        }
        check_watched(&store, &mut seen, &mut cursor).await;
        assert_eq!(seen, model);
    });
}

proptest! {
    #[test]
    fn memory_store_has_the_results_of_a_map(
        operations in proptest::collection::vec(operation(), 0..60),
    ) {
        check(operations, MemoryStore::default, false);
    }
}

/// Checks that a store rejects a time to live of zero. `RedisStore` has a test of its own.
async fn check_zero_ttl(store: &impl KeyValue) {
    let zero = Some(Duration::ZERO);
    store.set("k", "v".into(), None).await.unwrap();
    let rejected = store.set("k", "new".into(), zero).await.unwrap_err();
    assert!(
        matches!(rejected, super::CacheError::ZeroTtl),
        "{rejected:?}"
    );
    // The time is rejected whether the value is the expected one or not.
    for expected in ["v", "other"] {
        let swap = store.compare_and_set("k", Some(expected.into()), Some("new".into()), zero);
        let rejected = swap.await.unwrap_err();
        assert!(
            matches!(rejected, super::CacheError::ZeroTtl),
            "{rejected:?}"
        );
    }
    assert_eq!(store.get("k").await.unwrap(), Some("v".into()));
}

#[tokio::test]
async fn every_store_rejects_a_time_to_live_of_zero() {
    check_zero_ttl(&MemoryStore::default()).await;
    #[cfg(feature = "file-cache")]
    {
        let folder = tempfile::tempdir().unwrap();
        let store = super::FileStore::open(folder.path().join("cache.db")).unwrap();
        check_zero_ttl(&store).await;
    }
}

#[cfg(feature = "file-cache")]
proptest! {
    // Each request syncs the disk.
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn file_store_has_the_results_of_a_map(
        operations in proptest::collection::vec(operation(), 0..60),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cache.db");
        check(operations, || super::FileStore::open(&path).unwrap(), true);
    }
}
