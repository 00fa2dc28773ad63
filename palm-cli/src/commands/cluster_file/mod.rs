//! The commands about the file of a cluster: they start no component.

mod arguments;
mod file;
mod init;
mod machine;

use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use palm_plan::mistake::{Code, UnknownCode};
use palm_plan::{Cluster, FormatError, ImportError, InstancesError, Mistakes};

pub use self::arguments::Command;
use self::arguments::{Explain, FileArgument, Fmt, Import, MistakeFormat, Plan, Validate};
pub(super) use self::file::File;
use self::file::{read, replace};
pub(super) use self::machine::Machine;
use super::{Failure, write};

/// Why a command about the file of a cluster failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileFailure {
    /// No file was named or found.
    #[error(
        "there is no cluster.toml in this folder or above it: `palm init` writes one, and --file names another"
    )]
    NoFile,
    /// The folder of the process does not exist.
    #[error("this folder cannot be read")]
    Folder(#[source] io::Error),
    /// A file cannot be read.
    #[error("`{}` cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file cannot be written.
    #[error("`{}` cannot be written", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file has mistakes, which were shown.
    #[error("`{0}` has mistakes")]
    Mistakes(String),
    /// The file is not TOML.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// `palm fmt --check` would change the file.
    #[error("`{0}` is not in the form of `palm fmt`")]
    NotFormatted(String),
    /// The file has no instances with these profiles.
    #[error(transparent)]
    Instances(#[from] InstancesError),
    /// The configuration cannot be imported.
    #[error("`{}`: {source}", path.display())]
    Import {
        /// The configuration.
        path: PathBuf,
        /// Why.
        source: ImportError,
    },
    /// No mistake has this code.
    #[error(transparent)]
    Code(#[from] UnknownCode),
    /// No scenario has this name.
    #[error("there is no scenario `{0}`: `palm init --list` lists them")]
    Scenario(String),
    /// `palm init` would overwrite a file.
    #[error("`{}` exists: choose another folder, `palm init SCENARIO FOLDER`", .0.display())]
    Exists(PathBuf),
    /// The output failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Runs a command.
///
/// # Errors
///
/// [`Failure`] says why it failed, and what to do.
pub fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Plan(plan) => return self::plan(&plan),
        Command::Validate(validate) => self::validate(&validate)?,
        Command::Fmt(fmt) => self::fmt(&fmt)?,
        Command::Schema => write(format!("{:#}\n", palm_plan::schema()).as_bytes())?,
        Command::Import(import) => self::import(&import)?,
        Command::Explain(explain) => self::explain(&explain)?,
        Command::Init(init) => init::init(&init)?,
    }
    Ok(())
}

/// Returns the graph of a file, as a tree or in the language of Graphviz.
///
/// # Errors
///
/// The file cannot be read, or has mistakes, which are shown.
pub fn graph(path: Option<&Path>, is_dot: bool) -> Result<String, FileFailure> {
    let file = File::open(path)?;
    let cluster = checked(&file, Cluster::parse(&file.shown(), &file.text))?;
    Ok(if is_dot {
        cluster.dot()
    } else {
        cluster.tree()
    })
}

fn validate(validate: &Validate) -> Result<(), FileFailure> {
    let file = open(&validate.file)?;
    let shown = file.shown();
    let read = match validate.offline {
        true => Cluster::parse(&shown, &file.text),
        false => Cluster::validate(&shown, &file.text, &machine(&file)?),
    };
    if validate.format == MistakeFormat::Json {
        let mistakes = read
            .as_ref()
            .map_or_else(|mistakes| mistakes, Cluster::warnings);
        write(format!("{}\n", mistakes.to_json()).as_bytes())?;
        return read.map(|_| ()).map_err(|_| FileFailure::Mistakes(shown));
    }
    let cluster = checked(&file, read)?;
    let components = match cluster.keys().count() {
        1 => "1 component".to_owned(),
        count => format!("{count} components"),
    };
    let warnings = match cluster.warnings().list().len() {
        0 => "no mistakes".to_owned(),
        1 => "1 warning".to_owned(),
        count => format!("{count} warnings"),
    };
    Ok(write(
        format!("{shown}: {components}, {warnings}\n").as_bytes(),
    )?)
}

/// Compares the file with what runs.
#[cfg(target_os = "linux")]
fn plan(plan: &Plan) -> Result<(), Failure> {
    let text = super::cluster::plan::text(plan.file.file.as_deref(), &plan.profiles)?;
    Ok(write(text.as_bytes())?)
}

/// Shows what the file describes: components run on Linux.
#[cfg(not(target_os = "linux"))]
fn plan(plan: &Plan) -> Result<(), Failure> {
    let file = open(&plan.file)?;
    let cluster = checked(&file, Cluster::parse(&file.shown(), &file.text))?;
    let scale = palm_plan::Scale {
        profiles: plan.profiles.iter().cloned().collect(),
        ..palm_plan::Scale::default()
    };
    let places = palm_plan::Places {
        file_dir: file.folder()?,
        ..palm_plan::Places::default()
    };
    let instances = cluster
        .instances(&scale, &places)
        .map_err(FileFailure::from)?;
    Ok(write(
        palm_plan::plan(&[], &instances).to_string().as_bytes(),
    )?)
}

fn fmt(fmt: &Fmt) -> Result<(), FileFailure> {
    let file = open(&fmt.file)?;
    let formatted = palm_plan::format(&file.text)?;
    match (formatted == file.text, fmt.check) {
        (true, _) => Ok(()),
        (false, true) => Err(FileFailure::NotFormatted(file.shown())),
        (false, false) => replace(&file.path, &formatted).map_err(|source| FileFailure::Write {
            path: file.path.clone(),
            source,
        }),
    }
}

fn import(import: &Import) -> Result<(), FileFailure> {
    let text = read(&import.file)?;
    let stem = import
        .file
        .file_stem()
        .unwrap_or_default()
        .to_string_lossy();
    let name = import.name.as_deref().unwrap_or(&stem);
    let imported = palm_plan::import(name, &text);
    let imported = imported.map_err(|source| FileFailure::Import {
        path: import.file.clone(),
        source,
    })?;
    Ok(write(imported.as_bytes())?)
}

fn explain(explain: &Explain) -> Result<(), FileFailure> {
    let text = match &explain.code {
        Some(code) => code.parse::<Code>()?.explanation().to_owned() + "\n",
        None => {
            let lines = Code::ALL
                .iter()
                .map(|code| format!("{code}  {}\n", code.title()));
            lines.collect()
        }
    };
    Ok(write(text.as_bytes())?)
}

fn open(file: &FileArgument) -> Result<File, FileFailure> {
    File::open(file.file.as_deref())
}

fn machine(file: &File) -> Result<Machine, FileFailure> {
    let cluster = Cluster::parse(&file.shown(), &file.text);
    Ok(Machine {
        folder: file.folder()?,
        cluster: cluster.map_or_else(|_| String::new(), |cluster| cluster.name().to_owned()),
        running: None,
    })
}

/// Shows mistakes and warnings on standard error.
fn checked(file: &File, read: Result<Cluster, Mistakes>) -> Result<Cluster, FileFailure> {
    let mistakes = read
        .as_ref()
        .map_or_else(|mistakes| mistakes, Cluster::warnings);
    if !mistakes.is_empty() {
        let is_coloured = io::stderr().is_terminal();
        // If standard error is closed, the mistakes are lost.
        let _ = write!(anstream::stderr(), "{}", mistakes.render(is_coloured));
    }
    read.map_err(|_| FileFailure::Mistakes(file.shown()))
}
