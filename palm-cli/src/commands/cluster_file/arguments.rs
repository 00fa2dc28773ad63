//! The arguments of the commands about the file of a cluster.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

/// The subcommands about the file of a cluster.
#[derive(Debug, Subcommand)]
#[non_exhaustive]
pub enum Command {
    /// Show all mistakes of a cluster's file, also in what it says about programs, ports and secrets.
    Validate(Validate),
    /// Show what a cluster's file would start: instances in their order, with commands and addresses.
    Plan(Plan),
    /// Write a cluster's file in one form; comments stay.
    Fmt(Fmt),
    /// Write the JSON schema of the file, by which editors check and complete it.
    Schema,
    /// Write a cluster's file for a configuration of pylm-registry.
    Import(Import),
    /// Describe a mistake by its code, such as P020.
    Explain(Explain),
    /// Write a cluster that runs: its file, and the programs of its components.
    Init(Init),
}

/// The file of a cluster.
#[derive(Debug, Clone, Args)]
pub struct FileArgument {
    /// The file of the cluster. Without it, `cluster.toml` in this folder or in one above it.
    #[arg(short, long, value_name = "FILE", env = "PALM_CLUSTER_FILE")]
    pub file: Option<PathBuf>,
}

/// The form of mistakes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
#[non_exhaustive]
pub enum MistakeFormat {
    /// For people.
    #[default]
    Text,
    /// For programs: an array of objects.
    Json,
}

/// `palm validate`.
#[derive(Debug, Args)]
pub struct Validate {
    #[command(flatten)]
    pub file: FileArgument,
    /// The form of the mistakes.
    #[arg(long, value_enum, default_value_t)]
    pub format: MistakeFormat,
    /// Read the file alone: start no program, and look at no port or secret.
    #[arg(long)]
    pub offline: bool,
}

/// `palm plan`.
#[derive(Debug, Args)]
pub struct Plan {
    #[command(flatten)]
    pub file: FileArgument,
    /// Also the components of this profile.
    #[arg(long = "profile", value_name = "PROFILE")]
    pub profiles: Vec<String>,
}

/// `palm fmt`.
#[derive(Debug, Args)]
pub struct Fmt {
    #[command(flatten)]
    pub file: FileArgument,
    /// Fail if the file would change, and leave it as it is.
    #[arg(long)]
    pub check: bool,
}

/// `palm import`.
#[derive(Debug, Args)]
pub struct Import {
    /// The configuration: an INI file.
    pub file: PathBuf,
    /// The name of the cluster. Default: that of the file.
    #[arg(long)]
    pub name: Option<String>,
}

/// `palm explain`.
#[derive(Debug, Args)]
pub struct Explain {
    /// The code, as `palm validate` shows it.
    #[arg(required_unless_present = "list")]
    pub code: Option<String>,
    /// List all codes.
    #[arg(long)]
    pub list: bool,
}

/// `palm init`.
#[derive(Debug, Args)]
pub struct Init {
    /// The scenario, by name or number.
    #[arg(default_value = "parallel")]
    pub scenario: String,
    /// The folder; it is created.
    #[arg(default_value = ".")]
    pub folder: PathBuf,
    /// List the scenarios.
    #[arg(long)]
    pub list: bool,
    /// Depend on this checkout of palm. Without it, the checkout that this command was built from, or the published
    /// package.
    #[arg(long, value_name = "FOLDER")]
    pub palm: Option<PathBuf>,
}
