//! Components drain: they finish what they have accepted, within their limit.

use std::time::Duration;

use futures_util::StreamExt;
use palm::prelude::*;
use palm::socket::Push;
use tokio::time::{Instant, timeout};

use super::super::setup::{
    ANY_NAME, Caller, Gate, address, connect, eventually, options, paused, soon, succeeds,
    unbound_name,
};
use super::{Hand, Slow, Step, Where, collect, master_and_hand, numbers};

struct GatedStep {
    gate: Gate,
}

#[palm::sink(name = "gated_step")]
impl GatedStep {
    #[palm::method]
    async fn mark(&self, text: String) -> String {
        self.gate.pass().await;
        text + " step"
    }
}

#[test]
fn shutdown_of_a_server_finishes_accepted_calls() {
    paused(async {
        let gate = Gate::closed();
        // Half of the calls run, and the others wait in the queue.
        let server = Slow { gate: gate.clone() }
            .bind(ANY_NAME)
            .concurrency(50)
            .spawn()
            .await
            .unwrap();
        let client = connect("slow", &server).await;
        let answers = collect(&client, "slow.gated", 100);
        gate.arrived(50).await;
        eventually("all calls taken", || {
            server.metrics().part("Pull").unwrap().messages == 100
        })
        .await;
        let shutdown = tokio::spawn(server.shutdown());
        tokio::task::yield_now().await;
        assert!(!shutdown.is_finished());
        gate.open();
        assert_eq!(soon("the answers", answers).await.unwrap(), numbers(100));
        soon("the end", shutdown).await.unwrap().unwrap();
    });
}

#[test]
fn shutdown_delivers_pending_answers_to_a_late_subscriber() {
    paused(async {
        let gate = Gate::closed();
        let server = Slow { gate: gate.clone() };
        let server = server.bind(ANY_NAME).spawn().await.unwrap();
        let pull = address(server.address("pull_address").unwrap());
        let publishes = server.address("pub_address").unwrap().to_owned();
        let push = Push::connect(&pull, &options()).await.unwrap();
        let mut message = Message::new("slow.gated", "x");
        message.set_client("late");
        push.send(message.encode()).await.unwrap();
        gate.arrived(1).await;
        gate.open();
        let done = || server.metrics().function("gated").unwrap().working.count() == 1;
        eventually("the call", done).await;
        let shutdown = tokio::spawn(server.shutdown());
        let mut caller = Caller::at(&publishes, &publishes, "late").await;
        let answer = timeout(Duration::from_secs(5), caller.answer()).await;
        assert_eq!(answer.expect("the withheld answer"), "x");
        soon("the end", shutdown).await.unwrap().unwrap();
    });
}

#[test]
fn shutdown_of_a_pipeline_finishes_accepted_messages() {
    paused(async {
        let gate = Gate::closed();
        let free = Gate::closed();
        free.open();
        let first = Slow { gate: free }
            .bind(ANY_NAME)
            .pipelined(true)
            .spawn()
            .await
            .unwrap();
        let step = GatedStep { gate: gate.clone() }
            .bind(ANY_NAME)
            .follow(first.db_address());
        let step = step.concurrency(50).to_client(true).spawn().await.unwrap();
        let client = Client::builder("slow", first.db_address());
        let client = client
            .sub_address(step.address("pub_address").unwrap())
            .connect();
        let client = soon("connecting", client).await.unwrap();
        let answers = collect(&client, "slow.gated gated_step.mark", 50);
        gate.arrived(50).await;
        let shutdown = tokio::spawn(step.shutdown());
        gate.open();
        let marked: Vec<_> = numbers(50)
            .into_iter()
            .map(|number| number + " step")
            .collect();
        assert_eq!(soon("the answers", answers).await.unwrap(), marked);
        soon("the end", shutdown).await.unwrap().unwrap();
    });
}

#[test]
fn shutdown_of_a_worker_finishes_its_running_tasks() {
    paused(async {
        let (master, hand, gate) = master_and_hand(10).await;
        let client = connect("master", &master).await;
        let answers = collect(&client, "master.gated", 20);
        gate.arrived(10).await;
        let shutdown = tokio::spawn(hand.shutdown());
        // The worker keeps its running tasks, and the others are redelivered.
        let other = Hand { gate: gate.clone() };
        let _other = other.connect(master.db_address()).spawn().await.unwrap();
        gate.arrived(11).await;
        gate.open();
        let mut answers = soon("the answers", answers).await.unwrap();
        answers.sort_by_key(|answer| answer.parse::<u32>().unwrap());
        assert_eq!(answers, numbers(20));
        soon("the end", shutdown).await.unwrap().unwrap();
    });
}

#[test]
fn shutdown_of_a_master_waits_for_tasks_with_workers() {
    paused(async {
        let (master, _hand, gate) = master_and_hand(20).await;
        let client = connect("master", &master).await;
        let answers = collect(&client, "master.gated", 20);
        gate.arrived(20).await;
        let shutdown = tokio::spawn(master.shutdown());
        tokio::task::yield_now().await;
        assert!(!shutdown.is_finished());
        gate.open();
        assert_eq!(soon("the answers", answers).await.unwrap().len(), 20);
        soon("the end", shutdown).await.unwrap().unwrap();
    });
}

#[test]
fn shutdown_of_a_master_succeeds_after_functions_without_results() {
    paused(async {
        let (master, hand, _) = master_and_hand(1).await;
        let client = connect("master", &master).await;
        let job = client
            .job(Hand::NOTHING.untyped(), numbers(10))
            .expect_answers(0);
        assert_eq!(soon("the end of the job", job.count()).await, 0);
        let called = || hand.metrics().function("nothing").unwrap().working.count() == 10;
        eventually("the calls", called).await;
        soon("the end", master.shutdown()).await.unwrap();
    });
}

#[test]
fn shutdown_of_a_master_waits_for_tasks_after_functions_with_many_results() {
    paused(async {
        let (master, _hand, gate) = master_and_hand(8).await;
        let client = connect("master", &master).await;
        let many = client.job(Hand::THRICE, numbers(10)).expect_answers(30);
        assert_eq!(soon("the answers", many.count()).await, 30);
        let answers = collect(&client, "master.gated", 5);
        gate.arrived(5).await;
        let mut shutdown = tokio::spawn(master.shutdown());
        let waits = timeout(Duration::from_secs(1), &mut shutdown).await;
        assert!(waits.is_err(), "the master did not wait");
        gate.open();
        assert_eq!(soon("the answers", answers).await.unwrap().len(), 5);
        soon("the end", shutdown).await.unwrap().unwrap();
    });
}

#[test]
fn shutdown_delivers_answers_held_back_for_a_renewed_subscription() {
    paused(async {
        let server = Where.bind(ANY_NAME).spawn().await.unwrap();
        let mut caller = Caller::new(&server, "caller").await;
        caller.send("where.echo", "first").await;
        assert_eq!(caller.answer().await, "first");
        // After another peer has connected, the caller's subscription may be stale, so its answer is withheld.
        let mut other = Caller::new(&server, "other").await;
        other.send("where.echo", "other").await;
        assert_eq!(other.answer().await, "other");
        caller.send("where.echo", "second").await;
        let taken = || server.metrics().part("Executor").unwrap().messages == 3;
        eventually("the second message", taken).await;
        let shutdown = tokio::spawn(server.shutdown());
        assert_eq!(caller.answer().await, "second");
        soon("the end", shutdown).await.unwrap().unwrap();
    });
}

#[test]
fn shutdown_at_its_limit_names_the_unfinished_part() {
    paused(async {
        let gate = Gate::closed();
        let limit = Duration::from_millis(300);
        let server = Slow { gate: gate.clone() }
            .bind(ANY_NAME)
            .drain_limit(limit)
            .spawn()
            .await
            .unwrap();
        let caller = Caller::new(&server, "caller").await;
        caller.send("slow.gated", "x").await;
        gate.arrived(1).await;
        let start = Instant::now();
        let error = soon("the end", server.shutdown()).await.unwrap_err();
        assert!(start.elapsed() >= limit && start.elapsed() < Duration::from_secs(2));
        for part in ["`slow`", "300ms", "Executor"] {
            assert!(
                error.to_string().contains(part),
                "`{part}` is not in: {error}"
            );
        }
    });
}

#[test]
fn dropped_handle_stops_its_component() {
    paused(async {
        let gate = Gate::closed();
        let server = Slow { gate: gate.clone() }
            .bind(ANY_NAME)
            .spawn()
            .await
            .unwrap();
        let addresses = server.addresses().clone();
        let client = connect("slow", &server).await;
        let answers = collect(&client, "slow.gated", 1);
        gate.arrived(1).await;
        drop(server);
        gate.open();
        assert_eq!(soon("the answer", answers).await.unwrap(), ["0"]);
        let again = succeeds("the addresses", async || {
            let again = Slow { gate: gate.clone() }.bind(&addresses["db_address"]);
            let again = again.pull_address(&addresses["pull_address"]);
            again.pub_address(&addresses["pub_address"]).spawn().await
        })
        .await;
        assert_eq!(*again.addresses(), addresses);
    });
}

/// A component that runs until `stop`.
struct Until {
    stop: tokio::sync::oneshot::Sender<()>,
    running: tokio::task::JoinHandle<palm::Result<()>>,
}

impl Until {
    fn new<F>(start: impl FnOnce(tokio::sync::oneshot::Receiver<()>) -> F) -> Self
    where
        F: Future<Output = palm::Result<()>> + Send + 'static,
    {
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let running = tokio::spawn(start(stopped));
        Self { stop, running }
    }

    async fn stop(self) {
        self.stop.send(()).unwrap();
        soon("the end", self.running).await.unwrap().unwrap();
    }
}

#[test]
fn start_until_drains_the_component_once_its_future_completes() {
    paused(async {
        let (at, gate) = (unbound_name(), Gate::closed());
        let server = Slow { gate: gate.clone() }.bind(&*at).concurrency(5);
        let server = Until::new(|stopped| server.start_until(stopped));
        let client = soon("connecting", Client::connect("slow", &*at)).await;
        let client = client.unwrap();
        let answers = collect(&client, "slow.gated", 5);
        gate.arrived(5).await;
        let stopped = tokio::spawn(server.stop());
        tokio::task::yield_now().await;
        assert!(!stopped.is_finished());
        gate.open();
        assert_eq!(soon("the answers", answers).await.unwrap(), numbers(5));
        stopped.await.unwrap();
    });
}

#[test]
fn start_until_stops_each_kind_of_component() {
    paused(async {
        let gate = Gate::closed();
        gate.open();
        let prefix = unbound_name();
        let at = |name: &str| format!("{prefix}/{name}");
        let first = Slow { gate: gate.clone() }.bind(at("first"));
        let step = Step.bind(at("step")).follow(at("first"));
        let sink = GatedStep { gate: gate.clone() }.bind(at("sink"));
        let sink = sink.follow(at("step"));
        let master = Master::new("master").bind(at("master"));
        let hub = Hub::new("hub").bind(at("hub")).follow(at("first"));
        let hand = Hand { gate }.connect(at("master"));
        let mut template = ServerTemplate::new("template");
        template.register_bypass(palm::parts::CacheService::bind(at("template")), "Cache");
        let running = [
            Until::new(|stopped| first.start_until(stopped)),
            Until::new(|stopped| step.start_until(stopped)),
            Until::new(|stopped| sink.start_until(stopped)),
            Until::new(|stopped| master.start_until(stopped)),
            Until::new(|stopped| hub.start_until(stopped)),
            Until::new(|stopped| hand.start_until(stopped)),
        ];
        let client = soon("connecting", Client::connect("master", at("master"))).await;
        let answer = client.unwrap().eval("master.gated", "1").await;
        assert_eq!(answer.unwrap(), "1");
        for component in running.into_iter().rev() {
            component.stop().await;
        }
        // A future that is ready stops a component before it starts.
        let started = template.start_until(std::future::ready(()));
        soon("the end", started).await.unwrap();
    });
}

#[test]
fn start_until_reports_a_component_that_cannot_start() {
    paused(async {
        let server = Step
            .bind("nonsense")
            .start_until(std::future::pending::<()>());
        assert!(matches!(server.await, Err(palm::Error::Start(_))));
    });
}
