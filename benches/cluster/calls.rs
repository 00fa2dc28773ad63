//! Single calls, from many tasks at once and one after the other, compared with jobs, NATS and gRPC.

use crate::measure::ROUNDS;
use crate::peers::{Rate, System};

/// Calls of a round from many tasks.
const COUNT: usize = 200_000;

/// Tasks that share a client.
const TASKS: usize = 1000;

/// Calls of a round of one task.
const ROW: usize = 5000;

/// Measures a server, and a master with two workers, beside as many services of the others.
pub(crate) fn measure(wanted: impl Fn(&str) -> bool) {
    let name = "1000 tasks, server";
    if wanted(name) {
        let others = [System::nats(1), System::grpc()];
        compare(name, &System::palm(0), others.into_iter().flatten());
    }
    let name = "1000 tasks, 2 workers";
    if wanted(name) {
        compare(name, &System::palm(2), System::nats(2).into_iter());
    }
}

/// Measures by turns, so that all meet the same noise. The best round of each counts.
fn compare(name: &str, palm: &System, others: impl Iterator<Item = System>) {
    let others: Vec<_> = others.collect();
    let mut job = Results::default();
    let mut ours = Results::default();
    let mut theirs: Vec<_> = others.iter().map(|_| Results::default()).collect();
    for _ in 0..ROUNDS {
        ours.measure(palm);
        job.add(palm.job(COUNT));
        for (system, results) in others.iter().zip(&mut theirs) {
            results.measure(system);
        }
    }
    println!("{name:<28} a job {}", job.rate_text());
    println!("{name:<28} {:<5} {}", palm.name, ours.text());
    for (system, results) in others.iter().zip(&theirs) {
        let ratio = ours.per_second / results.per_second;
        let text = results.text();
        println!("{name:<28} {:<5} {text}   ratio {ratio:.2}", system.name);
    }
}

/// The best of several rounds.
struct Results {
    per_second: f64,
    processor_time: f64,
    latency: (f64, f64),
}

impl Default for Results {
    fn default() -> Self {
        Self {
            per_second: 0.0,
            processor_time: f64::INFINITY,
            latency: (f64::INFINITY, f64::INFINITY),
        }
    }
}

impl Results {
    fn measure(&mut self, system: &System) {
        self.add(system.calls(TASKS, COUNT));
        let latency = system.latency(ROW);
        if latency.0 < self.latency.0 {
            self.latency = latency;
        }
    }

    fn add(&mut self, rate: Rate) {
        self.per_second = self.per_second.max(rate.per_second);
        self.processor_time = self.processor_time.min(rate.processor_time);
    }

    fn rate_text(&self) -> String {
        format!("{:9.0}/s {:5.2} µs", self.per_second, self.processor_time)
    }

    fn text(&self) -> String {
        let (p50, p99) = self.latency;
        format!("{}   alone {p50:6.1} / {p99:7.1} µs", self.rate_text())
    }
}
