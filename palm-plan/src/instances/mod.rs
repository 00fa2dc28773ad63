//! The processes that a cluster describes: commands, wiring, addresses and order.

mod addresses;
mod order;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value as Json};

use crate::address::MAX_IPC_PATH;
use crate::cluster::{Cluster, Component, Ready, Run, Variable};
use crate::instance::{Instance, InstanceId, Readiness, Secret};
use crate::kind::Kind;
use crate::mistake::suggestion;
use crate::template::{Endpoint, Placeholder};
use crate::wiring::{self, Wiring};

/// How much of a cluster runs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Scale {
    /// The numbers of instances, by key, that replace those of the file.
    pub replicas: BTreeMap<String, u32>,
    /// The profiles whose components run, besides those without a profile.
    pub profiles: BTreeSet<String>,
}

/// Where the instances of a cluster run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Places {
    /// The folder of sockets, which only the user can read.
    pub runtime_dir: PathBuf,
    /// The folder of the cluster's file, to which its paths are relative.
    pub file_dir: PathBuf,
    /// Addresses that were chosen before, by key and endpoint, such as `master.db`: [`Cluster::addresses`] returns them.
    pub addresses: BTreeMap<String, String>,
}

/// Why a cluster has no instances of this scale or at these places.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InstancesError {
    /// No component has the key.
    #[error("the cluster has no component `{key}`: {hint}")]
    UnknownComponent {
        /// The key.
        key: String,
        /// The nearest key, or all keys.
        hint: String,
    },
    /// No component has the profile.
    #[error("no component has the profile `{profile}`: {hint}")]
    UnknownProfile {
        /// The profile.
        profile: String,
        /// The nearest profile, or all profiles.
        hint: String,
    },
    /// The component always has one instance.
    #[error("`{key}` is a {kind}, which has one instance: scale its workers, or use a hub")]
    OneInstance {
        /// The key of the component.
        key: String,
        /// Its kind.
        kind: Kind,
    },
    /// The number is not between the bounds of the file.
    #[error(
        "`{key}` has {min} to {max} instances, and not {count}: its bounds are `replicas` in the file"
    )]
    OutOfBounds {
        /// The key of the component.
        key: String,
        /// The number that was asked for.
        count: u32,
        /// The fewest.
        min: u32,
        /// The most.
        max: u32,
    },
    /// The path of a socket is too long for the system.
    #[error(
        "the path of the socket `{path}` has more than {MAX_IPC_PATH} bytes: shorten the name of the cluster, or of the component"
    )]
    PathTooLong {
        /// The path.
        path: String,
    },
}

impl Cluster {
    /// Returns the processes that should run, in the order in which they start.
    ///
    /// # Errors
    ///
    /// [`InstancesError`] says which number, profile or path is wrong.
    pub fn instances(
        &self,
        scale: &Scale,
        places: &Places,
    ) -> Result<Vec<Instance>, InstancesError> {
        self.check_scale(scale)?;
        let context = Context {
            cluster: self,
            places,
            active: self.active(&scale.profiles),
            needed: self.needed(),
        };
        context.check_paths()?;
        let mut instances = Vec::new();
        for component in context.in_order_of_start() {
            let count = scale.replicas.get(component.key()).copied();
            for index in 0..count.unwrap_or(component.replicas.start) {
                instances.push(context.instance(component, index));
            }
        }
        Ok(instances)
    }

    fn check_scale(&self, scale: &Scale) -> Result<(), InstancesError> {
        for (key, &count) in &scale.replicas {
            let Some(component) = self.component(key) else {
                let hint = suggestion(key, self.keys().collect::<Vec<_>>());
                return Err(InstancesError::UnknownComponent {
                    key: key.clone(),
                    hint,
                });
            };
            let (min, max) = (component.replicas.min, component.replicas.max);
            match component.kind() {
                Some(kind) if kind.binds() && count > 1 => {
                    return Err(InstancesError::OneInstance {
                        key: key.clone(),
                        kind,
                    });
                }
                _ if !(min..=max).contains(&count) => {
                    return Err(InstancesError::OutOfBounds {
                        key: key.clone(),
                        count,
                        min,
                        max,
                    });
                }
                _ => {}
            }
        }
        let known: BTreeSet<_> = self.profiles().collect();
        match scale
            .profiles
            .iter()
            .find(|profile| !known.contains(profile.as_str()))
        {
            None => Ok(()),
            Some(profile) => Err(InstancesError::UnknownProfile {
                profile: profile.clone(),
                hint: suggestion(profile, known),
            }),
        }
    }
}

/// What the instances of a cluster have in common.
struct Context<'a> {
    cluster: &'a Cluster,
    places: &'a Places,
    active: Vec<&'a Component>,
    needed: BTreeSet<(String, Endpoint)>,
}

impl Context<'_> {
    fn check_paths(&self) -> Result<(), InstancesError> {
        for address in self.cluster.addresses(self.places).into_values() {
            let path = address.strip_prefix("ipc://");
            if let Some(path) = path.filter(|path| path.len() > MAX_IPC_PATH) {
                return Err(InstancesError::PathTooLong {
                    path: path.to_owned(),
                });
            }
        }
        Ok(())
    }

    fn instance(&self, component: &Component, index: u32) -> Instance {
        let kind = component
            .kind()
            .expect("a component of a file without errors has a kind");
        let run = component
            .run
            .as_ref()
            .expect("a component of a file without errors has a command");
        let id = InstanceId {
            component: component.key().to_owned(),
            index,
        };
        let fill = |template: &crate::template::Template| {
            template.fill(|placeholder| self.value(component, &id, placeholder))
        };
        let mut env = BTreeMap::new();
        let mut secrets = BTreeMap::new();
        for (name, variable) in &component.env {
            match variable {
                Variable::Text(text) => {
                    env.insert(name.clone(), fill(text.get_ref()));
                }
                Variable::Secret(secret) => {
                    secrets.insert(name.clone(), self.secret(secret.get_ref()));
                }
            }
        }
        let mut args: Vec<_> = component
            .args
            .iter()
            .map(|arg| fill(arg.get_ref()))
            .collect();
        let command = match run {
            Run::Command(command) => {
                if self.binds_open_address(component) {
                    env.insert("PALM_TRUST_NETWORK".to_owned(), "1".to_owned());
                }
                self.path_of_command(&fill(command.get_ref()))
            }
            Run::Program(program, linked) => {
                let linked = linked.as_ref().map(|linked| linked.get_ref().clone());
                env.insert(
                    wiring::VARIABLE.to_owned(),
                    self.wiring(component, kind, linked, &id),
                );
                args.insert(0, "run".to_owned());
                self.path_of_command(program.get_ref())
            }
        };
        let working_dir = component
            .working_dir
            .as_ref()
            .map(|dir| dir.get_ref().as_str());
        Instance {
            kind,
            command,
            args,
            env,
            secrets,
            working_dir: self.places.file_dir.join(working_dir.unwrap_or_default()),
            readiness: self.readiness(component, kind, run),
            ready_timeout: component.ready_timeout,
            restart: component.restart.clone(),
            drain: component.drain,
            after: self.after(component),
            stop_order: self.stop_order(component),
            component: id.component,
            index,
        }
    }

    /// Returns a path relative to the file, or a name that is searched for in `PATH`.
    fn path_of_command(&self, command: &str) -> PathBuf {
        match command.contains('/') {
            true => self.places.file_dir.join(command.trim_start_matches("./")),
            false => Path::new(command).to_owned(),
        }
    }

    fn secret(&self, secret: &Secret) -> Secret {
        match secret {
            Secret::File(path) => Secret::File(self.places.file_dir.join(path)),
            Secret::Env(name) => Secret::Env(name.clone()),
        }
    }

    fn value(&self, component: &Component, id: &InstanceId, placeholder: &Placeholder) -> String {
        match placeholder {
            Placeholder::Instance => id.to_string(),
            Placeholder::Index => id.index.to_string(),
            Placeholder::Name => component.name().to_owned(),
            Placeholder::Cluster => self.cluster.name().to_owned(),
            Placeholder::Own(endpoint) => self
                .cluster
                .address(component, *endpoint, self.places)
                .to_string(),
            Placeholder::Of(key, endpoint) => self.connect_address(key, *endpoint),
        }
    }

    fn connect_address(&self, key: &str, endpoint: Endpoint) -> String {
        let component = self
            .cluster
            .component(key)
            .expect("a reference of a file without errors exists");
        self.cluster
            .address(component, endpoint, self.places)
            .connectable()
            .to_string()
    }

    fn binds_open_address(&self, component: &Component) -> bool {
        let of_file = |endpoint: &Endpoint| {
            let address = self.cluster.address(component, *endpoint, self.places);
            address.is_open()
        };
        self.cluster.trusts_network
            && component.is(Kind::binds)
            && Endpoint::ALL.iter().any(of_file)
    }

    fn wiring(
        &self,
        component: &Component,
        kind: Kind,
        linked: Option<String>,
        id: &InstanceId,
    ) -> String {
        let mut options: Map<String, Json> = component
            .options
            .iter()
            .map(|(name, option)| (name.clone(), option.value.get_ref().clone()))
            .collect();
        for endpoint in Endpoint::ALL {
            let is_needed = self
                .needed
                .contains(&(component.key().to_owned(), endpoint));
            if let Some(option) = endpoint.option().filter(|_| is_needed) {
                let address = self.cluster.address(component, endpoint, self.places);
                options.insert(option.to_owned(), address.to_string().into());
            }
        }
        if let Some(topic) = &component.topic {
            options.insert("previous".to_owned(), topic.get_ref().as_str().into());
        }
        if let Some(to_client) = &component.to_client {
            options.insert("pipelined".to_owned(), (!to_client.get_ref()).into());
        }
        if self.binds_open_address(component) {
            options.insert("trust_network".to_owned(), true.into());
        }
        let name = match kind {
            Kind::Worker => format!("{}/{}", component.name(), id.index),
            _ => component.name().to_owned(),
        };
        let db_address =
            |key: &toml::Spanned<String>| self.connect_address(key.get_ref(), Endpoint::Db);
        let wiring = Wiring {
            version: wiring::VERSION,
            kind,
            component: linked,
            name,
            bind: kind.binds().then(|| {
                self.cluster
                    .address(component, Endpoint::Db, self.places)
                    .to_string()
            }),
            connect: component.upstream.iter().map(db_address).collect(),
            options,
        };
        serde_json::to_string(&wiring).expect("texts and numbers have a representation in JSON")
    }

    fn readiness(&self, component: &Component, kind: Kind, run: &Run) -> Readiness {
        let endpoint = if kind.binds() {
            Endpoint::Db
        } else {
            Endpoint::Address
        };
        let address = || {
            let address = self.cluster.address(component, endpoint, self.places);
            Readiness::Address(address.connectable().to_string())
        };
        match component.ready.as_ref().map(|ready| *ready.get_ref()) {
            _ if kind == Kind::Job => Readiness::Exit,
            Some(Ready::Notify) => Readiness::Notify,
            Some(Ready::Running) => Readiness::Running,
            Some(Ready::Address) => address(),
            None => match run {
                Run::Program(..) => Readiness::Notify,
                Run::Command(_) if kind.binds() || component.address.is_some() => address(),
                Run::Command(_) => Readiness::Running,
            },
        }
    }
}

#[cfg(test)]
mod tests;
