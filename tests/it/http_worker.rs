//! Workers that are reached by HTTP, and what posts to them.

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
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;
use tower::ServiceExt as _;

use super::setup::{ANY, Gate, STALLED, address, check, check_on, connect, options, soon};

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

/// The same by name, whose function gives many results.
struct Many;

#[palm::worker(server = "shop")]
impl Many {
    #[palm::method]
    fn many(&self) -> impl Iterator<Item = String> + use<> {
        std::iter::empty()
    }
}

/// What serves an application until it is dropped, and where.
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

/// Tries often, and at once.
fn quick(attempts: usize) -> Retry {
    Retry {
        attempts,
        initial_delay: Duration::from_millis(5),
        max_delay: Duration::from_millis(20),
        ..Retry::default()
    }
}

/// A master whose workers are at a URL.
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
        other => panic!("{other:?} in the place of an error"),
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
        axum::body::to_bytes(response.into_body(), 1 << 20)
            .await
            .unwrap(),
    )
}

#[test]
fn a_worker_answers_with_the_message() {
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
fn so_many_requests_are_under_way_at_once() {
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
            // There is no event that says that nothing more comes.
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
fn what_a_worker_says_of_its_error_reaches_the_caller() {
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

/// An application that answers every POST in the same way, and counts them.
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
fn a_worker_that_answers_no_message_is_an_error_and_never_the_answer() {
    check(async {
        for (status, body) in [
            (500, ""),
            (200, "garbage"),
            (200, ""),
            (302, ""),
            (404, "nobody"),
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
fn a_worker_does_not_decide_whom_its_answer_goes_to() {
    check(async {
        let mut stolen = Message::new("any.thing", "stolen");
        stolen.set_client("somebody else");
        let stolen = stolen.encode();
        let (_serving, url, _) = foreign(move |_| stolen.clone().into_response()).await;
        let (master, client) = master(HttpConnection::connect(url)).await;
        assert_eq!(client.eval(Hands::SHOUT, "x").await.unwrap(), "stolen");
        master.shutdown().await.unwrap();
    });
}

#[test]
fn a_connection_to_a_worker_is_kept_and_used_again() {
    // On one thread a connection that has done its work is back before the caller hears of it.
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

/// The body of the next request of a connection; none at its end.
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

/// A worker that answers with what it was posted, but for every second answer: of that `share` is written,
/// and the connection is closed. Where it is, and how often it was posted to.
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
fn a_worker_that_closes_in_the_middle_of_its_answer_is_not_asked_again() {
    check(async {
        // Before its answer, in the head of it, and in its body.
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
fn what_a_worker_refuses_for_the_moment_is_tried_again() {
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
        // What may have been carried out is not, unless that does no harm.
        fail(&client, "x").await;
        assert_eq!(count.load(Ordering::SeqCst), 4);
        first.shutdown().await.unwrap();

        let (_serving, url, count) = foreign(|_| StatusCode::BAD_GATEWAY.into_response()).await;
        let retry = Retry {
            repeatable: true,
            ..quick(4)
        };
        let (second, client) = master(HttpConnection::connect(url).retry(retry)).await;
        fail(&client, "x").await;
        assert_eq!(count.load(Ordering::SeqCst), 4);
        second.shutdown().await.unwrap();
    });
}

#[test]
fn a_worker_that_is_not_there_is_unavailable_and_found_when_it_is() {
    check(async {
        // A socket that does not listen refuses, and keeps the port from tests beside this one.
        let held = TcpSocket::new_v4().unwrap();
        held.set_reuseaddr(true).unwrap();
        held.bind(HERE.parse().unwrap()).unwrap();
        let at = held.local_addr().unwrap();
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
fn a_call_with_a_short_deadline_learns_why_its_attempts_failed() {
    check(async {
        let held = TcpSocket::new_v4().unwrap();
        held.bind(HERE.parse().unwrap()).unwrap();
        let url = format!("http://{}", held.local_addr().unwrap());
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

/// Posts a call of `wait` to `url`, and closes the connection once it runs, or waits for its turn.
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

/// Whether the only place of a worker is free again after two requests were abandoned.
async fn check_abandoned(url: &str, gate: &Gate) {
    abandon(url, gate, 1).await;
    abandon(url, gate, 1).await;
    let http = reqwest::Client::new();
    let shout = Message::new("shop.shout", "x").encode();
    let answer = soon("a free place", http.post(url).body(shout).send()).await;
    let answer = answer.unwrap().bytes().await.unwrap();
    assert_eq!(Message::decode(answer).unwrap().payload(), "X");
    assert!(gate.count() <= 2, "what is abandoned is not begun later");
}

#[test]
fn a_request_to_an_http_worker_is_cancelled_when_its_connection_is_closed() {
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
fn a_function_without_a_result_ends_its_request_at_a_gateway() {
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

/// Drops the calls of one function.
struct Silent;

#[palm::outbound]
impl Silent {
    fn handle(&mut self, message: Message) -> Option<Message> {
        (!message.function().ends_with("silent")).then_some(message)
    }
}

#[test]
fn a_worker_that_takes_too_long_is_an_error() {
    check(async {
        let (_serving, url, gate) = serve_hands().await;
        let workers = HttpConnection::connect(&url).timeout(Duration::from_millis(100));
        let (slow, client) = master(workers).await;
        let call = client
            .eval(Hands::WAIT, "x")
            .timeout(Duration::from_secs(15));
        let Err(CallError::Remote(error)) = soon("an error", call.into_future()).await else {
            panic!("nobody opened the gate");
        };
        assert_eq!(error.kind, FailureKind::DeadlineExceeded);
        slow.shutdown().await.unwrap();

        // A deadline of the call counts as well.
        let (patient, client) = master(HttpConnection::connect(&url)).await;
        let mut job = client
            .job(Hands::WAIT, ["x"])
            .deadline(Duration::from_millis(100));
        let Some(Err(CallError::Remote(error))) = soon("an error", job.next()).await else {
            panic!("nobody opened the gate");
        };
        assert_eq!(error.kind, FailureKind::DeadlineExceeded);
        gate.open();
        drop(job);
        assert_eq!(client.eval(Hands::WAIT, "y").await.unwrap(), "y");
        patient.shutdown().await.unwrap();
    });
}

#[test]
fn what_is_no_url_is_refused_before_the_start() {
    check(async {
        for (url, problem) in [
            (
                "tcp://127.0.0.1:1",
                "it begins neither with http:// nor https://",
            ),
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

/// Lets each message go on in capitals.
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
fn an_http_service_takes_messages_and_answers_them() {
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

        // Ours posts to it as to a worker.
        let (first, client) = master(HttpConnection::connect(&url)).await;
        assert_eq!(client.eval(Hands::SHOUT, "x").await.unwrap(), "X");
        assert_eq!(fail(&client, "").await.message, "nothing");
        first.shutdown().await.unwrap();

        let http = reqwest::Client::new();
        let garbage = http.post(&url).body("garbage").send().await.unwrap();
        assert_eq!(garbage.status(), 400);
        assert_eq!(http.get(&url).send().await.unwrap().status(), 405);

        // Who is not waited for is acknowledged.
        let message = Message::new("any.thing", "x").encode();
        let request = Request::post("/")
            .body(Body::from(message.clone()))
            .unwrap();
        let response = service.clone().oneshot(request).await.unwrap();
        let body = axum::body::to_bytes(response.into_body(), 100)
            .await
            .unwrap();
        assert_eq!(body, "1");
        server.shutdown().await.unwrap();
        let request = Request::post("/").body(Body::from(message)).unwrap();
        assert_eq!(service.oneshot(request).await.unwrap().status(), 503);
    });
}

#[test]
fn an_http_service_answers_whose_answer_is_lost() {
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
        // It is killed with its task.
        drop(worker);
        let answer = soon("an answer", request).await.unwrap().unwrap();
        assert_eq!(answer.status(), 504);
        let media_type = answer.headers()["content-type"].clone();
        assert_eq!(media_type, "application/problem+json");
    });
}

#[test]
fn attempts_that_time_out_do_not_block_an_http_worker() {
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
        // A slow machine may take longer than an attempt has.
        let answered = async { while client.eval(Hands::SHOUT, "x").await.is_err() {} };
        soon("an answer of the same worker", answered).await;
    });
}
