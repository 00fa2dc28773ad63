//! [`WriteTimeout`]: a connection that ends when its peer reads too slowly.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

use super::MIN_PROGRESS_BYTES;

/// A connection whose writes fail if the peer takes longer than `timeout` for [`MIN_PROGRESS_BYTES`] bytes, or for what is left
/// to be written. It is beneath TLS, which has a buffer of its own.
///
/// A write that does not wait is free: the clock runs from the first one that waits until everything is flushed.
#[derive(Debug)]
pub(in crate::http) struct WriteTimeout {
    stream: TcpStream,
    timeout: Duration,
    /// Runs while `is_waiting`; kept, since it may wait often.
    timer: Option<Pin<Box<Sleep>>>,
    is_waiting: bool,
    /// Bytes that were written since it began to wait.
    written: usize,
}

impl WriteTimeout {
    pub(in crate::http) fn new(stream: TcpStream, timeout: Duration) -> Self {
        Self {
            stream,
            timeout,
            timer: None,
            is_waiting: false,
            written: 0,
        }
    }

    /// What became of a write, or the error that it has waited too long.
    fn in_time(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if let Poll::Ready(written) = written {
            self.written += written.as_ref().map_or(0, |bytes| *bytes);
            if self.written >= MIN_PROGRESS_BYTES {
                self.is_waiting = false;
            }
            return Poll::Ready(written);
        }
        let timeout = self.timeout;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(timeout)));
        if !self.is_waiting {
            self.is_waiting = true;
            self.written = 0;
            timer.set(sleep(timeout));
        }
        ready!(timer.as_mut().poll(context));
        // Otherwise the system would keep what it has for a peer that takes nothing.
        if let Err(error) = self.stream.set_zero_linger() {
            tracing::debug!(%error, "a connection cannot be reset");
        }
        let message =
            format!("the peer has read less than {MIN_PROGRESS_BYTES} bytes for {timeout:?}");
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, message)))
    }
}

impl AsyncRead for WriteTimeout {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for WriteTimeout {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.in_time(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.in_time(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Everything has been written.
        self.is_waiting = false;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use tokio::net::TcpListener;
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn peer_has_the_timeout_for_each_piece_or_for_everything() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let (stream, _accepted) = tokio::join!(TcpStream::connect(at), listener.accept());
        let mut write_timeout = WriteTimeout::new(stream.unwrap(), Duration::from_secs(60));
        let mut context = Context::from_waker(Waker::noop());
        let mut write = |write_timeout: &mut WriteTimeout, written: Option<usize>| {
            let written = written.map_or(Poll::Pending, |bytes| Poll::Ready(Ok(bytes)));
            match write_timeout.in_time(&mut context, written) {
                Poll::Ready(Ok(_)) => "written",
                Poll::Ready(Err(_)) => "late",
                Poll::Pending => "waits",
            }
        };
        let almost = Duration::from_secs(59);
        for _ in 0..3 {
            assert_eq!(write(&mut write_timeout, None), "waits");
            advance(almost).await;
            assert_eq!(
                write(&mut write_timeout, Some(MIN_PROGRESS_BYTES - 1)),
                "written"
            );
            assert_eq!(write(&mut write_timeout, None), "waits");
            assert_eq!(write(&mut write_timeout, Some(1)), "written");
        }
        // Everything is written: the clock stands still.
        assert_eq!(write(&mut write_timeout, None), "waits");
        advance(almost).await;
        assert_eq!(write(&mut write_timeout, Some(1)), "written");
        let flushed =
            Pin::new(&mut write_timeout).poll_flush(&mut Context::from_waker(Waker::noop()));
        assert!(flushed.is_ready());
        advance(almost).await;
        assert_eq!(write(&mut write_timeout, None), "waits");
        // A byte now and then is not enough.
        for _ in 0..3 {
            advance(Duration::from_secs(19)).await;
            assert_eq!(write(&mut write_timeout, Some(1)), "written");
            assert_eq!(write(&mut write_timeout, None), "waits");
        }
        advance(Duration::from_secs(4)).await;
        assert_eq!(write(&mut write_timeout, None), "late");
    }
}
