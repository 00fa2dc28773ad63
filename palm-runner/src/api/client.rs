//! The client of the interface. It blocks.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::{Answer, Envelope, Request, VERSION, Wanted};
use crate::state::ClusterStatus;

/// Time within which the runner answers. It answers at once; a longer time means that it is stopped.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection to a runner.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<UnixStream>,
}

/// A runner does not do what it was asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// No runner listens.
    #[error("the cluster does not run: `palm up` starts it")]
    NotRunning,
    /// The runner refuses the request.
    #[error("{0}")]
    Refused(String),
    /// The runner has closed the connection.
    #[error("the runner has ended")]
    Ended,
    /// The runner sent an answer of another kind.
    #[error("the runner sent an unexpected answer")]
    Unexpected,
    /// The connection failed.
    #[error("the runner does not answer")]
    Io(#[source] io::Error),
}

impl From<io::Error> for ClientError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => Self::Ended,
            _ => Self::Io(error),
        }
    }
}

impl Client {
    /// Connects to the socket of a runner.
    ///
    /// # Errors
    ///
    /// [`ClientError::NotRunning`] if no runner listens there.
    pub fn connect(socket: &Path) -> Result<Self, ClientError> {
        let stream = UnixStream::connect(socket).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => ClientError::NotRunning,
            _ => ClientError::Io(error),
        })?;
        stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        stream.set_write_timeout(Some(ANSWER_TIMEOUT))?;
        Ok(Self {
            stream: BufReader::new(stream),
        })
    }

    /// Sends a request and returns its answer.
    ///
    /// # Errors
    ///
    /// The connection fails, or the runner refuses the request.
    pub fn request(&mut self, request: &Request) -> Result<Answer, ClientError> {
        let envelope = Envelope {
            version: VERSION,
            request: serde_json::to_value(request).map_err(io::Error::from)?,
        };
        let mut line = serde_json::to_vec(&envelope).map_err(io::Error::from)?;
        line.push(b'\n');
        self.stream.get_mut().write_all(&line)?;
        self.answer()
    }

    fn answer(&mut self) -> Result<Answer, ClientError> {
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        if !line.ends_with('\n') {
            return Err(ClientError::Ended);
        }
        match serde_json::from_str(&line).map_err(io::Error::from)? {
            Answer::Refused(reason) => Err(ClientError::Refused(reason)),
            answer => Ok(answer),
        }
    }

    /// Sends a request that returns no value.
    ///
    /// # Errors
    ///
    /// As [`request`](Self::request).
    pub fn command(&mut self, request: &Request) -> Result<(), ClientError> {
        match self.request(request)? {
            Answer::Done => Ok(()),
            _ => Err(ClientError::Unexpected),
        }
    }

    /// Returns the state of the cluster.
    ///
    /// # Errors
    ///
    /// As [`request`](Self::request).
    pub fn status(&mut self) -> Result<ClusterStatus, ClientError> {
        match self.request(&Request::Status)? {
            Answer::Status(status) => Ok(status),
            _ => Err(ClientError::Unexpected),
        }
    }

    /// Returns the instances that should run.
    ///
    /// # Errors
    ///
    /// As [`request`](Self::request).
    pub fn wanted(&mut self) -> Result<Wanted, ClientError> {
        match self.request(&Request::Wanted)? {
            Answer::Wanted(wanted) => Ok(wanted),
            _ => Err(ClientError::Unexpected),
        }
    }

    /// Passes the state of the cluster to `next` now and after each change, until it returns a value. `next` is also
    /// called with `None` if nothing has changed for a moment.
    ///
    /// # Errors
    ///
    /// [`ClientError::Ended`] if the runner ends; otherwise as [`request`](Self::request).
    pub fn watch<T>(
        mut self,
        mut next: impl FnMut(Option<&ClusterStatus>) -> Option<T>,
    ) -> Result<T, ClientError> {
        const INTERVAL: Duration = Duration::from_millis(250);
        let mut answer = self.request(&Request::Watch)?;
        self.stream.get_ref().set_read_timeout(Some(INTERVAL))?;
        let mut line = Vec::new();
        loop {
            let Answer::Status(status) = &answer else {
                return Err(ClientError::Unexpected);
            };
            if let Some(value) = next(Some(status)) {
                return Ok(value);
            }
            // A line can arrive in pieces: the buffer keeps its begin.
            while line.last() != Some(&b'\n') {
                match self.stream.read_until(b'\n', &mut line) {
                    Ok(0) => return Err(ClientError::Ended),
                    Ok(_) => {}
                    Err(error) if is_timeout(&error) => {
                        if let Some(value) = next(None) {
                            return Ok(value);
                        }
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            answer = serde_json::from_slice(&line).map_err(io::Error::from)?;
            line.clear();
        }
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}
