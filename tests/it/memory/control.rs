//! Limits of the control service: function lists, cache requests and their replies, stored values, and cancellations.

use std::time::Duration;

use bytes::Bytes;
use palm::prelude::*;
use palm::socket::Dealer;
use prost::Message as _;

use super::super::process::Process;
use super::super::setup::{address, check, check_for, finally, options, soon};
use super::session::Session;
use super::{MIB, Measured, STORE, send_request, wire};

#[test]
fn offers_of_peers_are_bounded_and_the_descriptor_stays_readable() {
    check(async {
        let master = Measured::run("memory_master_default").await;
        let _worker = Process::run("linked_worker", &[("db_address", master.db_address())]).await;
        let request = master.request().await;
        let offer = async |name: String, doc_bytes: usize| {
            let doc = "d".repeat(doc_bytes);
            let functions = vec![wire::Function { name, doc }];
            let descriptor = wire::Descriptor { functions }.encode_to_vec();
            soon(
                "a reply",
                send_request(&request, "master.offer", "", descriptor),
            )
            .await
        };
        // Much too large, too large for one function, and too many.
        for number in 0..10 {
            assert_eq!(offer(format!("huge{number}"), 20 * MIB).await, "");
            assert_eq!(offer(format!("large{number}"), MIB / 2).await, "");
        }
        let mut rejected = 0;
        for number in 0..200 {
            let reply = offer(format!("f{number}"), 60_000).await;
            rejected += usize::from(reply.is_empty());
        }
        assert!((100..200).contains(&rejected), "{rejected} rejected");
        let descriptor = soon("a reply", send_request(&request, "master.get", "", "palm")).await;
        assert!(descriptor.len() < 5 * MIB, "{} bytes", descriptor.len());
        master.assert_master_serves().await;
        // The sockets receive a request of 20 MiB before it is rejected.
        master.assert_within(4 * MIB);
    });
}

#[test]
fn requests_of_watchers_are_bounded_in_total() {
    check_for(Duration::from_secs(120), async {
        let server = Measured::run("memory_server_default").await;
        let request = server.request().await;
        let watch = |after, wait_ms| {
            let watch = Some(wire::Watch { after, wait_ms });
            let payload = wire::CacheRequest { watch }.encode_to_vec();
            Message::new("server.store", payload).into_frame()
        };
        let reply = request.request(watch(None, 0), Duration::from_secs(10));
        let reply = wire::CacheReply::decode(reply.await.unwrap()).unwrap();
        let after = reply.changes.unwrap().next;
        // What stands in front of the delimiter is kept until the reply: 640 MiB in all.
        let envelope = Bytes::from(vec![1; MIB]);
        let at = address(server.db_address());
        let mut dealers = Vec::new();
        for _ in 0..8 {
            let dealer = Dealer::connect(&at, &options()).await.unwrap();
            for _ in 0..80 {
                let frames = [envelope.clone(), Bytes::new(), watch(after.clone(), 30_000)];
                let sent = dealer.send(frames.into_iter().collect());
                soon("capacity to send", sent).await.unwrap();
                // Messages that were not received from the socket are bounded by its queues.
                let name = send_request(&request, "server.get", "", "name");
                assert_eq!(finally("a reply", name).await, "server");
            }
            dealers.push(dealer);
        }
        server.reaches(128 * MIB).await;
        server.assert_within(256 * MIB);
    });
}

#[test]
fn unread_cache_replies_are_bounded_in_total() {
    check(async {
        let server = Measured::run("memory_server_default").await;
        let request = server.request().await;
        let value = vec![b'v'; 16 * MIB];
        assert_eq!(send_request(&request, "server.set", "k", value).await, "k");
        let at = address(server.db_address());
        let mut peers = Vec::new();
        // Each `find` makes a copy: 2.5 GiB in all.
        for _ in 0..8 {
            let mut peer = super::super::raw::RawPeer::connect(&at).await;
            peer.introduce("DEALER", b"").await.unwrap();
            let find = Message::new("server.find", "k").into_frame();
            for _ in 0..20 {
                let request = super::super::raw_publisher::message(&[&b""[..], &find]);
                peer.write(&request).await.unwrap();
            }
            peers.push(peer);
        }
        for _ in 0..50 {
            let name = send_request(&request, "server.get", "", "name");
            assert_eq!(soon("a reply", name).await, "server");
        }
        server.reaches(128 * MIB).await;
        server.assert_within(512 * MIB);
    });
}

#[test]
fn values_in_memory_are_bounded_in_total() {
    check(async {
        let server = Measured::run("memory_store").await;
        let request = server.request().await;
        let mut stored = 0;
        // 400 MiB in all.
        for number in 0..100 {
            let key = format!("k{number}");
            let value = vec![b'v'; 4 * MIB];
            let reply = soon("a reply", send_request(&request, "server.set", &key, value)).await;
            stored += usize::from(!reply.is_empty());
        }
        // Keys and bookkeeping count as well.
        assert_eq!(stored, STORE / (4 * MIB) - 1);
        // A change for watchers keeps its value, of at most 8 MiB in all.
        server.reaches(STORE).await;
        server.assert_within(STORE + 8 * MIB);
        let reply = soon("a reply", send_request(&request, "server.delete", "", "k0")).await;
        assert_eq!(reply, "k0");
        let reply = soon(
            "a reply",
            send_request(&request, "server.set", "small", "v"),
        )
        .await;
        assert_eq!(reply, "small");
    });
}

#[test]
fn cancellations_are_bounded_in_total() {
    check_for(Duration::from_secs(120), async {
        const CANCELLATIONS: usize = 64 * MIB;
        /// Limit on the pending publications of one subscriber.
        const PENDING: usize = 64 * MIB;
        let server = Measured::run("memory_server_default").await;
        let at = server.db_address();
        let request = server.request().await;
        // It follows cancellations, and receives none.
        let _follower = Session::subscriber(at, 0, "\0palm.cancel").await;
        // 400 MiB in all, and each topic has the largest size.
        for list in 0..400 {
            let topics = (0..4096).map(|topic| format!("{list:06}{topic:06}{}\n", "c".repeat(243)));
            let topics = topics.collect::<String>();
            soon(
                "a reply",
                send_request(&request, "server.cancel", "", topics),
            )
            .await;
        }
        server.reaches(CANCELLATIONS / 2).await;
        server.assert_within(CANCELLATIONS + PENDING);
        let client = Client::connect("server", at);
        let client = soon("a client", client).await.unwrap();
        let answer = client.eval("server.size", "abc").into_future();
        assert_eq!(finally("an answer", answer).await.unwrap(), "3");
    });
}
