//! `palm inspect` and `palm graph`.

use std::path::Path;
use std::time::{Duration, Instant};

use palm::inspect::Cluster;
use palm::socket::Address;

use super::shown::{Shown, check_first};
use super::{Failure, cluster_file, inspector, report_text, write};
use crate::arguments::{Graph, GraphTarget, Inspect, Output};
use crate::model::{Component, Monitor, Problem};
use crate::render::{dot, graph, json, svg, table};

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
            warn_of_end(&monitor, arguments.target.address.as_ref());
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
        if arguments.svg {
            return Err(Failure::SvgOfFile);
        }
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
    let first = match &shown {
        Shown::Component(address) => Some(address.clone()),
        #[cfg(target_os = "linux")]
        Shown::File(_) => None,
    };
    let monitor = shown.measure(arguments.measure.measure).await?;
    warn_of_end(&monitor, first.as_ref());
    let text = match (arguments.dot, arguments.svg) {
        (true, _) => dot::text(&monitor),
        (_, true) => svg::text(&monitor),
        _ => graph::text(&monitor),
    };
    Ok(write(text.as_bytes())?)
}

/// Writes a remark if the walk ends at its first component, because that one does not report its peers.
fn warn_of_end(monitor: &Monitor, first: Option<&Address>) {
    let first = first.and_then(|address| monitor.component(&address.to_string()));
    if let Some(Problem::NoReport { .. }) = first.and_then(|it| it.problem.as_ref()) {
        report_text("it does not say which components it is connected to: begin at another one");
    }
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
