//! PUSH and PULL: order, turns and batches.

use std::time::Duration;

use bytes::Bytes;
use palm_runtime::socket::{Pull, Push};

use super::harness::check;
use super::raw::{MORE, RawPeer, frame};
use super::setup::{
    IpcFolder, any_tcp, number, numbered, options, push_to_pull, recv, recv_numbers, recv_one, soon,
};

#[test]
fn every_message_arrives_once_and_in_order() {
    check(async {
        let folder = IpcFolder::new();
        let options = options(|options| options);
        for binds in ["push", "pull"] {
            for address in folder.all(binds) {
                let (push, mut pull) = push_to_pull(binds, &address, &options).await;
                let sending = tokio::spawn(async move {
                    for number in 0..20_000 {
                        push.send(numbered(number, 64)).await.unwrap();
                    }
                    push
                });
                recv_numbers(&mut pull, 0..20_000).await;
                sending.await.unwrap();
            }
        }
    });
}

#[test]
fn messages_of_all_sizes_arrive_unchanged() {
    check(async {
        let (push, mut pull) = push_to_pull("pull", &any_tcp(), &options(|options| options)).await;
        let lens = [
            0, 1, 30, 31, 32, 254, 255, 256, 4095, 4096, 65_535, 65_536, 1_000_000,
        ];
        for (len, byte) in lens.into_iter().zip(0_u8..) {
            let message = Bytes::from(vec![byte; len]);
            push.send(message.clone()).await.unwrap();
            assert!(recv_one(&mut pull).await == message, "{len} bytes");
        }
    });
}

#[test]
fn peers_get_messages_in_turn() {
    check(async {
        let options = options(|options| options);
        let (push, bound) = Push::bind(&any_tcp(), &options).await.unwrap();
        let mut pulls: Vec<Pull> = Vec::new();
        for _ in 0..3 {
            // All peers must be connected before turns are counted, with empty queues.
            pulls.push(Pull::connect(&bound, &options).await.unwrap());
            let last_greeted = async {
                let mut greeted = None;
                while greeted != Some(pulls.len() - 1) {
                    push.send(Bytes::from_static(b"are you there?"))
                        .await
                        .unwrap();
                    greeted = None;
                    while greeted.is_none() {
                        tokio::task::yield_now().await;
                        greeted = pulls.iter_mut().position(|pull| {
                            let mut messages = Vec::new();
                            pull.try_recv_many(&mut messages, 1);
                            !messages.is_empty()
                        });
                    }
                }
            };
            soon("a peer", last_greeted).await;
        }
        for number in 0..300 {
            push.send(numbered(number, 64)).await.unwrap();
        }
        for number in 0..300 {
            // One mark for each peer, as the last message that it receives.
            push.send(numbered(1_000 + number, 64)).await.unwrap();
        }
        for pull in &mut pulls {
            let mut count = 0;
            while let 0..300 = number(&recv_one(pull).await) {
                count += 1;
            }
            assert!(
                (80..=120).contains(&count),
                "one of 3 peers got {count} of 300 messages"
            );
        }
    });
}

#[test]
fn one_pull_serves_many_pushes() {
    check(async {
        let options = options(|options| options);
        let (mut pull, bound) = Pull::bind(&any_tcp(), &options).await.unwrap();
        let mut sending = Vec::new();
        for peer in 0..20 {
            let push = Push::connect(&bound, &options).await.unwrap();
            sending.push(tokio::spawn(async move {
                for number in 0..500 {
                    push.send(numbered(peer * 1_000 + number, 64))
                        .await
                        .unwrap();
                }
                push.close(Duration::from_secs(10)).await;
            }));
        }
        let mut next = [0; 20];
        for message in recv(&mut pull, 20 * 500).await {
            let (peer, number) = (number(&message) / 1_000, number(&message) % 1_000);
            assert_eq!(number, next[peer], "peer {peer}");
            next[peer] += 1;
        }
        for sending in sending {
            sending.await.unwrap();
        }
    });
}

#[test]
fn a_flood_of_one_peer_does_not_starve_another() {
    check(async {
        let options = options(|options| options);
        let (mut pull, bound) = Pull::bind(&any_tcp(), &options).await.unwrap();
        let flood = Push::connect(&bound, &options).await.unwrap();
        let flooding =
            tokio::spawn(async move { while flood.send(numbered(0, 64)).await.is_ok() {} });
        recv(&mut pull, 1_000).await;
        let push = Push::connect(&bound, &options).await.unwrap();
        push.send(numbered(1, 64)).await.unwrap();
        let heard = async { while number(&recv_one(&mut pull).await) != 1 {} };
        soon("the message of the quiet peer", heard).await;
        flooding.abort();
    });
}

#[test]
fn each_frame_of_a_message_is_received_as_a_message() {
    check(async {
        let (mut pull, bound) = Pull::bind(&any_tcp(), &options(|options| options))
            .await
            .unwrap();
        let mut peer = RawPeer::introduced(&bound, "PUSH").await;
        peer.write(&[frame(MORE, b"first"), frame(0, b"second")].concat())
            .await
            .unwrap();
        peer.send(b"third").await;
        assert_eq!(recv(&mut pull, 3).await, ["first", "second", "third"]);
    });
}

#[test]
fn one_call_receives_many_messages() {
    check(async {
        let (push, mut pull) = push_to_pull("pull", &any_tcp(), &options(|options| options)).await;
        let sending = tokio::spawn(async move {
            for number in 0..20_000 {
                push.send(numbered(number, 16)).await.unwrap();
            }
            push
        });
        let (mut calls, mut messages) = (0, Vec::new());
        while messages.len() < 20_000 {
            let seen = messages.len();
            soon("messages", pull.recv_many(&mut messages, 256))
                .await
                .unwrap();
            assert!(messages.len() - seen <= 256, "more than were requested");
            calls += 1;
        }
        assert!(calls < 20_000, "{calls} calls for 20,000 messages");
        sending.await.unwrap();
    });
}
