//! The store in a file on a disk that is full, and then is not: in a process with a limit on the size of files, which
//! every machine has, and on a small file system, which needs root.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use palm::FileStore;
use palm::prelude::*;

use super::super::setup::{ANY, chain, check, connect, soon};
use super::{Lender, Promises};

/// Set for the process that fills its disk: the folder with the file, and what makes room again.
const FOLDER: &str = "PALM_TEST_DISK";
const ROOM: &str = "PALM_TEST_ROOM";

/// Fills the disk through a server and makes room again. No test: those below run it in a process of its own.
#[test]
#[ignore = "a role of the tests below"]
fn filler() {
    let Some(folder) = std::env::var_os(FOLDER) else {
        return;
    };
    let folder = std::path::PathBuf::from(folder);
    let cause = match std::env::var(ROOM).unwrap().as_str() {
        "deletions" => "File too large",
        _ => "No space left on device",
    };
    palm::logging::init();
    check(async {
        let ballast = folder.join("ballast");
        std::fs::write(&ballast, vec![1; 1 << 20]).unwrap();
        let path = folder.join("cache.db");
        let store = FileStore::open(&path).unwrap();
        let server = Lender(Promises::All).bind(ANY).cache(store);
        let server = server.spawn().await.unwrap();
        let client = connect("lender", &server).await;
        client.set("a", "1").await.unwrap();
        assert_eq!(server.cache_failure(), None);
        let value = bytes::Bytes::from(vec![7; 50_000]);
        let mut stored = 0;
        let (refused, waited) = loop {
            let begin = Instant::now();
            match client.set(&format!("k{stored}"), value.clone()).await {
                Ok(()) => stored += 1,
                Err(refused) => break (chain(&refused), begin.elapsed()),
            }
        };
        println!("@refused after {stored} keys and {waited:?}: {refused}");
        assert!(waited < Duration::from_secs(5), "{waited:?}");
        let path = path.display().to_string();
        for part in [
            "the store failed",
            &path,
            "cannot be written",
            cause,
            "the next request tries again",
        ] {
            assert!(refused.contains(part), "`{part}` is not in: {refused}");
        }
        assert_eq!(server.cache_failure(), Some(refused.clone()));
        // What was acknowledged is there, while the disk is full.
        assert_eq!(client.get("a").await.unwrap(), Some("1".into()));
        for number in 0..stored {
            let read = client.get(&format!("k{number}")).await.unwrap();
            assert_eq!(read.as_ref(), Some(&value), "k{number}");
        }
        if cause == "File too large" {
            // The file cannot grow, and what deletions free is used again.
            for number in 0..stored / 2 {
                client.delete(&format!("k{number}")).await.unwrap();
            }
        } else {
            std::fs::remove_file(&ballast).unwrap();
        }
        let set = async {
            while let Err(error) = client.set("b", value.clone()).await {
                println!("not yet: {}", chain(&error));
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        soon("a set when there is room again", set).await;
        assert_eq!(client.get("b").await.unwrap(), Some(value));
        assert_eq!(server.cache_failure(), None);
        soon("the end", server.shutdown()).await.unwrap();
    });
    println!("@done");
}

/// Runs the role by `script`, which ends with the command itself, and checks what it printed.
fn run(script: &str, room: &str) {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new("sh");
    command
        .args(["-c", script])
        .arg(std::env::current_exe().unwrap());
    command.args(["--ignored", "--exact", "--nocapture", "cache::disk::filler"]);
    command.env(FOLDER, folder.path()).env(ROOM, room);
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    assert!(output.status.success() && text.contains("@done"), "{text}");
    // The terminal says it once, and that it is over.
    let lines = |part: &str| text.lines().filter(|line| line.contains(part)).count();
    assert_eq!(lines("the cache fails"), 1, "{text}");
    assert!(lines("the cache works again") >= 1, "{text}");
}

#[test]
#[cfg(unix)]
fn a_file_that_cannot_grow_is_reported_and_works_again_after_deletions() {
    // 4 MiB, in blocks of 512 bytes. Without the trap, the signal would end the process.
    run(
        "trap '' XFSZ; ulimit -f 8192 && exec \"$0\" \"$@\"",
        "deletions",
    );
}

#[test]
#[ignore = "tmpfs: needs root and the program `unshare`"]
fn tmpfs_that_is_full_is_reported_and_works_again_when_there_is_room() {
    let mount = "mount -t tmpfs -o size=4m none \"$PALM_TEST_DISK\"";
    let script = format!("exec unshare -m sh -c '{mount} && exec \"$0\" \"$@\"' \"$0\" \"$@\"");
    run(&script, "ballast");
}
