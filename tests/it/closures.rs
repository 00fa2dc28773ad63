//! Components whose methods are closures.

use std::sync::Arc;
use std::time::Duration;

use palm::component::ClosureBuilder;
use palm::prelude::*;
use palm::testing::{Cluster, Direct};
use palm::{BoxMethod, CallError, FailureKind, Json, Pipeline, Server, Sink, StartError, Worker};
use tokio::sync::Barrier;

use super::setup::{ANY, Gate, STALLED, chain, check, connect, soon};

const DOUBLE: Function<Json<i64>, Json<i64>> = Function::new("math", "double");
const DIVIDE: Function<Json<(i64, i64)>, Json<i64>> = Function::new("math", "divide");
const SEVEN: Function<(), Json<i64>> = Function::new("math", "seven");
const NAME: Function<String, String> = Function::new("math", "name");

fn math() -> ClosureBuilder<Server> {
    Server::builder("math")
        .method("double", |Json(x): Json<i64>| async move { Json(x * 2) })
        .method("divide", |Json((x, y)): Json<(i64, i64)>| async move {
            x.checked_div(y).map(Json).ok_or("division by zero")
        })
        .method("seven", |()| async { Json(7_i64) })
        .method_with_context("name", |greeting: String, context: Context| async move {
            format!("{greeting} {}", context.name())
        })
        .method("note", |_: Bytes| async {})
        .method("maybe", |text: String| async move {
            (!text.is_empty()).then_some(text)
        })
        .method("panics", |place: String| {
            assert_ne!(place, "closure", "as requested");
            async move { assert_ne!(place, "future", "on purpose") }
        })
}

#[test]
fn closures_of_a_server_answer_typed_calls() {
    check(async {
        let server = math().bind(ANY).spawn().await.unwrap();
        let client = connect("math", &server).await;
        let Json(result) = soon("an answer", client.eval(DOUBLE, 21)).await.unwrap();
        assert_eq!(result, 42);
        let Json(result) = soon("an answer", client.eval(SEVEN, ())).await.unwrap();
        assert_eq!(result, 7);
        let text = soon("an answer", client.eval(NAME, "I am")).await.unwrap();
        assert_eq!(text, "I am math");
        let bytes = soon("an answer", client.eval("math.maybe", "yes")).await;
        assert_eq!(bytes.unwrap(), "yes");
        let nothing = soon("no answer", client.eval("math.maybe", "")).await;
        assert!(matches!(nothing, Err(CallError::NoAnswer { .. })));
        soon("sending", client.send("math.note", "")).await.unwrap();
        // Every component has this function.
        let echo = soon("an answer", client.eval("math.echo", "echo")).await;
        assert_eq!(echo.unwrap(), "echo");
        soon("the end", server.shutdown()).await.unwrap();
    });
}

#[test]
fn errors_and_panics_of_closures_are_failures_of_the_call() {
    check(async {
        let server = math().bind(ANY).spawn().await.unwrap();
        let client = connect("math", &server).await;
        for (function, argument, kind, message) in [
            (
                "math.divide",
                "[1,0]",
                FailureKind::Failed,
                "division by zero",
            ),
            (
                "math.divide",
                "[1,",
                FailureKind::Undecodable,
                "Json<(i64, i64)>",
            ),
            (
                "math.panics",
                "closure",
                FailureKind::Panicked,
                "as requested",
            ),
            ("math.panics", "future", FailureKind::Panicked, "on purpose"),
        ] {
            let error = soon("the failure", client.eval(function, argument)).await;
            let Err(CallError::Remote(error)) = error else {
                panic!("{function}: {error:?}");
            };
            assert_eq!(error.kind, kind, "{function}");
            assert!(error.message.contains(message), "{}", error.message);
        }
        let Json(result) = soon("an answer", client.eval(DIVIDE, (6, 2)))
            .await
            .unwrap();
        assert_eq!(result, 3);
        let calls = server.metrics().function("divide").unwrap().calls;
        assert_eq!(calls, 3);
    });
}

#[test]
fn misspelt_name_of_a_closure_is_answered_with_the_nearest_one() {
    check(async {
        let server = math().bind(ANY).spawn().await.unwrap();
        let client = connect("math", &server).await;
        let error = soon("the failure", client.eval("math.doubel", "1")).await;
        let text = error.unwrap_err().to_string();
        let expected = "unknown function `math.doubel`; did you mean `double`?";
        assert!(text.contains(expected), "{text}");
    });
}

#[test]
fn descriptor_lists_the_types_of_closures() {
    check(async {
        let charge = BoxMethod::new("charge", |order: String| async move {
            Ok::<_, std::num::ParseIntError>(Json(order.parse::<u8>()?))
        });
        let charge = charge.doc("Charges an order.").at_most_once();
        let server = math().methods([charge]).bind(ANY).spawn().await.unwrap();
        let client = connect("math", &server).await;
        let descriptor = client.descriptor().unwrap();
        let functions = descriptor.functions.iter();
        let types: Vec<_> = functions
            .map(|it| (&*it.name, &*it.input, &*it.output))
            .collect();
        let expected = [
            ("double", "Json<i64>", "Json<i64>"),
            ("divide", "Json<(i64, i64)>", "Result<Json<i64>, &str>"),
            ("seven", "", "Json<i64>"),
            ("name", "String", "String"),
            ("note", "Bytes", "()"),
            ("maybe", "String", "Option<String>"),
            ("panics", "String", "()"),
            ("charge", "String", "Result<Json<u8>, ParseIntError>"),
            ("echo", "Bytes", "Bytes"),
        ];
        assert_eq!(types, expected);
        let charge = &descriptor.functions[7];
        assert_eq!(charge.doc, "Charges an order.");
        assert!(charge.at_most_once && !descriptor.functions[0].at_most_once);
    });
}

#[test]
fn calls_of_several_closures_run_concurrently() {
    check(async {
        let together = Arc::new(Barrier::new(3));
        let meet = |name: &'static str| {
            let together = together.clone();
            BoxMethod::new(name, move |text: String| {
                let together = together.clone();
                async move {
                    together.wait().await;
                    text
                }
            })
        };
        let server = Server::builder("meeting")
            .methods(["first", "second", "third"].map(meet))
            .bind(ANY)
            .concurrency(3);
        let server = server.spawn().await.unwrap();
        let client = connect("meeting", &server).await;
        let call = |function: &'static str| client.eval(function, function).into_future();
        let calls = futures_util::future::join3(
            call("meeting.first"),
            call("meeting.second"),
            call("meeting.third"),
        );
        let answers = soon("answers", calls).await;
        assert_eq!(answers.0.unwrap(), "meeting.first");
        assert_eq!(answers.1.unwrap(), "meeting.second");
        assert_eq!(answers.2.unwrap(), "meeting.third");
    });
}

#[test]
fn running_closure_is_finished_before_its_component_stops() {
    check(async {
        let gate = Gate::closed();
        let passed = gate.clone();
        let server = Server::builder("slow").method("pass", move |text: String| {
            let gate = passed.clone();
            async move {
                gate.pass().await;
                text
            }
        });
        let server = server.bind(ANY).spawn().await.unwrap();
        let client = connect("slow", &server).await;
        let call = {
            let client = client.clone();
            tokio::spawn(async move { client.eval("slow.pass", "through").await })
        };
        gate.arrived(1).await;
        let mut stopping = tokio::spawn(server.shutdown());
        let early = tokio::time::timeout(STALLED, &mut stopping).await;
        assert!(early.is_err(), "the component stops while a call runs");
        gate.open();
        let answer = soon("the answer", call).await.unwrap();
        assert_eq!(answer.unwrap(), "through");
        soon("the end", stopping).await.unwrap().unwrap();
    });
}

#[test]
fn method_exceeding_its_limit_is_a_failure() {
    check(async {
        let forever = BoxMethod::new("forever", |()| std::future::pending::<String>());
        let forever = forever.max_runtime(Duration::from_millis(20));
        let server = Server::builder("slow").methods([forever]);
        let server = server.bind(ANY).spawn().await.unwrap();
        let client = connect("slow", &server).await;
        let error = soon("the failure", client.eval("slow.forever", "")).await;
        let Err(CallError::Remote(error)) = error else {
            panic!("{error:?}");
        };
        assert_eq!(error.kind, FailureKind::DeadlineExceeded);
    });
}

#[test]
fn workers_pipelines_and_sinks_have_closures() {
    check(async {
        let add = |suffix: &'static str| {
            BoxMethod::new("add", move |text: String| async move {
                format!("{text} {suffix}")
            })
        };
        let cluster = Cluster::new()
            .master(Master::new("master"))
            .worker(Worker::builder("master").methods([add("worker")]))
            .pipeline(Pipeline::builder("pipeline").methods([add("pipeline")]))
            .sink(Sink::builder("sink").methods([add("sink")]));
        let cluster = soon("the cluster", cluster.start()).await.unwrap();
        let client = soon("connecting", cluster.client()).await.unwrap();
        let steps = ["master.add", "pipeline.add", "sink.add"];
        let answer = soon("an answer", client.eval(steps, "text")).await.unwrap();
        assert_eq!(answer, "text worker pipeline sink");
        soon("the end", cluster.shutdown()).await.unwrap();
    });
}

#[test]
fn default_name_of_a_worker_begins_with_that_of_its_master() {
    check(async {
        let master = Master::new("images").bind(ANY).spawn().await.unwrap();
        let worker = Worker::builder("images")
            .method("size", |image: Bytes| async move { Json(image.len()) });
        let worker = worker.connect(master.db_address()).spawn().await.unwrap();
        assert!(worker.name().starts_with("images@"), "{}", worker.name());
    });
}

#[test]
fn closures_are_tested_without_sockets() {
    check(async {
        let math = Direct::new(math());
        let Json(result) = math.call(DOUBLE, 21).await.unwrap();
        assert_eq!(result, 42);
        assert_eq!(math.call(NAME, "I am").await.unwrap(), "I am math");
    });
}

#[test]
fn component_with_mistaken_names_of_closures_does_not_start() {
    check(async {
        let method = |name: &str| BoxMethod::new(name.to_owned(), |()| async {});
        let names = ["a", "b.c", "a", "", "d e", "a"];
        let server = Server::builder("shop").methods(names.map(method));
        rejected(
            server.bind(ANY).spawn().await.map(drop),
            "cannot start `shop`: 4 mistakes: (1) `b.c` cannot be the name of a method: a name has at least one character, \
             and neither white space nor a dot; (2) several methods are called `a`: rename all but one; (3) `` cannot be \
             the name of a method: a name has at least one character, and neither white space nor a dot; (4) `d e` \
             cannot be the name of a method: a name has at least one character, and neither white space nor a dot",
        );
        let worker = Worker::builder("shop").connect("tcp://127.0.0.1:5559");
        rejected(
            worker.name("empty").spawn().await.map(drop),
            "cannot start `empty`: it has no methods: add one by `.method(\"<name>\", <closure>)`",
        );
    });
}

fn rejected(start: palm::Result<()>, expected: &str) {
    let error = start.unwrap_err();
    assert_eq!(chain(&error), expected);
    assert!(matches!(
        error,
        palm::Error::Start(StartError::Configuration { .. })
    ));
}
