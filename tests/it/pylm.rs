//! Errors, deadlines and parts of palm with components of pylm between and around them.
//!
//! Needs `PALM_PYTHON`, an interpreter that has pylm (`interop/setup-pylm.sh`).

use std::fmt::Write as _;
use std::process::Command;
use std::time::Duration;

use palm::inspect::Inspector;
use palm::part::{Inbound, Outbound};
use palm::parts::{
    CacheService, Handler, HttpService, PubService, PullConnection, PullService, PushConnection,
    PushPullService, PushService, RepService, SubConnection,
};
use palm::prelude::*;
use palm::socket::{Push, Request};
use palm::{CallError, ComponentHandle, FailureKind, RemoteError};
use tokio::sync::mpsc;

use super::process::Process;
use super::setup::{ANY, SOON, address, check, options, soon};

/// A deadline that passes.
const BRIEF: Duration = Duration::from_millis(300);

/// A deadline that does not pass.
const AMPLE: Duration = Duration::from_secs(1000);

/// Starts a component or client of pylm.
fn spawn(arguments: &[&str]) -> Process {
    let python = std::env::var_os("PALM_PYTHON").expect("PALM_PYTHON names a Python with pylm");
    let mut command = Command::new(python);
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/interop/components.py");
    command.args(["-u", program]).args(arguments);
    Process::spawn("pylm", command)
}

/// A running component of pylm.
struct Started {
    _process: Process,
    db_address: String,
    pub_address: String,
}

async fn start(arguments: &[&str]) -> Started {
    let mut process = spawn(arguments);
    let line = process.stdout_line().await;
    let (db_address, pub_address) = line.split_once(' ').unwrap();
    Started {
        db_address: db_address.to_owned(),
        pub_address: pub_address.to_owned(),
        _process: process,
    }
}

/// Functions that fail in every way; components also have `echo`.
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
                panic!("as requested")
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

/// Failures that a call alone causes: the function, the payload, and the kind and text of the error.
const FAILURES: [(&str, &[u8], FailureKind); 4] = [
    ("number", b"x", FailureKind::Failed),
    ("panics", b"x", FailureKind::Panicked),
    ("missing", b"x", FailureKind::UnknownFunction),
    ("number", b"\xff", FailureKind::Undecodable),
];

/// The failure that needs a deadline, which only clients of palm set.
const LATE: (&str, &[u8], FailureKind) = ("never", b"x", FailureKind::DeadlineExceeded);

/// Returns the steps with another function at one of them.
fn with(steps: &[&str], position: usize, function: &str) -> Vec<String> {
    let mut steps: Vec<_> = steps.iter().copied().map(str::to_owned).collect();
    let (server, _) = steps[position].split_once('.').unwrap();
    steps[position] = format!("{server}.{function}");
    steps
}

/// Connects a client that does not check functions, so that the components report unknown ones.
async fn unchecked(first: &ComponentHandle, last: &ComponentHandle) -> Client {
    let client = Client::builder(first.name(), first.db_address())
        .sub_address(last.address("pub_address").unwrap())
        .check_functions(false);
    soon("connecting", client.connect()).await.unwrap()
}

/// Calls until an answer arrives, since a publisher of pylm may miss the first subscription.
async fn until_answered(client: &Client, steps: &[&str]) {
    let call = || client.eval(steps, "x").timeout(Duration::from_secs(1));
    let answered = async { while call().await.is_err() {} };
    soon("the first answer", answered).await;
}

/// Returns the error of a call that reaches a component without workers.
async fn unavailable(client: &Client, steps: &[&str]) -> RemoteError {
    let error = async {
        // Messages to a pylm worker that ends, or to a late subscriber, are lost.
        loop {
            let call = client.job(steps, ["x"]).expect_answers(1);
            let mut call = call.call_timeout(BRIEF).timeout(2 * BRIEF);
            if let Some(Err(CallError::Remote(error))) = call.next().await {
                return error;
            }
        }
    };
    let error = soon("the error", error).await;
    assert_eq!(error.kind, FailureKind::Unavailable, "{error}");
    error
}

/// Calls `steps`, which answer `x` with `answer`, and lets each of `ours` fail in each way: components of palm, and
/// their positions in the steps.
async fn fail_everywhere(client: &Client, steps: &[&str], answer: &str, ours: &[(usize, &str)]) {
    until_answered(client, steps).await;
    for (position, component) in ours {
        for (function, payload, kind) in FAILURES.into_iter().chain([LATE]) {
            let failing = with(steps, *position, function);
            let at_fault = failing[*position].clone();
            let mut call = client.job(failing, [payload]).expect_answers(1);
            if kind == FailureKind::DeadlineExceeded {
                call = call.call_timeout(BRIEF);
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
        // The deadline arrives as it was sent.
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
fn errors_and_deadlines_pass_through_a_pylm_step() {
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
fn errors_and_deadlines_pass_through_a_pylm_worker() {
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
fn errors_and_deadlines_pass_through_a_pylm_master() {
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
fn unavailability_is_reported_past_a_pylm_step() {
    check(async {
        // Upstream of pylm, and downstream, where the deadline has passed through pylm.
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

/// Lets a pylm client call `steps`, which answer `x` with `answer`, and lets each of `ours` fail in each way that the
/// client can cause: the step, and what the client receives instead of an answer.
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
    let mut client = spawn(&arguments);
    for (kind, what, expected) in expected {
        assert_eq!(client.stdout_line().await, expected, "{kind:?} {what}");
    }
}

#[test]
#[ignore = "needs PALM_PYTHON, an interpreter that has pylm"]
fn pylm_client_receives_the_payload_0_for_a_failure_and_calls_continue() {
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
        // A pylm component in the middle treats the `0` as a payload.
        let ours = [(0, "0 pylm"), (2, "0")];
        call_by_pylm([&first, &last], &steps, "x pylm", &ours).await;
    });
}

#[test]
#[ignore = "needs PALM_PYTHON, an interpreter that has pylm"]
fn functions_of_a_pylm_component_are_not_checked() {
    check(async {
        let server = start(&["server", "server"]).await;
        let client = soon("connecting", Client::connect("server", &*server.db_address));
        let client = client.await.unwrap();
        assert!(client.descriptor().is_none());
        until_answered(&client, &["server.mark"]).await;
        // A pylm server that receives an unknown function name serves no further call.
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

/// A part that sends payloads to the test.
struct Arrivals(mpsc::UnboundedSender<Bytes>);

#[palm::outbound]
impl Arrivals {
    fn handle(&mut self, message: Message) {
        // The test may not read any more.
        let _ = self.0.send(message.payload().clone());
    }
}

async fn from_parts(inbound: impl Inbound, outbound: impl Outbound) -> ComponentHandle {
    let mut template = ServerTemplate::new("parts");
    template.register_inbound(inbound, "In").route("Out");
    template.register_outbound(outbound, "Out");
    template.spawn().await.unwrap()
}

/// A chain of alternating palm and pylm components, with each kind of part on both sides.
#[test]
#[ignore = "needs PALM_PYTHON, an interpreter that has pylm"]
fn palm_and_pylm_parts_feed_each_other() {
    check(async {
        // The chain is started from its end, since each component needs the address of the next.
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
            // A pylm publisher drops messages without a subscription, and does not report subscriptions.
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
fn pylm_worker_answers_requests_of_a_push_pull_service() {
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
        // A failure is answered, and the worker continues.
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
        // Concurrent requests each receive their own answer.
        let send_request = |number: usize| {
            let question = Message::new("server.mark", number.to_string()).encode();
            request.request(question, SOON)
        };
        let answers = futures_util::future::join_all((0..50).map(send_request)).await;
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
            soon("capacity to send", push.send(message)).await.unwrap();
            let arrived = soon("a message", arrivals.recv()).await.unwrap();
            assert_eq!(arrived, payload);
        }
    });
}

#[test]
#[ignore = "needs PALM_PYTHON, an interpreter that has pylm"]
fn call_through_a_pylm_step_is_remembered_on_both_sides_of_it() {
    check(async {
        let first = First.bind(ANY).pipelined(true).spawn().await.unwrap();
        let publishes = first.address("pub_address").unwrap();
        let middle = start(&["pipeline", "middle", "first", publishes]).await;
        let last = Last.bind(ANY).follow(&*middle.db_address).to_client(true);
        let last = last.spawn().await.unwrap();
        let client = unchecked(&first, &last).await;
        let steps = ["first.time_left", "middle.mark", "last.number"];
        until_answered(&client, &["first.echo", "middle.mark", "last.echo"]).await;
        // The last step fails, since the text is not a number.
        let failed = client.eval(&steps[..], "x").message_id("lost");
        let failed = soon("the error", failed.into_future()).await;
        assert!(matches!(failed, Err(CallError::Remote(_))), "{failed:?}");
        let mut found = Vec::new();
        for component in [&first, &last] {
            let mut inspector = Inspector::new(component.db_address()).unwrap();
            inspector = inspector.recent_calls("lost");
            let answer = soon("a report", inspector.inspect_first()).await;
            let report = answer.report().unwrap();
            let calls = report.recent.iter();
            found.extend(calls.map(|it| (it.function.clone(), it.stage, it.failure)));
        }
        let failure = Some(FailureKind::Failed);
        let expected = [("first.time_left", 0, None), ("last.number", 2, failure)];
        let found: Vec<_> = found.iter().map(|it| (&*it.0, it.1, it.2)).collect();
        assert_eq!(found, expected);
    });
}
