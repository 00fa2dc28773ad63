//! ZMTP of one connection: bytes in, messages out ([`Codec`]), and back ([`Output`]). No I/O.
//!
//! The protocol is that of the crate `omq-proto`, whose [`Connection`] shakes hands, decodes and encodes. It keeps all
//! that it is fed, so [`Codec`] feeds it complete frames, and these only while there is memory for their message. For
//! that it reads the headers of frames: the crate does not report how much of an incomplete message it keeps. The payload of
//! a large frame does not pass through the crate's buffer. It is read into the memory that the message keeps.

mod output;

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use omq_proto::proto::command::Command;
pub(super) use omq_proto::proto::connection::Role;
use omq_proto::proto::connection::{Connection, ConnectionConfig, Event};
use omq_proto::{MechanismSetup, Message, Payload, SocketType};

pub(super) use self::output::Output;
use super::super::kind::Kind;
use super::super::subscriptions::SubscriptionRequest;
use super::buffers::Buffers;
use super::frame_header::{FrameHeader, ReservedFlags};
use crate::socket::Frames;

/// Memory that every connection has for the message that it is receiving.
pub(super) const ALLOWANCE: usize = 16 * 1024;

/// Length from which an incomplete frame is read into its own memory.
const LARGE_FRAME: usize = 8 * 1024;

/// What the crate needs for each frame of a message, besides its payload.
const FRAME_COST: usize = size_of::<Payload>();

/// Bytes that the crate adds to the size of a message of a few frames.
const ACCOUNTING_BYTES: usize = 1024;

/// Upper limit of `max_message_bytes`: more cannot be allocated.
const MAX_ALLOCATION: usize = isize::MAX as usize / 2;

/// Length of the greeting of ZMTP 3.
const GREETING_BYTES: usize = 64;

/// Largest command of a handshake.
const MAX_HANDSHAKE_COMMAND: usize = 4 * 1024;

/// Largest message and command that a PUSH or PUB accepts, such as a subscription.
const MAX_COMMAND: usize = 15 * 1024;

/// Frames that are decoded at once.
const BATCH: usize = 128;

/// Messages for which an idle connection keeps buffers.
const MAX_IDLE_MESSAGES: usize = 16;

/// Input that is not valid ZMTP, or exceeds a limit.
#[derive(Debug, thiserror::Error)]
pub(super) enum ZmtpError {
    #[error(transparent)]
    Protocol(#[from] omq_proto::Error),
    #[error(transparent)]
    Flags(#[from] ReservedFlags),
    #[error("a command of the handshake is larger than {MAX_HANDSHAKE_COMMAND} bytes")]
    LargeHandshake,
    #[error("a message is larger than `max_message_bytes`")]
    LargeMessage,
}

/// What [`Codec::step`] has decoded.
#[derive(Debug)]
pub(super) enum Step {
    /// The handshake is complete. The peer has chosen this routing id, or none.
    Introduced(Bytes),
    /// There are [messages](Codec::take_messages) or [requests](Codec::take_subscription_requests). The last message has
    /// used the memory beyond the allowance, if any.
    Messages,
    /// The message that is being received needs this much memory in total.
    NeedsMemory(usize),
    /// Bytes are missing.
    Incomplete,
}

pub(super) struct Codec {
    zmtp: Connection,
    max_message_memory: usize,
    buffers: Arc<Buffers>,
    /// Bytes that were read and not fed to `zmtp`.
    input: BytesMut,
    /// Size of the buffer of the input.
    input_size: usize,
    /// Bytes of the peer's greeting that are missing.
    greeting: usize,
    is_introduced: bool,
    /// Memory of the frames of an incomplete message.
    unfinished: usize,
    large: Option<LargeFrame>,
    messages: VecDeque<Message>,
    is_publisher: bool,
    subscription_requests: Vec<SubscriptionRequest>,
    /// What the crate sends itself: the handshake, subscriptions, PINGs and the answers to them.
    commands: Vec<u8>,
}

/// A frame whose payload is being read.
struct LargeFrame {
    payload: BytesMut,
    len: usize,
    /// Memory of its message up to its end.
    memory: usize,
    ends_message: bool,
}

/// Frames that may be fed to the crate.
#[derive(Default)]
struct Ready {
    bytes: usize,
    /// Why there are no more.
    then: Option<Step>,
}

impl Codec {
    pub(super) fn new(
        role: Role,
        kind: Kind,
        max_message_bytes: usize,
        buffers: Arc<Buffers>,
    ) -> Self {
        let socket_type = match kind {
            Kind::Router => SocketType::Router,
            Kind::Dealer => SocketType::Dealer,
            Kind::Pull => SocketType::Pull,
            Kind::Push => SocketType::Push,
            Kind::Publish => SocketType::Pub,
            Kind::Subscribe => SocketType::Sub,
        };
        // The peers of some send nothing but commands.
        let max_message_bytes = match kind {
            Kind::Push | Kind::Publish => max_message_bytes.min(MAX_COMMAND),
            _ => max_message_bytes,
        };
        let max_message_memory = max_message_bytes.min(MAX_ALLOCATION) + ACCOUNTING_BYTES;
        let config = ConnectionConfig::new(role, socket_type)
            .max_message_size(max_message_memory)
            .mechanism(mechanism());
        let mut codec = Self {
            zmtp: Connection::new(config),
            max_message_memory,
            buffers,
            input: BytesMut::new(),
            input_size: 0,
            greeting: GREETING_BYTES,
            is_introduced: false,
            unfinished: 0,
            large: None,
            messages: VecDeque::new(),
            is_publisher: kind == Kind::Publish,
            subscription_requests: Vec::new(),
            commands: Vec::new(),
        };
        codec.keep_commands();
        codec
    }

    /// Decodes some of the input. `memory` is what the message that is being received may use.
    pub(super) fn step(&mut self, memory: usize) -> Result<Step, ZmtpError> {
        loop {
            if let Some(mut large) = self.large.take_if(|it| it.payload.len() == it.len) {
                self.zmtp.supply_payload(large.payload.split().freeze())?;
                self.buffers.put(large.payload, large.len);
                self.unfinished = if large.ends_message { 0 } else { large.memory };
                self.settle()?;
            } else if self.large.is_some() {
                return Ok(Step::Incomplete);
            } else if self.greeting > 0 {
                let bytes = self.input.len().min(self.greeting);
                if bytes == 0 {
                    return Ok(Step::Incomplete);
                }
                self.greeting -= bytes;
                self.feed(bytes)?;
            } else {
                let ready = self.ready_frames(memory)?;
                if ready.bytes > 0 {
                    self.feed(ready.bytes)?;
                } else if let Some(then) = ready.then {
                    return Ok(then);
                }
            }
            if let Some(step) = self.decoded() {
                return Ok(step);
            }
        }
    }

    /// Finds complete frames whose messages have memory, and begins to receive a large frame.
    fn ready_frames(&mut self, memory: usize) -> Result<Ready, ZmtpError> {
        let mut ready = Ready::default();
        let batch = if self.is_introduced { BATCH } else { 1 };
        for _ in 0..batch {
            let rest = &self.input[ready.bytes..];
            let Some(header) = FrameHeader::read(rest)? else {
                ready.then = Some(Step::Incomplete);
                break;
            };
            let needed = (self.unfinished + FRAME_COST).saturating_add(header.payload);
            if !self.is_introduced && header.payload > MAX_HANDSHAKE_COMMAND {
                return Err(ZmtpError::LargeHandshake);
            } else if needed > self.max_message_memory && !header.command
                || header.payload > self.max_message_memory
            {
                return Err(ZmtpError::LargeMessage);
            } else if needed > memory {
                ready.then = Some(Step::NeedsMemory(needed));
                break;
            }
            let total = header.bytes + header.payload;
            if rest.len() < total {
                if header.payload >= LARGE_FRAME && ready.bytes == 0 {
                    self.begin_large(&header, needed)?;
                }
                ready.then = Some(Step::Incomplete);
                break;
            }
            ready.bytes += total;
            if header.more {
                self.unfinished = needed;
            } else if !header.command {
                self.unfinished = 0;
                if needed > ALLOWANCE {
                    // The memory belongs to this message.
                    break;
                }
            }
        }
        Ok(ready)
    }

    fn begin_large(&mut self, header: &FrameHeader, needed: usize) -> Result<(), ZmtpError> {
        self.zmtp.handle_input(self.input.split().freeze())?;
        let begun = self.zmtp.begin_supplied_payload_with_prefix();
        let (len, prefix) = begun.ok_or(omq_proto::Error::Closed)?;
        let mut payload = self.buffers.take(len);
        payload.extend_from_slice(prefix.as_slice());
        self.large = Some(LargeFrame {
            payload,
            len,
            memory: needed,
            ends_message: !header.more,
        });
        Ok(())
    }

    fn feed(&mut self, bytes: usize) -> Result<(), ZmtpError> {
        let frames = self.input.split_to(bytes).freeze();
        let fed = self.zmtp.handle_input(frames);
        // The crate answers a handshake that it rejects.
        self.keep_commands();
        fed?;
        self.settle()
    }

    /// Continues when the crate has stopped because of its answers to PINGs.
    fn settle(&mut self) -> Result<(), ZmtpError> {
        loop {
            self.keep_commands();
            if !self.zmtp.has_pending_input() {
                return Ok(());
            }
            self.zmtp.resume_input()?;
        }
    }

    fn decoded(&mut self) -> Option<Step> {
        while let Some(event) = self.zmtp.poll_event() {
            match event {
                Event::HandshakeSucceeded {
                    peer_properties, ..
                } => {
                    self.is_introduced = true;
                    let id = peer_properties.identity.as_deref().unwrap_or_default();
                    return Some(Step::Introduced(Bytes::copy_from_slice(id)));
                }
                Event::Command(Command::Subscribe(prefix)) if self.is_publisher => {
                    let request = SubscriptionRequest::Subscribe(prefix);
                    self.subscription_requests.push(request);
                }
                Event::Command(Command::Cancel(prefix)) if self.is_publisher => {
                    let request = SubscriptionRequest::Cancel(prefix);
                    self.subscription_requests.push(request);
                }
                _ => {}
            }
        }
        self.zmtp.swap_messages(&mut self.messages);
        let is_empty = self.messages.is_empty() && self.subscription_requests.is_empty();
        (!is_empty).then_some(Step::Messages)
    }

    /// Returns the decoded subscription requests. All have to be taken before the next step.
    pub(super) fn take_subscription_requests(&mut self) -> Vec<SubscriptionRequest> {
        std::mem::take(&mut self.subscription_requests)
    }

    /// Returns the decoded messages, with their sizes. All have to be taken before the next step.
    pub(super) fn take_messages(&mut self) -> impl Iterator<Item = Message> {
        self.messages.drain(..)
    }

    /// Returns the memory for the payload of a large frame that is being received, and how much of it is missing.
    pub(super) fn large_payload(&mut self) -> Option<(&mut BytesMut, usize)> {
        let large = self.large.as_mut()?;
        let missing = large.len - large.payload.len();
        Some((&mut large.payload, missing))
    }

    /// Returns the memory for further bytes, for `bytes` at least.
    pub(super) fn input(&mut self, bytes: usize) -> &mut BytesMut {
        if !self.input.try_reclaim(bytes) {
            let size = self.input.len() + bytes;
            let mut input = self.buffers.take(size);
            input.extend_from_slice(&self.input);
            let last = std::mem::replace(&mut self.input, input);
            self.buffers.put(last, self.input_size);
            self.input_size = size;
        }
        &mut self.input
    }

    /// Releases buffers that an idle connection does not need.
    pub(super) fn release_buffers(&mut self) {
        if self.input.is_empty() {
            let input = std::mem::take(&mut self.input);
            self.buffers
                .put(input, std::mem::take(&mut self.input_size));
        } else if self.input.capacity() > 2 * LARGE_FRAME {
            let input = BytesMut::from(&self.input[..]);
            let last = std::mem::replace(&mut self.input, input);
            self.buffers.put(last, std::mem::take(&mut self.input_size));
        }
        for _ in 0..2 {
            if self.messages.capacity() > MAX_IDLE_MESSAGES {
                self.messages = VecDeque::new();
            }
            self.zmtp.swap_messages(&mut self.messages);
        }
    }

    /// Encodes a subscription request.
    pub(super) fn send_subscription(
        &mut self,
        request: SubscriptionRequest,
    ) -> Result<(), ZmtpError> {
        self.zmtp.send_command(&match request {
            SubscriptionRequest::Subscribe(prefix) => Command::Subscribe(prefix),
            SubscriptionRequest::Cancel(prefix) => Command::Cancel(prefix),
        })?;
        self.keep_commands();
        Ok(())
    }

    pub(super) fn send_ping(&mut self) -> Result<(), ZmtpError> {
        self.zmtp.send_command(&Command::Ping {
            ttl_deciseconds: 0,
            context: Bytes::new(),
        })?;
        self.keep_commands();
        Ok(())
    }

    fn keep_commands(&mut self) {
        let bytes = self.zmtp.pending_transmit_size();
        if bytes > 0 {
            for chunk in self.zmtp.transmit_chunks() {
                self.commands.extend_from_slice(&chunk);
            }
            self.zmtp.advance_transmit(bytes);
        }
    }

    /// Moves the commands for the peer to `output`.
    pub(super) fn take_commands(&mut self, output: &mut Output) {
        if !self.commands.is_empty() {
            output.push_commands(&std::mem::take(&mut self.commands));
        }
    }
}

/// The security mechanism of these sockets.
///
/// [`Codec`] reads the flag MORE of frames to know their messages. An encrypting mechanism protects another copy of it:
/// with such a mechanism, [`Codec::step`] has to count all frames since the last message, and [`Output`] to encrypt its own.
fn mechanism() -> MechanismSetup {
    MechanismSetup::Null
}

/// Returns the frames of a message, after those of an envelope.
pub(super) fn frames(envelope: Option<&Bytes>, message: Message) -> Frames {
    let mut frames: Frames = envelope.cloned().into_iter().collect();
    match message.into_bytes() {
        Ok(frame) => frames.push(frame),
        Err(message) => frames.extend(message.iter()),
    }
    frames
}

#[cfg(test)]
mod tests;
