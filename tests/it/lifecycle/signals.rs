//! Signals end the processes of components.

use std::time::{Duration, Instant};

use palm::prelude::*;
use palm::testing;

use super::super::process::Process;
use super::super::setup::{Caller, STALLED, TempFolder, check, soon};
use super::{collect, numbers};

#[test]
fn first_signal_ends_start_and_accepted_calls_are_finished() {
    check(async {
        let signals = [testing::Process::terminate, testing::Process::interrupt];
        for (name, signal) in ["SIGTERM", "SIGINT"].into_iter().zip(signals) {
            let folder = TempFolder::new();
            let mut process = Process::run("start", &[("db_address", &folder.ipc("db"))]).await;
            let client = Client::connect("slow", folder.ipc("db"));
            let client = soon("connecting", client).await.unwrap();
            let answers = collect(&client, "slow.noted", 10);
            soon("the calls", async {
                while client.get("9").await.unwrap().is_none() {}
            })
            .await;
            signal(&process).unwrap();
            assert_eq!(soon("the answers", answers).await.unwrap(), numbers(10));
            assert_eq!(process.ended().await.code(), Some(0), "{name}");
        }
    });
}

#[test]
fn second_signal_ends_start_immediately() {
    check(async {
        let folder = TempFolder::new();
        let mut process = Process::run("start", &[("db_address", &folder.ipc("db"))]).await;
        let client = Client::connect("slow", folder.ipc("db"));
        let client = soon("connecting", client).await.unwrap();
        let caller = Caller::at(&folder.ipc("db.pull"), &folder.ipc("db.pub"), "caller").await;
        caller.send("slow.endless", "x").await;
        soon("the call", async {
            while client.get("x").await.unwrap().is_none() {}
        })
        .await;
        let start = Instant::now();
        process.terminate().unwrap();
        // Signals of the same kind that arrive together are merged.
        let ended = tokio::time::timeout(STALLED, process.ended()).await;
        assert!(ended.is_err(), "the first signal ended it");
        process.terminate().unwrap();
        assert_eq!(process.ended().await.code(), Some(0));
        assert!(start.elapsed() < Duration::from_secs(5));
    });
}
