//! What components count.

use std::time::Duration;

use futures_util::StreamExt;
use palm::prelude::*;
use palm::socket::Push;

use super::super::setup::{
    ANY_NAME, Caller, Gate, address, connect, eventually, options, paused, soon,
};
use super::{Hand, Slow, master_and_hand, numbers};

#[test]
fn metrics_count_messages_and_calls_of_each_part() {
    paused(async {
        let gate = Gate::closed();
        let server = Slow { gate: gate.clone() }
            .bind(ANY_NAME)
            .concurrency(2)
            .spawn()
            .await
            .unwrap();
        let mut caller = Caller::new(&server, "caller").await;
        let mut bytes = 0;
        for number in 0..10 {
            let mut message = Message::new("slow.gated", number.to_string());
            message.set_client("caller");
            bytes += message.encode().len() as u64;
            caller.send_message(message).await;
        }
        gate.arrived(2).await;
        eventually("the others waiting", || {
            let metrics = server.metrics();
            let function = metrics.function("gated").unwrap();
            (
                metrics.part("Pull").unwrap().messages,
                function.running,
                function.calls,
            ) == (10, 2, 2)
        })
        .await;
        gate.open();
        caller.answers(10).await;
        caller.send("slow.unknown", "").await;
        caller.send("slow.noted", "\u{ff}").await;
        caller.send("slow.noted", vec![0xff]).await;
        caller.send("slow.echo", "x").await;
        caller.answers(4).await;
        let echoed = || server.metrics().function("echo").unwrap().working.count() == 1;
        eventually("the end of the echo", echoed).await;

        let metrics = server.metrics();
        let (pull, executor, publish) = (
            metrics.part("Pull").unwrap(),
            metrics.part("Executor").unwrap(),
            metrics.part("Pub").unwrap(),
        );
        assert_eq!(
            (pull.messages, executor.messages, publish.messages),
            (14, 14, 14)
        );
        assert!(pull.bytes > bytes, "{} of {bytes}", pull.bytes);
        assert_eq!((pull.errors, executor.errors, publish.errors), (0, 2, 0));
        for part in &metrics.parts {
            assert_eq!(
                (part.queued_messages, part.queued_bytes, part.dropped),
                (0, 0, 0),
                "{part:?}"
            );
        }
        for (name, calls, errors) in [
            ("gated", 10, 0),
            ("noted", 2, 1),
            ("echo", 1, 0),
            ("endless", 0, 0),
        ] {
            let function = metrics.function(name).unwrap();
            let counts = (function.calls, function.errors, function.running);
            assert_eq!(counts, (calls, errors, 0), "{name}");
            assert_eq!(function.waiting.count(), calls, "{name}");
            assert_eq!(function.working.count(), calls, "{name}");
        }
        let noted = metrics.function("noted").unwrap();
        assert!(noted.working.quantile(1.0).unwrap() >= Duration::from_millis(290));
    });
}

#[test]
fn metrics_count_calls_instead_of_results() {
    paused(async {
        let (master, hand, _) = master_and_hand(1).await;
        let client = connect("master", &master).await;
        let job = client.job(Hand::THRICE, numbers(10)).expect_answers(30);
        assert_eq!(soon("the answers", job.count()).await, 30);
        let counted = || hand.metrics().part("Push").unwrap().messages == 30;
        eventually("all results counted", counted).await;
        let metrics = hand.metrics();
        assert_eq!(metrics.function("thrice").unwrap().calls, 10);
        // For an executor, messages are calls.
        assert_eq!(metrics.part("Executor").unwrap().messages, 10);
        let metrics = master.metrics();
        assert_eq!(metrics.part("WorkerPush").unwrap().messages, 10);
        assert_eq!(metrics.part("WorkerPull").unwrap().messages, 30);
    });
}

#[test]
fn publications_without_a_subscriber_are_counted_as_dropped() {
    paused(async {
        let gate = Gate::closed();
        gate.open();
        let limits = palm::parts::PendingLimits::new().time(Duration::from_millis(100));
        let server = Slow { gate }
            .bind(ANY_NAME)
            .pending_limits(limits)
            .spawn()
            .await
            .unwrap();
        let pull = address(server.address("pull_address").unwrap());
        let push = Push::connect(&pull, &options()).await.unwrap();
        let mut message = Message::new("slow.gated", "x");
        push.send(message.encode()).await.unwrap();
        message.set_client("absent");
        push.send(message.encode()).await.unwrap();
        let dropped = || server.metrics().part("Pub").unwrap().dropped == 2;
        eventually("both dropped", dropped).await;
    });
}
