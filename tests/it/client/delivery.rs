//! What becomes of messages that are too large, late, or sent over a failing connection.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures_util::StreamExt;
use palm::CallError;
use palm::prelude::*;
use palm::socket::Push;

use super::super::raw::RawListener;
use super::super::setup::{
    ANY, Caller, STALLED, address, check, eventually, options, paused, soon,
};
use super::{Server, echo, spawn, spawn_at};

#[test]
fn payload_over_the_limit_is_rejected_before_it_is_sent() {
    paused(async {
        let (handle, _) = spawn().await;
        let limited = options().max_message_bytes(10_000);
        let client = Client::builder("server", handle.db_address()).socket_options(limited);
        let client = soon("connecting", client.connect()).await.unwrap();
        let error = client
            .eval("server.echo", vec![0; 10_000])
            .await
            .unwrap_err();
        let CallError::TooLarge {
            function,
            len,
            limit,
            ..
        } = &error
        else {
            panic!("{error}");
        };
        assert!(
            function == "server.echo" && *len > 10_000 && *limit == 10_000,
            "{error}"
        );
        assert!(!error.is_transient());
        let mut job = client.job("server.echo", [vec![0; 10], vec![0; 10_000]]);
        let answers = [job.next().await, job.next().await, job.next().await];
        let failed = answers.into_iter().flatten().filter(Result::is_err).count();
        assert_eq!(failed, 1);
        echo(&client, "afterwards").await;
        assert!(handle.metrics().part("Pull").unwrap().bytes < 10_000);
    });
}

#[test]
fn sent_messages_are_delivered_although_the_runtime_ends() {
    check(async {
        let (handle, server) = spawn_at(ANY).await;
        let db_address = handle.db_address().to_owned();
        // A program that sends, and ends.
        let program = move || {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime.block_on(async {
                let client = Client::connect("server", &db_address).await.unwrap();
                let payloads = std::iter::repeat_n(vec![0; 1000], 5000);
                let job = client
                    .job(Server::NOTHING.untyped(), payloads)
                    .expect_answers(0);
                assert_eq!(job.collect::<Vec<_>>().await.len(), 0);
            });
        };
        soon("the program", tokio::task::spawn_blocking(program))
            .await
            .unwrap();
        let count = || server.silent.load(Ordering::Relaxed);
        eventually("the messages", || count() == 5000).await;
    });
}

#[test]
fn messages_that_were_sent_arrive_although_their_client_is_dropped() {
    const MESSAGES: u64 = 200;
    paused(async {
        let (handle, server) = spawn().await;
        let connecting = Client::connect("server", handle.db_address());
        let client = soon("connecting", connecting).await.unwrap();
        for _ in 0..MESSAGES {
            client.send(Server::NOTHING.untyped(), "x").await.unwrap();
        }
        drop(client);
        let count = || server.silent.load(Ordering::Relaxed);
        eventually("the messages", || count() == MESSAGES).await;
    });
}

#[test]
fn legacy_client_that_subscribes_late_receives_its_answer() {
    paused(async {
        let (handle, _) = spawn().await;
        let pull = address(handle.address("pull_address").unwrap());
        let push = Push::connect(&pull, &options()).await.unwrap();
        // The second payload is larger than the default limit of pending publications.
        for (calls, len) in [(1, 10), (2, 64 * 1024 * 1024)] {
            let payload = Bytes::from(vec![b'x'; len]);
            let mut message = Message::new("server.echo", payload.clone());
            message.set_client(format!("client {calls}"));
            push.send(message.encode()).await.unwrap();
            let called = || handle.metrics().function("echo").unwrap().working.count() == calls;
            eventually("the call", called).await;
            let mut caller = Caller::new(&handle, message.client()).await;
            assert!(caller.answer().await == payload, "{len} bytes");
        }
    });
}

#[test]
fn message_survives_a_connection_whose_handshake_fails() {
    check(async {
        // A listener that accepts connections before the server exists, e.g. a proxy.
        let (server, at) = RawListener::bind(&address(ANY));
        let push = Push::connect(&at, &options()).await.unwrap();
        let sending = tokio::spawn(async move {
            push.send("the message".into()).await.unwrap();
            push
        });
        let comes_to_nothing = server.accept().await;
        // A client that does not wait for the handshake would send its message now.
        tokio::time::sleep(STALLED).await;
        drop(comes_to_nothing);

        let mut peer = server.accept().await;
        soon("the introduction", peer.introduce("PULL", b""))
            .await
            .unwrap();
        let frame = soon("the message", peer.frame()).await.unwrap();
        assert_eq!(frame, (0, b"the message".to_vec()));
        soon("the end of sending", sending).await.unwrap();
    });
}
