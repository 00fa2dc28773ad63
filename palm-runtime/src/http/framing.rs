//! [`StrictFraming`]: rejects HTTP/1 requests whose boundaries are ambiguous (request smuggling).
//!
//! hyper parses heads leniently: a bare LF ends a line, `Transfer-Encoding` overrides `Content-Length`, and a
//! repeated `Content-Length` counts once. An upstream proxy may parse such bytes differently, and would then see
//! other requests than hyper does. So the bytes of a connection pass through [`RequestFraming`] before hyper parses
//! them. It is a state machine that tracks where each request begins and ends, and rejects the first ambiguous byte.
//! Everything else about a request is left to hyper. HTTP/2 is recognised by its preface and passes unchecked.
//!
//! hyper sees the end of the connection at the rejected byte. In a head or a trailer it reads [`INVALID_HEAD`] in place
//! of that byte, and answers 400. In the size line of a chunk it reads the byte itself, which it rejects as well.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The first bytes of an HTTP/2 connection.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Bytes of a line that are kept. A longer line is rejected if its content matters to the framing.
const MAX_LINE_BYTES: usize = 64;
/// Most hexadecimal digits of a chunk size.
const MAX_CHUNK_SIZE_DIGITS: usize = 16;
/// A NUL, which no head or trailer may contain, and the end of the head, so that hyper does not wait for more.
const INVALID_HEAD: &[u8] = b"\0\r\n\r\n";

/// The position of the next byte in a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FramingState {
    /// After this many bytes of the preface.
    Preface(usize),
    Http2,
    Line(LineKind),
    /// In a body or chunk with this many bytes left, followed by this kind of line.
    Content(u64, LineKind),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LineKind {
    /// A request line, or an empty line preceding one.
    Request,
    Header,
    ChunkSize,
    /// The empty line after a chunk.
    ChunkEnd,
    Trailer,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BodyLength {
    Len(u64),
    Chunked,
}

/// The byte at which a request becomes ambiguous.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct AmbiguousByte;

/// Tracks the requests of a connection.
#[derive(Debug)]
struct RequestFraming {
    state: FramingState,
    /// The first bytes of the current line.
    line: [u8; MAX_LINE_BYTES],
    /// The length of the whole line, of which `line` may have only the first bytes.
    len: usize,
    is_after_cr: bool,
    /// The body length that the headers of the current request declare.
    body: Option<BodyLength>,
}

impl RequestFraming {
    fn new() -> Self {
        Self {
            state: FramingState::Preface(0),
            line: [0; MAX_LINE_BYTES],
            len: 0,
            is_after_cr: false,
            body: None,
        }
    }

    fn is_in_chunk(&self) -> bool {
        matches!(
            self.state,
            FramingState::Line(LineKind::ChunkSize | LineKind::ChunkEnd)
                | FramingState::Content(_, LineKind::ChunkEnd)
        )
    }

    /// Processes the next bytes. The error is the index of the ambiguous byte.
    fn read(&mut self, bytes: &[u8]) -> Result<(), usize> {
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            at += match self.state {
                FramingState::Http2 => return Ok(()),
                FramingState::Preface(len) => {
                    self.preface(len, byte).map_err(|AmbiguousByte| at)?;
                    1
                }
                FramingState::Line(line) => {
                    self.line(line, byte).map_err(|AmbiguousByte| at)?;
                    1
                }
                FramingState::Content(left, next) => {
                    let skipped = left.min((bytes.len() - at) as u64);
                    self.state = match left - skipped {
                        0 => FramingState::Line(next),
                        left => FramingState::Content(left, next),
                    };
                    skipped as usize
                }
            };
        }
        Ok(())
    }

    fn preface(&mut self, len: usize, byte: u8) -> Result<(), AmbiguousByte> {
        if byte == PREFACE[len] {
            self.state = match len + 1 {
                len if len == PREFACE.len() => FramingState::Http2,
                len => FramingState::Preface(len),
            };
            return Ok(());
        }
        self.state = FramingState::Line(LineKind::Request);
        for &byte in &PREFACE[..len] {
            let FramingState::Line(line) = self.state else {
                break;
            };
            self.line(line, byte)?;
        }
        match self.state {
            FramingState::Line(line) => self.line(line, byte),
            _ => Err(AmbiguousByte),
        }
    }

    fn line(&mut self, line: LineKind, byte: u8) -> Result<(), AmbiguousByte> {
        match (self.is_after_cr, byte) {
            (true, b'\n') => {
                self.is_after_cr = false;
                self.state = self.end_of_line(line)?;
                self.len = 0;
            }
            (true, _) | (false, b'\n' | 0) => return Err(AmbiguousByte),
            (false, b'\r') => self.is_after_cr = true,
            (false, byte) => {
                if let Some(slot) = self.line.get_mut(self.len) {
                    *slot = byte;
                }
                self.len += 1;
            }
        }
        Ok(())
    }

    fn end_of_line(&mut self, line: LineKind) -> Result<FramingState, AmbiguousByte> {
        let is_empty = self.len == 0;
        Ok(match line {
            LineKind::Request if is_empty => FramingState::Line(LineKind::Request),
            LineKind::Request => FramingState::Line(LineKind::Header),
            LineKind::Header if is_empty => match self.body.take() {
                None | Some(BodyLength::Len(0)) => FramingState::Line(LineKind::Request),
                Some(BodyLength::Len(len)) => FramingState::Content(len, LineKind::Request),
                Some(BodyLength::Chunked) => FramingState::Line(LineKind::ChunkSize),
            },
            LineKind::Header => {
                self.header()?;
                FramingState::Line(LineKind::Header)
            }
            LineKind::ChunkSize => match self.chunk_size()? {
                0 => FramingState::Line(LineKind::Trailer),
                len => FramingState::Content(len, LineKind::ChunkEnd),
            },
            LineKind::ChunkEnd if is_empty => FramingState::Line(LineKind::ChunkSize),
            LineKind::ChunkEnd => return Err(AmbiguousByte),
            LineKind::Trailer if is_empty => FramingState::Line(LineKind::Request),
            LineKind::Trailer => FramingState::Line(LineKind::Trailer),
        })
    }

    /// Returns the kept bytes of the current line.
    fn kept(&self) -> &[u8] {
        &self.line[..self.len.min(MAX_LINE_BYTES)]
    }

    fn header(&mut self) -> Result<(), AmbiguousByte> {
        let kept = self.kept();
        let Some(colon) = kept.iter().position(|&byte| byte == b':') else {
            return Ok(());
        };
        let (name, value) = (&kept[..colon], kept[colon + 1..].trim_ascii());
        let body = if name.eq_ignore_ascii_case(b"content-length") {
            BodyLength::Len(number(value, 10).ok_or(AmbiguousByte)?)
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if !value.eq_ignore_ascii_case(b"chunked") {
                return Err(AmbiguousByte);
            }
            BodyLength::Chunked
        } else {
            return Ok(());
        };
        if self.len > MAX_LINE_BYTES || self.body.replace(body).is_some() {
            return Err(AmbiguousByte);
        }
        Ok(())
    }

    fn chunk_size(&self) -> Result<u64, AmbiguousByte> {
        let kept = self.kept();
        let is_digit = |byte: &u8| byte.is_ascii_hexdigit();
        let digits = kept.iter().take_while(|byte| is_digit(byte)).count();
        let (digits, rest) = kept.split_at(digits);
        match rest {
            _ if digits.len() > MAX_CHUNK_SIZE_DIGITS => Err(AmbiguousByte),
            [] | [b';' | b' ' | b'\t', ..] => number(digits, 16).ok_or(AmbiguousByte),
            _ => Err(AmbiguousByte),
        }
    }
}

/// Parses digits without a sign. Returns `None` on overflow.
fn number(digits: &[u8], radix: u32) -> Option<u64> {
    let text = str::from_utf8(digits).ok()?;
    let is_number = text.bytes().all(|byte| byte.is_ascii_hexdigit());
    u64::from_str_radix(text, radix).ok().filter(|_| is_number)
}

/// A stream that passes the bytes it reads through [`RequestFraming`].
#[derive(Debug)]
pub(super) struct StrictFraming<S> {
    stream: S,
    framing: RequestFraming,
    /// Set after an ambiguous byte: unread bytes that replace the rest of the stream.
    replacement: Option<&'static [u8]>,
}

impl<S> StrictFraming<S> {
    pub(super) fn new(stream: S) -> Self {
        Self {
            stream,
            framing: RequestFraming::new(),
            replacement: None,
        }
    }

    fn read_replacement(&mut self, buffer: &mut ReadBuf<'_>) {
        if let Some(left) = &mut self.replacement {
            let (now, later) = left.split_at(left.len().min(buffer.remaining()));
            buffer.put_slice(now);
            *left = later;
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for StrictFraming<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.replacement.is_some() {
            self.read_replacement(buffer);
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        let Err(index) = self.framing.read(&buffer.filled()[before..]) else {
            return Poll::Ready(Ok(()));
        };
        tracing::debug!("rejecting an HTTP request with ambiguous framing");
        let (end, replacement) = match self.framing.is_in_chunk() {
            true => (index + 1, &b""[..]),
            false => (index, INVALID_HEAD),
        };
        buffer.set_filled(before + end);
        self.replacement = Some(replacement);
        self.read_replacement(buffer);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for StrictFraming<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::io::AsyncReadExt as _;

    use super::*;

    /// Processes `bytes` in pieces of `len` bytes, and returns the index of the rejected byte.
    fn rejected(bytes: &[u8], len: usize) -> Option<usize> {
        let mut framing = RequestFraming::new();
        let mut pieces = bytes.chunks(len).enumerate();
        pieces.find_map(|(piece, bytes)| framing.read(bytes).err().map(|at| piece * len + at))
    }

    /// `expected` is the accepted part of `request`, as the first and as the second request of a connection.
    #[track_caller]
    fn check(request: &str, expected: &str) {
        let first = "POST /a HTTP/1.1\r\ncontent-length: 3\r\n\r\nabc";
        for before in ["", "\r\n", first] {
            let bytes = format!("{before}{request}");
            for len in [1, 2, 7, bytes.len()] {
                let accepted = rejected(bytes.as_bytes(), len).unwrap_or(bytes.len());
                let accepted = &bytes[before.len().min(accepted)..accepted];
                assert_eq!(accepted, expected, "in pieces of {len} after {before:?}");
            }
        }
    }

    #[test]
    fn unambiguous_request_passes() {
        for headers in [
            "",
            "host: a\r\n",
            "host: a\r\nx: \u{e4}\t;=\r\ny:\r\n",
            "Content-Length:\t 5 \r\n",
            "transfer-encoding: Chunked\r\n",
        ] {
            let head = format!("POST / HTTP/1.1\r\n{headers}\r\n");
            check(&head, &head);
        }
        let long = format!("GET /{0} HTTP/1.1\r\n{0}: {0}\r\n\r\n", "x".repeat(1000));
        check(&long, &long);
        for body in [
            "content-length: 0\r\n\r\n",
            "content-length: 6\r\n\r\na\nb\0\r!",
            "transfer-encoding: chunked\r\n\r\n5\r\na\nb\r!\r\n0A;x=y\r\n0123456789\r\n0\r\n\r\n",
            "transfer-encoding: chunked\r\n\r\n1 \r\n!\r\n000\r\nx: y\r\n\r\n",
        ] {
            let requests = format!("POST / HTTP/1.1\r\n{body}GET / HTTP/1.1\r\n\r\n");
            check(&requests, &requests);
        }
    }

    #[test]
    fn ambiguous_head_is_rejected() {
        let check = |accepted: &str, rejected: &str| {
            let request = format!("POST / HTTP/1.1{accepted}{rejected}");
            check(&request, &format!("POST / HTTP/1.1{accepted}"));
        };
        check("", "\nhost: a\r\n\r\n");
        check("\r", "host: a\r\n\r\n");
        check("\r\nhost: a", "\n\r\n");
        check("\r\nhost: a\r\n", "\n");
        check("\r\nhost: a\r\n\r", "x");
        check("\r\nx: a", "\0b\r\n\r\n");
        check("\r\nx: a\r", "y: b\r\n\r\n");
        for value in [
            "",
            "+5",
            "-5",
            "0x5",
            "5a",
            "5, 5",
            "5 5",
            "18446744073709551616",
            "9".repeat(50).as_str(),
        ] {
            check(&format!("\r\ncontent-length: {value}\r"), "\n\r\n");
        }
        check(
            &format!("\r\ncontent-length:{}5\r", " ".repeat(50)),
            "\n\r\n",
        );
        for value in [
            "",
            "identity",
            "gzip, chunked",
            "chunked, chunked",
            "xchunked",
            "\x0bchunked",
        ] {
            check(&format!("\r\ntransfer-encoding: {value}\r"), "\n\r\n");
        }
        let (len, chunked) = ("\r\nContent-Length: 5", "\r\nTransfer-Encoding: chunked");
        for (first, second) in [
            (len, len),
            (len, chunked),
            (chunked, len),
            (chunked, chunked),
        ] {
            check(&format!("{first}{second}\r"), "\n\r\n");
        }
    }

    #[test]
    fn ambiguous_chunk_is_rejected() {
        let check = |accepted: &str, rejected: &str| {
            let head = "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n";
            let request = format!("{head}{accepted}{rejected}");
            check(&request, &format!("{head}{accepted}"));
        };
        check("5", "\nhello\n0\n\n");
        check("5;x", "\n\r\nhello");
        check("5\r\nhelloX\r", "\n0\r\n\r\n");
        check("5\r\nhello", "\n0\r\n\r\n");
        check("0\r\nx: y", "\n\r\n");
        let long = format!("{}5", "0".repeat(70));
        for size in [
            "",
            "-1",
            "+1",
            "0x5",
            "g",
            " 5",
            ";x",
            "10000000000000000",
            "00000000000000005",
            &long,
        ] {
            check(&format!("{size}\r"), "\nhello");
        }
    }

    #[test]
    fn http_2_passes_unchecked_only_after_its_whole_preface() {
        let requests = [PREFACE, b"\n\0\r\r\n"].concat();
        assert_eq!(rejected(&requests, 1), None);
        assert_eq!(rejected(&requests, requests.len()), None);
        for (bytes, index) in [
            ("PRI * HTTP/2.0\n", 14),
            ("PRI * HTTP/2.0\r\n\n", 16),
            ("POST / HTTP/1.1\n", 15),
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\r", 23),
        ] {
            for len in [1, bytes.len()] {
                assert_eq!(rejected(bytes.as_bytes(), len), Some(index), "{bytes:?}");
            }
        }
    }

    #[tokio::test]
    async fn rejected_head_is_replaced_by_one_that_hyper_rejects() {
        let bytes: &[u8] = b"GET / HTTP/1.1\r\nhost: a\nx: y\r\n\r\nGET /more HTTP/1.1\r\n\r\n";
        let expected = b"GET / HTTP/1.1\r\nhost: a\0\r\n\r\n";
        let mut all = Vec::new();
        StrictFraming::new(bytes)
            .read_to_end(&mut all)
            .await
            .unwrap();
        assert_eq!(all, expected);
        // One byte at a time.
        let (mut checked, mut all) = (StrictFraming::new(bytes), Vec::new());
        while let Ok(byte) = checked.read_u8().await {
            all.push(byte);
        }
        assert_eq!(all, expected);
        for (chunks, expected) in [
            ("5\nhello", "5\n"),
            ("5;x\nhello", "5;x\n"),
            ("1\r\n12\r\n", "1\r\n12\r\n"),
            ("0\r\nx: y\n\r\n", "0\r\nx: y\0\r\n\r\n"),
        ] {
            let head = "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n";
            let bytes = format!("{head}{chunks}GET / HTTP/1.1\r\n\r\n");
            let mut all = String::new();
            let mut checked = StrictFraming::new(bytes.as_bytes());
            checked.read_to_string(&mut all).await.unwrap();
            assert_eq!(all, format!("{head}{expected}"));
        }
    }

    proptest! {
        #[test]
        fn framing_does_not_depend_on_how_bytes_are_split(bytes in proptest::collection::vec(
            prop_oneof![Just(b'\r'), Just(b'\n'), Just(b':'), Just(b'5'), Just(0), any::<u8>()], 0..200,
        ), len in 1..50_usize) {
            let head = b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n";
            for before in [&b""[..], b"GET / HTTP/1.1\r\n", head] {
                let bytes = [before, &bytes].concat();
                prop_assert_eq!(rejected(&bytes, len), rejected(&bytes, bytes.len().max(1)));
            }
        }
    }
}
