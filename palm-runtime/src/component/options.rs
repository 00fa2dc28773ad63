//! [`ComponentOptions`]: the options of a component from a file, the command line or the environment.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use super::builder::{self, Builder};
use super::kind::{HttpWorker, Hub, Kind, Master, Pipeline, Server, Sink, Worker};
use super::settings::Settings;
#[cfg(feature = "monitor")]
use crate::options::value::read;
use crate::options::value::{Described, Value};
use crate::options::{assign, describe};

/// The options of a component of the kind `K`, from a file (feature `serde`), or from the command line and the
/// environment (feature `clap`).
///
/// The names are those of the methods of [`Builder`]. Options that are not set keep their value, so that several sources
/// can follow each other: `builder.options(file).options(arguments)`.
///
/// `palm::guide::configuration` describes names and values.
pub struct ComponentOptions<K> {
    values: BTreeMap<String, Value>,
    kind: PhantomData<fn() -> K>,
}

/// The options of a server.
pub type ServerOptions = ComponentOptions<Server>;
/// The options of a pipeline.
pub type PipelineOptions = ComponentOptions<Pipeline>;
/// The options of a sink.
pub type SinkOptions = ComponentOptions<Sink>;
/// The options of a master.
pub type MasterOptions = ComponentOptions<Master>;
/// The options of a hub.
pub type HubOptions = ComponentOptions<Hub>;
/// The options of a worker.
pub type WorkerOptions = ComponentOptions<Worker>;
/// The options of an HTTP worker that a program starts.
pub type HttpWorkerOptions = ComponentOptions<HttpWorker>;

/// The options of all components that an HTTP worker has: it has no links and no cache.
const HTTP_WORKER_SETTINGS: [&str; 4] = ["own_thread", "log_level", "drain_limit", "trust_network"];

impl<K> Clone for ComponentOptions<K> {
    fn clone(&self) -> Self {
        Self {
            values: self.values.clone(),
            kind: PhantomData,
        }
    }
}

impl<K> Default for ComponentOptions<K> {
    fn default() -> Self {
        Self {
            values: BTreeMap::new(),
            kind: PhantomData,
        }
    }
}

impl<K> fmt::Debug for ComponentOptions<K> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let values = self
            .values
            .iter()
            .map(|(name, value)| (name, format_args!("{value}").to_string()));
        formatter.debug_map().entries(values).finish()
    }
}

impl<K: Kind> ComponentOptions<K> {
    fn known() -> Vec<Described> {
        let mut list = describe::<Settings>();
        if K::KIND == HttpWorker::KIND {
            list.retain(|setting| HTTP_WORKER_SETTINGS.contains(&&*setting.name));
        }
        builder::describe_options(K::HAS, &mut list);
        #[cfg(feature = "monitor")]
        list.push(Described {
            name: MONITOR.to_owned(),
            doc: "Serves metrics for Prometheus and health checks over HTTP at this address, such as `127.0.0.1:9600`. \
                  Default: no monitor.",
            form: "ADDRESS",
        });
        list
    }

    fn set(&mut self, name: &str, value: Value) -> Result<(), String> {
        check(name, &value)?;
        self.values.insert(name.to_owned(), value);
        Ok(())
    }
}

const CHECKED: &str = "options are checked when they are read";

fn is_setting(name: &str) -> bool {
    describe::<Settings>()
        .iter()
        .any(|setting| setting.name == name)
}

/// The option with the address of the monitor. It is data, although its method takes any listener.
#[cfg(feature = "monitor")]
const MONITOR: &str = "monitor";

fn check(name: &str, value: &Value) -> Result<(), String> {
    #[cfg(feature = "monitor")]
    if name == MONITOR {
        return read::<String>(name, value).map(drop);
    }
    match is_setting(name) {
        true => assign(&mut Settings::default(), name, value),
        false => builder::check_option(name, value),
    }
}

impl<C, K: Kind> Builder<C, K> {
    /// Sets options that were read from a file, the command line or the environment. Options that these do not contain
    /// keep their value. Features `serde` and `clap`.
    pub fn options(mut self, options: ComponentOptions<K>) -> Self {
        for (name, value) in &options.values {
            #[cfg(feature = "monitor")]
            if name == MONITOR {
                let address = read::<String>(name, value);
                self.options
                    .settings
                    .monitor
                    .set(address.expect(CHECKED).into());
                continue;
            }
            let set = match is_setting(name) {
                true => assign(&mut self.options.settings, name, value),
                false => builder::assign_option(&mut self.options, name, value),
            };
            set.expect(CHECKED);
        }
        self
    }
}

#[cfg(feature = "serde")]
impl<'de, K: Kind> serde::Deserialize<'de> for ComponentOptions<K> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut options = Self::default();
        let set = |name: &str, value| options.set(name, value);
        crate::options::file::read(deserializer, &Self::known(), set)?;
        Ok(options)
    }
}

#[cfg(feature = "clap")]
impl<K: Kind> clap::FromArgMatches for ComponentOptions<K> {
    fn from_arg_matches(matches: &clap::ArgMatches) -> Result<Self, clap::Error> {
        let mut options = Self::default();
        options.update_from_arg_matches(matches)?;
        Ok(options)
    }

    fn update_from_arg_matches(&mut self, matches: &clap::ArgMatches) -> Result<(), clap::Error> {
        let set = |name: &str, value| self.set(name, value);
        crate::options::command_line::read(matches, &Self::known(), set)
    }
}

#[cfg(feature = "clap")]
impl<K: Kind> clap::Args for ComponentOptions<K> {
    fn augment_args(command: clap::Command) -> clap::Command {
        crate::options::command_line::augment(command, Self::known(), check)
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Self::augment_args(command)
    }
}
