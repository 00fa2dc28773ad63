//! Workers behind HTTP, and the parts that post to them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::serve::ListenerExt as _;
use futures_util::StreamExt;
use futures_util::future::join_all;
use palm::parts::{
    CacheService, HttpConnection, HttpService, PubService, PullService, PushPullService, Retry,
};
use palm::prelude::*;
use palm::socket::Pull;
use palm::{CallError, ComponentHandle, FailureKind, RemoteError};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;
use tower::ServiceExt as _;

use super::setup::{
    ANY, Gate, STALLED, address, check, check_on, connect, options, soon, unbound_socket,
};

const HERE: &str = "127.0.0.1:0";

struct Hands {
    gate: Gate,
}

#[palm::http_worker(server = "shop")]
impl Hands {
    #[palm::method]
    fn shout(&self, text: String) -> Result<String, &'static str> {
        match text.as_str() {
            "" => Err("there is nothing to shout"),
            _ => Ok(text.to_uppercase()),
        }
    }

    #[palm::method]
    fn nothing(&self) {}

    #[palm::method]
    async fn wait(&self, text: String) -> String {
        self.gate.pass().await;
        text
    }
}

/// A worker of the same name whose function has many results.
struct Many;

#[palm::worker(server = "shop")]
impl Many {
    #[palm::method]
    fn many(&self) -> impl Iterator<Item = String> + use<> {
        std::iter::empty()
    }
}

/// A server of an application, which stops when it is dropped.
async fn serve(application: Router) -> (AbortOnDropHandle<()>, String) {
    let listener = TcpListener::bind(HERE).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let serving = async move { axum::serve(listener, application).await.unwrap() };
    (AbortOnDropHandle::new(tokio::spawn(serving)), url)
}

async fn serve_hands() -> (AbortOnDropHandle<()>, String, Gate) {
    let gate = Gate::closed();
    let worker = Hands { gate: gate.clone() }.into_service().concurrency(100);
    let (serving, url) = serve(Router::new().fallback_service(worker)).await;
    (serving, url, gate)
}

/// Options that retry often, and without delay.
fn quick(attempts: usize) -> Retry {
    Retry::new()
        .attempts(attempts)
        .initial_delay(Duration::from_millis(5))
        .max_delay(Duration::from_millis(20))
}

/// Starts a master whose workers are at a URL.
async fn master(workers: HttpConnection) -> (ComponentHandle, Client) {
    let mut template = ServerTemplate::new("shop");
    template
        .register_inbound(PullService::bind(ANY), "Pull")
        .route("Http");
    template.register_outbound(workers, "Http").route("Pub");
    template.register_outbound(PubService::bind(ANY), "Pub");
    template.register_bypass(CacheService::bind(ANY), "Cache");
    let master = template.spawn().await.unwrap();
    let client = connect("shop", &master).await;
    (master, client)
}

async fn fail(client: &Client, payload: &'static str) -> RemoteError {
    let call = client
        .eval(Hands::SHOUT, payload)
        .timeout(Duration::from_secs(15));
    match soon("an error", call.into_future()).await {
        Err(CallError::Remote(error)) => error,
        other => panic!("{other:?} instead of an error"),
    }
}

async fn answer(worker: &palm::http::HttpWorker<Hands>, method: &str, body: Bytes) -> (u16, Bytes) {
    let request = Request::builder()
        .method(method)
        .body(Body::from(body))
        .unwrap();
    let response = worker.clone().oneshot(request).await.unwrap();
    let status = response.status().as_u16();
    (
        status,
        axum::body::to_bytes(Body::new(response.into_body()), 1 << 20)
            .await
            .unwrap(),
    )
}

#[test]
fn http_worker_receives_and_returns_the_message() {
    check(async {
        let worker = Hands {
            gate: Gate::closed(),
        }
        .into_service();
        let mut message = Message::new("whoever.shout", "loud");
        message.set_client("me");
        message.set_cache("id");
        let (status, body) = answer(&worker, "POST", message.encode()).await;
        assert_eq!(
            (status, Message::decode(body).unwrap()),
            (200, message.with_payload("LOUD"))
        );

        let failing = Message::new("whoever.shout", "").encode();
        let (status, body) = answer(&worker, "POST", failing).await;
        let failed = Message::decode(body).unwrap();
        assert_eq!((status, &failed.payload()[..]), (500, &b"0"[..]));
        assert_eq!(failed.error().unwrap().message, "there is nothing to shout");
        let unknown = Message::new("whoever.whatever", "").encode();
        assert_eq!(answer(&worker, "POST", unknown).await.0, 500);
        let nothing = Message::new("whoever.nothing", "").encode();
        assert_eq!(
            answer(&worker, "POST", nothing.clone()).await,
            (204, Bytes::new())
        );
        assert_eq!(answer(&worker, "POST", "\u{ff}".into()).await.0, 400);
        assert_eq!(answer(&worker, "PUT", nothing).await.0, 405);

        let many = palm::http::HttpWorker::new(Many);
        let message = Message::new("shop.many", "").encode();
        let request = Request::post("/").body(Body::from(message)).unwrap();
        assert_eq!(many.oneshot(request).await.unwrap().status(), 500);
    });
}

#[test]
fn at_most_max_workers_requests_are_under_way() {
    check(async {
        let (_serving, url, gate) = serve_hands().await;
        let (master, client) = master(HttpConnection::connect(url).max_workers(40)).await;
        let texts = (0..100).map(|number| number.to_string());
        let answers = client
            .job(Hands::WAIT, texts)
            .expect_answers(100)
            .collect::<Vec<_>>();
        let open = async {
            gate.arrived(40).await;
            // No event says that nothing more arrives.
            tokio::time::sleep(super::setup::STALLED).await;
            assert_eq!(gate.count(), 40);
            gate.open();
        };
        let (answers, ()) = soon("the answers", async { tokio::join!(answers, open) }).await;
        let mut numbers: Vec<usize> = answers
            .into_iter()
            .map(|answer| answer.unwrap().parse().unwrap())
            .collect();
        numbers.sort();
        assert!(numbers.into_iter().eq(0..100));
        master.shutdown().await.unwrap();
    });
}

#[test]
fn error_text_of_an_http_worker_reaches_the_caller() {
    check(async {
        let (_serving, url, _) = serve_hands().await;
        let (master, client) = master(HttpConnection::connect(url)).await;
        assert_eq!(client.eval(Hands::SHOUT, "x").await.unwrap(), "X");
        let error = fail(&client, "").await;
        assert_eq!(
            (error.kind, &*error.component),
            (FailureKind::Failed, "shop")
        );
        assert_eq!(error.message, "there is nothing to shout");
        master.shutdown().await.unwrap();
    });
}

/// Starts an application that answers every POST in the same way, and counts them.
async fn foreign(
    respond: impl Fn(usize) -> Response + Clone + Send + Sync + 'static,
) -> (AbortOnDropHandle<()>, String, Arc<AtomicUsize>) {
    let count = Arc::<AtomicUsize>::default();
    let counted = count.clone();
    let respond = post(move || {
        let response = respond(counted.fetch_add(1, Ordering::SeqCst));
        async move { response }
    });
    let (serving, url) = serve(Router::new().fallback_service(respond)).await;
    (serving, url, count)
}

#[test]
fn malformed_response_of_an_http_worker_is_an_error() {
    check(async {
        for (status, body) in [
            (500, ""),
            (200, "garbage"),
            (200, ""),
            (302, ""),
            (404, "not found"),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            let (_serving, url, count) = foreign(move |_| (status, body).into_response()).await;
            let (master, client) = master(HttpConnection::connect(url).retry(quick(5))).await;
            let error = fail(&client, "mine").await;
            assert_eq!(
                (error.kind, &*error.component),
                (FailureKind::Failed, "shop"),
                "{status} {body}"
            );
            assert_eq!(
                count.load(Ordering::SeqCst),
                1,
                "it may have been carried out"
            );
            master.shutdown().await.unwrap();
        }
    });
}

#[test]
fn http_worker_cannot_redirect_its_answer_to_another_client() {
    check(async {
        let mut stolen = Message::new("any.thing", "stolen");
        stolen.set_client("another client");
        let stolen = stolen.encode();
        let (_serving, url, _) = foreign(move |_| stolen.clone().into_response()).await;
        let (master, client) = master(HttpConnection::connect(url)).await;
        assert_eq!(client.eval(Hands::SHOUT, "x").await.unwrap(), "stolen");
        master.shutdown().await.unwrap();
    });
}

#[test]
fn connection_to_an_http_worker_is_reused() {
    // On one thread a connection returns to the pool before the caller receives its answer.
    check_on(&mut tokio::runtime::Builder::new_current_thread(), async {
        let accepted = Arc::<AtomicUsize>::default();
        let counted = accepted.clone();
        let listener = TcpListener::bind(HERE).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let listener = listener.tap_io(move |_| {
            counted.fetch_add(1, Ordering::SeqCst);
        });
        let gate = Gate::closed();
        let worker = Router::new().fallback_service(Hands { gate }.into_service());
        let serving = async move { axum::serve(listener, worker).await.unwrap() };
        let _serving = AbortOnDropHandle::new(tokio::spawn(serving));

        let (master, client) = master(HttpConnection::connect(url)).await;
        for number in 0..100 {
            let call = client.eval(Hands::SHOUT, format!("x{number}"));
            let answer = soon("an answer", call.into_future()).await.unwrap();
            assert_eq!(answer, format!("X{number}"));
        }
        assert_eq!(accepted.load(Ordering::SeqCst), 1);
        master.shutdown().await.unwrap();
    });
}

/// Reads the body of the next request of a connection; `None` at its end.
async fn posted(connection: &mut BufStream<TcpStream>) -> Option<Vec<u8>> {
    let mut length = 0;
    loop {
        let mut line = String::new();
        if connection.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        match line.trim_end().split_once(": ") {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                length = value.parse().unwrap();
            }
            None if line == "\r\n" => break,
            _ => {}
        }
    }
    let mut body = vec![0; length];
    connection.read_exact(&mut body).await.ok()?;
    Some(body)
}

/// Starts a worker that returns each body.
///
/// Of every second response it writes only a `share`, and closes the connection. Returns its URL, and the number of
/// requests that it has received.
async fn breaking(share: f64) -> (AbortOnDropHandle<()>, String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind(HERE).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let count = Arc::<AtomicUsize>::default();
    let counted = count.clone();
    let serving = async move {
        let mut connections = JoinSet::new();
        while let Ok((connection, _)) = listener.accept().await {
            let counted = counted.clone();
            connections.spawn(async move {
                let mut connection = BufStream::new(connection);
                while let Some(body) = posted(&mut connection).await {
                    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
                    let answer = [head.as_bytes(), &*body].concat();
                    let breaks = counted.fetch_add(1, Ordering::SeqCst) % 2 == 1;
                    let written = if breaks {
                        (answer.len() as f64 * share) as usize
                    } else {
                        answer.len()
                    };
                    connection.write_all(&answer[..written]).await.unwrap();
                    connection.flush().await.unwrap();
                    if breaks {
                        return;
                    }
                }
            });
        }
    };
    (AbortOnDropHandle::new(tokio::spawn(serving)), url, count)
}

#[test]
fn request_is_not_repeated_if_the_connection_closes_during_the_response() {
    check(async {
        // Before the response, within its head, and within its body.
        for share in [0.0, 0.2, 0.9] {
            let (_serving, url, count) = breaking(share).await;
            let (master, client) = master(HttpConnection::connect(&url).retry(quick(5))).await;
            for round in 0..3 {
                let call = client.eval(Hands::SHOUT, "mine");
                let answer = soon("an answer", call.into_future()).await.unwrap();
                assert_eq!(answer, "mine", "{share}");
                let error = fail(&client, "mine").await;
                assert_eq!(
                    (error.kind, &*error.component),
                    (FailureKind::Failed, "shop"),
                    "{share}"
                );
                let broke = format!("the connection to `{url}` broke");
                assert!(error.message.starts_with(&broke), "{share}: {error}");
                let posted = count.load(Ordering::SeqCst);
                assert_eq!(posted, 2 * (round + 1), "it may have been carried out");
            }
            master.shutdown().await.unwrap();
        }
    });
}

#[test]
fn temporarily_rejected_request_is_retried() {
    check(async {
        let good = Message::new("any.thing", "at last").encode();
        let (_serving, url, count) = foreign(move |number| match number {
            0 => (StatusCode::SERVICE_UNAVAILABLE, [("retry-after", "0")]).into_response(),
            1 => StatusCode::TOO_MANY_REQUESTS.into_response(),
            2 => good.clone().into_response(),
            _ => StatusCode::BAD_GATEWAY.into_response(),
        })
        .await;
        let workers = HttpConnection::connect(url).retry(quick(3));
        let (first, client) = master(workers).await;
        assert_eq!(client.eval(Hands::SHOUT, "x").await.unwrap(), "at last");
        assert_eq!(count.load(Ordering::SeqCst), 3);
        // A request that may have been carried out is repeated only if that is allowed.
        fail(&client, "x").await;
        assert_eq!(count.load(Ordering::SeqCst), 4);
        first.shutdown().await.unwrap();

        let (_serving, url, count) = foreign(|_| StatusCode::BAD_GATEWAY.into_response()).await;
        let retry = quick(4).repeatable(true);
        let (second, client) = master(HttpConnection::connect(url).retry(retry)).await;
        fail(&client, "x").await;
        assert_eq!(count.load(Ordering::SeqCst), 4);
        second.shutdown().await.unwrap();
    });
}

#[test]
fn absent_http_worker_is_reported_unavailable_and_used_once_it_listens() {
    check(async {
        let at = unbound_socket();
        let url = format!("http://{at}");
        let (absent, client) = master(HttpConnection::connect(&url).retry(quick(2))).await;
        let error = fail(&client, "x").await;
        assert_eq!(error.kind, FailureKind::Unavailable);
        absent.shutdown().await.unwrap();

        let (late, client) = master(HttpConnection::connect(&url).retry(quick(1000))).await;
        let call = tokio::spawn(async move { client.eval(Hands::SHOUT, "x").await });
        let serving = palm::http::serve(
            Hands {
                gate: Gate::closed(),
            }
            .into_service(),
            at,
        );
        let _serving = AbortOnDropHandle::new(tokio::spawn(serving));
        assert_eq!(soon("the answer", call).await.unwrap().unwrap(), "X");
        late.shutdown().await.unwrap();
    });
}

#[test]
fn deadline_error_names_the_cause_of_the_failed_attempts() {
    check(async {
        let url = format!("http://{}", unbound_socket());
        let (_master, client) = master(HttpConnection::connect(&url)).await;
        let call = client
            .eval(Hands::SHOUT, "x")
            .timeout(Duration::from_secs(2));
        let Err(CallError::Remote(error)) = soon("an error", call.into_future()).await else {
            panic!("no server listens there");
        };
        assert_eq!(error.kind, FailureKind::Unavailable);
        let message = error.message.to_lowercase();
        assert!(message.contains("connection refused"), "{message}");
    });
}

/// Posts a call of `wait` to `url`, and closes the connection once the call runs, or is queued.
async fn abandon(url: &str, gate: &Gate, running: usize) {
    let at = url.strip_prefix("http://").unwrap();
    let body = Message::new("shop.wait", "x").encode();
    let head = format!(
        "POST / HTTP/1.1\r\nHost: {at}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let mut connection = TcpStream::connect(at).await.unwrap();
    connection.write_all(head.as_bytes()).await.unwrap();
    connection.write_all(&body).await.unwrap();
    gate.arrived(running).await;
}

/// Checks that a worker of concurrency 1 is free again after two requests were abandoned.
async fn check_abandoned(url: &str, gate: &Gate) {
    abandon(url, gate, 1).await;
    abandon(url, gate, 1).await;
    let http = reqwest::Client::new();
    let shout = Message::new("shop.shout", "x").encode();
    let answer = soon("a free slot", http.post(url).body(shout).send()).await;
    let answer = answer.unwrap().bytes().await.unwrap();
    assert_eq!(Message::decode(answer).unwrap().payload(), "X");
    assert!(gate.count() <= 2, "what is abandoned is not begun later");
}

#[test]
fn request_to_an_http_worker_is_cancelled_if_its_connection_closes() {
    check(async {
        let gate = Gate::closed();
        let worker = Hands { gate: gate.clone() }.into_service().concurrency(1);
        let (_serving, url) = serve(Router::new().fallback_service(worker)).await;
        check_abandoned(&url, &gate).await;

        let gate = Gate::closed();
        let state = palm::callable::State::new(Hands { gate: gate.clone() });
        let executor = palm::Executor::new(state).concurrency(1);
        let mut template = ServerTemplate::new("shop");
        template
            .register_inbound(HttpService::bind(HERE), "Http")
            .route("Executor")
            .block(true);
        template.register_outbound(executor, "Executor");
        let server = template.spawn().await.unwrap();
        check_abandoned(server.address("http_address").unwrap(), &gate).await;
    });
}

#[test]
fn function_without_a_result_returns_204_at_a_gateway() {
    check(async {
        let (_serving, url, _) = serve_hands().await;
        let gateway = palm::http::Gateway::new();
        let mut template = ServerTemplate::new("shop");
        template
            .register_inbound(gateway.router(), "Router")
            .route("Silent");
        template
            .register_outbound(palm::parts::Handler::new(Silent), "Silent")
            .route("Http");
        template
            .register_outbound(HttpConnection::connect(url), "Http")
            .route("Dealer");
        template.register_outbound(gateway.dealer(), "Dealer");
        let _server = template.spawn().await.unwrap();
        for (path, status) in [("/nothing", 204), ("/silent", 204), ("/shout", 200)] {
            let request = Request::post(path).body(Body::from("x")).unwrap();
            let response = soon(path, gateway.service().oneshot(request)).await;
            assert_eq!(response.unwrap().status(), status, "{path}");
        }
    });
}

/// A part that drops the calls of one function.
struct Silent;

#[palm::outbound]
impl Silent {
    fn handle(&mut self, message: Message) -> Option<Message> {
        (!message.function().ends_with("silent")).then_some(message)
    }
}

#[test]
fn http_worker_that_exceeds_the_timeout_is_an_error() {
    check(async {
        let (_serving, url, gate) = serve_hands().await;
        let workers = HttpConnection::connect(&url).timeout(Duration::from_millis(100));
        let (slow, client) = master(workers).await;
        let call = client
            .eval(Hands::WAIT, "x")
            .timeout(Duration::from_secs(15));
        let Err(CallError::Remote(error)) = soon("an error", call.into_future()).await else {
            panic!("the gate was not opened");
        };
        assert_eq!(error.kind, FailureKind::DeadlineExceeded);
        slow.shutdown().await.unwrap();

        // The deadline of the call applies as well.
        let (waiting, client) = master(HttpConnection::connect(&url)).await;
        let mut job = client
            .job(Hands::WAIT, ["x"])
            .call_timeout(Duration::from_millis(100));
        let Some(Err(CallError::Remote(error))) = soon("an error", job.next()).await else {
            panic!("the gate was not opened");
        };
        assert_eq!(error.kind, FailureKind::DeadlineExceeded);
        gate.open();
        drop(job);
        assert_eq!(client.eval(Hands::WAIT, "y").await.unwrap(), "y");
        waiting.shutdown().await.unwrap();
    });
}

#[test]
fn malformed_url_is_rejected_at_start() {
    check(async {
        for (url, problem) in [
            ("tcp://127.0.0.1:1", "expected http:// or https://"),
            ("http://[", "invalid authority"),
        ] {
            let mut template = ServerTemplate::new("shop");
            template
                .register_inbound(PullService::bind(ANY), "Pull")
                .route("Http");
            template.register_outbound(HttpConnection::connect(url), "Http");
            let error = template.spawn().await.unwrap_err();
            let error = format!("{error:?}");
            assert!(error.contains(url) && error.contains(problem), "{error}");
        }
    });
}

/// A part that passes each message on in capitals.
struct Loud;

#[palm::outbound]
impl Loud {
    fn handle(&mut self, message: Message) -> Result<Message, String> {
        if message.payload().is_empty() {
            return Err("nothing".to_owned());
        }
        let loud = message.payload().to_ascii_uppercase();
        Ok(message.with_payload(loud))
    }
}

#[test]
fn http_service_accepts_and_answers_posted_messages() {
    check(async {
        let mounted = HttpService::mounted();
        let service = mounted.service();
        let mut template = ServerTemplate::new("shop");
        template
            .register_inbound(HttpService::bind(HERE), "Http")
            .route("Loud")
            .block(true);
        template.register_inbound(mounted, "Mounted").route("Loud");
        template.register_outbound(palm::parts::Handler::new(Loud), "Loud");
        let server = template.spawn().await.unwrap();
        let url = server.address("http_address").unwrap().to_owned();

        // `HttpConnection` posts to it as to a worker.
        let (first, client) = master(HttpConnection::connect(&url)).await;
        assert_eq!(client.eval(Hands::SHOUT, "x").await.unwrap(), "X");
        assert_eq!(fail(&client, "").await.message, "nothing");
        first.shutdown().await.unwrap();

        let http = reqwest::Client::new();
        let garbage = http.post(&url).body("garbage").send().await.unwrap();
        assert_eq!(garbage.status(), 400);
        assert_eq!(http.get(&url).send().await.unwrap().status(), 405);

        // A request whose route does not block is acknowledged.
        let message = Message::new("any.thing", "x").encode();
        let request = Request::post("/")
            .body(Body::from(message.clone()))
            .unwrap();
        let response = service.clone().oneshot(request).await.unwrap();
        let body = axum::body::to_bytes(Body::new(response.into_body()), 100)
            .await
            .unwrap();
        assert_eq!(body, "1");
        server.shutdown().await.unwrap();
        let request = Request::post("/").body(Body::from(message)).unwrap();
        assert_eq!(service.oneshot(request).await.unwrap().status(), 503);
    });
}

#[test]
fn http_service_returns_an_error_for_a_lost_answer() {
    check(async {
        let mut template = ServerTemplate::new("shop");
        let service = HttpService::bind(HERE).answer_timeout(STALLED);
        template
            .register_inbound(service, "Http")
            .route("Workers")
            .block(true);
        template.register_outbound(PushPullService::bind(ANY, ANY), "Workers");
        let server = template.spawn().await.unwrap();
        let tasks = address(server.address("worker_push_address").unwrap());
        let mut worker = Pull::connect(&tasks, &options()).await.unwrap();

        let url = server.address("http_address").unwrap();
        let message = Message::new("shop.shout", "x").encode();
        let request = reqwest::Client::new().post(url).body(message).send();
        let request = tokio::spawn(request);
        let mut taken = Vec::new();
        soon("the task", worker.recv_many(&mut taken, 1))
            .await
            .unwrap();
        // The worker is killed while it has the task.
        drop(worker);
        let answer = soon("an answer", request).await.unwrap().unwrap();
        assert_eq!(answer.status(), 504);
        let media_type = answer.headers()["content-type"].clone();
        assert_eq!(media_type, "application/problem+json");
    });
}

#[test]
fn attempts_that_time_out_do_not_occupy_an_http_worker() {
    check(async {
        let gate = Gate::closed();
        let worker = Hands { gate: gate.clone() }.into_service().concurrency(2);
        let (_serving, url) = serve(Router::new().fallback_service(worker)).await;
        let workers = HttpConnection::connect(&url)
            .timeout(Duration::from_millis(200))
            .retry(quick(1));
        let (_master, client) = master(workers).await;
        let calls = (0..8).map(|_| client.eval(Hands::WAIT, "x").into_future());
        let answers = soon("the errors", join_all(calls)).await;
        for answer in answers {
            let Err(CallError::Remote(error)) = answer else {
                panic!("{answer:?} though the gate is closed");
            };
            assert_eq!(error.kind, FailureKind::DeadlineExceeded);
        }
        // On a slow machine an attempt may exceed its timeout.
        let answered = async { while client.eval(Hands::SHOUT, "x").await.is_err() {} };
        soon("an answer of the same worker", answered).await;
    });
}
