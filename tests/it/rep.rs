//! Components made from parts: REP sockets, and user-implemented parts.

use std::time::Duration;

use bytes::Bytes;
use palm::callable::Emit;
use palm::component::InboundEntry;
use palm::part::{
    Bypass, Envelope, Inbound, InboundHooks, Inlet, OpenError, Outbound, Outlet, Running, Setup,
    Stop,
};
use palm::parts::{CacheService, PubService, PullService, PushService, RepService};
use palm::prelude::*;
use palm::socket::{Dealer, Pull, Request};
use palm::{BoxError, CallFailure, ComponentHandle};
use tokio::sync::mpsc;

use super::setup::{ANY, Caller, Gate, address, chain, check, options, soon};

/// A part that answers in capitals. Messages of the function `slow` wait at a gate.
struct Shout {
    gate: Gate,
}

impl Outbound for Shout {
    async fn open(self, setup: &mut Setup<'_>) -> Result<Running<(Inlet, Outlet)>, OpenError> {
        assert_eq!(setup.component(), "shouting");
        Ok(Running::outbound(move |mut inlet, outlet| async move {
            let mut batch = Vec::new();
            let mut slow = tokio::task::JoinSet::new();
            while inlet.recv_many(&mut batch, 10).await > 0 {
                for envelope in batch.drain(..) {
                    let gate = self.gate.clone();
                    let outlet = outlet.clone();
                    slow.spawn(async move {
                        if envelope.message().function() == "shouting.slow" {
                            gate.pass().await;
                        }
                        let answer = envelope.message().payload().to_ascii_uppercase();
                        let message = envelope.answer(Bytes::from(answer.clone()));
                        outlet.send(message.with_payload(answer)).await;
                    });
                }
            }
            while slow.join_next().await.is_some() {}
            Ok(())
        }))
    }
}

/// Starts a component of REP, `Shout` and PUB.
async fn shouting(block: bool) -> (ComponentHandle, Gate) {
    shouting_with(|_| (), block).await
}

/// [`shouting`] with the hooks that `hooks` sets at the REP part.
async fn shouting_with(
    hooks: impl FnOnce(InboundEntry<'_>),
    block: bool,
) -> (ComponentHandle, Gate) {
    let gate = Gate::closed();
    let mut template = ServerTemplate::new("shouting");
    let rep = template.register_inbound(RepService::bind(ANY), "Rep");
    hooks(rep.route("Shout").block(block).log(true));
    template
        .register_outbound(Shout { gate: gate.clone() }, "Shout")
        .route("Pub")
        .log(true);
    template.register_outbound(PubService::bind(ANY), "Pub");
    template.register_bypass(CacheService::bind(ANY), "Cache");
    (template.spawn().await.unwrap(), gate)
}

async fn request_to(component: &ComponentHandle) -> Request {
    let at = address(component.address("rep_address").unwrap());
    Request::connect(&at, &options()).await.unwrap()
}

async fn send_request(request: &Request, function: &str, payload: &str) -> Bytes {
    let mut message = Message::new(function, payload.to_owned());
    message.set_client("requester");
    request
        .request(message.encode(), Duration::from_secs(10))
        .await
        .unwrap()
}

#[test]
fn request_is_answered_with_the_result_if_the_route_blocks() {
    check(async {
        let (component, gate) = shouting(true).await;
        let request = request_to(&component).await;
        assert_eq!(send_request(&request, "shouting.shout", "x").await, "X");
        // A slow request does not delay others.
        let slow = send_request(&request, "shouting.slow", "slow");
        let others = async {
            gate.arrived(1).await;
            for number in 0..20 {
                assert_eq!(
                    send_request(&request, "shouting.shout", &format!("a{number}")).await,
                    format!("A{number}")
                );
            }
            gate.open();
        };
        assert_eq!(
            soon("the answers", async { tokio::join!(slow, others) })
                .await
                .0,
            "SLOW"
        );
        component.shutdown().await.unwrap();
    });
}

#[test]
fn request_is_acknowledged_if_the_route_does_not_block() {
    check(async {
        let (component, gate) = shouting(false).await;
        let request = request_to(&component).await;
        assert_eq!(send_request(&request, "shouting.slow", "x").await, "1");
        gate.arrived(1).await;
        gate.open();
        // The result is still passed on.
        let publishes = component.address("pub_address").unwrap();
        let mut listener = Caller::at(publishes, publishes, "requester").await;
        assert_eq!(listener.answer().await, "X");
    });
}

#[test]
fn request_without_a_result_is_answered_with_an_empty_message() {
    check(async {
        let mut template = ServerTemplate::new("to-a-push");
        template
            .register_inbound(RepService::bind(ANY), "Rep")
            .route("Push")
            .block(true);
        template.register_outbound(PushService::bind(ANY), "Push");
        let component = template.spawn().await.unwrap();
        assert_eq!(
            send_request(&request_to(&component).await, "a.b", "x").await,
            ""
        );
        let push = address(component.address("push_address").unwrap());
        let mut pull = Pull::connect(&push, &options()).await.unwrap();
        let mut frames = Vec::new();
        soon("the message", pull.recv_many(&mut frames, 1))
            .await
            .unwrap();
        let message = Message::decode(frames.remove(0)).unwrap();
        assert_eq!(
            (message.payload(), message.cache().len()),
            (&Bytes::from("x"), 36)
        );
    });
}

#[test]
fn malformed_request_is_answered_with_a_failure() {
    check(async {
        let (component, _) = shouting(true).await;
        let request = request_to(&component).await;
        let at = address(component.address("rep_address").unwrap());
        let mut dealer = Dealer::connect(&at, &options()).await.unwrap();
        let good = Message::new("shouting.shout", "x").encode();
        for frames in [
            vec![Bytes::from("\u{ff}\u{ff}\u{ff}")],
            vec![good.clone(), good.clone()],
            vec![],
        ] {
            let envelope = [Bytes::from("id"), Bytes::new()];
            let frames = envelope.into_iter().chain(frames.clone()).collect();
            dealer.send(frames).await.unwrap();
            let mut replies = Vec::new();
            soon("a reply", dealer.recv_many(&mut replies, 1))
                .await
                .unwrap();
            assert_eq!(replies[0][..], ["id", "", "0"].map(Bytes::from));
            assert_eq!(send_request(&request, "shouting.shout", "x").await, "X");
        }
        // A message without a delimiter is not a request.
        dealer
            .send(["no delimiter"].map(Bytes::from).into_iter().collect())
            .await
            .unwrap();
        assert_eq!(send_request(&request, "shouting.shout", "x").await, "X");
        assert_eq!(component.metrics().part("Rep").unwrap().errors, 3);
    });
}

/// Hooks that double each message, and decorate the answer.
struct Decorate {
    seen: Bytes,
}

impl InboundHooks for Decorate {
    async fn scatter(
        &mut self,
        message: Message,
        context: Context,
        emit: &mut Emit<'_>,
    ) -> Result<(), CallFailure> {
        assert_eq!(context.name(), "shouting");
        match &message.payload()[..] {
            b"none" => return Ok(()),
            b"panic" => panic!("as requested"),
            _ => {}
        }
        emit.send(message.clone().with_payload("first")).await;
        emit.send(message).await;
        Ok(())
    }

    fn handle_feedback(&mut self, feedback: &Bytes) {
        self.seen = feedback.clone();
    }

    fn reply_feedback(&mut self, feedback: Bytes) -> Bytes {
        assert_eq!(feedback, self.seen);
        [b"<", &feedback[..], b">"].concat().into()
    }
}

#[test]
fn hooks_shape_requests_and_replies() {
    check(async {
        let hooks = Decorate { seen: Bytes::new() };
        let hooks = |rep: InboundEntry<'_>| {
            rep.hooks(hooks);
        };
        let (component, _) = shouting_with(hooks, true).await;
        let request = request_to(&component).await;
        assert_eq!(send_request(&request, "shouting.shout", "x").await, "<X>");
        assert_eq!(send_request(&request, "shouting.shout", "none").await, "<>");
        assert_eq!(
            send_request(&request, "shouting.shout", "panic").await,
            "<0>"
        );
        assert_eq!(send_request(&request, "shouting.shout", "x").await, "<X>");
    });
}

/// Hooks that panic if the payload says so.
struct Nervous;

impl InboundHooks for Nervous {
    const SCATTERS: bool = false;

    fn handle_feedback(&mut self, feedback: &Bytes) {
        assert_ne!(feedback, "BOO", "on purpose");
    }
}

#[test]
fn panicking_feedback_hook_does_not_stop_other_requests() {
    check(async {
        let hooks = |rep: InboundEntry<'_>| {
            rep.hooks(Nervous);
        };
        let (component, _) = shouting_with(hooks, true).await;
        let request = request_to(&component).await;
        let body = Message::new("shouting.shout", "boo").encode();
        // There may be a reply.
        let _ = request.request(body, Duration::from_millis(500)).await;
        let body = Message::new("shouting.shout", "x").encode();
        assert_eq!(
            request.request(body, Duration::from_secs(3)).await.unwrap(),
            "X"
        );
    });
}

/// An inbound part that reads a channel, and reports the answers.
struct Feed {
    messages: mpsc::Receiver<Message>,
    answers: mpsc::Sender<Bytes>,
}

impl Inbound for Feed {
    async fn open(mut self, setup: &mut Setup<'_>) -> Result<Running<Outlet>, OpenError> {
        let announced = setup.announce("feed_address", &address("tcp://*:1234"));
        assert!(!announced.to_string().contains('*'));
        let options = format!("{:?}", setup.socket_options());
        assert!(
            options.contains("max_message_bytes: 268435456"),
            "{options}"
        );
        Ok(Running::inbound(move |outlet| async move {
            loop {
                let message = tokio::select! {
                    () = outlet.stopped() => return Ok(()),
                    message = self.messages.recv() => message.ok_or("the feed has run dry")?,
                };
                let answer = outlet.send(message).await;
                self.answers.send(answer).await?;
            }
        }))
    }
}

/// An outbound part that writes to a channel.
struct Collect(mpsc::Sender<Message>);

impl Outbound for Collect {
    async fn open(self, _: &mut Setup<'_>) -> Result<Running<(Inlet, Outlet)>, OpenError> {
        Ok(Running::outbound(move |mut inlet, _| async move {
            let mut batch = Vec::new();
            while inlet.recv_many(&mut batch, 10).await > 0 {
                for envelope in batch.drain(..) {
                    let envelope: Envelope = envelope;
                    assert_ne!(envelope.message().payload(), "panic", "on purpose");
                    self.0.send(envelope.answer("collected".into())).await?;
                }
            }
            Ok(())
        }))
    }
}

/// A bypass part that reports its end.
struct Beside(mpsc::Sender<&'static str>);

impl Bypass for Beside {
    async fn open(self, _: &mut Setup<'_>) -> Result<Running<Stop>, OpenError> {
        Ok(Running::bypass(move |stop| async move {
            stop.stopped().await;
            self.0.send("bypass").await?;
            Ok(())
        }))
    }
}

struct Parts {
    component: ComponentHandle,
    feed: mpsc::Sender<Message>,
    answers: mpsc::Receiver<Bytes>,
    collected: mpsc::Receiver<Message>,
    bypass: mpsc::Receiver<&'static str>,
}

async fn own_parts() -> Parts {
    let (feed, messages) = mpsc::channel(10);
    let (answered, answers) = mpsc::channel(10);
    let (collect, collected) = mpsc::channel(10);
    let (ended, bypass) = mpsc::channel(10);
    let mut template = ServerTemplate::new("own");
    let inbound = Feed {
        messages,
        answers: answered,
    };
    template
        .register_inbound(inbound, "Feed")
        .route("Collect")
        .block(true);
    template.register_outbound(Collect(collect), "Collect");
    template.register_bypass(Beside(ended), "Beside");
    Parts {
        component: template.spawn().await.unwrap(),
        feed,
        answers,
        collected,
        bypass,
    }
}

#[test]
fn user_implemented_parts_pass_messages() {
    check(async {
        let mut parts = own_parts().await;
        assert!(
            parts
                .component
                .address("feed_address")
                .unwrap()
                .ends_with(":1234")
        );
        parts.feed.send(Message::new("a.b", "x")).await.unwrap();
        let message = soon("the message", parts.collected.recv()).await.unwrap();
        assert_eq!(
            (message.function(), message.payload()),
            ("a.b", &Bytes::from("x"))
        );
        assert_eq!(
            soon("the answer", parts.answers.recv()).await.unwrap(),
            "collected"
        );
        soon("the end", parts.component.shutdown()).await.unwrap();
        // The bypass stops last, and all parts have ended.
        assert_eq!(parts.bypass.recv().await, Some("bypass"));
        assert!(parts.collected.recv().await.is_none());
    });
}

#[test]
fn failing_part_ends_the_component_and_is_named() {
    check(async {
        let parts = own_parts().await;
        drop(parts.feed);
        let error = soon("the end", parts.component.join()).await.unwrap_err();
        let error = chain(&error);
        for part in ["`own`", "`Feed`", "the feed has run dry"] {
            assert!(error.contains(part), "`{part}` is not in: {error}");
        }
    });
}

#[test]
fn panicking_part_ends_the_component_and_is_named() {
    check(async {
        let parts = own_parts().await;
        parts.feed.send(Message::new("a.b", "panic")).await.unwrap();
        let error = soon("the end", parts.component.join()).await.unwrap_err();
        let error = chain(&error);
        for part in ["`own`", "panic", "`Collect`"] {
            assert!(error.contains(part), "`{part}` is not in: {error}");
        }
    });
}

struct Refuses;

impl Inbound for Refuses {
    async fn open(self, _: &mut Setup<'_>) -> Result<Running<Outlet>, OpenError> {
        Err(BoxError::from("no licence").into())
    }
}

#[test]
fn part_that_fails_to_open_is_named() {
    check(async {
        let mut template = ServerTemplate::new("own");
        template
            .register_inbound(PullService::bind(ANY), "Pull")
            .route("Push");
        template.register_inbound(Refuses, "Refuses").route("Push");
        template.register_outbound(PushService::bind(ANY), "Push");
        let error = chain(&template.spawn().await.unwrap_err());
        for part in ["`own`", "`Refuses`", "no licence"] {
            assert!(error.contains(part), "`{part}` is not in: {error}");
        }
    });
}
