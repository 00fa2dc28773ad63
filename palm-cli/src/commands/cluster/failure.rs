//! Why a command that runs a cluster failed.

use std::path::PathBuf;

use palm_plan::InstancesError;
use palm_runner::api::ClientError;
use palm_runner::logs::SearchError;
use palm_runner::runner::RunError;

use crate::commands::cluster_file::FileFailure;

/// Why a command that runs a cluster failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClusterFailure {
    /// The file is missing or cannot be read.
    #[error(transparent)]
    File(#[from] FileFailure),
    /// The file has mistakes, which were shown.
    #[error("`{}` has mistakes", .0.display())]
    Mistakes(PathBuf),
    /// The instances of the file cannot be planned.
    #[error(transparent)]
    Instances(#[from] InstancesError),
    /// The runner does not do what it was asked for.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The runner cannot begin.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The runner in the background cannot begin.
    #[error("{0}")]
    Background(String),
    /// Components are not ready.
    #[error("{0}")]
    NotReady(String),
    /// The pattern of a search is wrong.
    #[error(transparent)]
    Search(#[from] SearchError),
    /// No component or instance has this name.
    #[error("the cluster has no `{name}`; it has {known}")]
    UnknownName {
        /// The name.
        name: String,
        /// The components.
        known: String,
    },
    /// A component has to be chosen.
    #[error(
        "the cluster has several components: state the address of one with --address; it has {0}"
    )]
    SeveralNames(String),
    /// The component does not run.
    #[error("`{0}` has no address: it does not run with the profiles of the cluster")]
    NoAddress(String),
    /// The user does not want the change.
    #[error("nothing was changed")]
    Declined,
    /// A change needs an answer, and standard input is not a terminal.
    #[error("the cluster would change: repeat the command with --yes")]
    NoQuestion,
}
