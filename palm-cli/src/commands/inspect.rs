//! `palm inspect` and `palm graph`.

use std::path::Path;
use std::time::{Duration, Instant};

use palm::inspect::Cluster;
use palm::socket::Address;

use super::shown::{Shown, check_first};
use super::{Failure, cluster_file, inspector, write};
use crate::arguments::{Graph, GraphTarget, Inspect, Output};
use crate::model::{Component, Monitor};
use crate::render::{dot, graph, json, table};

pub(super) async fn inspect(arguments: Inspect) -> Result<(), Failure> {
    let period = arguments.measure.measure;
    let text = match &arguments.target.address {
        Some(address) if !arguments.all => {
            let monitor = one(address, period).await?;
            let text = |component: &Component| match arguments.output {
                Output::Json => format!("{:#}\n", json::component(component)),
                Output::Table => table::component(component),
            };
            monitor.components().map(text).collect()
        }
        _ => {
            let monitor = Shown::new(&arguments.target)?.measure(period).await?;
            match arguments.output {
                Output::Json => format!("{:#}\n", json::cluster(&monitor)),
                Output::Table => table::cluster(&monitor),
            }
        }
    };
    Ok(write(text.as_bytes())?)
}

pub(super) async fn graph(arguments: Graph) -> Result<(), Failure> {
    let of_file = |path: Option<&Path>| {
        let text = cluster_file::graph(path, arguments.dot)?;
        Ok(write(text.as_bytes())?)
    };
    let shown = match &arguments.target {
        Some(GraphTarget::Address(address)) => Shown::Component(address.clone()),
        Some(GraphTarget::File(path)) => return of_file(Some(path)),
        None => match Shown::running(&arguments.file)? {
            Some(shown) => shown,
            None => return of_file(arguments.file.file.as_deref()),
        },
    };
    let monitor = shown.measure(arguments.measure.measure).await?;
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
