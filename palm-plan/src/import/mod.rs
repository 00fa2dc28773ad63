//! The import of a cluster's configuration for pylm-registry: an INI file with a section for each service.
//!
//! A section has the command line (`Script`), arguments (`--flag = VALUE`), where a value `_NAME` is a socket that all
//! sections with the name share, the services that it is connected to (`Connected`), its `Role` and its `Replicas`. As
//! in that file, names of keys are compared without case, and the section `DEFAULT` has the defaults of all others.
//!
//! A socket belongs to the first service with it that is connected to no other. What the file does not say, such as the
//! kind of a service without sockets, is a comment in the result.

mod write;

use std::collections::BTreeMap;

use ini::Ini;

use crate::kind::Kind;
use crate::template::Endpoint;

/// Why a file cannot be imported.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// It is not an INI file.
    #[error("it is not an INI file: line {line}, {problem}")]
    Syntax {
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        problem: String,
    },
    /// It has no section.
    #[error("it has no section for a service")]
    NoService,
    /// A section has no command line.
    #[error("the section `{service}` has no `Script`")]
    NoScript {
        /// The section.
        service: String,
    },
    /// A number is malformed.
    #[error("`Replicas` of the section `{service}` is `{value}`, and not a number")]
    Replicas {
        /// The section.
        service: String,
        /// The value.
        value: String,
    },
    /// A service is connected to one that does not exist.
    #[error("the section `{service}` is connected to `{connected}`, which does not exist")]
    Connected {
        /// The section.
        service: String,
        /// The other service.
        connected: String,
    },
}

/// A section of the file.
#[derive(Debug)]
struct Service {
    name: String,
    key: String,
    script: Vec<String>,
    /// Flags with their values, in the order of the file.
    flags: Vec<(String, String)>,
    connected: Vec<String>,
    is_worker: bool,
    replicas: u32,
}

/// Returns the text of a `cluster.toml` for a cluster of this name.
///
/// # Errors
///
/// [`ImportError`] says what is wrong with the file.
pub fn import(name: &str, text: &str) -> Result<String, ImportError> {
    let ini = Ini::load_from_str_noescape(text).map_err(|error| ImportError::Syntax {
        line: error.line,
        problem: error.msg.into_owned(),
    })?;
    let mut services = Vec::new();
    let defaults: Vec<_> = ini
        .section(Some("DEFAULT"))
        .into_iter()
        .flat_map(|it| it.iter())
        .collect();
    for (section, properties) in &ini {
        let Some(section) = section.filter(|section| *section != "DEFAULT") else {
            continue;
        };
        let mut values: Vec<(String, String)> = Vec::new();
        for (key, value) in defaults.iter().copied().chain(properties.iter()) {
            let key = key.trim().to_lowercase();
            values.retain(|(other, _)| *other != key);
            values.push((key, value.trim().to_owned()));
        }
        services.push(read_service(section.trim(), &values)?);
    }
    if services.is_empty() {
        return Err(ImportError::NoService);
    }
    number_equal_keys(&mut services);
    check_connections(&services)?;
    let sockets = sockets(&services);
    Ok(write::file(&slug(name), &services, &sockets))
}

fn read_service(name: &str, values: &[(String, String)]) -> Result<Service, ImportError> {
    let get = |key: &str| {
        values
            .iter()
            .find(|(other, _)| other == key)
            .map(|(_, value)| value.as_str())
    };
    let script = get("script").filter(|script| !script.is_empty());
    let script = script.ok_or_else(|| ImportError::NoScript {
        service: name.to_owned(),
    })?;
    let connected = get("connected")
        .unwrap_or_default()
        .split(',')
        .map(str::trim);
    let replicas = match get("replicas") {
        None => 1,
        Some(value) => value.parse().map_err(|_| ImportError::Replicas {
            service: name.to_owned(),
            value: value.to_owned(),
        })?,
    };
    Ok(Service {
        name: name.to_owned(),
        key: slug(name),
        script: script.split_whitespace().map(str::to_owned).collect(),
        flags: values
            .iter()
            .filter(|(key, _)| key.starts_with("--"))
            .cloned()
            .collect(),
        connected: connected
            .filter(|name| !name.is_empty())
            .map(str::to_owned)
            .collect(),
        is_worker: get("role").is_some_and(|role| role.eq_ignore_ascii_case("worker")),
        replicas,
    })
}

/// Returns a key with the characters that keys have.
fn slug(name: &str) -> String {
    let lower = name.to_lowercase();
    let words = lower
        .split(|it: char| !it.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty());
    let slug = words.collect::<Vec<_>>().join("-");
    if slug.is_empty() {
        "cluster".to_owned()
    } else {
        slug.chars().take(24).collect()
    }
}

fn number_equal_keys(services: &mut [Service]) {
    let mut counts = BTreeMap::new();
    for service in services {
        let count = counts.entry(service.key.clone()).or_insert(0_u32);
        *count += 1;
        if *count > 1 {
            service.key = format!("{}-{count}", service.key);
        }
    }
}

fn check_connections(services: &[Service]) -> Result<(), ImportError> {
    for service in services {
        for connected in &service.connected {
            if !services.iter().any(|other| other.name == *connected) {
                return Err(ImportError::Connected {
                    service: service.name.clone(),
                    connected: connected.clone(),
                });
            }
        }
    }
    Ok(())
}

/// The key and the address of each socket `_NAME`.
type Sockets = BTreeMap<String, (String, Option<Endpoint>)>;

fn sockets(services: &[Service]) -> Sockets {
    let mut sockets = Sockets::new();
    let (owners, connected): (Vec<_>, Vec<_>) = services
        .iter()
        .partition(|service| service.connected.is_empty());
    for service in owners.into_iter().chain(connected) {
        for (flag, value) in service
            .flags
            .iter()
            .filter(|(_, value)| value.starts_with('_'))
        {
            sockets
                .entry(value.clone())
                .or_insert_with(|| (service.key.clone(), endpoint(flag)));
        }
    }
    sockets
}

/// Returns the address that a flag names.
fn endpoint(flag: &str) -> Option<Endpoint> {
    let name: String = flag.chars().filter(char::is_ascii_alphanumeric).collect();
    let name = name.strip_suffix("address").unwrap_or(&name);
    match name {
        "db" => Some(Endpoint::Db),
        "pull" => Some(Endpoint::Pull),
        "pub" => Some(Endpoint::Pub),
        "wpull" | "workerpull" => Some(Endpoint::WorkerPull),
        "wpush" | "workerpush" => Some(Endpoint::WorkerPush),
        _ => None,
    }
}

/// Returns the kind of a service: what its own sockets say, or its connections.
fn kind(service: &Service, sockets: &Sockets) -> Kind {
    let own = |endpoint| {
        let mut values = service
            .flags
            .iter()
            .filter_map(|(_, value)| sockets.get(value));
        values.any(|(key, found)| *key == service.key && *found == Some(endpoint))
    };
    match service.connected.len() {
        _ if service.is_worker => Kind::Worker,
        0 if own(Endpoint::WorkerPull) || own(Endpoint::WorkerPush) => Kind::Master,
        0 if own(Endpoint::Db) || own(Endpoint::Pub) => Kind::Server,
        0 => Kind::Process,
        1 if own(Endpoint::WorkerPull) || own(Endpoint::WorkerPush) => Kind::Hub,
        1 if own(Endpoint::Db) || own(Endpoint::Pub) => Kind::Pipeline,
        _ if own(Endpoint::Db) || own(Endpoint::Pub) => Kind::Sink,
        // Without addresses of its own it is connected as a client is.
        _ => Kind::Process,
    }
}

#[cfg(test)]
mod tests;
