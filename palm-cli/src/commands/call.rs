//! `palm call` and `palm job`.

use std::io::{self, BufWriter, IsTerminal as _, Read as _, Write as _};
use std::sync::{Arc, OnceLock};

use futures_util::{FutureExt as _, Stream, StreamExt as _, stream};
use palm::{Bytes, CallError, Client};
use tokio::io::{AsyncBufReadExt as _, BufReader};

use super::{CLOSE_TIMEOUT, Failure, report, write};
use crate::arguments::{Call, Job, Peer};

pub(super) async fn call(arguments: Call) -> Result<(), Failure> {
    let payload = payload(arguments.payload).await?;
    let client = connect(&arguments.peer, first_server(&arguments.steps)).await?;
    let result = client.eval(&arguments.steps, payload).await;
    client.close().await;
    Ok(write(&result?)?)
}

/// Returns the argument, or all of standard input.
pub(super) async fn payload(argument: Option<String>) -> io::Result<Bytes> {
    if let Some(argument) = argument {
        return Ok(argument.into());
    }
    let read = || {
        let mut bytes = Vec::new();
        io::stdin().lock().read_to_end(&mut bytes)?;
        Ok(bytes.into())
    };
    tokio::task::spawn_blocking(read).await?
}

fn first_server(steps: &palm::Steps) -> &str {
    let text = steps.as_str();
    text.split_once('.').map_or(text, |(server, _)| server)
}

pub(super) async fn connect(peer: &Peer, server: &str) -> Result<Client, Failure> {
    let client = Client::builder(server, peer.address.clone());
    let client = client.timeout(peer.timeout);
    Ok(client
        .connect_timeout(peer.connect_timeout)
        .connect()
        .await?)
}

pub(super) async fn job(arguments: Job) -> Result<(), Failure> {
    let delimiter = if arguments.null { b'\0' } else { b'\n' };
    let client = connect(&arguments.peer, first_server(&arguments.steps)).await?;
    let broken = Arc::new(OnceLock::new());
    let input = BufReader::new(tokio::io::stdin()).split(delimiter);
    let messages = stream::unfold(
        (input, broken.clone()),
        async |(mut input, broken)| match input.next_segment().await {
            Ok(message) => Some((Bytes::from(message?), (input, broken))),
            Err(error) => {
                let _ = broken.set(error);
                None
            }
        },
    );
    let job = client.job_stream(&arguments.steps, messages);
    // A bar between results on the same terminal would be unreadable.
    let received = match io::stdout().is_terminal() {
        true => receive(job, delimiter).await,
        false => receive(palm::progress(job), delimiter).await,
    };
    let _ = tokio::time::timeout(CLOSE_TIMEOUT, client.close()).await;
    received?;
    match broken.get() {
        Some(error) => Err(io::Error::new(error.kind(), error.to_string()).into()),
        None => Ok(()),
    }
}

/// Writes each result. Reports each failure, and goes on.
async fn receive(
    mut results: impl Stream<Item = Result<Bytes, CallError>> + Unpin,
    delimiter: u8,
) -> Result<(), Failure> {
    let (mut answers, mut failed) = (0, 0);
    let mut output = BufWriter::new(io::stdout().lock());
    loop {
        // Results are written together as long as they arrive together.
        let next = match results.next().now_or_never() {
            Some(next) => next,
            None => {
                output.flush()?;
                results.next().await
            }
        };
        match next {
            Some(Ok(result)) => {
                output.write_all(&result)?;
                output.write_all(&[delimiter])?;
            }
            Some(Err(error)) => {
                failed += 1;
                report(&error);
            }
            None => break,
        }
        answers += 1;
    }
    output.flush()?;
    match failed {
        0 => Ok(()),
        failed => Err(Failure::Job { failed, answers }),
    }
}
