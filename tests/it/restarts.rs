//! Components that are killed during calls, and restarted at the same ports or at others. Clients send the calls that
//! were in them again, and each call is answered once.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::join_all;
use palm::inspect;
use palm::prelude::*;
use palm::testing::Faults;
use palm::{CallError, ComponentHandle, LinkOptions};
use tempfile::NamedTempFile;

use super::link::Hand;
use super::process::Process;
use super::setup::{
    ANY, ANY_NAME, Gate, check, connect, eventually, options, paused, soon, succeeds, work,
};

/// A server that records each run in a file before it does anything, so that the runs of a killed process are known.
pub(crate) struct Counted {
    pub(crate) runs: PathBuf,
}

impl Counted {
    fn record(&self, call: &str) {
        let mut file = std::fs::File::options()
            .append(true)
            .open(&self.runs)
            .unwrap();
        file.write_all(format!("{call}\n").as_bytes()).unwrap();
    }
}

#[palm::server(name = "counted")]
impl Counted {
    /// Runs for 5 ms.
    #[palm::method]
    async fn brief(&self, call: String) -> String {
        self.record(&call);
        work(5).await;
        call
    }

    /// Runs for 300 ms.
    #[palm::method]
    async fn long(&self, call: String) -> String {
        self.record(&call);
        work(300).await;
        call
    }

    /// Never ends in its first run.
    #[palm::method(at_most_once)]
    async fn once(&self, call: String) -> String {
        let is_first = !runs(&self.runs).contains(&call);
        self.record(&call);
        if is_first {
            std::future::pending::<()>().await;
        }
        call
    }
}

/// Returns the recorded runs, in order.
fn runs(path: &std::path::Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(str::to_owned).collect()
}

/// The first of two steps.
pub(crate) struct Relay;

#[palm::server(name = "relay")]
impl Relay {
    #[palm::method]
    fn pass(&self, call: Bytes) -> Bytes {
        call
    }
}

#[derive(Clone)]
struct Listens {
    first: Gate,
    heard: Gate,
}

#[palm::pipeline(name = "listens")]
impl Listens {
    /// Counts `first` separately: the test waits for it until the follower is subscribed.
    #[palm::method]
    fn hear(&self, call: String) {
        match call.as_str() {
            "first" => self.first.count_one(),
            _ => self.heard.count_one(),
        }
    }
}

/// The ports of a restarted component.
#[derive(Debug, Clone, Copy)]
enum Ports {
    /// All ports are unchanged.
    Same,
    /// Only the port of its `db_address` is unchanged.
    OnlyDbAddress,
    /// All ports change, and the fault proxy connects to the new one.
    Other,
}

const PORTS: [Ports; 3] = [Ports::Same, Ports::OnlyDbAddress, Ports::Other];

/// A component in a process of its own, behind a fault proxy.
struct Restarted {
    role: &'static str,
    others: Vec<(&'static str, String)>,
    process: Option<Process>,
    proxy: palm::testing::FaultProxy,
}

impl Restarted {
    async fn run(role: &'static str, others: Vec<(&'static str, String)>) -> Self {
        let all: Vec<_> = others.iter().map(|(key, at)| (*key, &**at)).collect();
        let process = Process::run_at_fixed_addresses(role, &all).await;
        let proxy = Faults::seeded(0)
            .proxy(&process.addresses["db_address"])
            .await;
        Self {
            role,
            others,
            process: Some(process),
            proxy: proxy.unwrap(),
        }
    }

    fn db_address(&self) -> &str {
        self.proxy.address()
    }

    async fn client(&self, name: &str) -> Client {
        let client = Client::connect(name, self.db_address());
        soon("connecting", client).await.unwrap()
    }

    async fn kill_and_restart(&mut self, ports: Ports) {
        let before = self.process.take().unwrap().kill();
        let mut all: Vec<_> = self.others.iter().map(|(key, at)| (*key, &**at)).collect();
        match ports {
            Ports::Same => all.extend(before.iter().map(|(key, at)| (&**key, &**at))),
            Ports::OnlyDbAddress => all.push(("db_address", &before["db_address"])),
            Ports::Other => {}
        }
        let process = Process::run(self.role, &all).await;
        self.proxy
            .set_target(&process.addresses["db_address"])
            .unwrap();
        self.process = Some(process);
    }
}

/// Kills and restarts a component during a job and single calls, and asserts that each call is answered once.
async fn calls_survive(
    restarted: &mut Restarted,
    name: &str,
    brief: &str,
    long: &str,
    ports: Ports,
) {
    let client = restarted.client(name).await;
    let calls: Vec<_> = (0..600).map(|number| format!("5 {number}")).collect();
    let mut job = client.job(brief, calls.clone());
    let mut answers = Vec::new();
    let singles: Vec<_> = (0..20)
        .map(|number| {
            let (client, long) = (client.clone(), long.to_owned());
            let call = format!("300 single {number}");
            tokio::spawn(async move { (client.eval(&*long, call.clone()).await, call) })
        })
        .collect();
    while answers.len() < 50 {
        answers.push(soon("an answer", job.next()).await.unwrap());
    }
    restarted.kill_and_restart(ports).await;
    let rest = soon("all answers of the job", job.collect::<Vec<_>>()).await;
    answers.extend(rest);
    let mut answers: Vec<_> = answers
        .into_iter()
        .map(|answer| String::from_utf8(answer.unwrap().into()).unwrap())
        .collect();
    answers.sort();
    let mut calls = calls;
    calls.sort();
    assert_eq!(answers, calls, "{ports:?}");
    for single in soon("the single calls", join_all(singles)).await {
        let (answer, call) = single.unwrap();
        assert_eq!(answer.unwrap(), call, "{ports:?}");
    }
}

#[test]
fn calls_in_a_killed_server_are_sent_again_and_answered_once() {
    check(async {
        let runs = NamedTempFile::new().unwrap();
        let others = vec![("runs", runs.path().display().to_string())];
        let mut server = Restarted::run("counted", others).await;
        for ports in PORTS {
            calls_survive(
                &mut server,
                "counted",
                "counted.brief",
                "counted.long",
                ports,
            )
            .await;
        }
    });
}

#[test]
fn calls_in_a_killed_master_are_sent_again_and_answered_once() {
    check(async {
        let mut master = Restarted::run("master", Vec::new()).await;
        let gate = Gate::closed();
        let hand = Hand { gate }.connect(master.db_address()).concurrency(8);
        let _hand = hand.socket_options(options()).spawn().await.unwrap();
        for ports in PORTS {
            calls_survive(&mut master, "master", "master.work", "master.work", ports).await;
        }
    });
}

#[test]
fn at_most_once_call_in_a_killed_server_runs_once() {
    check(async {
        let file = NamedTempFile::new().unwrap();
        let others = vec![("runs", file.path().display().to_string())];
        let mut server = Restarted::run("counted", others).await;
        let client = server.client("counted").await;
        for (round, (call, ports)) in ["a", "b", "c"].into_iter().zip(PORTS).enumerate() {
            let once = client.clone();
            let once = tokio::spawn(async move {
                let eval = once.eval("counted.once", call);
                eval.timeout(Duration::from_secs(3)).await
            });
            // An ordinary call of the same client is sent again.
            let other = client.clone();
            let other = tokio::spawn(async move { other.eval("counted.long", "other").await });
            eventually("the calls run", || {
                let runs = runs(file.path());
                let count = |call| runs.iter().filter(|run| *run == call).count();
                // In each earlier round, `other` has run twice.
                count(call) == 1 && count("other") == 2 * round + 1
            })
            .await;
            server.kill_and_restart(ports).await;
            assert_eq!(
                soon("the other call", other).await.unwrap().unwrap(),
                "other"
            );
            let error = soon("the end of the call", once)
                .await
                .unwrap()
                .unwrap_err();
            assert!(matches!(error, CallError::Timeout { .. }), "{error:?}");
            let runs = runs(file.path());
            assert_eq!(
                runs.iter().filter(|run| *run == call).count(),
                1,
                "{ports:?}: {runs:?}"
            );
        }
        assert_eq!(
            runs(file.path())
                .iter()
                .filter(|run| *run == "other")
                .count(),
            6
        );
    });
}

#[test]
fn both_followers_of_a_restarted_step_receive_each_message() {
    check(async {
        let mut step = Restarted::run("relay", Vec::new()).await;
        let proxy = Faults::seeded(0).proxy(step.db_address()).await.unwrap();
        let follow = async |address: &str| {
            let listens = Listens {
                first: Gate::closed(),
                heard: Gate::closed(),
            };
            let pipeline = listens.clone().bind(ANY).follow(address);
            let pipeline = pipeline.socket_options(options()).spawn().await;
            (pipeline.unwrap(), listens)
        };
        let (_left, left) = follow(step.db_address()).await;
        let (_right, right) = follow(proxy.address()).await;
        let client = step.client("relay").await;
        let send = async |call: &str, count: usize| {
            for _ in 0..count {
                let sent = client.send("relay.pass listens.hear", call.to_owned());
                sent.await.unwrap();
            }
        };
        // Both followers are subscribed from here on.
        let both = async || {
            send("first", 1).await;
            let all_heard = left.first.count() > 0 && right.first.count() > 0;
            all_heard.then_some(()).ok_or(())
        };
        succeeds("two followers", both).await;
        for (round, ports) in PORTS.into_iter().enumerate() {
            // One follower reconnects after the first messages are sent.
            proxy.refuse();
            step.kill_and_restart(ports).await;
            send("x", 50).await;
            relayed(step.db_address(), 50).await;
            proxy.accept();
            let all = 50 * (round + 1);
            left.heard.arrived(all).await;
            right.heard.arrived(all).await;
            let heard = (left.heard.count(), right.heard.count());
            assert_eq!(heard, (all, all), "{ports:?}");
            // The answer acknowledges the messages as well, so that the client does not send them again after the kill.
            assert_eq!(client.eval("relay.pass", "x").await.unwrap(), "x");
        }
    });
}

/// A short idle timeout.
fn short_idle_timeout() -> LinkOptions {
    LinkOptions::new().idle_timeout(Duration::from_millis(500))
}

/// Waits until the component at this address has called `pass` so many times since its start.
async fn relayed(address: &str, count: u64) {
    let calls = async || {
        let answer = inspect::inspect(address).await.unwrap();
        let functions = answer.report().into_iter().flat_map(|it| &it.functions);
        let mut pass = functions.filter(|it| it.name == "pass");
        pass.any(|it| it.calls >= count).then_some(()).ok_or(())
    };
    succeeds("the calls of the relay", calls).await;
}

async fn metrics_settle(component: &ComponentHandle, sessions: usize) {
    eventually("the sessions", || component.metrics().sessions == sessions).await;
}

#[test]
fn peers_send_heartbeats_within_the_idle_timeout_of_the_other_side() {
    paused(async {
        let master = Master::new("master")
            .bind(ANY_NAME)
            .link_options(short_idle_timeout());
        let master = master.spawn().await.unwrap();
        let gate = Gate::closed();
        let spare = Gate::closed();
        // The default heartbeat is 7 s.
        let hand = Hand { gate: gate.clone() }.connect(master.db_address());
        let _hand = hand.concurrency(1).spawn().await.unwrap();
        let client = connect("master", &master).await;
        let long = client.eval("master.work", "2500").into_future();
        let long = async {
            let long = long.await;
            (long, spare.count())
        };
        let other = async {
            gate.arrived(1).await;
            let other = Hand {
                gate: spare.clone(),
            }
            .connect(master.db_address());
            other.concurrency(1).spawn().await.unwrap()
        };
        let ((answer, redelivered), _other) = tokio::join!(long, other);
        assert_eq!(answer.unwrap(), "2500");
        assert_eq!((gate.count(), redelivered), (1, 0), "runs of the call");
        // Two workers and a client, all idle.
        metrics_settle(&master, 3).await;
    });
}
