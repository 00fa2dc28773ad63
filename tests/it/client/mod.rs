//! Clients: calls, jobs, the cache, and how they behave when something goes wrong.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::StreamExt;
use palm::ComponentHandle;
use palm::prelude::*;

use super::setup::{ANY_NAME, Gate, soon};

mod cache;
mod cancel;
mod connect;
mod delivery;
mod eval;
mod job;

/// The server that clients call.
#[derive(Clone)]
struct Server {
    gate: Gate,
    silent: Arc<AtomicU64>,
}

#[palm::server(name = "server")]
impl Server {
    #[palm::method]
    async fn gated(&self, payload: Bytes) -> Bytes {
        self.gate.pass().await;
        payload
    }

    #[palm::method]
    async fn later(&self, payload: Bytes) -> Bytes {
        for _ in 0..payload.len() % 7 {
            tokio::task::yield_now().await;
        }
        payload
    }

    #[palm::method]
    fn thrice(&self, payload: Bytes) -> impl Iterator<Item = Bytes> + use<> {
        std::iter::repeat_n(payload, 3)
    }

    #[palm::method]
    fn nothing(&self) {
        self.silent.fetch_add(1, Ordering::Relaxed);
    }
}

impl Server {
    fn new() -> Self {
        Self {
            gate: Gate::closed(),
            silent: Arc::default(),
        }
    }
}

async fn spawn() -> (ComponentHandle, Server) {
    spawn_at(ANY_NAME).await
}

async fn spawn_at(address: &str) -> (ComponentHandle, Server) {
    let server = Server::new();
    let handle = server
        .clone()
        .bind(address)
        .concurrency(64)
        .spawn()
        .await
        .unwrap();
    (handle, server)
}

async fn server_and_client() -> (ComponentHandle, Server, Client) {
    let (handle, server) = spawn().await;
    let client = soon("connecting", Client::connect("server", handle.db_address()))
        .await
        .unwrap();
    (handle, server, client)
}

async fn echo(client: &Client, payload: &str) {
    let answer = client.eval("server.echo", payload).into_future();
    assert_eq!(soon("an echo", answer).await.unwrap(), payload.to_owned());
}

fn numbers(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

/// Collects the answers of a job, all of which must be results.
async fn collect(job: palm::Job<'_>) -> Vec<Bytes> {
    let answers: Vec<_> = soon("the end of a job", job.collect()).await;
    answers.into_iter().map(Result::unwrap).collect()
}
