//! The header of a frame of ZMTP 3, to know how long it is and whether its message ends with it.

/// A frame has flags that ZMTP does not define.
#[derive(Debug, thiserror::Error)]
#[error("a frame has reserved flags")]
pub(super) struct ReservedFlags;

/// The header of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FrameHeader {
    /// Length of the header.
    pub(super) bytes: usize,
    /// Length of the payload.
    pub(super) payload: usize,
    pub(super) more: bool,
    pub(super) command: bool,
}

impl FrameHeader {
    /// Reads a header, if it is complete.
    pub(super) fn read(input: &[u8]) -> Result<Option<Self>, ReservedFlags> {
        const MORE: u8 = 1;
        const LONG: u8 = 2;
        const COMMAND: u8 = 4;
        let (flags, bytes, payload) = match *input {
            [flags, ..]
                if flags > (MORE | LONG | COMMAND)
                    || flags & (MORE | COMMAND) == MORE | COMMAND =>
            {
                return Err(ReservedFlags);
            }
            [flags, len, ..] if flags & LONG == 0 => (flags, 2, u64::from(len)),
            [flags, a, b, c, d, e, f, g, h, ..] => {
                (flags, 9, u64::from_be_bytes([a, b, c, d, e, f, g, h]))
            }
            _ => return Ok(None),
        };
        Ok(Some(Self {
            bytes,
            // More than any limit, if it does not fit.
            payload: usize::try_from(payload).unwrap_or(usize::MAX),
            more: flags & MORE != 0,
            command: flags & COMMAND != 0,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_both_lengths_are_read() {
        let header = |bytes, payload, more, command| FrameHeader {
            bytes,
            payload,
            more,
            command,
        };
        let read = |input: &[u8]| FrameHeader::read(input).unwrap();
        assert_eq!(read(&[]), None);
        assert_eq!(read(&[1]), None);
        assert_eq!(read(&[1, 7, 9]), Some(header(2, 7, true, false)));
        assert_eq!(read(&[4, 255]), Some(header(2, 255, false, true)));
        assert_eq!(read(&[2, 0, 0, 0, 0, 0, 1, 0]), None);
        let long = [2, 0, 0, 0, 0, 0, 1, 0, 2];
        assert_eq!(read(&long), Some(header(9, 65538, false, false)));
    }

    #[test]
    fn reserved_flags_are_rejected_at_the_first_byte() {
        for flags in 0..=255 {
            let is_valid = matches!(flags, 0..=4 | 6);
            assert_eq!(FrameHeader::read(&[flags]).is_ok(), is_valid, "{flags}");
        }
    }
}
