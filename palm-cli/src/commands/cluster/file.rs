//! The file of a cluster, and the instances that it describes.

use std::collections::{BTreeMap, BTreeSet};
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use anstream::eprint;
use palm_plan::{Cluster, Instance, Mistakes, Places, Scale};
use palm_runner::api::{Client, Wanted};
use palm_runner::runner::{Folders, saved_notes};
use serde::{Deserialize, Serialize};

use super::ClusterFailure;
use crate::commands::cluster_file;

/// The file of a cluster.
#[derive(Debug)]
pub(super) struct File {
    pub(super) path: PathBuf,
    /// What it says, or its mistakes: a command such as `down` needs only its name.
    cluster: Result<Cluster, Mistakes>,
    pub(super) name: String,
    pub(super) folders: Folders,
    folder: PathBuf,
}

/// What the command remembers between its calls: the runner keeps it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Notes {
    /// Numbers of replicas that replace those of the file.
    pub(super) replicas: BTreeMap<String, u32>,
    /// The profiles that run.
    pub(super) profiles: BTreeSet<String>,
    /// Addresses that were chosen before.
    pub(super) addresses: BTreeMap<String, String>,
}

impl File {
    /// Reads the file that was named, or the nearest `cluster.toml`. Only its name is needed: a command such as `down`
    /// works although the file has mistakes.
    pub(super) fn open(path: Option<&Path>) -> Result<Self, ClusterFailure> {
        let file = cluster_file::File::open(path)?;
        let folder = file.folder()?;
        let (path, text) = (PathBuf::from(file.shown()), file.text);
        let cluster = Cluster::parse(&path.display().to_string(), &text);
        let name = match &cluster {
            Ok(cluster) => cluster.name().to_owned(),
            Err(mistakes) => match name_of(&text) {
                Some(name) => name,
                None => return Err(fail(&path, mistakes)),
            },
        };
        Ok(Self {
            folders: Folders::new(&name, &folder),
            path,
            cluster,
            name,
            folder,
        })
    }

    /// Connects to the runner of the cluster.
    pub(super) fn connect(&self) -> Result<Client, ClusterFailure> {
        Ok(Client::connect(&self.folders.api())?)
    }

    /// Returns what was remembered when the cluster ran the last time.
    pub(super) fn last_notes(&self) -> Notes {
        let notes: Notes = serde_json::from_value(saved_notes(&self.folders)).unwrap_or_default();
        Notes {
            // The file says again what runs.
            addresses: notes.addresses,
            ..Notes::default()
        }
    }

    /// Returns the instances that should run. Mistakes and warnings are shown.
    pub(super) fn plan(&self, notes: &Notes) -> Result<Wanted, ClusterFailure> {
        let cluster = self.cluster.as_ref();
        let cluster = cluster.map_err(|mistakes| fail(&self.path, mistakes))?;
        show(cluster.warnings());
        let scale = Scale {
            replicas: notes.replicas.clone(),
            profiles: notes.profiles.clone(),
        };
        let places = Places {
            runtime_dir: self.folders.runtime().to_owned(),
            file_dir: self.folder.clone(),
            addresses: notes.addresses.clone(),
        };
        let instances: Vec<Instance> = cluster.instances(&scale, &places)?;
        let notes = Notes {
            addresses: cluster.addresses(&places),
            ..notes.clone()
        };
        Ok(Wanted {
            instances,
            log_limits: cluster.log_limits(),
            notes: serde_json::to_value(notes).unwrap_or_default(),
            revision: 0,
        })
    }
}

/// Returns the name in a file with mistakes.
fn name_of(text: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Named {
        name: String,
    }
    toml::from_str::<Named>(text).ok().map(|it| it.name)
}

fn fail(path: &Path, mistakes: &Mistakes) -> ClusterFailure {
    show(mistakes);
    ClusterFailure::Mistakes(path.to_owned())
}

fn show(mistakes: &Mistakes) {
    if !mistakes.is_empty() {
        eprint!("{}", mistakes.render(std::io::stderr().is_terminal()));
    }
}
