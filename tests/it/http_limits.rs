//! HTTP in front of a master under load: limits, long streams, slow and broken clients, dying workers.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use futures_util::{Stream, StreamExt, stream};
use palm::http::{GatewayOptions, Listener};
use palm::prelude::*;
use palm::{ComponentHandle, Json};
use reqwest::header::{HeaderMap, HeaderValue};
use reqwest::{Body, RequestBuilder, Response};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::TcpStream;

use super::process::Process;
use super::setup::{ANY, Gate, STALLED, check, eventually, soon};

const PORT: &str = "127.0.0.1:0";
/// More bytes than the system buffers for a client that does not read.
const LARGE: usize = 24 << 20;

#[derive(Clone)]
struct Hand {
    gate: Gate,
}

#[palm::worker(server = "master")]
impl Hand {
    /// Returns the text in capitals.
    #[palm::method]
    fn shout(&self, text: String) -> Result<String, &'static str> {
        match text.as_str() {
            "" => Err("there is nothing to shout"),
            "panic" => panic!("on purpose"),
            _ => Ok(text.to_uppercase()),
        }
    }

    #[palm::method]
    fn add(&self, numbers: Json<Vec<i64>>) -> Json<i64> {
        Json(numbers.0.iter().sum())
    }

    #[palm::method]
    fn bytes(&self, payload: Bytes) -> Bytes {
        payload
    }

    #[palm::method]
    fn large(&self, bytes: Json<usize>) -> Bytes {
        vec![b'x'; bytes.0].into()
    }

    #[palm::method]
    fn pages(&self, pages: Json<usize>) -> impl Iterator<Item = Bytes> + use<> {
        (0..pages.0).map(|_| vec![b'x'; 1 << 20].into())
    }

    #[palm::method]
    fn nothing(&self) {}

    #[palm::method]
    async fn gated(&self, payload: String) -> String {
        self.gate.pass().await;
        payload
    }

    #[palm::method]
    fn trace(&self, _: Bytes, context: Context) -> Json<[String; 3]> {
        let trace = context.message().trace().unwrap_or_default();
        Json([trace.parent, trace.state, trace.request_id])
    }

    #[palm::method]
    fn count(&self, to: Json<u32>) -> impl Iterator<Item = Json<u32>> + use<> {
        (0..to.0).map(Json)
    }

    #[palm::method]
    fn mixed(&self) -> impl Iterator<Item = Result<String, &'static str>> + use<> {
        [
            Ok("one\ntwo".to_owned()),
            Err("as requested"),
            Ok("three".to_owned()),
        ]
        .into_iter()
    }

    #[palm::method]
    fn rejected(&self, _: Bytes) -> Result<impl Iterator<Item = String> + use<>, &'static str> {
        Err::<std::iter::Empty<String>, _>("never")
    }

    /// Yields one result immediately, and another one after the gate has opened.
    #[palm::method]
    fn watch(&self) -> impl Stream<Item = String> + Send + use<> {
        let gate = self.gate.clone();
        stream::unfold(0, move |number| {
            let gate = gate.clone();
            async move {
                if number > 0 {
                    gate.pass().await;
                }
                (number < 2).then(|| (number.to_string(), number + 1))
            }
        })
    }
}

/// A master with a worker, and an HTTP client of its gateway.
struct Http {
    /// The worker, which stops when it is dropped.
    _master: ComponentHandle,
    worker: ComponentHandle,
    gate: Gate,
    client: reqwest::Client,
    url: String,
}

/// A response.
#[derive(Debug)]
struct Answer {
    status: u16,
    headers: HeaderMap,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name).map(HeaderValue::to_str);
        value.map_or("", |value| value.unwrap())
    }

    /// Parses the document of a problem, and asserts that it is one.
    fn problem(&self) -> Value {
        assert_eq!(self.header("content-type"), "application/problem+json");
        let problem: Value = serde_json::from_str(&self.body).unwrap();
        assert_eq!(problem["status"], self.status);
        assert_eq!(problem["request_id"], self.header("x-request-id"));
        problem
    }
}

fn client() -> reqwest::ClientBuilder {
    reqwest::Client::builder().no_proxy()
}

async fn send(request: RequestBuilder) -> Response {
    soon("a response", request.send()).await.unwrap()
}

async fn send_request(request: RequestBuilder) -> Answer {
    let response = send(request).await;
    Answer {
        status: response.status().as_u16(),
        headers: response.headers().clone(),
        body: soon("the body", response.text()).await.unwrap(),
    }
}

impl Http {
    async fn new() -> Self {
        Self::with(PORT, GatewayOptions::new()).await
    }

    async fn with(listener: impl Into<Listener>, gateway: GatewayOptions) -> Self {
        let master = Master::new("master").bind(ANY).gateway(listener, gateway);
        let master = soon("the start", master.spawn()).await.unwrap();
        let url = master.address("http_address").unwrap().to_owned();
        Self::new_with(master, url, client().build().unwrap()).await
    }

    /// Starts the worker, and waits until the master knows its functions.
    async fn new_with(master: ComponentHandle, url: String, client: reqwest::Client) -> Self {
        let gate = Gate::closed();
        let hand = Hand { gate: gate.clone() }.connect(master.db_address());
        let worker = hand.concurrency(500).spawn().await.unwrap();
        let http = Self {
            _master: master,
            worker,
            gate,
            client,
            url,
        };
        soon("the worker's functions", async {
            while !send_request(http.get("openapi.json"))
                .await
                .body
                .contains("\"/shout\"")
            {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        http
    }

    fn get(&self, path: &str) -> RequestBuilder {
        self.client.get(format!("{}/{path}", self.url))
    }

    fn post(&self, path: &str, body: impl Into<Body>) -> RequestBuilder {
        self.client.post(format!("{}/{path}", self.url)).body(body)
    }

    /// Opens a connection for requests written by hand.
    async fn connect(&self) -> TcpStream {
        let address = self.url.strip_prefix("http://").unwrap();
        TcpStream::connect(address).await.unwrap()
    }

    /// Sends a request, and reads only the first bytes of its response.
    async fn unread(&self, path: &str, body: usize) -> TcpStream {
        let mut raw = self.connect().await;
        let length = body.to_string().len();
        let accept = match path {
            "pages" => "application/x-ndjson",
            _ => "*/*",
        };
        let head = format!("POST /{path} HTTP/1.1\r\nhost: localhost\r\naccept: {accept}\r\n");
        let request = format!("{head}content-length: {length}\r\n\r\n{body}");
        raw.write_all(request.as_bytes()).await.unwrap();
        let mut begin = [0; 12];
        let reading = raw.read_exact(&mut begin);
        soon("a response", reading).await.unwrap();
        assert_eq!(&begin, b"HTTP/1.1 200");
        raw
    }

    /// Asserts that another request is answered.
    async fn is_well(&self) {
        let answer = send_request(self.post("shout", "still here")).await;
        assert_eq!((answer.status, &*answer.body), (200, "STILL HERE"));
    }
}

/// Reads until `last` has arrived, and returns all that was read.
async fn read_until(stream: &mut TcpStream, last: &str) -> String {
    let mut read = Vec::new();
    let reading = async {
        while !String::from_utf8_lossy(&read).contains(last) {
            let count = stream.read_buf(&mut read).await.unwrap();
            assert!(count > 0, "closed after {}", String::from_utf8_lossy(&read));
        }
    };
    soon(&format!("`{last}`"), reading).await;
    String::from_utf8(read).unwrap()
}

/// Reads until the peer has closed the connection, and returns all that was read.
async fn read_to_end(stream: &mut TcpStream) -> String {
    let mut read = Vec::new();
    // A reset closes the connection as well.
    let _ = soon("the end of the connection", stream.read_to_end(&mut read)).await;
    String::from_utf8_lossy(&read).into_owned()
}

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

#[test]
fn bodies_heads_and_results_over_their_limits_are_rejected() {
    check(async {
        let gateway = GatewayOptions::new()
            .max_request_bytes(1000)
            .max_response_bytes(500);
        let http = Http::with(PORT, gateway).await;
        assert_eq!(
            send_request(http.post("bytes", vec![b'x'; 500]))
                .await
                .body
                .len(),
            500
        );
        let answer = send_request(http.post("bytes", vec![b'x'; 501])).await;
        assert_eq!(answer.status, 500);
        assert_eq!(
            answer.problem()["detail"],
            "the result has 501 bytes, the limit is 500"
        );
        let answer = send_request(http.post("nothing", vec![b'x'; 1000])).await;
        assert_eq!(answer.status, 204);
        let answer = send_request(http.post("nothing", vec![b'x'; 1001])).await;
        assert_eq!(answer.status, 413);
        assert_eq!(answer.problem()["limit"], 1000);
        // A body without a stated length.
        let chunks = (0..3).map(|_| Ok::<_, std::io::Error>(vec![b'x'; 400]));
        let answer =
            send_request(http.post("nothing", Body::wrap_stream(stream::iter(chunks)))).await;
        assert_eq!(answer.status, 413);
        answer.problem();

        // A stated length beyond any limit.
        let mut raw = http.connect().await;
        let head =
            "POST /nothing HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9999999999999\r\n\r\n";
        raw.write_all(head.as_bytes()).await.unwrap();
        assert!(
            read_until(&mut raw, "\r\n")
                .await
                .starts_with("HTTP/1.1 413")
        );
        let mut raw = http.connect().await;
        let head = format!(
            "GET /nothing HTTP/1.1\r\nx: {}\r\n\r\n",
            "x".repeat(100_000)
        );
        // The server may close the connection before all is written.
        let _ = raw.write_all(head.as_bytes()).await;
        assert!(read_to_end(&mut raw).await.starts_with("HTTP/1.1 431"));
        http.is_well().await;
    });
}

#[test]
fn unread_results_of_all_requests_are_limited_together() {
    check(async {
        let gateway = GatewayOptions::new().max_memory_bytes(2 * LARGE + LARGE / 2);
        let http = Http::with(PORT, gateway).await;
        let large = || http.post("large", LARGE.to_string());
        let mut unread = Vec::new();
        for _ in 0..2 {
            let mut raw = http.connect().await;
            let length = LARGE.to_string().len();
            let head = format!(
                "POST /large HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n\r\n"
            );
            raw.write_all(format!("{head}{LARGE}").as_bytes())
                .await
                .unwrap();
            let mut begin = [0; 12];
            soon("a response", raw.read_exact(&mut begin))
                .await
                .unwrap();
            assert_eq!(&begin, b"HTTP/1.1 200");
            unread.push(raw);
        }
        let answer = send_request(large()).await;
        assert_eq!(answer.status, 503);
        assert_eq!(answer.header("retry-after"), "1");
        answer.problem();
        http.is_well().await;
        // Clients that disconnect or read free memory.
        drop(unread);
        let read = async {
            loop {
                let answer = send_request(large()).await;
                if answer.status == 200 {
                    return answer.body.len();
                }
            }
        };
        assert_eq!(soon("free memory", read).await, LARGE);
        // One after another, the requests need the memory of one.
        for _ in 0..4 {
            assert_eq!(send_request(large()).await.body.len(), LARGE);
        }
    });
}

#[test]
fn client_that_stops_reading_is_disconnected_after_the_write_timeout() {
    check(async {
        let listener = Listener::new(PORT).write_timeout(seconds(1.0));
        let http = Http::with(listener, GatewayOptions::new()).await;
        let large = http.unread("large", LARGE).await;
        let pages = http.unread("pages", LARGE >> 20).await;
        for unread in [large, pages] {
            http.is_well().await;
            let reset = soon("the end of the connection", unread.ready(Interest::ERROR));
            assert!(reset.await.unwrap().is_error());
        }
        http.is_well().await;
        // A client that reads is not disconnected, however large its result is.
        let answer = send_request(http.post("large", LARGE.to_string())).await;
        assert_eq!(answer.body.len(), LARGE);
    });
}

#[test]
fn request_ends_at_its_deadline() {
    check(async {
        let end = async |request: RequestBuilder, least| {
            let begin = Instant::now();
            let answer = send_request(request).await;
            assert_eq!(answer.status, 504);
            assert!(begin.elapsed() >= seconds(least));
            answer.problem();
        };
        let http = Http::new().await;
        let brief = http.post("gated", "x").header("palm-timeout", "0.2");
        end(brief, 0.2).await;
        // The gateway's limit holds for requests without one, and for those with a longer one.
        let http = Http::with(PORT, GatewayOptions::new().timeout(seconds(1.0))).await;
        end(http.post("gated", "x"), 1.0).await;
        let long = http.post("gated", "x").header("palm-timeout", "60");
        end(long, 1.0).await;
        // The calls that no client waits for any more are cancelled.
        let running = || http.worker.metrics().function("gated").unwrap().running;
        eventually("the end of the calls", || running() == 0).await;
    });
}

#[test]
fn call_of_a_disconnected_client_is_cancelled_at_the_worker() {
    check(async {
        let http = Http::new().await;
        let request = tokio::spawn(http.post("gated", "x").send());
        http.gate.arrived(1).await;
        request.abort();
        let running = || http.worker.metrics().function("gated").unwrap().running;
        eventually("the end of the call", || running() == 0).await;
        // The same holds for a stream.
        let request = http
            .post("watch", "x")
            .header("accept", "application/x-ndjson");
        let mut lines = send(request).await.bytes_stream();
        assert_eq!(
            soon("a line", lines.next()).await.unwrap().unwrap(),
            "\"0\"\n"
        );
        http.gate.arrived(2).await;
        drop(lines);
        let running = || http.worker.metrics().function("watch").unwrap().running;
        eventually("the end of the call", || running() == 0).await;
    });
}

#[test]
fn request_waits_for_a_worker_that_connects_in_time() {
    check(async {
        let gateway = GatewayOptions::new().no_worker_timeout(seconds(10.0));
        let master = Master::new("master").bind(ANY).gateway(PORT, gateway);
        let master = soon("the start", master.spawn()).await.unwrap();
        let url = master.address("http_address").unwrap().to_owned();
        let client = client().build().unwrap();
        let request = client.post(format!("{url}/shout")).body("x");
        let waiting = tokio::spawn(send_request(request));
        let _http = Http::new_with(master, url, client).await;
        assert_eq!(soon("the answer", waiting).await.unwrap().body, "X");
    });
}

/// Returns the lines of a stream.
async fn lines(request: RequestBuilder) -> Vec<Value> {
    let answer = send_request(request.header("accept", "application/x-ndjson")).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), "application/x-ndjson");
    let lines = answer.body.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Returns the events of a stream, each with its name and its data.
async fn events(request: RequestBuilder) -> Vec<(String, String)> {
    let answer = send_request(request.header("accept", "text/event-stream")).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), "text/event-stream");
    let events = answer.body.split("\n\n").filter(|event| !event.is_empty());
    let field = |event: &str, name: &str| {
        let mut lines = event.lines();
        let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        value.unwrap_or_default().trim().to_owned()
    };
    events
        .map(|event| (field(event, "event"), field(event, "data")))
        .collect()
}

#[test]
fn many_results_are_sent_as_lines_or_events() {
    check(async {
        let http = Http::new().await;
        assert_eq!(
            lines(http.post("count", "3")).await,
            [json!(0), json!(1), json!(2)]
        );
        assert_eq!(lines(http.post("count", "0")).await, [] as [Value; 0]);
        assert_eq!(lines(http.post("count", "5000")).await.len(), 5000);
        assert_eq!(lines(http.post("shout", "x")).await, [json!("X")]);
        assert_eq!(lines(http.post("nothing", "x")).await, [] as [Value; 0]);
        let few = http.post("count", "3").header("palm-messages", "2");
        assert_eq!(lines(few).await, [json!(0), json!(1)]);
        let mixed = lines(http.post("mixed", "x")).await;
        assert_eq!(
            (&mixed[0], &mixed[2]),
            (&json!("one\ntwo"), &json!("three"))
        );
        assert_eq!(mixed[1]["problem"]["detail"], "as requested");
        assert_eq!(mixed.len(), 3);

        let event = |name: &str, data: &str| (name.to_owned(), data.to_owned());
        let counted = [event("", "0"), event("", "1"), event("end", "2")];
        assert_eq!(events(http.post("count", "2")).await, counted);
        assert_eq!(events(http.post("count", "0")).await, [event("end", "0")]);
        assert_eq!(events(http.get("nothing")).await, [event("end", "0")]);
        let shouted = [event("", "\"X\""), event("end", "1")];
        assert_eq!(events(http.post("shout", "x")).await, shouted);
        let mixed = events(http.post("mixed", "x")).await;
        let names: Vec<_> = mixed.iter().map(|(name, _)| &**name).collect();
        assert_eq!(names, ["", "problem", "", "end"]);
        assert_eq!(mixed[0].1, "\"one\\ntwo\"");
        // A stream that consists of an error, from the gateway or the worker.
        for (request, status) in [
            (http.post("rejected", "x"), 500),
            (http.post("shout", "panic"), 500),
            (http.post("count", "no number"), 400),
        ] {
            let events = events(request).await;
            let names: Vec<_> = events.iter().map(|(name, _)| &**name).collect();
            assert_eq!(names, ["problem", "end"], "{status}");
            let problem: Value = serde_json::from_str(&events[0].1).unwrap();
            assert_eq!(problem["status"], status);
        }
    });
}

#[test]
fn results_are_streamed_as_the_worker_yields_them() {
    check(async {
        let http = Http::with(PORT, GatewayOptions::new().timeout(seconds(2.0))).await;
        let watch = || http.get("watch").header("accept", "application/x-ndjson");
        let mut stream = send(watch()).await.bytes_stream();
        assert_eq!(
            soon("a line", stream.next()).await.unwrap().unwrap(),
            "\"0\"\n"
        );
        // The deadline applies to a stream as well.
        let line = soon("a line", stream.next()).await.unwrap().unwrap();
        let line: Value = serde_json::from_slice(&line).unwrap();
        assert_eq!(line["problem"]["status"], 504);
        assert!(soon("the end", stream.next()).await.is_none());

        let mut stream = send(watch()).await.bytes_stream();
        assert_eq!(
            soon("a line", stream.next()).await.unwrap().unwrap(),
            "\"0\"\n"
        );
        http.gate.open();
        assert_eq!(
            soon("a line", stream.next()).await.unwrap().unwrap(),
            "\"1\"\n"
        );
        assert!(soon("the end", stream.next()).await.is_none());
    });
}

#[test]
fn openapi_document_lists_the_functions() {
    check(async {
        let http = Http::with(PORT, GatewayOptions::new().title("Hands")).await;
        let answer = send_request(http.get("openapi.json")).await;
        assert_eq!(answer.header("content-type"), "application/json");
        let document: Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(document["openapi"], "3.1.0");
        assert_eq!(document["info"]["title"], "Hands");
        let paths = &document["paths"];
        assert_eq!(
            paths["/shout"]["post"]["summary"],
            "Returns the text in capitals."
        );
        assert!(paths["/shout"]["get"].is_object() && paths["/add"]["get"].is_null());
        let add = &paths["/add"]["post"];
        assert!(add["requestBody"]["content"]["application/json"].is_object());
        let results = &paths["/count"]["post"]["responses"]["200"]["content"];
        assert!(results["text/event-stream"].is_object());
        let put = http.client.put(format!("{}/openapi.json", http.url));
        assert_eq!(send_request(put).await.status, 405);
        let head = http.client.head(format!("{}/healthz", http.url));
        assert_eq!(send_request(head).await.status, 200);
    });
}

#[test]
fn slow_malformed_and_half_closed_connections_do_not_stop_others() {
    check(async {
        let listener = Listener::new(PORT).header_timeout(seconds(0.5));
        let http = Http::with(listener, GatewayOptions::new()).await;
        let mut connections = Vec::new();
        for begin in [
            "",
            "G",
            "GET /shout HTTP/1.1\r\nx: ",
            "POST /shout HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1\r\n\r\nx",
            "PRI * HTTP/2.0\r\n",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            "\x16\x03\x01\0\x05hello",
            "POST /shout HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nx",
            "POST /shout HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        ] {
            for _ in 0..20 {
                let mut connection = http.connect().await;
                connection.write_all(begin.as_bytes()).await.unwrap();
                connections.push(connection);
            }
        }
        http.is_well().await;
        let closed = connections.iter_mut().map(read_to_end);
        join_all(closed).await;
        http.is_well().await;

        // A connection that sends a line now and then is closed as well.
        let mut drips = http.connect().await;
        let dripping = async {
            drips.write_all(b"GET /shout HTTP/1.1\r\n").await.unwrap();
            while drips.write_all(b"x: y\r\n").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        soon("the end of the connection", dripping).await;

        // A client that closes its sending half counts as disconnected, or receives its answer.
        let mut half = http.connect().await;
        half.write_all(b"GET /gated HTTP/1.1\r\nhost: localhost\r\n\r\n")
            .await
            .unwrap();
        http.gate.arrived(1).await;
        half.shutdown().await.unwrap();
        http.gate.open();
        let answer = read_to_end(&mut half).await;
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 200"),
            "{answer}"
        );
        http.is_well().await;
    });
}

#[test]
fn connections_beyond_the_limit_wait_to_be_accepted() {
    check(async {
        let listener = Listener::new(PORT).max_connections(1);
        let master = Master::new("master").bind(ANY);
        let master = master.gateway(listener, GatewayOptions::new());
        let master = soon("the start", master.spawn()).await.unwrap();
        let url = master.address("http_address").unwrap().to_owned();
        // The client keeps no connection open, since that would count against the limit.
        let client = client().pool_max_idle_per_host(0).build().unwrap();
        let http = Http::new_with(master, url, client).await;
        let mut first = http.connect().await;
        let request = b"GET /bytes HTTP/1.1\r\nhost: localhost\r\n\r\n";
        first.write_all(request).await.unwrap();
        read_until(&mut first, "No Payload").await;
        let mut second = http.connect().await;
        second.write_all(request).await.unwrap();
        let mut nothing = [0];
        let early = tokio::time::timeout(STALLED, second.read(&mut nothing)).await;
        assert!(early.is_err(), "a second connection was served");
        drop(first);
        read_until(&mut second, "No Payload").await;
    });
}

#[test]
fn hundreds_of_concurrent_requests_are_answered() {
    check(async {
        let http = Http::new().await;
        let second = client().http2_prior_knowledge().build().unwrap();
        let requests = (0..500).map(|number: usize| {
            // HTTP/1.1 has one request on each connection, and HTTP/2 has all on one.
            let client = if number.is_multiple_of(2) {
                &http.client
            } else {
                &second
            };
            let request = client.post(format!("{}/gated", http.url));
            tokio::spawn(request.body(number.to_string()).send())
        });
        let requests: Vec<_> = requests.collect();
        http.gate.arrived(500).await;
        http.gate.open();
        for (number, request) in requests.into_iter().enumerate() {
            let response = soon("a response", request).await.unwrap().unwrap();
            let version = response.version();
            assert_eq!(version == reqwest::Version::HTTP_2, number % 2 == 1);
            assert_eq!(response.status(), 200);
            assert_eq!(response.text().await.unwrap(), number.to_string());
        }
    });
}

#[test]
fn requests_are_answered_while_workers_are_killed() {
    check(async {
        let gateway = GatewayOptions::new().timeout(seconds(3.0));
        let master = Master::new("master").bind(ANY).gateway(PORT, gateway);
        let master = soon("the start", master.spawn()).await.unwrap();
        let url = master.address("http_address").unwrap();
        let client = client().build().unwrap();
        let addresses = [("db_address", master.db_address())];
        let worker = Process::run("worker", &addresses).await;
        // Calls that never end, and calls that follow each other.
        let post = |path: &str| client.post(format!("{url}/{path}")).body("x");
        let endless = (0..20).map(|_| tokio::spawn(send_request(post("endless"))));
        let endless: Vec<_> = endless.collect();
        let (stop, stopped) = tokio::sync::watch::channel(false);
        let come = (0..20).map(|_| {
            let (stopped, echo) = (stopped.clone(), post("echo"));
            tokio::spawn(async move {
                let mut statuses = Vec::new();
                while !*stopped.borrow() {
                    // `send_request` panics without an answer.
                    let answer = send_request(echo.try_clone().unwrap()).await;
                    assert!([200, 503, 504].contains(&answer.status), "{answer:?}");
                    assert!(answer.status != 200 || answer.body == "x");
                    statuses.push(answer.status);
                }
                statuses
            })
        });
        let come: Vec<_> = come.collect();
        let pushed = || master.metrics().part("WorkerPush").unwrap().messages;
        eventually("some requests", || pushed() > 100).await;
        worker.kill();
        let worker = Process::run("worker", &addresses).await;
        let before = pushed();
        eventually("more requests", || pushed() > before + 100).await;
        worker.kill();
        stop.send_replace(true);
        for endless in endless {
            // No worker is left, or the worker was killed before it had finished.
            let status = soon("an answer", endless).await.unwrap().status;
            assert!([503, 504].contains(&status), "{status}");
        }
        for come in come {
            let statuses = soon("the answers", come).await.unwrap();
            assert!(statuses.contains(&200));
        }
        // No worker is left. Until the master has noticed, a request waits for the answer of the last worker.
        let unavailable = async { while send_request(post("echo")).await.status != 503 {} };
        soon("the loss of all workers", unavailable).await;
    });
}
