//! Each part alone or combined by hand, with real peers.

use std::fmt::Debug;
use std::time::Duration;

use bytes::Bytes;
use omq_tokio::{Options, Socket, SocketType};
use palm::callable::Emit;
use palm::component::InboundEntry;
use palm::part::OutboundHooks;
use palm::parts::{
    BypassSender, CacheService, Handler, MasterConnection, PubService, PullBypassConnection,
    PullConnection, PullService, PushBypassConnection, PushConnection, PushPullService,
    PushService, RepBypassService, RepConnection, RepService, SubConnection,
};
use palm::prelude::*;
use palm::socket::{Publish, Pull, Push, Request};
use palm::{CallError, CallFailure, ComponentHandle, FailureKind, StartError};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber, span};

use super::setup::{
    ANY, Caller, SOON, STALLED, address, check, connect, eventually, options, soon,
};

struct Shouter;

#[palm::worker(server = "server")]
impl Shouter {
    #[palm::method]
    fn shout(&self, text: String) -> Result<String, &'static str> {
        match text.as_str() {
            "" => Err("there is nothing to shout"),
            _ => Ok(text.to_uppercase()),
        }
    }
}

/// A part that counts messages, and sends each on twice.
struct Twice {
    seen: mpsc::UnboundedSender<Bytes>,
}

#[palm::outbound]
impl Twice {
    async fn handle(&mut self, message: Message) -> Result<Vec<Message>, String> {
        if message.payload() == "bad" {
            return Err("it is bad".to_owned());
        }
        self.seen
            .send(message.payload().clone())
            .map_err(|error| error.to_string())?;
        let first = message.clone().with_payload("first");
        Ok(vec![first, message])
    }
}

/// An inbound part that splits payloads at spaces, and records the answers.
struct Words {
    fed: mpsc::UnboundedSender<Bytes>,
}

#[palm::inbound]
impl Words {
    fn scatter(
        &mut self,
        message: Message,
        context: Context,
    ) -> impl Iterator<Item = Message> + use<> {
        assert!(["parts", "server"].contains(&context.name()));
        let payload = message.payload().clone();
        let words: Vec<_> = payload
            .split(|byte| *byte == b' ')
            .map(<[u8]>::to_vec)
            .collect();
        words
            .into_iter()
            .map(move |word| message.clone().with_payload(word))
    }

    fn handle_feedback(&mut self, feedback: &Bytes) {
        // The test may not read any more.
        let _ = self.fed.send(feedback.clone());
    }

    fn reply_feedback(&mut self, _: Bytes) -> &'static str {
        "thank you"
    }
}

/// A bypass part that answers with the reversed text, and rejects other bytes.
struct Reverse {
    seen: mpsc::UnboundedSender<String>,
}

#[palm::bypass]
impl Reverse {
    fn recv(&mut self, body: String) -> Result<String, String> {
        let _ = self.seen.send(body.clone());
        match body.as_str() {
            "panic" => panic!("on purpose"),
            "fail" => Err("on purpose".to_owned()),
            _ => Ok(body.chars().rev().collect()),
        }
    }
}

/// A bypass part that sends three messages.
struct Speaker;

#[palm::bypass]
impl Speaker {
    async fn run(self, sender: BypassSender) {
        for word in ["one", "two", "three"] {
            sender.send(word).await;
        }
    }
}

async fn spawn(template: ServerTemplate) -> ComponentHandle {
    soon("the start", template.spawn()).await.unwrap()
}

async fn request_at(at: &str) -> Request {
    Request::connect(&address(at), &options()).await.unwrap()
}

async fn send_request(request: &Request, body: impl Into<Bytes>) -> Bytes {
    request.request(body.into(), SOON).await.unwrap()
}

async fn next<T>(receiver: &mut mpsc::UnboundedReceiver<T>) -> T {
    soon("an event", receiver.recv()).await.unwrap()
}

#[test]
fn push_pull_answers_requests_with_the_results_of_workers() {
    check(async {
        let mut template = ServerTemplate::new("server");
        template
            .register_inbound(RepService::bind(ANY), "Rep")
            .route("Workers")
            .block(true);
        template
            .register_inbound(PullService::bind(ANY), "Pull")
            .route("Workers");
        template
            .register_outbound(PushPullService::bind(ANY, ANY), "Workers")
            .route("Pub");
        template.register_outbound(PubService::bind(ANY), "Pub");
        template.register_bypass(CacheService::bind(ANY), "Cache");
        let server = spawn(template).await;
        let worker = Shouter.connect(server.db_address()).spawn().await.unwrap();

        // A REQ peer receives the worker's result.
        let request = request_at(server.address("rep_address").unwrap()).await;
        let request_body = |text: &'static str| Message::new("server.shout", text).encode();
        let answers = (0..20).map(|_| send_request(&request, request_body("loud")));
        for answer in futures_util::future::join_all(answers).await {
            assert_eq!(Message::decode(answer).unwrap().payload(), "LOUD");
        }
        let failed = Message::decode(send_request(&request, request_body("")).await).unwrap();
        assert_eq!(failed.error().unwrap().message, "there is nothing to shout");

        // Results for a client are passed on along the route.
        let client = connect("server", &server).await;
        assert_eq!(client.eval(Shouter::SHOUT, "x").await.unwrap(), "X");
        let Err(CallError::Remote(error)) = client.eval(Shouter::SHOUT, "").await else {
            panic!("there is nothing to shout");
        };
        assert_eq!(error.kind, FailureKind::Failed);
        server.shutdown().await.unwrap();
        worker.shutdown().await.unwrap();
    });
}

/// Starts a component of REP, PUSH and PULL, whose only worker receives every task and answers none. `hooks` sets those
/// of the REP part.
async fn with_a_silent_worker(
    answer_timeout: Duration,
    hooks: impl FnOnce(InboundEntry<'_>),
) -> (ComponentHandle, Request, AbortOnDropHandle<()>) {
    let mut template = ServerTemplate::new("server");
    let rep = RepService::bind(ANY).answer_timeout(answer_timeout);
    let rep = template.register_inbound(rep, "Rep");
    hooks(rep.route("Workers").block(true));
    template.register_outbound(PushPullService::bind(ANY, ANY), "Workers");
    template.register_bypass(CacheService::bind(ANY), "Cache");
    let server = spawn(template).await;
    let tasks = address(server.address("worker_push_address").unwrap());
    let mut silent = Pull::connect(&tasks, &options()).await.unwrap();
    let silent = tokio::spawn(async move {
        let mut tasks = Vec::new();
        while silent.recv_many(&mut tasks, 100).await.is_ok() {
            tasks.clear();
        }
    });
    let request = request_at(server.address("rep_address").unwrap()).await;
    (server, request, AbortOnDropHandle::new(silent))
}

#[test]
fn request_whose_answer_is_lost_is_answered_at_the_answer_timeout() {
    check(async {
        let (server, request, silent) = with_a_silent_worker(STALLED, |_| ()).await;
        let request_body = || Message::new("server.shout", "loud").encode();
        // More requests than may wait at once.
        let answers = (0..1001).map(|_| send_request(&request, request_body()));
        for answer in futures_util::future::join_all(answers).await {
            assert_eq!(answer, "0");
        }
        assert_eq!(server.metrics().part("Rep").unwrap().errors, 1001);
        // The worker is killed, and another one connects.
        drop(silent);
        let _worker = Shouter.connect(server.db_address()).spawn().await.unwrap();
        let answered = async {
            loop {
                let answer = send_request(&request, request_body()).await;
                // A task may still be sent to the worker that has left.
                if answer != "0" {
                    return Message::decode(answer).unwrap();
                }
            }
        };
        assert_eq!(soon("an answer", answered).await.payload(), "LOUD");
    });
}

#[test]
fn other_request_with_the_message_id_of_a_waiting_one_is_rejected() {
    check(async {
        let (_server, request, _silent) = with_a_silent_worker(2 * SOON, |_| ()).await;
        let request_body = |text: &'static str| {
            let mut message = Message::new("server.shout", text);
            message.set_cache("a");
            message.encode()
        };
        // Either may arrive first. The worker answers neither.
        let answer = tokio::select! {
            answer = send_request(&request, request_body("loud")) => answer,
            answer = send_request(&request, request_body("louder")) => answer,
        };
        let error = Message::decode(answer).unwrap();
        let error = error.error().unwrap();
        assert_eq!(error.kind, FailureKind::Unavailable);
        assert!(error.message.contains("the message id `a`"), "{error:?}");
    });
}

#[test]
fn part_with_hooks_continues_after_a_lost_answer() {
    check(async {
        let (fed, mut feedback) = mpsc::unbounded_channel();
        let hooks = |rep: InboundEntry<'_>| {
            rep.hooks(Words { fed });
        };
        let (_server, request, _silent) = with_a_silent_worker(STALLED, hooks).await;
        for _ in 0..2 {
            let request_body = Message::new("server.shout", "two words").encode();
            assert_eq!(send_request(&request, request_body).await, "thank you");
            assert_eq!(next(&mut feedback).await, "0");
        }
    });
}

#[test]
fn rep_connection_answers_a_requester_that_binds() {
    check(async {
        let requester = Socket::new(SocketType::Req, Options::default());
        let bound = requester.bind(ANY).await.unwrap();
        let mut template = ServerTemplate::new("server");
        let rep = RepConnection::connect(bound.to_string());
        template
            .register_inbound(rep, "Rep")
            .route("Workers")
            .block(true);
        template.register_outbound(PushPullService::bind(ANY, ANY), "Workers");
        template.register_bypass(CacheService::bind(ANY), "Cache");
        let server = spawn(template).await;
        let _worker = Shouter.connect(server.db_address()).spawn().await.unwrap();

        for text in ["one", "two"] {
            let message = Message::new("server.shout", text).encode();
            requester
                .send(omq_tokio::Message::single(message))
                .await
                .unwrap();
            let reply = soon("a reply", requester.recv()).await.unwrap();
            let reply = Message::decode(reply.part_bytes(0).unwrap()).unwrap();
            assert_eq!(reply.payload(), &text.to_uppercase());
        }
        server.shutdown().await.unwrap();
    });
}

#[test]
fn hooks_of_an_inbound_part_scatter_and_receive_the_answers() {
    check(async {
        let (seen, mut handled) = mpsc::unbounded_channel();
        let (fed, mut feedback) = mpsc::unbounded_channel();
        let mut template = ServerTemplate::new("parts");
        template
            .register_inbound(RepService::bind(ANY), "Rep")
            .hooks(Words { fed })
            .route("Twice")
            .block(true)
            .log(true);
        template
            .register_outbound(Handler::new(Twice { seen }), "Twice")
            .route("Again")
            .log(true);
        // Routes between outbound parts.
        let (seen, mut handled_again) = mpsc::unbounded_channel();
        template
            .register_outbound(Handler::new(Twice { seen }), "Again")
            .route("Pub");
        template.register_outbound(PubService::bind(ANY), "Pub");
        let server = spawn(template).await;
        let publishes = server.address("pub_address").unwrap();
        let mut listener = Caller::at(publishes, publishes, "requester").await;

        let request = request_at(server.address("rep_address").unwrap()).await;
        let mut message = Message::new("parts.x", "a bad b");
        message.set_client("requester");
        assert_eq!(send_request(&request, message.encode()).await, "thank you");
        assert_eq!(next(&mut handled).await, "a");
        assert_eq!(next(&mut handled).await, "b");
        // The answer is that of the last word.
        let answer = Message::decode(next(&mut feedback).await).unwrap();
        assert_eq!(answer.payload(), "b");
        for expected in ["first", "a"] {
            assert_eq!(next(&mut handled_again).await, expected);
        }
        let mut errors = 0;
        let mut payloads = Vec::new();
        for _ in 0..9 {
            let (_, message) = listener.publication().await;
            match message.error() {
                Some(error) => {
                    assert_eq!(error.message, "it is bad");
                    errors += 1;
                }
                None => payloads.push(message.payload().clone()),
            }
        }
        assert_eq!(errors, 1);
        assert_eq!(payloads.iter().filter(|payload| *payload == "a").count(), 1);
        server.shutdown().await.unwrap();
    });
}

/// Records the events that palm logs at DEBUG with the field `part`: the part, and the message.
struct Logged(mpsc::UnboundedSender<(String, String)>);

impl Subscriber for Logged {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let ours = metadata.target().starts_with("palm_runtime");
        ours && metadata.is_event() && *metadata.level() == Level::DEBUG
    }

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        if let Some(part) = fields.part {
            // The test may not read any more.
            let _ = self.0.send((part, fields.message));
        }
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

#[derive(Default)]
struct Fields {
    part: Option<String>,
    message: String,
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "part" {
            self.part = Some(value.to_owned());
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            self.message = format!("{value:?}");
        }
    }
}

#[test]
fn messages_of_a_logged_registration_are_logged() {
    let (sender, mut logged) = mpsc::unbounded_channel();
    // The subscriber is global, since `tracing` caches the interest of the first thread that reaches an event, and
    // could leave out a subscriber of this thread. Other tests have parts of other names.
    tracing::subscriber::set_global_default(Logged(sender)).unwrap();
    check(async move {
        let mut template = ServerTemplate::new("server");
        template
            .register_inbound(PullService::bind(ANY), "LoggedPull")
            .route("LoggedHandler")
            .log(true);
        template
            .register_inbound(RepService::bind(ANY), "SilentRep")
            .route("SilentHandler")
            .block(true);
        let (seen, _handled) = mpsc::unbounded_channel();
        template
            .register_outbound(Handler::new(Twice { seen: seen.clone() }), "LoggedHandler")
            .route("SilentPub")
            .log(true);
        template
            .register_outbound(Handler::new(Twice { seen }), "SilentHandler")
            .route("SilentPub");
        template.register_outbound(PubService::bind(ANY), "SilentPub");
        template.register_bypass(CacheService::bind(ANY), "Cache");
        let server = spawn(template).await;

        let request = request_at(server.address("rep_address").unwrap()).await;
        let silent = Message::new("any.silent", "x").encode();
        assert!(!send_request(&request, silent).await.is_empty());
        let mut caller = Caller::new(&server, "caller").await;
        for payload in ["12345678", "123456789"] {
            caller.send("any.thing", payload).await;
            assert_eq!(caller.answers(2).await, ["first", payload]);
        }
        server.shutdown().await.unwrap();

        let mut lines = Vec::new();
        while let Ok((part, message)) = logged.try_recv() {
            if !part.starts_with("Logged") && !part.starts_with("Silent") {
                continue;
            }
            let (_, fields) = message.split_once("function: ").unwrap();
            let function = fields.split('"').nth(1).unwrap();
            let (_, bytes) = fields.split_once("payload_bytes: ").unwrap();
            let (bytes, _) = bytes.split_once(',').unwrap();
            lines.push(format!("{part} {function} {bytes}"));
        }
        let expected = [
            "LoggedPull any.thing 8",
            "LoggedHandler any.thing 5",
            "LoggedHandler any.thing 8",
            "LoggedPull any.thing 9",
            "LoggedHandler any.thing 5",
            "LoggedHandler any.thing 9",
        ];
        assert_eq!(lines, expected);
    });
}

#[test]
fn rep_bypass_answers_its_own_protocol() {
    check(async {
        let (seen, mut heard) = mpsc::unbounded_channel();
        let mut template = ServerTemplate::new("server");
        let bypass = RepBypassService::bind(ANY, Reverse { seen });
        template.register_bypass(bypass, "Reverse");
        template.register_bypass(CacheService::bind(ANY), "Cache");
        let server = spawn(template).await;
        let request = request_at(server.address("bypass_address").unwrap()).await;
        assert_eq!(send_request(&request, "abc").await, "cba");
        // A failure is answered, and the part continues.
        assert_eq!(send_request(&request, "fail").await, "");
        assert_eq!(send_request(&request, "panic").await, "");
        assert_eq!(send_request(&request, vec![0xff]).await, "");
        assert_eq!(send_request(&request, "xyz").await, "zyx");
        assert_eq!(next(&mut heard).await, "abc");
        let counted = server.metrics().part("Reverse").unwrap().clone();
        assert_eq!((counted.messages, counted.errors), (5, 3));
        server.shutdown().await.unwrap();
    });
}

#[test]
fn bypass_parts_receive_and_send_outside_the_router() {
    check(async {
        let (push, pushes_at) = Push::bind(&address(ANY), &options()).await.unwrap();
        let (mut pull, pulls_at) = Pull::bind(&address(ANY), &options()).await.unwrap();
        let (seen, mut heard) = mpsc::unbounded_channel();
        let mut template = ServerTemplate::new("server");
        let takes = PullBypassConnection::connect(&pushes_at, Reverse { seen });
        let gives = PushBypassConnection::connect(&pulls_at).producer(Speaker);
        let sender = gives.sender();
        template.register_bypass(takes, "Takes");
        template.register_bypass(gives, "Gives");
        template.register_bypass(CacheService::bind(ANY), "Cache");
        let server = spawn(template).await;

        for body in ["fail", "hello"] {
            soon("capacity to send", push.send(body.into()))
                .await
                .unwrap();
            assert_eq!(next(&mut heard).await, body);
        }
        assert!(sender.send("from outside").await);
        let mut bodies = Vec::new();
        while bodies.len() < 4 {
            soon("a body", pull.recv_many(&mut bodies, 4))
                .await
                .unwrap();
        }
        bodies.sort();
        assert_eq!(bodies, ["from outside", "one", "three", "two"]);

        // Messages that are queued when the component stops are still sent.
        assert!(sender.send("last words").await);
        server.shutdown().await.unwrap();
        bodies.clear();
        soon("a body", pull.recv_many(&mut bodies, 4))
            .await
            .unwrap();
        assert_eq!(bodies, ["last words"]);
        assert!(!sender.send("too late").await);
    });
}

#[test]
fn pull_connection_feeds_a_push_connection() {
    check(async {
        let (push, pushes_at) = Push::bind(&address(ANY), &options()).await.unwrap();
        let (mut pull, pulls_at) = Pull::bind(&address(ANY), &options()).await.unwrap();
        let mut template = ServerTemplate::new("server");
        template
            .register_inbound(PullConnection::connect(&pushes_at), "Pull")
            .route("Push");
        template.register_outbound(PushConnection::connect(&pulls_at), "Push");
        let server = spawn(template).await;
        let message = Message::new("a.b", "through");
        soon("capacity to send", push.send(message.encode()))
            .await
            .unwrap();
        let mut frames = Vec::new();
        soon("the message", pull.recv_many(&mut frames, 1))
            .await
            .unwrap();
        let taken = Message::decode(frames.remove(0)).unwrap();
        assert_eq!(taken.payload(), "through");
        assert_eq!(taken.cache().len(), 36, "it got an id");
        server.shutdown().await.unwrap();
    });
}

#[test]
fn sub_connection_feeds_a_push_connection() {
    check(async {
        let (mut publish, publishes_at) = Publish::bind(&address(ANY), &options()).await.unwrap();
        let mut template = ServerTemplate::new("server");
        template
            .register_inbound(SubConnection::connect(&publishes_at, "news"), "Sub")
            .route("Push");
        template.register_outbound(PushService::bind(ANY), "Push");
        let server = spawn(template).await;
        let push = address(server.address("push_address").unwrap());
        let mut pull = Pull::connect(&push, &options()).await.unwrap();
        while !publish.is_subscribed(b"news") {
            soon("a subscription", publish.changed()).await.unwrap();
            publish.next_change().await.unwrap();
        }
        for topic in ["newspaper", "news"] {
            let message = Message::new("a.b", topic).encode();
            publish.send(topic.into(), message).await.unwrap();
        }
        let mut frames = Vec::new();
        soon("the message", pull.recv_many(&mut frames, 1))
            .await
            .unwrap();
        let taken = Message::decode(frames.remove(0)).unwrap();
        assert_eq!(taken.payload(), "news");
        server.shutdown().await.unwrap();
    });
}

#[test]
fn description_draws_a_component_from_its_parts() {
    let mut template = ServerTemplate::new("server");
    template
        .register_inbound(RepService::bind(ANY), "Rep")
        .route("Workers")
        .block(true);
    template
        .register_outbound(PushPullService::bind(ANY, ANY), "Workers")
        .route("Pub");
    template.register_outbound(PubService::bind(ANY), "Pub");
    template.register_bypass(CacheService::bind(ANY), "Cache");
    let description = template.describe();
    let text = "\
server
  inbound   Rep      RepService       → Workers (waits for its answer)
  outbound  Workers  PushPullService  → Pub
  outbound  Pub      PubService
  bypass    Cache    CacheService
";
    assert_eq!(description.to_string(), text);
    assert!(description.graphviz().starts_with("digraph \"server\" {\n"));
}

#[test]
fn master_publishes_the_functions_of_its_workers() {
    check(async {
        let master = Master::new("server").bind(ANY).spawn().await.unwrap();
        let client = connect("server", &master).await;
        let worker = Shouter.connect(master.db_address()).spawn().await.unwrap();
        let has_shout = async {
            loop {
                let descriptor = client.get("palm").await.unwrap().unwrap();
                let descriptor: palm_proto::message::proto::Descriptor =
                    prost::Message::decode(descriptor).unwrap();
                if descriptor
                    .functions
                    .iter()
                    .any(|function| function.name == "shout")
                {
                    assert!(
                        descriptor.incomplete,
                        "a legacy worker publishes no functions"
                    );
                    return;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        soon("the offer", has_shout).await;
        eventually("nothing is out", || {
            master.metrics().part("WorkerPush").is_some()
        })
        .await;
        worker.shutdown().await.unwrap();
        master.shutdown().await.unwrap();
    });
}

/// Answers tasks with its name: all of them, or the first one, and keeps the others.
struct Device {
    name: &'static str,
    tasks: usize,
}

impl OutboundHooks for Device {
    async fn handle(
        &mut self,
        task: Message,
        _: Context,
        emit: &mut Emit<'_>,
    ) -> Result<(), CallFailure> {
        if self.tasks == 0 {
            std::future::pending::<()>().await;
        }
        self.tasks -= 1;
        emit.send(task.with_payload(self.name)).await;
        Ok(())
    }
}

/// A worker whose tasks are run by a part of the user.
fn device_at(db_address: &str, function: &str, device: Device) -> ServerTemplate {
    let connection = MasterConnection::connect(db_address).function(function);
    let (tasks, results) = connection.prefetch(10).parts();
    let mut worker = ServerTemplate::new(device.name);
    worker.register_inbound(tasks, "Tasks").route("Device");
    worker
        .register_outbound(Handler::new(device), "Device")
        .route("Results");
    worker.register_outbound(results, "Results");
    worker
}

#[test]
fn part_of_the_user_runs_the_tasks_of_a_master() {
    check(async {
        let master = Master::new("server").bind(ANY).spawn().await.unwrap();
        let lost = Device {
            name: "lost",
            tasks: 1,
        };
        let lost = spawn(device_at(master.db_address(), "measure", lost)).await;
        let client = connect("server", &master).await;
        let mut job = client.job("server.measure", (0..200).map(|number| number.to_string()));
        let first = soon("the first answer", job.next()).await.unwrap().unwrap();
        assert_eq!(first, "lost");
        let kept = Device {
            name: "kept",
            tasks: usize::MAX,
        };
        let kept = spawn(device_at(master.db_address(), "measure", kept)).await;
        soon("the end of the first worker", lost.kill()).await;
        let mut answers = 1;
        while let Some(answer) = soon("an answer", job.next()).await {
            assert_eq!(answer.unwrap(), "kept");
            answers += 1;
        }
        assert_eq!(answers, 200);

        let unknown = client.eval("server.weigh", "").await.unwrap_err();
        let CallError::Remote(unknown) = unknown else {
            panic!("{unknown}");
        };
        assert_eq!(unknown.kind, FailureKind::UnknownFunction);
        soon("the stop", kept.shutdown()).await.unwrap();
    });
}

#[test]
fn worker_of_parts_with_a_mistake_does_not_start() {
    check(async {
        for (db_address, function, expected) in [
            (
                "tcp://*:5559",
                "measure",
                "cannot connect to `tcp://*:5559`",
            ),
            ("tcp:/5559", "measure", "`tcp:/5559` is not an address"),
            (
                "tcp://127.0.0.1:5559",
                "server.measure",
                "`server.measure` cannot be the name of a method",
            ),
        ] {
            let device = Device {
                name: "device",
                tasks: 0,
            };
            let error = device_at(db_address, function, device)
                .spawn()
                .await
                .unwrap_err();
            assert!(
                matches!(error, palm::Error::Start(StartError::Open { .. })),
                "{error:?}"
            );
            let text = super::setup::chain(&error);
            assert!(text.contains(expected), "{text}");
        }
    });
}
