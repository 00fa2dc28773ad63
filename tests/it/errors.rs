//! Failures in any component return to the caller as errors.

use std::time::Duration;

use futures_util::StreamExt;
use palm::prelude::*;
use palm::socket::Request;
use palm::{CallError, ComponentHandle, FailureKind, RemoteError};

use super::setup::{
    ANY, Caller, Gate, address, check, connect, connect_through, eventually, options, soon,
    starts_again, unbound,
};

/// A deadline that passes.
const BRIEF: Duration = Duration::from_millis(300);

/// The functions of all components of these tests.
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
            async fn panics(&self) -> Bytes {
                tokio::task::yield_now().await;
                panic!("as requested")
            }

            #[palm::method]
            async fn never(&self) -> Bytes {
                std::future::pending().await
            }

            #[palm::method]
            fn mark(&self, text: String) -> String {
                format!("{text} {}", $name)
            }
        }
    };
}

component!(server, name = "first", First);
component!(pipeline, name = "middle", Middle);
component!(sink, name = "last", Last);
component!(worker, server = "hub", Hand);

/// Connects a client that does not check functions, so that the components report unknown ones.
async fn unchecked(first: &ComponentHandle, last: &ComponentHandle) -> Client {
    let client = Client::builder(first.name(), first.db_address())
        .sub_address(last.address("pub_address").unwrap())
        .check_functions(false);
    soon("connecting", client.connect()).await.unwrap()
}

/// Makes calls that fail at each component in turn, while the others echo. `worker` names the worker, and the component
/// that it works for.
async fn fail_everywhere(client: &Client, names: &[&str], worker: (&str, &str)) {
    for (position, name) in names.iter().enumerate() {
        for (function, payload, kind, message) in [
            (
                "number",
                &b"x"[..],
                FailureKind::Failed,
                "invalid digit found in string",
            ),
            ("panics", b"x", FailureKind::Panicked, "as requested"),
            (
                "missing",
                b"x",
                FailureKind::UnknownFunction,
                "no function `missing` here; there are",
            ),
            (
                "mark",
                b"x\xff",
                FailureKind::Undecodable,
                "the payload is not a `String`: invalid utf-8 sequence of 1 bytes from index 1",
            ),
            (
                "never",
                b"x",
                FailureKind::DeadlineExceeded,
                "its deadline has passed",
            ),
        ] {
            let step = |(number, name): (usize, &&str)| {
                let function = if number == position { function } else { "echo" };
                format!("{name}.{function}")
            };
            let steps: Vec<_> = names.iter().enumerate().map(step).collect();
            let mut call = client.job(steps, [payload]).expect_answers(1);
            if kind == FailureKind::DeadlineExceeded {
                call = call.call_timeout(BRIEF);
            }
            let answer = soon("the error", call.next()).await.unwrap();
            let Err(CallError::Remote(error)) = answer else {
                panic!("{name}.{function} answered {answer:?}");
            };
            // A master knows the functions of its workers.
            let (component, message) = match (*name == worker.0, function) {
                (true, "missing") => (*name, "no worker has `missing`; there are"),
                (true, _) => (worker.1, message),
                (false, _) => (*name, message),
            };
            assert_eq!(error.kind, kind);
            assert!(error.message.contains(message), "{error}");
            assert_eq!(error.component, component);
            assert_eq!(error.function, format!("{name}.{function}"));
            assert_eq!(error.step, position as i64 * i64::from(names.len() > 1));
        }
    }
}

#[test]
fn each_component_kind_reports_failures_to_the_caller() {
    check(async {
        let first = First.bind(ANY).spawn().await.unwrap();
        fail_everywhere(&unchecked(&first, &first).await, &["first"], ("", "")).await;

        let master = Master::new("hub").bind(ANY).spawn().await.unwrap();
        let hand = Hand.connect(master.db_address()).name("hand");
        let _hand = hand.spawn().await.unwrap();
        fail_everywhere(
            &connect_through(&master, &master).await,
            &["hub"],
            ("hub", "hand"),
        )
        .await;
    });
}

#[test]
fn error_bypasses_the_steps_that_follow() {
    check(async {
        let first = First.bind(ANY).pipelined(true).spawn().await.unwrap();
        let middle = Middle.bind(ANY).follow(first.db_address());
        let middle = middle.spawn().await.unwrap();
        let hub = Hub::new("hub").bind(ANY).follow(middle.db_address());
        let hub = hub.pipelined(true).spawn().await.unwrap();
        let hand = Hand.connect(hub.db_address()).name("hand");
        let hand = hand.spawn().await.unwrap();
        let last = Last.bind(ANY).follow(hub.db_address()).to_client(true);
        let last = last.spawn().await.unwrap();
        let client = unchecked(&first, &last).await;
        let names = ["first", "middle", "hub", "last"];
        fail_everywhere(&client, &names, ("hub", "hand")).await;

        let called = |component: &ComponentHandle| {
            let metrics = component.metrics();
            metrics.function("mark").unwrap().calls
        };
        let components = [&middle, &hand, &last];
        let before = components.map(called);
        let steps = ["first.number", "middle.mark", "hub.mark", "last.mark"];
        for payload in ["x", "7"] {
            let answer = soon("an answer", client.eval(steps, payload).into_future()).await;
            match answer {
                Ok(answer) => assert_eq!(answer, "7 middle hub last"),
                Err(error) => assert_eq!(
                    error.to_string(),
                    "`first.number` failed in `first`: invalid digit found in string"
                ),
            }
        }
        assert_eq!(components.map(called), before.map(|calls| calls + 1));
    });
}

#[test]
fn undecodable_argument_is_reported_with_its_type() {
    check(async {
        let first = First.bind(ANY).spawn().await.unwrap();
        let client = connect_through(&first, &first).await;
        let eval = client
            .eval(First::MARK.untyped(), &b"\xff"[..])
            .into_future();
        let error = soon("the error", eval).await.unwrap_err();
        let CallError::Remote(RemoteError { kind, message, .. }) = &error else {
            panic!("{error}");
        };
        assert_eq!(*kind, FailureKind::Undecodable);
        assert!(message.contains("String"), "{message}");
        assert!(!error.is_transient());
    });
}

#[test]
fn failed_call_does_not_stop_the_rest_of_its_job() {
    check(async {
        let first = First.bind(ANY).spawn().await.unwrap();
        let client = connect_through(&first, &first).await;
        let payloads = (0..100).map(|number| match number % 10 {
            3 => "three".to_owned(),
            _ => number.to_string(),
        });
        let job = client.job(First::NUMBER, payloads).expect_answers(100);
        let answers: Vec<_> = soon("the answers", job.collect::<Vec<_>>()).await;
        assert_eq!(answers.len(), 100);
        for (number, answer) in answers.into_iter().enumerate() {
            match answer {
                Ok(answer) => assert_eq!(answer, number.to_string()),
                Err(CallError::Remote(_)) => assert_eq!(number % 10, 3),
                Err(error) => panic!("{error}"),
            }
        }
    });
}

#[test]
fn legacy_client_receives_the_payload_0_for_a_failure() {
    check(async {
        let first = First.bind(ANY).spawn().await.unwrap();
        let mut caller = Caller::new(&first, "caller").await;
        caller.send("first.number", "x").await;
        let (_, message) = caller.publication().await;
        assert_eq!(message.payload(), "0");
        assert_eq!(message.error().unwrap().component, "first");
    });
}

struct Busy {
    gate: Gate,
}

#[palm::server(name = "busy")]
impl Busy {
    #[palm::method]
    async fn pass(&self) -> &'static str {
        self.gate.pass().await;
        "passed"
    }

    #[palm::method]
    fn time_left(&self, _: (), context: Context) -> String {
        format!("{:?}", context.time_left().map(|left| left.as_secs()))
    }
}

#[test]
fn expired_call_is_dropped_before_it_is_begun() {
    check(async {
        let gate = Gate::closed();
        let busy = Busy { gate: gate.clone() };
        let busy = busy.bind(ANY).concurrency(1).spawn().await.unwrap();
        let client = connect_through(&busy, &busy).await;
        let mut calls = client
            .job(Busy::PASS, [(); 3])
            .call_timeout(BRIEF)
            .expect_answers(3);
        for _ in 0..3 {
            let answer = soon("an error", calls.next()).await.unwrap();
            let Err(CallError::Remote(error)) = answer else {
                panic!("answered {answer:?}");
            };
            assert_eq!(error.kind, FailureKind::DeadlineExceeded);
        }
        assert_eq!(gate.count(), 1, "two were queued until it was too late");
        // Expired calls do not occupy the component.
        gate.open();
        let answer = client.eval(Busy::PASS, ()).into_future();
        assert_eq!(soon("an answer", answer).await.unwrap(), "passed");
    });
}

#[test]
fn context_returns_the_time_that_is_left() {
    check(async {
        let busy = Busy {
            gate: Gate::closed(),
        };
        let busy = busy.bind(unbound()).spawn().await.unwrap();
        let client = connect_through(&busy, &busy).await;
        let eval = client.eval(Busy::TIME_LEFT, ());
        let left = eval.timeout(Duration::from_secs(1000)).into_future();
        let left = soon("an answer", left).await.unwrap();
        assert!(["Some(999)", "Some(998)"].contains(&&*left), "{left}");
        let mut job = client.job(Busy::TIME_LEFT, [()]).expect_answers(1);
        assert_eq!(
            soon("an answer", job.next()).await.unwrap().unwrap(),
            "None"
        );
    });
}

#[test]
fn master_without_workers_reports_it_at_the_deadline() {
    check(async {
        let master = Master::new("hub").bind(ANY).spawn().await.unwrap();
        let client = connect_through(&master, &master).await;
        let mut calls = client
            .job(Hand::MARK, ["x", "y"])
            .call_timeout(BRIEF)
            .expect_answers(2);
        for _ in 0..2 {
            let answer = soon("an error", calls.next()).await.unwrap();
            let Err(CallError::Remote(error)) = answer else {
                panic!("answered {answer:?}");
            };
            assert_eq!(error.kind, FailureKind::Unavailable);
            assert_eq!(
                error.to_string(),
                "`hub.mark` is not available in `hub`: no worker is connected"
            );
        }
        let hand = Hand.connect(master.db_address()).name("hand");
        let _hand = hand.spawn().await.unwrap();
        let answer = client.eval(Hand::MARK, "x").into_future();
        assert_eq!(soon("an answer", answer).await.unwrap(), "x hub");
        soon("a shutdown", master.shutdown()).await.unwrap();
    });
}

#[test]
fn unknown_function_is_rejected_before_the_call_is_sent() {
    check(async {
        let busy = Busy {
            gate: Gate::closed(),
        };
        let busy = busy.bind(ANY).spawn().await.unwrap();
        let client = connect("busy", &busy).await;
        let descriptor = client.descriptor().unwrap();
        assert_eq!(descriptor.kind, "server");
        let functions = descriptor.functions.iter();
        let functions: Vec<_> = functions.map(|function| &*function.name).collect();
        assert_eq!(functions, ["pass", "time_left", "echo"]);

        let misspelt = "unknown function `busy.time_lft`; did you mean `time_left`?";
        let eval = client.eval("busy.time_lft", "").into_future();
        let error = soon("an error", eval).await.unwrap_err();
        assert_eq!(error.to_string(), misspelt);
        let mut job = client.job(["busy.time_lft", "next.step"], ["x"]);
        let error = soon("an error", job.next()).await.unwrap().unwrap_err();
        assert_eq!(error.to_string(), misspelt);
        assert!(soon("the end", job.next()).await.is_none());
        assert_eq!(busy.metrics().parts[0].messages, 0);

        // Its successor may have the function.
        let address = busy.db_address().to_owned();
        soon("a shutdown", busy.shutdown()).await.unwrap();
        let again = async || First.bind(&*address).name("busy").spawn().await;
        let first = starts_again(again).await;
        let answer = async {
            // Messages under way to a component that ends are lost.
            loop {
                let eval = client.eval("busy.mark", "x");
                match eval.timeout(Duration::from_secs(1)).await {
                    Err(error) if error.is_transient() => {}
                    other => return other,
                }
            }
        };
        assert_eq!(soon("an answer", answer).await.unwrap(), "x first");
        soon("a shutdown", first.shutdown()).await.unwrap();
    });
}

#[test]
fn cancelled_call_is_answered_with_an_error_by_each_component_kind() {
    check(async {
        let first = First.bind(ANY).pipelined(true).spawn().await.unwrap();
        let middle = Middle.bind(ANY).follow(first.db_address());
        let middle = middle.spawn().await.unwrap();
        let hub = Hub::new("hub").bind(ANY).follow(middle.db_address());
        let hub = hub.pipelined(true).spawn().await.unwrap();
        let hand = Hand.connect(hub.db_address()).name("hand");
        let hand = hand.spawn().await.unwrap();
        let last = Last.bind(ANY).follow(hub.db_address()).to_client(true);
        let last = last.spawn().await.unwrap();
        // Until all components are connected.
        connect_through(&first, &last).await;

        // A caller that receives the errors of dropped messages.
        let (db_address, options) = (address(first.db_address()), options());
        let request = Request::connect(&db_address, &options);
        let request = soon("connecting", request).await.unwrap();
        let pull = first.address("pull_address").unwrap();
        let publishes = last.address("pub_address").unwrap();
        let names = ["first", "middle", "hub", "last"];
        let components = [&first, &middle, &hand, &last];
        for (position, (name, component)) in names.into_iter().zip(components).enumerate() {
            let id = format!("caller/{position}");
            let mut caller = Caller::at(pull, publishes, &id).await;
            let steps = names.map(|step| {
                let function = if step == name { "never" } else { "echo" };
                format!("{step}.{function}")
            });
            caller.send(&steps.join(" "), "x").await;
            let begun = || component.metrics().function("never").unwrap().calls == 1;
            eventually("the call that waits", begun).await;
            let cancel = Message::new("first.cancel", id).into_frame();
            let reply = request.request(cancel, Duration::from_secs(10));
            assert_eq!(soon("a reply", reply).await.unwrap(), "");
            let error = caller.publication().await.1.error().unwrap();
            assert_eq!(error.kind, FailureKind::Cancelled);
            assert_eq!(error.message, "its caller cancelled it");
            assert_eq!(
                (&*error.component, error.step),
                (component.name(), position as i64)
            );
        }
    });
}

#[test]
fn hub_without_workers_reports_it_at_the_deadline() {
    check(async {
        let first = First.bind(ANY).pipelined(true).spawn().await.unwrap();
        let hub = Hub::new("hub").bind(ANY).follow(first.db_address());
        let hub = hub.pipelined(true).spawn().await.unwrap();
        let last = Last.bind(ANY).follow(hub.db_address()).to_client(true);
        let last = last.spawn().await.unwrap();
        let client = connect_through(&first, &last).await;
        let steps = First::MARK.then(Hand::MARK).then(Last::MARK);
        let mut call = client
            .job(&steps, ["x"])
            .call_timeout(BRIEF)
            .expect_answers(1);
        let answer = soon("an error", call.next()).await.unwrap();
        let Err(CallError::Remote(error)) = answer else {
            panic!("answered {answer:?}");
        };
        assert_eq!(error.kind, FailureKind::Unavailable);
        assert_eq!((&*error.component, error.step), ("hub", 1));
    });
}
