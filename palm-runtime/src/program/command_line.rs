//! The command of each component: its addresses, the arguments of its constructor, and the options of its kind.

use std::path::PathBuf;

use clap::builder::ValueParser;
use clap::{Arg, ArgAction, Args, Command, value_parser};
use palm_plan::Kind;

use super::catalog::{Catalog, CatalogEntry};
use super::error::ProgramError;
use super::kind::ProgramKind;
use super::list::{functions, not_startable};
use crate::component::{
    HttpWorkerOptions, HubOptions, MasterOptions, PipelineOptions, ServerOptions, SinkOptions,
    WorkerOptions,
};
use crate::linked_components::StartComponent;
use crate::socket::Address;

/// The ids of arguments that are not options of components.
pub(super) const BIND: &str = "palm.bind";
pub(super) const CONNECT: &str = "palm.connect";
pub(super) const CONFIG: &str = "palm.config";
pub(super) const WORKERS: &str = "palm.workers";
pub(super) const FORMAT: &str = "format";

/// Options that workers in the process of their master have of their own.
pub(super) const WORKER_OPTIONS: [&str; 2] = ["palm.concurrency", "palm.prefetch"];

/// The most workers in the process of a master.
const MAX_WORKERS: i64 = 10_000;

const EXIT_CODES: &str = "\
Exit codes:
  0  a signal or its limit of messages stopped the component, and it has drained
  1  the component did not start, failed, or did not drain within its limit
  2  the command line, the environment, the configuration file or PALM_WIRING has a mistake
  3  a second signal ended the component before it had drained";

/// The names and texts of the program.
#[derive(Debug)]
pub(super) struct ProgramInfo {
    pub(super) name: String,
    pub(super) description: Option<&'static str>,
    pub(super) version: Option<&'static str>,
}

/// Returns the command of the program. Only the command of `selected` has its arguments.
pub(super) fn program(
    info: &ProgramInfo,
    catalog: &Catalog,
    selected: Option<(&CatalogEntry, Command)>,
) -> Command {
    let list = Command::new("list")
        .about("List the components and their functions")
        .arg(
            Arg::new(FORMAT)
                .long("format")
                .value_name("FORMAT")
                .help("The form of the list")
                .value_parser(["text", "json"])
                .default_value("text"),
        );
    let run = Command::new("run")
        .about(
            "Run the component that the environment variable PALM_WIRING describes, as runners do",
        )
        .arg(
            Arg::new("arguments")
                .help("Arguments of the component, which override those of PALM_WIRING")
                .value_name("ARGUMENTS")
                .num_args(0..)
                .trailing_var_arg(true)
                .allow_hyphen_values(true),
        );
    let mut command = Command::new(info.name.clone())
        .after_help(EXIT_CODES)
        .subcommand_required(true)
        .subcommands([list, run]);
    if let Some(description) = info.description.filter(|text| !text.is_empty()) {
        command = command.about(description);
    }
    if let Some(version) = info.version {
        command = command.version(version);
    }
    let (selected, mut full) = match selected {
        Some((entry, command)) => (Some(entry), Some(command)),
        None => (None, None),
    };
    for kind in ProgramKind::ALL {
        let mut entries = catalog.of_kind(kind).peekable();
        if entries.peek().is_none() {
            continue;
        }
        let entries = entries.map(|entry| match selected {
            Some(selected) if std::ptr::eq(selected, entry) => {
                full.take().expect("one entry is selected")
            }
            _ => Command::new(entry.handle.clone()).about(about(entry)),
        });
        let kind = Command::new(kind.name())
            .about(about_kind(kind))
            .subcommand_required(true)
            .subcommand_value_name("COMPONENT")
            .subcommand_help_heading("Components")
            .disable_help_subcommand(true)
            .subcommands(entries.collect::<Vec<_>>());
        command = command.subcommand(kind);
    }
    command
}

fn about_kind(kind: ProgramKind) -> &'static str {
    let ProgramKind::Cluster(kind) = kind else {
        return "Run a worker that its master reaches by HTTP";
    };
    match kind {
        Kind::Server => "Run a server, which answers calls",
        Kind::Master => "Run a master, which distributes calls to workers",
        Kind::Hub => "Run a hub, which distributes the messages of a stream to workers",
        Kind::Worker => "Run a worker of a master or hub",
        Kind::Pipeline => "Run a pipeline, a step downstream of another component",
        _ => "Run a sink, which follows several components",
    }
}

fn about(entry: &CatalogEntry) -> String {
    match entry.doc() {
        "" => format!("The {} `{}`", entry.kind, entry.type_name()),
        doc => doc.trim_end_matches('.').to_owned(),
    }
}

/// Returns the command of a component with its arguments.
///
/// # Errors
///
/// The component cannot be started, or an argument of its constructor is an option of palm.
pub(super) fn component(catalog: &Catalog, entry: &CatalogEntry) -> Result<Command, ProgramError> {
    let kind = entry.kind;
    let Some(starter) = &entry.starter else {
        let problem = not_startable(entry);
        return Err(ProgramError::mistake(format!(
            "the {kind} `{}` {problem}",
            entry.handle
        )));
    };
    let mut command = Command::new(entry.handle.clone()).args_override_self(true);
    command = command.args(addresses(kind)).arg(config());
    let workers = catalog.workers_of(entry);
    if kind.has_workers() && workers.iter().any(|worker| worker.starter.is_some()) {
        command = with_workers(command);
    }
    command = command.next_help_heading(format!("Options of the {kind}"));
    command = grouped(options(kind, command));
    let heading = format!("Arguments of `{}`", entry.type_name());
    command = with_constructor(command, entry, starter.get(), &heading, Requirement::Kept)?;
    if kind.has_workers() {
        for worker in workers {
            if let Some(starter) = &worker.starter {
                let heading = format!("Arguments of `{}` (--workers)", worker.type_name());
                let requirement = Requirement::OfConstructor;
                command = with_constructor(command, worker, starter.get(), &heading, requirement)?;
            }
        }
    }
    let mut after = String::new();
    let functions = functions(entry, "  ");
    if !functions.is_empty() {
        after = format!("Functions:\n{functions}\n");
    }
    after.push_str(EXIT_CODES);
    Ok(command.about(about(entry)).after_help(after))
}

fn addresses(kind: ProgramKind) -> Vec<Arg> {
    let address = |id: &'static str| {
        let name = id.trim_start_matches("palm.");
        Arg::new(id)
            .long(name)
            .env(format!("PALM_{}", name.to_uppercase()))
            .value_name("ADDRESS")
            .value_parser(ValueParser::new(parse_address))
    };
    let bind = address(BIND).required(true).help(
        "The address to bind, its db_address, such as tcp://127.0.0.1:5559; with port 0 the system chooses one",
    );
    let connect = address(CONNECT)
        .action(ArgAction::Append)
        .value_delimiter(',');
    let ProgramKind::Cluster(kind) = kind else {
        return vec![
            address(BIND)
                .required(true)
                .value_parser(ValueParser::new(parse_http_address))
                .help("The host and port to serve HTTP at, such as 127.0.0.1:8888; with port 0 the system chooses one"),
        ];
    };
    match kind {
        Kind::Worker => vec![
            address(CONNECT)
                .required(true)
                .help("The db_address of its master or hub, such as tcp://127.0.0.1:5559"),
        ],
        Kind::Sink => vec![
            bind,
            connect
                .required(true)
                .help("The db_address of each component to follow"),
        ],
        Kind::Pipeline | Kind::Hub => vec![
            bind,
            connect
                .required_unless_present_any(["palm.follow", "palm.sub_address"])
                .help("The db_address of the component to follow"),
        ],
        _ => vec![bind],
    }
}

fn parse_address(text: &str) -> Result<String, crate::socket::AddressError> {
    text.parse::<Address>().map(|_| text.to_owned())
}

/// Returns the address of a web server as one of palm.
fn parse_http_address(text: &str) -> Result<String, String> {
    let address = match text.split_once("://") {
        None => format!("tcp://{text}"),
        Some(("http" | "tcp", address)) => format!("tcp://{address}"),
        Some((scheme, _)) => {
            return Err(format!(
                "`{scheme}://` is not served: state a host and port, such as 127.0.0.1:8888"
            ));
        }
    };
    parse_address(&address).map_err(|error| error.to_string())
}

fn config() -> Arg {
    Arg::new(CONFIG)
        .long("config")
        .env("PALM_CONFIG")
        .value_name("FILE")
        .value_parser(value_parser!(PathBuf))
        .help("A TOML file with options, named as here; flags and the environment override it")
}

/// Adds the options of a kind.
pub(super) fn options(kind: ProgramKind, command: Command) -> Command {
    let ProgramKind::Cluster(kind) = kind else {
        return HttpWorkerOptions::augment_args(command);
    };
    match kind {
        Kind::Server => ServerOptions::augment_args(command),
        Kind::Master => MasterOptions::augment_args(command),
        Kind::Hub => HubOptions::augment_args(command),
        Kind::Worker => WorkerOptions::augment_args(command),
        Kind::Pipeline => PipelineOptions::augment_args(command),
        _ => SinkOptions::augment_args(command),
    }
}

/// Puts options that are groups of options under headings of their own, which only `--help` shows.
fn grouped(command: Command) -> Command {
    command.mut_args(|arg| {
        let Some((group, _)) = arg
            .get_id()
            .as_str()
            .trim_start_matches("palm.")
            .split_once('.')
        else {
            return arg;
        };
        let heading = match group {
            "link_options" => "Options of links",
            "socket_options" => "Options of sockets",
            _ => "Limits",
        };
        arg.help_heading(heading).hide_short_help(true)
    })
}

/// Whether required arguments of a constructor are required by the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Requirement {
    Kept,
    /// Only the constructor requires them, if it is called.
    OfConstructor,
}

/// The argument that another one conflicts with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Conflict {
    WithPalm,
    WithConstructor,
}

/// Returns what already has the id, the long or the short form of an argument.
fn conflict(command: &Command, arg: &Arg) -> Option<Conflict> {
    let is_long = |long: &str| arg.get_long() == Some(long);
    let is_short = |short: char| arg.get_short() == Some(short);
    if is_long("help") || is_long("version") || is_short('h') || is_short('V') {
        return Some(Conflict::WithPalm);
    }
    let same = |other: &&Arg| {
        arg.get_id() == other.get_id()
            || other.get_long().is_some_and(is_long)
            || other.get_short().is_some_and(is_short)
    };
    let other = command.get_arguments().find(same)?;
    match other.get_id().as_str().starts_with("palm.") {
        true => Some(Conflict::WithPalm),
        false => Some(Conflict::WithConstructor),
    }
}

/// Adds the arguments of a constructor. Two constructors may share an argument.
fn with_constructor(
    mut command: Command,
    entry: &CatalogEntry,
    starter: &dyn StartComponent,
    heading: &str,
    requirement: Requirement,
) -> Result<Command, ProgramError> {
    let own = starter
        .add_arguments(Command::new(entry.handle.clone()).next_help_heading(heading.to_owned()));
    for arg in own.get_arguments() {
        match conflict(&command, arg) {
            Some(Conflict::WithPalm) => {
                let name = arg.get_long().unwrap_or(arg.get_id().as_str());
                return Err(ProgramError::mistake(format!(
                    "`--{name}` of the constructor of `{}` is an option of palm: rename the argument, for example \
                     with `#[arg(long = \"my-{name}\")]`",
                    entry.type_name()
                )));
            }
            Some(Conflict::WithConstructor) => {}
            None => {
                let arg = arg.clone();
                command = command.arg(match requirement {
                    Requirement::Kept => arg,
                    Requirement::OfConstructor => arg.required(false),
                });
            }
        }
    }
    for group in own.get_groups() {
        if !command
            .get_groups()
            .any(|other| other.get_id() == group.get_id())
        {
            let group = group.clone();
            command = command.group(match requirement {
                Requirement::Kept => group,
                Requirement::OfConstructor => group.required(false),
            });
        }
    }
    Ok(command)
}

/// Adds the number of workers in the process of their master, and their options.
fn with_workers(command: Command) -> Command {
    let heading = "Workers in this process";
    let number = Arg::new(WORKERS)
        .long("workers")
        .env("PALM_WORKERS")
        .value_name("NUMBER")
        .value_parser(value_parser!(u32).range(..=MAX_WORKERS))
        .default_value("0")
        .help_heading(heading)
        .help("How many workers of each linked type to run in this process");
    let options = options(ProgramKind::WORKER, Command::new("worker"));
    let options = options
        .get_arguments()
        .filter(|option| WORKER_OPTIONS.contains(&option.get_id().as_str()));
    command
        .arg(number)
        .args(options.map(|option| option.clone().help_heading(heading)))
}
