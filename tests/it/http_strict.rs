//! HTTP requests that a web page, a proxy or an attacker would send: foreign hosts and origins, ambiguous heads and
//! paths, and unwanted bodies.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::http::Request;
use axum::routing::get;
use palm::http::{GatewayOptions, Listener, serve};
use palm::parts::HttpService;
use palm::prelude::*;
use palm::{ComponentHandle, Json};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::task::AbortOnDropHandle;

use super::setup::{ANY, STALLED, check, soon, unbound_socket};

const HERE: &str = "127.0.0.1:0";
/// A header that makes the server close the connection after its response.
const LAST: &str = "GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";

struct Hand {
    calls: Arc<AtomicUsize>,
}

#[palm::worker(server = "shop")]
impl Hand {
    #[palm::method]
    fn pass(&self, payload: Bytes) -> Bytes {
        self.calls.fetch_add(1, Ordering::Relaxed);
        payload
    }

    #[palm::method]
    fn double(&self, Json(number): Json<f64>) -> Json<f64> {
        Json(number * 2.0)
    }

    #[palm::method]
    fn past(&self, text: String) -> String {
        text
    }
}

/// A master with a gateway, and a worker.
struct Shop {
    _master: ComponentHandle,
    _worker: ComponentHandle,
    at: String,
    /// The number of calls of `pass`.
    calls: Arc<AtomicUsize>,
}

impl Shop {
    async fn open() -> Self {
        Self::with(HERE, GatewayOptions::new()).await
    }

    async fn with(listener: impl Into<Listener>, gateway: GatewayOptions) -> Self {
        let master = Master::new("shop").bind(ANY).gateway(listener, gateway);
        let master = soon("the start", master.spawn()).await.unwrap();
        let calls = Arc::<AtomicUsize>::default();
        let hand = Hand {
            calls: calls.clone(),
        };
        let worker = hand.connect(master.db_address()).spawn().await.unwrap();
        let at = master.address("http_address").unwrap();
        let at = at.strip_prefix("http://").unwrap().to_owned();
        let shop = Self {
            _master: master,
            _worker: worker,
            at,
            calls,
        };
        let registered = async {
            while status(&shop.at, "POST /pass HTTP/1.1", "", "x").await != [200] {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        soon("the worker's functions", registered).await;
        shop.calls.store(0, Ordering::Relaxed);
        shop
    }
}

/// Sends `bytes`, and reads until the connection ends.
async fn exchange(at: &str, bytes: &str) -> String {
    let mut connection = TcpStream::connect(at).await.unwrap();
    // The server may close the connection before all is written.
    let _ = connection.write_all(bytes.as_bytes()).await;
    let mut read = Vec::new();
    let reading = connection.read_to_end(&mut read);
    let what = format!("the end of the connection after {bytes:?}");
    let _ = soon(&what, reading).await;
    String::from_utf8_lossy(&read).into_owned()
}

fn statuses(responses: &str) -> Vec<u16> {
    let heads = responses.split("HTTP/1.1 ").skip(1);
    heads.map(|head| head[..3].parse().unwrap()).collect()
}

/// Sends a request to a host of this machine, and returns the statuses of the responses.
async fn status(at: &str, line: &str, headers: &str, body: &str) -> Vec<u16> {
    let len = body.len();
    let head = format!("{line}\r\nhost: localhost\r\n{headers}content-length: {len}\r\n");
    let request = format!("{head}connection: close\r\n\r\n{body}");
    statuses(&exchange(at, &request).await)
}

#[test]
fn request_of_a_web_page_is_rejected_at_a_loopback_address() {
    check(async {
        let shop = Shop::open().await;
        let post = async |headers: &str| {
            let head = format!("POST /pass HTTP/1.1\r\n{headers}content-length: 4\r\n");
            let request =
                format!("{head}content-type: text/plain\r\nconnection: close\r\n\r\nboom");
            statuses(&exchange(&shop.at, &request).await)
        };
        let port = shop.at.rsplit(':').next().unwrap();
        // By DNS rebinding, the page's own name resolves to this machine.
        for host in ["evil.example", "localhost.evil.example", "10.0.0.1"] {
            let host = format!("host: {host}:{port}\r\n");
            assert_eq!(post(&host).await, [421], "{host}");
            let same = format!("{host}origin: http://evil.example:{port}\r\n");
            assert_eq!(post(&same).await, [421], "{host}");
        }
        let host = format!("host: localhost:{port}\r\n");
        for origin in ["http://evil.example", "http://localhost:1", "null"] {
            let headers = format!("{host}origin: {origin}\r\n");
            assert_eq!(post(&headers).await, [403], "{origin}");
        }
        let image = format!("{host}sec-fetch-site: cross-site\r\nsec-fetch-mode: no-cors\r\n");
        assert_eq!(post(&image).await, [403]);
        // A link to a function makes a call; a link to the health check does not.
        let link = "sec-fetch-site: cross-site\r\nsec-fetch-mode: navigate\r\n";
        assert_eq!(
            status(&shop.at, "GET /pass HTTP/1.1", link, "").await,
            [403]
        );
        assert_eq!(
            status(&shop.at, "GET /healthz HTTP/1.1", link, "").await,
            [200]
        );
        assert_eq!(shop.calls.load(Ordering::Relaxed), 0);

        let same = format!("{host}origin: http://localhost:{port}\r\n");
        for headers in [&*host, &*same, "host: 127.0.0.1\r\n", "host: [::1]:1\r\n"] {
            assert_eq!(post(headers).await, [200], "{headers}");
        }
        assert_eq!(shop.calls.load(Ordering::Relaxed), 4);
    });
}

#[test]
fn hosts_and_origins_are_accepted_if_the_listener_allows_them() {
    check(async {
        let listener = Listener::new(HERE).allowed_hosts(["Shop.example"]);
        let listener = listener.allowed_origins(["https://www.shop.example"]);
        let shop = Shop::with(listener, GatewayOptions::new()).await;
        let get = async |at: &str, headers: &str| {
            let request = format!("GET /pass HTTP/1.1\r\n{headers}connection: close\r\n\r\n");
            exchange(at, &request).await
        };
        let allowed = "host: shop.example\r\norigin: https://www.shop.example\r\n";
        assert_eq!(statuses(&get(&shop.at, allowed).await), [200]);
        let rejected = get(&shop.at, "host: other.example\r\n").await;
        assert_eq!(statuses(&rejected), [421]);
        assert!(rejected.contains("application/problem+json"), "{rejected}");
        assert!(rejected.contains("`other.example`") && rejected.contains("allowed_hosts"));
        let rejected = get(
            &shop.at,
            "host: localhost\r\norigin: https://other.example\r\n",
        )
        .await;
        assert_eq!(statuses(&rejected), [403]);
        assert!(
            rejected.contains("`https://other.example`") && rejected.contains("allowed_origins")
        );

        // The names of a gateway that other hosts can reach are not known.
        let beyond = Listener::new("0.0.0.0:0").trust_network(true);
        let other = "host: other.example\r\norigin: https://evil.example\r\n";
        let shop = Shop::with(beyond.clone(), GatewayOptions::new()).await;
        let at = shop.at.replace("0.0.0.0", "127.0.0.1");
        assert_eq!(statuses(&get(&at, other).await), [200]);
        let named = beyond
            .allowed_hosts(["localhost", "other.example"])
            .allowed_origins([""]);
        let shop = Shop::with(named, GatewayOptions::new()).await;
        let at = shop.at.replace("0.0.0.0", "127.0.0.1");
        assert_eq!(statuses(&get(&at, other).await), [403]);
        assert_eq!(statuses(&get(&at, "host: other.example\r\n").await), [200]);
        assert_eq!(statuses(&get(&at, "host: third.example\r\n").await), [421]);
    });
}

#[test]
fn every_service_at_a_loopback_address_has_its_hosts_checked() {
    check(async {
        let check = async |at: &str, allowed: u16| {
            for (host, status) in [("localhost", allowed), ("evil.example", 421)] {
                let request =
                    format!("GET / HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
                assert_eq!(statuses(&exchange(at, &request).await), [status], "{host}");
            }
        };
        let at = unbound_socket();
        let application = Router::new().route("/", get(async || "hello"));
        let serving = tokio::spawn(serve(application, at));
        let _serving = AbortOnDropHandle::new(serving);
        let at = at.to_string();
        soon("the application", async {
            while TcpStream::connect(&at).await.is_err() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        check(&at, 200).await;

        let mut template = ServerTemplate::new("shop");
        template
            .register_inbound(HttpService::bind(HERE), "Http")
            .route("Executor");
        let state = palm::callable::State::new(Hand {
            calls: Arc::default(),
        });
        template.register_outbound(palm::Executor::new(state), "Executor");
        let server = template.spawn().await.unwrap();
        let at = server.address("http_address").unwrap();
        check(at.strip_prefix("http://").unwrap(), 405).await;
    });
}

#[test]
fn head_that_can_be_read_in_two_ways_is_rejected() {
    check(async {
        let shop = Shop::open().await;
        let smuggled = "POST /pass HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1\r\n\r\nx";
        let post = "POST /double HTTP/1.1\r\nhost: localhost\r\n";
        let cases = [
            // Line ends.
            "POST /double HTTP/1.1\nhost: localhost\ncontent-length: 1\n\n1".to_owned(),
            "POST /double HTTP/1.1\r\nhost: localhost\ncontent-length: 1\r\n\r\n1".to_owned(),
            format!("{post}x: a\r\n b\r\ncontent-length: 1\r\n\r\n1"),
            format!("{post}x: a\rcontent-length: 1\r\n\r\n1"),
            format!("{post}x: a\0b\r\ncontent-length: 1\r\n\r\n1"),
            format!("{post}content-length : 1\r\n\r\n1"),
            // Lengths.
            format!("{post}content-length: 1\r\ncontent-length: 1\r\n\r\n1"),
            format!("{post}content-length: 1\r\ncontent-length: 2\r\n\r\n1"),
            format!("{post}content-length: 1, 1\r\n\r\n1"),
            format!("{post}content-length: +1\r\n\r\n1"),
            format!("{post}content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
            format!("{post}transfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n"),
            format!("{post}transfer-encoding: chunked, chunked\r\n\r\n1\r\n1\r\n0\r\n\r\n"),
            format!("{post}transfer-encoding: gzip, chunked\r\n\r\n1\r\n1\r\n0\r\n\r\n"),
            format!("{post}transfer-encoding: \x0bchunked\r\n\r\n1\r\n1\r\n0\r\n\r\n"),
            // Chunks.
            format!("{post}transfer-encoding: chunked\r\n\r\n1\n1\n0\n\n"),
            format!("{post}transfer-encoding: chunked\r\n\r\n1;x\n1\r\n0\r\n\r\n"),
            // Hosts.
            "POST /double HTTP/1.1\r\ncontent-length: 1\r\n\r\n1".to_owned(),
            format!("{post}host: localhost\r\ncontent-length: 1\r\n\r\n1"),
            format!("{post}host: 127.0.0.1\r\ncontent-length: 1\r\n\r\n1"),
            "POST /double HTTP/1.1\r\nhost: a@localhost\r\ncontent-length: 1\r\n\r\n1".to_owned(),
            "POST http://127.0.0.1/double HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1\r\n\r\n1"
                .to_owned(),
        ];
        for request in cases {
            // Another server would read the rest as a second request.
            let read = statuses(&exchange(&shop.at, &format!("{request}{smuggled}{LAST}")).await);
            assert_eq!(read.first(), Some(&400), "{request:?}");
            let is_host = request.matches("ost: ").count() != 1 || request.contains(['@', '/']);
            if !read[1..].is_empty() {
                assert!(is_host && read[1..] == [200, 200], "{request:?}: {read:?}");
                shop.calls.fetch_sub(1, Ordering::Relaxed);
            }
            assert_eq!(shop.calls.load(Ordering::Relaxed), 0, "{request:?}");
        }
        // Earlier requests of the same connection are answered.
        let request = format!("{smuggled}{smuggled}POST /pass HTTP/1.1\nhost: x\r\n\r\n{smuggled}");
        let read = statuses(&exchange(&shop.at, &request).await);
        assert_eq!(read, [200, 200, 400]);
        assert_eq!(shop.calls.load(Ordering::Relaxed), 2);

        for request in [
            format!("\r\n{post}Content-Length:\t1 \r\n\r\n1"),
            format!("{post}transfer-encoding: Chunked\r\n\r\n1;x=y\r\n1\r\n0\r\nx: y\r\n\r\n"),
            "POST http://localhost/double HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1\r\n\r\n1"
                .to_owned(),
        ] {
            let read = statuses(&exchange(&shop.at, &format!("{request}{LAST}")).await);
            assert_eq!(read, [200, 200], "{request:?}");
        }
    });
}

#[test]
fn http_2_request_with_a_foreign_or_conflicting_host_is_rejected() {
    check(async {
        let shop = Shop::open().await;
        let stream = TcpStream::connect(&shop.at).await.unwrap();
        let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
        let _connection = AbortOnDropHandle::new(tokio::spawn(connection));
        for (target, host, status) in [
            ("http://localhost/healthz", None, 200),
            ("http://localhost/healthz", Some("localhost"), 200),
            ("http://localhost/healthz", Some("127.0.0.1"), 400),
            ("http://evil.example/healthz", None, 421),
            ("http://evil.example/healthz", Some("localhost"), 400),
        ] {
            let mut request = Request::get(target);
            if let Some(host) = host {
                request = request.header("host", host);
            }
            let request = request.body(()).unwrap();
            let (response, _) = client.send_request(request, true).unwrap();
            let response = soon("a response", response).await.unwrap();
            assert_eq!(response.status(), status, "{target} {host:?}");
        }
    });
}

#[test]
fn path_that_can_be_read_in_two_ways_is_rejected() {
    check(async {
        let shop = Shop::open().await;
        for path in [
            "//pass",
            "/pass//",
            "/pass//x",
            "/./pass",
            "/../pass",
            "/pass/..",
            "/pass/../healthz",
            "/%2e%2e/pass",
            "/pass/%2E",
            "/pass%2fx",
            "/pass%5cx",
            "/pass%00",
            "/pass%0d%0a",
            "/%ff",
        ] {
            let line = format!("POST {path} HTTP/1.1");
            assert_eq!(status(&shop.at, &line, "", "x").await, [400], "{path}");
        }
        assert_eq!(shop.calls.load(Ordering::Relaxed), 0);
        for path in [
            "/pass",
            "/pass/",
            "/pass/more?x=//..",
            "/shop.pass",
            "/p%61ss",
        ] {
            let line = format!("POST {path} HTTP/1.1");
            assert_eq!(status(&shop.at, &line, "", "x").await, [200], "{path}");
        }
        // A method is rejected on any path.
        for line in ["CONNECT localhost:1 HTTP/1.1", "DELETE //pass HTTP/1.1"] {
            let request = format!("{line}\r\nhost: localhost\r\nconnection: close\r\n\r\n");
            let read = exchange(&shop.at, &request).await;
            let expected = if line.starts_with("CONNECT") {
                400
            } else {
                405
            };
            assert_eq!(statuses(&read), [expected], "{line}");
        }
    });
}

#[test]
fn gateway_sends_no_100_continue_for_a_rejected_head() {
    check(async {
        let gateway = GatewayOptions::new()
            .max_request_bytes(1000)
            .bearer_tokens(["secret"]);
        let gateway = gateway.max_memory_bytes(500);
        let master = Master::new("shop").bind(ANY).gateway(HERE, gateway);
        let master = soon("the start", master.spawn()).await.unwrap();
        let at = master.address("http_address").unwrap();
        let at = at.strip_prefix("http://").unwrap();
        // Returns the first status, and whether the connection waits for a body.
        let send_request = async |line: &str, headers: &str, len: u64| {
            let mut connection = TcpStream::connect(at).await.unwrap();
            let head =
                format!("{line} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer secret\r\n");
            let head =
                format!("{head}{headers}content-length: {len}\r\nexpect: 100-continue\r\n\r\n");
            connection.write_all(head.as_bytes()).await.unwrap();
            let mut begin = [0; 12];
            let reading = connection.read_exact(&mut begin);
            soon("a status", reading).await.unwrap();
            statuses(str::from_utf8(&begin).unwrap())[0]
        };
        assert_eq!(send_request("POST /pass", "", 1).await, 503);
        let hand = Hand {
            calls: Arc::default(),
        };
        let _worker = hand.connect(master.db_address()).spawn().await.unwrap();
        let invited = async { while send_request("POST /pass", "", 1).await != 100 {} };
        soon("a worker", invited).await;
        for (line, headers, len, expected) in [
            ("POST /pass", "", 1, 100),
            ("POST /pass", "content-type: image/png\r\n", 1, 100),
            (
                "POST /double",
                "content-type: application/json; charset=utf-8\r\n",
                1,
                100,
            ),
            ("POST /nope", "", 1, 404),
            ("POST /shop.nope", "", 1, 404),
            ("POST /", "", 1, 404),
            ("POST /pass/..", "", 1, 400),
            ("PUT /pass", "", 1, 405),
            ("POST /pass", "palm-timeout: soon\r\n", 1, 400),
            (
                "POST /pass",
                "palm-timeout: 1\r\npalm-timeout: 2\r\n",
                1,
                400,
            ),
            ("POST /pass", "authorization: Bearer secret\r\n", 1, 400),
            ("POST /pass", "", 1001, 413),
            ("POST /pass", "", u64::MAX / 2, 413),
            ("POST /pass", "", 501, 100),
            ("POST /double", "content-type: image/png\r\n", 1, 415),
            (
                "POST /double",
                "content-type: application/msgpack\r\n",
                1,
                415,
            ),
            ("POST /double", "content-encoding: gzip\r\n", 1, 415),
            ("POST /pass", "origin: http://evil.example\r\n", 1, 403),
        ] {
            let found = send_request(line, headers, len).await;
            assert_eq!(found, expected, "{line} {headers:?} {len}");
        }
        // A client that sends the body immediately still receives the answer.
        let body = "x".repeat(200_000);
        let shop = Shop::open().await;
        let read = status(&shop.at, "POST /nope HTTP/1.1", "", &body).await;
        assert_eq!(read, [404]);
    });
}

#[test]
fn gateway_sends_no_100_continue_without_memory_for_the_body() {
    check(async {
        let shop = Shop::with(HERE, GatewayOptions::new().max_memory_bytes(1000)).await;
        // Most of the body has arrived.
        let mut first = TcpStream::connect(&shop.at).await.unwrap();
        let head = "POST /pass HTTP/1.1\r\nhost: localhost\r\ncontent-length: 900\r\n";
        let begun = format!("{head}\r\n{}", "x".repeat(800));
        first.write_all(begun.as_bytes()).await.unwrap();
        let rejected = async {
            loop {
                let mut second = TcpStream::connect(&shop.at).await.unwrap();
                let request = format!("{head}expect: 100-continue\r\n\r\n");
                second.write_all(request.as_bytes()).await.unwrap();
                let mut begin = [0; 12];
                second.read_exact(&mut begin).await.unwrap();
                if &begin == b"HTTP/1.1 503" {
                    break;
                }
            }
        };
        soon("the memory being taken", rejected).await;
        let mut nothing = [0];
        let early = tokio::time::timeout(STALLED, first.read(&mut nothing)).await;
        assert!(
            early.is_err(),
            "the first one waits for the rest of its body"
        );
    });
}

#[test]
fn response_says_that_the_connection_ends_with_an_unread_body() {
    check(async {
        let gateway = GatewayOptions::new().max_request_bytes(1_000_000);
        let shop = Shop::with(HERE, gateway).await;
        // Returns the status, and whether the connection can take another request.
        let answer = async |path: &str, headers: &str, body: &str| {
            let mut connection = TcpStream::connect(&shop.at).await.unwrap();
            let head = format!("POST {path} HTTP/1.1\r\nhost: localhost\r\n{headers}\r\n{body}");
            connection.write_all(head.as_bytes()).await.unwrap();
            let mut read = String::new();
            while !read.contains("\r\n\r\n") {
                let reading = connection.read_u8();
                read.push(soon("a response", reading).await.unwrap().into());
            }
            let is_last = read.to_ascii_lowercase().contains("connection: close");
            (statuses(&read)[0], !is_last)
        };
        let body = "x".repeat(1000);
        let small = "content-length: 1000\r\n";
        let chunked = "transfer-encoding: chunked\r\n";
        for (path, headers, body, expected) in [
            ("/pass", small, &*body, (200, true)),
            ("/pass", "", "", (200, true)),
            ("/pass", chunked, "1\r\nx\r\n0\r\n\r\n", (200, true)),
            // The rest of a small body is read.
            ("/nope", small, &body, (404, true)),
            ("/nope", chunked, "1\r\nx\r\n0\r\n\r\n", (404, true)),
            ("/pass", "content-length: 2000000\r\n", &body, (413, false)),
            ("/nope", "content-length: 900000\r\n", &body, (404, false)),
            (
                "/pass",
                "origin: http://evil.example\r\ncontent-length: 900000\r\n",
                &body,
                (403, false),
            ),
        ] {
            assert_eq!(
                answer(path, headers, body).await,
                expected,
                "{path} {headers:?}"
            );
        }
    });
}

#[test]
fn small_http_2_body_is_read_before_its_request_is_rejected() {
    check(async {
        let shop = Shop::open().await;
        let stream = TcpStream::connect(&shop.at).await.unwrap();
        let (mut http, connection) = h2::client::handshake(stream).await.unwrap();
        let _connection = AbortOnDropHandle::new(tokio::spawn(connection));
        let head = Request::post(format!("http://{}/pass", shop.at)).header("palm-timeout", "0");
        let (mut response, mut body) = http.send_request(head.body(()).unwrap(), false).unwrap();
        // Otherwise the stream is reset, and some versions of curl fail while they still send.
        let early = tokio::time::timeout(STALLED, &mut response).await;
        assert!(early.is_err(), "rejected before the body has arrived");
        body.send_data("a".into(), true).unwrap();
        let response = soon("the response", response).await.unwrap();
        assert_eq!(response.status(), 504);
    });
}

#[test]
fn unknown_function_is_answered_with_the_nearest_names() {
    check(async {
        let shop = Shop::open().await;
        let problem = async |path: &str| {
            let request =
                format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
            let read = exchange(&shop.at, &request).await;
            assert_eq!(statuses(&read), [404], "{path}");
            let (_, body) = read.split_once("\r\n\r\n").unwrap();
            serde_json::from_str::<Value>(body).unwrap()
        };
        let names = |names: &[&str]| json!(names);
        let misspelt = problem("/pas").await;
        assert_eq!(misspelt["kind"], "UnknownFunction");
        let detail = "no worker has `pas`; did you mean `pass`, `past`?";
        assert_eq!(misspelt["detail"], detail);
        assert_eq!(
            misspelt["functions"],
            names(&["pass", "past", "echo", "double"])
        );
        let other = problem("/shop.doubel").await;
        assert_eq!(other["functions"][0], "double");
        let none = problem("/").await;
        assert_eq!(none["functions"].as_array().unwrap().len(), 4);
    });
}
