//! Signals end the processes of components.

use std::time::{Duration, Instant};

use palm::prelude::*;

use super::super::process::Process;
use super::super::setup::{Caller, STALLED, TempFolder, check, soon};
use super::{collect, numbers};

#[test]
fn first_signal_ends_start_and_accepted_calls_are_finished() {
    check(async {
        for signal in ["TERM", "INT"] {
            let folder = TempFolder::new();
            let mut process = Process::run("start", &[("db_address", &folder.ipc("db"))]).await;
            let client = Client::connect("slow", folder.ipc("db"));
            let client = soon("connecting", client).await.unwrap();
            let answers = collect(&client, "slow.noted", 10);
            soon("the calls", async {
                while client.get("9").await.unwrap().is_none() {}
            })
            .await;
            process.signal(signal);
            assert_eq!(soon("the answers", answers).await.unwrap(), numbers(10));
            assert_eq!(process.ended().await.code(), Some(0), "SIG{signal}");
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
        process.signal("TERM");
        // Signals of the same kind that arrive together are merged.
        let ended = tokio::time::timeout(STALLED, process.ended()).await;
        assert!(ended.is_err(), "the first signal ended it");
        process.signal("TERM");
        assert_eq!(process.ended().await.code(), Some(0));
        assert!(start.elapsed() < Duration::from_secs(5));
    });
}
