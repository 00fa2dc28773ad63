//! Jobs: how they send, when they end, and what remains of a dropped one.

use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::poll_immediate;
use futures_util::stream;
use palm::prelude::*;
use palm::testing::Cluster;
use palm::{CallError, Worker};
use tokio::time::Instant;

use super::super::setup::{eventually, paused, settle, soon};
use super::{Server, collect, echo, numbers, server_and_client, spawn};

#[test]
fn job_receives_answers_while_it_sends() {
    paused(async {
        let (_handle, _, client) = server_and_client().await;
        // Each payload becomes available when the answer to the previous one has arrived.
        let (answered, answers) = tokio::sync::mpsc::unbounded_channel();
        answered.send(0_u32).unwrap();
        let payloads = stream::unfold(answers, |mut answers| async {
            let number = answers.recv().await?;
            Some((number.to_string(), answers))
        });
        let mut job = client
            .job_stream("server.echo", payloads)
            .expect_answers(50);
        for number in 0..50 {
            let answer = soon("an answer", job.next()).await.unwrap().unwrap();
            assert_eq!(answer, number.to_string());
            answered.send(number + 1).unwrap();
        }
    });
}

#[test]
fn job_names_the_argument_of_each_answer_and_failure() {
    paused(async {
        let worker = Worker::builder("numbers").method("later", |number: String| async move {
            let number: u64 = number.parse().unwrap();
            tokio::time::sleep(Duration::from_secs(10 - number)).await;
            (number != 3)
                .then(|| number.to_string())
                .ok_or("three fails")
        });
        let cluster = Cluster::new().inproc().master(Master::new("numbers"));
        let cluster = cluster.worker_with(worker, |builder| builder.concurrency(10));
        let cluster = cluster.start().await.unwrap();
        let client = cluster.client().await.unwrap();
        let mut job = client.job("numbers.later", numbers(0..10));
        assert_eq!(job.input(), None);
        let mut order = Vec::new();
        while let Some(answer) = soon("an answer", job.next()).await {
            let input = job.input().unwrap();
            match answer {
                Ok(number) => assert_eq!(number, input.to_string()),
                Err(error) => assert_eq!(input, 3, "{error}"),
            }
            order.push(input);
            // A receive that is dropped before an answer arrives changes nothing.
            if order.len() < 10 {
                assert!(poll_immediate(job.next()).await.is_none());
                assert_eq!(job.input(), Some(input));
            }
        }
        assert_eq!(order, (0..10).rev().collect::<Vec<_>>());
        assert_eq!(job.input(), None);
        cluster.shutdown().await.unwrap();

        let (_handle, _, client) = server_and_client().await;
        let mut job = client.job(Server::THRICE, ["x", "y"]);
        let mut inputs = Vec::new();
        while job.next().await.is_some() {
            inputs.extend(job.input());
        }
        assert_eq!(inputs, [0, 0, 0, 1, 1, 1]);
        let mut job = client.job("server.later", ["x"]).expect_answers(1);
        assert_eq!(job.next().await.unwrap().unwrap(), "x");
        assert_eq!(job.input(), None);
    });
}

#[test]
fn job_ends_after_the_given_number_of_messages() {
    paused(async {
        let (_handle, server, client) = server_and_client().await;
        let job = client
            .job("server.echo", numbers(0..5000))
            .expect_answers(5000);
        assert_eq!(collect(job).await, numbers(0..5000));
        let job = client.job(Server::THRICE, ["x", "y"]).expect_answers(6);
        assert_eq!(collect(job).await, ["x", "x", "x", "y", "y", "y"]);
        let job = client
            .job(Server::NOTHING.untyped(), numbers(0..100))
            .expect_answers(0);
        assert_eq!(collect(job).await, [""; 0]);
        let received = || server.silent.load(Ordering::Relaxed) == 100;
        eventually("all messages without an answer", received).await;
        let job = client.job("server.echo", [""; 0]).expect_answers(0);
        assert_eq!(collect(job).await, [""; 0]);
    });
}

#[test]
fn job_ends_after_expect_answers_with_inputs_left() {
    paused(async {
        let (handle, _) = spawn().await;
        let client = Client::builder("server", handle.db_address())
            .window(10)
            .connect();
        let client = soon("connecting", client).await.unwrap();
        let job = client.job("server.echo", numbers(0..500)).expect_answers(5);
        assert_eq!(
            collect(job.timeout(Duration::from_secs(3))).await,
            numbers(0..5)
        );
        echo(&client, "afterwards").await;
    });
}

#[test]
fn job_without_answers_ends_at_its_timeout() {
    paused(async {
        let (_handle, _, client) = server_and_client().await;
        let timeout = Duration::from_millis(300);
        let mut job = client
            .job(Server::NOTHING.untyped(), ["x", "y"])
            .expect_answers(2)
            .timeout(timeout);
        let start = Instant::now();
        let error = soon("the end of the job", job.next())
            .await
            .unwrap()
            .unwrap_err();
        assert!(start.elapsed() >= timeout);
        assert_eq!(
            error.to_string(),
            "no answer to `server.nothing` within 300ms"
        );
        assert!(error.is_transient());
        assert!(job.next().await.is_none());

        // Each answer restarts the timeout.
        let mut job = client
            .job("server.echo", ["x"])
            .expect_answers(2)
            .timeout(timeout);
        assert_eq!(soon("an answer", job.next()).await.unwrap().unwrap(), "x");
        let error = soon("the end of the job", job.next())
            .await
            .unwrap()
            .unwrap_err();
        assert!(matches!(error, CallError::Timeout { .. }));
    });
}

#[test]
fn dropped_job_does_not_disturb_later_calls() {
    paused(async {
        let (_handle, server, client) = server_and_client().await;
        for _ in 0..3 {
            let mut job = client.job("server.echo", numbers(0..10_000));
            for number in 0..10 {
                let answer = soon("an answer", job.next()).await.unwrap().unwrap();
                assert_eq!(answer, number.to_string());
            }
            drop(job);
            echo(&client, "afterwards").await;
        }
        let mut job = client.job(Server::GATED, ["x"]);
        assert!(poll_immediate(job.next()).await.is_none());
        server.gate.arrived(1).await;
        drop(job);
        server.gate.open();
        echo(&client, "afterwards").await;
    });
}

#[test]
fn unpolled_job_sends_at_most_its_window() {
    paused(async {
        let (handle, _) = spawn().await;
        let client = Client::builder("server", handle.db_address())
            .window(10)
            .connect();
        let client = soon("connecting", client).await.unwrap();
        // An answer shows that the client is connected.
        echo(&client, "before").await;
        let received = || handle.metrics().part("Pull").unwrap().messages - 1;

        let mut job = client
            .job("server.echo", numbers(0..1000))
            .expect_answers(1000);
        settle().await;
        assert_eq!((job.sent(), received()), (0, 0), "before the first poll");
        let first = poll_immediate(job.next()).await;
        settle().await;
        assert_eq!((job.sent(), received()), (10, 10), "after the first poll");

        let mut answers: Vec<_> = first.into_iter().flatten().map(Result::unwrap).collect();
        answers.extend(collect(job).await);
        assert_eq!(answers, numbers(0..1000));
    });
}

#[test]
fn answers_of_concurrent_jobs_do_not_mix() {
    paused(async {
        let (_handle, _, client) = server_and_client().await;
        let job = async |name: &str| {
            let payloads = (0..2000).map(|number| format!("{name} {number}"));
            let payloads: Vec<_> = payloads.collect();
            let job = client
                .job("server.later", payloads.clone())
                .expect_answers(2000);
            assert_eq!(collect(job).await, payloads);
        };
        tokio::join!(job("one"), job("another"), job("a third"));
    });
}
