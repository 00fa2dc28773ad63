//! The components that this program is: a master without hooks, one that splits its results into the streams `even` and `odd`, its workers,
//! a step for each stream, and a sink.

use std::time::Instant;

use palm::prelude::*;

const ANY: &str = "tcp://127.0.0.1:0";

/// Plays the role of a component if the arguments are those of one, and ends.
pub(crate) fn run() {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let ended = runtime.block_on(async {
        let handle = match arguments[..] {
            ["master", address] => {
                let master = Splitting::default().bind(address).pipelined(true);
                master.spawn().await
            }
            ["plain_master", address] => Master::new("images").bind(address).spawn().await,
            ["server", address] => Alone.bind(address).spawn().await,
            ["worker", master, name] => Hand.connect(master).name(name).spawn().await,
            ["workers", master, count] => {
                // The first one stands for all of them.
                let mut workers = Vec::new();
                for number in 0..count.parse().unwrap() {
                    let worker = Hand.connect(master).name(format!("worker {number}"));
                    workers.push(worker.spawn().await.unwrap());
                }
                println!("- -");
                for worker in workers {
                    worker.join().await.unwrap();
                }
                return true;
            }
            ["job", address, count] => {
                let client = Client::connect("images", address).await.unwrap();
                let count: u32 = count.parse().unwrap();
                let begin = Instant::now();
                let calls = std::iter::repeat_n("ten bytes.", count as usize);
                let mut job = client.job("images.foo", calls);
                while let Some(answer) = job.next().await {
                    let _: Bytes = answer.unwrap();
                }
                let rate = f64::from(count) / begin.elapsed().as_secs_f64();
                println!("{rate}");
                return true;
            }
            ["step", address, upstream, topic] => {
                let step = Step.bind(address).follow(upstream).previous(topic);
                step.spawn().await
            }
            ["sink", first, second] => {
                let sink = Last.bind(ANY).follow(first).follow(second);
                sink.to_client(true).spawn().await
            }
            _ => return false,
        };
        let handle = handle.unwrap();
        // A worker has none.
        let [db, publisher] = ["db_address", "pub_address"].map(|key| handle.address(key));
        println!("{} {}", db.unwrap_or("-"), publisher.unwrap_or("-"));
        handle.join().await.unwrap();
        true
    });
    if ended {
        std::process::exit(0);
    }
}

/// A master that publishes its results in turn to two streams.
#[derive(Debug, Default)]
struct Splitting {
    results: usize,
}

#[palm::master(name = "images")]
impl Splitting {
    #[palm::handle_stream]
    fn split(&mut self, mut message: Message) -> (&'static str, Message) {
        let topic = ["even", "odd"][self.results % 2];
        self.results += 1;
        message.set_stage(message.stage() + 1);
        (topic, message)
    }
}

/// A worker, with the function that pylm's worker of `interop/components.py` has.
#[derive(Debug)]
struct Hand;

#[palm::worker(server = "images")]
impl Hand {
    #[palm::method]
    fn foo(&self, message: Bytes) -> Bytes {
        message
    }
}

/// A server with the function of the worker.
#[derive(Debug)]
struct Alone;

#[palm::server(name = "images")]
impl Alone {
    #[palm::method]
    fn foo(&self, message: Bytes) -> Bytes {
        message
    }
}

/// The step of each stream.
#[derive(Debug)]
struct Step;

#[palm::pipeline(name = "step")]
impl Step {
    #[palm::method]
    fn foo(&self, message: Bytes) -> Bytes {
        message
    }
}

/// The end of both streams.
#[derive(Debug)]
struct Last;

#[palm::sink(name = "last")]
impl Last {
    #[palm::method]
    fn foo(&self, message: Bytes) -> Bytes {
        message
    }
}
