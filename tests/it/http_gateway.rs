//! HTTP in front of a master.

use std::time::Duration;

use axum::Router;
use axum::http::HeaderValue;
use axum::middleware::map_response;
use futures_util::StreamExt as _;
use futures_util::future::join_all;
use palm::http::{Gateway, GatewayOptions, Listener};
use palm::middleware::{CallRequest, Next, from_fn};
use palm::prelude::*;
use palm::{CallFailure, ComponentHandle, FailureKind, Json};
use reqwest::{Client as Http, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::setup::{ANY, Gate, chain, check, connect, soon};

const HERE: &str = "127.0.0.1:0";

struct Hands {
    gate: Gate,
}

#[palm::worker(server = "shop")]
impl Hands {
    /// Returns the text in capitals.
    #[palm::method]
    fn shout(&self, text: String) -> Result<String, &'static str> {
        match text.as_str() {
            "bad" => Err("there is nothing to shout"),
            "panic" => panic!("as requested"),
            _ => Ok(text.to_uppercase()),
        }
    }

    #[palm::method]
    fn bytes(&self, bytes: Bytes) -> Bytes {
        bytes
    }

    #[palm::method]
    fn double(&self, Json(number): Json<f64>) -> Json<f64> {
        Json(number * 2.0)
    }

    #[palm::method]
    fn nothing(&self) {}

    #[palm::method]
    fn words(&self, text: String) -> impl Iterator<Item = Result<String, String>> + use<> {
        let words: Vec<_> = text.split_whitespace().map(str::to_owned).collect();
        words.into_iter().map(|word| match word.as_str() {
            "bad" => Err("a bad word".to_owned()),
            _ => Ok(word),
        })
    }

    #[palm::method]
    async fn wait(&self, text: String) -> String {
        self.gate.pass().await;
        text
    }

    #[palm::method]
    fn traced(&self, context: Context) -> String {
        let trace = context.message().trace().unwrap_or_default();
        format!("{} {} {}", trace.parent, trace.state, trace.request_id)
    }
}

/// A master behind HTTP, and its worker.
struct Shop {
    master: ComponentHandle,
    worker: ComponentHandle,
    gate: Gate,
    url: String,
    http: Http,
}

impl Shop {
    async fn open() -> Self {
        Self::with(HERE, GatewayOptions::new()).await
    }

    async fn with(listener: impl Into<Listener>, gateway: GatewayOptions) -> Self {
        let master = Master::new("shop").bind(ANY).gateway(listener, gateway);
        let master = master.spawn().await.unwrap();
        let gate = Gate::closed();
        let hands = Hands { gate: gate.clone() };
        let worker = hands.connect(master.db_address()).concurrency(64);
        let worker = worker.spawn().await.unwrap();
        let shop = Self {
            url: master.address("http_address").unwrap().to_owned(),
            http: Http::new(),
            master,
            worker,
            gate,
        };
        // From here on the master knows the functions of the worker.
        let known = async {
            let names = async || {
                get(shop.get("openapi.json"))
                    .await
                    .json::<Value>()
                    .await
                    .unwrap()
            };
            while names().await["paths"]["/words"].is_null() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        soon("the worker's offer", known).await;
        shop
    }

    fn get(&self, path: &str) -> RequestBuilder {
        self.http.get(format!("{}/{path}", self.url))
    }

    fn post(&self, path: &str, body: impl Into<reqwest::Body>) -> RequestBuilder {
        self.http.post(format!("{}/{path}", self.url)).body(body)
    }

    async fn close(self) {
        self.master.shutdown().await.unwrap();
        self.worker.shutdown().await.unwrap();
    }

    /// Opens a connection, for requests that no HTTP client sends.
    async fn raw(&self) -> TcpStream {
        let address = self.url.strip_prefix("http://").unwrap();
        TcpStream::connect(address).await.unwrap()
    }
}

async fn get(request: RequestBuilder) -> Response {
    soon("a response", request.send()).await.unwrap()
}

async fn check_response(request: RequestBuilder, status: u16, media_type: &str, body: &[u8]) {
    let response = get(request).await;
    assert_eq!(response.status(), status);
    assert_eq!(header(&response, "content-type"), media_type);
    assert_eq!(response.bytes().await.unwrap(), body);
}

/// Parses the document of a problem.
async fn problem(request: RequestBuilder, status: u16) -> Value {
    let response = get(request).await;
    assert_eq!(response.status(), status);
    assert_eq!(
        header(&response, "content-type"),
        "application/problem+json"
    );
    let problem: Value = response.json().await.unwrap();
    assert_eq!(problem["status"], status);
    problem
}

fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response
        .headers()
        .get(name)
        .map_or("", |value| value.to_str().unwrap())
}

const TEXT: &str = "text/plain; charset=utf-8";
const BYTES: &str = "application/octet-stream";

#[test]
fn path_names_the_function_and_the_body_is_its_payload() {
    check(async {
        let shop = Shop::open().await;
        check_response(shop.post("shout", "loud"), 200, TEXT, b"LOUD").await;
        check_response(shop.post("shop.shout", "loud"), 200, TEXT, b"LOUD").await;
        check_response(shop.post("shout/and/more?even=this", "x"), 200, TEXT, b"X").await;
        check_response(shop.post("sh%6Fut", "x"), 200, TEXT, b"X").await;
        // As with pylm, GET is like POST, and a missing body differs from an empty one.
        check_response(shop.get("shout"), 200, TEXT, b"NO PAYLOAD").await;
        check_response(shop.get("shout").body("x"), 200, TEXT, b"X").await;
        let empty = shop.post("bytes", "").header("content-length", 0);
        check_response(empty, 200, BYTES, b"").await;
        check_response(
            shop.post("bytes", vec![0xff; 1 << 20]),
            200,
            BYTES,
            &vec![0xff; 1 << 20],
        )
        .await;
        check_response(shop.post("double", "1.5"), 200, "application/json", b"3.0").await;
        check_response(shop.post("nothing", ""), 204, "", b"").await;
        shop.close().await;
    });
}

#[test]
fn request_that_cannot_be_answered_returns_a_problem_with_its_status() {
    check(async {
        let gateway = GatewayOptions::new()
            .max_request_bytes(1000)
            .max_response_bytes(100);
        let shop = Shop::with(HERE, gateway).await;
        let unknown = problem(shop.post("shut", "x"), 404).await;
        let functions = [
            "bytes", "double", "echo", "nothing", "shout", "traced", "wait", "words",
        ];
        let mut listed: Vec<_> = unknown["functions"].as_array().unwrap().clone();
        assert_eq!(listed[0], "shout", "the nearest one");
        listed.sort_by_key(Value::to_string);
        assert_eq!(json!(listed), json!(functions));
        problem(shop.get(""), 404).await;
        problem(shop.post("a.b.c", "x"), 404).await;

        let failed = problem(shop.post("shout", "bad"), 500).await;
        assert_eq!(failed["detail"], "there is nothing to shout");
        assert_eq!(
            (&failed["kind"], &failed["function"]),
            (&json!("Failed"), &json!("_.shout"))
        );
        assert_eq!(
            problem(shop.post("shout", "panic"), 500).await["detail"],
            "as requested"
        );
        problem(shop.post("shout", vec![0xff]), 400).await;
        problem(shop.post("double", "two"), 400).await;
        problem(shop.post("bytes", vec![0; 1001]), 413).await;
        // The server reads the whole body, since a write to the closed connection would hide the answer.
        let chunks =
            futures_util::stream::iter((0..21).map(|_| Ok::<_, std::io::Error>(vec![0; 50])));
        let chunks = chunks.chain(futures_util::stream::pending());
        let chunked = reqwest::Body::wrap_stream(chunks);
        problem(shop.post("bytes", chunked), 413).await;
        let large = problem(shop.post("bytes", vec![0; 101]), 500).await;
        assert_eq!(
            large["detail"],
            "the result has 101 bytes, the limit is 100"
        );
        for timeout in ["soon", "-1", "nan"] {
            problem(shop.get("shout").header("palm-timeout", timeout), 400).await;
        }
        let deleted = shop.http.delete(format!("{}/shout", shop.url));
        let rejected = get(deleted).await;
        assert_eq!(
            (rejected.status().as_u16(), header(&rejected, "allow")),
            (405, "GET, POST")
        );
        // The function cannot decode the payload of a GET.
        let rejected = get(shop.get("double")).await;
        assert_eq!(
            (rejected.status().as_u16(), header(&rejected, "allow")),
            (405, "POST")
        );
        check_response(shop.post("shout", "still here"), 200, TEXT, b"STILL HERE").await;
        shop.close().await;
    });
}

#[test]
fn request_that_exceeds_the_timeout_returns_504_and_is_cancelled() {
    check(async {
        let gateway = GatewayOptions::new().timeout(Duration::from_millis(300));
        let shop = Shop::with(HERE, gateway).await;
        problem(shop.post("wait", "x"), 504).await;
        let brief = shop.post("wait", "x").header("palm-timeout", "0.05");
        let late = problem(brief, 504).await;
        // The gateway returns the error, or the worker, which knows the deadline too.
        assert!(
            late["detail"] == "no answer within 50ms" || late["kind"] == "DeadlineExceeded",
            "{late}"
        );
        // A longer timeout than that of the gateway has no effect.
        problem(shop.post("wait", "x").header("palm-timeout", "100"), 504).await;
        shop.gate.open();
        // On a busy machine an answer may take longer than the timeout.
        let answered =
            async { while get(shop.post("wait", "x")).await.status() != StatusCode::OK {} };
        soon("an answer", answered).await;
        shop.close().await;
    });
}

#[test]
fn request_without_a_worker_returns_503_after_the_no_worker_timeout() {
    check(async {
        // A task that is sent to a worker at the moment of its end is lost with it.
        let gateway = GatewayOptions::new().no_worker_timeout(Duration::from_millis(100));
        let gateway = gateway.timeout(Duration::from_secs(1));
        let master = Master::new("shop").bind(ANY).gateway(HERE, gateway);
        let master = master.spawn().await.unwrap();
        let url = master.address("http_address").unwrap();
        let http = Http::new();
        let request = || http.get(format!("{url}/shout"));
        assert_eq!(
            problem(request(), 503).await["detail"],
            "no worker is connected"
        );
        assert_eq!(header(&get(request()).await, "retry-after"), "1");
        let health: Value = get(http.get(format!("{url}/healthz")))
            .await
            .json()
            .await
            .unwrap();
        assert_eq!(
            health,
            json!({ "component": "shop", "status": "pass", "workers": false })
        );

        let hands = Hands {
            gate: Gate::closed(),
        };
        let worker = hands.connect(master.db_address()).spawn().await.unwrap();
        let served = async { while get(request()).await.status() != StatusCode::OK {} };
        soon("a worker", served).await;
        worker.shutdown().await.unwrap();
        let rejected = async { while get(request()).await.status() == StatusCode::OK {} };
        soon("the worker's end", rejected).await;
        master.shutdown().await.unwrap();
    });
}

#[test]
fn results_of_a_function_with_many_are_streamed_in_order() {
    check(async {
        let shop = Shop::open().await;
        let lines = |text: &'static str| {
            shop.post("words", text)
                .header("accept", "application/x-ndjson")
        };
        let ndjson = "application/x-ndjson";
        check_response(lines("a b"), 200, ndjson, b"\"a\"\n\"b\"\n").await;
        check_response(lines(" "), 200, ndjson, b"").await;
        // Without a request for a stream, the response is the first result.
        check_response(shop.post("words", "a b"), 200, TEXT, b"a").await;
        check_response(shop.post("words", " "), 204, "", b"").await;
        // An error appears in order among the results.
        let response = get(lines("a bad b")).await.text().await.unwrap();
        let response: Vec<Value> = response
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!((&response[0], &response[2]), (&json!("a"), &json!("b")));
        assert_eq!(response[1]["problem"]["detail"], "a bad word");
        assert_eq!(response.len(), 3);
        // The client may request fewer results than there are.
        let two = lines("a b c").header("palm-messages", "2");
        check_response(two, 200, ndjson, b"\"a\"\n\"b\"\n").await;

        let events = shop
            .post("words", "a b")
            .header("accept", "text/event-stream");
        let expected = b"data: \"a\"\n\ndata: \"b\"\n\nevent: end\ndata: 2\n\n";
        check_response(events, 200, "text/event-stream", expected).await;
        // The stream of a function with one result has one line.
        let one = shop
            .post("double", "2")
            .header("accept", "application/jsonl");
        check_response(one, 200, ndjson, b"4.0\n").await;
        let bytes = shop.post("bytes", vec![0xff]).header("accept", ndjson);
        check_response(bytes, 200, ndjson, b"{\"base64\":\"/w==\"}\n").await;
        let none = shop.post("nothing", "").header("accept", ndjson);
        check_response(none, 200, ndjson, b"").await;
        // A stream that takes too long ends with a problem.
        let late = shop
            .post("wait", "x")
            .header("accept", ndjson)
            .header("palm-timeout", "0.1");
        let late = get(late).await.text().await.unwrap();
        assert_eq!(
            serde_json::from_str::<Value>(&late).unwrap()["problem"]["status"],
            504
        );
        shop.close().await;
    });
}

#[test]
fn trace_and_bearer_token_of_requests_are_read() {
    check(async {
        let shop = Shop::with(HERE, GatewayOptions::new()).await;
        let traced = shop.get("traced");
        let traced = traced
            .header("traceparent", "00-1-2-01")
            .header("tracestate", "a=b");
        let traced = get(traced.header("x-request-id", "mine")).await;
        assert_eq!(header(&traced, "x-request-id"), "mine");
        assert_eq!(traced.text().await.unwrap(), "00-1-2-01 a=b mine");
        assert_eq!(
            header(&get(shop.get("traced")).await, "x-request-id").len(),
            36
        );
        shop.close().await;

        let gateway = GatewayOptions::new().bearer_tokens(["one", "two"]);
        let master = Master::new("shop").bind(ANY).gateway(HERE, gateway);
        let master = master.spawn().await.unwrap();
        let _worker = Hands {
            gate: Gate::closed(),
        }
        .connect(master.db_address())
        .spawn()
        .await
        .unwrap();
        let (url, http) = (master.address("http_address").unwrap(), Http::new());
        let request = || http.get(format!("{url}/shout"));
        for token in ["", "on", "three", "one2"] {
            problem(request().bearer_auth(token), 401).await;
        }
        let rejected = get(request()).await;
        assert_eq!(
            (
                rejected.status().as_u16(),
                header(&rejected, "www-authenticate")
            ),
            (401, "Bearer")
        );
        for token in ["one", "two"] {
            assert_eq!(get(request().bearer_auth(token)).await.status(), 200);
        }
        assert_eq!(get(http.get(format!("{url}/healthz"))).await.status(), 200);
        assert_eq!(
            get(http.get(format!("{url}/openapi.json"))).await.status(),
            401
        );
        master.shutdown().await.unwrap();
    });
}

#[test]
fn layers_of_workers_check_headers_of_requests() {
    check(async {
        let gateway = GatewayOptions::new().call_headers(["Authorization", "x-tenant"]);
        let master = Master::new("shop").bind(ANY).gateway(HERE, gateway);
        let master = master.spawn().await.unwrap();
        let hands = Hands {
            gate: Gate::closed(),
        };
        let only_of_blue = async |call: CallRequest, next: Next| {
            let headers = call.headers();
            let of = ["authorization", "x-tenant", "x-other"].map(|name| headers.get(name));
            match of {
                [Some("Bearer one"), Some("blue"), None] => next.run(call).await,
                _ => {
                    let failure = format!("not allowed: {of:?}");
                    Err(CallFailure::new(
                        FailureKind::PermissionDenied,
                        failure.into(),
                    ))
                }
            }
        };
        let layer = from_fn(only_of_blue);
        let worker = hands.connect(master.db_address()).layer(layer);
        let _worker = worker.spawn().await.unwrap();
        let (url, http) = (master.address("http_address").unwrap(), Http::new());
        let request = || http.post(format!("{url}/shout")).body("quiet");
        let of = |tenant: &str| {
            let request = request().bearer_auth("one").header("x-other", "ignored");
            request.header("X-Tenant", tenant.to_owned())
        };
        // Its media type depends on whether the master has registered the function yet.
        let response = get(of("blue")).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.text().await.unwrap(), "QUIET");
        problem(of("red"), 403).await;
        problem(request(), 403).await;
        let twice = problem(of("blue").header("x-tenant", "red"), 400).await;
        let detail = twice["detail"].as_str().unwrap();
        assert!(detail.contains("`x-tenant` more than once"), "{detail}");
        master.shutdown().await.unwrap();

        let gateway = GatewayOptions::new().call_headers(["x tenant"]);
        let master = Master::new("shop").bind(ANY).gateway(HERE, gateway);
        let error = master.spawn().await.unwrap_err();
        let text = chain(&error);
        assert!(
            text.contains("`x tenant`, in `call_headers` of the gateway"),
            "{text}"
        );
    });
}

#[test]
fn gateway_is_mounted_in_an_application() {
    check(async {
        let gateway = Gateway::new();
        let master = Master::new("shop").bind(ANY).mounted_gateway(&gateway);
        let master = master.spawn().await.unwrap();
        let _worker = Hands {
            gate: Gate::closed(),
        }
        .connect(master.db_address())
        .spawn()
        .await
        .unwrap();
        let application =
            Router::new()
                .nest_service("/api", gateway.service())
                .layer(map_response(
                    async |mut response: axum::response::Response| {
                        response
                            .headers_mut()
                            .insert("x-layer", HeaderValue::from_static("mine"));
                        response
                    },
                ));
        let listener = tokio::net::TcpListener::bind(HERE).await.unwrap();
        let at = listener.local_addr().unwrap();
        drop(listener);
        let _serving = tokio::spawn(palm::http::serve(application, at));
        let http = Http::new();
        let response = async {
            loop {
                // No event reports that the server listens.
                if let Ok(response) = http
                    .post(format!("http://{at}/api/shout"))
                    .body("x")
                    .send()
                    .await
                {
                    return response;
                }
            }
        };
        let response = soon("a response", response).await;
        assert_eq!(header(&response, "x-layer"), "mine");
        assert_eq!(response.text().await.unwrap(), "X");
        master.shutdown().await.unwrap();
    });
}

#[test]
fn zeromq_and_http_clients_share_the_workers() {
    check(async {
        let shop = Shop::open().await;
        let client = connect("shop", &shop.master).await;
        let by_http = (0..300).map(|number| {
            let request = shop.post("shout", format!("h{number}"));
            async move { (number, get(request).await.text().await.unwrap()) }
        });
        let by_zeromq = (0..300).map(|number| {
            let call = client.eval(Hands::SHOUT, format!("z{number}"));
            async move { (number, call.await.unwrap()) }
        });
        let (by_http, by_zeromq) = tokio::join!(join_all(by_http), join_all(by_zeromq));
        assert!(
            by_http
                .iter()
                .all(|(number, answer)| *answer == format!("H{number}"))
        );
        assert!(
            by_zeromq
                .iter()
                .all(|(number, answer)| *answer == format!("Z{number}"))
        );
        shop.close().await;
    });
}

#[test]
fn http_2_is_served_at_the_same_port() {
    check(async {
        let shop = Shop::open().await;
        let http = Http::builder().http2_prior_knowledge().build().unwrap();
        let requests = (0..200).map(|number| {
            let request = http
                .post(format!("{}/shout", shop.url))
                .body(format!("a{number}"));
            async move { (number, get(request).await) }
        });
        for (number, response) in join_all(requests).await {
            assert_eq!(response.version(), reqwest::Version::HTTP_2);
            assert_eq!(response.text().await.unwrap(), format!("A{number}"));
        }
        shop.close().await;
    });
}

/// Reads until `count` responses have arrived, all with this body.
async fn expect_responses(stream: &mut TcpStream, body: &str, count: usize) {
    let mut received = String::new();
    let read = async {
        while received.matches(body).count() < count {
            let mut bytes = [0; 4096];
            let len = stream.read(&mut bytes).await.unwrap();
            assert_ne!(len, 0, "closed after {received}");
            received.push_str(str::from_utf8(&bytes[..len]).unwrap());
        }
    };
    soon("the responses", read).await;
    assert_eq!(received.matches("HTTP/1.1 200 OK").count(), count);
}

#[test]
fn malformed_and_stalled_requests_do_not_stop_others() {
    check(async {
        // Long enough for a busy machine to send a head.
        let listener = Listener::new(HERE).header_timeout(Duration::from_secs(2));
        let mut shop = Shop::with(listener, GatewayOptions::new()).await;
        // A connection that is kept could be closed as idle just when it is used again.
        shop.http = Http::builder().pool_max_idle_per_host(0).build().unwrap();
        let one = "POST /shout HTTP/1.1\r\nhost: localhost\r\ncontent-length: 3\r\n\r\nabc";
        // Kept alive, and pipelined.
        let mut pipelined = shop.raw().await;
        for count in [1, 20, 1] {
            pipelined
                .write_all(one.repeat(count).as_bytes())
                .await
                .unwrap();
            expect_responses(&mut pipelined, "ABC", count).await;
        }
        // Heads that never begin or end.
        let mut slow = Vec::new();
        for begun in [
            "",
            "P",
            "POST /shout HTTP/1.1\r\nhost:",
            "PRI * HTTP/2.0\r\n",
        ] {
            let mut stream = shop.raw().await;
            stream.write_all(begun.as_bytes()).await.unwrap();
            slow.push(stream);
        }
        // The second half of a body never arrives.
        let mut half = shop.raw().await;
        let head = "POST /shout HTTP/1.1\r\nhost: localhost\r\npalm-timeout: 0.2\r\ncontent-length: 10\r\n\r\nabc";
        half.write_all(head.as_bytes()).await.unwrap();
        let mut gone = shop.raw().await;
        gone.write_all(head.as_bytes()).await.unwrap();
        gone.shutdown().await.unwrap();
        let mut noise = shop.raw().await;
        noise.write_all(&[0xff; 1000]).await.unwrap();
        let mut long = shop.raw().await;
        // The server may close the connection before all is written.
        let _ = long
            .write_all(format!("GET /{}", "a".repeat(1 << 20)).as_bytes())
            .await;

        check_response(shop.post("shout", "x"), 200, TEXT, b"X").await;
        for mut stream in slow.into_iter().chain([gone, noise]) {
            let mut rest = Vec::new();
            // A reset ends the connection as well.
            let _ = soon("the end of the connection", stream.read_to_end(&mut rest)).await;
            assert!(!rest.starts_with(b"HTTP/1.1 200"));
        }
        let mut answer = [0; 12];
        soon("a rejection", half.read_exact(&mut answer))
            .await
            .unwrap();
        assert_eq!(answer, *b"HTTP/1.1 408");
        check_response(shop.post("shout", "x"), 200, TEXT, b"X").await;
        shop.close().await;
    });
}

#[test]
fn request_of_a_disconnected_client_is_cancelled() {
    check(async {
        let shop = Shop::open().await;
        let request = tokio::spawn(shop.post("wait", "x").send());
        shop.gate.arrived(1).await;
        request.abort();
        let running = || shop.worker.metrics().function("wait").unwrap().running;
        super::setup::eventually("the method is dropped", || running() == 0).await;
        shop.close().await;
    });
}

#[test]
fn shutdown_finishes_requests_under_way() {
    check(async {
        let shop = Shop::open().await;
        let request = tokio::spawn(shop.post("wait", "x").send());
        shop.gate.arrived(1).await;
        let mut idle = shop.raw().await;
        let master = shop.master;
        let stopping = tokio::spawn(master.shutdown());
        // A connection without a request is closed at once.
        let mut nothing = Vec::new();
        let _ = soon("the end of the connection", idle.read_to_end(&mut nothing)).await;
        shop.gate.open();
        let response = soon("a response", request).await.unwrap().unwrap();
        assert_eq!(response.text().await.unwrap(), "x");
        soon("the end", stopping).await.unwrap().unwrap();
        shop.worker.shutdown().await.unwrap();
    });
}

#[test]
fn result_of_an_earlier_step_is_not_used_as_the_response() {
    check(async {
        let shop = Shop::open().await;
        // A master answers HTTP requests itself.
        let request = shop.post("shop.shout%20other.more", "abc");
        let problem = problem(request, 502).await;
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains("step 1, `shop.shout`"), "{detail}");
        shop.close().await;
    });
}
