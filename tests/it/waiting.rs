//! What the terminal of a new user says if something does not work: the cause soon, and again in the final error.
//!
//! Each case runs in a process of its own, with the log as it is by default. Time counts from the moment when the
//! process has started.

use std::time::Duration;

use palm::prelude::*;
use palm::{ClientBuilder, ComponentHandle};
use tokio::net::TcpListener;

use super::process::roles::Arguments;
use super::process::{self, Process};
use super::setup::{ANY, ANY_NAME, SOON, TempFolder, check, connect, paused, unbound};

/// Time within which the cause is reported, and again after the end of the program was requested.
const CAUSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Time until a client gives up, after which its error is printed.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(3);

/// Time within which a component reports a peer that has connected or left.
const PEER_TIMEOUT: Duration = Duration::from_secs(6);

/// Printed by the process of a case before it does anything.
const STARTED: &str = "@started";

/// A host name that is invalid, so that no name server is queried.
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

/// The role of a process: one case, which prints the error that its `main` would return.
pub(crate) fn run(case: &str, arguments: &Arguments) {
    println!("\n{STARTED}");
    palm::logging::init();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let case = case.strip_prefix("waiting_").unwrap();
    if let Err(error) = runtime.block_on(run_case(case, &arguments["at"])) {
        println!("@error {error:?}");
    }
}

async fn run_case(case: &str, at: &str) -> palm::Result<()> {
    let client = |name: &str| {
        Client::builder(name, at)
            .connect_timeout(CLIENT_TIMEOUT)
            .timeout(CLIENT_TIMEOUT)
    };
    let eval = async |builder: ClientBuilder, function: &str| {
        let client = builder.connect().await?;
        client.eval(function, "text").await?;
        palm::Result::Ok(())
    };
    match case {
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
        other => panic!("unknown case {other}"),
    }
}

/// Starts the process of a case, and waits until it has started.
async fn open(case: &str, at: &str) -> Process {
    let mut command = process::role(&format!("waiting_{case}"), &[("at", at)]);
    command.env_remove("PALM_LOG").env_remove("RUST_LOG");
    let mut process = Process::spawn(case, command);
    process.stdout_line_with(STARTED, SOON).await;
    process
}

/// Checks that the log reports the cause at WARN, and the final error repeats it.
async fn check_client(case: &str, at: &str, cause: &[&str]) {
    let mut process = open(case, at).await;
    let warning = [&["WARN", "waiting for"], cause].concat();
    process.expect(&warning, CAUSE_TIMEOUT).await;
    let error = [&["@error"], cause].concat();
    process.expect(&error, CLIENT_TIMEOUT + CAUSE_TIMEOUT).await;
}

/// Checks that the program fails with an error that has these parts.
async fn check_error(case: &str, at: &str, parts: &[&str]) {
    let mut process = open(case, at).await;
    let error = [&["@error"], parts].concat();
    process.expect(&error, CAUSE_TIMEOUT).await;
}

/// Checks that a component that waits logs the cause once, and again when it is stopped.
async fn check_component(case: &str, at: &str, cause: &[&str]) {
    let mut process = open(case, at).await;
    let warning = [&["WARN", "waiting"], cause].concat();
    process.expect(&warning, CAUSE_TIMEOUT).await;
    process.terminate().unwrap();
    let end = [&["WARN", "stopped before"], cause].concat();
    process.expect(&end, CAUSE_TIMEOUT).await;
    assert_eq!(process.count(&["WARN", "waiting"]), 1);
}

async fn upper() -> ComponentHandle {
    Upper.bind(ANY).spawn().await.unwrap()
}

async fn images() -> ComponentHandle {
    Master::new("images").bind(ANY).spawn().await.unwrap()
}

/// Starts a master in a process of its own.
async fn open_master(at: &str) -> Process {
    let mut master = open("master", at).await;
    let started = ["INFO", "master `images` at", at];
    master.expect(&started, CAUSE_TIMEOUT).await;
    master
}

#[test]
fn unbound_address_is_reported_as_connection_refused() {
    check(async {
        let at = unbound();
        let cause = ["connection refused", "start the component", &at];
        check_client("client", &at, &cause).await;
        let cause = ["connection refused", "start the component"];
        check_component("worker", &at, &cause).await;
        check_component("follower", &at, &cause).await;
    });
}

#[test]
fn unknown_host_is_reported() {
    check(async {
        let cause = ["host `nowhere..invalid` not found", "correct the name"];
        check_error("client", NO_HOST, &cause).await;
        check_component("worker", NO_HOST, &cause).await;
        check_component("follower", NO_HOST, &cause).await;
    });
}

#[test]
fn missing_ipc_path_is_reported() {
    check(async {
        let folder = TempFolder::new();
        let at = folder.ipc("db");
        let cause = ["no socket exists at this path", "start the component"];
        check_client("client", &at, &cause).await;
        check_component("worker", &at, &cause).await;
        check_component("follower", &at, &cause).await;
    });
}

#[test]
fn program_that_does_not_speak_zeromq_is_reported() {
    check(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = format!("tcp://{}", listener.local_addr().unwrap());
        // The program closes each connection immediately, as if the peer spoke another protocol.
        let program = tokio::spawn(async move {
            while let Ok((peer, _)) = listener.accept().await {
                drop(peer);
            }
        });
        let cause = ["does not speak ZeroMQ", "not a palm component"];
        check_client("client", &at, &cause).await;
        check_component("worker", &at, &cause).await;
        program.abort();
    });
}

#[test]
fn address_of_another_socket_than_the_db_address_is_reported() {
    check(async {
        let server = Upper.bind(ANY).pub_address(ANY).spawn().await.unwrap();
        let at = server.address("pub_address").unwrap().to_owned();
        let cause = ["a PUB socket listens there", "give the `db_address`"];
        check_client("client", &at, &cause).await;
        check_component("worker", &at, &cause).await;
    });
}

#[test]
fn worker_connected_to_a_server_is_reported() {
    check(async {
        let server = upper().await;
        let at = server.db_address().to_owned();
        let cause = format!("`upper` at {at} is a server, and workers connect to a master or hub");
        check_component("worker", &at, &[&cause, "give the `db_address`"]).await;
    });
}

#[test]
fn client_connected_to_a_pipeline_or_by_a_worker_name_is_reported() {
    check(async {
        let first = upper().await;
        let count = Count.bind(ANY).follow(first.db_address());
        let count = count.spawn().await.unwrap();
        let (master, at) = (images().await, count.db_address().to_owned());
        let master_at = master.db_address().to_owned();
        let problem = format!("`count` at {at} is a pipeline, and clients call a server");
        check_error("client of count", &at, &[&problem, "give the `db_address`"]).await;
        // A worker binds no address, so calls of its functions go to its master.
        let problem = ["is called `images`, not `resizer`", "`images.<function>`"];
        check_error("client of resizer", &master_at, &problem).await;
    });
}

#[test]
fn master_without_workers_is_reported() {
    check(async {
        let at = unbound();
        let mut master = open_master(&at).await;
        let cause = ["no worker is connected (1 call waits)"];
        let mut client = open("client of images", &at).await;
        client
            .expect(&["WARN", "waiting for `images`", cause[0]], CAUSE_TIMEOUT)
            .await;
        master
            .expect(&["WARN", cause[0], "start a worker"], CAUSE_TIMEOUT)
            .await;
        // The master's error and the client's own timeout are due at the same time.
        let error = ["@error", "`images.resize`", "no worker is connected"];
        client.expect(&error, CLIENT_TIMEOUT + CAUSE_TIMEOUT).await;
    });
}

#[test]
fn missing_follower_is_reported() {
    check(async {
        let at = unbound();
        let mut server = open("server", &at).await;
        server
            .expect(&["INFO", "server `upper` at", &at], CAUSE_TIMEOUT)
            .await;
        let cause = ["no component `count` follows `upper`", "start it with"];
        check_client("client of two steps", &at, &cause).await;
        let _sender = open("send of two steps", &at).await;
        server
            .expect(
                &["WARN", "no component follows `upper`", "start"],
                CAUSE_TIMEOUT,
            )
            .await;
    });
}

#[test]
fn misspelt_function_is_reported_with_a_suggestion() {
    check(async {
        let server = upper().await;
        let at = server.db_address().to_owned();
        let parts = ["unknown function `upper.csae`", "did you mean `case`?"];
        check_error("typo", &at, &parts).await;
    });
}

#[test]
fn port_in_use_is_reported() {
    check(async {
        let server = upper().await;
        let at = server.db_address().to_owned();
        let problem = format!("cannot bind `{at}`");
        let parts = [
            &problem,
            "another program is bound to it",
            "choose another address",
        ];
        check_error("server", &at, &parts).await;
    });
}

#[test]
fn workers_that_connect_and_leave_are_logged_once() {
    check(async {
        let at = unbound();
        let mut master = open_master(&at).await;
        let mut worker = open("worker", &at).await;
        let joined = format!("joined `images` at {at}");
        worker
            .expect(&["Resizer@", "INFO", &joined, "resize"], PEER_TIMEOUT)
            .await;
        master
            .expect(
                &["INFO", "worker connected", "Resizer@", "resize"],
                PEER_TIMEOUT,
            )
            .await;
        worker.terminate().unwrap();
        master
            .expect(&["INFO", "worker draining", "Resizer@"], PEER_TIMEOUT)
            .await;
        master
            .expect(&["INFO", "worker left", "Resizer@"], PEER_TIMEOUT)
            .await;
        let mut killed = open("worker", &at).await;
        killed.expect(&["joined"], PEER_TIMEOUT).await;
        drop(killed);
        master
            .expect(&["WARN", "worker lost", "Resizer@"], 2 * PEER_TIMEOUT)
            .await;
        for event in ["worker draining", "worker left", "worker lost"] {
            assert_eq!(master.count(&[event]), 1);
        }
        assert_eq!(master.count(&["worker connected"]), 2);
        // Operators do not see a worker's second link, over which it receives cancellations.
        assert_eq!(master.count(&["subscriber"]), 0);
    });
}

#[test]
fn lost_connection_is_explained_in_the_log_and_in_the_error() {
    check(async {
        let at = unbound();
        let master = open_master(&at).await;
        let mut worker = open("worker", &at).await;
        worker.expect(&["joined"], PEER_TIMEOUT).await;
        drop(master);
        worker
            .expect(
                &["WARN", "waiting for", &at, "connection refused"],
                CAUSE_TIMEOUT,
            )
            .await;
        let mut master = open("master", &at).await;
        master
            .expect(&["INFO", "worker connected"], 2 * PEER_TIMEOUT)
            .await;
        worker
            .expect(&["INFO", "connected to", &at], PEER_TIMEOUT)
            .await;
    });
}

#[test]
fn call_with_a_timeout_of_a_second_fails_with_its_cause() {
    paused(async {
        let master = Master::new("images").bind(ANY_NAME).spawn().await.unwrap();
        let client = connect("images", &master).await;
        let call = client.eval("images.resize", "x");
        let error = call.timeout(Duration::from_secs(1)).await.unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("within 1s: ") && text.contains("no worker"),
            "{text}"
        );
    });
}
