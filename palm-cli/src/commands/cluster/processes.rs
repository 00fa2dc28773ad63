//! The processes of a cluster, as its runner reports them.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use palm_runner::api::ClientError;
use palm_runner::state::{ClusterStatus, InstanceStatus};
use tokio::sync::watch;

use super::ClusterFailure;
use super::file::{File, Notes};
use super::wait::reason;
use crate::model::processes::{ComponentProcesses, InstanceProcess, Processes};

/// Time between two requests to the runner.
const INTERVAL: Duration = Duration::from_secs(1);

/// The runner of a cluster, which is asked for its processes.
#[derive(Debug)]
pub(in crate::commands) struct Runner {
    file: File,
    meter: CpuMeter,
    /// The keys of the components, and the addresses of the cluster when it had these.
    addresses: (Vec<String>, BTreeMap<String, String>),
}

impl Runner {
    /// Finds the cluster of a file, or of the nearest `cluster.toml`.
    pub(in crate::commands) fn find(file: Option<&Path>) -> Result<Self, ClusterFailure> {
        Ok(Self {
            file: File::open(file)?,
            meter: CpuMeter::default(),
            addresses: Default::default(),
        })
    }

    /// Returns whether the cluster runs.
    pub(in crate::commands) fn runs(&self) -> bool {
        let connected = self.file.connect();
        !matches!(
            connected,
            Err(ClusterFailure::Client(ClientError::NotRunning))
        )
    }

    /// Returns the name of the cluster.
    pub(in crate::commands) fn name(&self) -> &str {
        &self.file.name
    }

    /// Asks the runner. The use of processors is known from the second time on.
    pub(in crate::commands) fn ask(&mut self) -> Result<Processes, ClusterFailure> {
        let mut client = self.file.connect()?;
        let status = client.status()?;
        let mut keys: Vec<_> = status
            .instances
            .iter()
            .map(|it| it.id.component.clone())
            .collect();
        keys.dedup();
        if keys != self.addresses.0 {
            let notes = client.wanted()?.notes;
            let notes: Notes = serde_json::from_value(notes).unwrap_or_default();
            self.addresses = (keys, notes.addresses);
        }
        let used = self.meter.measure(&status, Instant::now());
        Ok(processes(&status, &used, &self.addresses.1))
    }

    /// Asks every second in a thread, so that a runner that does not answer delays nothing else, until the receiver is
    /// dropped. An error is a text.
    pub(in crate::commands) fn watch(
        mut self,
    ) -> io::Result<watch::Receiver<Option<Result<Processes, String>>>> {
        let (sender, receiver) = watch::channel(None);
        let ask = move || {
            while !sender.is_closed() {
                let answer = self.ask().map_err(|error| super::super::chain(&error));
                sender.send_replace(Some(answer));
                thread::sleep(INTERVAL);
            }
        };
        thread::Builder::new()
            .name("palm-processes".to_owned())
            .spawn(ask)?;
        Ok(receiver)
    }
}

/// Measures how many processors each process uses.
#[derive(Debug, Default)]
pub(super) struct CpuMeter {
    /// When it was measured last, and the processor time of each process.
    last: Option<(Instant, HashMap<u32, u64>)>,
}

impl CpuMeter {
    /// Returns the processors that each process has used since the last call: 1 is one of them.
    pub(super) fn measure(&mut self, status: &ClusterStatus, now: Instant) -> HashMap<u32, f64> {
        let instances = status.instances.iter();
        let times: HashMap<_, _> = instances.filter_map(|it| it.pid.zip(it.cpu_ms)).collect();
        let Some((before, earlier)) = self.last.replace((now, times.clone())) else {
            return HashMap::new();
        };
        let elapsed = now.saturating_duration_since(before).as_secs_f64();
        let used = |(pid, time): (u32, u64)| {
            let used = Duration::from_millis(time.saturating_sub(*earlier.get(&pid)?));
            (elapsed > 0.0).then(|| (pid, used.as_secs_f64() / elapsed))
        };
        times.into_iter().filter_map(used).collect()
    }
}

/// Returns the instances by component. A component of palm that binds has an address.
fn processes(
    status: &ClusterStatus,
    used: &HashMap<u32, f64>,
    addresses: &BTreeMap<String, String>,
) -> Processes {
    let mut components: Vec<ComponentProcesses> = Vec::new();
    // They are sorted.
    for it in &status.instances {
        let key = &it.id.component;
        if components.last().is_none_or(|last| last.key != *key) {
            let address = || addresses.get(&format!("{key}.db")).cloned();
            components.push(ComponentProcesses {
                key: key.clone(),
                kind: it.kind.to_string(),
                address: it.kind.binds().then(address).flatten(),
                instances: Vec::new(),
            });
        }
        if let Some(component) = components.last_mut() {
            component.instances.push(instance(it, used));
        }
    }
    Processes {
        components,
        warnings: status.problems.clone(),
    }
}

fn instance(it: &InstanceStatus, used: &HashMap<u32, f64>) -> InstanceProcess {
    InstanceProcess {
        id: it.id.to_string(),
        state: it.state.clone(),
        is_ready: it.is_ready() || it.is_running(),
        sentence: reason(it),
        pid: it.pid,
        run: it.run,
        exits: it.exits,
        last_exit: it.last_failure.clone(),
        cpu: it.pid.and_then(|pid| used.get(&pid).copied()),
        memory_bytes: it.memory_bytes,
    }
}
