//! `run` obeys `PALM_WIRING`, for each kind of component.

use palm::prelude::*;
use serde_json::{Value, json};

use super::running::{Folder, Notifying};
use super::{call, program};
use crate::setup::soon;

/// Starts a component as a runner does, and waits until it is ready.
async fn run(mut wiring: Value, arguments: &[&str]) -> Notifying {
    wiring["version"] = 1.into();
    let mut command = program(&[&["run"], arguments].concat());
    command.env("PALM_WIRING", wiring.to_string());
    Notifying::ready(command).await
}

#[tokio::test]
async fn master_and_workers_of_one_program_answer_calls() {
    let folder = Folder::new();
    let at = folder.ipc("images");
    let master = json!({ "kind": "master", "component": "images", "name": "photos", "bind": at });
    let _master = run(master, &[]).await;
    let mut workers = Vec::new();
    for number in 0..2 {
        let worker = json!({
            "kind": "worker",
            "component": "Resizer",
            "name": format!("photos/{number}"),
            "connect": [at],
            "options": { "concurrency": 1, "link_options": { "idle_timeout": "5s" }, "sign": true },
        });
        workers.push(run(worker, &["--quality", "3"]).await);
    }
    let client = Client::connect("photos", &*at).await.unwrap();
    let mut seen = std::collections::BTreeSet::new();
    // Each worker has capacity for one task, so both are given one sooner or later.
    while seen.len() < 2 {
        let mut job = client.job("photos.thumbnail", vec!["abcdef"; 100]);
        while let Some(answer) = soon("an answer", job.next()).await {
            let answer = String::from_utf8(answer.unwrap().to_vec()).unwrap();
            assert!(answer.ends_with(": ad"), "{answer}");
            seen.insert(answer);
        }
    }
    assert_eq!(Vec::from_iter(seen), ["photos/0: ad", "photos/1: ad"]);
}

#[tokio::test]
async fn steps_of_one_program_answer_a_call_that_passes_through_all() {
    let folder = Folder::new();
    let [words, lines, loud, hub, collected] =
        ["words", "lines", "loud", "hub", "collected"].map(|it| folder.ipc(it));
    let _server = run(
        json!({ "kind": "server", "name": "words", "bind": words }),
        &[],
    )
    .await;
    let _other = run(
        json!({ "kind": "server", "name": "lines", "bind": lines }),
        &[],
    )
    .await;
    let pipeline = json!({ "kind": "pipeline", "name": "loud", "bind": loud, "connect": [words] });
    let _pipeline = run(pipeline, &[]).await;
    let step = json!({
        "kind": "hub",
        "component": "images",
        "name": "images",
        "bind": hub,
        "connect": [loud],
    });
    let _hub = run(step, &[]).await;
    let worker = json!({
        "kind": "worker",
        "component": "images",
        "name": "images/1",
        "connect": [hub],
    });
    let _worker = run(worker, &[]).await;
    let sink = json!({
        "kind": "sink",
        "name": "collected",
        "bind": collected,
        "connect": [hub, lines],
    });
    let _sink = run(sink, &[]).await;
    let steps = [
        "words.first",
        "loud.shout",
        "images.thumbnail",
        "collected.mark",
    ];
    assert_eq!(call(&words, &steps, "palm tree").await, "PL!");
    let steps = ["lines.first", "collected.mark"];
    assert_eq!(call(&lines, &steps, "palm tree").await, "palm!");
}
