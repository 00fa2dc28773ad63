//! [`WriteTimeout`]: fails the writes of a connection whose peer reads too slowly.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

use super::MIN_PROGRESS_BYTES;

/// A TCP stream whose writes fail if the peer takes longer than `timeout` to receive [`MIN_PROGRESS_BYTES`], or the
/// rest of the data if that is less.
///
/// The wrapper is beneath TLS, because TLS buffers data of its own. The timer starts with the first write that
/// returns `Pending` and stops when the data is flushed, so a write that completes at once costs nothing.
#[derive(Debug)]
pub(in crate::http) struct WriteTimeout {
    stream: TcpStream,
    timeout: Duration,
    /// Runs while `is_waiting`. It is kept between waits to avoid an allocation for each.
    timer: Option<Pin<Box<Sleep>>>,
    is_waiting: bool,
    /// Bytes written since `is_waiting` was set.
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

    /// Passes the outcome of a write on, or fails it once writes have been pending for longer than the timeout.
    fn check_progress(
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
        // Reset the connection: after an ordinary close, the system would keep the unsent data.
        if let Err(error) = self.stream.set_zero_linger() {
            tracing::debug!(%error, "cannot reset the connection of a slow reader");
        }
        let message =
            format!("the peer read less than {MIN_PROGRESS_BYTES} bytes within {timeout:?}");
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
        self.check_progress(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.check_progress(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // hyper flushes when it has written all data.
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
    async fn write_timeout_restarts_with_each_minimal_progress_and_each_flush() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let (stream, _accepted) = tokio::join!(TcpStream::connect(at), listener.accept());
        let mut write_timeout = WriteTimeout::new(stream.unwrap(), Duration::from_secs(60));
        let mut context = Context::from_waker(Waker::noop());
        let mut write = |write_timeout: &mut WriteTimeout, written: Option<usize>| {
            let written = written.map_or(Poll::Pending, |bytes| Poll::Ready(Ok(bytes)));
            match write_timeout.check_progress(&mut context, written) {
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
        // A flush stops the timer.
        assert_eq!(write(&mut write_timeout, None), "waits");
        advance(almost).await;
        assert_eq!(write(&mut write_timeout, Some(1)), "written");
        let flushed =
            Pin::new(&mut write_timeout).poll_flush(&mut Context::from_waker(Waker::noop()));
        assert!(flushed.is_ready());
        advance(almost).await;
        assert_eq!(write(&mut write_timeout, None), "waits");
        // Single bytes do not restart the timer.
        for _ in 0..3 {
            advance(Duration::from_secs(19)).await;
            assert_eq!(write(&mut write_timeout, Some(1)), "written");
            assert_eq!(write(&mut write_timeout, None), "waits");
        }
        advance(Duration::from_secs(4)).await;
        assert_eq!(write(&mut write_timeout, None), "late");
    }
}
