//! Jobs end by themselves in components made from parts, however many messages their hooks yield.

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use palm::callable::State;
use palm::part::{Inlet, OpenError, Outbound, Outlet, Running, Setup};
use palm::parts::{
    CacheService, Handler, HttpConnection, PubService, PullService, PushPullService,
    WorkerPullService, WorkerPushService,
};
use palm::prelude::*;
use palm::socket::{Pull, Push};
use palm::{CallError, ComponentHandle};
use tokio_util::task::AbortOnDropHandle;

use super::setup::{ANY_NAME, address, check, connect, finally, options, paused, soon};

/// Yields the message.
struct Same;

#[palm::inbound]
impl Same {
    fn scatter(&mut self, message: Message) -> Message {
        message
    }
}

/// Yields the message twice.
struct Twice;

#[palm::inbound]
impl Twice {
    fn scatter(&mut self, message: Message) -> Vec<Message> {
        vec![message.clone(), message]
    }
}

/// Drops every third message.
struct Drops;

#[palm::inbound]
impl Drops {
    fn scatter(&mut self, message: Message) -> Option<Message> {
        (!message.payload().ends_with(b"3")).then_some(message)
    }
}

/// Fails on every third message.
struct Fails;

#[palm::inbound]
impl Fails {
    fn scatter(&mut self, message: Message) -> Result<Message, String> {
        match message.payload().ends_with(b"3") {
            true => Err("it ends with 3".to_owned()),
            false => Ok(message),
        }
    }
}

/// Receives the router's answers, and yields messages unchanged.
struct Feedback;

#[palm::inbound]
impl Feedback {
    fn handle_feedback(&mut self, _: &Bytes) {}
}

struct HandlesOne;

#[palm::outbound]
impl HandlesOne {
    fn handle(&mut self, message: Message) -> Message {
        message
    }
}

struct HandlesTwo;

#[palm::outbound]
impl HandlesTwo {
    fn handle(&mut self, message: Message) -> Vec<Message> {
        assert!(!message.payload().is_empty(), "it sees no rest");
        vec![message.clone(), message]
    }
}

struct HandlesSome;

#[palm::outbound]
impl HandlesSome {
    fn handle(&mut self, message: Message) -> Option<Message> {
        (!message.payload().ends_with(b"3")).then_some(message)
    }
}

struct HandlesNothing;

#[palm::outbound]
impl HandlesNothing {
    fn handle(&mut self, message: Message) {
        assert!(!message.payload().is_empty(), "it sees no rest");
    }
}

/// A user implementation of `Outbound` that passes all messages on.
struct Forwards;

impl Outbound for Forwards {
    async fn open(self, _: &mut Setup<'_>) -> Result<Running<(Inlet, Outlet)>, OpenError> {
        Ok(Running::outbound(move |mut inlet, outlet| async move {
            let mut batch = Vec::new();
            while inlet.recv_many(&mut batch, 100).await > 0 {
                for envelope in batch.drain(..) {
                    let message = envelope.answer(Bytes::new());
                    assert_eq!(message.is_done(), message.payload().is_empty());
                    outlet.send(message).await;
                }
            }
            Ok(())
        }))
    }
}

/// Methods with one result, none, or several.
struct Methods;

#[palm::worker(server = "arch")]
impl Methods {
    #[palm::method]
    fn same(&self, text: String) -> String {
        assert!(!text.is_empty(), "a rest is no task");
        text
    }

    #[palm::method]
    fn some(&self, text: String) -> Option<String> {
        assert!(!text.is_empty(), "a rest is no task");
        (!text.ends_with('3')).then_some(text)
    }

    #[palm::method]
    fn twice(&self, text: String) -> impl Iterator<Item = String> + use<> {
        assert!(!text.is_empty(), "a rest is no task");
        std::iter::repeat_n(text, 2)
    }
}

/// The same methods behind HTTP.
struct Web;

#[palm::http_worker(server = "arch")]
impl Web {
    #[palm::method]
    fn same(&self, text: String) -> String {
        assert!(!text.is_empty(), "a rest is no task");
        text
    }

    #[palm::method]
    fn some(&self, text: String) -> Option<String> {
        (!text.ends_with('3')).then_some(text)
    }
}

/// The expected outcome of a job of ten inputs, and of a single call.
struct Expected {
    answers: usize,
    errors: usize,
    /// Whether a single call with the payload `3` has an answer.
    three: Three,
}

#[derive(Debug, PartialEq, Eq)]
enum Three {
    Answer,
    Nothing,
    Error,
}

const ALL: Expected = Expected {
    answers: 10,
    errors: 0,
    three: Three::Answer,
};
const DOUBLED: Expected = Expected { answers: 20, ..ALL };
const DROPPED: Expected = Expected {
    answers: 9,
    errors: 0,
    three: Three::Nothing,
};
const FAILED: Expected = Expected {
    errors: 1,
    three: Three::Error,
    ..DROPPED
};
const NOTHING: Expected = Expected {
    answers: 0,
    ..DROPPED
};

/// Registers the last part, and the cache service.
fn finish(template: &mut ServerTemplate) {
    template.register_outbound(PubService::bind(ANY_NAME), "Pub");
    template.register_bypass(CacheService::bind(ANY_NAME), "Cache");
}

async fn check_jobs(what: &str, component: &ComponentHandle, function: &str, expected: Expected) {
    let client = connect("arch", component).await;
    let inputs = (0..10).map(|number| number.to_string());
    let mut job = client.job(function, inputs).timeout(Duration::from_secs(5));
    let (mut answers, mut errors) = (0, Vec::new());
    while let Some(answer) = soon(what, job.next()).await {
        match answer {
            Ok(_) => answers += 1,
            Err(error) => errors.push(error.to_string()),
        }
    }
    assert_eq!(
        (answers, errors.len()),
        (expected.answers, expected.errors),
        "{what}: {errors:?}"
    );
    let three = client.eval(function, "3").timeout(Duration::from_secs(5));
    let three = match soon(what, three.into_future()).await {
        Ok(_) => Three::Answer,
        Err(CallError::NoAnswer { .. }) => Three::Nothing,
        Err(CallError::Remote(error)) => {
            assert_eq!(error.message, "it ends with 3", "{what}");
            Three::Error
        }
        Err(error) => panic!("{what}: {error}"),
    };
    assert_eq!(three, expected.three, "{what}");
}

/// Registers an inbound part with hooks, and the part downstream of it.
macro_rules! check_inbound {
    ($what:expr, $function:expr, $template:expr, $to:expr, $failures:expr, $($hooks:ident => $expected:expr),*) => {
        $({
            let mut template = $template;
            let pull = PullService::bind(ANY_NAME);
            let entry = template.register_inbound(pull, "Pull").hooks($hooks).route($to);
            let failures: Option<&str> = $failures;
            if let Some(failures) = failures {
                entry.failures(failures);
            }
            finish(&mut template);
            let component = template.spawn().await.unwrap();
            let _worker = Methods.connect(component.db_address()).spawn().await.unwrap();
            let what = format!("{} with {}", $what, stringify!($hooks));
            check_jobs(&what, &component, $function, $expected).await;
        })*
    };
}

#[test]
fn jobs_complete_through_inbound_hooks_with_and_without_a_failures_route() {
    paused(async {
        for failures in [None, Some("Pub")] {
            check_inbound!(
                "Pull to Pub", "arch.any", ServerTemplate::new("arch"), "Pub", failures,
                Same => ALL, Twice => DOUBLED, Drops => DROPPED, Fails => FAILED, Feedback => ALL
            );
        }
    });
}

fn with_handler(handler: impl palm::part::OutboundHooks) -> ServerTemplate {
    let mut template = ServerTemplate::new("arch");
    template
        .register_outbound(Handler::new(handler), "Handler")
        .route("Pub");
    template
}

#[test]
fn jobs_complete_through_handlers_with_any_number_of_results() {
    paused(async {
        check_inbound!(
            "a handler of one", "arch.any", with_handler(HandlesOne), "Handler", None,
            Same => ALL, Twice => DOUBLED, Drops => DROPPED, Fails => FAILED
        );
        check_inbound!(
            "a handler of two", "arch.any", with_handler(HandlesTwo), "Handler", None,
            Same => DOUBLED, Drops => Expected { answers: 18, ..DROPPED }
        );
        check_inbound!(
            "a handler of some", "arch.any", with_handler(HandlesSome), "Handler", None,
            Same => DROPPED, Twice => Expected { answers: 18, ..DROPPED }, Drops => DROPPED
        );
        check_inbound!(
            "a handler of nothing", "arch.any", with_handler(HandlesNothing), "Handler", None,
            Same => NOTHING, Twice => NOTHING, Drops => NOTHING
        );
    });
}

#[test]
fn jobs_complete_through_a_user_implementation_of_outbound() {
    paused(async {
        let template = || {
            let mut template = ServerTemplate::new("arch");
            template
                .register_outbound(Forwards, "Forwards")
                .route("Pub");
            template
        };
        check_inbound!(
            "a part of its own", "arch.any", template(), "Forwards", None,
            Same => ALL, Twice => DOUBLED, Drops => DROPPED
        );
    });
}

#[test]
fn jobs_complete_through_an_executor_behind_hooks() {
    paused(async {
        let template = || {
            let mut template = ServerTemplate::new("arch");
            let executor = palm::Executor::new(State::new(Methods));
            template
                .register_outbound(executor, "Executor")
                .route("Pub");
            template
        };
        check_inbound!(
            "an executor", "arch.same", template(), "Executor", None,
            Same => ALL, Twice => DOUBLED, Drops => DROPPED, Fails => FAILED
        );
        check_inbound!(
            "an executor", "arch.twice", template(), "Executor", None,
            Twice => Expected { answers: 40, ..ALL }
        );
    });
}

fn with_workers(failures: Option<&str>) -> ServerTemplate {
    let mut template = ServerTemplate::new("arch");
    template
        .register_inbound(WorkerPullService::bind(ANY_NAME), "WorkerPull")
        .route("Pub");
    let push = template.register_outbound(WorkerPushService::bind(ANY_NAME), "WorkerPush");
    if let Some(failures) = failures {
        push.failures(failures);
    }
    template
}

#[test]
fn jobs_complete_through_a_master_from_parts_with_and_without_failures_routes() {
    paused(async {
        for failures in [None, Some("Pub")] {
            check_inbound!(
                "a master", "arch.same", with_workers(failures), "WorkerPush", failures,
                Same => ALL, Twice => DOUBLED, Drops => DROPPED, Fails => FAILED
            );
        }
        check_inbound!(
            "a master", "arch.some", with_workers(None), "WorkerPush", None,
            Twice => Expected { answers: 18, ..DROPPED }
        );
    });
}

fn with_push_pull() -> ServerTemplate {
    let mut template = ServerTemplate::new("arch");
    template
        .register_outbound(PushPullService::bind(ANY_NAME, ANY_NAME), "Workers")
        .route("Pub");
    template
}

#[test]
fn jobs_complete_through_push_pull() {
    paused(async {
        check_inbound!(
            "a push-pull", "arch.same", with_push_pull(), "Workers", None,
            Same => ALL, Twice => DOUBLED, Drops => DROPPED, Fails => FAILED, Feedback => ALL
        );
        check_inbound!(
            "a push-pull", "arch.some", with_push_pull(), "Workers", None,
            Same => DROPPED
        );
        // The worker connects before or after the first tasks.
        for round in 0..12 {
            let mut template = with_push_pull();
            template
                .register_inbound(PullService::bind(ANY_NAME), "Pull")
                .route("Workers");
            finish(&mut template);
            let component = template.spawn().await.unwrap();
            let worker = Methods.connect(component.db_address()).spawn().await;
            let _worker = worker.unwrap();
            let what = format!("round {round} of a push-pull");
            check_jobs(&what, &component, "arch.twice", DOUBLED).await;
        }
    });
}

/// A legacy worker, which returns each task as its result.
async fn legacy_worker(component: &ComponentHandle) -> AbortOnDropHandle<()> {
    let at = |key| address(component.address(key).unwrap());
    let tasks = Pull::connect(&at("worker_push_address"), &options()).await;
    let results = Push::connect(&at("worker_pull_address"), &options()).await;
    let (mut tasks, results) = (tasks.unwrap(), results.unwrap());
    AbortOnDropHandle::new(tokio::spawn(async move {
        let mut frames = Vec::new();
        while tasks.recv_many(&mut frames, 100).await.is_ok() {
            for frame in frames.drain(..) {
                results.send(frame).await.unwrap();
            }
        }
    }))
}

#[test]
fn jobs_complete_through_push_pull_with_a_legacy_worker_if_the_function_is_registered() {
    paused(async {
        let mut template = with_push_pull();
        template
            .register_inbound(PullService::bind(ANY_NAME), "Pull")
            .hooks(Twice)
            .route("Workers");
        finish(&mut template);
        let component = template.spawn().await.unwrap();
        let worker = Methods.connect(component.db_address()).spawn().await;
        let _worker = worker.unwrap();
        let client = connect("arch", &component).await;
        assert_eq!(client.eval(Methods::SAME, "x").await.unwrap(), "x");
        let _legacy = legacy_worker(&component).await;
        for round in 0..6 {
            let what = format!("round {round} with a legacy worker");
            check_jobs(&what, &component, "arch.same", DOUBLED).await;
        }
    });
}

#[test]
fn job_is_rejected_before_it_sends_if_an_unregistered_worker_may_run_its_function() {
    paused(async {
        let mut master = with_workers(None);
        let calls = master.register_inbound(PullService::bind(ANY_NAME), "Pull");
        calls.route("WorkerPush");
        finish(&mut master);
        let master = master.spawn().await.unwrap();
        let worker = Methods.connect(master.db_address()).spawn().await;
        let _worker = worker.unwrap();
        let client = connect("arch", &master).await;
        assert_eq!(client.eval(Methods::SAME, "x").await.unwrap(), "x");
        let _legacy = legacy_worker(&master).await;
        finally("a job that is rejected", async {
            loop {
                let mut job = client.job("arch.elsewhere", ["x"; 100]);
                match job.next().await {
                    Some(Err(CallError::Completion { function, .. })) => {
                        assert_eq!((&*function, job.sent()), ("arch.elsewhere", 0));
                        return;
                    }
                    // Until the worker is connected, no worker has the function.
                    other => drop(other),
                }
            }
        })
        .await;
        // The job states its number of answers, or the function is registered with a single result.
        let counted = client.job("arch.elsewhere", ["x"; 10]).expect_answers(10);
        assert_eq!(counted.count().await, 10);
        check_jobs("alongside a legacy worker", &master, "arch.same", ALL).await;
    });
}

async fn serve_web() -> (AbortOnDropHandle<()>, String) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let application = axum::Router::new().fallback_service(Web.into_service());
    let serving = async move { axum::serve(listener, application).await.unwrap() };
    (AbortOnDropHandle::new(tokio::spawn(serving)), url)
}

#[test]
fn jobs_complete_through_http_workers() {
    check(async {
        let (_serving, url) = serve_web().await;
        let template = || {
            let mut template = ServerTemplate::new("arch");
            template
                .register_outbound(HttpConnection::connect(&url), "Http")
                .route("Pub");
            template
        };
        check_inbound!(
            "an HTTP worker", "arch.same", template(), "Http", None,
            Same => ALL, Twice => DOUBLED, Drops => DROPPED, Fails => FAILED
        );
        check_inbound!(
            "an HTTP worker", "arch.some", template(), "Http", None,
            Same => DROPPED, Twice => Expected { answers: 18, ..DROPPED }
        );
    });
}
