//! What the file of a cluster refers to, on this machine.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::net::{TcpListener, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use palm::component::{
    HubOptions, MasterOptions, PipelineOptions, ServerOptions, SinkOptions, WorkerOptions,
};
use palm_plan::Kind;
use palm_plan::instance::Secret;
use palm_plan::surroundings::{Linked, Surroundings};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// Time within which a program has to list its components.
const LIST_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest list of components, in bytes.
const MAX_LIST: u64 = 1 << 20;

/// This machine, as seen from the folder of a file.
#[derive(Debug)]
pub(in crate::commands) struct Machine {
    pub(in crate::commands) folder: PathBuf,
    /// The name of the cluster, whose own processes may hold its addresses.
    pub(in crate::commands) cluster: String,
    /// Only components that run with these profiles are checked, and no addresses; `None` checks all.
    pub(in crate::commands) running: Option<BTreeSet<String>>,
}

impl Machine {
    /// Returns the path of an executable file.
    fn find(&self, command: &str) -> Result<PathBuf, String> {
        let paths = std::env::var_os("PATH");
        let found = which::which_in(command, paths, &self.folder);
        found.map_err(|_| {
            let path = self.folder.join(command);
            match (command.contains('/'), path.exists()) {
                (true, true) => "it is not an executable file".to_owned(),
                (true, false) => format!("`{}` does not exist", path.display()),
                (false, true) => "it is not in PATH; the folder of the file has one".to_owned(),
                (false, false) => "it is not in PATH".to_owned(),
            }
        })
    }
}

impl Surroundings for Machine {
    fn profiles(&self) -> Option<&BTreeSet<String>> {
        self.running.as_ref()
    }

    fn command_problem(&self, command: &str) -> Option<String> {
        self.find(command).err()
    }

    fn linked(&self, program: &str) -> Result<Vec<Linked>, String> {
        let path = self.find(program)?;
        let output = list(&path, &self.folder)?;
        serde_json::from_slice(&output).map_err(|error| {
            format!("its answer to `list --format json` is not such a list, {error}")
        })
    }

    fn option_problem(&self, kind: Kind, name: &str, value: &Value) -> Option<String> {
        match kind {
            Kind::Server => option_error::<ServerOptions>(name, value),
            Kind::Master => option_error::<MasterOptions>(name, value),
            Kind::Hub => option_error::<HubOptions>(name, value),
            Kind::Worker => option_error::<WorkerOptions>(name, value),
            Kind::Pipeline => option_error::<PipelineOptions>(name, value),
            Kind::Sink => option_error::<SinkOptions>(name, value),
            _ => None,
        }
    }

    fn address_holder(&self, address: &str) -> Option<String> {
        match address.strip_prefix("ipc://") {
            _ if self.running.is_some() => None,
            Some(path) => socket_holder(Path::new(path)),
            None => port_holder(address, &self.cluster),
        }
    }

    fn secret_problem(&self, secret: &Secret) -> Option<String> {
        match secret {
            Secret::File(path) => std::fs::File::open(self.folder.join(path))
                .err()
                .map(|error| error.to_string()),
            Secret::Env(name) => std::env::var_os(name)
                .is_none()
                .then(|| format!("`{name}` is not set")),
            _ => None,
        }
    }
}

/// Runs `PROGRAM list --format json`, and returns what it writes.
fn list(program: &Path, folder: &Path) -> Result<Vec<u8>, String> {
    let child = Command::new(program)
        .args(["list", "--format", "json"])
        .current_dir(folder)
        .env_remove(palm_plan::wiring::VARIABLE)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let mut child = child.map_err(|error| format!("it cannot be started: {error}"))?;
    let output = child.stdout.take().ok_or("its output is not known")?;
    let (sender, receiver) = mpsc::channel();
    // A program that is not one of palm may run for ever.
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let read = output.take(MAX_LIST).read_to_end(&mut bytes);
        let _ = sender.send(read.map(|_| bytes));
    });
    let read = receiver.recv_timeout(LIST_TIMEOUT);
    if read.is_err() {
        let _ = child.kill();
    }
    let status = child.wait().map_err(|error| error.to_string())?;
    match read {
        Err(_) => Err(format!(
            "it does not answer within {} s",
            LIST_TIMEOUT.as_secs()
        )),
        Ok(Err(error)) => Err(format!("its answer cannot be read: {error}")),
        Ok(Ok(_)) if !status.success() => Err(format!("`list --format json` ends with {status}")),
        Ok(Ok(bytes)) => Ok(bytes),
    }
}

fn option_error<Options: DeserializeOwned>(name: &str, value: &Value) -> Option<String> {
    let options = Map::from_iter([(name.to_owned(), value.clone())]);
    let error = serde_json::from_value::<Options>(options.into()).err()?;
    Some(error.to_string())
}

/// Returns who listens at the path of a socket. A socket without a listener is left over.
#[cfg(unix)]
fn socket_holder(path: &Path) -> Option<String> {
    let connected = std::os::unix::net::UnixStream::connect(path);
    connected.is_ok().then(|| "another process".to_owned())
}

#[cfg(not(unix))]
fn socket_holder(_: &Path) -> Option<String> {
    None
}

/// Returns the process that has bound a TCP port, unless it belongs to the cluster.
fn port_holder(address: &str, cluster: &str) -> Option<String> {
    let (host, port) = address.strip_prefix("tcp://")?.rsplit_once(':')?;
    let port: u16 = port.parse().ok()?;
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let host = match host {
        "*" => "0.0.0.0",
        _ => bare.unwrap_or(host),
    };
    let addresses: Vec<_> = (host, port).to_socket_addrs().ok()?.collect();
    let error = TcpListener::bind(&addresses[..]).err()?;
    if error.kind() != std::io::ErrorKind::AddrInUse {
        return None;
    }
    let listeners = listeners::get_all().unwrap_or_default();
    let holder = listeners
        .into_iter()
        .find(|listener| listener.socket.port() == port);
    match holder {
        Some(holder) if is_of_cluster(holder.process.pid, cluster) => None,
        Some(holder) => Some(format!(
            "{} (process {})",
            holder.process.name, holder.process.pid
        )),
        None => Some("a process of another user".to_owned()),
    }
}

/// Returns whether a process is one of the cluster, as its environment says.
fn is_of_cluster(pid: u32, cluster: &str) -> bool {
    let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    let wanted = format!("PALM_CLUSTER={cluster}");
    environment
        .split(|byte| *byte == 0)
        .any(|variable| variable == wanted.as_bytes())
}
