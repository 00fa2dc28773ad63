//! A call through four processes is one trace: gateway, master, worker and pipeline export to a collector in this one.
//!
//! The same program is each of the components: [`roles`].

#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout)]

mod collector;
mod roles;

use std::collections::BTreeSet;
use std::future::Future;
use std::process::Command;
use std::time::Duration;

use palm::inspect::Inspector;
use palm::report::{RecentCall, Work};
use palm::testing::Process;

use collector::{CollectedSpan, Collector};

/// Time within which each wait must end.
const LIMIT: Duration = Duration::from_secs(30);

/// The trace of the test's request, and its span.
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const REQUEST: &str = "00f067aa0ba902b7";

/// The trace of the request whose task is redelivered.
const REDELIVERED: &str = "5bf92f3577b34da6a3ce929d0e0e4736";

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(LIMIT, future).await;
    done.unwrap_or_else(|_| panic!("{what}: not within {LIMIT:?}"))
}

/// A component in a process of its own. It stops when its standard input is closed.
struct Component {
    process: Process,
    /// The address that it has printed.
    address: String,
}

impl Component {
    async fn start(role: &str, upstream: &str, collector: &Collector) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .env(roles::ROLE, role)
            .env(roles::UPSTREAM, upstream)
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url())
            .env("OTEL_BSP_SCHEDULE_DELAY", "100")
            .env_remove("OTEL_SERVICE_NAME");
        let mut process = Process::start(role, command).unwrap();
        let address = process.stdout_line_with("", LIMIT).await.unwrap();
        Self { process, address }
    }

    async fn line(&mut self) -> String {
        self.process.stdout_line_with("", LIMIT).await.unwrap()
    }

    async fn stop(mut self) {
        self.process.close_stdin();
        let status = self.process.ended(LIMIT).await.unwrap();
        assert!(status.success());
    }
}

/// Calls `order` of the gateway as part of a trace.
async fn order(gateway: String, text: &'static str, trace: &str) -> String {
    let request = reqwest::Client::new()
        .post(format!("{gateway}/front.order"))
        .header("traceparent", format!("00-{trace}-{REQUEST}-01"))
        .body(text);
    let response = soon("the response", request.send()).await.unwrap();
    assert_eq!(response.status(), 200);
    soon("the result", response.text()).await.unwrap()
}

/// Returns the work of the spans, each with its parent's: `kind function in component`.
fn path(spans: &[CollectedSpan]) -> BTreeSet<String> {
    let describe = |span: &CollectedSpan| format!("{} {}", span.kind, span.name);
    let path = spans.iter().map(|span| {
        let parent = spans.iter().find(|it| it.id == span.parent);
        let parent = parent.map_or_else(|| span.parent.clone(), describe);
        format!("{} in {} of {parent}", describe(span), span.service)
    });
    path.collect()
}

/// Returns what the components remember of a trace, from these components on.
async fn remembered(addresses: &[&str], trace: &str) -> Vec<(String, RecentCall)> {
    let mut calls = Vec::new();
    for address in addresses {
        let mut inspector = Inspector::new(*address).unwrap().recent_calls(trace);
        let cluster = soon("the reports", inspector.inspect()).await;
        for report in cluster.reports() {
            let own = report.recent.iter();
            calls.extend(own.map(|call| (report.name.clone(), call.clone())));
            let workers = report.edges.iter().filter_map(|edge| edge.worker.as_ref());
            let recent = workers.flat_map(|worker| &worker.recent);
            // Workers are named by their masters.
            calls.extend(recent.map(|call| ("worker".to_owned(), call.clone())));
        }
    }
    calls
}

fn check_path(spans: &[CollectedSpan]) {
    let expected = [
        format!("request front.order in gateway of {REQUEST}"),
        "delivery front.order in gateway of request front.order".to_owned(),
        "step front.order in gateway of delivery front.order".to_owned(),
        "call images.resize next.label in gateway of step front.order".to_owned(),
        "delivery images.resize in master of call images.resize next.label".to_owned(),
        "step images.resize in worker of delivery images.resize".to_owned(),
        "step next.label in pipeline of step images.resize".to_owned(),
    ];
    assert_eq!(path(spans), BTreeSet::from(expected));
    for span in spans {
        let working: u64 = span.attribute("working_us").parse().unwrap();
        let lasted = span.lasted.as_micros();
        assert!(u128::from(working) <= lasted + 1000, "{span:?}");
        assert_eq!(span.failure, None, "{span:?}");
    }
}

/// Checks that the components remember the same path as the collector has received.
fn check_remembered(calls: &[(String, RecentCall)], spans: &[CollectedSpan]) {
    let work = |work: &str, function: &str| format!("{work} {function}");
    let remembered = calls
        .iter()
        .map(|(_, call)| work(call.work.as_str(), &call.function));
    let collected = spans.iter().filter(|span| span.kind != "call");
    let collected: BTreeSet<_> = collected.map(|it| work(&it.kind, &it.name)).collect();
    assert_eq!(remembered.collect::<BTreeSet<_>>(), collected);
    assert_eq!(calls.len(), collected.len(), "{calls:#?}");
}

async fn test() {
    let collector = Collector::start().await;
    let master = Component::start("master", "", &collector).await;
    let pipeline = Component::start("pipeline", &master.address, &collector).await;
    let worker = Component::start("worker", &master.address, &collector).await;
    let mut gateway = Component::start("gateway", &master.address, &collector).await;
    let front = gateway.line().await;

    assert_eq!(
        order(gateway.address.clone(), "picture", TRACE).await,
        "label of small picture"
    );
    let spans = soon("the spans", collector.spans(TRACE, 7)).await;
    check_path(&spans);
    let calls = remembered(&[&front, &master.address], TRACE).await;
    check_remembered(&calls, &spans);

    // A worker that holds its task is killed, so the task is delivered again.
    worker.stop().await;
    let mut holder = Component::start("holder", &master.address, &collector).await;
    let answer = order(gateway.address.clone(), "picture", REDELIVERED);
    let mut answer = std::pin::pin!(answer);
    tokio::select! {
        _ = &mut answer => panic!("the worker holds the task"),
        line = holder.line() => assert_eq!(line, "holding"),
    }
    let worker = Component::start("worker", &master.address, &collector).await;
    holder.process.kill().unwrap();
    assert_eq!(answer.await, "label of small picture");
    let spans = soon("the spans", collector.spans(REDELIVERED, 8)).await;
    let deliveries = spans
        .iter()
        .filter(|it| it.name == "images.resize" && it.kind == "delivery");
    let mut deliveries: Vec<_> = deliveries
        .map(|it| (it.attribute("delivery").to_owned(), it.failure.clone()))
        .collect();
    deliveries.sort();
    let lost = Some("the worker was lost".to_owned());
    assert_eq!(deliveries, [("1".to_owned(), lost), ("2".to_owned(), None)]);
    let step = spans
        .iter()
        .find(|it| it.name == "images.resize" && it.kind == "step");
    assert_eq!(step.unwrap().attribute("delivery"), "2");
    let calls = remembered(&[&master.address], REDELIVERED).await;
    let of_master = calls.iter().filter(|(_, call)| call.work == Work::Delivery);
    assert_eq!(of_master.count(), 2);

    for component in [gateway, worker, pipeline, master] {
        component.stop().await;
    }
}

fn main() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    match std::env::var(roles::ROLE) {
        Ok(role) => runtime.block_on(roles::run(&role)).unwrap(),
        Err(_) => {
            runtime.block_on(test());
            println!("a call through four processes is one trace: ok");
        }
    }
}
