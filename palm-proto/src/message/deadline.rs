//! The extension `deadline` of a message: the time until which its answer is wanted.

use std::time::{Duration, SystemTime};

use prost::Message as _;

use super::proto::Extensions;

/// An absolute time in microseconds, on the clocks of all hosts.
///
/// A duration would not include the time in queues and on the network, unless each component rewrote the message. The
/// clocks of the hosts have to agree to the accuracy of the deadlines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(u64);

impl Deadline {
    /// Returns the deadline `time` after `now`.
    pub fn after(time: Duration, now: SystemTime) -> Self {
        Self::at(now + time.min(Duration::from_secs(u32::MAX.into())))
    }

    /// Returns the deadline at `time`.
    pub fn at(time: SystemTime) -> Self {
        let since = time
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        Self(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
    }

    /// Decodes the deadline among extension fields.
    pub(super) fn from_unknown(unknown: &[u8]) -> Option<Self> {
        if unknown.is_empty() {
            return None;
        }
        Self::from_extension(Extensions::decode(unknown).ok()?.deadline)
    }

    /// Converts the value of the field, of which 0 is none.
    pub fn from_extension(deadline: u64) -> Option<Self> {
        (deadline != 0).then_some(Self(deadline))
    }

    /// Returns the value of the field.
    pub fn to_extension(self) -> u64 {
        self.0
    }

    /// Returns the remaining time, zero after the deadline.
    pub fn left(self, now: SystemTime) -> Duration {
        Duration::from_micros(self.0.saturating_sub(Self::at(now).0))
    }

    pub fn has_passed(self, now: SystemTime) -> bool {
        self.left(now).is_zero()
    }

    /// Encodes the extension field.
    pub fn encode(self) -> [u8; 10] {
        // The key of field 17 with the wire type of 8 bytes, which follow in little-endian order.
        let mut field = [0x89, 0x01, 0, 0, 0, 0, 0, 0, 0, 0];
        field[2..].copy_from_slice(&self.0.to_le_bytes());
        field
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadline_is_encoded_as_prost_encodes_it() {
        let deadline = Deadline(0x0102_0304_0506_0708);
        let extensions = Extensions {
            deadline: deadline.0,
            ..Extensions::default()
        };
        assert_eq!(extensions.encode_to_vec(), deadline.encode());
        assert_eq!(Deadline::from_unknown(&deadline.encode()), Some(deadline));
        assert_eq!(Deadline::from_unknown(b""), None);
        assert_eq!(Deadline::from_unknown(&Deadline(0).encode()), None);
        // Truncated, and with the wrong wire type.
        assert_eq!(Deadline::from_unknown(&deadline.encode()[..9]), None);
        assert_eq!(Deadline::from_unknown(b"\x88\x01\x05"), None);
    }

    #[test]
    fn deadline_passes_after_its_time() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let minute = Duration::from_secs(60);
        let deadline = Deadline::after(minute, now);
        assert_eq!(deadline.left(now), minute);
        assert!(!deadline.has_passed(now + minute - Duration::from_micros(1)));
        assert!(deadline.has_passed(now + minute));
        assert!(Deadline(1).has_passed(now));
        assert!(!Deadline::after(Duration::MAX, now).has_passed(now));
    }
}
