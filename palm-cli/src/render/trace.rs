//! The path of a call, and the calls that components remember.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use palm::report::Work;
use serde_json::{Value, json};

use crate::model::path::{PathStep, RememberedCall};
use crate::text::{self, Align, clean, duration};

/// The most calls that are listed.
const MAX_CALLS: usize = 50;

/// Returns the path of a call, a line for each step of it.
pub fn path(steps: &[PathStep]) -> String {
    let columns = [
        ("after", Align::Right),
        ("component", Align::Left),
        ("work", Align::Left),
        ("function", Align::Left),
        ("waiting", Align::Right),
        ("working", Align::Right),
        ("", Align::Left),
    ];
    let begun = steps.first().map(|step| step.call.begun_at);
    let row = |step: &PathStep| {
        let call = &step.call;
        vec![
            duration(since(call.begun_at, begun)),
            clean(&step.component).into_owned(),
            call.work.as_str().to_owned(),
            clean(&call.function).into_owned(),
            duration(call.waited),
            duration(call.worked),
            note(step),
        ]
    };
    let mut text = String::new();
    let traces: BTreeSet<_> = steps.iter().map(|step| &*step.call.trace).collect();
    for trace in traces.into_iter().filter(|trace| !trace.is_empty()) {
        let _ = writeln!(text, "trace {}\n", clean(trace));
    }
    let rows: Vec<_> = steps.iter().map(row).collect();
    text.push_str(&text::table("", &columns, &rows));
    text
}

fn since(time: SystemTime, begun: Option<SystemTime>) -> Duration {
    let since = begun.and_then(|begun| time.duration_since(begun).ok());
    since.unwrap_or_default()
}

/// Returns what is special about a step.
fn note(step: &PathStep) -> String {
    let call = &step.call;
    let mut notes = Vec::new();
    if call.work == Work::Delivery && !call.worker.is_empty() {
        notes.push(format!("to {}", clean(&call.worker)));
    }
    if call.delivery > 1 {
        notes.push(format!("delivery {}", call.delivery));
    }
    if let Some(failure) = call.failure {
        notes.push(format!("{failure:?}"));
    }
    notes.join(", ")
}

/// Returns the calls that components remember: failed ones first, then the slowest ones.
pub fn calls(calls: &[RememberedCall]) -> String {
    let columns = [
        ("call", Align::Left),
        ("outcome", Align::Left),
        ("time", Align::Right),
        ("longest at", Align::Left),
        ("function", Align::Left),
    ];
    let row = |call: &RememberedCall| {
        let slowest = &call.slowest;
        vec![
            clean(&call.id).into_owned(),
            if call.failed { "failed" } else { "completed" }.to_owned(),
            duration(slowest.call.waited + slowest.call.worked),
            clean(&slowest.component).into_owned(),
            clean(&slowest.call.function).into_owned(),
        ]
    };
    let rows: Vec<_> = calls.iter().take(MAX_CALLS).map(row).collect();
    let mut text = text::table("", &columns, &rows);
    if calls.len() > MAX_CALLS {
        let further = calls.len() - MAX_CALLS;
        let _ = writeln!(text, "There are {further} further calls.");
    }
    text
}

/// Returns the steps as JSON.
pub fn json(steps: &[PathStep]) -> Value {
    let micros = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    let step = |step: &PathStep| {
        let call = &step.call;
        let begun = call.begun_at.duration_since(SystemTime::UNIX_EPOCH);
        json!({
            "component": step.component,
            "work": call.work.as_str(),
            "call": call.call,
            "id": call.id,
            "trace": call.trace,
            "function": call.function,
            "stage": call.stage,
            "begun_at_us": micros(begun.unwrap_or_default()),
            "waited_us": micros(call.waited),
            "worked_us": micros(call.worked),
            "failure": call.failure.map(|failure| format!("{failure:?}")),
            "delivery": call.delivery,
            "worker": call.worker,
        })
    };
    steps.iter().map(step).collect()
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use palm::FailureKind;
    use palm::inspect::{Answer, Cluster};
    use palm::report::{Edge, RecentCall, Report, Role, Worker};

    use super::*;
    use crate::model::path;

    fn call(work: Work, function: &str, stage: i64, at: u64, worked: u64) -> RecentCall {
        let mut call = RecentCall::new(work, "client/17", "client/17/3", function, stage);
        call.begun_at = SystemTime::UNIX_EPOCH + Duration::from_millis(at);
        call.waited = Duration::from_millis(2);
        call.worked = Duration::from_millis(worked);
        call.trace = "4bf92f3577b34da6a3ce929d0e0e4736".to_owned();
        call
    }

    /// A master with a worker, and a pipeline that fails.
    fn cluster() -> Cluster {
        let mut master = Report::new(1, "images");
        let mut delivery = call(Work::Delivery, "images.resize", 0, 1_000, 40);
        delivery.delivery = 2;
        delivery.worker = "one".to_owned();
        master.recent = vec![delivery];
        let mut worker = Worker::new(2);
        worker.recent = vec![call(Work::Step, "images.resize", 0, 1_001, 30)];
        let mut edge = Edge::default();
        (edge.role, edge.name) = (Role::Worker, "one".to_owned());
        edge.worker = Some(worker);
        master.edges = vec![edge];
        let mut pipeline = Report::new(3, "next");
        let mut step = call(Work::Step, "next.label", 1, 1_041, 5);
        step.failure = Some(FailureKind::Panicked);
        pipeline.recent = vec![step];
        let mut cluster = Cluster::default();
        for (address, report) in [("tcp://a:1", pipeline), ("tcp://a:2", master)] {
            let answer = Answer::Report(Box::new(report));
            cluster.components.insert(address.to_owned(), answer);
        }
        let gone = Answer::Unreachable("connection refused".to_owned());
        cluster.components.insert("tcp://a:3".to_owned(), gone);
        cluster
    }

    #[test]
    fn path_lists_the_steps_in_the_order_of_time() {
        let steps = path::steps(&cluster());
        expect![[r#"
            trace 4bf92f3577b34da6a3ce929d0e0e4736

             after  component  work      function       waiting  working
               0 s  images     delivery  images.resize   2.0 ms    40 ms  to one, delivery 2
            1.0 ms  one        step      images.resize   2.0 ms    30 ms
             41 ms  next       step      next.label      2.0 ms   5.0 ms  Panicked
        "#]]
        .assert_eq(&super::path(&steps));
        let json = json(&steps);
        assert_eq!(json[2]["failure"], "Panicked");
        assert_eq!(json[0]["delivery"], 2);
        let silent = ("tcp://a:3".to_owned(), "connection refused".to_owned());
        assert_eq!(path::silent(&cluster()), [silent]);
    }

    #[test]
    fn calls_name_their_longest_step() {
        let steps = path::steps(&cluster());
        expect![[r#"
            call         outcome   time  longest at  function
            client/17/3  failed   42 ms  images      images.resize
        "#]]
        .assert_eq(&calls(&path::calls(&steps)));
    }
}
