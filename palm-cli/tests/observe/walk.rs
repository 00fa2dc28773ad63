//! A master with eight workers, two pipelines and a sink, each a process: all is found from any address, and each message
//! is in one number.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _};
use libtest_mimic::Trial;
use palm::Client;
use palm::inspect::{Cluster, Inspector};
use palm::report::Role;
use serde_json::Value;

use crate::setup::{ANY, Component, inspect, palm, succeed, trial};

/// Time within which messages settle.
const SOON: Duration = Duration::from_secs(30);

const SECOND: Duration = Duration::from_secs(1);

const WORKERS: usize = 8;

/// The messages of each job. They fit into all backlogs.
const SENT: usize = 1000;

const STEPS: [&str; 3] = ["images.foo", "step.foo", "last.foo"];

pub(crate) fn tests() -> Vec<Trial> {
    vec![
        trial(
            "walk_finds_all_from_any_address_and_counts_each_message",
            || Images::start(0).check(),
        ),
        trial("walk_counts_the_tasks_of_a_pylm_worker", || {
            Images::start(1).check()
        })
        .with_ignored_flag(true),
        trial("walk_shows_a_pylm_pipeline_as_what_it_is", pylm_pipeline).with_ignored_flag(true),
    ]
}

/// The components.
struct Images {
    master: Component,
    even: Component,
    odd: Component,
    sink: Component,
    workers: Vec<Component>,
    /// How many of the workers are pylm's.
    pylm: usize,
}

impl Images {
    fn start(pylm: usize) -> Self {
        let master = Component::start(&["master", ANY]);
        let db = &*master.db_address;
        let [even, odd] = ["even", "odd"].map(|it| Component::start(&["step", ANY, db, it]));
        let sink = Component::start(&["sink", &even.db_address, &odd.db_address]);
        let workers = (0..WORKERS).map(|number| match number < pylm {
            true => Component::pylm(&["worker", db]),
            false => Component::start(&["worker", db, &format!("w{number}")]),
        });
        Self {
            workers: workers.collect(),
            master,
            even,
            odd,
            sink,
            pylm,
        }
    }

    /// Sends jobs while components are stopped, and compares what waits with what was sent.
    async fn check(self) {
        let client = Client::builder("images", &*self.master.db_address)
            .sub_address(&*self.sink.pub_address)
            .window(SENT);
        let client = client.connect().await.unwrap();
        let job = || {
            let job = client.job(STEPS, (0..SENT).map(|number| number.to_string()));
            job.expect_answers(SENT as u64)
        };
        let mut inspector = Inspector::new(&*self.master.db_address).unwrap();
        let answers: Result<Vec<_>, _> = job().try_collect().await;
        assert_eq!(answers.unwrap().len(), SENT);
        waits(&mut inspector, &BTreeMap::new()).await;
        for first in [&self.master, &self.even, &self.odd, &self.sink] {
            self.is_shown_from(&first.db_address).await;
        }
        let half = SENT as u64 / 2;
        let (even, odd, sink) = (&self.even, &self.odd, &self.sink);
        let cases = [
            (vec![even], vec![(self.master.to(even), half)]),
            (vec![odd], vec![(self.master.to(odd), half)]),
            (
                vec![sink],
                vec![(even.to(sink), half), (odd.to(sink), half)],
            ),
            (
                self.workers.iter().collect(),
                vec![(self.master.db_address.clone(), SENT as u64)],
            ),
        ];
        for (stopped, expected) in cases {
            for it in &stopped {
                it.pause().unwrap();
            }
            let expected = BTreeMap::from_iter(expected);
            let mut answers = job();
            // What does not pass a stopped component is answered.
            let waiting = expected.values().sum::<u64>();
            for _ in waiting..SENT as u64 {
                answers.next().await.unwrap().unwrap();
            }
            tokio::select! {
                () = waits(&mut inspector, &expected) => {}
                answer = answers.next() => panic!("it passes a stopped component: {answer:?}"),
            }
            for it in &stopped {
                it.resume().unwrap();
            }
            while let Some(answer) = answers.next().await {
                answer.unwrap();
            }
            waits(&mut inspector, &BTreeMap::new()).await;
        }
        client.close().await;
    }

    /// Checks that a walk from this address shows each component and each edge.
    async fn is_shown_from(&self, first: &str) {
        let cluster = inspect(first).await;
        let components = [&self.master, &self.even, &self.odd, &self.sink];
        assert_eq!(components_of(&cluster).count(), components.len(), "{first}");
        let component = |at: &Component| {
            let mut all = components_of(&cluster);
            let found = all.find(|it| it["address"] == at.db_address);
            found.unwrap_or_else(|| panic!("{}: {cluster:#}", at.db_address))
        };
        let edges = |at: &Component, role: &str| {
            let edges = component(at)["edges"].as_array().unwrap();
            let edges = edges.iter().filter(|it| it["role"] == role);
            let mut peers: Vec<_> = edges.map(|it| text(&it["address"])).collect();
            peers.sort();
            peers
        };
        let of = |peers: &[&Component]| {
            let mut peers: Vec<_> = peers.iter().map(|it| it.db_address.clone()).collect();
            peers.sort();
            peers
        };
        let (master, even, odd, sink) = (&self.master, &self.even, &self.odd, &self.sink);
        assert_eq!(edges(master, "subscriber"), of(&[even, odd]));
        assert_eq!(edges(master, "worker").len(), WORKERS - self.pylm);
        assert_eq!(component(master)["legacy"]["workers"], self.pylm);
        assert_eq!(edges(master, "client").len(), 1);
        for step in [even, odd] {
            assert_eq!(edges(step, "upstream"), of(&[master]));
            assert_eq!(edges(step, "subscriber"), of(&[sink]));
        }
        assert_eq!(edges(sink, "upstream"), of(&[even, odd]));
        let graph = succeed(&["graph", first, "--measure", "0"]).await;
        for number in self.pylm..WORKERS {
            assert!(graph.contains(&format!(" worker w{number} ")), "{graph}");
        }
        if self.pylm > 0 {
            assert!(graph.contains(" 1 worker without links"), "{graph}");
        }
        let topics = ["step on even", "step on odd", "last on step"];
        for expected in topics
            .into_iter()
            .chain(components.map(|it| &*it.db_address))
        {
            assert!(graph.contains(expected), "{expected}: {graph}");
        }
    }
}

impl Component {
    /// Returns the name of the edge to a component downstream.
    fn to(&self, follower: &Self) -> String {
        format!("{} → {}", self.db_address, follower.db_address)
    }
}

fn components_of(cluster: &Value) -> impl Iterator<Item = &Value> {
    cluster["components"].as_array().unwrap().iter()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

/// Inspects until exactly these numbers of messages wait, by component and by edge; those of workers count for their
/// master. While messages move, one may be counted by both sides of an edge.
async fn waits(inspector: &mut Inspector, expected: &BTreeMap<String, u64>) {
    let mut last = BTreeMap::new();
    let reached = async {
        loop {
            let cluster = inspector.inspect().await;
            last = waiting(&cluster);
            if last == *expected {
                break;
            }
        }
    };
    let reached = tokio::time::timeout(SOON, reached).await.is_ok();
    assert!(reached, "expected {expected:?}, but {last:?} waits");
}

/// Returns how many messages are in each component, and how many wait on each edge, without zeros.
fn waiting(cluster: &Cluster) -> BTreeMap<String, u64> {
    let mut waiting = BTreeMap::new();
    for report in cluster.reports() {
        let address = &report.db_address;
        let mut add = |name: String, messages| *waiting.entry(name).or_default() += messages;
        add(
            address.clone(),
            report.messages_inside() + report.legacy.tasks,
        );
        for edge in &report.edges {
            let name = match edge.role {
                Role::Worker => address.clone(),
                _ => format!(
                    "{address} → {}{}",
                    edge.db_address,
                    match edge.db_address.is_empty() {
                        true => &*edge.name,
                        false => "",
                    }
                ),
            };
            add(name, edge.waiting.messages);
        }
    }
    waiting.retain(|_, messages| *messages > 0);
    waiting
}

/// A stream of pylm's: its component is found from the sink, and its master shows a subscriber without a link.
async fn pylm_pipeline() {
    let master = Component::start(&["master", ANY]);
    let db = &*master.db_address;
    let even = Component::start(&["step", ANY, db, "even"]);
    let odd = Component::pylm(&["pipeline", "step", "odd", &master.pub_address]);
    let sink = Component::start(&["sink", &even.db_address, &odd.db_address]);
    let _worker = Component::start(&["worker", db, "w0"]);
    let client = Client::builder("images", db)
        .sub_address(&*sink.pub_address)
        .check_functions(false);
    let client = client.connect().await.unwrap();
    // pylm's publisher misses subscriptions that arrive while it publishes.
    loop {
        let answers = client.job(STEPS, ["1", "2"]).expect_answers(2);
        let answers = answers.timeout(SECOND);
        if answers.all(async |it| it.is_ok()).await {
            break;
        }
    }
    for first in [&master, &even, &sink] {
        let cluster = inspect(&first.db_address).await;
        let found = components_of(&cluster).find(|it| it["address"] == odd.db_address);
        let kind = found.map(|it| (&it["kind"], &it["state"], &it["name"]));
        let expected = ("pylm".into(), "no report".into(), "step".into());
        assert_eq!(
            kind,
            Some((&expected.0, &expected.1, &expected.2)),
            "{cluster:#}"
        );
        assert_eq!(components_of(&cluster).count(), 4);
    }
    let graph = succeed(&["graph", db, "--measure", "0"]).await;
    assert!(graph.contains(" 1 subscriber without links"), "{graph}");
    assert!(
        graph.contains("step (pylm): it does not report about itself"),
        "{graph}"
    );
    // pylm's component does not lead to the others.
    let (code, stdout, stderr) = palm(&["graph", &odd.db_address, "--measure", "0"]).await;
    assert_eq!(code, 0, "{stderr}");
    assert!(stderr.contains("begin at another one"), "{stderr}");
    assert!(stdout.contains("step  pylm, no report"), "{stdout}");
    let (code, stdout, stderr) = palm(&["inspect", &odd.db_address]).await;
    assert_eq!((code, &*stderr), (0, ""), "{stdout}");
    assert!(stdout.contains("step, pylm, no report"), "{stdout}");
}
