//! [`Message`]: the fields of a `PalmMessage` as views of the frame that it was received in.

use bytes::Bytes;
use bytestring::ByteString;
use prost::Message as _;
use uuid::Uuid;

use super::Deadline;
use super::codec::{self, DecodeError};
use super::error::{self, RemoteError};
use super::fields::{MessageFields, TextField};
use super::frame_pool::FramePool;
use super::headers::Headers;
use super::lease::Lease;
use super::proto::{End, Extensions, Share};
use super::share;
use super::trace::Trace;
use crate::failure::{CallFailure, chain};
use crate::function::{Step, StepError, has_next_step, step_at};

/// The payload of a failed call: the byte `0`, which legacy peers expect.
const FAILED: Bytes = Bytes::from_static(b"0");

/// A message of the PALM protocol.
///
/// Cloning is cheap, because text and payload are reference counted views. A decoded message shares the memory of its
/// frame, and is forwarded as that frame unless it was changed. Fields that this version does not know are kept and
/// forwarded ([proto3 unknown fields](https://protobuf.dev/programming-guides/proto3/#unknowns)), so that newer peers
/// can communicate through older components.
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

impl Message {
    /// Creates a message for `function` at stage 0. Pipeline, client and cache are empty.
    pub fn new(function: impl Into<ByteString>, payload: impl Into<Bytes>) -> Self {
        Self(Box::new(MessageFields {
            changed: true,
            function: TextField::Owned(function.into()),
            payload: payload.into(),
            ..MessageFields::default()
        }))
    }

    /// Decodes a frame, without copying text or payload.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] if the frame is not a `PalmMessage`: it is truncated, a field has the wrong wire type, or text is
    /// not UTF-8.
    pub fn decode(frame: Bytes) -> Result<Self, DecodeError> {
        MessageFields::decode(frame).map(|fields| Self(Box::new(fields)))
    }

    /// Decodes a frame of a peer. Logs a warning and returns `None` if it is malformed.
    #[doc(hidden)]
    pub fn read(frame: Bytes) -> Option<Self> {
        let decoded = Self::decode(frame);
        if let Err(error) = &decoded {
            let cause = chain(error);
            tracing::warn!(%cause, "dropping a malformed message of a peer");
        }
        decoded.ok()
    }

    /// Encodes the message as one frame.
    ///
    /// An unchanged message returns the frame that it was decoded from. Otherwise all fields are copied into a new
    /// buffer, because a ZeroMQ frame is contiguous.
    pub fn encode(&self) -> Bytes {
        if self.0.changed {
            self.0.encode()
        } else {
            self.0.frame.clone()
        }
    }

    /// [`encode`](Self::encode), without another reference to the frame.
    pub fn into_frame(self) -> Bytes {
        if self.0.changed {
            self.0.encode()
        } else {
            self.0.frame
        }
    }

    /// [`into_frame`](Self::into_frame), with memory of a pool.
    #[doc(hidden)]
    pub fn into_frame_in(self, memory: &mut FramePool) -> Bytes {
        if self.0.changed {
            memory.encode(self.0.content())
        } else {
            self.0.frame
        }
    }

    /// Returns the id of the stream: the client's session, or a UUID.
    pub fn pipeline(&self) -> &str {
        self.0.str(&self.0.pipeline)
    }

    /// Returns the id of the client that began the stream, which is the topic of its answers.
    pub fn client(&self) -> &str {
        self.0.str(&self.0.client)
    }

    /// Returns the index of the next step. A client sends 0.
    pub fn stage(&self) -> i64 {
        self.0.stage
    }

    /// Returns the functions to call, one for each step: `server.function`, separated by spaces.
    pub fn function(&self) -> &str {
        self.0.str(&self.0.function)
    }

    /// Returns the key of a request to the cache service. In other messages it is the id that a server assigned.
    pub fn cache(&self) -> &str {
        self.0.str(&self.0.cache)
    }

    /// Returns the data.
    pub fn payload(&self) -> &Bytes {
        &self.0.payload
    }

    /// Returns the next step: number [`stage`](Self::stage) of several, or the only one at any stage.
    ///
    /// # Errors
    ///
    /// [`StepError`] if the step does not exist, or is not of the form `server.function`.
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

    /// Sets the index of the next step.
    pub fn set_stage(&mut self, stage: i64) {
        self.0.stage = stage;
        self.0.changed = true;
    }

    /// Sets the functions to call, one for each step.
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
        // A function that returns its argument, as filters and routers do, does not change the message.
        let same =
            payload.len() == self.0.payload.len() && payload.as_ptr() == self.0.payload.as_ptr();
        self.0.changed |= !same;
        self.0.payload = payload;
    }

    /// Returns the message with another payload: [`set_payload`](Self::set_payload) for use in expressions.
    #[must_use]
    pub fn with_payload(mut self, payload: impl Into<Bytes>) -> Self {
        self.set_payload(payload);
        self
    }

    /// Returns whether further steps follow the next one.
    #[doc(hidden)]
    pub fn has_next_step(&self) -> bool {
        has_next_step(self.function(), self.0.stage)
    }

    /// Returns the error of an upstream component, if the message is one instead of a result.
    pub fn error(&self) -> Option<RemoteError> {
        RemoteError::from_unknown(&self.0.unknown, self.function())
    }

    /// Decodes the extension fields. Returns `None` if there are none, at no cost, or if they are malformed.
    #[doc(hidden)]
    pub fn extensions(&self) -> Option<Extensions> {
        if self.0.unknown.is_empty() {
            return None;
        }
        Extensions::read(&self.0.unknown)
    }

    /// Appends extension fields.
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

    /// Returns the completion weight of the message, if it belongs to a job that counts completion.
    #[doc(hidden)]
    pub fn share(&self) -> Option<Share> {
        self.extensions()?.share
    }

    /// Sets the completion weight.
    #[doc(hidden)]
    pub fn set_share(&mut self, share: Option<Share>) {
        if share.is_some() || !self.0.unknown.is_empty() {
            self.0.unknown = share::replace(&self.0.unknown, share).into();
            self.0.changed = true;
        }
    }

    /// Returns the number of a task of a legacy worker, or 0.
    #[doc(hidden)]
    pub fn task_number(&self) -> u64 {
        self.extensions().unwrap_or_default().task
    }

    /// Sets the number of a task of a legacy worker.
    #[doc(hidden)]
    pub fn set_task_number(&mut self, task: u64) {
        self.extend(&Extensions {
            task,
            ..Extensions::default()
        });
    }

    /// Marks the completion weight as incomplete, because a legacy peer may have dropped a part of it.
    #[doc(hidden)]
    pub fn mark_share_incomplete(&mut self) {
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

    /// Returns whether the message is not a result, and only returns completion weight to its client.
    #[doc(hidden)]
    pub fn is_rest(&self) -> bool {
        let extensions = self.extensions();
        extensions.is_some_and(|it| it.share.is_some() && it.end.is_some() && it.error.is_none())
    }

    /// Converts the message into one that is not a result, and only returns completion weight to its client.
    #[doc(hidden)]
    pub fn into_rest(mut self, share: Share) -> Self {
        self.set_share(Some(share));
        self.end(0);
        self.with_payload(Bytes::new())
    }

    /// Returns the trace and the request that the call is part of, if the caller has sent them.
    pub fn trace(&self) -> Option<Trace> {
        let trace = self.extensions()?.trace?;
        Some(Trace::from_wire(trace, self.0.stage))
    }

    /// Sets the trace and the request that the call is part of.
    pub fn set_trace(&mut self, trace: &Trace) {
        self.0.unknown = trace.replace_in(&self.0.unknown, self.0.stage).into();
        self.0.changed = true;
    }

    /// Returns the headers that the caller has added to the call.
    pub fn headers(&self) -> Headers {
        match self.extensions() {
            Some(extensions) => Headers::from_extension(extensions.headers),
            None => Headers::new(),
        }
    }

    /// Marks the message as the last one of a call with `results` results.
    #[doc(hidden)]
    pub fn end(&mut self, results: u64) {
        self.extend(&Extensions {
            end: Some(End { results }),
            ..Extensions::default()
        });
    }

    /// Marks the message, an error, as the last one of its call, if the caller wants to know the end.
    #[doc(hidden)]
    pub fn end_with_error(&mut self) {
        let extensions = self.extensions().unwrap_or_default();
        if extensions.wants_end && extensions.end.is_none() {
            self.end(1);
        }
    }

    /// Returns the deadline of the answer, if the caller has set one.
    #[doc(hidden)]
    pub fn deadline(&self) -> Option<Deadline> {
        Deadline::from_unknown(&self.0.unknown)
    }

    /// Returns whether the message may be one of a [`Batch`](super::Batch).
    pub(super) fn may_be_batched(&self) -> bool {
        !self.0.bytes(&self.0.cache).is_empty() && !codec::reports_an_end(&self.0.unknown)
    }

    /// Returns whether the message is the end of a call that had results.
    #[doc(hidden)]
    pub fn promises_results(&self) -> bool {
        let extensions = self.extensions().unwrap_or_default();
        extensions.error.is_none() && extensions.end.is_some_and(|end| end.results > 0)
    }

    /// Returns whether the caller wants to know when a call has no further results.
    #[doc(hidden)]
    pub fn wants_end(&self) -> bool {
        self.extensions()
            .is_some_and(|extensions| extensions.wants_end)
    }

    /// Returns whether the message has an [`error`](Self::error). Free without extension fields.
    #[doc(hidden)]
    pub fn has_error(&self) -> bool {
        !self.0.unknown.is_empty() && self.error().is_some()
    }

    /// Returns whether the message has no further steps: an earlier step failed, or the message only reports the end of
    /// a call.
    ///
    /// The parts of palm forward such a message unchanged, without calling methods or hooks. An outbound part of your
    /// own receives it, and should send it along its outlet. Otherwise a caller misses an error, or a job that knows
    /// when it is complete waits for its timeout.
    pub fn is_done(&self) -> bool {
        // Most messages have only a completion weight and a deadline, which need not be decoded.
        if !codec::reports_an_end(&self.0.unknown) {
            return false;
        }
        let extensions = self.extensions();
        extensions.is_some_and(|extensions| extensions.error.is_some() || extensions.end.is_some())
    }

    /// Converts the message into the answer to a call that failed in `component`: with the payload `0`, and the error
    /// unless the message already has one.
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

    /// Attaches the lease of a task, which all messages that are made of this one share.
    #[doc(hidden)]
    pub fn belongs_to(&mut self, lease: Lease) {
        self.0.task = Some(lease);
    }

    /// Removes and returns the lease.
    #[doc(hidden)]
    pub fn take_task(&mut self) -> Option<Lease> {
        self.0.task.take()
    }

    /// Returns a copy without a lease, for code that may keep it.
    #[doc(hidden)]
    pub fn detached(&self) -> Self {
        let mut copy = self.clone();
        copy.0.task = None;
        copy
    }

    /// Begins the message's task. Returns `false` if the task was returned to the master and must not run. A message
    /// without a task returns `true`.
    ///
    /// The messages of a worker have a task, for its parts: see `parts::MasterConnection`. A worker that is lost counts
    /// against the tasks that it has begun, and prefetched ones are returned when it stops.
    pub fn begin_task(&self) -> bool {
        self.0.task.as_ref().is_none_or(Lease::begin)
    }

    /// Ensures that no other worker runs the message's task. Returns `false` if the task was returned to the master.
    #[doc(hidden)]
    pub fn run_task_once(&self) -> bool {
        self.0.task.as_ref().is_none_or(Lease::run_once)
    }

    /// Returns whether the message's task was returned to the master.
    #[doc(hidden)]
    pub fn is_returned(&self) -> bool {
        self.0.task.as_ref().is_some_and(Lease::is_over)
    }

    /// Declares that the message's task has no further result.
    ///
    /// The task ends once all messages that were made of this one are sent or dropped. A task whose messages are dropped
    /// without this is returned to the master, which sends it to another worker.
    pub fn finish_task(&self) {
        if let Some(task) = &self.0.task {
            task.finish();
        }
    }

    /// Marks the message as a result of its task.
    #[doc(hidden)]
    pub fn set_result(&mut self) {
        if let Some(task) = &mut self.0.task {
            task.set_result();
        }
    }

    /// Marks the message as the last result of its task.
    #[doc(hidden)]
    pub fn set_last_result(&mut self) {
        if let Some(task) = &mut self.0.task {
            task.set_last_result();
        }
    }

    /// Assigns a random id in `cache` if that is empty, as servers do.
    #[doc(hidden)]
    pub fn ensure_id(&mut self) {
        if self.0.bytes(&self.0.cache).is_empty() {
            self.set_cache(new_id());
        }
    }

    /// Returns whether the message has this function and stage.
    #[doc(hidden)]
    pub fn is_at_step(&self, function: &str, stage: i64) -> bool {
        self.0.stage == stage && self.0.bytes(&self.0.function) == function.as_bytes()
    }

    /// Returns whether the message has this client.
    #[doc(hidden)]
    pub fn is_of(&self, client: &str) -> bool {
        self.0.bytes(&self.0.client) == client.as_bytes()
    }

    /// [`client`](Self::client), as bytes.
    #[doc(hidden)]
    pub fn client_bytes(&self) -> &[u8] {
        self.0.bytes(&self.0.client)
    }

    /// Returns the client as a topic.
    #[doc(hidden)]
    pub fn client_topic(&self) -> ByteString {
        match &self.0.client {
            TextField::InFrame(range) => {
                let bytes = self.0.frame.slice(range.clone());
                ByteString::try_from(bytes).expect("decoding checks that text is UTF-8")
            }
            TextField::Owned(text) => text.clone(),
        }
    }

    /// Returns the approximate memory of the message in bytes, which queues count.
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

/// Returns the client id of a call's topic (the field `client`): the text up to the first slash.
#[doc(hidden)]
pub fn client_id(topic: &[u8]) -> &[u8] {
    let end = topic.iter().position(|byte| *byte == b'/');
    &topic[..end.unwrap_or(topic.len())]
}

/// Returns a random id: a UUID, version 4 (RFC 9562).
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

/// Messages are equal if all fields are, including unknown ones.
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
