//! Layers around the methods of a component, and around the calls of a client.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use palm::middleware::{CallRequest, CallResponse, ClientService, MethodService, Next, from_fn};
use palm::prelude::*;
use palm::{BoxError, CallError, CallFailure, ComponentHandle, FailureKind, RemoteError};
use tower::limit::{ConcurrencyLimitLayer, RateLimitLayer};
use tower::retry::{Policy, RetryLayer};
use tower::timeout::TimeoutLayer;
use tower::{Service, ServiceBuilder};

use super::setup::{ANY, Gate, check, connect, eventually, soon};

/// Methods around which layers are put.
#[derive(Clone)]
struct Server {
    gate: Gate,
    /// Counts the methods that begin.
    calls: Gate,
    /// Counts futures of `wait` that are dropped before they are ready.
    dropped: Gate,
    /// How many further calls of `flaky` fail.
    failures: Arc<AtomicUsize>,
}

struct CountDrop(Gate);

impl Drop for CountDrop {
    fn drop(&mut self) {
        self.0.count_one();
    }
}

/// What a layer attaches to a call.
struct User(String);

#[palm::server(name = "server")]
impl Server {
    #[palm::method]
    fn double(&self, text: String) -> String {
        self.calls.count_one();
        text.repeat(2)
    }

    #[palm::method]
    async fn wait(&self, text: String) -> String {
        let dropped = CountDrop(self.dropped.clone());
        self.gate.pass().await;
        std::mem::forget(dropped);
        text
    }

    #[palm::method]
    fn flaky(&self) -> Result<String, &'static str> {
        self.calls.count_one();
        let left = |left: usize| left.checked_sub(1);
        match self
            .failures
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, left)
        {
            Ok(_) => Err("not yet"),
            Err(_) => Ok("done".to_owned()),
        }
    }

    #[palm::method(at_most_once)]
    fn once(&self) -> Result<String, &'static str> {
        self.calls.count_one();
        Err("failed")
    }

    #[palm::method]
    fn thrice(&self, payload: Bytes) -> impl Iterator<Item = Bytes> + use<> {
        std::iter::repeat_n(payload, 3)
    }

    #[palm::method]
    fn nothing(&self) {}

    #[palm::method]
    fn user(&self, context: Context) -> String {
        let user = context.extension::<User>().map(|user| user.0.clone());
        let token = context.message().headers().get("token").map(str::to_owned);
        format!("{user:?} {token:?}")
    }

    #[palm::method]
    fn panics(&self) -> String {
        panic!("as requested")
    }
}

/// The same as a worker.
struct Worker {
    calls: Gate,
}

#[palm::worker(server = "master")]
impl Worker {
    #[palm::method]
    fn double(&self, text: String) -> String {
        self.calls.count_one();
        text.repeat(2)
    }
}

fn server() -> Server {
    Server {
        gate: Gate::closed(),
        calls: Gate::closed(),
        dropped: Gate::closed(),
        failures: Arc::default(),
    }
}

fn denied() -> CallFailure {
    CallFailure::new(FailureKind::PermissionDenied, "no token".into())
}

async fn only_with_token(call: CallRequest, next: Next) -> Result<CallResponse, CallFailure> {
    match call.headers().get("token") {
        Some("secret") => next.run(call).await,
        _ => Err(denied()),
    }
}

/// Connects a client with a token.
async fn connect_with_token(name: &str, component: &ComponentHandle) -> Client {
    let client = Client::builder(name, component.db_address()).header("token", "secret");
    soon("connecting", client.connect()).await.unwrap()
}

fn remote<T: std::fmt::Debug>(answer: Result<T, CallError>) -> RemoteError {
    match answer {
        Err(CallError::Remote(error)) => error,
        answer => panic!("{answer:?}"),
    }
}

#[test]
fn rejection_by_token_reaches_the_client_as_a_typed_failure() {
    check(async {
        let inner = server();
        let layered = inner.clone().bind(ANY).layer(from_fn(only_with_token));
        let layered = layered.spawn().await.unwrap();
        let client = connect_with_token("server", &layered).await;
        assert_eq!(client.eval(Server::DOUBLE, "a").await.unwrap(), "aa");

        let stranger = connect("server", &layered).await;
        let error = remote(stranger.eval(Server::DOUBLE, "a").await);
        assert_eq!(error.kind, FailureKind::PermissionDenied);
        assert_eq!((&*error.message, &*error.component), ("no token", "server"));
        let call = stranger.eval(Server::DOUBLE, "a").header("token", "secret");
        assert_eq!(call.await.unwrap(), "aa");
        assert_eq!(inner.calls.count(), 2);
        let metrics = layered.metrics();
        assert_eq!(metrics.function("double").unwrap().working.count(), 3);
    });
}

#[test]
fn job_through_a_layered_server_receives_an_answer_for_each_argument() {
    check(async {
        let layered = server().bind(ANY).layer(from_fn(only_with_token));
        let layered = layered.spawn().await.unwrap();
        let client = connect_with_token("server", &layered).await;
        let arguments: Vec<_> = (0..500).map(|number| number.to_string()).collect();
        let mut answers: Vec<String> = soon("the job", async {
            let job = client.job(Server::DOUBLE, arguments.clone());
            job.map(Result::unwrap).collect().await
        })
        .await;
        answers.sort();
        let mut expected: Vec<_> = arguments.iter().map(|text| text.repeat(2)).collect();
        expected.sort();
        assert_eq!(answers, expected);

        // Each message is rejected on its own, and the job continues.
        let stranger = connect("server", &layered).await;
        let mut job = stranger.job(Server::DOUBLE, ["a", "b"]);
        for _ in 0..2 {
            let error = remote(soon("an answer", job.next()).await.unwrap());
            assert_eq!(error.kind, FailureKind::PermissionDenied);
        }
        assert!(soon("the end", job.next()).await.is_none());
        let job = stranger
            .job(Server::DOUBLE, ["a"])
            .header("token", "secret");
        let answers: Vec<_> = soon("the job", job.collect()).await;
        assert_eq!(answers[0].as_ref().unwrap(), "aa");
    });
}

#[test]
fn method_with_several_results_or_none_completes_through_a_layer() {
    check(async {
        let layered = server().bind(ANY).layer(from_fn(only_with_token));
        let layered = layered.spawn().await.unwrap();
        let client = connect_with_token("server", &layered).await;
        let job = client.job(Server::THRICE, ["a", "b"]);
        let answers: Vec<_> = soon("the job", job.map(Result::unwrap).collect()).await;
        assert_eq!(answers.len(), 6);
        let call = client.eval(Server::NOTHING.untyped(), "").into_future();
        let answer = soon("the end", call).await;
        assert!(matches!(answer, Err(CallError::NoAnswer { .. })));

        // Neither the error nor the answer of a layer leaves the job without an end.
        let stranger = connect("server", &layered).await;
        let answers: Vec<_> = soon("the job", stranger.job(Server::THRICE, ["a"]).collect()).await;
        assert_eq!(answers.len(), 1);
        assert_eq!(
            remote(answers.into_iter().next().unwrap()).kind,
            FailureKind::PermissionDenied
        );
        let answered =
            |_: CallRequest, _: Next| async { Ok::<_, CallFailure>(CallResponse::new("answered")) };
        let layered = server()
            .bind(ANY)
            .layer(from_fn(answered))
            .spawn()
            .await
            .unwrap();
        let client = connect("server", &layered).await;
        let job = client.job(Server::THRICE, ["a", "b"]);
        let answers: Vec<_> = soon("the job", job.map(Result::unwrap).collect()).await;
        assert_eq!(answers, ["answered", "answered"]);
    });
}

#[test]
fn layer_attaches_a_value_for_the_method() {
    check(async {
        async fn find_user(mut call: CallRequest, next: Next) -> Result<CallResponse, CallFailure> {
            let context = call.context().unwrap();
            let user = format!("{} at {}", call.function(), context.name());
            assert_eq!(context.message().client(), format!("{}/0", call.client()));
            call.insert_extension(User(user));
            call.headers_mut().insert("token", "changed");
            next.run(call).await
        }

        let layered = server().bind(ANY).layer(from_fn(find_user));
        let layered = layered.spawn().await.unwrap();
        let client = connect_with_token("server", &layered).await;
        let answer = client.eval(Server::USER, ()).await.unwrap();
        assert_eq!(answer, r#"Some("server.user at server") Some("secret")"#);
    });
}

#[test]
fn later_layer_wraps_earlier_ones() {
    check(async {
        let mark = |mark: &'static str| {
            from_fn(move |mut call: CallRequest, next: Next| async move {
                let payload = [call.payload(), mark.as_bytes()].concat();
                call.set_payload(payload);
                next.run(call).await
            })
        };
        let layered = server()
            .bind(ANY)
            .layer(mark("inner"))
            .layer(mark("outer "));
        let layered = layered.spawn().await.unwrap();
        let client = connect("server", &layered).await;
        let answer = client.eval(Server::DOUBLE, "a ").await.unwrap();
        assert_eq!(answer, "a outer innera outer inner");
    });
}

#[test]
fn rate_limit_delays_or_rejects_calls() {
    check(async {
        let limit = || RateLimitLayer::new(2, Duration::from_secs(3600));
        let layered = server().bind(ANY).own_thread(true).layer(limit());
        let layered = layered.spawn().await.unwrap();
        let client = connect("server", &layered).await;
        for _ in 0..2 {
            client.eval(Server::DOUBLE, "a").await.unwrap();
        }
        // The third call waits until its deadline.
        let late = client
            .eval(Server::DOUBLE, "a")
            .timeout(Duration::from_millis(200));
        let late = soon("the timeout", late.into_future()).await.unwrap_err();
        let is_late = match &late {
            CallError::Timeout { .. } => true,
            CallError::Remote(error) => error.kind == FailureKind::DeadlineExceeded,
            _ => false,
        };
        assert!(is_late, "{late}");

        let limit = ServiceBuilder::new().load_shed().layer(limit());
        let layered = server().bind(ANY).layer(limit).spawn().await.unwrap();
        let client = connect("server", &layered).await;
        for _ in 0..2 {
            client.eval(Server::DOUBLE, "a").await.unwrap();
        }
        let error = client.eval(Server::DOUBLE, "a").await.unwrap_err();
        assert!(error.is_transient());
        assert_eq!(
            remote(Err::<(), _>(error)).kind,
            FailureKind::ResourceExhausted
        );
    });
}

#[test]
fn concurrency_limit_holds_for_all_calls_of_a_component() {
    check(async {
        let inner = server();
        let layered = inner.clone().bind(ANY).concurrency(10);
        let layered = layered.layer(ConcurrencyLimitLayer::new(2));
        let layered = layered.spawn().await.unwrap();
        let client = connect("server", &layered).await;
        let call = |number: usize| client.eval(Server::WAIT, number.to_string()).into_future();
        let calls = futures_util::future::join_all((0..5).map(call));
        let watch = async {
            inner.gate.arrived(2).await;
            eventually("all calls taken", || {
                layered.metrics().part("Executor").unwrap().messages == 5
            })
            .await;
            assert_eq!(inner.gate.count(), 2);
            inner.gate.open();
        };
        let (answers, ()) = soon("the answers", async { tokio::join!(calls, watch) }).await;
        let answers: Vec<_> = answers.into_iter().map(Result::unwrap).collect();
        assert_eq!(answers, ["0", "1", "2", "3", "4"]);
        assert_eq!(inner.gate.count(), 5);
    });
}

#[test]
fn timeout_layer_fails_the_call_and_drops_the_method() {
    check(async {
        let inner = server();
        let layer = TimeoutLayer::new(Duration::from_millis(50));
        let layered = inner.clone().bind(ANY).layer(layer).spawn().await.unwrap();
        let client = connect("server", &layered).await;
        let call = client.eval(Server::WAIT, "a").into_future();
        let error = remote(soon("the timeout", call).await);
        assert_eq!(error.kind, FailureKind::DeadlineExceeded);
        inner.dropped.arrived(1).await;
    });
}

#[test]
fn cancelled_call_drops_its_layers_and_a_method_that_a_layer_has_spawned() {
    check(async {
        let (inner, layer_dropped) = (server(), Gate::closed());
        let count = layer_dropped.clone();
        let spawning = from_fn(move |call: CallRequest, next: Next| {
            let dropped = CountDrop(count.clone());
            async move {
                let _dropped = dropped;
                let answer = tokio::spawn(next.run(call)).await;
                answer.map_err(BoxError::from)?.map_err(BoxError::from)
            }
        });
        let layered = inner
            .clone()
            .bind(ANY)
            .layer(spawning)
            .spawn()
            .await
            .unwrap();
        let client = connect("server", &layered).await;
        let call = {
            let client = client.clone();
            tokio::spawn(async move { client.eval(Server::WAIT, "a").await })
        };
        inner.gate.arrived(1).await;
        call.abort();
        layer_dropped.arrived(1).await;
        inner.dropped.arrived(1).await;
    });
}

#[test]
fn layered_component_drains_its_calls() {
    check(async {
        let inner = server();
        let keeps: Arc<std::sync::Mutex<Vec<CallRequest>>> = Arc::default();
        let kept = keeps.clone();
        let keeping = from_fn(move |call: CallRequest, next: Next| {
            // A layer that keeps requests does not keep the component from ending.
            kept.lock().unwrap().push(call.clone());
            next.run(call)
        });
        let layered = inner.clone().bind(ANY).concurrency(2).layer(keeping);
        let layered = layered.spawn().await.unwrap();
        let client = connect("server", &layered).await;
        let job = client.job(Server::THRICE, ["a"]);
        assert_eq!(soon("the job", job.count()).await, 3);
        let call = {
            let client = client.clone();
            tokio::spawn(async move { client.eval(Server::WAIT, "a").await })
        };
        inner.gate.arrived(1).await;
        let shutdown = tokio::spawn(layered.shutdown());
        tokio::task::yield_now().await;
        assert!(!shutdown.is_finished());
        inner.gate.open();
        assert_eq!(soon("the answer", call).await.unwrap().unwrap(), "a");
        soon("the end", shutdown).await.unwrap().unwrap();
        assert_eq!(keeps.lock().unwrap().len(), 2);
    });
}

#[test]
fn panicking_layer_fails_its_call_only() {
    check(async {
        let panicking = from_fn(|call: CallRequest, next: Next| {
            assert!(call.payload() != "at once", "on purpose");
            async move {
                assert!(call.payload() != "later", "on purpose");
                next.run(call).await
            }
        });
        let layered = server().bind(ANY).layer(panicking).spawn().await.unwrap();
        let client = connect("server", &layered).await;
        for argument in ["at once", "later"] {
            let error = remote(client.eval(Server::DOUBLE, argument).await);
            assert_eq!(
                (error.kind, &*error.message),
                (FailureKind::Panicked, "on purpose")
            );
        }
        assert_eq!(client.eval(Server::DOUBLE, "a").await.unwrap(), "aa");
        let error = remote(client.eval(Server::PANICS, ()).await);
        assert_eq!(
            (error.kind, &*error.message),
            (FailureKind::Panicked, "as requested")
        );
    });
}

/// Retries failed calls of both sides.
#[derive(Clone)]
struct Again {
    left: usize,
}

impl<E> Policy<CallRequest, CallResponse, E> for Again {
    type Future = std::future::Ready<()>;

    fn retry(
        &mut self,
        _: &mut CallRequest,
        answer: &mut Result<CallResponse, E>,
    ) -> Option<Self::Future> {
        if answer.is_ok() || self.left == 0 {
            return None;
        }
        self.left -= 1;
        Some(std::future::ready(()))
    }

    fn clone_request(&mut self, call: &CallRequest) -> Option<CallRequest> {
        Some(call.clone())
    }
}

#[test]
fn retry_at_a_component_runs_the_method_again_unless_it_is_at_most_once() {
    check(async {
        let inner = server();
        inner.failures.store(2, Ordering::Release);
        let layered = inner
            .clone()
            .bind(ANY)
            .layer(RetryLayer::new(Again { left: 2 }));
        let layered = layered.spawn().await.unwrap();
        let client = connect("server", &layered).await;
        assert_eq!(client.eval(Server::FLAKY, ()).await.unwrap(), "done");
        assert_eq!(inner.calls.count(), 3);
        let error = remote(client.eval(Server::ONCE, ()).await);
        assert!(error.message.contains("runs once per call"), "{error}");
        assert_eq!(inner.calls.count(), 4);
    });
}

#[test]
fn retry_at_a_client_succeeds_against_a_server_that_fails_twice() {
    check(async {
        let inner = server();
        inner.failures.store(2, Ordering::Release);
        let layered = inner.clone().bind(ANY).spawn().await.unwrap();
        let client = Client::builder("server", layered.db_address());
        let client = client.layer(RetryLayer::new(Again { left: 2 })).connect();
        let client = soon("connecting", client).await.unwrap();
        assert_eq!(client.eval(Server::FLAKY, ()).await.unwrap(), "done");
        assert_eq!(inner.calls.count(), 3);
        inner.failures.store(9, Ordering::Release);
        let error = remote(client.eval(Server::FLAKY, ()).await);
        assert_eq!(error.message, "not yet");
        assert_eq!(inner.calls.count(), 6);
    });
}

#[test]
fn layers_of_a_client_change_reject_and_limit_calls() {
    check(async {
        async fn local(
            mut call: CallRequest,
            next: Next<ClientService>,
        ) -> Result<CallResponse, BoxError> {
            assert!(call.context().is_none() && call.time_left().is_some());
            match &call.payload()[..] {
                b"reject" => Err(denied().into()),
                b"answer" => Ok(CallResponse::new("local")),
                b"empty" => Ok(CallResponse::empty()),
                b"panic" => panic!("on purpose"),
                _ => {
                    assert_eq!(call.runs_once(), call.function() == "server.once");
                    call.headers_mut().insert("token", "secret");
                    Ok(next.run(call).await?)
                }
            }
        }

        let inner = server();
        let layered = inner.clone().bind(ANY).layer(from_fn(only_with_token));
        let layered = layered.spawn().await.unwrap();
        let client = Client::builder("server", layered.db_address());
        let limited = TimeoutLayer::new(Duration::from_millis(200));
        let client = client.layer(from_fn(local)).layer(limited).connect();
        let client = soon("connecting", client).await.unwrap();
        assert_eq!(client.eval(Server::DOUBLE, "a").await.unwrap(), "aa");
        assert_eq!(
            client.eval(Server::DOUBLE, "answer").await.unwrap(),
            "local"
        );
        let error = client.eval(Server::DOUBLE, "reject").await.unwrap_err();
        let kind = FailureKind::PermissionDenied;
        assert!(matches!(error, CallError::Layer { kind: found, .. } if found == kind));
        let error = client.eval(Server::DOUBLE, "empty").await.unwrap_err();
        assert!(matches!(error, CallError::NoAnswer { .. }), "{error}");
        assert_eq!(
            remote(client.eval(Server::ONCE, ()).await).message,
            "failed"
        );
        // The timeout of the layer cancels the call.
        let error = client.eval(Server::WAIT, "a").await.unwrap_err();
        assert!(matches!(error, CallError::Timeout { .. }), "{error}");
        inner.dropped.arrived(1).await;
        let error = client.eval(Server::DOUBLE, "panic").await.unwrap_err();
        let kind = FailureKind::Panicked;
        assert!(matches!(error, CallError::Layer { kind: found, .. } if found == kind));
        assert_eq!(client.eval(Server::DOUBLE, "a").await.unwrap(), "aa");

        // Jobs do not pass the layers of a client.
        let mut job = client.job(Server::DOUBLE, ["answer"]);
        let error = remote(soon("an answer", job.next()).await.unwrap());
        assert_eq!(error.kind, FailureKind::PermissionDenied);
    });
}

#[test]
fn worker_rejects_tasks_by_a_layer_without_redelivery() {
    check(async {
        let calls = Gate::closed();
        let master = Master::new("master").bind(ANY).spawn().await.unwrap();
        let worker = Worker {
            calls: calls.clone(),
        };
        let worker = worker
            .connect(master.db_address())
            .layer(from_fn(only_with_token));
        let _worker = worker.spawn().await.unwrap();
        let client = connect_with_token("master", &master).await;
        assert_eq!(client.eval(Worker::DOUBLE, "a").await.unwrap(), "aa");
        let stranger = connect("master", &master).await;
        let error = remote(stranger.eval(Worker::DOUBLE, "a").await);
        assert_eq!(error.kind, FailureKind::PermissionDenied);
        assert_eq!(calls.count(), 1);
    });
}

/// A layer of a program's own, whose service is neither `Clone` nor always ready.
struct Alternating;

struct AlternatingService {
    inner: MethodService,
    polls: usize,
}

impl tower::Layer<MethodService> for Alternating {
    type Service = AlternatingService;

    fn layer(&self, inner: MethodService) -> AlternatingService {
        AlternatingService { inner, polls: 0 }
    }
}

impl Service<CallRequest> for AlternatingService {
    type Response = CallResponse;
    type Error = CallFailure;
    type Future = <MethodService as Service<CallRequest>>::Future;

    fn poll_ready(&mut self, context: &mut TaskContext<'_>) -> Poll<Result<(), CallFailure>> {
        self.polls += 1;
        match self.polls % 3 {
            0 => self.inner.poll_ready(context),
            1 => {
                context.waker().wake_by_ref();
                Poll::Pending
            }
            _ => Poll::Ready(Err(CallFailure::new(
                FailureKind::Unavailable,
                "not ready".into(),
            ))),
        }
    }

    fn call(&mut self, call: CallRequest) -> Self::Future {
        self.inner.call(call)
    }
}

#[test]
fn service_that_is_not_ready_fails_its_call_only() {
    check(async {
        let layered = server().bind(ANY).layer(Alternating).spawn().await.unwrap();
        let client = connect("server", &layered).await;
        for _ in 0..3 {
            let error = remote(client.eval(Server::DOUBLE, "a").await);
            assert_eq!(
                (error.kind, &*error.message),
                (FailureKind::Unavailable, "not ready")
            );
            assert_eq!(client.eval(Server::DOUBLE, "a").await.unwrap(), "aa");
        }
    });
}
