//! What the components report when calls are overdue: which one has the messages, and which one has dropped some.

use palm::inspect::{Answer, inspect};
use palm::report::{Edge, Part, Report};

use crate::member::Member;

/// Prints the reports of all components. Workers appear as edges of their masters.
pub(crate) async fn print(members: &[Member]) {
    for member in members.iter().filter(|member| member.role != "worker") {
        // Not through the proxy, which may inject a fault.
        match inspect(&*member.at).await.expect("it is an address") {
            Answer::Report(report) => print_report(&report),
            other => println!("{} at {}: {other:?}", member.role, member.at),
        }
    }
}

fn print_report(report: &Report) {
    let Report {
        name, state, waits, ..
    } = report;
    println!(
        "{name}: {}, {:.1?} after its start, {} messages inside, {} of them wait for workers {waits}",
        state.as_str(),
        report.uptime,
        report.messages_inside(),
        report.tasks.messages,
    );
    report.parts.iter().for_each(print_part);
    report.edges.iter().for_each(print_edge);
}

fn print_part(part: &Part) {
    let Part {
        name,
        messages,
        errors,
        dropped,
        queue,
        held,
        ..
    } = part;
    let (queue, held) = (queue.messages, held.messages);
    println!(
        "  {name}: {messages} passed, {queue} in its queue, {held} held, {dropped} dropped, {errors} errors"
    );
}

fn print_edge(edge: &Edge) {
    let Edge {
        role,
        name,
        state,
        age,
        silent,
        sent,
        acknowledged,
        received,
        redelivered,
        dropped,
        ..
    } = edge;
    let (role, state) = (role.as_str(), state.as_str());
    let (waiting, unread) = (edge.waiting.messages, edge.unread.messages);
    println!(
        "  {role} {name}: {state} for {age:.1?}, silent for {silent:.1?}; sent {sent}, {acknowledged} acknowledged, \
         {waiting} waiting; received {received}, {unread} unread; {redelivered} redelivered, {dropped} dropped"
    );
    if let Some(worker) = &edge.worker {
        let (prefetched, running, results) = (worker.prefetched, worker.running, worker.results);
        println!("    it has {prefetched} prefetched, {running} running, {results} results");
    }
}
