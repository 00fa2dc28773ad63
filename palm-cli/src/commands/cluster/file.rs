//! The file of a cluster, and the instances that it describes.

use std::collections::{BTreeMap, BTreeSet};
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use anstream::eprint;
use palm::socket::Address;
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

    fn cluster(&self) -> Result<&Cluster, ClusterFailure> {
        let cluster = self.cluster.as_ref();
        cluster.map_err(|mistakes| fail(&self.path, mistakes))
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

    /// Returns what was remembered for a cluster that runs, without what the file does not have any more.
    pub(super) fn remembered(&self, notes: serde_json::Value) -> Notes {
        let mut notes: Notes = serde_json::from_value(notes).unwrap_or_default();
        if let Ok(cluster) = &self.cluster {
            let keys: BTreeSet<_> = cluster.keys().collect();
            notes.replicas.retain(|key, _| keys.contains(key.as_str()));
            let profiles: BTreeSet<_> = cluster.profiles().collect();
            notes.profiles.retain(|it| profiles.contains(it.as_str()));
        }
        notes
    }

    /// Compares the file with the programs, options and secrets of the components that run with these notes, so that
    /// what runs is not replaced by what cannot run.
    pub(super) fn check_programs(&self, notes: &Notes) -> Result<(), ClusterFailure> {
        let machine = cluster_file::Machine {
            folder: self.folder.clone(),
            cluster: self.name.clone(),
            running: Some(notes.profiles.clone()),
        };
        let checked = self.cluster()?.check(&machine);
        checked.map_err(|mistakes| fail(&self.path, &mistakes))
    }

    /// Returns the address of the component with this name, or of the only component that binds one.
    pub(super) fn address(&self, name: Option<&str>) -> Result<Address, ClusterFailure> {
        let cluster = self.cluster()?;
        let named = |(_, own): &(&str, &str)| name.is_none_or(|name| name == *own);
        let known = || cluster.binding().map(|(_, name)| name.to_owned());
        let key = match cluster.binding().filter(named).collect::<Vec<_>>()[..] {
            [(key, _)] => key,
            [] => {
                return Err(ClusterFailure::UnknownName {
                    name: name.unwrap_or("component with an address").to_owned(),
                    known: known().collect::<Vec<_>>().join(", "),
                });
            }
            _ => {
                return Err(ClusterFailure::SeveralNames(
                    known().collect::<Vec<_>>().join(", "),
                ));
            }
        };
        let notes = self.remembered(self.connect()?.wanted()?.notes);
        let address = notes.addresses.get(&format!("{key}.db"));
        let address = address.and_then(|it| it.parse().ok());
        address.ok_or_else(|| ClusterFailure::NoAddress(key.to_owned()))
    }

    /// Returns the instances that should run. Mistakes and warnings are shown.
    pub(super) fn plan(&self, notes: &Notes) -> Result<Wanted, ClusterFailure> {
        let cluster = self.cluster()?;
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
