//! The subcommands. Results are written to standard output, messages to standard error.

mod cache;
mod call;
#[cfg(target_os = "linux")]
pub mod cluster;
pub mod cluster_file;
mod documents;
mod exporter;
mod inspect;
mod operate;
mod shown;
mod top;
mod trace;

use std::error::Error;
use std::io::{self, Write as _};
use std::time::Duration;

use anstyle::AnsiColor;
use palm::inspect::{Inspector, OperatorError};
use palm::socket::Address;
use palm::{CacheError, CallError, ConnectError};

use crate::arguments::{Arguments, Command};
use crate::text::clean;

/// How long `palm` waits at its end until messages have left, if a result could not be written.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Why a command has failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// A component does not answer.
    #[error("{address}: {reason}")]
    Unreachable {
        /// The address that was asked.
        address: String,
        /// Why.
        reason: String,
    },
    /// The component cannot be called.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// A call failed.
    #[error(transparent)]
    Call(#[from] CallError),
    /// Some calls of a job failed. Each was reported.
    #[error("{failed} of {answers} answers are failures")]
    Job {
        /// The failures.
        failed: u64,
        /// All answers.
        answers: u64,
    },
    /// The cache could not be read or changed.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// The key is not in the cache.
    #[error("the key `{0}` does not exist")]
    NoKey(String),
    /// No component remembers the call.
    #[error(
        "no component remembers the call `{0}`: each keeps the slowest ones of the last minutes, and the last ones that failed or are part of a sampled trace"
    )]
    NoCall(String),
    /// No component remembers any call.
    #[error("no component remembers a call: none was made in the last minutes")]
    NoCalls,
    /// A command that runs a cluster failed.
    #[cfg(target_os = "linux")]
    #[error(transparent)]
    Cluster(#[from] cluster::ClusterFailure),
    /// A command about the file of a cluster failed.
    #[error(transparent)]
    ClusterFile(#[from] cluster_file::FileFailure),
    /// A component was not drained or configured.
    #[error(transparent)]
    Operate(#[from] OperatorError),
    /// A component still drains.
    #[error(
        "{subject} has not stopped within {limit:?}: `palm inspect {address}` shows what it waits for"
    )]
    NotDrained {
        /// The component.
        subject: String,
        /// Its address, or that of its master.
        address: String,
        /// The drain limit, and the time to stop.
        limit: Duration,
    },
    /// A worker was lost while it drained.
    #[error("{subject} was lost before it had finished its tasks: its master redelivers them")]
    LostInDrain {
        /// The worker, and its master.
        subject: String,
    },
    /// A picture was asked for of a file.
    #[error(
        "only a running cluster is drawn as SVG: pass its address, or `--dot` for a picture of a file by Graphviz"
    )]
    SvgOfFile,
    /// The address for HTTP cannot be bound.
    #[error("{0}")]
    Listen(palm::BoxError),
    /// There is neither an address nor a file.
    #[error(
        "there is no cluster.toml in this folder or above it: state the address of a component, such as tcp://127.0.0.1:5559, or a file with --file"
    )]
    NoCluster,
    /// No `palm up` runs the clusters of files.
    #[error(
        "`palm` runs clusters on Linux only: state the address of a component, such as tcp://127.0.0.1:5559"
    )]
    NoAddress,
    /// `palm top` draws on a terminal only.
    #[error("standard output is not a terminal: `palm inspect --all` writes the same once")]
    NoTerminal,
    /// Standard input, standard output or a file failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Failure {
    /// Returns whether the reader has closed the output, as `head` does. The command has not failed then.
    pub fn is_broken_pipe(&self) -> bool {
        let (Self::Io(error) | Self::ClusterFile(cluster_file::FileFailure::Io(error))) = self
        else {
            return false;
        };
        error.kind() == io::ErrorKind::BrokenPipe
    }
}

/// Runs a command.
///
/// # Errors
///
/// [`Failure`] says why it failed, and what to do.
pub async fn run(arguments: Arguments) -> Result<(), Failure> {
    match arguments.command {
        Command::Inspect(inspect) => inspect::inspect(inspect).await,
        Command::Trace(trace) => trace::trace(trace).await,
        Command::Top(target) => top::top(target).await,
        Command::Graph(graph) => inspect::graph(graph).await,
        Command::Call(call) => call::call(call).await,
        Command::Job(job) => call::job(job).await,
        Command::Cache(cache) => cache::cache(cache).await,
        #[cfg(target_os = "linux")]
        Command::Cluster(command) => match command.drained_addresses() {
            Some((addresses, at)) => operate::drain(&addresses, &at).await,
            None => cluster::run(command),
        },
        Command::ClusterFile(command) => cluster_file::run(command),
        #[cfg(not(target_os = "linux"))]
        Command::Drain(drain) => operate::drain(&drain.addresses, &drain.at).await,
        Command::Configure(configure) => operate::configure(configure).await,
        Command::Exporter(exporter) => exporter::exporter(exporter).await,
        Command::Completions { shell } => documents::completions(shell),
        Command::Man { directory } => documents::man(&directory),
    }
}

/// Creates an inspector that begins at this address.
fn inspector(address: &Address) -> Inspector {
    Inspector::new(address.clone()).expect("an address is an address")
}

/// Writes a failure to standard error, with its causes.
pub fn report(failure: &dyn Error) {
    let error = AnsiColor::Red.on_default().bold();
    let text = chain(failure);
    // If standard error is closed, the message is lost.
    let _ = writeln!(
        anstream::stderr(),
        "{error}error:{error:#} {}",
        lines(&text)
    );
}

/// Returns the text of a failure with its causes.
fn chain(failure: &dyn Error) -> String {
    let mut text = failure.to_string();
    let mut cause = failure.source();
    while let Some(source) = cause {
        // Many errors have the text of their source.
        let source_text = source.to_string();
        if !text.contains(&source_text) {
            text = format!("{text}: {source_text}");
        }
        cause = source.source();
    }
    text
}

/// Writes a remark to standard error, which does not make the command fail.
fn report_text(text: &str) {
    // If standard error is closed, the remark is lost.
    let _ = writeln!(anstream::stderr(), "{text}");
}

/// Replaces control characters of each line.
fn lines(text: &str) -> String {
    let lines: Vec<_> = text.lines().map(clean).collect();
    lines.join("\n")
}

/// Writes to standard output. Buffered output is flushed: the reader may be waiting for it.
fn write(bytes: &[u8]) -> io::Result<()> {
    let mut output = io::stdout().lock();
    output.write_all(bytes)?;
    output.flush()
}
