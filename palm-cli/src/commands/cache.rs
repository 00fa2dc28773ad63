//! `palm cache`.

use std::io::{self, Write as _};

use palm::inspect::{self, Answer};
use palm::{Bytes, Change, Client};
use serde_json::Value;

use super::call::{connect, payload};
use super::{Failure, shown, write};
use crate::arguments::{Cache, CacheCommand, Output, Peer};
use crate::render::json;
use crate::text::clean;

pub(super) async fn cache(arguments: Cache) -> Result<(), Failure> {
    let address = shown::address(&arguments.peer, None)?;
    let name = match inspect::inspect(address.clone()).await {
        Ok(Answer::Report(report)) => report.name,
        Ok(Answer::NoReport { name, .. }) => name,
        Ok(Answer::Unreachable(reason)) => {
            return Err(Failure::Unreachable {
                address: address.to_string(),
                reason,
            });
        }
        _ => String::new(),
    };
    let peer = Peer {
        address: Some(address),
        ..arguments.peer
    };
    let client = connect(&peer, &name).await?;
    let done = tokio::select! {
        done = run(&client, arguments.command) => done,
        // The reader of a watch ends it.
        signal = tokio::signal::ctrl_c() => signal.map_err(Into::into),
    };
    client.close().await;
    done
}

async fn run(client: &Client, command: CacheCommand) -> Result<(), Failure> {
    match command {
        CacheCommand::Get { key, output } => match (client.get(&key).await?, output) {
            (Some(value), Output::Table) => Ok(write(&value)?),
            (Some(value), Output::Json) => {
                let mut object = json::payload(&value);
                object.insert("key".to_owned(), key.into());
                Ok(write(format!("{}\n", Value::Object(object)).as_bytes())?)
            }
            (None, _) => Err(Failure::NoKey(key)),
        },
        CacheCommand::Set { key, value, ttl } => {
            let value = payload(value).await?;
            match ttl {
                Some(ttl) => client.set_for(&key, value, ttl).await?,
                None => client.set(&key, value).await?,
            }
            Ok(())
        }
        CacheCommand::Delete { key } => Ok(client.delete(&key).await?),
        CacheCommand::Scan { prefix, output } => {
            let mut entries = client.scan(&prefix);
            while let Some(entry) = entries.next().await {
                let entry = entry?;
                line(output, "set", &entry.key, Some(&entry.value))?;
            }
            Ok(())
        }
        CacheCommand::Watch { prefix, output } => {
            let mut changes = client.watch(&prefix).await?;
            while let Some(change) = changes.next().await {
                match change? {
                    Change::Set { key, value } => line(output, "set", &key, Some(&value))?,
                    Change::Removed { key } => line(output, "removed", &key, None)?,
                    Change::Lagged => line(output, "lagged", "", None)?,
                    change => line(output, "changed", change.key().unwrap_or_default(), None)?,
                }
            }
            Ok(())
        }
    }
}

/// Writes an entry or a change as a line.
fn line(output: Output, event: &str, key: &str, value: Option<&Bytes>) -> io::Result<()> {
    let text = match output {
        Output::Json => object(event, key, value).to_string(),
        Output::Table => {
            let value = value.map(|value| String::from_utf8_lossy(value));
            match (event, value) {
                ("set", value) => format!("{}\t{}", clean(key), clean(&value.unwrap_or_default())),
                (event, _) => format!("{}\t({event})", clean(key)),
            }
        }
    };
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()
}

fn object(event: &str, key: &str, value: Option<&Bytes>) -> Value {
    let mut object = value.map(|value| json::payload(value)).unwrap_or_default();
    object.insert("event".to_owned(), event.into());
    object.insert("key".to_owned(), key.into());
    Value::Object(object)
}
