//! What goes over the wire: one [`Message`], and the list of [`Steps`](crate::function::Steps) in it.
//!
//! [`Message`] is the `PalmMessage` of the protocol (`proto/palm.proto`, part 1 of the wire
//! contract). Start reading at [`Message::decode`]. There is no I/O here.

#[allow(missing_docs)]
mod batch;
#[allow(missing_docs)]
mod codec;
#[allow(missing_docs)]
mod deadline;
mod error;
#[allow(missing_docs)]
mod frame_pool;
#[cfg(test)]
mod generated_test;
#[allow(missing_docs)]
pub mod lease;
mod view;
// As it was generated.
#[rustfmt::skip]
pub mod proto;
#[allow(missing_docs)]
mod share;
#[cfg(test)]
mod tests;
#[allow(missing_docs)]
mod wire_format;

pub use batch::{Batch, BatchBuilder, BatchSizes, MAX_BATCH_BYTES, MAX_SMALL_BYTES};
pub use codec::DecodeError;
pub use codec::{Answered, Content, answer, steps};
pub use deadline::Deadline;
pub use error::RemoteError;
pub use frame_pool::FramePool;
pub use proto::Share;
pub use share::Split;
pub use view::Message;
pub use view::new_id;
pub use wire_format::WireFormatError;
