//! `palm drain` and `palm configure`.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use palm::inspect::{DrainEnd, Operator, OperatorError};
use palm::socket::Address;
use serde_json::json;

use super::{Failure, write};
use crate::arguments::{Configure, DrainedAt, Output};
use crate::model::messages;
use crate::text;

/// Time after the drain limit within which a component returns its unfinished work and stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// Drains the components at these addresses, or workers of the master there, one after the other.
pub(super) async fn drain(addresses: &[Address], at: &DrainedAt) -> Result<(), Failure> {
    for address in addresses {
        if at.workers.is_empty() {
            drain_one(address, None, at.output).await?;
        }
        for worker in &at.workers {
            drain_one(address, Some(worker.as_str()), at.output).await?;
        }
    }
    Ok(())
}

async fn drain_one(address: &Address, worker: Option<&str>, output: Output) -> Result<(), Failure> {
    let operator = operator(address, worker).await?;
    let subject = match worker {
        Some(worker) => format!("{address}: worker {}", text::clean(worker)),
        None => address.to_string(),
    };
    let begun = Instant::now();
    let draining = operator.drain().await?;
    let mut shown = None;
    let ended = draining.ended(|report| {
        let messages = match draining.worker(report) {
            Some(edge) => edge.waiting.messages,
            None => messages(report),
        };
        if shown.replace(messages) != Some(messages) {
            anstream::eprintln!("{subject}: draining, {} messages", text::count(messages));
        }
    });
    let limit = draining.limit() + STOP_TIMEOUT;
    let named = || match worker {
        Some(worker) => format!(
            "worker `{}` of the component at {address}",
            text::clean(worker)
        ),
        None => format!("the component at {address}"),
    };
    match tokio::time::timeout(limit, ended).await {
        Ok(DrainEnd::Lost) => return Err(Failure::LostInDrain { subject: named() }),
        Ok(_) => {}
        Err(_) => {
            return Err(Failure::NotDrained {
                subject: named(),
                address: address.to_string(),
                limit,
            });
        }
    }
    let took = begun.elapsed();
    let text = match output {
        Output::Json => {
            let seconds = took.as_secs_f64();
            let address = address.to_string();
            let drained = json!({ "address": address, "worker": worker, "seconds": seconds });
            format!("{drained}\n")
        }
        Output::Table => format!("{subject}: drained in {}\n", text::duration(took)),
    };
    Ok(write(text.as_bytes())?)
}

pub(super) async fn configure(arguments: Configure) -> Result<(), Failure> {
    let worker = arguments.worker.as_deref();
    let operator = operator(&arguments.start.address, worker).await?;
    let settings = operator.configure(arguments.settings).await?;
    let text = match arguments.output {
        Output::Json => format!("{:#}\n", json!(settings)),
        Output::Table => {
            let mut lines = String::new();
            for (name, value) in settings {
                let _ = writeln!(lines, "{} = {}", text::clean(&name), text::clean(&value));
            }
            lines
        }
    };
    Ok(write(text.as_bytes())?)
}

/// Addresses the component at `address`, or a worker of it.
async fn operator(address: &Address, worker: Option<&str>) -> Result<Operator, OperatorError> {
    let operator = Operator::connect(address.clone()).await?;
    Ok(match worker {
        Some(worker) => operator.worker(worker),
        None => operator,
    })
}
