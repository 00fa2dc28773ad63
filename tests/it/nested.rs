//! Methods that call the component that runs them.

use std::sync::{Arc, OnceLock};

use futures_util::TryStreamExt as _;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use palm::CallError;
use palm::prelude::*;
use palm::testing::Cluster;

use super::setup::{ANY_NAME, connect, paused, soon, work};

/// The client with which methods call their own component.
type Own = Arc<OnceLock<Client>>;

/// Counts the leaves of a binary tree with a call for each node. The payload has a letter for each level.
struct Tree(Own);

impl Tree {
    fn client(&self) -> &Client {
        self.0.get().expect("it is connected")
    }
}

fn sum(halves: Vec<String>) -> String {
    let halves = halves.iter().map(|half| half.parse::<u32>().unwrap());
    halves.sum::<u32>().to_string()
}

#[palm::worker(server = "master")]
impl Tree {
    #[palm::method]
    async fn leaves(&self, levels: String) -> palm::Result<String> {
        let Some(below) = levels.strip_prefix('x') else {
            return Ok("1".to_owned());
        };
        // Each call is polled again only when it has its answer.
        let halves: FuturesUnordered<_> = (0..2)
            .map(|_| self.client().eval(Self::LEAVES, below).into_future())
            .collect();
        Ok(sum(halves.try_collect().await?))
    }

    #[palm::method]
    async fn by_job(&self, levels: String) -> palm::Result<String> {
        let Some(below) = levels.strip_prefix('x') else {
            return Ok("1".to_owned());
        };
        // The worker has finished no task for a while when it calls.
        work(1500).await;
        let halves = self.client().job(Self::BY_JOB, [below; 2]);
        Ok(sum(halves.try_collect().await?))
    }
}

#[test]
fn methods_that_call_their_own_master_release_their_concurrency() {
    paused(async {
        let own = Own::default();
        let cluster = Cluster::new()
            .inproc()
            .master(Master::new("master"))
            .worker_with(Tree(own.clone()), |worker| worker.concurrency(2))
            .start()
            .await
            .unwrap();
        let client = cluster.client().await.unwrap();
        own.set(cluster.client().await.unwrap()).unwrap();
        let calls = (0..4).map(|_| client.eval(Tree::LEAVES, "xxxx").into_future());
        for leaves in soon("the leaves", join_all(calls)).await {
            assert_eq!(leaves.unwrap(), "16");
        }
        let calls = (0..3).map(|_| client.eval(Tree::BY_JOB, "x").into_future());
        for leaves in soon("the leaves by jobs", join_all(calls)).await {
            assert_eq!(leaves.unwrap(), "2");
        }
    });
}

/// A method that calls itself.
struct Selfish(Own);

#[palm::server(name = "own")]
impl Selfish {
    #[palm::method]
    async fn outer(&self, text: String) -> palm::Result<String> {
        let client = self.0.get().expect("it is connected");
        Ok(client.eval(Self::INNER, text).await?)
    }

    #[palm::method]
    async fn inner(&self, text: String) -> String {
        tokio::task::yield_now().await;
        text
    }
}

#[test]
fn call_of_a_methods_own_ordered_server_is_rejected_immediately() {
    paused(async {
        let own = Own::default();
        let server = Selfish(own.clone()).bind(ANY_NAME).spawn().await.unwrap();
        let client = connect("own", &server).await;
        own.set(connect("own", &server).await).unwrap();
        let rejected = soon("an error", client.eval(Selfish::OUTER, "x").into_future()).await;
        let Err(CallError::Remote(error)) = rejected else {
            panic!("{rejected:?}");
        };
        assert!(error.message.contains("answers calls in order"), "{error}");
        assert_eq!(client.eval(Selfish::INNER, "x").await.unwrap(), "x");
    });
}
