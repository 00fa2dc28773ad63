//! The frames of one ZeroMQ message.

use bytes::Bytes;
use smallvec::SmallVec;

/// The frames of one ZeroMQ message, in order. Up to three are stored without an allocation.
pub type Frames = SmallVec<[Bytes; 3]>;
