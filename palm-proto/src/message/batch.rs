//! Several messages with the same route, which travel as one and are not decoded one by one.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::codec::{Content, reports_an_end};
use super::{Message, client_id};

/// Larger messages do not travel in batches: from about this size on, a batch saves no more than its copy costs.
pub const MAX_SMALL_BYTES: usize = 4096;

/// Largest batch. A message that is kept keeps the memory of its whole batch.
pub const MAX_BATCH_BYTES: usize = 16 * 1024;

/// One message, or several in contiguous memory.
///
/// Several messages are of the same client (see [`client_id`](super::client_id)), though of several calls perhaps, with
/// the same `stage` and `function`. Each has an id, and none has an error or the end of a call. A component therefore
/// routes a batch by its first message. Cloning and splitting share the memory.
#[derive(Debug, Clone)]
pub struct Batch {
    frame: Bytes,
    /// `None` for one message.
    sizes: Option<BatchSizes>,
}

/// The sizes of consecutive messages, in bytes.
#[derive(Debug, Clone)]
pub struct BatchSizes {
    all: Arc<[u32]>,
    first: usize,
    end: usize,
}

impl BatchSizes {
    pub fn new(all: Arc<[u32]>) -> Self {
        let (first, end) = (0, all.len());
        Self { all, first, end }
    }

    fn get(&self) -> &[u32] {
        &self.all[self.first..self.end]
    }

    pub fn is_empty(&self) -> bool {
        self.first == self.end
    }

    /// Returns the sum of the sizes.
    pub fn bytes(&self) -> usize {
        self.get().iter().map(|&size| size as usize).sum()
    }

    /// Removes and returns the first `count` sizes, if there are as many.
    pub fn split_to(&mut self, count: usize) -> Option<Self> {
        if count > self.end - self.first {
            return None;
        }
        let middle = self.first + count;
        let front = Self {
            end: middle,
            ..self.clone()
        };
        self.first = middle;
        Some(front)
    }

    /// Returns `None` for one message, whose size is that of its frame.
    fn if_several(self) -> Option<Self> {
        (self.end - self.first > 1).then_some(self)
    }
}

impl From<Bytes> for Batch {
    fn from(frame: Bytes) -> Self {
        Self { frame, sizes: None }
    }
}

impl Batch {
    /// Creates a batch of consecutive messages. Returns `None` without messages, or if the sizes do not add up.
    pub fn from_sizes(frame: Bytes, sizes: BatchSizes) -> Option<Self> {
        if sizes.is_empty() || sizes.bytes() != frame.len() {
            return None;
        }
        let sizes = sizes.if_several();
        Some(Self { frame, sizes })
    }

    /// Returns the number of messages, at least one.
    #[allow(clippy::len_without_is_empty, reason = "a batch is never empty")]
    pub fn len(&self) -> usize {
        self.sizes.as_ref().map_or(1, |sizes| sizes.get().len())
    }

    /// Returns the sum of the sizes.
    pub fn bytes(&self) -> usize {
        self.frame.len()
    }

    /// Returns the consecutive messages as one frame.
    pub fn frame(&self) -> &Bytes {
        &self.frame
    }

    /// Returns the size of each message.
    pub fn sizes(&self) -> impl ExactSizeIterator<Item = usize> + Clone {
        let several = self.sizes.as_ref().map_or(&[][..], BatchSizes::get);
        let one = self.frame.len();
        (0..self.len()).map(move |index| several.get(index).map_or(one, |&size| size as usize))
    }

    /// Returns the first message.
    pub fn first(&self) -> Bytes {
        match &self.sizes {
            Some(sizes) => self.frame.slice(..sizes.get()[0] as usize),
            None => self.frame.clone(),
        }
    }

    /// Removes and returns the first `count` messages, fewer than all.
    pub fn split_to(&mut self, count: usize) -> Self {
        debug_assert!((1..self.len()).contains(&count));
        let mut rest = self
            .sizes
            .take()
            .expect("a batch that is split has several messages");
        let front = rest
            .split_to(count)
            .expect("it has more messages than are split off");
        let frame = self.frame.split_to(front.bytes());
        self.sizes = rest.if_several();
        Self {
            frame,
            sizes: front.if_several(),
        }
    }

    /// Returns each message as a frame.
    pub fn frames(&self) -> impl ExactSizeIterator<Item = Bytes> + use<> {
        let Self { mut frame, sizes } = self.clone();
        (0..self.len()).map(move |index| match &sizes {
            Some(sizes) => frame.split_to(sizes.get()[index] as usize),
            None => std::mem::take(&mut frame),
        })
    }
}

/// Batches are equal if they have the same messages.
impl PartialEq for Batch {
    fn eq(&self, other: &Self) -> bool {
        self.frame == other.frame && self.sizes().eq(other.sizes())
    }
}

impl Eq for Batch {}

/// Collects messages into batches.
#[derive(Debug, Default)]
pub struct BatchBuilder {
    memory: BytesMut,
    sizes: Vec<u32>,
    /// The first message of the batch, as it was added.
    head: Option<Message>,
}

impl BatchBuilder {
    /// Returns whether a message of this size can be added, with at most `most` messages in the batch.
    pub fn has_capacity(&self, bytes: usize, most: usize) -> bool {
        bytes <= MAX_SMALL_BYTES
            && self.sizes.len() < most
            && self.memory.len() + bytes <= MAX_BATCH_BYTES
    }

    pub fn is_empty(&self) -> bool {
        self.sizes.is_empty()
    }

    /// Returns the number of messages.
    pub fn len(&self) -> usize {
        self.sizes.len()
    }

    /// Adds a message of `len` bytes. The batch has capacity for it.
    pub fn push(&mut self, content: Content<'_>, len: usize) {
        debug_assert!(self.has_capacity(len, usize::MAX) && content.encoded_len() == len);
        self.reserve(len);
        content.write(&mut self.memory);
        self.sizes.push(len as u32);
    }

    /// Returns the collected batch, and starts the next one.
    pub fn take(&mut self) -> Option<Batch> {
        if self.is_empty() {
            return None;
        }
        self.head = None;
        let frame = self.memory.split().freeze();
        let sizes = (self.len() > 1).then(|| BatchSizes::new(self.sizes[..].into()));
        self.sizes.clear();
        Some(Batch { frame, sizes })
    }

    /// Adds an encoded message that has the route of the batch. The batch has capacity for it.
    pub fn push_frame(&mut self, frame: &[u8]) {
        debug_assert!(self.has_capacity(frame.len(), usize::MAX));
        self.reserve(frame.len());
        self.memory.extend_from_slice(frame);
        self.sizes.push(frame.len() as u32);
    }

    fn reserve(&mut self, len: usize) {
        if self.memory.capacity() - self.memory.len() < len {
            self.memory.reserve(MAX_BATCH_BYTES - self.memory.len());
        }
    }

    /// Adds a message if it has the route of the batch and the batch has capacity. Returns the message otherwise.
    pub fn join(&mut self, message: Message, most: usize) -> Result<(), Message> {
        self.join_at(message.stage(), message, most)
    }

    /// [`join`](Self::join), and changes the stage of the message to `stage` in the batch. All messages of a batch are
    /// added by the same method, with the same `stage`.
    pub fn join_at(&mut self, stage: i64, message: Message, most: usize) -> Result<(), Message> {
        let fields = &*message.0;
        let content = (fields.changed || fields.stage != stage).then(|| Content {
            stage,
            ..fields.content()
        });
        let len = match &content {
            Some(content) => content.encoded_len(),
            None => fields.frame.len(),
        };
        if !self.has_capacity(len, most) {
            return Err(message);
        }
        match &self.head {
            Some(head) if !may_share(head, &message) => return Err(message),
            None if !message.may_be_batched() => return Err(message),
            _ => {}
        }
        match content {
            Some(content) => self.push(content, len),
            None => self.push_frame(&fields.frame),
        }
        self.head.get_or_insert(message);
        Ok(())
    }
}

/// Returns whether `other` may be in one batch with `one`.
fn may_share(one: &Message, other: &Message) -> bool {
    let (one, other) = (&*one.0, &*other.0);
    let (client, others) = (one.bytes(&one.client), other.bytes(&other.client));
    (client == others || client_id(client) == client_id(others))
        && one.stage == other.stage
        && one.bytes(&one.function) == other.bytes(&other.function)
        && !other.bytes(&other.cache).is_empty()
        && !reports_an_end(&other.unknown)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn batch(sizes: &[u32]) -> Batch {
        let bytes = sizes.iter().enumerate();
        let frame = bytes.flat_map(|(number, &size)| vec![number as u8; size as usize]);
        Batch::from_sizes(frame.collect(), BatchSizes::new(sizes.into())).unwrap()
    }

    proptest! {
        #[test]
        fn batch_is_split_anywhere(
            sizes in prop::collection::vec(0_u32..9, 2..20),
            position in any::<prop::sample::Index>(),
        ) {
            let whole = batch(&sizes);
            let mut rest = whole.clone();
            let front = rest.split_to(1 + position.index(sizes.len() - 1));
            prop_assert_eq!(front.len() + rest.len(), whole.len());
            prop_assert_eq!(front.bytes() + rest.bytes(), whole.bytes());
            prop_assert_eq!(Some(front.first()), whole.frames().next());
            prop_assert_eq!(Some(rest.first()), rest.frames().next());
            let parts: Vec<_> = front.frames().chain(rest.frames()).collect();
            prop_assert_eq!(parts, whole.frames().collect::<Vec<_>>());
            let parts: Vec<_> = front.sizes().chain(rest.sizes()).collect();
            prop_assert_eq!(parts, whole.sizes().collect::<Vec<_>>());
        }
    }

    #[test]
    fn sizes_have_to_add_up_to_the_frame() {
        let frame = Bytes::from_static(b"12345");
        let of = |sizes: &[u32]| Batch::from_sizes(frame.clone(), BatchSizes::new(sizes.into()));
        let sizes: [&[u32]; 4] = [&[2, 3], &[5], &[4], &[]];
        assert_eq!(
            sizes.map(|sizes| of(sizes).is_some()),
            [true, true, false, false]
        );
        assert_eq!(of(&[5]), Some(frame.clone().into()));
    }

    #[test]
    fn batches_are_equal_if_they_have_the_same_messages() {
        let of = |frame: &'static [u8], sizes: &[u32]| {
            Batch::from_sizes(frame.into(), BatchSizes::new(sizes.into())).unwrap()
        };
        assert_eq!(of(b"abc", &[1, 2]), of(b"abc", &[1, 2]));
        assert_ne!(of(b"abc", &[1, 2]), of(b"abc", &[2, 1]));
        assert_ne!(of(b"abc", &[1, 2]), of(b"abd", &[1, 2]));
        assert_ne!(of(b"abc", &[3]), of(b"abc", &[1, 2]));
        assert_ne!(of(b"abc", &[3]), of(b"abd", &[3]));
    }

    #[test]
    fn builder_without_messages_has_no_batch() {
        let mut builder = BatchBuilder::default();
        assert!(builder.take().is_none());
        let mut message = Message::new("a.b", "x");
        message.ensure_id();
        builder.join(message, 9).unwrap();
        assert!(builder.take().is_some() && builder.take().is_none());
    }

    #[test]
    fn message_without_id_or_with_end_begins_no_batch() {
        let mut done = Message::new("a.b", "x");
        done.ensure_id();
        done.end(1);
        let mut without_id = Message::new("a.b", "x");
        without_id.set_cache("");
        for message in [done, without_id] {
            let mut builder = BatchBuilder::default();
            assert!(builder.join(message, 9).is_err());
            assert!(builder.is_empty());
        }
    }

    #[test]
    fn only_messages_with_the_same_route_share_a_batch() {
        let message = |function: &'static str, client: &'static str| {
            let mut message = Message::new(function, "x");
            message.set_client(client);
            message.ensure_id();
            message
        };
        let joins = |second: Message| {
            let mut builder = BatchBuilder::default();
            builder.join(message("a.b", "client"), 9).unwrap();
            let joins = builder.join(second, 9).is_ok();
            let batch = builder.take().unwrap();
            assert_eq!(batch.len(), 1 + usize::from(joins));
            for frame in batch.frames() {
                assert_eq!(Message::decode(frame).unwrap().client(), "client");
            }
            joins
        };
        assert!(joins(message("a.b", "client")));
        assert!(joins(message("a.b", "client").with_payload("other")));
        assert!(!joins(message("a.c", "client")));
        assert!(!joins(message("a.b", "other")));
        assert!(!joins(
            message("a.b", "client").with_payload(vec![0; MAX_SMALL_BYTES])
        ));
        let mut other = message("a.b", "client");
        other.set_stage(1);
        assert!(!joins(other));
        let mut other = message("a.b", "client");
        other.set_cache("");
        assert!(!joins(other), "it has no id");
        let mut other = message("a.b", "client");
        other.end(1);
        assert!(!joins(other), "it is an end");
    }

    #[test]
    fn calls_of_one_client_share_a_batch() {
        let joins = |first: &'static str, second: &'static str| {
            let mut builder = BatchBuilder::default();
            let joined = [first, second].map(|client| {
                let mut message = Message::new("a.b", "x");
                message.set_client(client);
                message.ensure_id();
                builder.join(message, 9).is_ok()
            });
            joined == [true; 2]
        };
        assert!(joins("client/1", "client/1") && joins("client/1", "client/2"));
        assert!(joins("client/1", "client/2/3") && joins("client", "client/1"));
        assert!(!joins("client/1", "client2/1") && !joins("client/1", "other/1"));
        assert!(!joins("client/1", "") && !joins("/1", "client/1"));
    }

    #[test]
    fn batch_has_a_limit_of_bytes_and_messages() {
        let mut builder = BatchBuilder::default();
        let mut message = Message::new("a.b", vec![0; MAX_SMALL_BYTES - 100]);
        message.ensure_id();
        while builder.join(message.clone(), 100).is_ok() {}
        let most = MAX_BATCH_BYTES / MAX_SMALL_BYTES;
        assert!((most..=most + 1).contains(&builder.len()));
        assert!(builder.take().unwrap().bytes() <= MAX_BATCH_BYTES);
        assert!(builder.join(message.clone(), 1).is_ok());
        assert!(builder.join(message, 1).is_err());
    }

    #[test]
    fn messages_of_a_batch_advance_to_the_next_step_together() {
        let at = |stage| {
            let mut message = Message::new("a.b c.d", "x");
            message.set_client("client/1");
            message.set_cache("id");
            message.set_stage(stage);
            Message::decode(message.into_frame()).unwrap()
        };
        let mut builder = BatchBuilder::default();
        for _ in 0..2 {
            builder.join_at(1, at(0), 9).unwrap();
        }
        assert!(builder.join_at(2, at(1), 9).is_err());
        let batch = builder.take().unwrap();
        let messages: Vec<_> = batch
            .frames()
            .map(|it| Message::decode(it).unwrap())
            .collect();
        assert_eq!(messages, [at(1), at(1)]);
    }
}
