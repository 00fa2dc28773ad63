//! The file store on a full disk, and after space was freed: in a process with a limit on the size of files, which
//! every machine supports, and on a small file system, which needs root.

use std::process::Command;
use std::time::{Duration, Instant};

use palm::FileStore;
use palm::prelude::*;

use super::super::process::roles::Arguments;
use super::super::process::{self, Process};
use super::super::setup::{ANY, SOON, chain, check, connect, soon};
use super::{Lender, Promises};

/// The role of a process: fills the disk through a server, and frees space again.
///
/// Its arguments are the `folder` of the file, and what space is `freed_by`: deletions of keys, or of a ballast file.
pub(crate) fn filler(arguments: &Arguments) {
    let folder = std::path::Path::new(&arguments["folder"]);
    let cause = match &*arguments["freed_by"] {
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
        let (rejected, waited) = loop {
            let begin = Instant::now();
            match client.set(&format!("k{stored}"), value.clone()).await {
                Ok(()) => stored += 1,
                Err(rejected) => break (chain(&rejected), begin.elapsed()),
            }
        };
        println!("@rejected after {stored} keys and {waited:?}: {rejected}");
        assert!(waited < Duration::from_secs(5), "{waited:?}");
        let path = path.display().to_string();
        for part in [
            "the store failed",
            &path,
            "cannot be written",
            cause,
            "the next request tries again",
        ] {
            assert!(rejected.contains(part), "`{part}` is not in: {rejected}");
        }
        assert_eq!(server.cache_failure(), Some(rejected.clone()));
        // Acknowledged values can be read while the disk is full.
        assert_eq!(client.get("a").await.unwrap(), Some("1".into()));
        for number in 0..stored {
            let read = client.get(&format!("k{number}")).await.unwrap();
            assert_eq!(read.as_ref(), Some(&value), "k{number}");
        }
        if cause == "File too large" {
            // The file cannot grow, but the space of deleted values is used again.
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
        soon("a set after space was freed", set).await;
        assert_eq!(client.get("b").await.unwrap(), Some(value));
        assert_eq!(server.cache_failure(), None);
        soon("the end", server.shutdown()).await.unwrap();
    });
    println!("@done");
}

/// Runs [`filler`] from a shell script, which ends with the command itself, and checks what the process prints.
fn run(script: &str, freed_by: &str) {
    check(async {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_str().unwrap();
        let filler = process::role("disk_filler", &[("folder", path), ("freed_by", freed_by)]);
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command.arg(filler.get_program()).args(filler.get_args());
        let variables = filler.get_envs();
        command.envs(variables.filter_map(|(key, value)| Some((key, value?))));
        command.env("FOLDER", path);
        let ended = Process::spawn("disk_filler", command)
            .output(2 * SOON)
            .await;
        let text = ended.stdout + &ended.stderr;
        assert!(ended.status.success() && text.contains("@done"), "{text}");
        // The log reports the failure once, and the recovery.
        let lines = |part: &str| text.lines().filter(|line| line.contains(part)).count();
        assert_eq!(lines("the cache fails"), 1, "{text}");
        assert!(lines("the cache works again") >= 1, "{text}");
    });
}

#[test]
#[cfg(unix)]
fn file_that_cannot_grow_is_reported_and_recovers_after_deletions() {
    // 4 MiB, in blocks of 512 bytes. Without the trap, the signal would end the process.
    run(
        "trap '' XFSZ; ulimit -f 8192 && exec \"$0\" \"$@\"",
        "deletions",
    );
}

#[test]
#[ignore = "tmpfs: needs root and the program `unshare`"]
fn full_tmpfs_is_reported_and_recovers_when_space_is_freed() {
    let mount = "mount -t tmpfs -o size=4m none \"$FOLDER\"";
    let script = format!("exec unshare -m sh -c '{mount} && exec \"$0\" \"$@\"' \"$0\" \"$@\"");
    run(&script, "ballast");
}
