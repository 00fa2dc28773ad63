//! [`OutputPipe`]: one output of a process, which is watched, or looked at in intervals.
//!
//! Each write to a watched pipe wakes the thread, which costs more than the line that was written. So an output that is
//! written line by line is not watched: it is looked at in intervals, which leave several lines for each read.
//! [`ReadPace`] decides which of the two applies.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead as _, ReadBuf};
use tokio::net::unix::pipe;
use tokio::time::{Instant, Sleep, sleep_until};

/// Reads below this are small. They cost more than what they read.
const SMALL_READ_BYTES: usize = 1024;
/// Small reads of a watched output that follow each other without a pause.
const MAX_SMALL_READS: u32 = 16;
/// Time after which a watched output may have another small read.
const SMALL_READ_INTERVAL: Duration = Duration::from_millis(10);

/// The longest interval. The times of lines are late by at most this much.
const MAX_INTERVAL: Duration = Duration::from_millis(8);
/// The resolution of timers.
const MIN_INTERVAL: Duration = Duration::from_millis(1);
/// Bytes of a read from which on the interval becomes shorter: a pipe of Linux has four times as many, and the process
/// waits once it is full.
const LARGE_READ_BYTES: usize = 16 * 1024;
/// Intervals without output after which the output is watched again.
const MAX_EMPTY_READS: u32 = 8;

/// When an output is read next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NextRead {
    WhenReadable,
    After(Duration),
}

/// Decides how an output is read, from the sizes of its reads. No I/O; time is an argument.
#[derive(Debug)]
struct ReadPace {
    /// Small reads that are left while the output is watched: a token bucket.
    small_reads: u32,
    refilled_at: Instant,
    /// The current interval; `None` while the output is watched.
    interval: Option<Duration>,
    empty_reads: u32,
}

impl ReadPace {
    fn new(now: Instant) -> Self {
        Self {
            small_reads: MAX_SMALL_READS,
            refilled_at: now,
            interval: None,
            empty_reads: 0,
        }
    }

    /// So many bytes were read, which is 0 if there were none in the pipe.
    fn has_read(&mut self, bytes: usize, now: Instant) -> NextRead {
        match self.interval {
            None => self.has_read_watched(bytes, now),
            Some(interval) => self.has_read_after(interval, bytes, now),
        }
    }

    fn has_read_watched(&mut self, bytes: usize, now: Instant) -> NextRead {
        if bytes >= SMALL_READ_BYTES {
            return NextRead::WhenReadable;
        }
        let elapsed = now.saturating_duration_since(self.refilled_at).as_millis();
        let refilled = elapsed / SMALL_READ_INTERVAL.as_millis();
        if refilled > 0 {
            let refilled = u32::try_from(refilled).unwrap_or(u32::MAX);
            self.small_reads = self
                .small_reads
                .saturating_add(refilled)
                .min(MAX_SMALL_READS);
            self.refilled_at = now;
        }
        if let Some(left) = self.small_reads.checked_sub(1) {
            self.small_reads = left;
            return NextRead::WhenReadable;
        }
        self.interval = Some(MAX_INTERVAL);
        NextRead::After(MAX_INTERVAL)
    }

    fn has_read_after(&mut self, interval: Duration, bytes: usize, now: Instant) -> NextRead {
        self.empty_reads = match bytes {
            0 => self.empty_reads + 1,
            _ => 0,
        };
        if self.empty_reads == MAX_EMPTY_READS {
            *self = Self::new(now);
            return NextRead::WhenReadable;
        }
        let next = match bytes {
            LARGE_READ_BYTES.. => (interval / 2).max(MIN_INTERVAL),
            _ => (interval * 2).min(MAX_INTERVAL),
        };
        self.interval = Some(next);
        NextRead::After(next)
    }
}

/// How an output is read.
#[derive(Debug)]
enum Reading {
    Watched(pipe::Receiver),
    InIntervals(OwnedFd, Pin<Box<Sleep>>),
}

/// One output of a process.
#[derive(Debug)]
pub(super) struct OutputPipe {
    reading: Reading,
    pace: ReadPace,
    /// Begin of all intervals, which outputs share, so that one timer wakes the thread for many of them.
    epoch: Instant,
}

impl OutputPipe {
    pub(super) fn new(pipe: OwnedFd, epoch: Instant) -> io::Result<Self> {
        Ok(Self {
            reading: Reading::Watched(pipe::Receiver::from_owned_fd(pipe)?),
            pace: ReadPace::new(Instant::now()),
            epoch,
        })
    }

    /// Waits for output and reads it. Returns 0 at its end.
    ///
    /// A read that does not fill the buffer has emptied the pipe, as the `poll_read` of tokio knows: it does not read
    /// again before the pipe has become readable.
    pub(super) fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        bytes: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            let read = match &mut self.reading {
                Reading::Watched(pipe) => {
                    let mut buffer = ReadBuf::new(bytes);
                    ready!(Pin::new(pipe).poll_read(context, &mut buffer))?;
                    match buffer.filled().len() {
                        0 => return Poll::Ready(Ok(0)),
                        read => read,
                    }
                }
                Reading::InIntervals(pipe, sleep) => {
                    ready!(sleep.as_mut().poll(context));
                    match rustix::io::read(&*pipe, &mut *bytes) {
                        Ok(0) => return Poll::Ready(Ok(0)),
                        Ok(read) => read,
                        Err(rustix::io::Errno::AGAIN) => 0,
                        Err(rustix::io::Errno::INTR) => continue,
                        Err(error) => return Poll::Ready(Err(error.into())),
                    }
                }
            };
            let now = Instant::now();
            let next = self.pace.has_read(read, now);
            self.prepare(next, now);
            if read > 0 {
                return Poll::Ready(Ok(read));
            }
        }
    }

    /// Reads once, whether the pipe is known to be readable or not.
    pub(super) fn read_at_once(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        Ok(match &self.reading {
            Reading::Watched(pipe) => rustix::io::read(pipe, bytes)?,
            Reading::InIntervals(pipe, _) => rustix::io::read(pipe, bytes)?,
        })
    }

    /// Returns the pipe, for the next runner.
    pub(super) fn into_fd(self) -> io::Result<OwnedFd> {
        match self.reading {
            Reading::Watched(pipe) => pipe.into_nonblocking_fd(),
            Reading::InIntervals(pipe, _) => Ok(pipe),
        }
    }

    /// Prepares the next read. A pipe that cannot be watched, or not without being watched, is read as before.
    fn prepare(&mut self, next: NextRead, now: Instant) {
        match (next, &mut self.reading) {
            (NextRead::WhenReadable, Reading::Watched(_)) => {}
            (NextRead::WhenReadable, Reading::InIntervals(pipe, sleep)) => {
                match pipe.try_clone().and_then(pipe::Receiver::from_owned_fd) {
                    Ok(pipe) => self.reading = Reading::Watched(pipe),
                    Err(_) => sleep.as_mut().reset(now + MAX_INTERVAL),
                }
            }
            (NextRead::After(interval), Reading::Watched(pipe)) => {
                if let Ok(pipe) = pipe.as_fd().try_clone_to_owned() {
                    let sleep = Box::pin(sleep_until(due(self.epoch, interval, now)));
                    self.reading = Reading::InIntervals(pipe, sleep);
                }
            }
            (NextRead::After(interval), Reading::InIntervals(_, sleep)) => {
                sleep.as_mut().reset(due(self.epoch, interval, now));
            }
        }
    }
}

/// Returns the end of the current interval, if they follow each other from `epoch` on.
fn due(epoch: Instant, interval: Duration, now: Instant) -> Instant {
    let elapsed = now.saturating_duration_since(epoch).as_nanos();
    let begun = elapsed % interval.as_nanos();
    now + interval.saturating_sub(Duration::from_nanos_u128(begun))
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::io::Write as _;

    use super::*;

    const LINE: usize = 100;

    fn at(now: Instant, milliseconds: u64) -> Instant {
        now + Duration::from_millis(milliseconds)
    }

    #[test]
    fn output_of_few_lines_is_always_watched() {
        let begin = Instant::now();
        let mut pace = ReadPace::new(begin);
        // A burst, and then as many lines as the bucket is refilled with.
        for _ in 0..MAX_SMALL_READS {
            assert_eq!(pace.has_read(LINE, begin), NextRead::WhenReadable);
        }
        for line in 1..100 {
            let now = at(begin, 10 * line);
            assert_eq!(pace.has_read(LINE, now), NextRead::WhenReadable, "{line}");
        }
        // A process that writes much at once.
        for _ in 0..1000 {
            let now = at(begin, 1000);
            assert_eq!(pace.has_read(SMALL_READ_BYTES, now), NextRead::WhenReadable);
        }
    }

    #[test]
    fn output_of_many_lines_is_read_in_intervals_until_it_pauses() {
        let begin = Instant::now();
        let mut pace = ReadPace::new(begin);
        for _ in 0..MAX_SMALL_READS {
            assert_eq!(pace.has_read(LINE, begin), NextRead::WhenReadable);
        }
        let longest = NextRead::After(MAX_INTERVAL);
        assert_eq!(pace.has_read(LINE, begin), longest);
        assert_eq!(pace.has_read(8 * LINE, at(begin, 8)), longest);
        // The process could wait for a full pipe, so the interval becomes shorter, and longer again.
        let lengths = [
            (LARGE_READ_BYTES, 4),
            (65536, 2),
            (65536, 1),
            (65536, 1),
            (LINE, 2),
        ];
        for (bytes, milliseconds) in lengths {
            let expected = NextRead::After(Duration::from_millis(milliseconds));
            assert_eq!(pace.has_read(bytes, at(begin, 20)), expected);
        }
        for read in 1..MAX_EMPTY_READS {
            let next = pace.has_read(0, at(begin, 30));
            assert!(matches!(next, NextRead::After(_)), "{read}");
        }
        assert_eq!(pace.has_read(0, at(begin, 40)), NextRead::WhenReadable);
        assert_eq!(pace.has_read(LINE, at(begin, 40)), NextRead::WhenReadable);
    }

    #[test]
    fn intervals_of_all_outputs_end_together() {
        let epoch = Instant::now();
        let long = Duration::from_millis(8);
        assert_eq!(due(epoch, long, at(epoch, 3)), at(epoch, 8));
        assert_eq!(due(epoch, long, at(epoch, 7)), at(epoch, 8));
        assert_eq!(due(epoch, long, at(epoch, 8)), at(epoch, 16));
        let year = 365 * 24 * 3600 * 1000;
        assert_eq!(
            due(epoch, MIN_INTERVAL, at(epoch, year)),
            at(epoch, year + 1)
        );
    }

    #[tokio::test]
    async fn lines_that_are_written_one_by_one_need_few_reads() {
        let (pipe, mut writer) = std::io::pipe().unwrap();
        let mut pipe = OutputPipe::new(pipe.into(), Instant::now()).unwrap();
        let line = [b'x'; LINE];
        let writing = std::thread::spawn(move || {
            for _ in 0..10_000 {
                writer.write_all(&line).unwrap();
            }
        });
        let mut bytes = vec![0; 65536];
        let (mut read, mut reads) = (0, 0);
        loop {
            match poll_fn(|context| pipe.poll_read(context, &mut bytes))
                .await
                .unwrap()
            {
                0 => break,
                length => read += length,
            }
            reads += 1;
        }
        writing.join().unwrap();
        assert_eq!(read, 10_000 * LINE);
        assert!(reads < 5000, "{reads}");
    }
}
