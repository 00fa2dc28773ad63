//! The message of the wire protocol, without I/O.
//!
//! [`Message`] is the `PalmMessage` of `proto/palm.proto` (part 1 of the wire contract), as views of the frame that it was
//! received in (`view`, `fields`). `codec` finds its fields in a frame and encodes them, on top of `wire_format`. `error`,
//! `deadline`, `headers`, `share` and `trace` are its extension fields. `batch` holds several messages that travel as one, and `frame_pool`
//! the memory of encoded frames. Start reading at [`Message::decode`].

#[allow(missing_docs)]
mod batch;
#[allow(missing_docs)]
mod codec;
#[allow(missing_docs)]
mod deadline;
mod error;
#[allow(missing_docs)]
mod fields;
#[allow(missing_docs)]
mod frame_pool;
#[cfg(test)]
mod generated_test;
mod headers;
#[allow(missing_docs)]
pub mod lease;
mod view;
// Formatted as generated.
#[rustfmt::skip]
pub mod proto;
#[allow(missing_docs)]
mod share;
#[cfg(test)]
mod tests;
mod trace;
#[allow(missing_docs)]
mod wire_format;

pub use batch::{Batch, BatchBuilder, BatchSizes, MAX_BATCH_BYTES, MAX_SMALL_BYTES};
pub use codec::DecodeError;
pub use codec::{Answered, Content, answer, steps};
pub use deadline::Deadline;
pub use error::RemoteError;
pub(crate) use error::{kind_from_wire, kind_to_wire};
pub use frame_pool::FramePool;
pub use headers::Headers;
pub use proto::Share;
pub use share::Split;
pub use trace::Trace;
pub use view::Message;
pub use view::client_id;
pub use view::new_id;
pub use wire_format::WireFormatError;
