//! Running components: the precedence of options, notifications, signals, and workers in the process of their master.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::Duration;

use palm::Job;
use palm::parts::{CacheService, HttpConnection, PubService, PullService};
use palm::prelude::*;
use tempfile::TempDir;
use tokio::net::UnixDatagram as Datagram;

use super::{call, program};
use crate::process::Process;
use crate::setup::{ANY, SOON, soon};

/// Time after a signal when another one is not the same.
const LATER: Duration = Duration::from_millis(300);

/// A folder for the sockets of a test.
pub(super) struct Folder(TempDir);

impl Folder {
    pub(super) fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    /// Returns an address in the folder.
    pub(super) fn ipc(&self, name: &str) -> String {
        format!("ipc://{}/{name}", self.0.path().display())
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }
}

/// A running program, and the notifications that it sends as to a runner.
pub(super) struct Notifying {
    pub(super) process: Process,
    socket: Datagram,
    _folder: Folder,
}

impl Notifying {
    pub(super) fn start(mut command: Command) -> Self {
        let folder = Folder::new();
        let path = folder.path("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        command.env("NOTIFY_SOCKET", path);
        Self {
            process: Process::spawn("programs", command),
            socket: Datagram::from_std(socket).unwrap(),
            _folder: folder,
        }
    }

    /// Starts a component, and waits until it is ready.
    pub(super) async fn ready(command: Command) -> Self {
        let mut program = Self::start(command);
        program.expect("READY=1").await;
        program
    }

    /// Returns the next notification.
    async fn next(&mut self) -> String {
        let mut buffer = [0; 4096];
        let received = soon("a notification", self.socket.recv(&mut buffer)).await;
        String::from_utf8(buffer[..received.unwrap()].to_vec()).unwrap()
    }

    /// Waits for a notification with this line, and returns those before it.
    pub(super) async fn expect(&mut self, line: &str) -> Vec<String> {
        let mut before = Vec::new();
        loop {
            let notification = self.next().await;
            if notification.lines().any(|it| it == line) {
                return before;
            }
            before.push(notification);
        }
    }

    /// Sends SIGTERM, and returns the exit code.
    async fn terminate(self) -> Option<i32> {
        self.process.terminate().unwrap();
        self.process.output(SOON).await.status.code()
    }
}

async fn thumbnail(db_address: &str) -> String {
    call(db_address, &["images.thumbnail"], "abcdef").await
}

#[tokio::test]
async fn flags_override_the_environment_which_overrides_the_file() {
    let folder = Folder::new();
    let file = folder.path("worker.toml");
    fs::write(
        &file,
        "name = \"of the file\"\nquality = 3\nsign = true\nconcurrency = 1\n",
    )
    .unwrap();
    let master = Master::new("images").bind(ANY).spawn().await.unwrap();
    let worker = [
        "worker",
        "images",
        "--connect",
        master.db_address(),
        "--config",
        &file,
    ];
    let with_file = || program(&worker);
    let with_variables = || {
        let mut command = with_file();
        command
            .env("PALM_NAME", "of the environment")
            .env("QUALITY", "4");
        command
    };
    let with_flags = || {
        let mut command = with_variables();
        command.args(["--name", "of a flag", "--quality=1"]);
        command
    };
    for (command, expected) in [
        (with_file(), "of the file: ad"),
        (with_variables(), "of the environment: ae"),
        (with_flags(), "of a flag: abcdef"),
    ] {
        let worker = Notifying::ready(command).await;
        assert_eq!(thumbnail(master.db_address()).await, expected);
        assert_eq!(worker.terminate().await, Some(0));
    }
    // All options can be variables, also the address.
    let mut command = program(&["worker", "images"]);
    command
        .env("PALM_CONNECT", master.db_address())
        .env("PALM_CONFIG", &file);
    let worker = Notifying::ready(command).await;
    assert_eq!(thumbnail(master.db_address()).await, "of the file: ad");
    assert_eq!(worker.terminate().await, Some(0));
    master.shutdown().await.unwrap();
}

#[tokio::test]
async fn worker_is_ready_once_it_is_connected() {
    let folder = Folder::new();
    let address = folder.ipc("master");
    let mut worker = Notifying::start(program(&[
        "worker",
        "images",
        "--connect",
        &address,
        "--name",
        "anna",
    ]));
    let status = format!("STATUS=waits for its master at {address}");
    worker.expect(&status).await;
    let cause = ": no socket exists at this path: start the component, or correct the path";
    let before = worker.expect(&(status + cause)).await;
    assert_eq!(before, [""; 0]);
    // A notification before the master starts would be read first.
    let mut master = Notifying::start(program(&["master", "images", "--bind", &address]));
    let status = format!("STATUS=images at {address}");
    let before = master.expect(&status).await;
    assert!(before.iter().all(|it| !it.contains("READY")), "{before:?}");
    let before = worker.expect("READY=1").await;
    assert_eq!(before, [""; 0]);
    assert_eq!(thumbnail(&address).await, "ace");
    // The status follows the connection; no notification says that a component is not ready any more.
    assert_eq!(master.terminate().await, Some(0));
    let status = format!("STATUS=waits, because its master at {address} is draining");
    let gone = format!("STATUS=waits, because its master at {address} is disconnected");
    loop {
        let notification = worker.next().await;
        if notification.starts_with(&gone) {
            break;
        }
        assert_eq!(notification, status);
    }
    let master = Notifying::ready(program(&["master", "images", "--bind", &address])).await;
    worker.expect("STATUS=anna").await;
    worker.process.terminate().unwrap();
    worker.expect("STOPPING=1").await;
    assert_eq!(worker.process.output(SOON).await.status.code(), Some(0));
    assert_eq!(master.terminate().await, Some(0));
}

#[tokio::test]
async fn components_that_follow_each_other_are_ready() {
    let folder = Folder::new();
    let (one, other) = (folder.ipc("one"), folder.ipc("other"));
    let follower = |bind, connect| {
        Notifying::start(program(&[
            "pipeline",
            "loud",
            "--bind",
            bind,
            "--connect",
            connect,
        ]))
    };
    let (mut one, mut other) = (follower(&one, &other), follower(&other, &one));
    one.expect("READY=1").await;
    other.expect("READY=1").await;
    assert_eq!(one.terminate().await, Some(0));
    assert_eq!(other.terminate().await, Some(0));
}

#[tokio::test]
async fn watchdog_of_the_runner_receives_signs_of_life() {
    let mut server = program(&["server", "--bind", ANY]);
    server.env("WATCHDOG_USEC", "100000");
    let mut server = Notifying::ready(server).await;
    server.expect("WATCHDOG=1").await;
    server.expect("WATCHDOG=1").await;
    assert_eq!(server.terminate().await, Some(0));
}

#[tokio::test]
async fn failed_start_is_the_last_status() {
    let mut worker = Notifying::start(program(&[
        "worker",
        "images",
        "--connect",
        "tcp://127.0.0.1:1",
        "--quality=0",
    ]));
    let status =
        "STATUS=cannot construct `Resizer`: the quality is 0, so nothing would be left of an image";
    worker.expect(status).await;
    assert_eq!(worker.process.output(SOON).await.status.code(), Some(1));
}

#[tokio::test]
async fn http_worker_serves_once_it_is_ready() {
    let arguments = ["http_worker", "prices", "--bind", "127.0.0.1:0", "--name"];
    let mut worker = Notifying::start(program(&[&arguments[..], &["shop/0"]].concat()));
    let ready = loop {
        let notification = worker.next().await;
        if notification.contains("READY=1") {
            break notification;
        }
    };
    let status = ready.lines().find_map(|line| line.strip_prefix("STATUS="));
    let url = status.unwrap().strip_prefix("shop/0 at ").unwrap();
    assert!(url.starts_with("http://127.0.0.1:"), "{ready}");

    let mut master = ServerTemplate::new("prices");
    master
        .register_inbound(PullService::bind(ANY), "Pull")
        .route("Http");
    master
        .register_outbound(HttpConnection::connect(url), "Http")
        .route("Pub");
    master.register_outbound(PubService::bind(ANY), "Pub");
    master.register_bypass(CacheService::bind(ANY), "Cache");
    let master = master.spawn().await.unwrap();
    let answer = call(master.db_address(), &["prices.price"], "pear").await;
    assert_eq!(answer, "pear: 40 cents");
    master.shutdown().await.unwrap();
    worker.process.terminate().unwrap();
    worker.expect("STOPPING=1").await;
    assert_eq!(worker.process.output(SOON).await.status.code(), Some(0));
}

/// Begins a call of some milliseconds, and returns the job that will have its answer.
async fn begin_call<'a>(client: &'a Client, milliseconds: &str) -> Job<'a> {
    // Tasks of a client are begun in their order, so the first one runs when the second one is complete.
    let mut job = client.job("sleep.sleep", [milliseconds.to_owned(), "0".to_owned()]);
    let answer = soon("an answer", job.next()).await.unwrap();
    assert_eq!(answer.unwrap(), "slept 0 ms");
    job
}

#[tokio::test]
async fn terminated_program_finishes_its_calls_with_its_workers() {
    let folder = Folder::new();
    let address = folder.ipc("master");
    let master = [
        "master",
        "sleep",
        "--bind",
        &address,
        "--workers",
        "2",
        "--concurrency",
        "4",
    ];
    let master = Notifying::ready(program(&master)).await;
    let client = Client::connect("sleep", &*address).await.unwrap();
    let mut job = begin_call(&client, "800").await;
    assert_eq!(master.terminate().await, Some(0));
    let answer = soon("the answer", job.next()).await.unwrap();
    assert_eq!(answer.unwrap(), "slept 800 ms");
}

#[tokio::test]
async fn second_signal_ends_a_program_that_drains() {
    let folder = Folder::new();
    let address = folder.ipc("master");
    let master = [
        "master",
        "sleep",
        "--bind",
        &address,
        "--workers",
        "1",
        "--concurrency",
        "2",
        "--drain-limit",
        "1h",
    ];
    let mut master = Notifying::ready(program(&master)).await;
    let client = Client::connect("sleep", &*address).await.unwrap();
    let _job = begin_call(&client, "3600000").await;
    master.process.terminate().unwrap();
    // A signal that follows at once, as that of `timeout`, counts as the same one.
    master.process.terminate().unwrap();
    master.expect("STOPPING=1").await;
    tokio::time::sleep(LATER).await;
    assert!(!master.process.has_ended());
    assert_eq!(master.terminate().await, Some(3));
}
