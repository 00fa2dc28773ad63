//! The limit of an HTTP gateway: bodies and results of all requests.

use std::time::Duration;

use palm::prelude::*;

use super::super::setup::{Gate, check_for, finally, soon};
use super::{GATEWAY, MIB, Measured, QUEUE, TASKS, UNREAD};

/// A worker that waits at its gate.
struct Waits {
    gate: Gate,
}

#[palm::worker(server = "master")]
impl Waits {
    #[palm::method]
    async fn wait(&self, payload: Bytes) -> String {
        self.gate.pass().await;
        payload.len().to_string()
    }

    #[palm::method]
    fn size(&self, payload: Bytes) -> String {
        payload.len().to_string()
    }
}

#[test]
fn bodies_at_a_gateway_are_bounded_in_total() {
    check_for(Duration::from_secs(120), async {
        const REQUESTS: usize = 100;
        let master = Measured::run("memory_gateway_limited").await;
        let url = master.process.addresses["http_address"].clone();
        let gate = Gate::closed();
        let worker = Waits { gate: gate.clone() };
        let worker = worker.connect(master.db_address()).concurrency(1000);
        let worker = worker.spawn().await.unwrap();
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let post = |function: &str, bytes: usize| {
            let request = http.post(format!("{url}/{function}"));
            request.body(vec![b'b'; bytes]).send()
        };
        let known = async { while !post("size", 3).await.unwrap().status().is_success() {} };
        soon("the functions of the worker", known).await;
        // 400 MiB in all.
        let mut requests = tokio::task::JoinSet::new();
        for _ in 0..REQUESTS {
            requests.spawn(post("wait", 4 * MIB));
        }
        // An eighth is reserved for small bodies.
        let most = GATEWAY / 8 * 7 / (4 * MIB);
        let mut rejected = 0;
        while rejected < REQUESTS - most {
            let response = finally("a rejection", requests.join_next()).await.unwrap();
            // The same holds for a body that is rejected.
            if let Ok(response) = response.unwrap() {
                assert_eq!(response.status(), 503);
            }
            rejected += 1;
        }
        gate.arrived(1).await;
        let answer = soon("an answer to a small request", post("size", 3)).await;
        assert_eq!(answer.unwrap().text().await.unwrap(), "3");
        // The bodies are the tasks that the worker has, as well.
        master.reaches(GATEWAY / 2).await;
        master.assert_within(GATEWAY + QUEUE + TASKS + UNREAD);
        gate.open();
        while let Some(response) = finally("an answer", requests.join_next()).await {
            let response = response.unwrap().unwrap();
            assert_eq!(response.status(), 200);
        }
        let answer = soon("an answer", post("size", 3)).await.unwrap();
        assert_eq!(answer.text().await.unwrap(), "3");
        drop(worker);
    });
}
