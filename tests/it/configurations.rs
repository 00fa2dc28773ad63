//! Invalid configurations are rejected at start: one error lists all mistakes with their names.

use std::time::Duration;

use palm::part::InboundHooks;
use palm::parts::*;
use palm::prelude::*;
use palm::{LinkOptions, QueueLimits, ServerTemplate, StartError};

use super::setup::{ANY, chain, check, soon};

struct Nothing;

#[palm::server(name = "shop")]
impl Nothing {
    #[palm::method]
    fn nothing(&self) -> String {
        String::new()
    }
}

struct Step;

#[palm::pipeline(name = "step")]
impl Step {
    #[palm::method]
    fn nothing(&self) -> String {
        String::new()
    }
}

struct End;

#[palm::sink(name = "end")]
impl End {
    #[palm::method]
    fn nothing(&self) -> String {
        String::new()
    }
}

struct Hand;

#[palm::worker]
impl Hand {
    #[palm::method]
    fn nothing(&self) -> String {
        String::new()
    }
}

/// Asserts the whole text as `main` prints it, and that the error lists each mistake.
async fn assert_rejected(
    start: impl Future<Output = palm::Result<palm::ComponentHandle>>,
    expected: &str,
) {
    let error = soon("the rejection", start).await.map(|_| ()).unwrap_err();
    let text = chain(&error);
    assert_eq!(text, expected);
    let palm::Error::Start(StartError::Configuration { source, .. }) = error else {
        panic!("{text}");
    };
    for mistake in source.mistakes() {
        assert!(text.contains(mistake), "{mistake}");
    }
}

const A: &str = "tcp://127.0.0.1:5001";
const B: &str = "tcp://127.0.0.1:5002";

#[test]
fn hub_or_pipeline_with_two_upstreams_is_rejected() {
    check(async {
        assert_rejected(
            palm::Hub::new("hub").bind(ANY).follow(A).follow(B).spawn(),
            "cannot start `hub`: a hub follows one component, but `.follow(\"tcp://127.0.0.1:5001\")` and \
             `.follow(\"tcp://127.0.0.1:5002\")` name 2: keep one, or use a \
             sink, which follows several",
        )
        .await;
        assert_rejected(
            Step.bind(ANY).follow(A).sub_address(B).previous("shop").spawn(),
            "cannot start `step`: a pipeline follows one component, but `.follow(\"tcp://127.0.0.1:5001\")` and \
             `.sub_address(\"tcp://127.0.0.1:5002\")` name 2: keep one, or use a sink, which follows several",
        )
        .await;
    });
}

#[test]
fn follower_with_a_missing_own_or_duplicate_upstream_is_rejected() {
    check(async {
        assert_rejected(
            Step.bind(ANY).spawn(),
            "cannot start `step`: a pipeline follows another component, but none is named: add \
             `.follow(\"<its db_address>\")`, or `.sub_address(\"<its pub_address>\").previous(\"<its name>\")`",
        )
        .await;
        assert_rejected(
            Step.bind(A).follow(A).spawn(),
            "cannot start `step`: it follows itself: `.follow(\"tcp://127.0.0.1:5001\")` is its own address; \
             set that of the component upstream",
        )
        .await;
        assert_rejected(
            End.bind(ANY).follow(A).stream(B, "shop").follow(A).spawn(),
            "cannot start `end`: the stream `.follow(\"tcp://127.0.0.1:5001\")` is set twice: remove one",
        )
        .await;
        assert_rejected(
            Step.bind(ANY).sub_address(A).spawn(),
            "cannot start `step`: it follows no topic of `tcp://127.0.0.1:5001`: add `.previous(\"<topic>\")`, usually \
             with the name of the component there",
        )
        .await;
    });
}

#[test]
fn worker_with_addresses_to_bind_is_rejected() {
    check(async {
        let text = |option: &str, address: &str| {
            format!(
                "{option} is `{address}`, which can only be bound, and a worker connects: set the host and port \
                 of its master or hub"
            )
        };
        let worker = Hand.connect("tcp://*:5559").name("w");
        let expected = text("the `db_address`", "tcp://*:5559");
        assert_rejected(worker.spawn(), &format!("cannot start `w`: {expected}")).await;
        let worker = Hand
            .connect(A)
            .name("w")
            .push_address(ANY)
            .pull_address("udp://x");
        let expected = format!(
            "cannot start `w`: 2 mistakes: (1) {}; (2) `.pull_address(..)`: `udp://x` is not an address: only tcp, \
             ipc and inproc are supported; write `tcp://host:port`, `ipc://path` or `inproc://name`",
            text("`.push_address(..)`", ANY)
        );
        assert_rejected(worker.spawn(), &expected).await;
    });
}

#[test]
fn all_mistakes_of_a_component_are_reported_at_once() {
    check(async {
        let limits = QueueLimits::new().messages(0);
        let server = Nothing.bind(A).name("my shop").concurrency(0);
        let server = server
            .queue_limits(limits)
            .pull_address(A)
            .pub_address("localhost:1");
        assert_rejected(
            server.spawn(),
            "cannot start `my shop`: 5 mistakes: (1) `my shop` cannot be a name: a name has at least one \
             character, and neither a space nor a dot; (2) with `.concurrency(0)` no call could run: it has to \
             be at least 1; (3) `messages` of `.queue_limits(..)` is 0, so no message could pass: it has to be at \
             least 1; (4) `pub_address`: `localhost:1` is not an address: it has no `://`; write `tcp://host:port`, \
             `ipc://path` or `inproc://name`; (5) `db_address` and `pull_address` both bind \
             `tcp://127.0.0.1:5001`: set different addresses, or port 0 for a free one",
        )
        .await;
    });
}

#[test]
fn limits_of_zero_are_rejected() {
    check(async {
        let link = LinkOptions::new()
            .idle_timeout(Duration::ZERO)
            .max_deliver(0);
        assert_rejected(
            palm::Master::new("shop").bind(ANY).link_options(link).spawn(),
            "cannot start `shop`: 2 mistakes: (1) `idle_timeout` of `.link_options(..)` is zero, so every peer would \
             count as lost at once: it has to be longer than any delay of the network, such as 15 s; (2) \
             `max_deliver` of `.link_options(..)` is 0, so no task would run: it has to be at least 1",
        )
        .await;
    });
}

struct Unchanged;

impl InboundHooks for Unchanged {}

#[test]
fn templates_that_cannot_work_are_rejected_with_all_mistakes() {
    check(async {
        let template = || ServerTemplate::new("shop");
        assert_rejected(
            template().spawn(),
            "cannot start `shop`: it has no parts: register at least one",
        )
        .await;

        let mut two = template();
        two.register_bypass(CacheService::bind(A), "One");
        two.register_bypass(CacheService::bind(A), "Other");
        assert_rejected(
            two.spawn(),
            "cannot start `shop`: 2 mistakes: (1) `One` and `Other` are both a cache service: a component has \
             one, so remove the other; (2) the part `One` (`db_address`) and the part `Other` (`db_address`) both \
             bind `tcp://127.0.0.1:5001`: set different addresses, or port 0 for a free one",
        )
        .await;

        let mut loose = template();
        loose.register_inbound(PullService::bind(ANY), "Pull");
        loose.register_outbound(PubService::bind(ANY), "Pub");
        assert_rejected(
            loose.spawn(),
            "cannot start `shop`: 2 mistakes: (1) `Pull` has no route, so its messages would be lost; outbound \
             parts: `Pub`; (2) no route leads to `Pub`, so it would receive nothing; parts without a route: \
             `Pull`",
        )
        .await;

        let mut deaf = template();
        deaf.register_inbound(WorkerPullService::bind(ANY), "Results")
            .hooks(Unchanged)
            .route("Pub");
        deaf.register_outbound(PubService::bind(ANY), "Pub");
        assert_rejected(
            deaf.spawn(),
            "cannot start `shop`: `Results` is a part that runs no hooks: remove `.hooks(..)`, or register a part \
             with a socket, such as a `PullService`",
        )
        .await;

        let mut tasks = template();
        tasks
            .register_inbound(PullService::bind("tcp:/x"), "Pull")
            .route("Tasks");
        tasks.register_outbound(WorkerPushService::bind(ANY), "Tasks");
        assert_rejected(
            tasks.spawn(),
            "cannot start `shop`: 2 mistakes: (1) `Tasks` sends tasks to workers, but no part receives their \
             results: register a `WorkerPullService`; (2) the part `Pull` (`pull_address`): `tcp:/x` is not an \
             address: it has no `://`; write `tcp://host:port`, `ipc://path` or `inproc://name`",
        )
        .await;
    });
}
