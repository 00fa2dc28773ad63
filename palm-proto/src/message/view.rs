//! [`Message`]: the fields of a `PalmMessage` as views into the frame that it came in.

use std::ops::Range;

use bytes::Bytes;
use bytestring::ByteString;
use prost::Message as _;
use uuid::Uuid;

use super::Deadline;
use super::codec::{self, Content, DecodeError};
use super::error::{self, RemoteError};
use super::frame_pool::FramePool;
use super::lease::Lease;
use super::proto::{End, Extensions, PalmMessage, Share, Trace};
use super::share;
use crate::failure::{CallFailure, chain};
use crate::function::{Step, StepError, has_next_step, step_at};

/// What the payload becomes when a call or a hook fails, for peers of old: the one byte `0`.
const FAILED: Bytes = Bytes::from_static(b"0");

/// A message of the PALM protocol.
///
/// Cloning is cheap: text and payload are reference counted views. A decoded message shares the
/// memory of the frame that it came in, and while nothing in it is changed it is sent on as that
/// very frame. MessageFields that this version does not know are kept and sent on ([proto3 unknown
/// fields](https://protobuf.dev/programming-guides/proto3/#unknowns)), so that newer peers can talk
/// through us.
///
/// ```
/// # use palm::Message;
/// let mut message = Message::new("images.thumbnail", "raw bytes");
/// message.set_stage(message.stage() + 1);
/// assert_eq!(message.payload(), "raw bytes");
/// # Ok::<(), palm::DecodeError>(())
/// ```
#[derive(Clone, Default)]
pub struct Message(pub(super) Box<MessageFields>);

/// Behind a pointer, since a message is moved many times on its way, and its fields are large.
#[derive(Clone, Default)]
pub(super) struct MessageFields {
    /// The frame that this came in.
    pub(super) frame: Bytes,
    /// Whether the fields say something else than the frame.
    pub(super) changed: bool,
    pub(super) pipeline: TextField,
    pub(super) client: TextField,
    pub(super) stage: i64,
    pub(super) function: TextField,
    pub(super) cache: TextField,
    pub(super) payload: Bytes,
    /// MessageFields that we do not know, still encoded.
    pub(super) unknown: Bytes,
    /// What it belongs to, at a worker. It does not go over the wire.
    pub(super) task: Option<Lease>,
}

/// TextField of a message. A place in the frame costs no reference to it, of which there would be four.
#[derive(Clone)]
pub(super) enum TextField {
    /// Its bytes are known to be UTF-8.
    InFrame(Range<usize>),
    Owned(ByteString),
}

impl Default for TextField {
    fn default() -> Self {
        Self::InFrame(0..0)
    }
}

impl MessageFields {
    fn bytes<'a>(&'a self, text: &'a TextField) -> &'a [u8] {
        match text {
            TextField::InFrame(place) => &self.frame[place.clone()],
            TextField::Owned(text) => text.as_bytes(),
        }
    }

    fn str<'a>(&'a self, text: &'a TextField) -> &'a str {
        match text {
            TextField::InFrame(place) => {
                let bytes = &self.frame[place.clone()];
                std::str::from_utf8(bytes).expect("it was checked when it was decoded")
            }
            TextField::Owned(text) => text,
        }
    }

    fn encode(&self) -> Bytes {
        self.content().encode()
    }

    pub(super) fn content(&self) -> Content<'_> {
        Content {
            pipeline: self.bytes(&self.pipeline),
            client: self.bytes(&self.client),
            stage: self.stage,
            function: self.bytes(&self.function),
            cache: self.bytes(&self.cache),
            payload: &self.payload,
            unknown: &self.unknown,
        }
    }
}

impl Message {
    /// A message at stage 0 for `function`, from nobody: pipeline, client and cache are empty.
    pub fn new(function: impl Into<ByteString>, payload: impl Into<Bytes>) -> Self {
        Self(Box::new(MessageFields {
            changed: true,
            function: TextField::Owned(function.into()),
            payload: payload.into(),
            ..MessageFields::default()
        }))
    }

    /// Reads a message from the frame that it came in, without copying text or payload.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] when the bytes are no `PalmMessage`: cut short, a field of another wire
    /// type, or text that is not UTF-8.
    pub fn decode(frame: Bytes) -> Result<Self, DecodeError> {
        codec::decode(frame).map(|fields| Self(Box::new(fields)))
    }

    /// [`decode`](Self::decode) of what came from a peer: a warning, and `None`, where it is no message.
    #[doc(hidden)]
    pub fn read(frame: Bytes) -> Option<Self> {
        let decoded = Self::decode(frame);
        if let Err(error) = &decoded {
            let cause = chain(error);
            tracing::warn!("a peer sent what is no message: {cause}");
        }
        decoded.ok()
    }

    /// The message as one frame. Nothing is copied when it is as it came in; otherwise header and
    /// payload are written once into a new buffer, since a ZeroMQ frame is one piece of memory.
    pub fn encode(&self) -> Bytes {
        if self.0.changed {
            self.0.encode()
        } else {
            self.0.frame.clone()
        }
    }

    /// [`encode`](Self::encode), without counting another reference to the frame.
    pub fn into_frame(self) -> Bytes {
        if self.0.changed {
            self.0.encode()
        } else {
            self.0.frame
        }
    }

    /// [`into_frame`](Self::into_frame), in memory that is used again and again where it is large.
    #[doc(hidden)]
    pub fn into_frame_in(self, memory: &mut FramePool) -> Bytes {
        if self.0.changed {
            memory.encode(self.0.content())
        } else {
            self.0.frame
        }
    }

    /// Id of the stream: the client's session, or a UUID.
    pub fn pipeline(&self) -> &str {
        self.0.str(&self.0.pipeline)
    }

    /// Id of the client that began the stream, and the topic on which its answers come back.
    pub fn client(&self) -> &str {
        self.0.str(&self.0.client)
    }

    /// Index of the step that is to be done next. A client sends 0.
    pub fn stage(&self) -> i64 {
        self.0.stage
    }

    /// `server.function`, or several of them separated by spaces.
    pub fn function(&self) -> &str {
        self.0.str(&self.0.function)
    }

    /// The key in a request to the cache service; otherwise the id that a server gave the message.
    pub fn cache(&self) -> &str {
        self.0.str(&self.0.cache)
    }

    /// The data.
    pub fn payload(&self) -> &Bytes {
        &self.0.payload
    }

    /// The step that is to be done next: of several, number [`stage`](Self::stage); the only one
    /// whatever the stage is.
    ///
    /// # Errors
    ///
    /// [`StepError`] when there is no such step, or when it is not of the form `server.function`.
    pub fn step(&self) -> Result<Step<'_>, StepError> {
        step_at(self.function(), self.0.stage)
    }

    /// Sets the id of the stream.
    pub fn set_pipeline(&mut self, pipeline: impl Into<ByteString>) {
        self.0.pipeline = TextField::Owned(pipeline.into());
        self.0.changed = true;
    }

    /// Sets the id of the client, which is the topic of the answer.
    pub fn set_client(&mut self, client: impl Into<ByteString>) {
        self.0.client = TextField::Owned(client.into());
        self.0.changed = true;
    }

    /// Sets the index of the step that is to be done next.
    pub fn set_stage(&mut self, stage: i64) {
        self.0.stage = stage;
        self.0.changed = true;
    }

    /// Sets the functions to be called, one per step.
    pub fn set_function(&mut self, function: impl Into<ByteString>) {
        self.0.function = TextField::Owned(function.into());
        self.0.changed = true;
    }

    /// Sets the cache key, or the id of the message.
    pub fn set_cache(&mut self, cache: impl Into<ByteString>) {
        self.0.cache = TextField::Owned(cache.into());
        self.0.changed = true;
    }

    /// Replaces the data.
    pub fn set_payload(&mut self, payload: impl Into<Bytes>) {
        let payload = payload.into();
        // A function that gives its argument back, as filters and routers do, changes nothing.
        let same =
            payload.len() == self.0.payload.len() && payload.as_ptr() == self.0.payload.as_ptr();
        self.0.changed |= !same;
        self.0.payload = payload;
    }

    /// The message with another payload: [`set_payload`](Self::set_payload) for use in expressions.
    #[must_use]
    pub fn with_payload(mut self, payload: impl Into<Bytes>) -> Self {
        self.set_payload(payload);
        self
    }

    /// Whether a step follows the one that is to be done next.
    #[doc(hidden)]
    pub fn has_next_step(&self) -> bool {
        has_next_step(self.function(), self.0.stage)
    }

    /// Why the payload is no result, where a component before has told.
    pub fn error(&self) -> Option<RemoteError> {
        RemoteError::from_unknown(&self.0.unknown, self.function())
    }

    /// What is told besides the fields of old. `None`, at no cost, where that is nothing; what cannot be
    /// read counts as nothing.
    #[doc(hidden)]
    pub fn extensions(&self) -> Option<Extensions> {
        if self.0.unknown.is_empty() {
            return None;
        }
        Extensions::read(&self.0.unknown)
    }

    /// Adds to what is told besides the fields of old.
    #[doc(hidden)]
    pub fn extend(&mut self, extensions: &Extensions) {
        let more = extensions.encode_to_vec();
        self.0.unknown = if self.0.unknown.is_empty() {
            more.into()
        } else {
            [&self.0.unknown, &more[..]].concat().into()
        };
        self.0.changed = true;
    }

    /// Which part of an input of a job it is, where its client wants to know.
    #[doc(hidden)]
    pub fn share(&self) -> Option<Share> {
        self.extensions()?.share
    }

    /// Says which part of an input it is.
    #[doc(hidden)]
    pub fn set_share(&mut self, share: Option<Share>) {
        if share.is_some() || !self.0.unknown.is_empty() {
            self.0.unknown = share::replace(&self.0.unknown, share).into();
            self.0.changed = true;
        }
    }

    /// Its number between a master and a worker without a link; 0: it has none.
    #[doc(hidden)]
    pub fn task_number(&self) -> u64 {
        self.extensions().unwrap_or_default().task
    }

    /// Gives it such a number.
    #[doc(hidden)]
    pub fn set_task_number(&mut self, task: u64) {
        self.extend(&Extensions {
            task,
            ..Extensions::default()
        });
    }

    /// It came by a peer that may not have kept shares together.
    #[doc(hidden)]
    pub fn doubt_share(&mut self) {
        if let Some(share) = self.share()
            && !share.incomplete
        {
            let incomplete = true;
            self.set_share(Some(Share {
                incomplete,
                ..share
            }));
        }
    }

    /// Whether it is no result, and only brings its client what is left of a share.
    #[doc(hidden)]
    pub fn is_rest(&self) -> bool {
        let extensions = self.extensions();
        extensions.is_some_and(|it| it.share.is_some() && it.end.is_some() && it.error.is_none())
    }

    /// Turns it into one that is no result, and only brings its client what is left of a share.
    #[doc(hidden)]
    pub fn into_rest(mut self, share: Share) -> Self {
        self.set_share(Some(share));
        self.end(0);
        self.with_payload(Bytes::new())
    }

    /// What the call is part of, where the caller has told: its trace and its request.
    pub fn trace(&self) -> Option<Trace> {
        self.extensions()?.trace
    }

    /// Says that with this message a call has given all of its results: `results` of them.
    #[doc(hidden)]
    pub fn end(&mut self, results: u64) {
        self.extend(&Extensions {
            end: Some(End { results }),
            ..Extensions::default()
        });
    }

    /// Says so of a call that came to nothing but this error, where somebody wants to know.
    #[doc(hidden)]
    pub fn end_with_error(&mut self) {
        let extensions = self.extensions().unwrap_or_default();
        if extensions.wants_end && extensions.end.is_none() {
            self.end(1);
        }
    }

    /// Until when the answer is wanted, where the caller has told.
    #[doc(hidden)]
    pub fn deadline(&self) -> Option<Deadline> {
        Deadline::from_unknown(&self.0.unknown)
    }

    /// Whether it may be one of several that go the same way, see [`Batch`](super::Batch).
    pub(super) fn may_be_batched(&self) -> bool {
        !self.0.bytes(&self.0.cache).is_empty() && !codec::tells_of_an_end(&self.0.unknown)
    }

    /// Whether it goes the same way as another one.
    pub(super) fn goes_with(&self, other: &Self) -> bool {
        let (one, other) = (&*self.0, &*other.0);
        one.bytes(&one.client) == other.bytes(&other.client)
            && one.stage == other.stage
            && one.bytes(&one.function) == other.bytes(&other.function)
            && !other.bytes(&other.cache).is_empty()
            && !codec::tells_of_an_end(&other.unknown)
    }

    /// Whether it only ends a call that has results.
    #[doc(hidden)]
    pub fn promises_results(&self) -> bool {
        let extensions = self.extensions().unwrap_or_default();
        extensions.error.is_none() && extensions.end.is_some_and(|end| end.results > 0)
    }

    /// Whether its caller wants to be told when a call has no further results.
    #[doc(hidden)]
    pub fn wants_end(&self) -> bool {
        self.extensions()
            .is_some_and(|extensions| extensions.wants_end)
    }

    /// Whether there is an [`error`](Self::error): it costs nothing to ask where there are no extensions.
    #[doc(hidden)]
    pub fn has_error(&self) -> bool {
        !self.0.unknown.is_empty() && self.error().is_some()
    }

    /// Whether no step works on the message any more: an earlier step failed, or the message only says that
    /// there are no further results.
    ///
    /// The parts of palm pass such a message on unchanged, and show it to no method and no hook. An outbound
    /// part of your own receives it, and should send it on along its outlet: otherwise a caller misses an
    /// error, or a job that knows when it is complete waits for its timeout.
    pub fn is_done(&self) -> bool {
        // Most messages have a share and a deadline here, which need not be decoded to tell.
        if !codec::tells_of_an_end(&self.0.unknown) {
            return false;
        }
        let extensions = self.extensions();
        extensions.is_some_and(|extensions| extensions.error.is_some() || extensions.end.is_some())
    }

    /// The message as the answer to a call that failed in `component`: with the payload `0`, and the
    /// error, if there is none from before.
    #[must_use]
    #[doc(hidden)]
    pub fn failed(mut self, component: &str, failure: &CallFailure) -> Self {
        if !self.has_error() {
            let error = error::encode(component, self.stage(), failure);
            let known = &self.0.unknown;
            self.0.unknown = [known, &error[..]].concat().into();
            self.0.changed = true;
        }
        self.with_payload(FAILED)
    }

    /// Says that this message, and all that is made of it, belongs to a task.
    #[doc(hidden)]
    pub fn belongs_to(&mut self, lease: Lease) {
        self.0.task = Some(lease);
    }

    /// Takes the task that it belongs to.
    #[doc(hidden)]
    pub fn take_task(&mut self) -> Option<Lease> {
        self.0.task.take()
    }

    /// A copy that belongs to no task, for code that may keep it for as long as it likes.
    #[doc(hidden)]
    pub fn detached(&self) -> Self {
        let mut copy = self.clone();
        copy.0.task = None;
        copy
    }

    /// The task that it belongs to, if any, is about to run; `false` if the task was returned to the master
    /// and must not.
    #[doc(hidden)]
    pub fn begin_task(&self) -> bool {
        self.0.task.as_ref().is_none_or(Lease::begin)
    }

    /// No other worker may run the task that it belongs to, if any. Returns `false` if the task is returned by now.
    #[doc(hidden)]
    pub fn run_task_once(&self) -> bool {
        self.0.task.as_ref().is_none_or(Lease::run_once)
    }

    /// Whether the task that it belongs to, if any, was returned to the master.
    #[doc(hidden)]
    pub fn is_returned(&self) -> bool {
        self.0.task.as_ref().is_some_and(Lease::is_over)
    }

    /// The task that it belongs to, if any, is done without a further result.
    #[doc(hidden)]
    pub fn finish_task(&self) {
        if let Some(task) = &self.0.task {
            task.finish();
        }
    }

    /// It is one of the results of the task that it belongs to, if any.
    #[doc(hidden)]
    pub fn set_result(&mut self) {
        if let Some(task) = &mut self.0.task {
            task.set_result();
        }
    }

    /// It is the last result of the task that it belongs to, if any.
    #[doc(hidden)]
    pub fn set_last_result(&mut self) {
        if let Some(task) = &mut self.0.task {
            task.set_last_result();
        }
    }

    /// Gives the message an id of its own in `cache` if that is empty, as servers do.
    #[doc(hidden)]
    pub fn ensure_id(&mut self) {
        if self.0.bytes(&self.0.cache).is_empty() {
            self.set_cache(new_id());
        }
    }

    /// Whether these are its functions, and its stage.
    #[doc(hidden)]
    pub fn asks_for(&self, function: &str, stage: i64) -> bool {
        self.0.stage == stage && self.0.bytes(&self.0.function) == function.as_bytes()
    }

    /// Whether this is its client.
    #[doc(hidden)]
    pub fn is_of(&self, client: &str) -> bool {
        self.0.bytes(&self.0.client) == client.as_bytes()
    }

    /// [`client`](Self::client), as bytes.
    #[doc(hidden)]
    pub fn client_bytes(&self) -> &[u8] {
        self.0.bytes(&self.0.client)
    }

    /// Its client, as a topic.
    #[doc(hidden)]
    pub fn client_topic(&self) -> ByteString {
        match &self.0.client {
            TextField::InFrame(place) => {
                let bytes = self.0.frame.slice(place.clone());
                ByteString::try_from(bytes).expect("it was checked when it was decoded")
            }
            TextField::Owned(text) => text.clone(),
        }
    }

    /// Bytes that the message holds in memory, more or less; what queues count.
    #[doc(hidden)]
    pub fn weight(&self) -> usize {
        let new = if self.0.changed {
            self.0.payload.len()
        } else {
            0
        };
        self.0.frame.len() + new
    }
}

/// A random id, as text: a UUID, version 4 (RFC 9562).
pub fn new_id() -> ByteString {
    let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
    Uuid::new_v4().as_hyphenated().encode_lower(&mut text);
    let text: &str = std::str::from_utf8(&text).expect("a UUID is ASCII");
    ByteString::from(text)
}

impl std::fmt::Debug for Message {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Message")
            .field("pipeline", &self.pipeline())
            .field("client", &self.client())
            .field("stage", &self.0.stage)
            .field("function", &self.function())
            .field("cache", &self.cache())
            .field("payload_bytes", &self.0.payload.len())
            .field("unknown_bytes", &self.0.unknown.len())
            .finish()
    }
}

/// Two messages are equal when all fields are, the ones that we do not know included.
impl PartialEq for Message {
    fn eq(&self, other: &Self) -> bool {
        self.pipeline() == other.pipeline()
            && self.client() == other.client()
            && self.0.stage == other.0.stage
            && self.function() == other.function()
            && self.cache() == other.cache()
            && self.0.payload == other.0.payload
            && self.0.unknown == other.0.unknown
    }
}

impl Eq for Message {}

/// Copies the text; fields that we do not know are lost, since prost has no place for them.
impl From<Message> for PalmMessage {
    fn from(message: Message) -> Self {
        Self {
            pipeline: message.pipeline().to_owned(),
            client: message.client().to_owned(),
            stage: message.stage(),
            function: message.function().to_owned(),
            cache: message.cache().to_owned(),
            payload: message.0.payload,
        }
    }
}

impl From<PalmMessage> for Message {
    fn from(message: PalmMessage) -> Self {
        Self(Box::new(MessageFields {
            changed: true,
            pipeline: TextField::Owned(message.pipeline.into()),
            client: TextField::Owned(message.client.into()),
            stage: message.stage,
            function: TextField::Owned(message.function.into()),
            cache: TextField::Owned(message.cache.into()),
            payload: message.payload,
            ..MessageFields::default()
        }))
    }
}
