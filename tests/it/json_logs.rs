//! With `PALM_LOG_FORMAT=json`, each line that a method logs names its call, in a real process.

use palm::prelude::*;
use reqwest::Client as Http;
use serde_json::Value;

use super::process::roles::print_ready;
use super::process::{Process, role};
use super::setup::{ANY, SOON, check, soon};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// A worker whose methods log lines that begin with `step` and the argument.
#[derive(Debug)]
struct Talkative;

#[palm::worker(server = "shop")]
impl Talkative {
    #[palm::method]
    fn plain(&self, text: String) -> String {
        tracing::info!("step {text}");
        text
    }

    /// The call is pending at first, and continues as a task of its own.
    #[palm::method]
    async fn pending(&self, text: String) -> String {
        tracing::info!("step {text}, first");
        tokio::task::yield_now().await;
        tracing::info!("step {text}, second");
        text
    }

    #[palm::method(blocking)]
    fn blocking(&self, text: String) -> String {
        tracing::info!("step {text}");
        text
    }

    /// Its failure is logged for it.
    #[palm::method]
    fn failing(&self, text: String) -> Result<String, String> {
        Err(format!("step {text}"))
    }
}

/// The role of a child process: a master with a gateway and a worker, which run until the process is killed.
pub(crate) fn run_cluster() {
    palm::logging::init();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let master = Master::new("shop").bind(ANY).http("127.0.0.1:0");
        let master = master.spawn().await.unwrap();
        let worker = Talkative.connect(master.db_address());
        let worker = worker.name("talkative").spawn().await.unwrap();
        print_ready(master.addresses());
        worker.join().await.unwrap();
    });
}

#[test]
fn json_lines_of_methods_have_the_ids_of_their_call_and_trace() {
    check(async {
        let mut command = role("json_logs", &[]);
        command
            .env("PALM_LOG_FORMAT", "json")
            .env("PALM_LOG", "info");
        let mut process = Process::spawn("json_logs", command);
        process.ready().await;
        let url = process.addresses["http_address"].clone();
        let mut ids = Vec::new();
        for (function, lines) in [
            ("plain", 1),
            ("pending", 2),
            ("blocking", 1),
            ("failing", 1),
        ] {
            let request = Http::new().post(format!("{url}/{function}"));
            let parent = format!("00-{TRACE}-00f067aa0ba902b7-01");
            let request = request.header("traceparent", parent).body(function);
            soon("the response", request.send()).await.unwrap();
            for number in 0..lines {
                let line = process.line_with(&["step ", function], SOON).await;
                let line: Value = serde_json::from_str(&line).unwrap();
                assert_eq!(line["trace_id"], TRACE, "{line:#}");
                assert_eq!(line["component"], "talkative", "{line:#}");
                let id = line["call_id"].as_str().unwrap_or_default().to_owned();
                assert!(!id.is_empty(), "{line:#}");
                match number {
                    // Each call has an id of its own.
                    0 => assert!(!ids.contains(&id), "{line:#}"),
                    _ => assert_eq!(ids.last(), Some(&id), "{line:#}"),
                }
                ids.push(id);
            }
        }
    });
}
