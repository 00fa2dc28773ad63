//! The keys of the file: one table, from which unknown keys are found, and the JSON schema is made.

use crate::kind::Kind;

/// A key of a table of the file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) value: Value,
    /// The kinds of components that may have it.
    pub(crate) kinds: &'static [Kind],
    pub(crate) is_required: bool,
    /// What it means, for the schema and the documentation.
    pub(crate) doc: &'static str,
}

/// The values that a key may have.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Value {
    Text,
    Bool,
    /// From the first number to the second one.
    Integer(u32, u32),
    /// A text such as `16MiB`, from the first number of bytes to the second one.
    Size(u64, u64),
    /// A text such as `30s`.
    Duration,
    /// A text such as `1s..60s`.
    Durations,
    /// One of these words.
    Word(&'static [&'static str]),
    Texts,
    TextOrTexts,
    /// A table with these keys.
    Table(&'static [Key]),
    /// One of these, in the order in which they are tried.
    Either(&'static Value, &'static Value),
    /// A table with any keys, and values of this form.
    Map(&'static Value),
    /// Any value.
    Any,
}

pub(crate) const KINDS: &[&str] = &[
    "server", "master", "hub", "worker", "pipeline", "sink", "gateway", "job", "process",
];
pub(crate) const READY: &[&str] = &["notify", "address", "running"];
pub(crate) const RESTART: &[&str] = &["always", "on-failure", "never"];

/// Most replicas of a component.
pub(crate) const MAX_REPLICAS: u32 = 1000;
/// A smaller log file would be rotated with each line.
const MIN_LOG_BYTES: u64 = 64 << 10;
const MAX_LOG_BYTES: u64 = 1 << 40;
const MAX_LOG_RUNS: u32 = 100_000;

const ALL: &[Kind] = &Kind::ALL;
/// Those that palm, or a peer of palm, runs.
const PALM: &[Kind] = &[
    Kind::Server,
    Kind::Master,
    Kind::Hub,
    Kind::Worker,
    Kind::Pipeline,
    Kind::Sink,
];
const BINDING: &[Kind] = &[
    Kind::Server,
    Kind::Master,
    Kind::Hub,
    Kind::Pipeline,
    Kind::Sink,
];
const STEPS: &[Kind] = &[Kind::Pipeline, Kind::Hub, Kind::Sink];
const WITH_ADDRESS: &[Kind] = &[
    Kind::Server,
    Kind::Master,
    Kind::Hub,
    Kind::Pipeline,
    Kind::Sink,
    Kind::Gateway,
    Kind::Process,
];
const WITHOUT_JOBS: &[Kind] = &[
    Kind::Server,
    Kind::Master,
    Kind::Hub,
    Kind::Worker,
    Kind::Pipeline,
    Kind::Sink,
    Kind::Gateway,
    Kind::Process,
];

const fn key(name: &'static str, value: Value, kinds: &'static [Kind], doc: &'static str) -> Key {
    Key {
        name,
        value,
        kinds,
        is_required: false,
        doc,
    }
}

const fn required(key: Key) -> Key {
    Key {
        is_required: true,
        ..key
    }
}

/// The keys at the top of the file.
pub(crate) const CLUSTER: &[Key] = &[
    required(key(
        "name",
        Value::Text,
        ALL,
        "The name of the cluster: a-z, 0-9, `-` and `_`, at most 24 characters.",
    )),
    key(
        "trust_network",
        Value::Bool,
        ALL,
        "Whether components may bind addresses that other hosts can reach. Every peer that reaches them can join, read \
         and stop others. Default: false.",
    ),
    required(key(
        "components",
        Value::Map(&Value::Table(COMPONENT)),
        ALL,
        "The components by key.",
    )),
    key(
        "expose",
        Value::Map(&Value::Text),
        ALL,
        "For each component that clients outside of this machine call, its `db_address`: `master = \"tcp://0.0.0.0:5559\"`.",
    ),
    key(
        "logs",
        Value::Table(LOGS),
        ALL,
        "How large and how old log files become.",
    ),
];

/// The keys of `logs`.
pub(crate) const LOGS: &[Key] = &[
    key(
        "file_size",
        Value::Size(MIN_LOG_BYTES, MAX_LOG_BYTES),
        ALL,
        "The size at which a file is rotated and compressed. Default: 16MiB.",
    ),
    key(
        "instance_size",
        Value::Size(MIN_LOG_BYTES, MAX_LOG_BYTES),
        ALL,
        "The size of all files of an instance, compressed, beyond which the oldest ones are deleted. Default: 512MiB.",
    ),
    key(
        "runs",
        Value::Integer(1, MAX_LOG_RUNS),
        ALL,
        "The number of runs of an instance whose files are kept. Default: 500.",
    ),
    key(
        "max_age",
        Value::Duration,
        ALL,
        "The time after which a file is deleted, since it was written last. Default: no limit.",
    ),
];

/// The keys of a component.
pub(crate) const COMPONENT: &[Key] = &[
    required(key(
        "kind",
        Value::Word(KINDS),
        ALL,
        "What the component does.",
    )),
    key(
        "name",
        Value::Text,
        PALM,
        "The name by which clients call it; of a worker, its name without the number. Default: the key of the component.",
    ),
    key(
        "program",
        Value::Text,
        PALM,
        "A program with `palm::main!`: a path relative to the file, or a name that is in `PATH`.",
    ),
    key(
        "component",
        Value::Text,
        PALM,
        "Which component of the program: its declared name, or the type of a worker. Default: the only one of the kind.",
    ),
    key(
        "command",
        Value::Text,
        ALL,
        "Any executable, instead of `program`: a path relative to the file, or a name that is in `PATH`.",
    ),
    key(
        "args",
        Value::Texts,
        ALL,
        "The arguments of the command. They can contain placeholders, such as `{instance}`, `{db}` and `{KEY.db}`.",
    ),
    key(
        "env",
        Value::Map(&Value::Either(&Value::Text, &Value::Table(SECRET))),
        ALL,
        "Variables of the environment: a text with placeholders, or where a secret is read from.",
    ),
    key(
        "working_dir",
        Value::Text,
        ALL,
        "The working directory, relative to the file. Default: the folder of the file.",
    ),
    key(
        "master",
        Value::Text,
        &[Kind::Worker],
        "The key of the master or hub whose tasks the worker runs.",
    ),
    key(
        "from",
        Value::TextOrTexts,
        STEPS,
        "The key of the component that it follows; of a sink, a list.",
    ),
    key(
        "topic",
        Value::Text,
        STEPS,
        "The topic that it follows. Default: the name of the component that it follows.",
    ),
    key(
        "topics",
        Value::Texts,
        BINDING,
        "The topics that its hook `handle_stream` publishes under, so that those of followers can be checked.",
    ),
    key(
        "to_client",
        Value::Bool,
        BINDING,
        "Whether results go to the client (true) or to followers (false). Default: the steps of each message decide.",
    ),
    key(
        "calls",
        Value::Texts,
        &[Kind::Gateway, Kind::Job],
        "The functions that it calls, such as `images.resize`, or `a.f b.g` for several steps. It starts when the \
         components that run them are ready.",
    ),
    key(
        "replicas",
        Value::Either(&Value::Integer(0, MAX_REPLICAS), &Value::Table(REPLICAS)),
        &[Kind::Worker, Kind::Gateway, Kind::Job, Kind::Process],
        "The number of instances, or its bounds. Default: 1.",
    ),
    key(
        "address",
        Value::Text,
        WITH_ADDRESS,
        "Its `db_address`, instead of one that is chosen for it; of a gateway or process, the address that it serves.",
    ),
    key(
        "options",
        Value::Map(&Value::Any),
        PALM,
        "Options of the component, such as `concurrency = 4`: those of its kind, see the chapter Configuration.",
    ),
    key(
        "after",
        Value::Texts,
        ALL,
        "The keys of components that have to be ready before it starts, besides those that it is connected to.",
    ),
    key(
        "profiles",
        Value::Texts,
        ALL,
        "It is started only with one of these profiles (`palm up --profile NAME`). Default: always.",
    ),
    key(
        "ready",
        Value::Word(READY),
        WITHOUT_JOBS,
        "What makes it ready: it says so (`notify`, the default of a program), its address accepts connections \
         (`address`, the default of a command with an address), or it runs (`running`). A job is ready when it has ended.",
    ),
    key(
        "ready_timeout",
        Value::Duration,
        WITHOUT_JOBS,
        "The time within which it has to become ready. Default: 60s.",
    ),
    key(
        "restart",
        Value::Either(&Value::Word(RESTART), &Value::Table(RESTART_TABLE)),
        ALL,
        "After which exits it is started again. Default: always; of a job, on-failure.",
    ),
    key(
        "drain",
        Value::Duration,
        ALL,
        "The time between SIGTERM and SIGKILL when it is stopped. Default: 30s.",
    ),
];

/// The keys of `replicas`.
pub(crate) const REPLICAS: &[Key] = &[
    key(
        "min",
        Value::Integer(0, MAX_REPLICAS),
        ALL,
        "The fewest. Default: 0.",
    ),
    key(
        "max",
        Value::Integer(1, MAX_REPLICAS),
        ALL,
        "The most. Default: 1000.",
    ),
    key(
        "start",
        Value::Integer(0, MAX_REPLICAS),
        ALL,
        "How many run at first. Default: the fewest, but at least 1.",
    ),
];

/// The keys of `restart`.
pub(crate) const RESTART_TABLE: &[Key] = &[
    key(
        "policy",
        Value::Word(RESTART),
        ALL,
        "After which exits. Default: always; of a job, on-failure.",
    ),
    key(
        "backoff",
        Value::Durations,
        ALL,
        "The delay before the first restart and the longest one; it doubles with each restart. Default: 1s..60s.",
    ),
    key(
        "max",
        Value::Integer(0, u32::MAX),
        ALL,
        "The restarts in a row after which it has failed. Default: no limit.",
    ),
    key(
        "reset_after",
        Value::Duration,
        ALL,
        "The time that it has to be ready until its restarts are counted from 0 again. Default: 60s.",
    ),
];

/// The keys of a secret.
pub(crate) const SECRET: &[Key] = &[
    key(
        "file",
        Value::Text,
        ALL,
        "The file that contains it, relative to the file of the cluster.",
    ),
    key(
        "env",
        Value::Text,
        ALL,
        "The variable of the environment of `palm up` that contains it.",
    ),
];

impl Value {
    /// Returns what a mistake says about the expected value.
    pub(crate) fn expected(self) -> String {
        match self {
            Self::Text => "a text".to_owned(),
            Self::Bool => "`true` or `false`".to_owned(),
            Self::Integer(..) => "an integer".to_owned(),
            Self::Size(..) => "a size as text, such as \"16MiB\"".to_owned(),
            Self::Duration => "a duration as text, such as \"30s\"".to_owned(),
            Self::Durations => "two durations as text, such as \"1s..60s\"".to_owned(),
            Self::Word(words) => {
                let texts: Vec<_> = words.iter().map(|word| format!("\"{word}\"")).collect();
                format!("one of {}", texts.join(", "))
            }
            Self::Texts => "a list of texts".to_owned(),
            Self::TextOrTexts => "a text or a list of texts".to_owned(),
            Self::Table(_) | Self::Map(_) => "a table".to_owned(),
            Self::Either(one, other) => format!("{} or {}", one.expected(), other.expected()),
            Self::Any => "a value".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests;
