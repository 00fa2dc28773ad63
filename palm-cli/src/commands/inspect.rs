//! `palm inspect` and `palm graph`.

use std::time::{Duration, Instant};

use palm::inspect::Cluster;
use palm::socket::Address;

use super::{Failure, cluster_file, inspector, write};
use crate::arguments::{Graph, GraphTarget, Inspect, Output};
use crate::model::{Component, Monitor, Problem};
use crate::render::{dot, graph, json, table};

pub(super) async fn inspect(arguments: Inspect) -> Result<(), Failure> {
    let address = arguments.start.address;
    let monitor = match arguments.all {
        true => walk(&address, arguments.measure.measure).await?,
        false => one(&address, arguments.measure.measure).await?,
    };
    let text = match (arguments.output, arguments.all) {
        (Output::Json, true) => format!("{:#}\n", json::cluster(&monitor)),
        (Output::Table, true) => table::cluster(&monitor),
        (output, false) => {
            let text = |component: &Component| match output {
                Output::Json => format!("{:#}\n", json::component(component)),
                Output::Table => table::component(component),
            };
            monitor.components().map(text).collect()
        }
    };
    Ok(write(text.as_bytes())?)
}

pub(super) async fn graph(arguments: Graph) -> Result<(), Failure> {
    let address = match arguments.target {
        Some(GraphTarget::Address(address)) => address,
        file => {
            let path = match &file {
                Some(GraphTarget::File(path)) => Some(path.as_path()),
                _ => None,
            };
            return Ok(write(cluster_file::graph(path, arguments.dot)?.as_bytes())?);
        }
    };
    let monitor = walk(&address, arguments.measure.measure).await?;
    let text = match arguments.dot {
        true => dot::text(&monitor),
        false => graph::text(&monitor),
    };
    Ok(write(text.as_bytes())?)
}

/// Asks one component, twice if rates are measured.
async fn one(address: &Address, period: Duration) -> Result<Monitor, Failure> {
    let mut inspector = inspector(address);
    let mut monitor = Monitor::default();
    for is_second in [false, true] {
        if is_second && period.is_zero() {
            break;
        }
        if is_second {
            tokio::time::sleep(period).await;
        }
        let mut cluster = Cluster::default();
        let answer = inspector.inspect_first().await;
        cluster.components.insert(address.to_string(), answer);
        monitor.update(cluster, Instant::now());
        check_first(&monitor, address)?;
    }
    Ok(monitor)
}

/// Asks all components, twice if rates are measured.
async fn walk(address: &Address, period: Duration) -> Result<Monitor, Failure> {
    let mut inspector = inspector(address);
    let mut monitor = Monitor::default();
    monitor.update(inspector.inspect().await, Instant::now());
    check_first(&monitor, address)?;
    if !period.is_zero() {
        tokio::time::sleep(period).await;
        monitor.update(inspector.inspect().await, Instant::now());
    }
    Ok(monitor)
}

/// Fails if the component at the address that was passed does not answer.
fn check_first(monitor: &Monitor, address: &Address) -> Result<(), Failure> {
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
