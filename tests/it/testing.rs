//! `palm::testing`: methods called directly, and clusters in one process.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use palm::prelude::*;
use palm::testing::{Cluster, Direct, Faults};
use palm::{
    BoxError, CacheError, CallError, Error, FailureKind, LinkOptions, RemoteError, StartError,
};

use super::setup::{Gate, STALLED, chain, check, eventually, paused, soon, unbound};

#[derive(Default)]
struct First {
    calls: u64,
}

#[palm::server(name = "first")]
impl First {
    #[palm::method]
    fn mark(&self, text: String) -> String {
        text + " first"
    }

    #[palm::method]
    fn count(&mut self) -> String {
        self.calls += 1;
        self.calls.to_string()
    }

    #[palm::method]
    fn split(&self, text: String) -> impl Iterator<Item = String> + use<> {
        let words: Vec<_> = text.split_whitespace().map(str::to_owned).collect();
        words.into_iter()
    }

    #[palm::method]
    fn mixed(&self) -> impl Iterator<Item = Result<String, BoxError>> + use<> {
        [
            Ok("one".into()),
            Err("as requested".into()),
            Ok("two".into()),
        ]
        .into_iter()
    }

    #[palm::method]
    fn endless(&self) -> impl Iterator<Item = String> + use<> {
        (0..).map(|number| number.to_string())
    }

    #[palm::method]
    fn perhaps(&self, text: String) -> Option<String> {
        Some(text).filter(|text| !text.is_empty())
    }

    #[palm::method]
    fn nothing(&self, text: String) -> Result<(), BoxError> {
        if text.is_empty() {
            return Err("there is no text".into());
        }
        Ok(())
    }

    #[palm::method]
    fn fails(&self) -> Result<String, BoxError> {
        Err("as requested".into())
    }

    #[palm::method]
    fn panics(&self) -> String {
        panic!("as requested")
    }

    #[palm::method(blocking)]
    fn panics_and_blocks(&self) -> String {
        panic!("as requested")
    }

    #[palm::method]
    async fn panics_later(&self) -> String {
        tokio::task::yield_now().await;
        panic!("as requested")
    }

    #[palm::method]
    async fn never(&self) -> String {
        std::future::pending().await
    }

    #[palm::method]
    async fn remembers(&self, text: String, context: Context) -> Result<Bytes, CacheError> {
        let before = context.cache().get("text").await?.unwrap_or_default();
        context.cache().set("text", text).await?;
        Ok(before)
    }

    #[palm::method]
    fn identify(&self, context: Context) -> String {
        format!("{} {}", context.name(), context.message().function())
    }
}

struct Middle;

#[palm::pipeline(name = "middle")]
impl Middle {
    #[palm::method]
    fn mark(&self, text: String) -> String {
        text + " middle"
    }
}

struct Last;

#[palm::pipeline(name = "last")]
impl Last {
    #[palm::method]
    fn mark(&self, text: String) -> String {
        text + " last"
    }
}

struct Collect;

#[palm::sink(name = "collect")]
impl Collect {
    #[palm::method]
    fn mark(&self, text: String) -> String {
        text + " collect"
    }
}

/// A server that sends short payloads to `middle` and long ones to `last`.
struct Tee;

#[palm::server(name = "tee")]
impl Tee {
    #[palm::method]
    fn mark(&self, text: String) -> String {
        text + " tee"
    }

    #[palm::handle_stream]
    fn by_length(&self, mut message: Message) -> (&'static str, Message) {
        message.set_stage(message.stage() + 1);
        let topic = if message.payload().len() < 10 {
            "short"
        } else {
            "long"
        };
        (topic, message)
    }
}

#[derive(Clone)]
struct Hand {
    gate: Gate,
}

#[palm::worker(server = "master")]
impl Hand {
    #[palm::method]
    async fn mark(&self, text: String, context: Context) -> String {
        format!("{text} {}", context.name())
    }

    #[palm::method]
    async fn wait(&self, context: Context) -> String {
        self.gate.pass().await;
        context.name().to_owned()
    }

    #[palm::method]
    fn fails(&self) -> Result<String, BoxError> {
        Err("as requested".into())
    }

    #[palm::method]
    async fn remembers(&self, context: Context) -> Result<Bytes, CacheError> {
        Ok(context.cache().get("text").await?.unwrap_or_default())
    }
}

struct Splitter;

#[palm::mux_worker(server = "master")]
impl Splitter {
    #[palm::method]
    fn split(&self, text: String) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }
}

fn hand() -> Hand {
    Hand {
        gate: Gate::closed(),
    }
}

/// Returns the error that a component reports for a failed call.
fn remote<T: std::fmt::Debug>(result: Result<T, CallError>) -> RemoteError {
    match result {
        Err(CallError::Remote(error)) => error,
        other => panic!("{other:?} instead of an error of the component"),
    }
}

#[test]
fn direct_calls_are_typed_and_share_the_component() {
    check(async {
        let first = Direct::new(First::default());
        assert_eq!(first.call(First::MARK, "x").await.unwrap(), "x first");
        assert_eq!(first.call(First::COUNT, ()).await.unwrap(), "1");
        assert_eq!(first.call(First::COUNT, ()).await.unwrap(), "2");
        let counts = (0..20).map(|_| first.call(First::COUNT, ()));
        let counts: BTreeSet<_> = futures_util::future::join_all(counts)
            .await
            .into_iter()
            .map(Result::unwrap)
            .collect();
        assert_eq!(counts.len(), 20);
        assert_eq!(
            first.call(First::IDENTIFY, ()).await.unwrap(),
            "first first.identify"
        );
        let echo = palm::Function::<String, String>::new("first", "echo");
        assert_eq!(first.call(echo, "x").await.unwrap(), "x");
    });
}

#[test]
fn direct_calls_return_any_number_of_results() {
    check(async {
        let first = Direct::new(First::default());
        let words: Vec<String> = first.call_all(First::SPLIT, "a b c").await.unwrap();
        assert_eq!(words, ["a", "b", "c"]);
        assert!(first.call_all(First::SPLIT, "").await.unwrap().is_empty());
        let many = "x ".repeat(5000);
        let words = first.call_all(First::SPLIT, many).await.unwrap();
        assert_eq!(words.len(), 5000);
        assert_eq!(first.call(First::SPLIT, "a b c").await.unwrap(), "a");
        assert_eq!(first.call(First::ENDLESS, ()).await.unwrap(), "0");

        assert_eq!(first.call_all(First::PERHAPS, "x").await.unwrap(), ["x"]);
        assert!(first.call_all(First::PERHAPS, "").await.unwrap().is_empty());
        let error = first.call(First::PERHAPS, "").await.unwrap_err();
        assert!(matches!(error, CallError::Timeout { .. }), "{error}");

        first.run(First::NOTHING, "x").await.unwrap();
        let error = remote(first.run(First::NOTHING, "").await);
        assert_eq!(error.message, "there is no text");

        let mixed = first.results(First::MIXED, ()).await.unwrap();
        let mixed: Vec<_> = mixed.into_iter().map(Result::ok).collect();
        assert_eq!(mixed, [Some("one".into()), None, Some("two".into())]);
        assert_eq!(
            remote(first.call_all(First::MIXED, ()).await).message,
            "as requested"
        );
    });
}

#[test]
fn direct_calls_fail_as_remote_ones_do() {
    check(async {
        let first = Direct::new(First::default());
        let cluster = Cluster::new().server(First::default());
        let cluster = cluster.start().await.unwrap();
        let client = cluster.client_builder("first").unwrap();
        let client = client.check_functions(false).connect().await.unwrap();
        let kinds = [
            (First::FAILS, FailureKind::Failed),
            (First::PANICS, FailureKind::Panicked),
            (First::PANICS_LATER, FailureKind::Panicked),
            (First::PANICS_AND_BLOCKS, FailureKind::Panicked),
            (
                palm::Function::new("first", "nowhere"),
                FailureKind::UnknownFunction,
            ),
            (
                palm::Function::new("other", "mark"),
                FailureKind::UnknownFunction,
            ),
        ];
        for (function, kind) in kinds {
            let error = remote(first.call(function, ()).await);
            assert_eq!(error.kind, kind);
            assert_eq!(error, remote(client.eval(function, ()).await));
        }
        let mark = First::MARK.untyped();
        let error = remote(first.call(mark, &b"\xff"[..]).await);
        assert_eq!(error.kind, FailureKind::Undecodable);
        assert_eq!(error, remote(client.eval(mark, &b"\xff"[..]).await));
        cluster.shutdown().await.unwrap();
    });
}

#[test]
fn direct_calls_end_at_their_timeout() {
    check(async {
        let first = Direct::new(First::default()).timeout(Duration::from_millis(20));
        let error = first.call(First::NEVER, ()).await.unwrap_err();
        let message = "no answer to `first.never` within 20ms";
        assert_eq!(error.to_string(), message);
        assert_eq!(first.call(First::MARK, "x").await.unwrap(), "x first");
    });
}

#[test]
fn direct_calls_share_a_cache() {
    check(async {
        let first = Direct::new(First::default());
        first.cache().set("text", "one").await.unwrap();
        assert_eq!(first.call(First::REMEMBERS, "two").await.unwrap(), "one");
        assert_eq!(first.cache().get("text").await.unwrap().unwrap(), "two");

        let hand = Direct::new(hand());
        hand.cache().set("text", "one").await.unwrap();
        assert_eq!(hand.call(Hand::REMEMBERS, ()).await.unwrap(), "one");
        assert_eq!(hand.call(Hand::MARK, "x").await.unwrap(), "x master");
        let splitter = Direct::new(Splitter);
        let words = splitter.call_all(Splitter::SPLIT, "a b").await.unwrap();
        assert_eq!(words, ["a", "b"]);
    });
}

#[test]
fn cluster_of_a_master_and_two_workers_answers() {
    check(async {
        let hand = hand();
        let mut cluster = Cluster::new()
            .master(Master::new("master"))
            .worker_with(hand.clone(), |builder| builder.name("anna").concurrency(1))
            .worker_with(hand.clone(), |builder| builder.name("bert").concurrency(1))
            .start()
            .await
            .unwrap();
        let client = cluster.client().await.unwrap();
        // Both workers are connected from the beginning, so each receives one of two calls.
        let (one, other) = tokio::join!(client.eval(Hand::WAIT, ()).into_future(), async {
            let answer = client.eval(Hand::WAIT, ()).into_future();
            let (answer, ()) = tokio::join!(answer, async {
                hand.gate.arrived(2).await;
                hand.gate.open();
            });
            answer
        });
        let seen = BTreeSet::from([one.unwrap(), other.unwrap()]);
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), ["anna", "bert"]);

        let error = remote(client.eval(Hand::FAILS, ()).await);
        assert_eq!(error.kind, FailureKind::Failed);
        assert!(["anna", "bert"].contains(&&*error.component));

        client.set("text", "one").await.unwrap();
        assert_eq!(client.eval(Hand::REMEMBERS, ()).await.unwrap(), "one");

        // After one worker has stopped and the master has noticed, the other one runs all tasks.
        cluster.take("anna").unwrap().shutdown().await.unwrap();
        assert!(cluster.handle("anna").is_none());
        assert_eq!(cluster.handles().len(), 2);
        let answer = async {
            loop {
                match client.eval(Hand::MARK, "x").timeout(STALLED).await {
                    Ok(answer) => return answer,
                    Err(error) => assert!(error.is_transient(), "{error}"),
                }
            }
        };
        assert_eq!(soon("an answer", answer).await, "x bert");
        cluster.shutdown().await.unwrap();
    });
}

#[test]
fn cluster_with_a_mux_worker_returns_many_results() {
    check(async {
        let cluster = Cluster::new()
            .master(Master::new("master"))
            .worker(Splitter)
            .start()
            .await
            .unwrap();
        let client = cluster.client().await.unwrap();
        let job = client.job(Splitter::SPLIT, ["a b", "c"]).expect_answers(3);
        let words: Vec<_> = job.map(Result::unwrap).collect().await;
        assert_eq!(words, ["a", "b", "c"]);
        cluster.shutdown().await.unwrap();
    });
}

#[test]
fn cluster_of_a_server_and_two_pipelines_answers() {
    check(async {
        let cluster = Cluster::new()
            .server(First::default())
            .pipeline(Middle)
            .pipeline_with(Last, |builder| builder.concurrency(2))
            .start()
            .await
            .unwrap();
        let client = cluster.client().await.unwrap();
        let steps = First::MARK.then(Middle::MARK).then(Last::MARK);
        let answer = client.eval(steps, "x").await.unwrap();
        assert_eq!(answer, "x first middle last");
        for name in ["first", "middle", "last"] {
            let metrics = cluster.handle(name).unwrap().metrics();
            assert_eq!(metrics.function("mark").unwrap().calls, 1);
        }
        let error = remote(client.eval(First::FAILS.then(Middle::MARK), ()).await);
        assert_eq!(
            (&*error.component, error.kind),
            ("first", FailureKind::Failed)
        );
        cluster.shutdown().await.unwrap();
    });
}

#[test]
fn cluster_with_streams_that_fork_and_join_in_a_sink_answers() {
    check(async {
        let cluster = Cluster::new()
            .server(Tee)
            .pipeline_with(Middle, |builder| builder.previous("short"))
            .downstream_of("tee")
            .pipeline_with(Last, |builder| builder.previous("long"))
            .sink(Collect)
            .start()
            .await
            .unwrap();
        let client = cluster.client().await.unwrap();
        let steps = Tee::MARK.then(Middle::MARK).then(Collect::MARK);
        let answer = client.eval(steps, "x").await.unwrap();
        assert_eq!(answer, "x tee middle collect");
        let steps = Tee::MARK.then(Last::MARK).then(Collect::MARK);
        let answer = client.eval(steps, "a longer one").await.unwrap();
        assert_eq!(answer, "a longer one tee last collect");
        cluster.shutdown().await.unwrap();
    });
}

#[test]
fn cluster_of_two_servers_that_join_in_a_sink_answers() {
    check(async {
        let cluster = Cluster::new()
            .server(First::default())
            .server_with(First::default(), |builder| builder.name("other"))
            .sink(Collect)
            .start()
            .await
            .unwrap();
        let client = cluster.client().await.unwrap();
        let steps = First::MARK.then(Collect::MARK);
        assert_eq!(client.eval(steps, "x").await.unwrap(), "x first collect");
        let other = cluster.client_builder("other").unwrap();
        let other = other.connect().await.unwrap();
        let steps = First::MARK.on("other").then(Collect::MARK);
        assert_eq!(other.eval(steps, "y").await.unwrap(), "y first collect");
        assert!(cluster.client_builder("collect").is_none());
        cluster.shutdown().await.unwrap();
    });
}

#[test]
fn cluster_with_a_hub_and_workers_in_the_middle_answers() {
    check(async {
        let cluster = Cluster::new()
            .server(First::default())
            .hub(Hub::new("hub"))
            .worker_with(hand(), |builder| builder.name("anna"))
            .worker_with(hand(), |builder| builder.name("bert"))
            .pipeline(Last)
            .start()
            .await
            .unwrap();
        let client = cluster.client().await.unwrap();
        let steps = First::MARK.then(Hand::MARK.on("hub")).then(Last::MARK);
        let mut seen = BTreeSet::new();
        let spread = async {
            while seen.len() < 2 {
                seen.insert(client.eval(&steps, "x").await.unwrap());
            }
        };
        soon("answers of both workers", spread).await;
        let seen: Vec<_> = seen.into_iter().collect();
        assert_eq!(seen, ["x first anna last", "x first bert last"]);
        cluster.shutdown().await.unwrap();
    });
}

#[test]
fn component_options_override_those_of_the_cluster() {
    check(async {
        // The pipeline has to pass its results on, but no component follows it.
        let cluster = Cluster::new()
            .server(First::default())
            .pipeline_with(Middle, |builder| builder.to_client(false))
            .start()
            .await
            .unwrap();
        let link = LinkOptions::new().enabled(false);
        let client = cluster.client_builder("first").unwrap().timeout(STALLED);
        let middle = cluster.handle("middle").unwrap();
        let client = client.sub_address(middle.address("pub_address").unwrap());
        let client = client.link_options(link).connect().await.unwrap();
        let steps = First::MARK.then(Middle::MARK);
        let error = client.eval(&steps, "x").await.unwrap_err();
        assert!(matches!(error, CallError::Timeout { .. }), "{error}");
        // Clients over links still receive them.
        let client = cluster.client().await.unwrap();
        assert_eq!(client.eval(steps, "x").await.unwrap(), "x first middle");

        let own_threads = Cluster::new()
            .server_with(First::default(), |builder| builder.own_thread(true))
            .pipeline_with(Middle, |builder| builder.own_thread(true))
            .start()
            .await
            .unwrap();
        let client = own_threads.client().await.unwrap();
        let steps = First::MARK.then(Middle::MARK);
        assert_eq!(client.eval(steps, "x").await.unwrap(), "x first middle");
        own_threads.shutdown().await.unwrap();
    });
}

#[test]
fn dropped_cluster_stops_its_components() {
    check(async {
        let cluster = Cluster::new()
            .server(First::default())
            .pipeline(Middle)
            .start()
            .await
            .unwrap();
        let addresses: Vec<_> = cluster
            .handles()
            .iter()
            .map(|handle| handle.db_address().trim_start_matches("tcp://").to_owned())
            .collect();
        drop(cluster);
        for address in addresses {
            let is_free = || std::net::TcpListener::bind(&*address).is_ok();
            eventually("the ports are free", is_free).await;
        }
    });
}

#[test]
fn start_until_runs_a_cluster_until_its_future_completes() {
    check(async {
        let cluster = Cluster::new().master(Master::new("master")).worker(hand());
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let running = tokio::spawn(cluster.start_until(stopped));
        tokio::task::yield_now().await;
        assert!(!running.is_finished());
        drop(stop);
        soon("the end", running).await.unwrap().unwrap();

        // A cluster whose components have ended is over.
        let ended = |builder: palm::component::ServerBuilder<First>| builder.messages(0);
        let cluster = Cluster::new().server_with(First::default(), ended);
        let running = cluster.start_until(std::future::pending::<()>());
        soon("the end", running).await.unwrap();
    });
}

#[test]
fn invalid_cluster_is_rejected() {
    check(async {
        for (cluster, expected) in [
            (
                Cluster::new().server(First::default()).worker(hand()),
                "needs a master or hub, added before it",
            ),
            (
                Cluster::new()
                    .server(First::default())
                    .downstream_of("first"),
                "cannot start `cluster`: no component was added downstream of `first`",
            ),
            (
                Cluster::new()
                    .server_with(First::default(), |builder| builder.name("a.b"))
                    .pipeline(Middle),
                "cannot start `a.b`: `a.b` cannot be a name",
            ),
        ] {
            let error = cluster.start().await.unwrap_err();
            assert!(matches!(error, Error::Start(_)), "{error}");
            assert!(chain(&error).contains(expected), "{error:?}");
        }
    });
}

#[test]
fn cluster_with_an_unreachable_upstream_fails_to_start() {
    check(async {
        let cluster = Cluster::new()
            .server(First::default())
            .pipeline_with(Middle, |builder| builder.follow(unbound()))
            .connect_timeout(STALLED)
            .start();
        let error = cluster.await.unwrap_err();
        assert!(
            matches!(&error, Error::Start(StartError::Unconnected { component, .. }) if component == "middle"),
            "{error}"
        );
    });
}

#[test]
fn cluster_within_the_process_answers_in_paused_time() {
    paused(async {
        let begin = tokio::time::Instant::now();
        let cluster = Cluster::new()
            .server_with(First::default(), |server| server.pipelined(true))
            .pipeline(Middle)
            .inproc()
            .start()
            .await
            .unwrap();
        let addresses = cluster
            .handles()
            .iter()
            .flat_map(|it| it.addresses().values());
        for address in addresses {
            assert!(address.starts_with("inproc://"), "{address}");
        }
        let client = cluster.client().await.unwrap();
        let answer = client.eval(First::MARK.then(Middle::MARK), "x").await;
        assert_eq!(answer.unwrap(), "x first middle");
        assert_eq!(begin.elapsed(), Duration::ZERO);
        let minutes = Duration::from_secs(600);
        let late = client.eval(First::NEVER, ()).timeout(minutes).await;
        assert!(matches!(late, Err(CallError::Timeout { .. })), "{late:?}");
        assert_eq!(begin.elapsed(), minutes);
        cluster.shutdown().await.unwrap();
    });
}

#[test]
fn fault_proxies_within_the_process_are_rejected() {
    paused(async {
        let cluster = Cluster::new()
            .inproc()
            .fault_proxies(&Faults::seeded(1))
            .server(First::default());
        let error = cluster.start().await.unwrap_err();
        let text = chain(&error);
        assert!(
            text.contains("remove `.inproc()` or `.fault_proxies(..)`"),
            "{text}"
        );
    });
}
