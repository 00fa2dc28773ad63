//! Calls of several steps: which component answers, how a client finds it, and the error if there is none. How clients
//! end.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt;
use palm::prelude::*;
use palm::report::Role;
use palm::{CallError, FailureKind, LinkOptions};

use super::setup::{ANY, ANY_NAME, Gate, check, connect, paused, settle, soon};

#[derive(Clone, Default)]
struct First;

#[palm::server(name = "first")]
impl First {
    #[palm::method]
    fn upper(&self, text: String) -> String {
        text.to_uppercase()
    }

    /// Yields nothing for inputs that must not reach the next step.
    #[palm::method]
    fn odd(&self, number: String) -> Option<String> {
        (number.parse::<u32>().unwrap_or(0) % 2 == 1).then_some(number)
    }
}

#[derive(Clone, Default)]
struct Second;

#[palm::pipeline(name = "second")]
impl Second {
    #[palm::method]
    fn twice(&self, text: String) -> String {
        format!("{text}{text}")
    }
}

#[derive(Clone, Default)]
struct Third;

#[palm::pipeline(name = "third")]
impl Third {
    #[palm::method]
    fn bang(&self, text: String) -> String {
        format!("{text}!")
    }
}

struct Hand;

#[palm::worker(server = "hub")]
impl Hand {
    #[palm::method]
    fn mark(&self, text: String) -> String {
        format!("{text} by hand")
    }

    #[palm::method]
    async fn all_but_3(&self, text: String) -> String {
        if text == "3" {
            std::future::pending::<()>().await;
        }
        text
    }
}

/// A step that sends longer payloads to the last step, and answers its clients directly otherwise.
#[derive(Clone, Default)]
struct Router;

#[palm::server(name = "router")]
impl Router {
    #[palm::method]
    fn upper(&self, text: String) -> String {
        text.to_uppercase()
    }

    #[palm::handle_stream]
    fn by_length(&self, mut message: Message) -> (String, Message) {
        message.set_stage(message.stage() + 1);
        let topic = match message.payload().len() {
            1 => message.client().to_owned(),
            _ => "router".to_owned(),
        };
        (topic, message)
    }
}

async fn all(job: palm::Job<'_, String>) -> Vec<Result<String, CallError>> {
    soon("the end of the job", job.collect()).await
}

fn sorted(answers: Vec<Result<String, CallError>>) -> Vec<String> {
    let mut answers: Vec<_> = answers.into_iter().map(Result::unwrap).collect();
    answers.sort();
    answers
}

#[test]
fn client_finds_the_last_component_with_and_without_pipelined() {
    paused(async {
        for pipelined in [None, Some(true)] {
            let first = First.bind(ANY_NAME);
            let first = match pipelined {
                Some(pipelined) => first.pipelined(pipelined),
                None => first,
            };
            let first = first.spawn().await.unwrap();
            let second = Second.bind(ANY_NAME).follow(first.db_address());
            let second = second.spawn().await.unwrap();
            let third = Third.bind(ANY_NAME).follow(second.db_address());
            let third = match pipelined {
                Some(_) => third.to_client(true),
                None => third,
            };
            let third = third.spawn().await.unwrap();
            let client = connect("first", &first).await;
            let steps = First::UPPER.then(Second::TWICE).then(Third::BANG);
            assert_eq!(client.eval(&steps, "ab").await.unwrap(), "ABAB!");
            let job = client.job(&steps, ["x", "y", "z"]);
            assert_eq!(sorted(all(job).await), ["XX!", "YY!", "ZZ!"]);
            // Each step can be the last one, for the same client.
            let two = First::UPPER.then(Second::TWICE);
            assert_eq!(client.eval(&two, "ab").await.unwrap(), "ABAB");
            assert_eq!(client.eval(First::UPPER, "ab").await.unwrap(), "AB");
            let redirected = Client::builder("first", first.db_address());
            let redirected = redirected.answered_by(third.db_address()).connect();
            let redirected = soon("connecting", redirected).await.unwrap();
            assert_eq!(redirected.eval(&steps, "ab").await.unwrap(), "ABAB!");
            let job = client.job(&two, ["x"; 3]).expect_answers(3);
            assert_eq!(sorted(all(job).await), ["XX"; 3]);
        }
    });
}

#[test]
fn client_finds_hubs_and_all_replicas_of_the_last_component() {
    paused(async {
        let first = First.bind(ANY_NAME).spawn().await.unwrap();
        let hub = Hub::new("hub").bind(ANY_NAME).follow(first.db_address());
        let hub = hub.spawn().await.unwrap();
        let _hand = Hand.connect(hub.db_address()).spawn().await.unwrap();
        let mut last = Vec::new();
        for _ in 0..2 {
            let third = Third.bind(ANY_NAME).follow(hub.db_address());
            last.push(third.spawn().await.unwrap());
        }
        let client = connect("first", &first).await;
        let steps = First::UPPER.then(Hand::MARK).then(Third::BANG);
        let expected = ["X by hand!", "Y by hand!"];
        assert_eq!(sorted(all(client.job(&steps, ["x", "y"])).await), expected);
        assert_eq!(client.eval(&steps, "x").await.unwrap(), "X by hand!");
        let steps = First::UPPER.then(Hand::MARK);
        assert_eq!(client.eval(&steps, "x").await.unwrap(), "X by hand");
        // A hub runs messages of any component name, but the client checks the name.
        let error = client
            .eval("first.upper other.mark", "x")
            .await
            .unwrap_err();
        assert!(matches!(error, CallError::NoRoute { .. }), "{error}");
    });
}

#[test]
fn blocking_client_finds_the_last_component() {
    let (sender, receiver) = mpsc::channel();
    check(async move {
        let first = First.bind(ANY).spawn().await.unwrap();
        let second = Second.bind(ANY).follow(first.db_address());
        let _second = second.spawn().await.unwrap();
        let at = first.db_address().to_owned();
        let call = move || {
            let client = palm::blocking::Client::connect("first", at).unwrap();
            let answer = client.eval(First::UPPER.then(Second::TWICE), "ab");
            sender.send(answer.unwrap()).unwrap();
            client.close();
            let closed = client.eval(First::UPPER, "ab").unwrap_err();
            assert!(matches!(closed, CallError::Closed), "{closed}");
        };
        let call = tokio::task::spawn_blocking(call);
        soon("the calls", call).await.unwrap();
        assert_eq!(receiver.recv().unwrap(), "ABAB");
    });
}

#[test]
fn client_waits_for_a_follower_that_starts_later() {
    paused(async {
        let first = First.bind(ANY_NAME).spawn().await.unwrap();
        let client = connect("first", &first).await;
        let steps = First::UPPER.then(Second::TWICE);
        let call = tokio::spawn(async move { client.eval(steps, "ab").await });
        settle().await;
        assert!(!call.is_finished());
        let second = Second.bind(ANY_NAME).follow(first.db_address());
        let _second = second.spawn().await.unwrap();
        assert_eq!(soon("the answer", call).await.unwrap().unwrap(), "ABAB");
    });
}

#[test]
fn answer_of_an_earlier_step_is_an_error() {
    paused(async {
        let first = First.bind(ANY_NAME).pipelined(false).spawn().await.unwrap();
        let second = Second.bind(ANY_NAME).follow(first.db_address());
        let _second = second.spawn().await.unwrap();
        let sockets = LinkOptions::new().enabled(false);
        let at = first.address("pub_address").unwrap();
        let legacy = Client::builder("first", first.db_address()).sub_address(at);
        let legacy = legacy.link_options(sockets).connect();
        let legacy = soon("connecting", legacy).await.unwrap();
        for client in [connect("first", &first).await, legacy] {
            let steps = First::UPPER.then(Second::TWICE);
            let error = client.eval(&steps, "ab").await.unwrap_err();
            let CallError::Unfinished { step, answered, .. } = &error else {
                panic!("{error}");
            };
            assert_eq!((*step, &**answered), (0, "first.upper"));
            assert!(error.to_string().contains(".answered_by(..)"), "{error}");
            let answers = all(client.job(&steps, ["x", "y"]).expect_answers(2)).await;
            assert_eq!(answers.len(), 2);
            for answer in answers {
                assert!(matches!(answer, Err(CallError::Unfinished { step: 0, .. })));
            }
        }
        let client = connect("first", &first).await;
        let job = client.job(First::UPPER.then(Second::TWICE), ["x", "y"]);
        let answers = all(job).await;
        assert!(answers.len() == 2 && answers.iter().all(Result::is_err));
    });
}

#[test]
fn handle_stream_answers_early_if_it_sets_the_last_stage() {
    paused(async {
        let router = Router.bind(ANY_NAME).spawn().await.unwrap();
        let second = Second.bind(ANY_NAME).follow(router.db_address());
        let _second = second.spawn().await.unwrap();
        let client = connect("router", &router).await;
        let steps = Router::UPPER.then(Second::TWICE);
        assert_eq!(client.eval(&steps, "ab").await.unwrap(), "ABAB");
        assert_eq!(client.eval(&steps, "a").await.unwrap(), "A");
    });
}

#[test]
fn step_without_a_follower_is_named() {
    paused(async {
        let first = First.bind(ANY_NAME).spawn().await.unwrap();
        let second = Second.bind(ANY_NAME).follow(first.db_address());
        let second = second.spawn().await.unwrap();
        let client = connect("first", &first).await;
        let steps = First::UPPER.then(Second::TWICE).then(Third::BANG);
        let error = soon("the error", client.eval(&steps, "x").into_future()).await;
        let error = error.unwrap_err();
        assert!(matches!(error, CallError::NoRoute { .. }), "{error}");
        let text = error.to_string();
        assert!(
            text.contains("no component `third` follows `second`"),
            "{text}"
        );
        assert!(
            text.contains(".follow(..)") && text.contains(".answered_by(..)"),
            "{text}"
        );
        // The error arrives before the client's timeout.
        let call = client.eval(&steps, "x").timeout(Duration::from_millis(400));
        let error = call.await.unwrap_err();
        assert!(matches!(error, CallError::NoRoute { .. }), "{error}");
        let job = client
            .job(&steps, ["x"; 1000])
            .timeout(Duration::from_millis(400));
        let answers = all(job).await;
        assert!(
            matches!(&answers[..], [Err(CallError::NoRoute { .. })]),
            "{answers:?}"
        );

        // A client that does not search receives the error from the component that has the message.
        let redirected = Client::builder("first", first.db_address());
        let redirected = redirected.answered_by(second.db_address()).connect();
        let redirected = soon("connecting", redirected).await.unwrap();
        let begun = tokio::time::Instant::now();
        let call = redirected.eval(&steps, "x").into_future();
        let error = soon("the error", call).await.unwrap_err();
        let CallError::Remote(error) = &error else {
            panic!("{error}");
        };
        assert_eq!(
            (error.kind, &*error.component),
            (FailureKind::Unavailable, "second")
        );
        assert_eq!((&*error.function, error.step), ("third.bang", 2));
        assert!(
            error.message.contains("no component follows `second`"),
            "{error}"
        );
        assert!(begun.elapsed() < Duration::from_secs(6));
        let job = all(redirected.job(&steps, ["x", "y"])).await;
        assert!(job.len() == 2 && job.iter().all(Result::is_err), "{job:?}");
        // Results without a follower are not kept for long.
        let none = redirected.job(["first.odd", "second.twice", "third.bang"], ["2"]);
        let none: Vec<_> = soon("the end", none.collect()).await;
        assert!(
            none.iter().all(|it: &Result<Bytes, _>| it.is_err()),
            "{none:?}"
        );
    });
}

#[test]
fn search_that_ends_within_an_attempt_reports_the_attempt_before() {
    paused(async {
        let first = First.bind(ANY_NAME).spawn().await.unwrap();
        let second = Second.bind(ANY_NAME).follow(first.db_address());
        let _second = second.spawn().await.unwrap();
        let client = connect("first", &first).await;
        let steps = First::UPPER.then(Second::TWICE).then(Third::BANG);
        for limit in [30, 150, 250, 400, 1050, 60_000] {
            let call = client
                .eval(&steps, "x")
                .timeout(Duration::from_millis(limit));
            let text = call.await.unwrap_err().to_string();
            assert!(
                text.contains("no component `third` follows"),
                "{limit} ms: {text}"
            );
        }
    });
}

#[test]
fn answered_by_another_component_still_returns_errors_of_the_first() {
    paused(async {
        let first = First.bind(ANY_NAME).spawn().await.unwrap();
        let other = First.bind(ANY_NAME).name("other").spawn().await.unwrap();
        let client = Client::builder("first", first.db_address());
        let client = client.answered_by(other.db_address()).connect();
        let client = soon("connecting", client).await.unwrap();
        // Results of the component itself as well.
        let call = client.eval(First::UPPER, "ab").into_future();
        assert_eq!(soon("the answer", call).await.unwrap(), "AB");
        let call = client
            .eval(First::UPPER.then(Second::TWICE), "ab")
            .into_future();
        let error = soon("the error", call).await.unwrap_err();
        assert!(matches!(error, CallError::Remote(_)), "{error}");
    });
}

#[test]
fn callers_receive_an_error_if_the_only_follower_does_not_return() {
    paused(async {
        let link = LinkOptions::new().session_expiry(Duration::from_millis(500));
        let first = First
            .bind(ANY_NAME)
            .link_options(link)
            .spawn()
            .await
            .unwrap();
        let second = Second.bind(ANY_NAME).follow(first.db_address());
        let second = second.spawn().await.unwrap();
        let client = connect("first", &first).await;
        let steps = First::UPPER.then(Second::TWICE);
        assert_eq!(client.eval(&steps, "ab").await.unwrap(), "ABAB");
        soon("the end", second.kill()).await;
        let call = client.eval(&steps, "ab").into_future();
        let error = soon("the error", call).await.unwrap_err();
        let CallError::Remote(error) = &error else {
            panic!("{error}");
        };
        assert_eq!(error.kind, FailureKind::Unavailable);
        assert_eq!((&*error.function, error.step), ("second.twice", 1));
    });
}

#[test]
fn lost_input_of_a_middle_step_fails_alone() {
    paused(async {
        let first = First.bind(ANY_NAME).spawn().await.unwrap();
        let hub = Hub::new("hub").bind(ANY_NAME).follow(first.db_address());
        let hub = hub.spawn().await.unwrap();
        // Its results leave in the order in which they are finished.
        let hand = Hand.connect(hub.db_address()).concurrency(20);
        let _hand = hand.spawn().await.unwrap();
        let client = connect("first", &first).await;
        let steps = First::UPPER.then(Hand::ALL_BUT_3);
        let numbers: Vec<_> = (0..10).map(|number| number.to_string()).collect();
        let job = client.job(&steps, numbers.iter().map(String::as_str));
        let mut job = job.timeout(Duration::from_millis(500));
        let mut done = Vec::new();
        let mut lost = Vec::new();
        while let Some(answer) = soon("an answer", job.next()).await {
            match answer {
                Ok(answer) => done.push(answer),
                Err(CallError::Timeout { input, .. }) => {
                    assert_eq!(job.input(), input);
                    lost.push(input);
                }
                Err(error) => panic!("{error}"),
            }
        }
        done.sort();
        let expected: Vec<_> = numbers.iter().filter(|it| *it != "3").cloned().collect();
        assert_eq!((done, lost), (expected, vec![Some(3)]));
        let progress = job.progress();
        assert_eq!((progress.sent, progress.done, progress.failed), (10, 10, 1));
        // If no answer arrives at all, the job fails once.
        let job = client
            .job(&steps, ["3"; 10])
            .timeout(Duration::from_millis(300));
        let answers = all(job).await;
        assert!(matches!(
            &answers[..],
            [Err(CallError::Timeout { input: None, .. })]
        ));
    });
}

#[test]
fn job_over_a_pausing_input_stream_continues() {
    paused(async {
        let first = First.bind(ANY_NAME).spawn().await.unwrap();
        let client = connect("first", &first).await;
        for messages in [None, Some(3)] {
            let feed = futures_util::stream::iter(["one", "two", "three"]).then(async |it| {
                if it == "three" {
                    tokio::time::sleep(Duration::from_millis(1000)).await;
                }
                it
            });
            let job = client.job_stream(First::UPPER, feed);
            let job = job.timeout(Duration::from_millis(300));
            let job = match messages {
                Some(messages) => job.expect_answers(messages),
                None => job,
            };
            let answers: Vec<_> = soon("the end", job.map(Result::unwrap).collect()).await;
            assert_eq!(answers, ["ONE", "TWO", "THREE"]);
        }
    });
}

#[test]
fn job_of_a_misspelt_function_fails_once() {
    paused(async {
        let gate = Gate::closed();
        let master = Master::new("hub").bind(ANY_NAME).spawn().await.unwrap();
        let _hand = Hand.connect(master.db_address()).spawn().await.unwrap();
        let client = Client::builder("hub", master.db_address());
        let client = client.check_functions(false).connect();
        let client = soon("connecting", client).await.unwrap();
        gate.open();
        let job = client.job("hub.mrak", (0..20_000).map(|number| number.to_string()));
        let answers: Vec<_> = soon("the end", job.collect()).await;
        let [Err(CallError::Remote(error))] = &answers[..] else {
            panic!("{} answers", answers.len());
        };
        assert_eq!(error.kind, FailureKind::UnknownFunction);
        assert_eq!(client.eval(Hand::MARK, "x").await.unwrap(), "x by hand");
    });
}

#[test]
fn client_whose_runtime_has_ended_returns_closed() {
    let servers = tokio::runtime::Runtime::new().unwrap();
    let server = servers.block_on(First.bind(ANY).spawn()).unwrap();
    let gone = tokio::runtime::Runtime::new().unwrap();
    let client = gone.block_on(connect("first", &server));
    // Outside a runtime a job can be created, and does nothing.
    drop(client.job(First::UPPER, ["x"]));
    drop(gone);
    let other = tokio::runtime::Runtime::new().unwrap();
    other.block_on(async {
        let call = client.eval(First::UPPER, "x").into_future();
        let error = soon("a call", call).await.unwrap_err();
        assert!(matches!(error, CallError::Closed), "{error}");
        let message = client.send(First::UPPER, "x").into_future();
        let error = soon("a message", message).await.unwrap_err();
        assert!(matches!(error, CallError::Closed), "{error}");
        let answers = all(client.job(First::UPPER, ["x"])).await;
        assert!(
            matches!(&answers[..], [Err(CallError::Closed)]),
            "{answers:?}"
        );
    });
}

#[test]
fn job_can_be_created_outside_of_a_runtime() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = runtime.block_on(First.bind(ANY).spawn()).unwrap();
    let client = runtime.block_on(connect("first", &server));
    let mut job = client.job(First::UPPER, ["a"]);
    let answer = runtime.block_on(async { soon("the answer", job.next()).await });
    assert_eq!(answer.unwrap().unwrap(), "A");
}

#[test]
fn dropped_clients_close_their_sessions_while_their_runtimes_shut_down() {
    const CLIENTS: usize = 20;
    let servers = tokio::runtime::Runtime::new().unwrap();
    // The session of a client that vanished is reported for this time.
    let links = LinkOptions::new().reconnect_grace(Duration::from_secs(60));
    let server = First.bind(ANY).link_options(links);
    let server = servers.block_on(server.spawn()).unwrap();
    for number in 0..CLIENTS {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let client = Client::connect("first", server.db_address()).await.unwrap();
            assert_eq!(client.eval(First::UPPER, "a").await.unwrap(), "A");
            if number % 2 == 0 {
                client.close().await;
            }
        });
        drop(runtime);
    }
    servers.block_on(async {
        let all_closed = async {
            while server
                .report()
                .await
                .edges_of(Role::Client)
                .next()
                .is_some()
            {
                tokio::task::yield_now().await;
            }
        };
        soon("the end of all sessions", all_closed).await;
        let begun = Instant::now();
        server.shutdown().await.unwrap();
        let lasted = begun.elapsed();
        assert!(lasted < Duration::from_secs(3), "{lasted:?}");
    });
}
