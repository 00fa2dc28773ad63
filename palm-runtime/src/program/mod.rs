//! Programs that start themselves: what `palm::main!` runs.
//!
//! [`Program`] collects the constructors of the macro's entries. `catalog` adds the components that are linked into the
//! program, `command_line` makes a command of each, `values` and `wiring` turn a configuration file and `PALM_WIRING`
//! into arguments of it, and `running` runs the component until a signal.

mod catalog;
mod command_line;
mod constructor;
mod error;
mod kind;
mod list;
mod notify;
mod running;
mod values;
mod wiring;

use std::env::args_os;
use std::ffi::OsString;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use clap::{ArgMatches, Command};

use self::catalog::{Catalog, CatalogEntry};
use self::command_line::{BIND, CONNECT, FORMAT, ProgramInfo, WORKER_OPTIONS, WORKERS};
pub use self::constructor::{ConstructedComponent, Constructor, constructed};
use self::error::ProgramError;
use self::kind::ProgramKind;
use self::notify::Notifier;
use self::running::Started;
use crate::linked_components::StartRequest;

/// A program whose components are its subcommands.
#[expect(missing_debug_implementations, reason = "constructors have none")]
pub struct Program {
    description: Option<&'static str>,
    version: Option<&'static str>,
    components: Vec<ConstructedComponent>,
}

impl Program {
    /// Returns a program with the description and version of its package.
    pub fn new(description: Option<&'static str>, version: Option<&'static str>) -> Self {
        Self {
            description,
            version,
            components: Vec::new(),
        }
    }

    /// Adds a component with its constructor.
    #[must_use]
    pub fn component(mut self, component: ConstructedComponent) -> Self {
        self.components.push(component);
        self
    }

    /// Does what the command line says, and returns the exit code.
    pub fn run(self) -> ExitCode {
        let mut arguments = args_os();
        let program = arguments.next().unwrap_or_else(|| "palm-program".into());
        let name = Path::new(&program).file_stem().unwrap_or(&program);
        let info = ProgramInfo {
            name: name.to_string_lossy().into_owned(),
            description: self.description,
            version: self.version,
        };
        let catalog = Catalog::new(self.components);
        match execute(&info, &catalog, arguments.collect()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => error.report(),
        }
    }
}

/// The command `COMMAND COMPONENT` with the arguments after it.
struct ComponentCommand<'a> {
    kind: ProgramKind,
    entry: &'a CatalogEntry,
    arguments: Vec<OsString>,
}

fn execute(
    info: &ProgramInfo,
    catalog: &Catalog,
    mut arguments: Vec<OsString>,
) -> Result<(), ProgramError> {
    // `help worker images` is `worker images --help`.
    if arguments.first().is_some_and(|it| it == "help") {
        arguments.remove(0);
        arguments.push("--help".into());
    }
    if arguments.is_empty() {
        return print(&list::text(&info.name, catalog));
    }
    if let Some(command) = wired(info, catalog, &arguments)? {
        return command;
    }
    if let Some(command) = select(catalog, &arguments)? {
        return start(info, catalog, command, |_, _| Ok(Vec::new()));
    }
    let name = OsString::from(&info.name);
    let command = command_line::program(info, catalog, None);
    let matches = command.try_get_matches_from([name].into_iter().chain(arguments))?;
    match matches.subcommand() {
        Some(("list", list))
            if list
                .get_one::<String>(FORMAT)
                .is_some_and(|it| it == "json") =>
        {
            print(&format!("{:#}\n", list::json(catalog)))
        }
        // Every other command was handled, or is an error of clap.
        _ => print(&list::text(&info.name, catalog)),
    }
}

/// Writes to standard output, which may be closed.
fn print(text: &str) -> Result<(), ProgramError> {
    let _ = std::io::stdout().write_all(text.as_bytes());
    Ok(())
}

fn is_flag(argument: &OsString) -> bool {
    argument.to_string_lossy().starts_with('-')
}

fn is_help(argument: &OsString) -> bool {
    argument == "--help" || argument == "-h"
}

/// Does what `PALM_WIRING` says, if the command is `run`.
fn wired(
    info: &ProgramInfo,
    catalog: &Catalog,
    arguments: &[OsString],
) -> Result<Option<Result<(), ProgramError>>, ProgramError> {
    let [run, rest @ ..] = arguments else {
        return Ok(None);
    };
    if run != "run" || rest.iter().any(is_help) {
        return Ok(None);
    }
    let wiring = wiring::read()?;
    let kind = ProgramKind::Cluster(wiring.kind);
    let entry = catalog.find(kind, wiring.component.as_deref())?;
    let command = ComponentCommand {
        kind,
        entry,
        arguments: rest.to_vec(),
    };
    Ok(Some(start(info, catalog, command, |command, given| {
        wiring::to_arguments(wiring, command, given)
    })))
}

/// Returns the component that the arguments name, or the only one of its kind.
fn select<'a>(
    catalog: &'a Catalog,
    arguments: &[OsString],
) -> Result<Option<ComponentCommand<'a>>, ProgramError> {
    let [command, rest @ ..] = arguments else {
        return Ok(None);
    };
    let Some(kind) = command
        .to_str()
        .and_then(|it| it.parse::<ProgramKind>().ok())
    else {
        return Ok(None);
    };
    let (entry, rest) = match rest {
        [name, rest @ ..] if !is_flag(name) => {
            (catalog.find(kind, Some(&name.to_string_lossy())), rest)
        }
        _ => (catalog.find(kind, None), rest),
    };
    match entry {
        Ok(entry) => Ok(Some(ComponentCommand {
            kind,
            entry,
            arguments: rest.to_vec(),
        })),
        // The help of a kind lists its components.
        Err(_) if rest.iter().any(is_help) && catalog.of_kind(kind).next().is_some() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Starts a component with the arguments of the command line, of `more`, and of the configuration file.
fn start(
    info: &ProgramInfo,
    catalog: &Catalog,
    command: ComponentCommand<'_>,
    more: impl FnOnce(&Command, &[OsString]) -> Result<Vec<OsString>, ProgramError>,
) -> Result<(), ProgramError> {
    let ComponentCommand {
        kind,
        entry,
        arguments: flags,
    } = command;
    let component = command_line::component(catalog, entry)?;
    let mut given = more(&component, &flags)?;
    given.extend(flags);
    let mut arguments: Vec<OsString> = Vec::new();
    if let Some(path) = values::config_file(&given)
        && !given.iter().any(is_help)
    {
        arguments = values::read_config(&component, &path, &given)?;
    }
    arguments.extend(given.iter().cloned());
    let program = command_line::program(info, catalog, Some((entry, component.clone())));
    let names = [&info.name, kind.name(), &entry.handle].map(OsString::from);
    let matches = program
        .try_get_matches_from(names.into_iter().chain(arguments))
        .map_err(|error| values::name_variable(error, &component, &given))?;
    let matches = matches.subcommand().and_then(|(_, kind)| kind.subcommand());
    let (_, matches) = matches.expect("the arguments name a kind and a component");
    run(catalog, entry, matches)
}

/// Runs a component until a signal.
fn run(catalog: &Catalog, entry: &CatalogEntry, matches: &ArgMatches) -> Result<(), ProgramError> {
    crate::logging::init();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| ProgramError::Failed(error.into()))?;
    let notifier = Notifier::from_environment();
    let components = start_components(catalog, entry, matches);
    let outcome = runtime.block_on(running::run(components, &notifier));
    if let Err(error) = &outcome {
        notifier.status(&error.text());
    }
    // Methods that block do not delay the end: the component has drained, or was ended at once.
    runtime.shutdown_background();
    outcome
}

async fn start_components(
    catalog: &Catalog,
    entry: &CatalogEntry,
    matches: &ArgMatches,
) -> Result<Started, ProgramError> {
    let follows: Vec<String> = match entry.kind {
        ProgramKind::WORKER => Vec::new(),
        _ => values_of(matches, CONNECT),
    };
    let own = match entry.kind {
        ProgramKind::WORKER => CONNECT,
        _ => BIND,
    };
    let db_address = values_of(matches, own).pop().unwrap_or_default();
    let starter = entry.starter.as_ref().expect("the command has a starter");
    let component = starter.get().start(StartRequest {
        db_address: &db_address,
        follows: &follows,
        options: matches,
        arguments: matches,
    })?;
    let component = component.await?;
    let mut workers = Vec::new();
    let number = match matches.try_get_one::<u32>(WORKERS) {
        Ok(Some(number)) => *number,
        _ => 0,
    };
    if number > 0 {
        let options = worker_options(matches)?;
        let types = catalog.workers_of(entry);
        let starters = types.iter().filter_map(|worker| worker.starter.as_ref());
        for starter in starters {
            for _ in 0..number {
                let worker = starter.get().start(StartRequest {
                    db_address: component.db_address(),
                    follows: &[],
                    options: &options,
                    arguments: matches,
                })?;
                workers.push(worker.await?);
            }
        }
    }
    Ok(Started { component, workers })
}

/// Returns the values of an argument that a kind may not have.
fn values_of(matches: &ArgMatches, id: &str) -> Vec<String> {
    match matches.try_get_many::<String>(id) {
        Ok(Some(values)) => values.cloned().collect(),
        _ => Vec::new(),
    }
}

/// Returns the options of workers in the process of their master. All others, such as names and addresses, would be
/// those of the master.
fn worker_options(matches: &ArgMatches) -> Result<ArgMatches, clap::Error> {
    let command = command_line::options(ProgramKind::WORKER, Command::new("worker"));
    let command = command.mut_args(|arg| arg.env(None::<&'static str>));
    let flags = command.get_arguments().filter_map(|arg| {
        let id = arg.get_id().as_str();
        let value = WORKER_OPTIONS
            .contains(&id)
            .then(|| values_of(matches, id).pop())??;
        Some(format!("--{}={value}", arg.get_long()?))
    });
    let flags: Vec<_> = std::iter::once("worker".to_owned()).chain(flags).collect();
    command.try_get_matches_from(flags)
}
