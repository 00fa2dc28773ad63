//! Results of requests: the last one, and those that no request waits for any more.

use std::time::Duration;

use axum::Router;
use palm::http::Gateway;
use palm::parts::{HttpConnection, HttpGateway};
use palm::prelude::*;
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

use super::setup::{ANY, Gate, check, connect, eventually, soon};

const HERE: &str = "127.0.0.1:0";
const LINES: &str = "application/x-ndjson";

struct Hand {
    gate: Gate,
}

#[palm::worker(server = "server")]
impl Hand {
    #[palm::method]
    fn words(&self, text: String) -> impl Iterator<Item = String> + use<> {
        let words: Vec<_> = text.split_whitespace().map(str::to_owned).collect();
        words.into_iter()
    }

    /// Yields one word immediately and the others after the gate has opened, without end.
    #[palm::method]
    fn watch(&self) -> impl futures_util::Stream<Item = String> + Send + use<> {
        let gate = self.gate.clone();
        futures_util::stream::unfold(0, move |number| {
            let gate = gate.clone();
            async move {
                if number > 0 {
                    gate.pass().await;
                }
                Some((number.to_string(), number + 1))
            }
        })
    }
}

struct WebHand;

#[palm::http_worker(server = "server")]
impl WebHand {
    #[palm::method]
    fn shout(&self, text: String) -> Result<String, &'static str> {
        match text.as_str() {
            "nothing" => Err("there is nothing to shout"),
            _ => Ok(text.to_uppercase()),
        }
    }

    #[palm::method]
    fn nothing(&self) {}
}

/// Posts a request, and returns the status and the body of the response.
async fn post(url: &str, accept: &str, body: &'static str) -> (u16, String) {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let request = client.post(url).header("accept", accept).body(body);
    let answer = async {
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    };
    soon("a response", answer).await
}

#[test]
fn results_after_the_first_are_dropped_for_http_requests_but_not_for_clients() {
    check(async {
        let master = Master::new("server").bind(ANY).http(HERE);
        let master = soon("the start", master.spawn()).await.unwrap();
        let gate = Gate::closed();
        let worker = Hand { gate: gate.clone() }.connect(master.db_address());
        let worker = soon("the start", worker.spawn()).await.unwrap();
        let url = master.address("http_address").unwrap();

        let words = post(&format!("{url}/words"), "*/*", "one two three").await;
        assert_eq!(words, (200, "one".to_owned()));
        let part = |name: &str| master.metrics().part(name).unwrap().clone();
        let client = connect("server", &master).await;
        let mut job = client.job("server.words", ["four"]).expect_answers(1);
        let answer = soon("an answer", futures_util::StreamExt::next(&mut job)).await;
        assert_eq!(answer.unwrap().unwrap(), "four");
        // Otherwise the other words would be kept as pending publications, and displace results of clients.
        assert_eq!(part("Pub").messages, 1);
        worker.shutdown().await.unwrap();
        master.shutdown().await.unwrap();
    });
}

#[test]
fn function_with_many_results_is_cancelled_after_the_first_if_one_is_wanted() {
    check(async {
        let master = Master::new("server").bind(ANY).http(HERE);
        let master = soon("the start", master.spawn()).await.unwrap();
        let gate = Gate::closed();
        let worker = Hand { gate: gate.clone() }.connect(master.db_address());
        let worker = soon("the start", worker.spawn()).await.unwrap();
        let url = master.address("http_address").unwrap();
        let described = async {
            let url = format!("{url}/openapi.json");
            let client = reqwest::Client::builder().no_proxy().build().unwrap();
            loop {
                let document = client.get(&url).send().await.unwrap().text().await.unwrap();
                if document.contains("/watch") {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        soon("the worker's functions", described).await;

        let first = post(&format!("{url}/watch"), "*/*", "").await;
        assert_eq!(first, (200, "0".to_owned()));
        // The call has no end, so it ends because it is cancelled.
        let ended = || {
            let metrics = worker.metrics();
            metrics
                .function("watch")
                .is_some_and(|watch| watch.working.count() == 1)
        };
        eventually("the end of the call", ended).await;
        worker.shutdown().await.unwrap();
        master.shutdown().await.unwrap();
    });
}

#[test]
fn gateway_in_front_of_http_workers_returns_their_single_answer_immediately() {
    check(async {
        let listener = TcpListener::bind(HERE).await.unwrap();
        let at = format!("http://{}", listener.local_addr().unwrap());
        let application = Router::new().fallback_service(WebHand.into_service());
        let serving = async move { axum::serve(listener, application).await.unwrap() };
        let _serving = AbortOnDropHandle::new(tokio::spawn(serving));

        let gateway = Gateway::new();
        let mut template = ServerTemplate::new("server");
        template
            .register_inbound(gateway.router(), "gateway_router")
            .route("Workers");
        template
            .register_outbound(HttpConnection::connect(at), "Workers")
            .route("gateway_dealer");
        template.register_outbound(gateway.dealer(), "gateway_dealer");
        template.register_bypass(HttpGateway::bind(HERE, &gateway), "HttpGateway");
        let server = soon("the start", template.spawn()).await.unwrap();
        let url = server.address("http_address").unwrap();
        let (shout, nothing) = (format!("{url}/shout"), format!("{url}/nothing"));

        assert_eq!(post(&shout, "*/*", "x").await, (200, "X".to_owned()));
        assert_eq!(post(&shout, LINES, "x").await, (200, "\"X\"\n".to_owned()));
        assert_eq!(post(&nothing, "*/*", "").await, (204, String::new()));
        assert_eq!(post(&nothing, LINES, "").await, (200, String::new()));
        let (status, problem) = post(&shout, "*/*", "nothing").await;
        assert_eq!(status, 500);
        assert!(problem.contains("there is nothing to shout"), "{problem}");
        let (status, line) = post(&shout, LINES, "nothing").await;
        assert_eq!((status, line.lines().count()), (200, 1), "{line}");
        assert!(line.contains("there is nothing to shout"), "{line}");
        assert_eq!(server.metrics().part("gateway_dealer").unwrap().dropped, 0);
        server.shutdown().await.unwrap();
    });
}
