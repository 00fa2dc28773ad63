//! The arguments of the command.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::PossibleValue;
use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use palm::socket::Address;
use palm::{IntoSteps, Steps};

const EXIT_CODES: &str = "\
Exit codes:
  0  success
  1  a component does not answer, or a call failed
  2  the arguments are wrong

Environment:
  PALM_ADDRESS  the address of a component, unless an argument states it
  NO_COLOR      if set, nothing is coloured
  PALM_LOG      the level of log messages, such as `debug`; they are written to standard error";

/// Runs clusters of palm components, looks into them, and calls their functions.
///
/// A cluster is described by a file, `cluster.toml`; `palm up` starts it. An ADDRESS is the `db_address` of any component, such as tcp://127.0.0.1:5559. The others are found from there.
#[derive(Debug, Parser)]
#[command(name = "palm", version, after_help = EXIT_CODES, arg_required_else_help = true)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

impl Arguments {
    /// Checks what depends on several arguments.
    ///
    /// # Errors
    ///
    /// The usage, with the mistake.
    pub fn check(&self) -> Result<(), clap::Error> {
        let mistake = match &self.command {
            #[cfg(target_os = "linux")]
            Command::Cluster(command) => command.mistake(),
            #[cfg(not(target_os = "linux"))]
            Command::Drain(drain) => drain.mistake(),
            _ => None,
        };
        let error = |mistake| Self::command().error(ErrorKind::ArgumentConflict, mistake);
        mistake.map_or(Ok(()), |mistake| Err(error(mistake)))
    }
}

/// The subcommands.
#[derive(Debug, Subcommand)]
#[non_exhaustive]
pub enum Command {
    /// Watch a cluster: its components, what waits between them, and which one slows the others down.
    ///
    /// With an address, the cluster of the component there. Without it, the one of `cluster.toml` that `palm up` runs, with its processes.
    Top(Target),
    /// Show the report of one component, or of the whole cluster.
    ///
    /// Without an address, the whole cluster of `cluster.toml` that `palm up` runs, with its processes.
    Inspect(Inspect),
    /// Show the path of one call with the time of each step, or the calls that components remember.
    ///
    /// A component remembers its 64 slowest calls of the last minutes, its last 64 failed ones, and the last 64 that
    /// are part of a sampled trace.
    Trace(Trace),
    /// Show the components of a cluster and what waits between them, or those of a file.
    ///
    /// Without an address or file, the cluster of `cluster.toml` that `palm up` runs, with its processes; if it does not
    /// run, the components of the file.
    Graph(Graph),
    /// Call a function and write its result to standard output.
    Call(Call),
    /// Call a function once for each line of standard input, and write a line for each result.
    Job(Job),
    /// Read and change the cache of a component.
    Cache(Cache),
    #[cfg(target_os = "linux")]
    #[command(flatten)]
    #[expect(missing_docs)]
    Cluster(crate::commands::cluster::Command),
    #[command(flatten)]
    #[expect(missing_docs)]
    ClusterFile(crate::commands::cluster_file::Command),
    /// Make components, or workers of a master, finish their messages and stop, and wait until they have.
    #[cfg(not(target_os = "linux"))]
    Drain(Drain),
    /// Show the settings of a running component that can be changed, and change them.
    ///
    /// A worker has no address: state that of its master, and the worker with --worker.
    Configure(Configure),
    /// Serve the metrics of a cluster to Prometheus until interrupted.
    Exporter(Exporter),
    /// Write a script that completes the arguments of `palm` in a shell.
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Write the manual pages to a directory.
    Man {
        /// The directory; it is created.
        directory: PathBuf,
    },
}

/// Where a walk begins.
#[derive(Debug, Args)]
pub struct Start {
    /// The address of a component.
    #[arg(env = "PALM_ADDRESS")]
    pub address: Address,
}

/// The file of a cluster.
#[derive(Debug, Clone, Args)]
pub struct ClusterFile {
    /// The file of the cluster. Without it, `cluster.toml` in this folder or in one above it.
    #[arg(short, long, value_name = "FILE", env = "PALM_CLUSTER_FILE")]
    pub file: Option<PathBuf>,
}

/// The cluster that is shown.
#[derive(Debug, Args)]
pub struct Target {
    /// The address of a component.
    #[arg(env = "PALM_ADDRESS")]
    pub address: Option<Address>,
    #[command(flatten)]
    #[expect(missing_docs)]
    pub file: ClusterFile,
}

/// The component that is called.
#[derive(Debug, Args)]
pub struct Peer {
    /// The address of the component. Without it, the component with the name of the call in the cluster of `cluster.toml`
    /// that `palm up` runs.
    #[arg(short, long, env = "PALM_ADDRESS")]
    pub address: Option<Address>,
    /// The file of the cluster. Without it, `cluster.toml` in this folder or in one above it.
    #[arg(long, value_name = "FILE", env = "PALM_CLUSTER_FILE")]
    pub file: Option<PathBuf>,
    /// How long to wait for an answer, in seconds.
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "60")]
    pub timeout: Duration,
    /// How long to wait for the component, in seconds.
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "5")]
    pub connect_timeout: Duration,
}

/// How long rates are measured.
#[derive(Debug, Args)]
pub struct Measure {
    /// How long rates are measured, in seconds; 0 shows no rates.
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "1")]
    pub measure: Duration,
}

/// The form of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Output {
    /// For people.
    #[default]
    Table,
    /// For programs.
    Json,
}

impl ValueEnum for Output {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self::Table, Self::Json]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(match self {
            Self::Table => PossibleValue::new("table").help("for people"),
            Self::Json => PossibleValue::new("json").help("for programs"),
        })
    }
}

/// `palm inspect`.
#[derive(Debug, Args)]
pub struct Inspect {
    #[command(flatten)]
    #[expect(missing_docs)]
    pub target: Target,
    /// Show all components of the cluster, as without an address.
    #[arg(long)]
    pub all: bool,
    /// The form of the output.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
    #[command(flatten)]
    #[expect(missing_docs)]
    pub measure: Measure,
}

/// `palm trace`.
#[derive(Debug, Args)]
pub struct Trace {
    #[command(flatten)]
    #[expect(missing_docs)]
    pub start: Start,
    /// The id of a call, of its message or of its trace, or the beginning of one. Without it, calls are listed.
    pub call: Option<String>,
    /// The form of the output.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
}

/// What `palm graph` shows: a text with `://` is an address, and any other one a file.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum GraphTarget {
    /// A running cluster, from one of its components.
    Address(Address),
    /// The file of a cluster.
    File(PathBuf),
}

impl std::str::FromStr for GraphTarget {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.contains("://") {
            true => text
                .parse()
                .map(Self::Address)
                .map_err(|error| format!("{error}")),
            false => Ok(Self::File(text.into())),
        }
    }
}

/// `palm graph`.
#[derive(Debug, Args)]
pub struct Graph {
    /// The address of a component, such as tcp://127.0.0.1:5559, or the file of a cluster.
    #[arg(value_name = "ADDRESS|FILE", env = "PALM_ADDRESS")]
    pub target: Option<GraphTarget>,
    #[command(flatten)]
    #[expect(missing_docs)]
    pub file: ClusterFile,
    /// Write the graph in the language of Graphviz, for `dot -Tsvg`.
    #[arg(long)]
    pub dot: bool,
    /// Draw the graph of a running cluster as a picture in the format SVG.
    #[arg(long, conflicts_with = "dot")]
    pub svg: bool,
    #[command(flatten)]
    #[expect(missing_docs)]
    pub measure: Measure,
}

/// `palm drain`, which on Linux also drains components of a cluster file.
#[cfg(not(target_os = "linux"))]
#[derive(Debug, Args)]
pub struct Drain {
    /// The addresses of components.
    #[arg(value_name = "ADDRESS", required = true)]
    pub addresses: Vec<Address>,
    #[command(flatten)]
    #[expect(missing_docs)]
    pub at: DrainedAt,
}

#[cfg(not(target_os = "linux"))]
impl Drain {
    fn mistake(&self) -> Option<&'static str> {
        self.at.mistake(Some(self.addresses.len()))
    }
}

/// How `palm drain` drains the components at addresses.
#[derive(Debug, Clone, Args)]
pub struct DrainedAt {
    /// Drain a worker of the master at the address instead: its name, or its instance, as `palm inspect` shows them. Can
    /// be repeated.
    #[arg(short, long = "worker", value_name = "WORKER")]
    pub workers: Vec<String>,
    /// The form of the output, with addresses. In JSON each line is an object.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
}

impl DrainedAt {
    /// Returns what is wrong for this number of addresses; `None` if components are named by a cluster file.
    pub(crate) fn mistake(&self, addresses: Option<usize>) -> Option<&'static str> {
        match addresses {
            Some(1) => None,
            _ if !self.workers.is_empty() => Some(
                "`--worker` needs one address, that of the master: such as tcp://127.0.0.1:5559",
            ),
            None if self.output == Output::Json => {
                Some("`-o json` needs addresses, such as tcp://127.0.0.1:5559")
            }
            _ => None,
        }
    }
}

/// `palm configure`.
#[derive(Debug, Args)]
pub struct Configure {
    #[command(flatten)]
    #[expect(missing_docs)]
    pub start: Start,
    /// What to change: concurrency=8, drain_limit=30s, log_level=debug, and of a worker prefetch=0. Nothing is changed if one of them is wrong.
    #[arg(value_name = "NAME=VALUE", value_parser = setting)]
    pub settings: Vec<(String, String)>,
    /// Configure a worker of the master at the address instead: its name, or its instance, as `palm inspect` shows them.
    #[arg(short, long, value_name = "WORKER")]
    pub worker: Option<String>,
    /// The form of the output.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
}

/// `palm exporter`.
#[derive(Debug, Args)]
pub struct Exporter {
    #[command(flatten)]
    #[expect(missing_docs)]
    pub start: Start,
    /// Where to serve /metrics, /livez and /readyz. An address that other hosts can reach needs PALM_TRUST_NETWORK=1.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:9600")]
    pub listen: String,
}

/// `palm call`.
#[derive(Debug, Args)]
pub struct Call {
    /// The function, as server.function. Several in quotes, separated by spaces, are called in sequence.
    #[arg(value_name = "FUNCTION", value_parser = steps)]
    pub steps: Steps,
    /// The payload. Without it, all of standard input is the payload.
    pub payload: Option<String>,
    /// The form of the output. JSON is an object with the result as `value`, or as `base64` if it is not text; a failure is
    /// an `error`.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
    #[command(flatten)]
    #[expect(missing_docs)]
    pub peer: Peer,
}

/// `palm job`.
#[derive(Debug, Args)]
pub struct Job {
    /// The function, as server.function. Several in quotes, separated by spaces, are called in sequence.
    #[arg(value_name = "FUNCTION", value_parser = steps)]
    pub steps: Steps,
    /// Each line of standard input is a message, and each result is written as a line. This is the default.
    #[arg(long, conflicts_with = "null")]
    pub lines: bool,
    /// Messages and results end with a NUL character, so that they can contain line breaks.
    #[arg(short = '0', long)]
    pub null: bool,
    /// The form of the output. In JSON each line is an object with a result as `value`, or as `base64` if it is not text; a
    /// failure is an `error`. `input` is the number of the message from 0; the error that ends a
    /// job has none.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
    #[command(flatten)]
    #[expect(missing_docs)]
    pub peer: Peer,
}

/// `palm cache`.
#[derive(Debug, Args)]
pub struct Cache {
    #[command(flatten)]
    #[expect(missing_docs)]
    pub peer: Peer,
    /// What to do.
    #[command(subcommand)]
    pub command: CacheCommand,
}

/// The subcommands of `palm cache`.
#[derive(Debug, Subcommand)]
#[non_exhaustive]
pub enum CacheCommand {
    /// Write the value of a key to standard output. Fails if the key does not exist.
    Get {
        #[expect(missing_docs)]
        key: String,
        /// The form of the output. JSON is an object; a value that is not text is in base64.
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Set the value of a key.
    Set {
        #[expect(missing_docs)]
        key: String,
        /// The value. Without it, all of standard input is the value.
        value: Option<String>,
        /// Time after which the key is deleted, in seconds.
        #[arg(long, value_name = "SECONDS", value_parser = seconds)]
        ttl: Option<Duration>,
    },
    /// Delete a key.
    Delete {
        #[expect(missing_docs)]
        key: String,
    },
    /// List the keys with a prefix and their values.
    Scan {
        #[expect(missing_docs)]
        #[arg(default_value = "")]
        prefix: String,
        /// The form of the output. In JSON each line is an object; a value that is not text is in base64.
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Show the changes of the keys with a prefix until interrupted.
    Watch {
        #[expect(missing_docs)]
        #[arg(default_value = "")]
        prefix: String,
        /// The form of the output. In JSON each line is an object; a value that is not text is in base64.
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
}

pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "it is not a number".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

fn setting(text: &str) -> Result<(String, String), String> {
    let (name, value) = text
        .split_once('=')
        .ok_or("it is not of the form name=value")?;
    Ok((name.to_owned(), value.to_owned()))
}

fn steps(text: &str) -> Result<Steps, palm::StepError> {
    text.into_steps()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definitions_are_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn mistakes_are_explained() {
        let error = |arguments: &[&str]| {
            let all = ["palm"].iter().chain(arguments);
            Arguments::try_parse_from(all).unwrap_err().to_string()
        };
        let address = error(&["inspect", "localhost:5559"]);
        assert!(address.contains("tcp://"), "{address}");
        let function = error(&["call", "double", "-a", "tcp://127.0.0.1:1"]);
        assert!(function.contains("server.function"), "{function}");
        let duration = error(&["graph", "tcp://127.0.0.1:1", "--measure=-1"]);
        assert!(duration.contains("--measure"), "{duration}");
    }

    #[test]
    fn workers_are_drained_at_the_address_of_one_master() {
        let check = |arguments: &[&str]| {
            let all = ["palm", "drain"].iter().chain(arguments);
            let checked = Arguments::try_parse_from(all).unwrap().check();
            checked.map_err(|error| error.to_string())
        };
        let address = "tcp://127.0.0.1:1";
        assert_eq!(check(&[address, "--worker", "a", "-w", "b"]), Ok(()));
        assert_eq!(check(&[address, address, "-o", "json"]), Ok(()));
        let two = check(&[address, address, "--worker", "a"]).unwrap_err();
        assert!(two.contains("needs one address"), "{two}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn components_of_a_file_are_drained_without_options_for_addresses() {
        for option in [["--worker", "a"], ["-o", "json"]] {
            let all = ["palm", "drain", "hand/0"].iter().chain(&option);
            let error = Arguments::try_parse_from(all).unwrap().check();
            let error = error.unwrap_err().to_string();
            assert!(error.contains("address"), "{error}");
        }
    }
}
