//! The cache: the contract of every store, locally and over the network, and what survives the end of a process.
//!
//! `disk` fills the disk below a store, `redis` starts Redis servers, and `wire` has peers that repeat requests or
//! send malformed ones.

pub(crate) mod disk;
mod redis;
mod wire;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use palm::prelude::*;
use palm::{Cache, CacheError, Change, FileStore, KeyValue, MemoryStore, Swap};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use super::process::roles::Arguments;
use super::process::{self, Process};
use super::setup::{ANY, SOON, check, connect, eventually, soon};

/// The number of keys that the killed process sets at most, and at once.
const SETS: usize = 100_000;
const AT_ONCE: usize = 256;

/// The guarantees of a store beyond the contract of all.
#[derive(Clone, Copy, PartialEq)]
enum Promises {
    /// Keys and changes are ordered, and the expiry of a key is a change.
    All,
    /// None of these, see `RedisStore`.
    Fewer,
}

/// A server that lends its cache, as methods have it, to the test.
struct Lender(Promises);

#[palm::server(name = "lender")]
impl Lender {
    #[palm::method]
    async fn lent(&self, context: Context) -> Result<String, CacheError> {
        conform(context.cache(), self.0).await;
        Ok("done".to_owned())
    }
}

async fn entries(cache: &Cache, prefix: &str) -> Vec<(String, Bytes)> {
    let entries = cache.scan(prefix).map_ok(|entry| (entry.key, entry.value));
    entries.try_collect().await.unwrap()
}

async fn next(watch: &mut palm::Watch) -> Change {
    soon("a change", watch.next()).await.unwrap().unwrap()
}

/// The changes that a watcher of `t/` receives.
struct ReceivedChanges {
    watch: palm::Watch,
    promises: Promises,
    /// Changes that arrived early, since the servers of a cluster report independently.
    early: Vec<Change>,
}

impl ReceivedChanges {
    /// Asserts that `change` is the next one or, without an order, one of the next.
    async fn assert(&mut self, change: Change) {
        if self.promises == Promises::All {
            assert_eq!(next(&mut self.watch).await, change);
            return;
        }
        while !self.early.contains(&change) {
            self.early.push(next(&mut self.watch).await);
        }
    }
}

/// Checks the contract of every cache. There are no keys below `t/` before and after.
async fn conform(cache: &Cache, promises: Promises) {
    let get = async |key: &str| cache.get(key).await.unwrap();
    assert_eq!(get("t/k").await, None);
    let mut changes = ReceivedChanges {
        watch: cache.watch("t/").await.unwrap(),
        promises,
        early: Vec::new(),
    };
    static BEGUN: AtomicUsize = AtomicUsize::new(0);
    let begin = format!("t/begin/{}", BEGUN.fetch_add(1, Ordering::Relaxed));
    cache.set(&begin, "").await.unwrap();
    let set = |key: &str, value: &'static str| Change::Set {
        key: key.to_owned(),
        value: value.into(),
    };
    changes.assert(set(&begin, "")).await;
    cache.set("t/k", "value").await.unwrap();
    cache.set("other", "is not watched").await.unwrap();
    cache.set("t/empty", "").await.unwrap();
    assert_eq!(get("t/k").await, Some("value".into()));
    assert_eq!(get("t/empty").await, Some(Bytes::new()));
    let removed = |key: &str| Change::Removed {
        key: key.to_owned(),
    };
    changes.assert(set("t/k", "value")).await;
    changes.assert(set("t/empty", "")).await;

    // The expiry of a key is reported.
    cache
        .set_for("t/brief", "x", Duration::from_millis(200))
        .await
        .unwrap();
    changes.assert(set("t/brief", "x")).await;
    if promises == Promises::All {
        changes.assert(removed("t/brief")).await;
        assert_eq!(get("t/brief").await, None);
    } else {
        let ended = async { while get("t/brief").await.is_some() {} };
        soon("the end of its time", ended).await;
    }

    // A value that cannot be stored is rejected, and changes nothing.
    let rejected = cache.set("", "x").await.unwrap_err();
    assert!(matches!(rejected, CacheError::EmptyKey), "{rejected:?}");
    let rejected = cache.add("", 1).await.unwrap_err();
    assert!(matches!(rejected, CacheError::EmptyKey), "{rejected:?}");
    assert_eq!(get("").await, None);
    let rejected = cache.set_for("t/k", "x", Duration::ZERO).await.unwrap_err();
    assert!(matches!(rejected, CacheError::ZeroTtl), "{rejected:?}");
    for expected in [Some("value".into()), None] {
        let swap = cache.compare_and_set_for("t/k", expected, "x".into(), Duration::ZERO);
        let rejected = swap.await.unwrap_err();
        assert!(matches!(rejected, CacheError::ZeroTtl), "{rejected:?}");
    }
    assert_eq!(get("t/k").await, Some("value".into()));

    // `compare_and_set` succeeds only with the current value.
    let some = |value: &'static str| Some(Bytes::from(value));
    let differs = |current| Swap::Differs { current };
    let swap = async |old, new| cache.compare_and_set("t/k", old, new).await.unwrap();
    assert_eq!(swap(None, some("a")).await, differs(some("value")));
    assert!(swap(some("value"), some("a")).await.is_done());
    assert!(swap(some("a"), None).await.is_done());
    assert_eq!(swap(some("a"), some("b")).await, differs(None));
    assert!(swap(None, some("c")).await.is_done());
    assert_eq!(get("t/k").await, some("c"));

    // Concurrent additions are exact.
    let adding = (0..100).map(|_| cache.add("t/n", 3));
    let mut sums: Vec<_> = futures_util::future::try_join_all(adding).await.unwrap();
    sums.sort();
    assert!(sums.into_iter().eq((1..=100).map(|number| 3 * number)));
    assert_eq!(get("t/n").await, some("300"));
    let rejected = cache.add("t/k", 1).await.unwrap_err();
    assert!(
        matches!(rejected, CacheError::NotANumber { .. }),
        "{rejected:?}"
    );
    cache.add("t/n", i64::MAX - 300).await.unwrap();
    let rejected = cache.add("t/n", 1).await.unwrap_err();
    assert!(
        matches!(rejected, CacheError::Overflow { .. }),
        "{rejected:?}"
    );
    cache.delete("t/n").await.unwrap();

    // Pages have no gaps.
    let setting = futures_util::stream::iter(0..2500).map(async |number: i32| {
        let key = format!("t/page/{number:04}");
        cache.set(&key, number.to_string()).await.unwrap();
    });
    setting.buffer_unordered(200).collect::<()>().await;
    let mut pages = entries(cache, "t/page/").await;
    if promises == Promises::Fewer {
        pages.sort();
        pages.dedup();
    }
    let expected =
        (0..2500).map(|number| (format!("t/page/{number:04}"), number.to_string().into()));
    assert!(pages.into_iter().eq(expected));
    assert_eq!(cache.delete_prefix("t/page/1").await.unwrap(), 1000);
    assert_eq!(entries(cache, "t/page/").await.len(), 1500);
    assert_eq!(cache.delete_prefix("t/").await.unwrap(), 1503);
    assert_eq!(entries(cache, "t/").await, []);
    assert_eq!(get("other").await, some("is not watched"));
    cache.delete("other").await.unwrap();
    cache.delete("other").await.unwrap();
    assert_eq!(get("other").await, None);
}

/// Checks that the component's own keys cannot be changed.
async fn leave_the_configuration_alone(cache: &Cache) {
    assert_eq!(cache.get("name").await.unwrap(), Some("lender".into()));
    for rejected in [
        cache.set("name", "x").await.unwrap_err(),
        cache.delete("name").await.unwrap_err(),
        cache.add("name", 1).await.unwrap_err(),
        cache.compare_and_set("name", None, None).await.unwrap_err(),
    ] {
        assert!(
            matches!(rejected, CacheError::Reserved { .. }),
            "{rejected:?}"
        );
    }
    assert_eq!(entries(cache, "").await, []);
    assert_eq!(cache.delete_prefix("").await.unwrap(), 0);
    assert_eq!(cache.get("name").await.unwrap(), Some("lender".into()));
}

async fn check_store(store: impl KeyValue, promises: Promises) {
    let server = Lender(promises)
        .bind(ANY)
        .cache(store)
        .spawn()
        .await
        .unwrap();
    let client = connect("lender", &server).await;
    // Locally, as for a method, and remotely, as for a client.
    assert_eq!(client.eval(Lender::LENT, ()).await.unwrap(), "done");
    let cache = client.cache();
    conform(cache, promises).await;
    leave_the_configuration_alone(cache).await;

    // A session prefixes all keys, and its client sees no others.
    let in_session = async |name: &str| {
        let session = Client::builder("lender", server.db_address()).session(name);
        soon("connecting", session.connect()).await.unwrap()
    };
    let session = in_session("mine").await;
    session.set("k", "v").await.unwrap();
    session.add("n", 1).await.unwrap();
    client.set("yours", "x").await.unwrap();
    let keys = session.scan("").map_ok(|entry| entry.key);
    let mut keys: Vec<_> = keys.try_collect().await.unwrap();
    keys.sort();
    assert_eq!(keys, ["k", "n"]);
    assert_eq!(client.get("mine/k").await.unwrap(), Some("v".into()));
    // Keys of a session with a longer name are not among them.
    let (short, longer) = (in_session("m").await, in_session("mine/k").await);
    assert_eq!(short.get("ine/k").await.unwrap(), None);
    longer.set("s", "v").await.unwrap();
    let found: Vec<_> = short.scan("").try_collect().await.unwrap();
    assert_eq!(found, []);
    assert_eq!(session.get("k/s").await.unwrap(), None);
    assert_eq!(short.delete_prefix("").await.unwrap(), 0);
    assert_eq!(longer.delete_prefix("").await.unwrap(), 1);
    assert_eq!(session.delete_prefix("").await.unwrap(), 2);
    assert_eq!(client.get("yours").await.unwrap(), Some("x".into()));
    server.shutdown().await.unwrap();
}

#[test]
fn memory_store_keeps_the_contract_of_caches() {
    check(check_store(MemoryStore::default(), Promises::All));
}

#[test]
fn file_store_keeps_the_contract_of_caches() {
    check(async {
        let folder = tempfile::tempdir().unwrap();
        let store = FileStore::open(folder.path().join("cache.db")).unwrap();
        check_store(store, Promises::All).await;
    });
}

#[test]
fn restarted_master_has_the_keys_of_its_file() {
    check(async {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cache.db");
        for number in 1..=3 {
            // The component closes the file when it stops.
            let store = async { FileStore::open(&path).ok() };
            let mut opened = store.await;
            eventually("the file is free", || {
                opened = opened.take().or_else(|| FileStore::open(&path).ok());
                opened.is_some()
            })
            .await;
            let master = Master::new("master").bind(ANY).cache(opened.unwrap());
            let master = master.spawn().await.unwrap();
            let client = connect("master", &master).await;
            assert_eq!(client.add("starts", 1).await.unwrap(), number);
            drop(client);
            master.shutdown().await.unwrap();
        }
    });
}

#[test]
fn watcher_does_not_lag_by_changes_of_other_keys() {
    check(async {
        let store = MemoryStore::default();
        let here = Cache::new(store.clone());
        let server = Lender(Promises::All).bind(ANY).cache(store);
        let server = server.spawn().await.unwrap();
        let client = connect("lender", &server).await;
        let mut watch_here = here.watch("mine/").await.unwrap();
        let mut watch_there = client.watch("mine/").await.unwrap();
        for round in 0..2 {
            // More changes are made than the store keeps, while the watchers are not polled.
            for number in 0..10_000 {
                here.set(&format!("other/{number}"), "x").await.unwrap();
            }
            here.set("mine/k", round.to_string()).await.unwrap();
            let change = Change::Set {
                key: "mine/k".to_owned(),
                value: round.to_string().into(),
            };
            assert_eq!(next(&mut watch_here).await, change);
            assert_eq!(next(&mut watch_there).await, change);
        }
        server.shutdown().await.unwrap();
    });
}

#[test]
fn slow_watcher_receives_lagged() {
    check(async {
        let server = Lender(Promises::All).bind(ANY).spawn().await.unwrap();
        let client = connect("lender", &server).await;
        let mut watch = client.watch("k").await.unwrap();
        client.set("k", "first").await.unwrap();
        assert!(matches!(next(&mut watch).await, Change::Set { .. }));
        for number in 0..10_000 {
            client.set("k", number.to_string()).await.unwrap();
        }
        let mut lagged = false;
        loop {
            match next(&mut watch).await {
                Change::Lagged => lagged = true,
                Change::Set { value, .. } if value == "9999" => break,
                Change::Set { .. } => {}
                other => panic!("{other:?}"),
            }
            if lagged {
                // The following changes have no gap; the last one may precede them.
                client.set("k", "9999").await.unwrap();
            }
        }
        assert!(lagged, "more happened than is remembered");
        server.shutdown().await.unwrap();
    });
}

/// The role of a process: sets keys in the `file` until it is killed, and prints each when it is acknowledged.
pub(crate) fn writer(arguments: &Arguments) {
    let path = &arguments["file"];
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let store = FileStore::open(path).unwrap();
        let permits = Arc::new(Semaphore::new(AT_ONCE));
        for number in 0..SETS {
            let permit = permits.clone().acquire_owned().await.unwrap();
            let store = store.clone();
            tokio::spawn(async move {
                let key = format!("key-{number}");
                store.set(&key, key.clone().into(), None).await.unwrap();
                println!("@set {key}");
                drop(permit);
            });
        }
        let _all = permits.acquire_many(AT_ONCE as u32).await.unwrap();
        println!("@done");
    });
}

#[test]
fn acknowledged_sets_survive_a_kill() {
    check(async {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cache.db");
        let role = process::role("cache_writer", &[("file", path.to_str().unwrap())]);
        let mut writer = Process::spawn("cache_writer", role);
        for _ in 0..SETS / 3 {
            writer.stdout_line_with("@set ", SOON).await;
        }
        let printed = writer.kill_and_read().await;
        assert!(!printed.contains("@done"), "it is killed before it is done");
        // The test harness prints the name of the test in front of the first line.
        let keys = printed.lines().filter_map(|line| line.split_once("@set "));
        let acknowledged: HashSet<_> = keys.map(|(_, key)| key.to_owned()).collect();
        assert!(acknowledged.len() >= SETS / 3);
        let store = FileStore::open(&path).unwrap();
        let mut missing = Vec::new();
        for key in &acknowledged {
            match store.get(key).await.unwrap() {
                Some(value) => assert_eq!(value, key),
                None => missing.push(key),
            }
        }
        assert!(missing.is_empty(), "{missing:?}");
    });
}

#[test]
fn acknowledged_sets_over_the_network_survive_a_kill_of_the_master() {
    check(async {
        const ENOUGH: usize = 1000;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cache.db");
        let file = ("cache_file", path.to_str().unwrap());
        let master = Process::run_at_fixed_addresses("master", &[file]).await;
        let db_address = master.addresses["db_address"].clone();
        let client = Client::connect("master", &*db_address);
        let client = soon("connecting", client).await.unwrap();

        let (sender, mut acknowledged) = mpsc::unbounded_channel();
        let mut setting = JoinSet::new();
        for task in 0..AT_ONCE {
            let (client, sender) = (client.clone(), sender.clone());
            setting.spawn(async move {
                // Until the master is killed.
                for number in 0.. {
                    let key = format!("key-{task}-{number}");
                    if client.set(&key, key.clone()).await.is_err() || sender.send(key).is_err() {
                        return;
                    }
                }
            });
        }
        let mut keys = HashSet::new();
        while keys.len() < ENOUGH {
            keys.extend(soon("a key", acknowledged.recv()).await);
        }
        let addresses = master.kill();
        // Sets that were acknowledged before the kill count, and later ones are not answered.
        setting.shutdown().await;
        while let Ok(key) = acknowledged.try_recv() {
            keys.insert(key);
        }
        drop(client);

        let mut same: Vec<_> = addresses
            .iter()
            .map(|(key, at)| (key.as_str(), at.as_str()))
            .collect();
        same.push(file);
        let _again = Process::run("master", &same).await;
        let client = Client::connect("master", &*db_address);
        let client = soon("connecting", client).await.unwrap();
        let entries = client.scan("key-").map_ok(|entry| (entry.key, entry.value));
        let entries = soon("all keys", entries.try_collect::<Vec<_>>())
            .await
            .unwrap();
        for (key, value) in entries {
            assert_eq!(value, key);
            keys.remove(&key);
        }
        assert!(keys.is_empty(), "missing: {keys:?}");
    });
}
