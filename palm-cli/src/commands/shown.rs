//! What `palm top`, `palm graph` and `palm inspect` show: the cluster of a component, or the cluster of a file.

use std::time::{Duration, Instant};

use palm::inspect::{Cluster, Inspector};
use palm::socket::Address;

#[cfg(target_os = "linux")]
use super::cluster::{ClusterFailure, Runner};
#[cfg(target_os = "linux")]
use super::cluster_file::FileFailure;
use super::{Failure, inspector};
use crate::arguments::{ClusterFile, Peer, Target};
use crate::model::{Monitor, Problem};

/// A cluster that is shown.
pub(super) enum Shown {
    /// That of the component at this address.
    Component(Address),
    /// That of a file, which `palm up` runs.
    #[cfg(target_os = "linux")]
    File(Box<Runner>),
}

impl Shown {
    /// Finds the cluster that the arguments name.
    pub(super) fn new(target: &Target) -> Result<Self, Failure> {
        match &target.address {
            Some(address) => Ok(Self::Component(address.clone())),
            None => Self::of_file(&target.file),
        }
    }

    /// Finds the cluster of a file.
    #[cfg(target_os = "linux")]
    fn of_file(file: &ClusterFile) -> Result<Self, Failure> {
        match Runner::find(file.file.as_deref()) {
            Ok(runner) => Ok(Self::File(Box::new(runner))),
            Err(ClusterFailure::File(FileFailure::NoFile)) => Err(Failure::NoCluster),
            Err(error) => Err(error.into()),
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn of_file(_: &ClusterFile) -> Result<Self, Failure> {
        Err(Failure::NoAddress)
    }

    /// Finds the cluster of a file. `None` if it does not run.
    pub(super) fn running(file: &ClusterFile) -> Result<Option<Self>, Failure> {
        match Self::of_file(file) {
            #[cfg(target_os = "linux")]
            Ok(Self::File(runner)) if !runner.runs() => Ok(None),
            Err(Failure::NoAddress) => Ok(None),
            found => found.map(Some),
        }
    }

    /// Returns what the screen is titled with: an address, or the name of a cluster.
    pub(super) fn title(&self) -> String {
        match self {
            Self::Component(address) => address.to_string(),
            #[cfg(target_os = "linux")]
            Self::File(runner) => runner.name().to_owned(),
        }
    }

    /// Asks all components, twice if rates are measured, and the runner of a file's cluster for their processes.
    pub(super) async fn measure(mut self, period: Duration) -> Result<Monitor, Failure> {
        let mut monitor = Monitor::default();
        let mut walk = Walk::default();
        self.ask(&mut monitor, &mut walk).await?;
        if !period.is_zero() {
            tokio::time::sleep(period).await;
            self.ask(&mut monitor, &mut walk).await?;
        }
        Ok(monitor)
    }

    async fn ask(&mut self, monitor: &mut Monitor, walk: &mut Walk) -> Result<(), Failure> {
        match self {
            Self::Component(address) => {
                let begin = [address.to_string()];
                monitor.update(walk.run(&begin).await, Instant::now());
                check_first(monitor, address)
            }
            #[cfg(target_os = "linux")]
            Self::File(runner) => {
                monitor.set_processes(Ok(runner.ask()?));
                let begin: Vec<_> = monitor.process_addresses().map(str::to_owned).collect();
                monitor.update(walk.run(&begin).await, Instant::now());
                Ok(())
            }
        }
    }
}

/// Returns the address of the component that is called: the one of the arguments, or that of the component with this
/// name, or the only one, in the cluster of a file.
#[cfg(target_os = "linux")]
pub(super) fn address(peer: &Peer, name: Option<&str>) -> Result<Address, Failure> {
    if let Some(address) = &peer.address {
        return Ok(address.clone());
    }
    match super::cluster::address(peer.file.as_deref(), name) {
        Err(ClusterFailure::File(FileFailure::NoFile)) => Err(Failure::NoCluster),
        found => Ok(found?),
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) fn address(peer: &Peer, _: Option<&str>) -> Result<Address, Failure> {
    peer.address.clone().ok_or(Failure::NoAddress)
}

/// Asks the components of a cluster, again and again. Connections are kept.
#[derive(Debug, Default)]
pub(super) struct Walk(Option<Inspector>);

impl Walk {
    /// Asks the components at these addresses, and those that are found from there.
    pub(super) async fn run(&mut self, begin: &[String]) -> Cluster {
        if self.0.is_none() {
            let first = begin.iter().find_map(|address| address.parse().ok());
            self.0 = first.map(|first| inspector(&first));
        }
        let Some(inspector) = &mut self.0 else {
            return Cluster::default();
        };
        inspector.begin_also_at(begin.iter().map(String::as_str));
        inspector.inspect().await
    }
}

/// Fails if the component at the address that was passed does not answer.
pub(super) fn check_first(monitor: &Monitor, address: &Address) -> Result<(), Failure> {
    let address = address.to_string();
    let first = monitor.component(&address).map(|it| &it.problem);
    match first {
        Some(Some(Problem::Unreachable(reason))) => Err(Failure::Unreachable {
            reason: reason.clone(),
            address,
        }),
        _ => Ok(()),
    }
}
