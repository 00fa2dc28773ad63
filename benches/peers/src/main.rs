//! Services of NATS and of gRPC that return their payload, and clients that call them. Each is a process of its own,
//! which is this program with a role. The first line that it prints is an address or a result.

#![expect(clippy::print_stdout, reason = "a program that prints its result")]

mod grpc;
mod nats;

use std::io::Write;
use std::time::{Duration, Instant};

use bytes::Bytes;

/// A service that answers one call.
trait Call: Clone + Send + Sync + 'static {
    fn call(&self, payload: Bytes) -> impl Future<Output = Bytes> + Send;
}

#[tokio::main]
async fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    std::thread::spawn(end_when_orphaned);
    match arguments[..] {
        ["nats-service", url] => nats::serve(url).await,
        ["nats-calls", url, tasks, count] => {
            print_rate(&nats::connect(url).await, number(tasks), number(count)).await;
        }
        ["nats-latency", url, count] => {
            print_latency(&nats::connect(url).await, number(count)).await
        }
        ["grpc-service"] => grpc::serve().await,
        ["grpc-calls", address, tasks, count] => {
            print_rate(&grpc::connect(address).await, number(tasks), number(count)).await;
        }
        ["grpc-latency", address, count] => {
            print_latency(&grpc::connect(address).await, number(count)).await;
        }
        _ => panic!("no such role: {arguments:?}"),
    }
}

fn number(argument: &str) -> usize {
    argument.parse().expect("it is a number")
}

/// Ends with the process that started this one, which holds the other end of stdin.
fn end_when_orphaned() {
    let _ = std::io::stdin().read_line(&mut String::new());
    std::process::exit(0);
}

fn print_line(words: &str) {
    println!("{words}");
    std::io::stdout().flush().expect("stdout is open");
}

const PAYLOAD: Bytes = Bytes::from_static(&[b'x'; 10]);

/// Prints the calls per second of `tasks` tasks, each of which makes one call after the other.
async fn print_rate(client: &impl Call, tasks: usize, count: usize) {
    // The first round warms up.
    let mut rate = 0.0;
    for count in [count / 10, count] {
        let start = Instant::now();
        let mut running = tokio::task::JoinSet::new();
        for _ in 0..tasks {
            let client = client.clone();
            running.spawn(async move {
                for _ in 0..count / tasks {
                    assert_eq!(client.call(PAYLOAD).await, PAYLOAD);
                }
            });
        }
        while let Some(ended) = running.join_next().await {
            ended.expect("the task does not panic");
        }
        rate = (count / tasks * tasks) as f64 / start.elapsed().as_secs_f64();
    }
    print_line(&rate.to_string());
    std::future::pending().await
}

/// Prints the median and the 99th percentile of calls in a row, in µs.
async fn print_latency(client: &impl Call, count: usize) {
    let mut latencies: Vec<Duration> = Vec::with_capacity(count);
    for call in 0..count + count / 10 {
        let start = Instant::now();
        client.call(PAYLOAD).await;
        if call >= count / 10 {
            latencies.push(start.elapsed());
        }
    }
    latencies.sort_unstable();
    let [p50, p99] = [50, 99].map(|percent| latencies[count * percent / 100].as_secs_f64() * 1e6);
    print_line(&format!("{p50} {p99}"));
    std::future::pending().await
}
