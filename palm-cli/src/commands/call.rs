//! `palm call` and `palm job`.

use std::io::{self, BufWriter, IsTerminal as _, Read as _, Write as _};
use std::sync::{Arc, OnceLock};

use futures_util::{FutureExt as _, Stream, StreamExt as _, stream};
use palm::{Bytes, CallError, Client};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};

use super::{CLOSE_TIMEOUT, Failure, report, shown, write};
use crate::arguments::{Call, Job, Output, Peer};
use crate::render::json;

pub(super) async fn call(arguments: Call) -> Result<(), Failure> {
    let payload = payload(arguments.payload).await?;
    let client = connect(&arguments.peer, first_server(&arguments.steps)).await?;
    let result = client.eval(&arguments.steps, payload).await;
    client.close().await;
    match (&result, arguments.output) {
        (Ok(result), Output::Table) => write(result)?,
        (_, Output::Json) => write(&json_line(&result, None))?,
        (Err(_), Output::Table) => {}
    }
    result.map(|_| ()).map_err(Into::into)
}

/// Returns a result or a failure as a line, with the number of the message of a job.
fn json_line(result: &Result<Bytes, CallError>, input: Option<u64>) -> Vec<u8> {
    let mut object = match result {
        Ok(result) => Value::Object(json::payload(result)),
        Err(error) => json::failure(error),
    };
    if let Some(input) = input {
        object["input"] = input.into();
    }
    format!("{object}\n").into_bytes()
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
    let address = shown::address(peer, Some(server))?;
    let client = Client::builder(server, address);
    let client = client.timeout(peer.timeout);
    Ok(client
        .connect_timeout(peer.connect_timeout)
        .connect()
        .await?)
}

pub(super) async fn job(arguments: Job) -> Result<(), Failure> {
    let delimiter = if arguments.null { b'\0' } else { b'\n' };
    let form = match arguments.output {
        Output::Json => Form::Json,
        Output::Table => Form::Delimited(delimiter),
    };
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
        true => receive(job, palm::Job::input, form).await,
        false => receive(palm::progress(job), |it| it.job().input(), form).await,
    };
    let _ = tokio::time::timeout(CLOSE_TIMEOUT, client.close()).await;
    received?;
    match broken.get() {
        Some(error) => Err(io::Error::new(error.kind(), error.to_string()).into()),
        None => Ok(()),
    }
}

/// How results are written.
#[derive(Clone, Copy)]
enum Form {
    /// As they are, with this character at the end of each.
    Delimited(u8),
    /// As an object on each line, failures too.
    Json,
}

/// Writes each result. Reports each failure, and goes on. `input_of` returns the number of the message that the last item
/// belongs to.
async fn receive<S: Stream<Item = Result<Bytes, CallError>> + Unpin>(
    mut results: S,
    input_of: impl Fn(&S) -> Option<u64>,
    form: Form,
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
        let Some(next) = next else {
            break;
        };
        failed += u64::from(next.is_err());
        match (next, form) {
            (next, Form::Json) => output.write_all(&json_line(&next, input_of(&results)))?,
            (Ok(result), Form::Delimited(delimiter)) => {
                output.write_all(&result)?;
                output.write_all(&[delimiter])?;
            }
            (Err(error), Form::Delimited(_)) => report(&error),
        }
        answers += 1;
    }
    output.flush()?;
    match failed {
        0 => Ok(()),
        failed => Err(Failure::Job { failed, answers }),
    }
}
