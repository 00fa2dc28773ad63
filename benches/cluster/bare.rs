//! The same hops as those of palm's components, written by hand with the socket crate.

use std::time::{Duration, Instant};

use bytes::Bytes;
use omq_tokio::{Options, Socket, SocketType};
use palm::prelude::*;

use crate::measure::WINDOW;
use crate::roles::print_ready;
use crate::support::{ANY, until_orphaned};

pub(crate) fn socket(socket_type: SocketType) -> Socket {
    let options = Options {
        xpub_nodrop: true,
        ..Options::default()
    };
    Socket::new(socket_type, options)
}

pub(crate) async fn bound(socket_type: SocketType) -> (Socket, String) {
    let socket = socket(socket_type);
    let endpoint = socket.bind(ANY).await.expect("it binds");
    (socket, endpoint.to_string())
}

pub(crate) async fn connected(socket_type: SocketType, address: &str) -> Socket {
    let socket = socket(socket_type);
    socket.connect(address).await.expect("it connects");
    socket
}

pub(crate) const TOPIC: &str = "0b0b0b0b-0000-4000-8000-0b0b0b0b0b0b/0";

/// Passes frames on from one socket to another, unchanged.
pub(crate) async fn forward(from: &Socket, to: &Socket, topic: Option<&str>, copy: bool) {
    let mut batch = Vec::new();
    while from.recv_many_into(256, &mut batch).await.is_ok() {
        for message in batch.drain(..) {
            let frame = message
                .part_bytes(message.len() - 1)
                .expect("a message has a frame");
            let frame = if copy {
                Bytes::copy_from_slice(&frame)
            } else {
                frame
            };
            let message = match topic {
                Some(topic) => {
                    omq_tokio::Message::multipart([Bytes::copy_from_slice(topic.as_bytes()), frame])
                }
                None => omq_tokio::Message::single(frame),
            };
            to.send(message).await.expect("it sends");
        }
    }
}

pub(crate) async fn run_server(copy: bool) {
    let (pull, pull_address) = bound(SocketType::Pull).await;
    let (publish, pub_address) = bound(SocketType::Pub).await;
    print_ready(&[&pull_address, &pub_address]);
    tokio::select! {
        () = forward(&pull, &publish, Some(TOPIC), copy) => {}
        () = until_orphaned() => {}
    }
}

pub(crate) async fn run_step(before: &str, topic: &str, next: &str) {
    let subscribe = connected(SocketType::Sub, before).await;
    subscribe
        .subscribe(topic.to_owned())
        .await
        .expect("it subscribes");
    let (publish, pub_address) = bound(SocketType::Pub).await;
    print_ready(&[&pub_address]);
    tokio::select! {
        () = forward(&subscribe, &publish, Some(next), false) => {}
        () = until_orphaned() => {}
    }
}

pub(crate) async fn run_master() {
    let (pull, pull_address) = bound(SocketType::Pull).await;
    let (push, push_address) = bound(SocketType::Push).await;
    let (results, results_address) = bound(SocketType::Pull).await;
    let (publish, pub_address) = bound(SocketType::Pub).await;
    print_ready(&[&pull_address, &pub_address, &push_address, &results_address]);
    tokio::select! {
        () = async {
            let out = tokio::spawn(async move { forward(&pull, &push, None, false).await });
            forward(&results, &publish, Some(TOPIC), false).await;
            out.abort();
        } => {}
        () = until_orphaned() => {}
    }
}

pub(crate) async fn run_worker(push: &str, pull: &str) {
    let tasks = connected(SocketType::Pull, push).await;
    let results = connected(SocketType::Push, pull).await;
    print_ready(&["ready"]);
    tokio::select! {
        () = forward(&tasks, &results, None, false) => {}
        () = until_orphaned() => {}
    }
}

/// Returns a frame with as many bytes as palm sends.
pub(crate) fn frame(payload_bytes: usize) -> Bytes {
    let mut message = Message::new("server.foo", vec![b'x'; payload_bytes]);
    message.set_pipeline("0b0b0b0b-0000-4000-8000-0b0b0b0b0b0b");
    message.set_client(TOPIC);
    message.set_cache("0b0b0b0b-0000-4000-8000-0b0b0b0b0b0b");
    message.encode()
}

/// A hand-written client, which pushes frames and receives publications.
pub(crate) struct BareClient {
    push: Socket,
    subscribe: Socket,
    frame: Bytes,
}

impl BareClient {
    pub(crate) async fn connect(
        pull_address: &str,
        pub_address: &str,
        payload_bytes: usize,
    ) -> Self {
        let push = connected(SocketType::Push, pull_address).await;
        let subscribe = connected(SocketType::Sub, pub_address).await;
        subscribe.subscribe(TOPIC).await.expect("it subscribes");
        let client = Self {
            push,
            subscribe,
            frame: frame(payload_bytes),
        };
        // The subscription is established once a message has come back.
        loop {
            client.send().await;
            let answer = client.subscribe.recv();
            if tokio::time::timeout(Duration::from_millis(100), answer)
                .await
                .is_ok()
            {
                break;
            }
        }
        while tokio::time::timeout(Duration::from_millis(200), client.subscribe.recv())
            .await
            .is_ok()
        {}
        client
    }

    pub(crate) async fn send(&self) {
        let message = omq_tokio::Message::single(self.frame.clone());
        self.push.send(message).await.expect("it sends");
    }

    pub(crate) async fn latencies(&self, count: usize) -> Vec<Duration> {
        let mut latencies = Vec::with_capacity(count);
        for _ in 0..count {
            let start = Instant::now();
            self.send().await;
            self.subscribe.recv().await.expect("it answers");
            latencies.push(start.elapsed());
        }
        latencies
    }

    pub(crate) async fn throughput(&self, count: usize) -> f64 {
        let start = Instant::now();
        let mut batch = Vec::new();
        let (mut sent, mut received) = (0, 0);
        while received < count {
            while sent < count && sent - received < WINDOW {
                self.send().await;
                sent += 1;
            }
            received += self
                .subscribe
                .recv_many_into(256, &mut batch)
                .await
                .expect("it answers");
            batch.clear();
        }
        count as f64 / start.elapsed().as_secs_f64()
    }
}
