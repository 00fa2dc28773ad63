//! How components start, stop, die and come back, and what they count.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt;
use palm::parts::{CacheService, PubService, PullService, PushService};
use palm::prelude::*;
use palm::socket::{Push, Reply};
use palm::{CacheError, ComponentHandle, ComponentKind, FileStore};
use tokio::net::TcpStream;

use super::setup::{
    ANY, Caller, Gate, Place, address, chain, check, connect, eventually, options, soon, unbound,
};

/// Calls that take a while.
#[derive(Clone)]
struct Slow {
    gate: Gate,
}

/// Does everything slowly.
#[palm::server(name = "slow")]
impl Slow {
    /// Waits at the gate.
    #[palm::method]
    async fn gated(&self, payload: Bytes) -> Bytes {
        self.gate.pass().await;
        payload
    }

    /// Leaves a note in the cache, and takes a while then.
    #[palm::method]
    async fn noted(&self, payload: String, context: Context) -> Result<String, CacheError> {
        context.cache().set(&payload, "began").await?;
        tokio::time::sleep(Duration::from_millis(300)).await;
        Ok(payload)
    }

    /// Leaves a note in the cache, and never ends.
    #[palm::method]
    async fn endless(&self, payload: String, context: Context) -> Result<(), CacheError> {
        context.cache().set(&payload, "began").await?;
        std::future::pending().await
    }
}

struct Step;

/// A step that marks what passes.
#[palm::pipeline(name = "step")]
impl Step {
    #[palm::method]
    fn mark(&self, text: String) -> String {
        text + " step"
    }
}

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

struct Hand {
    gate: Gate,
}

#[palm::worker(server = "master")]
impl Hand {
    #[palm::method]
    async fn gated(&self, payload: Bytes) -> Bytes {
        self.gate.pass().await;
        payload
    }

    #[palm::method]
    async fn endless(&self) {
        std::future::pending().await
    }

    #[palm::method]
    fn nothing(&self) {}

    #[palm::method]
    fn thrice(&self, payload: Bytes) -> impl Iterator<Item = Bytes> + use<> {
        std::iter::repeat_n(payload, 3)
    }
}

fn numbers(count: usize) -> Vec<String> {
    (0..count).map(|number| number.to_string()).collect()
}

/// All answers of a job that goes on by itself.
fn collect(client: &Client, function: &str, count: usize) -> tokio::task::JoinHandle<Vec<String>> {
    let job = client
        .job(function, numbers(count))
        .expect_answers(count as u64);
    let answer = |answer: Result<Bytes, _>| String::from_utf8(answer.unwrap().into()).unwrap();
    tokio::spawn(job.map(answer).collect())
}

#[test]
fn a_component_is_there_when_spawn_returns() {
    check(async {
        let gate = Gate::closed();
        let server = Slow { gate }.bind(ANY).pull_address(ANY).pub_address(ANY);
        let server = server.spawn().await.unwrap();
        assert_eq!(server.addresses().len(), 3);
        for address in server.addresses().values() {
            assert!(!address.ends_with(":0"));
            let address = address.strip_prefix("tcp://").unwrap();
            TcpStream::connect(address).await.unwrap();
        }
        assert_eq!(server.address("db_address"), Some(server.db_address()));
        assert_eq!(server.address("worker_push_address"), None);
    });
}

#[test]
fn shutdown_finishes_what_was_taken() {
    check(async {
        let gate = Gate::closed();
        // Half of the calls run, the others wait in the queue.
        let server = Slow { gate: gate.clone() }
            .bind(ANY)
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
fn shutdown_delivers_to_who_subscribes_late() {
    check(async {
        let gate = Gate::closed();
        let server = Slow { gate: gate.clone() };
        let server = server.bind(ANY).spawn().await.unwrap();
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
        let answer = tokio::time::timeout(Duration::from_secs(5), caller.answer()).await;
        assert_eq!(answer.expect("the answer that was held"), "x");
        soon("the end", shutdown).await.unwrap().unwrap();
    });
}

#[test]
fn the_shutdown_of_a_step_finishes_what_was_taken() {
    check(async {
        let gate = Gate::closed();
        let free = Gate::closed();
        free.open();
        let first = Slow { gate: free }
            .bind(ANY)
            .pipelined(true)
            .spawn()
            .await
            .unwrap();
        let step = GatedStep { gate: gate.clone() }
            .bind(ANY)
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

async fn master_and_hand(concurrency: usize) -> (ComponentHandle, ComponentHandle, Gate) {
    let gate = Gate::closed();
    let master = Master::new("master")
        .bind(ANY)
        .drain_limit(Duration::from_secs(3));
    let master = master.spawn().await.unwrap();
    let hand = Hand { gate: gate.clone() }.connect(master.db_address());
    let hand = hand.concurrency(concurrency).spawn().await.unwrap();
    (master, hand, gate)
}

#[test]
fn a_worker_that_stops_finishes_what_it_has() {
    check(async {
        let (master, hand, gate) = master_and_hand(10).await;
        let client = connect("master", &master).await;
        let answers = collect(&client, "master.gated", 20);
        gate.arrived(10).await;
        let shutdown = tokio::spawn(hand.shutdown());
        // It has what it was doing; the rest is for another one.
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
fn a_master_that_stops_waits_for_what_is_with_workers() {
    check(async {
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
fn a_master_waits_no_longer_than_its_limit_for_functions_that_give_nothing() {
    check(async {
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
fn a_master_waits_for_tasks_though_others_gave_many_results() {
    check(async {
        let (master, _hand, gate) = master_and_hand(8).await;
        let client = connect("master", &master).await;
        let many = client.job(Hand::THRICE, numbers(10)).expect_answers(30);
        assert_eq!(soon("the answers", many.count()).await, 30);
        let answers = collect(&client, "master.gated", 5);
        gate.arrived(5).await;
        let shutdown = tokio::spawn(master.shutdown());
        // Long enough for a master that waits for nothing.
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert!(!shutdown.is_finished(), "the master did not wait");
        gate.open();
        assert_eq!(soon("the answers", answers).await.unwrap().len(), 5);
        soon("the end", shutdown).await.unwrap().unwrap();
    });
}

#[test]
fn shutdown_delivers_what_waits_for_a_new_subscription() {
    check(async {
        let server = Where.bind(ANY).spawn().await.unwrap();
        let mut caller = Caller::of(&server, "caller").await;
        caller.send("where.echo", "first").await;
        assert_eq!(caller.answer().await, "first");
        // Since somebody has connected, the caller might be about to subscribe anew.
        let mut other = Caller::of(&server, "other").await;
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
fn what_takes_too_long_to_stop_is_told() {
    check(async {
        let gate = Gate::closed();
        let limit = Duration::from_millis(300);
        let server = Slow { gate: gate.clone() }
            .bind(ANY)
            .drain_limit(limit)
            .spawn()
            .await
            .unwrap();
        let caller = Caller::of(&server, "caller").await;
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
fn a_handle_that_is_dropped_stops_its_component() {
    check(async {
        let gate = Gate::closed();
        let server = Slow { gate: gate.clone() }.bind(ANY).spawn().await.unwrap();
        let addresses = server.addresses().clone();
        let client = connect("slow", &server).await;
        let answers = collect(&client, "slow.gated", 1);
        gate.arrived(1).await;
        drop(server);
        gate.open();
        assert_eq!(soon("the answer", answers).await.unwrap(), ["0"]);
        let again = soon("the ports", async {
            loop {
                let again = Slow { gate: gate.clone() }.bind(&addresses["db_address"]);
                let again = again.pull_address(&addresses["pull_address"]);
                match again.pub_address(&addresses["pub_address"]).spawn().await {
                    Ok(again) => return again,
                    Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
                }
            }
        })
        .await;
        assert_eq!(*again.addresses(), addresses);
    });
}

#[test]
fn an_address_in_use_is_told() {
    check(async {
        let gate = Gate::closed();
        let server = Slow { gate: gate.clone() }
            .bind(ANY)
            .pull_address(ANY)
            .pub_address(ANY);
        let server = server.spawn().await.unwrap();
        for key in ["db_address", "pull_address", "pub_address"] {
            let taken = server.address(key).unwrap();
            let at = |mine: &str| if mine == key { taken } else { ANY };
            let other = Slow { gate: gate.clone() }
                .bind(at("db_address"))
                .pull_address(at("pull_address"))
                .pub_address(at("pub_address"));
            let error = chain(&other.spawn().await.unwrap_err());
            for part in ["`slow`", taken, "in use"] {
                assert!(error.contains(part), "`{part}` is not in: {error}");
            }
        }

        let place = Place::new();
        let master = Master::new("master")
            .bind(place.ipc("db"))
            .spawn()
            .await
            .unwrap();
        let error = Master::new("other")
            .bind(place.ipc("db"))
            .spawn()
            .await
            .unwrap_err();
        let error = chain(&error);
        assert!(
            error.contains(&place.ipc("db")) && error.contains("in use"),
            "{error}"
        );
        // The first one is as it was.
        assert_eq!(
            connect("master", &master)
                .await
                .get("name")
                .await
                .unwrap()
                .unwrap(),
            "master"
        );
    });
}

#[test]
fn a_start_that_fails_leaves_nothing_bound() {
    check(async {
        let gate = Gate::closed();
        let server = Slow { gate: gate.clone() }.bind(ANY).spawn().await.unwrap();
        let paths = Place::new();
        let start = |db_address: &str| {
            let other = Slow { gate: gate.clone() }.bind(db_address);
            let other = other.pull_address(paths.ipc("pull"));
            other.pub_address(paths.ipc("pub")).spawn()
        };
        for _ in 0..200 {
            // What is bound before is given up again.
            let error = chain(&start(server.db_address()).await.unwrap_err());
            assert!(error.contains(server.db_address()), "{error}");
        }
        let _started = start(&paths.ipc("db")).await.unwrap();
    });
}

struct Where;

#[palm::server(name = "where")]
impl Where {
    #[palm::method]
    fn thread(&self) -> String {
        std::thread::current().name().unwrap_or_default().to_owned()
    }
}

#[test]
fn a_component_may_have_a_thread_of_its_own() {
    check(async {
        let server = Where.bind(ANY).own_thread(true).spawn().await.unwrap();
        let client = connect("where", &server).await;
        assert_eq!(client.eval(Where::THREAD, ()).await.unwrap(), "where");

        let other = Where.bind(server.db_address()).own_thread(true).spawn();
        let error = chain(&soon("the error", other).await.unwrap_err());
        assert!(error.contains(server.db_address()), "{error}");

        let address = server.address("pull_address").unwrap().to_owned();
        soon("the end", server.shutdown()).await.unwrap();
        let next = Where.bind(ANY).pull_address(address).own_thread(true);
        let _next = soon("the next", next.spawn()).await.unwrap();
    });
}

#[test]
fn routes_that_do_not_fit_are_refused_by_name() {
    check(async {
        let template = || {
            let mut template = palm::ServerTemplate::new("template");
            template.register_outbound(PubService::bind(ANY), "Pub");
            template.register_bypass(CacheService::bind(ANY), "Cache");
            template
        };
        let fails = async |template: palm::ServerTemplate, expected: &[&str]| {
            let error = chain(&template.spawn().await.unwrap_err());
            for part in expected {
                assert!(error.contains(part), "`{part}` is not in: {error}");
            }
        };
        let mut typo = template();
        typo.register_inbound(PullService::bind(ANY), "Pull")
            .route("Puhb");
        fails(typo, &["`template`", "`Pull`", "`Puhb`", "`Pub`"]).await;

        let mut bypass = template();
        bypass
            .register_inbound(PullService::bind(ANY), "Pull")
            .route("Cache");
        fails(
            bypass,
            &["`Pull`", "`Cache`", "not an outbound part", "`Pub`"],
        )
        .await;

        let mut twice = template();
        twice
            .register_inbound(PullService::bind(ANY), "Pub")
            .route("Pub");
        fails(twice, &["two parts", "`Pub`"]).await;

        let mut circle = template();
        circle
            .register_outbound(PushService::bind(ANY), "One")
            .route("Other");
        circle
            .register_outbound(PushService::bind(ANY), "Other")
            .route("One");
        fails(circle, &["One → Other → One"]).await;

        let mut itself = template();
        itself
            .register_outbound(PushService::bind(ANY), "One")
            .route("One");
        fails(itself, &["One → One"]).await;

        let mut loose = template();
        loose.register_inbound(PullService::bind(ANY), "Pull");
        fails(loose, &["`template`", "`Pull` has no route", "`Pub`"]).await;

        fails(template(), &["no route leads to `Pub`"]).await;

        let mut caches = palm::ServerTemplate::new("template");
        caches.register_bypass(CacheService::bind(ANY), "Cache");
        caches.register_bypass(CacheService::bind(ANY), "Other");
        fails(caches, &["`Cache` and `Other`", "a component has one"]).await;
    });
}

#[test]
fn metrics_count_what_was_done() {
    check(async {
        let gate = Gate::closed();
        let server = Slow { gate: gate.clone() }
            .bind(ANY)
            .concurrency(2)
            .spawn()
            .await
            .unwrap();
        let mut caller = Caller::of(&server, "caller").await;
        let mut bytes = 0;
        for number in 0..10 {
            let mut message = Message::new("slow.gated", number.to_string());
            message.set_client("caller");
            bytes += message.encode().len() as u64;
            caller.send_message(message).await;
        }
        gate.arrived(2).await;
        eventually("the others waiting", || {
            let metrics = server.metrics();
            let function = metrics.function("gated").unwrap();
            (
                metrics.part("Pull").unwrap().messages,
                function.running,
                function.calls,
            ) == (10, 2, 2)
        })
        .await;
        gate.open();
        caller.answers(10).await;
        caller.send("slow.unknown", "").await;
        caller.send("slow.noted", "\u{ff}").await;
        caller.send("slow.noted", vec![0xff]).await;
        caller.send("slow.echo", "x").await;
        caller.answers(4).await;
        let echoed = || server.metrics().function("echo").unwrap().working.count() == 1;
        eventually("the end of the echo", echoed).await;

        let metrics = server.metrics();
        let (pull, executor, publish) = (
            metrics.part("Pull").unwrap(),
            metrics.part("Executor").unwrap(),
            metrics.part("Pub").unwrap(),
        );
        assert_eq!(
            (pull.messages, executor.messages, publish.messages),
            (14, 14, 14)
        );
        assert!(pull.bytes > bytes, "{} of {bytes}", pull.bytes);
        assert_eq!((pull.errors, executor.errors, publish.errors), (0, 2, 0));
        for part in &metrics.parts {
            assert_eq!(
                (part.queued_messages, part.queued_bytes, part.dropped),
                (0, 0, 0),
                "{part:?}"
            );
        }
        for (name, calls, errors) in [
            ("gated", 10, 0),
            ("noted", 2, 1),
            ("echo", 1, 0),
            ("endless", 0, 0),
        ] {
            let function = metrics.function(name).unwrap();
            let counts = (function.calls, function.errors, function.running);
            assert_eq!(counts, (calls, errors, 0), "{name}");
            assert_eq!(function.waiting.count(), calls, "{name}");
            assert_eq!(function.working.count(), calls, "{name}");
        }
        let noted = metrics.function("noted").unwrap();
        assert!(noted.working.quantile(1.0).unwrap() >= Duration::from_millis(290));
    });
}

#[test]
fn metrics_count_calls_and_not_results() {
    check(async {
        let (master, hand, _) = master_and_hand(1).await;
        let client = connect("master", &master).await;
        let job = client.job(Hand::THRICE, numbers(10)).expect_answers(30);
        assert_eq!(soon("the answers", job.count()).await, 30);
        let counted = || hand.metrics().part("Push").unwrap().messages == 30;
        eventually("all results counted", counted).await;
        let metrics = hand.metrics();
        assert_eq!(metrics.function("thrice").unwrap().calls, 10);
        // "for an executor, calls"
        assert_eq!(metrics.part("Executor").unwrap().messages, 10);
        let metrics = master.metrics();
        assert_eq!(metrics.part("WorkerPush").unwrap().messages, 10);
        assert_eq!(metrics.part("WorkerPull").unwrap().messages, 30);
    });
}

#[test]
fn what_nobody_asks_for_is_counted_as_dropped() {
    check(async {
        let gate = Gate::closed();
        gate.open();
        let limits = palm::parts::PendingLimits {
            time: Duration::from_millis(100),
            ..Default::default()
        };
        let server = Slow { gate }
            .bind(ANY)
            .pending_limits(limits)
            .spawn()
            .await
            .unwrap();
        let pull = address(server.address("pull_address").unwrap());
        let push = Push::connect(&pull, &options()).await.unwrap();
        let mut message = Message::new("slow.gated", "x");
        push.send(message.encode()).await.unwrap();
        message.set_client("nobody");
        push.send(message.encode()).await.unwrap();
        let dropped = || server.metrics().part("Pub").unwrap().dropped == 2;
        eventually("both dropped", dropped).await;
    });
}

#[test]
fn the_components_of_the_program_are_listed() {
    let found = palm::components().into_iter().find(|component| {
        component.type_name == "Slow" && component.declared_at.ends_with("lifecycle")
    });
    let slow = found.unwrap();
    assert_eq!((slow.kind, slow.name), (ComponentKind::Server, "slow"));
    assert_eq!(slow.doc, "Does everything slowly.");
    let functions: Vec<_> = slow
        .functions
        .iter()
        .map(|function| function.name)
        .collect();
    assert_eq!(functions, ["gated", "noted", "endless"]);
    assert_eq!(
        (slow.functions[0].input, slow.functions[0].output),
        ("Bytes", "Bytes")
    );
    assert_eq!(slow.functions[0].doc, "Waits at the gate.");
    assert!(!slow.functions[0].takes_context && slow.functions[1].takes_context);
    let kinds: Vec<_> = palm::components()
        .iter()
        .map(|component| component.kind)
        .collect();
    for kind in [
        ComponentKind::Server,
        ComponentKind::Pipeline,
        ComponentKind::Sink,
        ComponentKind::Master,
        ComponentKind::Hub,
        ComponentKind::Worker,
        ComponentKind::MuxWorker,
    ] {
        assert!(kinds.contains(&kind), "{kind}");
    }
}

/// Who asks is told an address where nobody is any more, as by a component that dies in between.
#[test]
fn who_was_told_an_old_address_asks_again() {
    check(async {
        let gate = Gate::closed();
        let master = Master::new("master").bind(ANY).spawn().await.unwrap();
        let (mut reply, at) = Reply::bind(&address(ANY), &options()).await.unwrap();
        let addresses = master.addresses().clone();
        let gone = unbound();
        let directory = tokio::spawn(async move {
            let mut asked = BTreeMap::<String, usize>::new();
            while let Ok((frames, responder)) = reply.recv().await {
                let message = Message::decode(frames[0].clone()).unwrap();
                let key = String::from_utf8_lossy(message.payload()).into_owned();
                let times = asked.entry(key.clone()).or_default();
                *times += 1;
                let told = match addresses.get(&key) {
                    Some(_) if *times == 1 => gone.clone(),
                    Some(told) => told.clone(),
                    // Such as the descriptor, which a legacy component does not have.
                    None => String::new(),
                };
                responder.reply(told.into()).unwrap();
            }
        });
        let _hand = Hand { gate }.connect(at).spawn().await.unwrap();
        let client = connect("master", &master).await;
        let answer = client
            .eval("master.echo", "x")
            .timeout(Duration::from_secs(10));
        assert_eq!(answer.await.unwrap(), "x");
        assert!(!directory.is_finished());
    });
}

const ROLE: &str = "PALM_IT_ROLE";
const ADDRESSES: &str = "PALM_IT_ADDRESSES";

/// A component in a process of its own.
pub(crate) struct Process {
    child: Child,
    pub(crate) addresses: BTreeMap<String, String>,
}

impl Process {
    /// Runs [`role`], and waits until it is there. `addresses` are as they were told before.
    pub(crate) async fn run(role: &'static str, addresses: &[(&str, &str)]) -> Self {
        let addresses: Vec<_> = addresses
            .iter()
            .map(|(key, at)| format!("{key}={at}"))
            .collect();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--ignored", "--exact", "--nocapture", "lifecycle::role"]);
        command.env(ROLE, role).env(ADDRESSES, addresses.join(" "));
        Self::spawn(role, command).await
    }

    /// Runs a command that prints `@ready` and its addresses, and waits for that line.
    pub(crate) async fn spawn(role: &str, mut command: Command) -> Self {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit());
        let mut child = command.spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let ready = tokio::task::spawn_blocking(move || {
            let mut lines = stdout.lines().map_while(Result::ok);
            let ready = lines.find_map(|line| line.strip_prefix("@ready").map(str::to_owned));
            // Nobody reads on, and nothing more is printed but by a failure.
            std::thread::spawn(move || lines.for_each(|line| eprintln!("{line}")));
            ready
        });
        let ready = soon(&format!("the {role} being there"), ready)
            .await
            .unwrap();
        let addresses = parse_addresses(&ready.unwrap_or_else(|| panic!("the {role} ended")));
        Self { child, addresses }
    }

    pub(crate) fn kill(mut self) -> BTreeMap<String, String> {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        std::mem::take(&mut self.addresses)
    }

    pub(crate) fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        let status = Command::new("kill")
            .args(["-s", signal, &pid])
            .status()
            .unwrap();
        assert!(status.success());
    }

    /// How many bytes the process takes: `Pss`, its part of what it shares with others, or `Rss`, with all of that.
    #[cfg(target_os = "linux")]
    pub(crate) fn memory(&self, what: &str) -> usize {
        self.proc_kilobytes("smaps_rollup", what)
    }

    /// The most bytes that the process has taken so far, with what it shares with others.
    #[cfg(target_os = "linux")]
    pub(crate) fn peak(&self) -> usize {
        self.proc_kilobytes("status", "VmHWM")
    }

    #[cfg(target_os = "linux")]
    fn proc_kilobytes(&self, file: &str, key: &str) -> usize {
        let path = format!("/proc/{}/{file}", self.child.id());
        let text = std::fs::read_to_string(path).unwrap();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
        kilobytes.unwrap().trim().parse::<usize>().unwrap() * 1024
    }

    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let mut status = None;
        eventually("the end of the process", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        })
        .await;
        status.unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn parse_addresses(text: &str) -> BTreeMap<String, String> {
    let pairs = text
        .split_whitespace()
        .map(|pair| pair.split_once('=').unwrap());
    pairs
        .map(|(key, at)| (key.to_owned(), at.to_owned()))
        .collect()
}

#[test]
#[ignore = "a process of other tests"]
fn role() {
    let Ok(role) = std::env::var(ROLE) else {
        // No test of its own.
        return;
    };
    let addresses = parse_addresses(&std::env::var(ADDRESSES).unwrap());
    let at = |key: &str| {
        addresses
            .get(key)
            .cloned()
            .unwrap_or_else(|| ANY.to_owned())
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let gate = Gate::closed();
    gate.open();
    // Where a master has its cache, if not in memory.
    let file = addresses
        .get("cache_file")
        .map(|path| FileStore::open(path).unwrap());
    // What was killed a moment ago may still have its ports.
    let spawn = async {
        loop {
            let spawned = match &*role {
                "server" => {
                    let server = Slow { gate: gate.clone() }.bind(at("db_address"));
                    let server = server.pull_address(at("pull_address"));
                    server
                        .pub_address(at("pub_address"))
                        .pipelined(addresses.contains_key("pipelined"))
                        .spawn()
                        .await
                }
                "master" => {
                    let master = Master::new("master").bind(at("db_address"));
                    let master = master
                        .pull_address(at("pull_address"))
                        .pub_address(at("pub_address"))
                        .worker_push_address(at("worker_push_address"))
                        .worker_pull_address(at("worker_pull_address"));
                    match &file {
                        Some(file) => master.cache(file.clone()).spawn().await,
                        None => master.spawn().await,
                    }
                }
                "worker" => {
                    Hand { gate: gate.clone() }
                        .connect(at("db_address"))
                        .spawn()
                        .await
                }
                "counted" => {
                    let runs = at("runs").into();
                    let counted = super::restarts::Counted { runs }.bind(at("db_address"));
                    counted
                        .pull_address(at("pull_address"))
                        .pub_address(at("pub_address"))
                        .spawn()
                        .await
                }
                "relay" => {
                    let relay = super::restarts::Relay.bind(at("db_address"));
                    relay
                        .pull_address(at("pull_address"))
                        .pub_address(at("pub_address"))
                        .pipelined(true)
                        .spawn()
                        .await
                }
                "linked_worker" => {
                    let hand = super::link::Hand { gate: gate.clone() };
                    hand.connect(at("db_address")).concurrency(1).spawn().await
                }
                "four_at_once" => {
                    let hand = super::link::Hand { gate: gate.clone() };
                    hand.connect(at("db_address")).concurrency(4).spawn().await
                }
                "prefetching_worker" => {
                    let hand = super::link::Hand { gate: gate.clone() };
                    let hand = hand.connect(at("db_address")).concurrency(1);
                    hand.prefetch(16).spawn().await
                }
                "keeping_worker" => super::liveness::worker(at("db_address")).await,
                "step" => {
                    let step = Step.bind(at("db_address")).pub_address(at("pub_address"));
                    step.follow(at("follow")).to_client(true).spawn().await
                }
                "start" => {
                    println!("\n@ready");
                    let server = Slow { gate: gate.clone() }
                        .bind(at("db_address"))
                        .concurrency(16);
                    return server.start().await.map(|()| None);
                }
                #[cfg(target_os = "linux")]
                memory if memory.starts_with("memory_") => {
                    super::memory::component(memory, at("db_address")).await
                }
                other => panic!("no role `{other}`"),
            };
            match spawned {
                Ok(handle) => return Ok(Some(handle)),
                Err(error) if chain(&error).contains("in use") => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Err(error) => return Err(error),
            }
        }
    };
    let handle = runtime.block_on(spawn).unwrap();
    if let Some(handle) = handle {
        let pairs = handle
            .addresses()
            .iter()
            .map(|(key, at)| format!(" {key}={at}"));
        println!("\n@ready{}", pairs.collect::<String>());
        // Until it is killed.
        let ended = runtime.block_on(handle.join());
        panic!("the component ended: {ended:?}");
    }
}

#[test]
fn a_signal_ends_start_and_what_was_taken_is_finished() {
    check(async {
        for signal in ["TERM", "INT"] {
            let place = Place::new();
            let mut process = Process::run("start", &[("db_address", &place.ipc("db"))]).await;
            let client = Client::connect("slow", place.ipc("db"));
            let client = soon("connecting", client).await.unwrap();
            let answers = collect(&client, "slow.noted", 10);
            soon("the calls", async {
                while client.get("9").await.unwrap().is_none() {}
            })
            .await;
            process.signal(signal);
            assert_eq!(soon("the answers", answers).await.unwrap(), numbers(10));
            assert_eq!(process.ended().await.code(), Some(0), "SIG{signal}");
        }
    });
}

#[test]
fn a_second_signal_ends_start_at_once() {
    check(async {
        let place = Place::new();
        let mut process = Process::run("start", &[("db_address", &place.ipc("db"))]).await;
        let client = Client::connect("slow", place.ipc("db"));
        let client = soon("connecting", client).await.unwrap();
        let caller = Caller::at(&place.ipc("db.pull"), &place.ipc("db.pub"), "caller").await;
        caller.send("slow.endless", "x").await;
        soon("the call", async {
            while client.get("x").await.unwrap().is_none() {}
        })
        .await;
        let start = Instant::now();
        process.signal("TERM");
        // Signals of one kind that come at once are one.
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(process.child.try_wait().unwrap().is_none());
        process.signal("TERM");
        assert_eq!(process.ended().await.code(), Some(0));
        assert!(start.elapsed() < Duration::from_secs(5));
    });
}

/// Calls until there is an answer again, and then some more, all of which are answered.
async fn answers_again(client: &Client, steps: &str, expected: &str) {
    let again = async {
        loop {
            let eval = client.eval(steps, "x").timeout(Duration::from_millis(500));
            if let Ok(answer) = eval.await {
                return answer;
            }
        }
    };
    assert_eq!(
        soon(&format!("an answer to `{steps}`"), again).await,
        expected.to_owned()
    );
    for _ in 0..20 {
        let eval = client.eval(steps, "x").timeout(Duration::from_secs(5));
        assert_eq!(eval.await.unwrap(), expected.to_owned());
    }
}

fn same(addresses: &BTreeMap<String, String>) -> Vec<(&str, &str)> {
    addresses.iter().map(|(key, at)| (&**key, &**at)).collect()
}

/// Only where it is asked for, and whom it follows.
fn only_db_address(addresses: &BTreeMap<String, String>) -> Vec<(&str, &str)> {
    vec![("db_address", &addresses["db_address"])]
}

#[test]
fn a_server_that_was_killed_is_found_again() {
    check(async {
        let mut server = Process::run("server", &[]).await;
        let client = Client::connect("slow", &server.addresses["db_address"]);
        let client = soon("connecting", client).await.unwrap();
        for where_to in [same, only_db_address, only_db_address] {
            answers_again(&client, "slow.echo", "x").await;
            client.set("k", "forgotten with the process").await.unwrap();
            let addresses = server.kill();
            server = Process::run("server", &where_to(&addresses)).await;
        }
        answers_again(&client, "slow.echo", "x").await;
        assert_eq!(client.get("k").await.unwrap(), None);
    });
}

#[test]
fn a_master_that_was_killed_is_found_again() {
    check(async {
        let mut master = Process::run("master", &[]).await;
        let db_address = master.addresses["db_address"].clone();
        let gate = Gate::closed();
        let _hand = Hand { gate }.connect(&db_address).spawn().await.unwrap();
        let client = soon("connecting", Client::connect("master", &db_address))
            .await
            .unwrap();
        for where_to in [same, only_db_address, only_db_address] {
            answers_again(&client, "master.echo", "x").await;
            let addresses = master.kill();
            master = Process::run("master", &where_to(&addresses)).await;
        }
        answers_again(&client, "master.echo", "x").await;
    });
}

#[test]
fn a_worker_that_was_killed_is_replaced() {
    check(async {
        let master = Master::new("master").bind(ANY).spawn().await.unwrap();
        let client = connect("master", &master).await;
        let db_address = [("db_address", master.db_address())];
        // Nobody is there, and the calls wait.
        let waiting = collect(&client, "master.echo", 10);
        for _ in 0..3 {
            let worker = Process::run("worker", &db_address).await;
            answers_again(&client, "master.echo", "x").await;
            worker.kill();
        }
        assert_eq!(soon("the first calls", waiting).await.unwrap(), numbers(10));
    });
}

#[test]
fn a_step_that_was_killed_is_replaced() {
    check(async {
        let gate = Gate::closed();
        let server = Slow { gate }
            .bind(ANY)
            .pipelined(true)
            .spawn()
            .await
            .unwrap();
        let follow = ("follow", server.db_address());
        let mut step = Process::run("step", &[follow]).await;
        let client = Client::builder("slow", server.db_address());
        let client = client
            .sub_address(&*step.addresses["pub_address"])
            .connect();
        let client = soon("connecting", client).await.unwrap();
        for _ in 0..2 {
            answers_again(&client, "slow.echo step.mark", "x step").await;
            let addresses = step.kill();
            let mut addresses = same(&addresses);
            addresses.push(follow);
            step = Process::run("step", &addresses).await;
        }
        answers_again(&client, "slow.echo step.mark", "x step").await;
    });
}

#[test]
fn a_step_finds_a_server_again_that_was_killed() {
    check(async {
        let pipelined = ("pipelined", "yes");
        let mut server = Process::run("server", &[pipelined]).await;
        let db_address = server.addresses["db_address"].clone();
        let step = Step
            .bind(ANY)
            .follow(&db_address)
            .to_client(true)
            .spawn()
            .await
            .unwrap();
        let client = Client::builder("slow", &db_address);
        let client = client
            .sub_address(step.address("pub_address").unwrap())
            .connect();
        let client = soon("connecting", client).await.unwrap();
        for where_to in [same, only_db_address] {
            answers_again(&client, "slow.echo step.mark", "x step").await;
            let addresses = server.kill();
            let mut addresses = where_to(&addresses);
            addresses.push(pipelined);
            server = Process::run("server", &addresses).await;
        }
        answers_again(&client, "slow.echo step.mark", "x step").await;
    });
}
