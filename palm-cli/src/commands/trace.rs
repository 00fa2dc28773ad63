//! `palm trace`.

use palm::inspect::{Answer, Cluster};

use super::{Failure, inspector, write};
use crate::arguments::{Output, Trace};
use crate::model::path;
use crate::render::trace;
use crate::text::clean;

pub(super) async fn trace(arguments: Trace) -> Result<(), Failure> {
    let address = arguments.start.address;
    let prefix = arguments.call.as_deref().unwrap_or_default();
    let mut inspector = inspector(&address).recent_calls(prefix);
    let cluster = inspector.inspect().await;
    if let Some(Answer::Unreachable(reason)) = cluster.components.get(&address.to_string()) {
        return Err(Failure::Unreachable {
            reason: reason.clone(),
            address: address.to_string(),
        });
    }
    let steps = path::steps(&cluster);
    warn_of_silent(&cluster);
    if steps.is_empty() {
        return Err(match arguments.call {
            Some(call) => Failure::NoCall(call),
            None => Failure::NoCalls,
        });
    }
    let text = match (arguments.output, arguments.call) {
        (Output::Json, _) => format!("{:#}\n", trace::json(&steps)),
        (Output::Table, Some(_)) => trace::path(&steps),
        (Output::Table, None) => trace::calls(&path::calls(&steps)),
    };
    Ok(write(text.as_bytes())?)
}

/// Writes a line to standard error for each component that is missing in the path.
fn warn_of_silent(cluster: &Cluster) {
    for (component, reason) in path::silent(cluster) {
        super::report_text(&format!("{}: {}", clean(&component), clean(&reason)));
    }
    if cluster.is_incomplete {
        super::report_text("there are further components, which were not asked in time");
    }
}
