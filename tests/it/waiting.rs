//! What a new user's terminal says when something does not work: soon, and again in the final error.
//!
//! Each case runs in a process of its own, with the log as it is by default.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use palm::prelude::*;
use palm::{ClientBuilder, ComponentHandle};
use tokio::net::TcpListener;

use super::setup::{ANY, Place, check, unbound};

/// How soon the cause is to be reported: two seconds, and time for a busy machine to start a process.
const CAUSE_SOON: Duration = Duration::from_secs(6);

const ROLE: &str = "PALM_IT_WAITING_ROLE";
const ADDRESS: &str = "PALM_IT_WAITING_ADDRESS";

/// A host that no name server is asked for.
const NO_HOST: &str = "tcp://nowhere..invalid:5559";

struct Resizer;

#[palm::worker(server = "images")]
impl Resizer {
    #[palm::method]
    fn resize(&self, image: String) -> String {
        image
    }
}

struct Upper;

#[palm::server(name = "upper")]
impl Upper {
    #[palm::method]
    fn case(&self, text: String) -> String {
        text.to_uppercase()
    }
}

struct Count;

#[palm::pipeline(name = "count")]
impl Count {
    #[palm::method]
    fn letters(&self, text: String) -> String {
        text.len().to_string()
    }
}

/// The process of a case.
#[test]
#[ignore = "a process of other tests"]
fn role() {
    let Ok(role) = std::env::var(ROLE) else {
        return;
    };
    palm::logging::init();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    if let Err(error) = runtime.block_on(run(&role, &std::env::var(ADDRESS).unwrap())) {
        println!("@error {error:?}");
    }
}

async fn run(role: &str, at: &str) -> palm::Result<()> {
    let timeout = Duration::from_secs(3);
    let client = |name: &str| {
        Client::builder(name, at)
            .connect_timeout(timeout)
            .timeout(timeout)
    };
    let eval = async |builder: ClientBuilder, function: &str| {
        let client = builder.connect().await?;
        client.eval(function, "text").await?;
        palm::Result::Ok(())
    };
    match role {
        "client" => eval(client("upper"), "upper.case").await,
        "client of images" => eval(client("images"), "images.resize").await,
        "client of resizer" => eval(client("resizer"), "resizer.resize").await,
        "client of count" => eval(client("count"), "count.letters").await,
        "client of two steps" => eval(client("upper"), "upper.case count.letters").await,
        "typo" => eval(client("upper"), "upper.csae").await,
        "send of two steps" => {
            let client = client("upper").connect().await?;
            client.send("upper.case count.letters", "text").await?;
            std::future::pending().await
        }
        "worker" => Resizer.connect(at).start().await,
        "follower" => Count.bind(ANY).follow(at).start().await,
        "server" => Upper.bind(at).start().await,
        "master" => Master::new("images").bind(at).start().await,
        other => panic!("unknown role {other}"),
    }
}

/// A process whose terminal is read.
struct Terminal {
    child: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
}

impl Terminal {
    fn open(role: &str, at: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "--nocapture", "waiting::role"])
            .env(ROLE, role)
            .env(ADDRESS, at)
            .env_remove("PALM_LOG")
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, lines) = mpsc::channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let to = sender.clone();
        std::thread::spawn(move || {
            let lines = stdout.lines().map_while(Result::ok);
            lines.map(|line| to.send(line)).all(|sent| sent.is_ok())
        });
        std::thread::spawn(move || {
            let lines = stderr.lines().map_while(Result::ok);
            lines.map(|line| sender.send(line)).all(|sent| sent.is_ok())
        });
        Self {
            child,
            lines,
            seen: Vec::new(),
        }
    }

    /// Waits for a line with all of these parts.
    fn expect(&mut self, parts: &[&str], limit: Duration) {
        let until = Instant::now() + limit;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    let is_it = parts.iter().all(|part| line.contains(part));
                    self.seen.push(line);
                    if is_it {
                        return;
                    }
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    panic!("no line with {parts:?} in {:#?}", self.seen)
                }
            }
        }
    }

    fn terminate(&self) {
        let pid = self.child.id().to_string();
        let status = Command::new("kill").args(["-s", "TERM", &pid]).status();
        assert!(status.unwrap().success());
    }

    /// How many of the lines up to now have all of these parts.
    fn count(&self, parts: &[&str]) -> usize {
        let lines = self.seen.iter();
        lines
            .filter(|line| parts.iter().all(|part| line.contains(part)))
            .count()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The cause is in the log soon, at WARN, and in the error at the end.
fn check_client(role: &str, at: &str, cause: &[&str]) {
    let mut terminal = Terminal::open(role, at);
    terminal.expect(&[&["WARN", "waiting for"], cause].concat(), CAUSE_SOON);
    terminal.expect(&[&["@error"], cause].concat(), CAUSE_SOON);
}

/// The error comes at once, and says it.
fn check_error(role: &str, at: &str, parts: &[&str]) {
    let mut terminal = Terminal::open(role, at);
    terminal.expect(&[&["@error"], parts].concat(), CAUSE_SOON);
}

/// The component waits, says why, once, and again when it is stopped.
fn check_component(role: &str, at: &str, cause: &[&str]) {
    let mut terminal = Terminal::open(role, at);
    terminal.expect(&[&["WARN", "waiting"], cause].concat(), CAUSE_SOON);
    terminal.terminate();
    terminal.expect(&[&["WARN", "stopped before"], cause].concat(), CAUSE_SOON);
    let waits = terminal.count(&["WARN", "waiting"]);
    assert_eq!(waits, 1, "{:#?}", terminal.seen);
}

async fn upper() -> ComponentHandle {
    Upper.bind(ANY).spawn().await.unwrap()
}

async fn images() -> ComponentHandle {
    Master::new("images").bind(ANY).spawn().await.unwrap()
}

/// Runs blocking checks while components run.
async fn blocking(body: impl FnOnce() + Send + 'static) {
    tokio::task::spawn_blocking(body).await.unwrap();
}

/// A master in a process of its own, which has started.
fn open_master(at: &str) -> Terminal {
    let mut master = Terminal::open("master", at);
    master.expect(&["INFO", "master `images` at", at], CAUSE_SOON);
    master
}

#[test]
fn nothing_listens() {
    let at = unbound();
    let cause = ["connection refused", "start the component", &at];
    check_client("client", &at, &cause);
    let cause = ["connection refused", "start the component"];
    check_component("worker", &at, &cause);
    check_component("follower", &at, &cause);
}

#[test]
fn host_is_not_found() {
    let cause = ["host `nowhere..invalid` not found", "correct the name"];
    check_error("client", NO_HOST, &cause);
    check_component("worker", NO_HOST, &cause);
    check_component("follower", NO_HOST, &cause);
}

#[test]
fn ipc_path_is_missing() {
    let place = Place::new();
    let at = place.ipc("db");
    let cause = ["no socket exists at this path", "start the component"];
    check_client("client", &at, &cause);
    check_component("worker", &at, &cause);
    check_component("follower", &at, &cause);
}

#[test]
fn other_program_listens() {
    check(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = format!("tcp://{}", listener.local_addr().unwrap());
        // It hangs up on whatever is not its protocol.
        let program = tokio::spawn(async move {
            while let Ok((peer, _)) = listener.accept().await {
                drop(peer);
            }
        });
        blocking(move || {
            let cause = ["does not speak ZeroMQ", "not a palm component"];
            check_client("client", &at, &cause);
            check_component("worker", &at, &cause);
        })
        .await;
        program.abort();
    });
}

#[test]
fn other_socket_of_a_component_is_no_db_address() {
    check(async {
        let server = Upper.bind(ANY).pub_address(ANY).spawn().await.unwrap();
        let at = server.address("pub_address").unwrap().to_owned();
        blocking(move || {
            let cause = ["a PUB socket listens there", "give the `db_address`"];
            check_client("client", &at, &cause);
            check_component("worker", &at, &cause);
        })
        .await;
    });
}

#[test]
fn worker_is_pointed_at_a_server() {
    check(async {
        let server = upper().await;
        let at = server.db_address().to_owned();
        let cause = format!("`upper` at {at} is a server, and workers connect to a master or hub");
        blocking(move || check_component("worker", &at, &[&cause, "give the `db_address`"])).await;
    });
}

#[test]
fn client_is_pointed_at_what_it_cannot_call() {
    check(async {
        let first = upper().await;
        let count = Count.bind(ANY).follow(first.db_address());
        let count = count.spawn().await.unwrap();
        let (master, at) = (images().await, count.db_address().to_owned());
        let master_at = master.db_address().to_owned();
        blocking(move || {
            let problem = format!("`count` at {at} is a pipeline, and clients call a server");
            check_error("client of count", &at, &[&problem, "give the `db_address`"]);
            // A worker binds nothing: who means to call one gives the address of its master.
            let problem = ["is called `images`, not `resizer`", "`images.<function>`"];
            check_error("client of resizer", &master_at, &problem);
        })
        .await;
    });
}

#[test]
fn master_has_no_workers() {
    let at = unbound();
    let mut master = open_master(&at);
    let cause = ["no worker is connected (1 call waits)"];
    let mut client = Terminal::open("client of images", &at);
    master.expect(&["WARN", cause[0], "start a worker"], CAUSE_SOON);
    client.expect(&["WARN", "waiting for `images`", cause[0]], CAUSE_SOON);
    // The master's error and the client's timeout come at the same time.
    let error = ["@error", "`images.resize`", "no worker is connected"];
    client.expect(&error, CAUSE_SOON);
}

#[test]
fn follower_is_missing() {
    let at = unbound();
    let mut server = Terminal::open("server", &at);
    server.expect(&["INFO", "server `upper` at", &at], CAUSE_SOON);
    let cause = ["no component `count` follows `upper`", "start it with"];
    check_client("client of two steps", &at, &cause);
    let _sender = Terminal::open("send of two steps", &at);
    server.expect(
        &["WARN", "no component follows `upper`", "start"],
        CAUSE_SOON,
    );
}

#[test]
fn function_is_misspelt() {
    check(async {
        let server = upper().await;
        let at = server.db_address().to_owned();
        let parts = ["unknown function `upper.csae`", "did you mean `case`?"];
        blocking(move || check_error("typo", &at, &parts)).await;
    });
}

#[test]
fn port_is_in_use() {
    check(async {
        let server = upper().await;
        let at = server.db_address().to_owned();
        blocking(move || {
            let problem = format!("cannot bind `{at}`");
            let parts = [
                &problem,
                "another program is bound to it",
                "choose another address",
            ];
            check_error("server", &at, &parts);
        })
        .await;
    });
}

/// What operators see of workers, once each.
#[test]
fn workers_that_come_and_go_are_logged_once() {
    let at = unbound();
    let mut master = open_master(&at);
    let mut worker = Terminal::open("worker", &at);
    let joined = format!("joined `images` at {at}");
    worker.expect(&["Resizer@", "INFO", &joined, "resize"], CAUSE_SOON);
    master.expect(
        &["INFO", "worker connected", "Resizer@", "resize"],
        CAUSE_SOON,
    );
    worker.terminate();
    master.expect(&["INFO", "worker draining", "Resizer@"], CAUSE_SOON);
    master.expect(&["INFO", "worker left", "Resizer@"], CAUSE_SOON);
    let mut killed = Terminal::open("worker", &at);
    killed.expect(&["joined"], CAUSE_SOON);
    drop(killed);
    master.expect(&["WARN", "worker lost", "Resizer@"], 2 * CAUSE_SOON);
    for event in ["worker draining", "worker left", "worker lost"] {
        assert_eq!(master.count(&[event]), 1, "{:#?}", master.seen);
    }
    assert_eq!(master.count(&["worker connected"]), 2, "{:#?}", master.seen);
    // Operators do not see a worker's second link, over which it receives cancellations.
    assert_eq!(master.count(&["subscriber"]), 0, "{:#?}", master.seen);
}

/// A connection that is lost later on is explained as well.
#[test]
fn lost_connection_is_explained_in_the_log_and_in_the_error() {
    let at = unbound();
    let master = open_master(&at);
    let mut worker = Terminal::open("worker", &at);
    worker.expect(&["joined"], CAUSE_SOON);
    drop(master);
    worker.expect(
        &["WARN", "waiting for", &at, "connection refused"],
        CAUSE_SOON,
    );
    let mut master = Terminal::open("master", &at);
    master.expect(&["INFO", "worker connected"], 2 * CAUSE_SOON);
    worker.expect(&["INFO", "connected to", &at], CAUSE_SOON);
}
