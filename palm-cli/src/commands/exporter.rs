//! `palm exporter`.

use palm::monitor;

use super::{Failure, inspector};
use crate::arguments::Exporter;

pub(super) async fn exporter(arguments: Exporter) -> Result<(), Failure> {
    let inspector = inspector(&arguments.start.address);
    let exporter = monitor::Exporter::bind(inspector, arguments.listen).await;
    let exporter = exporter.map_err(Failure::Listen)?;
    anstream::eprintln!("serving {}/metrics", exporter.url());
    exporter.serve().await;
    Ok(())
}
