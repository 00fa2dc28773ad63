//! Finds the ends of messages in a stream of ZMTP 3 bytes (RFC 23 and 37).
//!
//! The stream is a greeting of 64 bytes and then frames: a byte of flags, a length of 1 or 8 bytes, and the body.
//! Bytes of other protocols pass uncounted.

/// Another frame of the same message follows.
const MORE: u8 = 1;
/// The length has 8 bytes.
const LONG: u8 = 2;
/// The frame is a command between sockets, not part of a message.
const COMMAND: u8 = 4;

const GREETING_BYTES: u8 = 64;

/// The position in one direction of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MessageCounter(StreamPosition);

/// The element that the next byte belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
enum StreamPosition {
    /// The greeting, of which this many bytes were read.
    Greeting(u8),
    Flags,
    Length {
        missing: u8,
        length: u64,
        ends_message: bool,
    },
    Body {
        missing: u64,
        ends_message: bool,
    },
    /// The stream is not ZMTP 3.
    Foreign,
}

impl MessageCounter {
    pub(super) fn new() -> Self {
        Self(StreamPosition::Greeting(0))
    }

    /// Consumes bytes up to the end of the `limit`th message, or all of them. Returns how many bytes were consumed,
    /// and how many messages end in them.
    pub(super) fn take(&mut self, bytes: &[u8], limit: u64) -> (usize, u64) {
        let (mut taken, mut messages) = (0, 0);
        while messages < limit && taken < bytes.len() {
            let (step, ends_message) = self.step(&bytes[taken..]);
            taken += step;
            messages += u64::from(ends_message);
        }
        (taken, messages)
    }

    /// Consumes at least one byte of `bytes`, which is not empty. Returns their number, and whether a message
    /// ends with the last of them.
    fn step(&mut self, bytes: &[u8]) -> (usize, bool) {
        let byte = bytes[0];
        match &mut self.0 {
            StreamPosition::Greeting(known) => {
                let is_right = match *known {
                    0 => byte == 0xff,
                    9 => byte == 0x7f,
                    10 => byte >= 3,
                    _ => true,
                };
                *known += 1;
                if !is_right {
                    self.0 = StreamPosition::Foreign;
                } else if *known == GREETING_BYTES {
                    self.0 = StreamPosition::Flags;
                }
                (1, false)
            }
            StreamPosition::Flags => {
                let length = |missing| StreamPosition::Length {
                    missing,
                    length: 0,
                    ends_message: byte & (MORE | COMMAND) == 0,
                };
                self.0 = match byte {
                    _ if byte & !(MORE | LONG | COMMAND) != 0 => StreamPosition::Foreign,
                    _ if byte & LONG != 0 => length(8),
                    _ => length(1),
                };
                (1, false)
            }
            StreamPosition::Length {
                missing,
                length,
                ends_message,
            } => {
                *length = *length << 8 | u64::from(byte);
                *missing -= 1;
                if *missing > 0 {
                    return (1, false);
                }
                let (length, ends_message) = (*length, *ends_message);
                self.begin_body(length, ends_message);
                (1, length == 0 && ends_message)
            }
            StreamPosition::Body {
                missing,
                ends_message,
            } => {
                let step = usize::try_from(*missing)
                    .unwrap_or(usize::MAX)
                    .min(bytes.len());
                let (missing, ends_message) = (*missing - step as u64, *ends_message);
                self.begin_body(missing, ends_message);
                (step, missing == 0 && ends_message)
            }
            StreamPosition::Foreign => (bytes.len(), false),
        }
    }

    fn begin_body(&mut self, missing: u64, ends_message: bool) {
        self.0 = match missing {
            0 => StreamPosition::Flags,
            missing => StreamPosition::Body {
                missing,
                ends_message,
            },
        };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn greeting() -> Vec<u8> {
        let mut greeting = vec![0; 64];
        (greeting[0], greeting[9], greeting[10]) = (0xff, 0x7f, 3);
        greeting
    }

    fn frame(flags: u8, body: usize) -> Vec<u8> {
        let mut frame = vec![flags];
        match flags & LONG {
            0 => frame.push(u8::try_from(body).unwrap()),
            _ => frame.extend((body as u64).to_be_bytes()),
        }
        // Bytes of the body look like flags.
        frame.extend(std::iter::repeat_n(0, body));
        frame
    }

    /// Returns a greeting and frames with these flags and lengths.
    fn stream(frames: &[(u8, usize)]) -> Vec<u8> {
        let frames = frames.iter().map(|&(flags, body)| frame(flags, body));
        std::iter::once(greeting())
            .chain(frames)
            .flatten()
            .collect()
    }

    fn check(bytes: &[u8], expected: u64) {
        let (taken, messages) = MessageCounter::new().take(bytes, u64::MAX);
        assert_eq!((taken, messages), (bytes.len(), expected));
    }

    #[test]
    fn counter_counts_whole_messages_and_no_commands() {
        check(&stream(&[]), 0);
        check(&stream(&[(0, 5)]), 1);
        check(&stream(&[(0, 0), (0, 255), (LONG, 0), (LONG, 70_000)]), 4);
        check(&stream(&[(MORE, 3), (MORE | LONG, 300), (0, 0)]), 1);
        check(&stream(&[(MORE, 0), (0, 1), (0, 1)]), 2);
        check(&stream(&[(COMMAND, 20), (COMMAND | LONG, 300), (0, 1)]), 1);
        // The last message is incomplete.
        check(&stream(&[(0, 5), (0, 5)])[..77], 1);
    }

    #[test]
    fn counter_ignores_bytes_of_other_protocols() {
        check(b"", 0);
        check(b"GET / HTTP/1.1\r\n\r\n", 0);
        check(&[0xff; 200], 0);
        let mut old = stream(&[(0, 1)]);
        old[10] = 1;
        check(&old, 0);
        check(&stream(&[(0, 1), (0x80, 1), (0, 1)]), 1);
        let endless = [&stream(&[(0, 1)])[..], &[LONG], &[0xff; 100]].concat();
        check(&endless, 1);
    }

    #[test]
    fn counter_stops_at_the_end_of_the_last_message() {
        let bytes = stream(&[(MORE, 3), (0, 4), (COMMAND, 1), (LONG, 2), (0, 0)]);
        let mut messages = MessageCounter::new();
        assert_eq!(messages.take(&bytes, 0), (0, 0));
        assert_eq!(messages.take(&bytes, 1), (64 + 5 + 6, 1));
        assert_eq!(messages.take(&bytes[75..], 1), (3 + 11, 1));
        assert_eq!(messages.take(&bytes[89..], 9), (2, 1));
        assert_eq!(messages.take(b"", 9), (0, 0));
    }

    proptest! {
        #[test]
        fn counter_does_not_depend_on_how_bytes_are_split(
            frames in prop::collection::vec((0u8..8, 0usize..400), 0..20),
            pieces in prop::collection::vec(1usize..100, 1..50),
            limit in 1u64..5,
        ) {
            let frames: Vec<_> = frames
                .into_iter()
                .map(|(flags, body)| (flags, if flags & LONG == 0 { body.min(255) } else { body }))
                .collect();
            let expected = frames.iter().filter(|(flags, _)| flags & (MORE | COMMAND) == 0).count();
            let bytes = stream(&frames);
            let (mut messages, mut rest, mut count) = (MessageCounter::new(), &bytes[..], 0);
            for piece in pieces.into_iter().cycle() {
                let (taken, ended) = messages.take(&rest[..piece.min(rest.len())], limit);
                prop_assert!(ended <= limit);
                count += ended;
                rest = &rest[taken..];
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(count, expected as u64);
        }

        #[test]
        fn counter_consumes_arbitrary_bytes(bytes in prop::collection::vec(any::<u8>(), 0..300), greets in any::<bool>()) {
            let bytes = if greets { [greeting(), bytes].concat() } else { bytes };
            let (mut whole, mut pieces) = (MessageCounter::new(), MessageCounter::new());
            let (taken, messages) = whole.take(&bytes, u64::MAX);
            prop_assert_eq!(taken, bytes.len());
            let single: u64 = bytes.chunks(1).map(|byte| pieces.take(byte, u64::MAX).1).sum();
            prop_assert_eq!(single, messages);
            prop_assert_eq!(whole, pieces);
        }
    }
}
