//! Workers that an operator drains and configures through their master.

use libtest_mimic::Trial;
use palm::Client;
use serde_json::{Value, json};

use crate::setup::{ANY, Component, START_LIMIT, inspect, palm, succeed, trial};

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        trial(
            "worker_that_is_drained_under_load_loses_no_answer",
            drained_under_load,
        ),
        trial(
            "configured_worker_is_shown_with_its_settings",
            configured_worker,
        ),
        trial(
            "pylm_worker_cannot_be_drained_and_is_explained",
            pylm_worker,
        )
        .with_ignored_flag(true),
    ]
}

/// Returns the workers of the master, by name.
async fn workers(db: &str) -> Vec<Value> {
    let cluster = inspect(db).await;
    let edges = cluster["components"][0]["edges"]
        .as_array()
        .unwrap()
        .clone();
    let is_worker = |edge: &Value| edge["role"] == "worker";
    edges.into_iter().filter(is_worker).collect()
}

/// Waits until two workers have reported to a new master. Returns the processes.
async fn cluster() -> (Component, [Component; 2]) {
    let master = Component::start(&["plain_master", ANY]);
    let db = &*master.db_address;
    let hands = ["one", "two"].map(|name| Component::start(&["worker", db, name]));
    loop {
        let workers = workers(db).await;
        if workers.len() == 2 && workers.iter().all(|it| it["worker"]["pid"].is_u64()) {
            break;
        }
    }
    (master, hands)
}

async fn drained_under_load() {
    // A job whose answers are not read has sent 32,000 calls at most.
    const CALLS: usize = 60_000;
    let (master, [mut one, _two]) = cluster().await;
    let db = &*master.db_address;
    let client = Client::connect("images", db).await.unwrap();
    let inputs = (0..CALLS).map(|number| number.to_string());
    let mut answers = client.job("images.foo", inputs);
    let mut received = Vec::new();
    for _ in 0..100 {
        received.push(answers.next().await.unwrap().unwrap());
    }
    let drained = succeed(&["drain", db, "--worker", "one", "-o", "json"]).await;
    while let Some(answer) = answers.next().await {
        received.push(answer.unwrap());
    }
    let drained: Value = serde_json::from_str(&drained).unwrap();
    assert_eq!(drained["address"], db);
    assert_eq!(drained["worker"], "one");
    assert!(drained["seconds"].is_f64(), "{drained}");
    let mut numbers: Vec<usize> = received
        .iter()
        .map(|answer| str::from_utf8(answer).unwrap().parse().unwrap())
        .collect();
    numbers.sort_unstable();
    assert!(numbers.into_iter().eq(0..CALLS), "each answer once");
    assert_eq!(one.ended(START_LIMIT).await.unwrap().code(), Some(0));
    let names: Vec<_> = workers(db)
        .await
        .iter()
        .map(|it| it["name"].clone())
        .collect();
    assert_eq!(names, ["two"]);
    let (code, stdout, stderr) = palm(&["drain", db, "--worker", "one"]).await;
    assert_eq!((code, &*stdout), (1, ""));
    assert!(stderr.contains("no worker is called `one`"), "{stderr}");
}

async fn configured_worker() {
    let (master, _hands) = cluster().await;
    let db = &*master.db_address;
    let shown = succeed(&["configure", db, "--worker", "two"]).await;
    assert!(shown.contains("prefetch = measured\n"), "{shown}");
    let changes = ["concurrency=3", "prefetch=5", "log_level=debug"];
    let configure = [&["configure", db, "-w", "two", "-o", "json"][..], &changes].concat();
    let settings: Value = serde_json::from_str(&succeed(&configure).await).unwrap();
    let expected = json!({
        "concurrency": "3",
        "drain_limit": "10s",
        "log_level": "debug",
        "prefetch": "5",
    });
    assert_eq!(settings, expected);
    loop {
        let workers = workers(db).await;
        let two = &workers[1]["worker"];
        if two["log_level"] == "debug" {
            assert_eq!(
                (&two["concurrency"], &two["prefetch"]),
                (&json!(3), &json!(5))
            );
            let one = &workers[0]["worker"];
            assert_eq!(one["log_level"], "default", "the other one is as before");
            break;
        }
    }
    // A worker is also addressed by its instance, and shown with it.
    let two = workers(db).await[1]["worker"].clone();
    let instance = two["instance"].as_str().unwrap();
    let shown = succeed(&["inspect", db, "--measure", "0"]).await;
    let line = shown.lines().find(|line| line.contains(instance)).unwrap();
    assert!(line.contains(" of 3") && line.contains(" of 5"), "{line}");
    let by_instance = succeed(&["configure", db, "-w", instance]).await;
    assert!(by_instance.contains("prefetch = 5\n"), "{by_instance}");
    let (code, _, stderr) = palm(&["configure", db, "-w", "two", "prefetch=all"]).await;
    assert_eq!(code, 1);
    assert!(stderr.contains("expected a number of tasks"), "{stderr}");
    let (code, _, stderr) = palm(&["drain", db, db, "-w", "two"]).await;
    assert_eq!(code, 2);
    assert!(stderr.contains("needs one address"), "{stderr}");
}

async fn pylm_worker() {
    let master = Component::start(&["plain_master", ANY]);
    let db = &*master.db_address;
    let _worker = Component::pylm(&["worker", db]);
    while inspect(db).await["components"][0]["legacy"]["workers"] != 1 {}
    for arguments in [
        &["drain", db, "--worker", "foo"][..],
        &["configure", db, "--worker", "foo"],
    ] {
        let (code, stdout, stderr) = palm(arguments).await;
        assert_eq!((code, &*stdout), (1, ""), "{stderr}");
        assert!(stderr.contains("workers without a link"), "{stderr}");
    }
}
