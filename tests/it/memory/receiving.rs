//! The limit of messages that a component is receiving.

use std::time::Duration;

use palm::prelude::*;

use super::super::raw::RawPeer;
use super::super::setup::{address, check_for, soon};
use super::{MIB, Measured, RECEIVE};

/// Size of the half-sent messages.
const LARGE: usize = 6 * MIB;

const PEERS: usize = 50;

#[test]
fn messages_that_are_being_received_are_bounded_in_total() {
    check_for(Duration::from_secs(120), async {
        let server = Measured::run("memory_receiver_limited").await;
        let at = address(server.db_address());
        // More than half of a message, without its end.
        let mut begin = vec![2, 0, 0, 0, 0];
        begin.extend_from_slice(&u32::try_from(LARGE).unwrap().to_be_bytes());
        begin.resize(4 * MIB, b'x');
        let begin = bytes::Bytes::from(begin);
        let mut peers = tokio::task::JoinSet::new();
        for _ in 0..PEERS {
            let (at, begin) = (at.clone(), begin.clone());
            peers.spawn(async move {
                let mut peer = RawPeer::introduced(&at, "DEALER").await;
                // It waits while the server does not read, and fails when the server closes the connection.
                let _ = peer.write(&begin).await;
                peer.read_to_end().await;
            });
        }
        let client = Client::connect("server", server.db_address().to_owned());
        let client = soon("a client", client).await.unwrap();
        for _ in 0..20 {
            let answer = client.eval("server.size", "abc").into_future();
            assert_eq!(soon("an answer", answer).await.unwrap(), "3");
        }
        // Memory is left for a message of 1 MiB. A larger one may wait until a half-sent one was closed.
        for bytes in [MIB, LARGE] {
            let large = vec![b'x'; bytes];
            let answer = client.eval("server.size", large).into_future();
            let answer = soon("an answer to a large message", answer).await.unwrap();
            assert_eq!(answer, bytes.to_string());
        }
        server.assert_within(RECEIVE);
        server.reaches(RECEIVE / 2).await;
        peers.shutdown().await;
    });
}
