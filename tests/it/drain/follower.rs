//! A follower that stops while calls pass through it.

use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;
use futures_util::StreamExt as _;
use palm::prelude::*;
use palm::{ComponentHandle, QueueLimits};

use super::super::setup::{ANY_NAME, finally, paused, unbound_name, work};
use super::LONG;

struct First;

#[palm::server(name = "first")]
impl First {
    #[palm::method]
    fn pass(&self, call: Bytes) -> Bytes {
        call
    }
}

struct Second;

#[palm::pipeline(name = "second")]
impl Second {
    #[palm::method]
    async fn pass(&self, call: Bytes) -> Bytes {
        work(1).await;
        call
    }
}

async fn first(at: &str) -> ComponentHandle {
    First.bind(at).drain_limit(LONG).spawn().await.unwrap()
}

/// Starts a follower with a queue that is nearly always full.
async fn second(at: &str, upstream: &str) -> ComponentHandle {
    let second = Second.bind(at).follow(upstream).drain_limit(LONG);
    let second = second.queue_limits(QueueLimits::new().messages(4));
    second.spawn().await.unwrap()
}

/// An upstream component that was stopped has finished its session. The follower must still wait for the end of the
/// next session, with the next run of that component, before it closes its link.
#[test]
fn calls_are_answered_while_a_follower_restarts_after_its_upstream() {
    const STEPS: &str = "first.pass second.pass";
    const CALLS: usize = 200;
    for seed in 0..32 {
        paused(async {
            let upstream = first(ANY_NAME).await;
            let (upstream_at, at) = (upstream.db_address().to_owned(), unbound_name());
            let follower = second(&at, &upstream_at).await;
            let client = Client::builder("first", upstream_at.as_str()).answered_by(at.as_str());
            let client = client.window(32).connect().await.unwrap();
            let echo = async || client.eval(STEPS, "echo").await.unwrap();
            assert_eq!(echo().await, "echo");
            upstream.shutdown().await.unwrap();
            let _upstream = first(&upstream_at).await;
            assert_eq!(echo().await, "echo");

            let job = client.job(STEPS, (0..CALLS).map(|call| call.to_string()));
            let answers = job.timeout(Duration::from_secs(20)).collect::<Vec<_>>();
            let restart = async {
                work(Rng::with_seed(seed).u64(1..30)).await;
                follower.shutdown().await.unwrap();
                second(&at, &upstream_at).await
            };
            let both = async { tokio::join!(answers, restart) };
            let (answers, _follower) = finally("the answers", both).await;
            let failed: Vec<_> = answers.iter().filter(|it| it.is_err()).collect();
            assert!(failed.is_empty(), "seed {seed}: {failed:?}");
            assert_eq!(answers.len(), CALLS, "seed {seed}");
        });
    }
}
