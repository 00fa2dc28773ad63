//! The arguments of the commands that run a cluster.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use palm::socket::Address;

use crate::arguments::{ClusterFile, DrainedAt, Output, seconds};

/// The subcommands that run a cluster.
#[derive(Debug, Subcommand)]
#[non_exhaustive]
pub enum Command {
    /// Start a cluster, or change a running one to what its file says.
    Up(Up),
    /// Show the components of a cluster: whether they are ready, and why not.
    Ps(Ps),
    /// Say in a sentence whether a cluster is ready.
    Status(Status),
    /// Show what components have written, also before they were restarted.
    Logs(Logs),
    /// Change how many replicas of components run.
    Scale(Scale),
    /// Restart components.
    Restart(Restart),
    /// Drain and stop components, until they are restarted. They are killed after the time that the file gives them.
    Stop(Stop),
    /// As `stop`, and show what they still do. With addresses, such as tcp://127.0.0.1:5559, drain the components there,
    /// which need not belong to a cluster file, or workers of a master.
    Drain(Drain),
    /// Show what happened in a cluster.
    Events(Events),
    /// Drain and stop a cluster.
    Down(Down),
    /// Replace the runner of a cluster by this version of `palm`. Its components continue.
    Upgrade {
        #[command(flatten)]
        #[expect(missing_docs)]
        file: ClusterFile,
    },
}

impl Command {
    /// Returns the addresses of the components that `palm drain` drains, unless they are named by a cluster file.
    pub fn drained_addresses(&self) -> Option<(Vec<Address>, DrainedAt)> {
        let Self::Drain(Drain { stop, at }) = self else {
            return None;
        };
        let addresses = stop.names.iter().map(|name| name.parse().ok());
        addresses
            .collect::<Option<_>>()
            .map(|addresses| (addresses, at.clone()))
    }

    pub(crate) fn mistake(&self) -> Option<&'static str> {
        let Self::Drain(drain) = self else {
            return None;
        };
        let addresses = self.drained_addresses();
        drain
            .at
            .mistake(addresses.map(|(addresses, _)| addresses.len()))
    }
}

/// The file of a cluster, for commands whose `-f` follows.
#[derive(Debug, Clone, Args)]
pub struct ClusterFileLong {
    /// The file of the cluster. Without it, `cluster.toml` in this folder or in one above it.
    #[arg(long, value_name = "FILE", env = "PALM_CLUSTER_FILE")]
    pub file: Option<PathBuf>,
}

/// How long a command waits.
#[derive(Debug, Clone, Copy, Args)]
pub struct Timeout {
    /// How long to wait while nothing changes, in seconds.
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "120")]
    pub timeout: Duration,
}

/// `palm up`.
#[derive(Debug, Args)]
pub struct Up {
    #[command(flatten)]
    #[expect(missing_docs)]
    pub file: ClusterFile,
    /// Run in the background.
    #[arg(short, long)]
    pub detach: bool,
    /// Run in the background, and wait until all components are ready and all jobs have completed.
    #[arg(short, long)]
    pub wait: bool,
    /// Also start the components of this profile. Can be repeated.
    #[arg(long = "profile", value_name = "PROFILE")]
    pub profiles: Vec<String>,
    /// Change a running cluster without a question.
    #[arg(short, long)]
    pub yes: bool,
    #[command(flatten)]
    #[expect(missing_docs)]
    pub timeout: Timeout,
}

/// `palm ps`.
#[derive(Debug, Args)]
pub struct Ps {
    #[command(flatten)]
    #[expect(missing_docs)]
    pub file: ClusterFile,
    /// The form of the output.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
}

/// `palm status`.
#[derive(Debug, Args)]
pub struct Status {
    #[command(flatten)]
    #[expect(missing_docs)]
    pub file: ClusterFile,
    /// Wait until all components are ready and all jobs have completed.
    #[arg(short, long)]
    pub wait: bool,
    #[command(flatten)]
    #[expect(missing_docs)]
    pub timeout: Timeout,
}

/// `palm logs`.
#[derive(Debug, Args)]
pub struct Logs {
    #[command(flatten)]
    #[expect(missing_docs)]
    pub file: ClusterFileLong,
    /// Components and instances, such as `worker` or `worker/2`. Without them, all.
    #[arg(value_name = "COMPONENT[/INDEX]")]
    pub names: Vec<String>,
    /// Continue with further lines, also of later runs and replicas, until interrupted.
    #[arg(short, long, conflicts_with = "grep")]
    pub follow: bool,
    /// Show only lines that match this regular expression, of all runs.
    #[arg(short, long, value_name = "REGEX")]
    pub grep: Option<String>,
    /// Ignore upper and lower case.
    #[arg(short, long, requires = "grep")]
    pub ignore_case: bool,
    /// Also show this many lines before and after each match.
    #[arg(
        short = 'C',
        long,
        value_name = "LINES",
        default_value = "0",
        requires = "grep"
    )]
    pub context: usize,
    /// Show only the last lines.
    #[arg(short = 'n', long, value_name = "LINES", conflicts_with = "grep")]
    pub tail: Option<usize>,
    /// Show only lines of this time before now, such as `10m` or `2h`.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub since: Option<Duration>,
    /// Show only lines of this run of an instance.
    #[arg(long, value_name = "RUN")]
    pub run: Option<u32>,
    /// Show only lines of this level and more severe ones.
    #[arg(long, value_enum, conflicts_with = "grep")]
    pub level: Option<LogLevel>,
    /// Show the time of each line.
    #[arg(short, long)]
    pub time: bool,
}

/// The level of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[expect(missing_docs)]
pub enum LogLevel {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
}

/// `palm scale`.
#[derive(Debug, Args)]
pub struct Scale {
    #[command(flatten)]
    #[expect(missing_docs)]
    pub file: ClusterFile,
    /// The component and how many replicas of it run, such as `worker=4`.
    #[arg(value_name = "COMPONENT=COUNT", required = true, value_parser = replicas)]
    pub replicas: Vec<(String, u32)>,
    #[command(flatten)]
    #[expect(missing_docs)]
    pub timeout: Timeout,
}

/// `palm restart`.
#[derive(Debug, Args)]
pub struct Restart {
    #[command(flatten)]
    #[expect(missing_docs)]
    pub file: ClusterFile,
    /// Components and instances, such as `worker` or `worker/2`. Without them, all.
    #[arg(value_name = "COMPONENT[/INDEX]")]
    pub names: Vec<String>,
    /// Restart one after the other: each has to be ready before the next one stops.
    #[arg(long)]
    pub rolling: bool,
    #[command(flatten)]
    #[expect(missing_docs)]
    pub timeout: Timeout,
}

/// `palm stop`.
#[derive(Debug, Args)]
pub struct Stop {
    #[command(flatten)]
    #[expect(missing_docs)]
    pub file: ClusterFile,
    /// Components and instances, such as `worker` or `worker/2`.
    #[arg(value_name = "COMPONENT[/INDEX]", required = true)]
    pub names: Vec<String>,
    #[command(flatten)]
    #[expect(missing_docs)]
    pub timeout: Timeout,
}

/// `palm drain`.
#[derive(Debug, Args)]
pub struct Drain {
    #[command(flatten)]
    #[expect(missing_docs)]
    pub stop: Stop,
    #[command(flatten)]
    #[expect(missing_docs)]
    pub at: DrainedAt,
}

/// `palm events`.
#[derive(Debug, Args)]
pub struct Events {
    #[command(flatten)]
    #[expect(missing_docs)]
    pub file: ClusterFileLong,
    /// Continue with further events until interrupted.
    #[arg(short, long)]
    pub follow: bool,
    /// Show only the last events.
    #[arg(short = 'n', long, value_name = "EVENTS")]
    pub tail: Option<usize>,
    /// The form of the output. In JSON each line is an object.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
}

/// `palm down`.
#[derive(Debug, Args)]
pub struct Down {
    #[command(flatten)]
    #[expect(missing_docs)]
    pub file: ClusterFile,
    /// Kill processes instead of draining them.
    #[arg(long)]
    pub kill: bool,
    #[command(flatten)]
    #[expect(missing_docs)]
    pub timeout: Timeout,
}

fn replicas(text: &str) -> Result<(String, u32), String> {
    let error = || format!("`{text}` is not of the form COMPONENT=COUNT, such as `worker=4`");
    let (component, count) = text.split_once('=').ok_or_else(error)?;
    let count = count.parse().map_err(|_| error())?;
    match component.is_empty() {
        true => Err(error()),
        false => Ok((component.to_owned(), count)),
    }
}
