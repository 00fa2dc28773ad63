//! Methods of workers.

use bytes::Bytes;
use palm::prelude::*;
use palm::{CacheError, ComponentHandle};

use super::super::setup::{ANY, Caller, Gate, check, soon};

/// A worker whose methods wait at a gate.
struct Hand {
    gate: Gate,
}

#[palm::worker(server = "master")]
impl Hand {
    #[palm::method]
    async fn gated(&self, text: String) -> String {
        self.gate.pass().await;
        text
    }

    #[palm::method]
    async fn remembers(&self, text: String, context: Context) -> Result<Bytes, CacheError> {
        let cache = context.cache();
        let before = cache
            .get("worker's")
            .await?
            .unwrap_or_else(|| "nothing".into());
        cache.set("worker's", text).await?;
        Ok(before)
    }

    #[palm::method]
    fn forgets(&self) -> Option<String> {
        None
    }

    #[palm::method]
    fn lists(&self, text: String) -> impl Iterator<Item = String> + use<> {
        std::iter::repeat_n(text, 3)
    }

    #[palm::method]
    fn panics(&self) -> String {
        panic!("as requested")
    }
}

async fn master_and_worker(concurrency: usize) -> (ComponentHandle, ComponentHandle, Gate) {
    let gate = Gate::closed();
    let master = Master::new("master").bind(ANY).spawn().await.unwrap();
    let hand = Hand { gate: gate.clone() }.connect(master.db_address());
    let hand = hand
        .name("hand")
        .concurrency(concurrency)
        .spawn()
        .await
        .unwrap();
    (master, hand, gate)
}

#[test]
fn worker_answers_each_task_when_it_is_done() {
    check(async {
        let (master, _hand, gate) = master_and_worker(3).await;
        let mut caller = Caller::new(&master, "caller").await;
        caller.send("master.gated", "slow").await;
        gate.arrived(1).await;
        caller.send("master.echo", "fast").await;
        caller.send("master.lists", "fast").await;
        assert_eq!(caller.answers(4).await, ["fast"; 4]);
        gate.open();
        assert_eq!(caller.answer().await, "slow");
    });
}

#[test]
fn worker_reports_failures_and_serves_further_tasks() {
    check(async {
        let (master, hand, _) = master_and_worker(1).await;
        let mut caller = Caller::new(&master, "caller").await;
        for (function, payload, expected) in [
            ("master.panics", &b""[..], "0"),
            ("master.gated", b"\xff", "0"),
            ("master.unknown", b"", "0"),
            ("nonsense", b"", "0"),
            ("master.echo", b"still there", "still there"),
        ] {
            caller.send(function, payload).await;
            assert_eq!(caller.answer().await, expected, "{function}");
        }
        caller.send("master.forgets", "").await;
        caller.send("master.echo", "after nothing").await;
        assert_eq!(caller.answer().await, "after nothing");
        // The master itself rejects functions that none of its workers has.
        assert_eq!(hand.metrics().part("Executor").unwrap().errors, 3);
    });
}

#[test]
fn cache_of_a_worker_is_that_of_its_master() {
    check(async {
        let (master, _hand, _) = master_and_worker(1).await;
        let client = Client::connect("master", master.db_address())
            .await
            .unwrap();
        let answer = client.eval(Hand::REMEMBERS, "one").into_future();
        assert_eq!(soon("an answer", answer).await.unwrap(), "nothing");
        assert_eq!(client.get("worker's").await.unwrap(), Some("one".into()));
        client.set("worker's", "two").await.unwrap();
        assert_eq!(client.eval(Hand::REMEMBERS, "three").await.unwrap(), "two");
    });
}
