//! What goes over the wire: one [`Message`], and the list of [`Steps`](crate::function::Steps) in it.
//!
//! [`Message`] is the `PalmMessage` of the protocol (`proto/palm.proto`, part 1 of the wire
//! contract). Start reading at [`Message::decode`]. There is no I/O here.

mod codec;
mod deadline;
mod encoded;
mod error;
#[cfg(test)]
mod generated_test;
mod group;
pub(crate) mod lease;
mod memory;
// As it was generated.
#[rustfmt::skip]
pub mod proto;
mod share;
#[cfg(test)]
mod tests;
mod wire_format;

pub use codec::DecodeError;
pub(crate) use codec::{Answered, Content, answer, steps};
pub(crate) use deadline::Deadline;
pub use encoded::Message;
pub(crate) use encoded::new_id;
pub use error::RemoteError;
pub(crate) use group::{Group, GroupBuilder, SHARED, SMALL, Sizes};
pub(crate) use memory::FrameMemory;
pub(crate) use proto::Share;
pub(crate) use share::Split;
pub use wire_format::WireFormatError;
