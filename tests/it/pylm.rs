//! What pylm, between components of ours and at their ends, does to what only ours know. Needs
//! `PALM_PYTHON`, an interpreter that has pylm (`interop/setup-pylm.sh`).

use std::fmt::Write as _;
use std::process::Stdio;
use std::time::Duration;

use palm::part::{Inbound, Outbound};
use palm::parts::{
    CacheService, Handler, HttpService, PubService, PullConnection, PullService, PushConnection,
    PushPullService, PushService, RepService, SubConnection,
};
use palm::prelude::*;
use palm::socket::{Push, Request};
use palm::{CallError, ComponentHandle, FailureKind, RemoteError};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::sync::mpsc;

use super::setup::{ANY, SOON, address, check, options, soon};

/// A deadline that passes.
const BRIEF: Duration = Duration::from_millis(300);

/// One that does not.
const AMPLE: Duration = Duration::from_secs(1000);

/// A component or client of pylm's, as a process.
struct Pylm {
    _child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Pylm {
    fn spawn(arguments: &[&str]) -> Self {
        let python = std::env::var_os("PALM_PYTHON").expect("PALM_PYTHON names a Python with pylm");
        let mut command = Command::new(python);
        let program = concat!(env!("CARGO_MANIFEST_DIR"), "/interop/components.py");
        command.args(["-u", program]).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.kill_on_drop(true).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let _child = child;
        Self { _child, lines }
    }

    async fn line(&mut self) -> String {
        let line = soon("a line of pylm", self.lines.next_line()).await;
        line.unwrap().expect("pylm has not ended")
    }
}

/// A component of pylm's that runs.
struct Started {
    _pylm: Pylm,
    db_address: String,
    pub_address: String,
}

async fn start(arguments: &[&str]) -> Started {
    let mut pylm = Pylm::spawn(arguments);
    let line = pylm.line().await;
    let (db_address, pub_address) = line.split_once(' ').unwrap();
    Started {
        db_address: db_address.to_owned(),
        pub_address: pub_address.to_owned(),
        _pylm: pylm,
    }
}

/// Where functions fail in every way; `echo` is there as well.
macro_rules! component {
    ($attribute:ident, $key:ident = $name:literal, $type:ident) => {
        struct $type;

        #[palm::$attribute($key = $name)]
        impl $type {
            #[palm::method]
            fn number(&self, text: String) -> Result<String, std::num::ParseIntError> {
                Ok(text.parse::<u32>()?.to_string())
            }

            #[palm::method]
            fn panics(&self) -> Bytes {
                panic!("as told")
            }

            #[palm::method]
            async fn never(&self) -> Bytes {
                std::future::pending().await
            }

            #[palm::method]
            fn time_left(&self, _: Bytes, context: Context) -> String {
                format!("{:?}", context.time_left().map(|left| left.as_secs()))
            }
        }
    };
}

component!(server, name = "first", First);
component!(sink, name = "last", Last);
component!(worker, server = "master", Hand);

/// A function, a payload with which it fails, and how it does: what a caller brings about by its call
/// alone.
const FAILURES: [(&str, &[u8], FailureKind); 4] = [
    ("number", b"x", FailureKind::Failed),
    ("panics", b"x", FailureKind::Panicked),
    ("missing", b"x", FailureKind::UnknownFunction),
    ("number", b"\xff", FailureKind::Undecodable),
];

/// And what takes a deadline, which only clients of ours set.
const LATE: (&str, &[u8], FailureKind) = ("never", b"x", FailureKind::DeadlineExceeded);

/// The steps, with another function at one of them.
fn with(steps: &[&str], position: usize, function: &str) -> Vec<String> {
    let mut steps: Vec<_> = steps.iter().copied().map(str::to_owned).collect();
    let (server, _) = steps[position].split_once('.').unwrap();
    steps[position] = format!("{server}.{function}");
    steps
}

/// A client that finds out from the components which functions there are.
async fn unchecked(first: &ComponentHandle, last: &ComponentHandle) -> Client {
    let client = Client::builder(first.name(), first.db_address())
        .sub_address(last.address("pub_address").unwrap())
        .check_functions(false);
    soon("connecting", client.connect()).await.unwrap()
}

/// Waits until the answers come: pylm hears a subscription when it likes.
async fn until_answered(client: &Client, steps: &[&str]) {
    let call = || client.eval(steps, "x").timeout(Duration::from_secs(1));
    let answered = async { while call().await.is_err() {} };
    soon("the first answer", answered).await;
}

/// The error of a call for which somewhere no worker is.
async fn unavailable(client: &Client, steps: &[&str]) -> RemoteError {
    let error = async {
        // What is on its way to a worker of pylm that ends is lost, or to who subscribes too late.
        loop {
            let call = client.job(steps, ["x"]).expect_answers(1);
            let mut call = call.deadline(BRIEF).timeout(2 * BRIEF);
            if let Some(Err(CallError::Remote(error))) = call.next().await {
                return error;
            }
        }
    };
    let error = soon("the error", error).await;
    assert_eq!(error.kind, FailureKind::Unavailable, "{error}");
    error
}

/// Calls `steps`, which answer `x` with `answer`, and lets each of `ours` fail in each way: components of
/// ours, and the steps at which they are.
async fn fail_everywhere(client: &Client, steps: &[&str], answer: &str, ours: &[(usize, &str)]) {
    until_answered(client, steps).await;
    for (position, component) in ours {
        for (function, payload, kind) in FAILURES.into_iter().chain([LATE]) {
            let failing = with(steps, *position, function);
            let at_fault = failing[*position].clone();
            let mut call = client.job(failing, [payload]).expect_answers(1);
            if kind == FailureKind::DeadlineExceeded {
                call = call.deadline(BRIEF);
            }
            let error = match soon("the error", call.next()).await.unwrap() {
                Err(CallError::Remote(error)) => error,
                other => panic!("{at_fault} answered {other:?}"),
            };
            assert_eq!(error.kind, kind, "{error}");
            assert_eq!(error.component, *component);
            assert_eq!(error.function, at_fault);
            assert_eq!(error.step, *position as i64);
            let eval = client.eval(steps, "x").into_future();
            assert_eq!(soon("an answer", eval).await.unwrap(), answer);
        }
        // The deadline comes there as it was sent.
        let eval = client.eval(with(steps, *position, "time_left"), "x");
        let left = soon("an answer", eval.timeout(AMPLE).into_future()).await;
        let left = String::from_utf8(left.unwrap().to_vec()).unwrap();
        let expected = ["Some(999)", "Some(998)"];
        assert!(
            expected.iter().any(|expected| left.starts_with(expected)),
            "{left}"
        );
    }
}

#[test]
#[ignore = "needs PALM_PYTHON, an interpreter that has pylm"]
fn errors_and_deadlines_outlive_a_step_of_pylm() {
    check(async {
        let first = First.bind(ANY).pipelined(true).spawn().await.unwrap();
        let publishes = first.address("pub_address").unwrap();
        let middle = start(&["pipeline", "middle", "first", publishes]).await;
        let last = Last.bind(ANY).stream(&*middle.pub_address, "middle");
        let last = last.to_client(true).spawn().await.unwrap();
        let client = unchecked(&first, &last).await;
        let steps = ["first.echo", "middle.mark", "last.echo"];
        fail_everywhere(&client, &steps, "x pylm", &[(0, "first"), (2, "last")]).await;
    });
}

#[test]
#[ignore = "needs PALM_PYTHON, an interpreter that has pylm"]
fn errors_and_deadlines_outlive_a_worker_of_pylm() {
    check(async {
        let first = First.bind(ANY).pipelined(true).spawn().await.unwrap();
        let hub = Hub::new("hub").bind(ANY).follow(first.db_address());
        let hub = hub.pipelined(true).spawn().await.unwrap();
        let last = Last.bind(ANY).follow(hub.db_address()).to_client(true);
        let last = last.spawn().await.unwrap();
        let worker = start(&["worker", hub.db_address()]).await;
        let client = unchecked(&first, &last).await;
        let steps = ["first.echo", "hub.mark", "last.echo"];
        fail_everywhere(&client, &steps, "x pylm", &[(0, "first"), (2, "last")]).await;

        drop(worker);
        let error = unavailable(&client, &steps).await;
        assert_eq!((&*error.component, error.step), ("hub", 1));
    });
}

#[test]
#[ignore = "needs PALM_PYTHON, an interpreter that has pylm"]
fn errors_and_deadlines_outlive_a_master_of_pylm() {
    check(async {
        let master = start(&["master", "master"]).await;
        let hand = Hand.connect(&*master.db_address).name("hand");
        let _hand = hand.spawn().await.unwrap();
        let client = soon("connecting", Client::connect("master", &*master.db_address));
        fail_everywhere(
            &client.await.unwrap(),
            &["master.echo"],
            "x",
            &[(0, "hand")],
        )
        .await;
    });
}

#[test]
#[ignore = "needs PALM_PYTHON, an interpreter that has pylm"]
fn what_is_not_available_is_told_past_a_step_of_pylm() {
    check(async {
        // Before it; and behind it, where the deadline has come through it.
        for (position, name) in [(0, "master"), (2, "hub")] {
            let master = Master::new("master").bind(ANY).pipelined(true);
            let master = master.spawn().await.unwrap();
            let publishes = master.address("pub_address").unwrap();
            let middle = start(&["pipeline", "middle", "master", publishes]).await;
            let hub = Hub::new("hub").bind(ANY).follow(&*middle.db_address);
            let hub = hub.spawn().await.unwrap();
            let other = if position == 0 { &hub } else { &master };
            let hand = Hand.connect(other.db_address()).name("hand");
            let _hand = hand.spawn().await.unwrap();
            let client = unchecked(&master, &hub).await;
            let steps = ["master.echo", "middle.mark", "hub.echo"];
            let error = unavailable(&client, &steps).await;
            assert_eq!((&*error.component, error.step), (name, position as i64));
        }
    });
}

/// Has pylm's client call `steps`, which answer `x` with `answer`, and lets each of `ours` fail in each way
/// that it can bring about: the step, and what it gets instead of an answer.
async fn call_by_pylm(
    components: [&ComponentHandle; 2],
    steps: &[&str],
    answer: &str,
    ours: &[(usize, &str)],
) {
    let [first, last] = components;
    let mut arguments = vec!["client".to_owned(), first.name().to_owned()];
    let publishes = last.address("pub_address").unwrap();
    arguments.extend([first.db_address(), publishes].map(str::to_owned));
    let mut expected = Vec::new();
    for (position, failed) in ours {
        for (function, payload, kind) in FAILURES {
            let mut call = with(steps, *position, function).join(" ") + "=";
            for byte in payload {
                write!(call, "{byte:02x}").unwrap();
            }
            arguments.extend([call, format!("{}=78", steps.join(" "))]);
            expected.extend([(kind, "fails", *failed), (kind, "is over", answer)]);
        }
    }
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let mut client = Pylm::spawn(&arguments);
    for (kind, what, expected) in expected {
        assert_eq!(client.line().await, expected, "{kind:?} {what}");
    }
}

#[test]
#[ignore = "needs PALM_PYTHON, an interpreter that has pylm"]
fn a_client_of_pylm_gets_the_payload_0_and_all_goes_on() {
    check(async {
        let first = First.bind(ANY).spawn().await.unwrap();
        call_by_pylm([&first; 2], &["first.echo"], "x", &[(0, "0")]).await;

        let master = Master::new("master").bind(ANY).spawn().await.unwrap();
        let hand = Hand.connect(master.db_address()).name("hand");
        let _hand = hand.spawn().await.unwrap();
        call_by_pylm([&master; 2], &["master.echo"], "x", &[(0, "0")]).await;

        let first = First.bind(ANY).pipelined(true).spawn().await.unwrap();
        let publishes = first.address("pub_address").unwrap();
        let middle = start(&["pipeline", "middle", "first", publishes]).await;
        let last = Last.bind(ANY).stream(&*middle.pub_address, "middle");
        let last = last.to_client(true).spawn().await.unwrap();
        let steps = ["first.echo", "middle.mark", "last.echo"];
        // pylm, in the middle, takes the `0` for a payload.
        let ours = [(0, "0 pylm"), (2, "0")];
        call_by_pylm([&first, &last], &steps, "x pylm", &ours).await;
    });
}

#[test]
#[ignore = "needs PALM_PYTHON, an interpreter that has pylm"]
fn what_pylm_tells_nothing_of_is_not_checked() {
    check(async {
        let server = start(&["server", "server"]).await;
        let client = soon("connecting", Client::connect("server", &*server.db_address));
        let client = client.await.unwrap();
        assert!(client.descriptor().is_none());
        until_answered(&client, &["server.mark"]).await;
        // A server of pylm that gets a name that it does not have is deaf from then on.
        for function in ["server.mrk", "server.mark"] {
            let eval = client.eval(function, "x").timeout(BRIEF).into_future();
            let answer = soon("an error", eval).await;
            assert!(
                matches!(answer, Err(CallError::Timeout { .. })),
                "{function}: {answer:?}"
            );
        }

        let master = start(&["master", "master"]).await;
        let _worker = start(&["worker", &master.db_address]).await;
        let client = soon("connecting", Client::connect("master", &*master.db_address));
        let client = client.await.unwrap();
        assert!(client.descriptor().is_none());
        until_answered(&client, &["master.mark"]).await;
        for (function, answer) in [("master.mrk", "0"), ("master.mark", "x pylm")] {
            let eval = client.eval(function, "x").into_future();
            assert_eq!(soon("an answer", eval).await.unwrap(), answer);
            let mut job = client.job(function, ["x"]).expect_answers(1);
            assert_eq!(
                soon("an answer", job.next()).await.unwrap().unwrap(),
                answer
            );
        }
    });
}

/// Gives payloads to the test.
struct Arrivals(mpsc::UnboundedSender<Bytes>);

#[palm::outbound]
impl Arrivals {
    fn handle(&mut self, message: Message) {
        // The test may have seen enough.
        let _ = self.0.send(message.payload().clone());
    }
}

async fn from_parts(inbound: impl Inbound, outbound: impl Outbound) -> ComponentHandle {
    let mut template = ServerTemplate::new("parts");
    template.register_inbound(inbound, "In").route("Out");
    template.register_outbound(outbound, "Out");
    template.spawn().await.unwrap()
}

/// A chain of components, ours and pylm's in turn, that has each kind of part on both sides.
#[test]
#[ignore = "needs PALM_PYTHON, an interpreter that has pylm"]
fn parts_of_ours_and_of_pylm_feed_each_other() {
    check(async {
        // Whose address is not known yet is begun with, from the end on.
        let last = start(&["parts", "PullService", "-", "PubService", "-"]).await;
        let [last_pulls, last_publishes] = [&last.db_address, &last.pub_address];
        let (sender, mut arrivals) = mpsc::unbounded_channel();
        let arrive = Handler::new(Arrivals(sender));
        let _end = from_parts(SubConnection::connect(last_publishes, "seeker"), arrive).await;

        let third = from_parts(PullService::bind(ANY), PubService::bind(ANY)).await;
        let pulls = third.address("pull_address").unwrap();
        let first = from_parts(RepService::bind(ANY), PushService::bind(ANY)).await;
        let pushes = first.address("push_address").unwrap();
        let _second = start(&["parts", "PullConnection", pushes, "PushConnection", pulls]).await;
        let publishes = third.address("pub_address").unwrap();
        let fourth = [
            "parts",
            "SubConnection",
            publishes,
            "PushService",
            "-",
            "seeker",
        ];
        let fourth = start(&fourth).await;
        let pull = PullConnection::connect(&fourth.pub_address);
        let _fifth = from_parts(pull, PushConnection::connect(last_pulls)).await;

        let rep = first.address("rep_address").unwrap();
        let request = Request::connect(&address(rep), &options()).await.unwrap();
        let mut message = Message::new("any.thing", "through all of them");
        message.set_client("seeker");
        let arrived = async {
            // pylm's publisher drops what nobody has subscribed to yet, and tells nobody when somebody has.
            loop {
                let acknowledged = request.request(message.encode(), SOON).await.unwrap();
                assert_eq!(acknowledged, "1");
                let wait = Duration::from_millis(200);
                if let Ok(arrived) = tokio::time::timeout(wait, arrivals.recv()).await {
                    return arrived.unwrap();
                }
            }
        };
        assert_eq!(soon("a message", arrived).await, "through all of them");
    });
}

#[test]
#[ignore = "needs PALM_PYTHON, an interpreter that has pylm"]
fn a_worker_of_pylm_answers_who_asks_a_push_pull_service() {
    check(async {
        let mut template = ServerTemplate::new("server");
        template
            .register_inbound(RepService::bind(ANY), "Rep")
            .route("Workers")
            .block(true);
        template.register_outbound(PushPullService::bind(ANY, ANY), "Workers");
        template.register_bypass(CacheService::bind(ANY), "Cache");
        let server = template.spawn().await.unwrap();
        let _worker = start(&["worker", server.db_address()]).await;

        let rep = server.address("rep_address").unwrap();
        let request = Request::connect(&address(rep), &options()).await.unwrap();
        // What it fails on is answered too, and ends nothing.
        for (function, payload, expected) in [
            ("server.mark", "x", "x pylm"),
            ("server.mrk", "x", "0"),
            ("server.mark", "y", "y pylm"),
        ] {
            let question = Message::new(function, payload).encode();
            let answer = request.request(question, SOON).await.unwrap();
            let answer = Message::decode(answer).unwrap();
            assert_eq!(answer.payload(), expected, "{function}");
        }
        // Many at once, each with its own answer.
        let ask = |number: usize| {
            let question = Message::new("server.mark", number.to_string()).encode();
            request.request(question, SOON)
        };
        let answers = futures_util::future::join_all((0..50).map(ask)).await;
        for (number, answer) in answers.into_iter().enumerate() {
            let answer = Message::decode(answer.unwrap()).unwrap();
            assert_eq!(answer.payload(), &format!("{number} pylm"));
        }
        server.shutdown().await.unwrap();
    });
}

#[test]
#[ignore = "needs PALM_PYTHON, an interpreter that has pylm"]
fn pylm_posts_to_an_http_service() {
    check(async {
        let (sender, mut arrivals) = mpsc::unbounded_channel();
        let http = HttpService::bind("127.0.0.1:0");
        let server = from_parts(http, Handler::new(Arrivals(sender))).await;
        let url = server.address("http_address").unwrap();
        let posts = start(&["parts", "PullService", "-", "HttpConnection", url]).await;
        let pulls = address(&posts.db_address);
        let push = Push::connect(&pulls, &options()).await.unwrap();
        for payload in ["one", "two", "three"] {
            let message = Message::new("any.thing", payload).encode();
            soon("room", push.send(message)).await.unwrap();
            let arrived = soon("a message", arrivals.recv()).await.unwrap();
            assert_eq!(arrived, payload);
        }
    });
}
