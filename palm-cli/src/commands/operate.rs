//! `palm drain` and `palm configure`.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use palm::inspect::Operator;
use palm::socket::Address;
use serde_json::json;

use super::{Failure, write};
use crate::arguments::{Configure, Output};
use crate::model::messages;
use crate::text;

/// Time after the drain limit within which a component returns its unfinished work and stops.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// Drains the components at these addresses, one after the other.
pub(super) async fn drain(addresses: &[Address]) -> Result<(), Failure> {
    for address in addresses {
        let operator = Operator::connect(address.clone()).await?;
        let begun = Instant::now();
        let draining = operator.drain().await?;
        let mut shown = None;
        let ended = draining.ended(|report| {
            let messages = messages(report);
            if shown.replace(messages) != Some(messages) {
                anstream::eprintln!("{address}: draining, {} messages", text::count(messages));
            }
        });
        let limit = draining.limit() + STOP_TIMEOUT;
        if tokio::time::timeout(limit, ended).await.is_err() {
            let address = address.to_string();
            return Err(Failure::NotDrained { address, limit });
        }
        let took = text::duration(begun.elapsed());
        write(format!("{address}: drained in {took}\n").as_bytes())?;
    }
    Ok(())
}

pub(super) async fn configure(arguments: Configure) -> Result<(), Failure> {
    let operator = Operator::connect(arguments.start.address).await?;
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
