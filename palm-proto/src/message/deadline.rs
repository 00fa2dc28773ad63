//! The extension `deadline` of a message: until when its answer is wanted.

use std::time::{Duration, SystemTime};

use prost::Message as _;

use super::proto::Extensions;

/// A point in time on the clock that all hosts share, to the microsecond.
///
/// Absolute, so that time in queues and on the way counts and no component has to write the message
/// anew; the hosts' clocks have to agree as well as the deadlines are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(u64);

impl Deadline {
    /// So much later than now.
    pub fn after(time: Duration) -> Self {
        Self::at(SystemTime::now() + time.min(Duration::from_secs(u32::MAX.into())))
    }

    fn at(time: SystemTime) -> Self {
        let since = time
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        Self(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
    }

    /// Among the fields that a plain message does not know.
    pub(super) fn from_unknown(unknown: &[u8]) -> Option<Self> {
        if unknown.is_empty() {
            return None;
        }
        Self::from_extension(Extensions::decode(unknown).ok()?.deadline)
    }

    /// The field's value; 0 is none.
    pub fn from_extension(deadline: u64) -> Option<Self> {
        (deadline != 0).then_some(Self(deadline))
    }

    /// The field's value.
    pub fn to_extension(self) -> u64 {
        self.0
    }

    /// How much time is left; none when it has passed.
    pub fn left(self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(Self::at(SystemTime::now()).0))
    }

    pub fn has_passed(self) -> bool {
        self.left().is_zero()
    }

    /// The extension field.
    pub fn encode(self) -> [u8; 10] {
        // The key of field 17 with 8 bytes, then these, in little-endian order.
        let mut field = [0x89, 0x01, 0, 0, 0, 0, 0, 0, 0, 0];
        field[2..].copy_from_slice(&self.0.to_le_bytes());
        field
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_a_field_of_the_extensions() {
        let deadline = Deadline(0x0102_0304_0506_0708);
        let extensions = Extensions {
            deadline: deadline.0,
            ..Extensions::default()
        };
        assert_eq!(extensions.encode_to_vec(), deadline.encode());
        assert_eq!(Deadline::from_unknown(&deadline.encode()), Some(deadline));
        assert_eq!(Deadline::from_unknown(b""), None);
        assert_eq!(Deadline::from_unknown(&Deadline(0).encode()), None);
        // Cut short, and of another type.
        assert_eq!(Deadline::from_unknown(&deadline.encode()[..9]), None);
        assert_eq!(Deadline::from_unknown(b"\x88\x01\x05"), None);
    }

    #[test]
    fn time_runs_out() {
        let deadline = Deadline::after(Duration::from_secs(60));
        assert!(deadline.left() > Duration::from_secs(59) && !deadline.has_passed());
        assert!(Deadline(1).has_passed());
        assert!(!Deadline::after(Duration::MAX).has_passed());
    }
}
