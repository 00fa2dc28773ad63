//! Limits of connections, and what remains of those that were closed.

use std::time::Duration;

use palm::prelude::*;

use super::super::process::Process;
use super::super::setup::{ANY, address, check, check_for, connect, options, soon};
use super::{MIB, MeasuredServer};

#[test]
fn silent_connections_beyond_the_limit_are_closed_and_others_are_served() {
    check(async {
        let limited = options().max_connections(10);
        let server = MeasuredServer.bind(ANY).socket_options(limited);
        let server = server.spawn().await.unwrap();
        let client = connect("server", &server).await;
        let at = address(server.db_address());
        let mut peers = Vec::new();
        let mut closed = 0;
        // Half of these peers complete the handshake, and all send nothing else.
        for round in 0..30 {
            let mut peer = super::super::raw::RawPeer::connect(&at).await;
            if round % 2 == 0 {
                let _ = peer.introduce("DEALER", b"").await;
            }
            peers.push(peer);
        }
        for peer in &mut peers {
            let end = tokio::time::timeout(Duration::from_millis(200), peer.closed());
            closed += usize::from(end.await.is_ok());
        }
        assert!((20..30).contains(&closed), "{closed} of 30 were closed");
        let answer = client.eval("server.size", "abc").into_future();
        assert_eq!(soon("an answer", answer).await.unwrap(), "3");
        // The others are still connected.
        let another = Client::connect("server", server.db_address().to_owned());
        let another = soon("another client", another).await.unwrap();
        let answer = another.eval("server.size", "abc").into_future();
        assert_eq!(soon("an answer", answer).await.unwrap(), "3");
        drop(peers);
    });
}

#[test]
#[ignore = "takes minutes"]
fn memory_of_clients_that_have_left_is_returned_to_the_system() {
    const WAVES: usize = 14;
    check_for(Duration::from_secs(600), async {
        let server = Process::run("memory_server_default", &[]).await;
        let at = server.addresses["db_address"].clone();
        let begin = server.memory("Pss") / MIB;
        let mut most = 0;
        for _ in 0..WAVES {
            let clients = (0..500).map(|_| async {
                let client = Client::connect("server", at.clone()).await.unwrap();
                assert_eq!(client.eval("server.size", "abc").await.unwrap(), "3");
                client
            });
            drop(futures_util::future::join_all(clients).await);
            most = most.max(server.memory("Pss") / MIB);
        }
        // When no client has left for some seconds.
        let mut last = usize::MAX;
        let returned = tokio::time::timeout(Duration::from_secs(30), async {
            while last > begin + 20 {
                tokio::time::sleep(Duration::from_millis(500)).await;
                last = server.memory("Pss") / MIB;
            }
        });
        let returned = returned.await;
        println!("{begin} MiB at the beginning, up to {most}, {last} at the end");
        assert!(returned.is_ok(), "{last} MiB, {begin} at the beginning");
        assert!(
            most > begin + 20,
            "the clients used too little memory for a measurement"
        );
    });
}
