//! Metrics and health of components over HTTP.

use std::net::TcpListener;

use palm::prelude::*;
use palm::{ComponentHandle, LinkOptions, StartError};
use reqwest::{Client as Http, StatusCode};

use super::process::{self, Process};
use super::setup::{ANY, Gate, chain, check, connect, soon, starts_again, unbound, unbound_socket};

const HERE: &str = "127.0.0.1:0";

/// A server whose method waits for a gate.
struct Gated(Gate);

#[palm::server(name = "text")]
impl Gated {
    #[palm::method]
    async fn double(&self, text: String) -> Result<String, String> {
        match text.is_empty() {
            true => Err("the text is empty".to_owned()),
            false => Ok(text.repeat(2)),
        }
    }

    #[palm::method]
    async fn wait(&self, text: String) -> String {
        self.0.pass().await;
        text
    }
}

struct Hand;

#[palm::worker(server = "master")]
impl Hand {
    #[palm::method]
    fn double(&self, text: String) -> String {
        text.repeat(2)
    }
}

/// Starts a server with a monitor.
async fn monitored(gate: Gate) -> ComponentHandle {
    let server = Gated(gate).bind(ANY).monitor(HERE);
    server.spawn().await.unwrap()
}

/// Returns the status and body of a response.
async fn get(url: &str) -> (StatusCode, String) {
    let response = soon("a response", Http::new().get(url).send());
    let response = response.await.unwrap();
    let status = response.status();
    (status, response.text().await.unwrap())
}

fn url(component: &ComponentHandle, path: &str) -> String {
    format!("{}{path}", component.address("monitor_address").unwrap())
}

/// Returns the sum of all series of a metric whose line contains `part`.
fn sum(metrics: &str, metric: &str, part: &str) -> f64 {
    let series = metrics
        .lines()
        .filter(|line| line.starts_with(metric) && line.contains(part));
    series
        .map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap())
        .sum()
}

/// Polls until the body of a response contains `part`.
async fn until(url: &str, part: &str) -> (StatusCode, String) {
    let poll = async {
        loop {
            let (status, body) = get(url).await;
            if body.contains(part) {
                return (status, body);
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    soon(part, poll).await
}

#[test]
fn monitor_serves_what_the_component_has_counted() {
    check(async {
        let server = monitored(Gate::closed()).await;
        let client = connect("text", &server).await;
        for number in 0..25 {
            client
                .eval(Gated::DOUBLE, number.to_string())
                .await
                .unwrap();
        }
        for _ in 0..3 {
            client.eval(Gated::DOUBLE, "").await.unwrap_err();
        }
        let (status, metrics) = get(&url(&server, "/metrics")).await;
        assert_eq!(status, StatusCode::OK);
        let labels = r#"{component="text",kind="server",function="double"}"#;
        assert!(
            metrics.contains(&format!("palm_calls_total{labels} 28\n")),
            "{metrics}"
        );
        assert!(
            metrics.contains(&format!("palm_call_errors_total{labels} 3\n")),
            "{metrics}"
        );
        assert_eq!(
            sum(
                &metrics,
                "palm_call_duration_seconds_bucket",
                r#"function="double",le="+Inf""#
            ),
            28.0
        );
        assert_eq!(
            sum(&metrics, "palm_part_messages_total", r#"part="Executor""#),
            28.0
        );
        assert_eq!(
            sum(&metrics, "palm_peers", r#"role="client",state="connected""#),
            1.0
        );
        client.close().await;
        server.shutdown().await.unwrap();
    });
}

#[test]
fn calls_past_their_deadline_are_counted() {
    check(async {
        let server = monitored(Gate::closed()).await;
        let client = connect("text", &server).await;
        let timeout = std::time::Duration::from_millis(50);
        client
            .eval(Gated::WAIT, "x")
            .timeout(timeout)
            .await
            .unwrap_err();
        let late =
            r#"palm_part_late_calls_total{component="text",kind="server",part="Executor"} 1"#;
        until(&url(&server, "/metrics"), late).await;
        server.shutdown().await.unwrap();
    });
}

#[test]
fn responses_have_the_format_that_the_client_accepts() {
    check(async {
        let server = monitored(Gate::closed()).await;
        let metrics = url(&server, "/metrics");
        for (accept, content_type, end) in [
            (
                "application/openmetrics-text; version=1.0.0",
                "application/openmetrics-text; version=1.0.0; charset=utf-8",
                "# EOF\n",
            ),
            ("*/*", "text/plain; version=0.0.4; charset=utf-8", "\n"),
        ] {
            let response = Http::new()
                .get(&metrics)
                .header("accept", accept)
                .send()
                .await
                .unwrap();
            assert_eq!(response.headers()["content-type"], content_type);
            assert!(response.text().await.unwrap().ends_with(end));
        }
        let (status, body) = get(&url(&server, "/")).await;
        assert_eq!(
            (status, &*body),
            (
                StatusCode::NOT_FOUND,
                "there are /metrics, /livez and /readyz\n"
            )
        );
        let post = Http::new().post(&metrics).send().await.unwrap();
        assert_eq!(post.status(), StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(post.headers()["allow"], "GET, HEAD");
        // A web page whose own host name resolves to a loopback address.
        let rebound = Http::new()
            .get(&metrics)
            .header("host", "evil.example")
            .send()
            .await
            .unwrap();
        assert_eq!(rebound.status(), StatusCode::MISDIRECTED_REQUEST);
        server.shutdown().await.unwrap();
    });
}

#[test]
fn component_is_ready_while_it_is_connected_upstream() {
    check(async {
        let address = unbound();
        let links = LinkOptions::new().idle_timeout(std::time::Duration::from_secs(2));
        let worker = Hand
            .connect(&*address)
            .name("hand")
            .link_options(links)
            .monitor(HERE);
        let worker = worker.spawn().await.unwrap();
        let ready = url(&worker, "/readyz");
        let (status, body) = get(&ready).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        let waits = format!("`hand` is not ready: it waits for its master at {address}");
        assert_eq!(body, format!("{waits}\n"));
        let (_, body) = until(&ready, "connection refused").await;
        assert!(body.starts_with(&format!("{waits}: ")), "{body}");
        assert_eq!(
            get(&url(&worker, "/livez")).await,
            (StatusCode::OK, "live\n".to_owned())
        );

        let master = Master::new("master").bind(&*address).spawn().await.unwrap();
        assert_eq!(until(&ready, "ready\n").await.0, StatusCode::OK);
        master.kill().await;
        let (status, body) = until(&ready, "its master at").await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(
            body.contains(&format!("its master at {address} is disconnected")),
            "{body}"
        );
        worker.shutdown().await.unwrap();
    });
}

#[test]
fn draining_component_is_live_and_not_ready() {
    check(async {
        let gate = Gate::closed();
        let server = monitored(gate.clone()).await;
        let client = connect("text", &server).await;
        let mut call = std::pin::pin!(client.eval(Gated::WAIT, "x").into_future());
        tokio::select! {
            _ = &mut call => panic!("the gate is closed"),
            () = gate.arrived(1) => {}
        }
        let (ready, live) = (url(&server, "/readyz"), url(&server, "/livez"));
        assert_eq!(get(&ready).await.0, StatusCode::OK);
        let stopped = tokio::spawn(server.shutdown());
        let (status, body) = until(&ready, "draining").await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(body, "`text` is not ready: it is draining\n");
        assert_eq!(get(&live).await.0, StatusCode::OK);
        gate.open();
        assert_eq!(soon("the answer", call).await.unwrap(), "x");
        soon("the shutdown", stopped).await.unwrap().unwrap();
        Http::new().get(&live).send().await.unwrap_err();
    });
}

#[test]
fn components_of_a_process_share_a_monitor_until_the_last_one_stops() {
    check(async {
        let at = unbound_socket().to_string();
        let master = Master::new("master")
            .bind(ANY)
            .monitor(&*at)
            .spawn()
            .await
            .unwrap();
        let worker = Hand.connect(master.db_address()).name("hand").monitor(&*at);
        let worker = worker.own_thread(true).spawn().await.unwrap();
        let metrics = format!("http://{at}/metrics");
        // Each connection is accepted by one of the two.
        for _ in 0..20 {
            let (_, text) = get(&metrics).await;
            for component in [
                r#"component="master",kind="master""#,
                r#"component="hand",kind="worker""#,
            ] {
                assert_eq!(sum(&text, "palm_component_state", component), 1.0, "{text}");
            }
        }
        master.shutdown().await.unwrap();
        for _ in 0..20 {
            let (_, text) = get(&metrics).await;
            assert!(!text.contains(r#"component="master""#), "{text}");
            assert!(text.contains(r#"component="hand""#), "{text}");
        }
        worker.shutdown().await.unwrap();
        Http::new().get(&metrics).send().await.unwrap_err();
        // The address is free again.
        let again = async || {
            let server = Gated(Gate::closed()).bind(ANY).monitor(&*at);
            server.spawn().await
        };
        let server = starts_again(again).await;
        assert_eq!(
            server.address("monitor_address").unwrap(),
            format!("http://{at}")
        );
        server.shutdown().await.unwrap();
    });
}

#[test]
fn component_with_an_unusable_monitor_does_not_start() {
    check(async {
        let start = async |at: &str| {
            let master = Master::new("master").bind(ANY).monitor(at);
            master.spawn().await.map(drop).unwrap_err()
        };
        let exposed = start("0.0.0.0:0").await;
        let palm::Error::Start(StartError::Exposed { option, .. }) = &exposed else {
            panic!("{exposed:?}");
        };
        assert_eq!(*option, "monitor");
        let taken = TcpListener::bind(HERE).unwrap();
        let at = taken.local_addr().unwrap().to_string();
        let error = chain(&start(&at).await);
        assert!(
            error.contains(&format!("cannot bind `{at}` for HTTP")),
            "{error}"
        );
        let malformed = chain(&start("9600").await);
        assert!(malformed.contains("`9600`"), "{malformed}");
    });
}

#[test]
fn environment_sets_the_address_of_the_monitor() {
    check(async {
        let mut command = process::role("master", &[("db_address", ANY)]);
        command.env("PALM_MONITOR", HERE);
        let mut master = Process::spawn("master", command);
        master.ready().await;
        let (status, _) = get(&format!("{}/readyz", master.addresses["monitor_address"])).await;
        assert_eq!(status, StatusCode::OK);
    });
}
