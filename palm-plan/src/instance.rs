//! A process that should run, with everything that its supervision needs.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::kind::Kind;

/// Identifies an instance within a cluster. It is displayed and parsed as `worker/2`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct InstanceId {
    /// The key of the component in the file.
    pub component: String,
    /// The number of the replica, from 0.
    pub index: u32,
}

impl fmt::Display for InstanceId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&format!("{}/{}", self.component, self.index))
    }
}

impl From<InstanceId> for String {
    fn from(id: InstanceId) -> Self {
        id.to_string()
    }
}

/// A text is not of the form `COMPONENT/INDEX`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidInstanceId(
    /// The text.
    pub String,
);

impl fmt::Display for InvalidInstanceId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "`{}` is not an instance: write COMPONENT/INDEX, such as `worker/2`",
            self.0
        )
    }
}

impl std::error::Error for InvalidInstanceId {}

impl FromStr for InstanceId {
    type Err = InvalidInstanceId;

    fn from_str(text: &str) -> Result<Self, InvalidInstanceId> {
        let invalid = || InvalidInstanceId(text.to_owned());
        let (component, index) = text.split_once('/').ok_or_else(invalid)?;
        let is_number = index.bytes().all(|digit| digit.is_ascii_digit());
        match index.parse() {
            Ok(index) if is_number && !component.is_empty() => Ok(Self {
                component: component.to_owned(),
                index,
            }),
            _ => Err(invalid()),
        }
    }
}

impl TryFrom<String> for InstanceId {
    type Error = InvalidInstanceId;

    fn try_from(text: String) -> Result<Self, InvalidInstanceId> {
        text.parse()
    }
}

/// One process that should run.
///
/// The runner adds `PALM_CLUSTER`, `PALM_INSTANCE`, `PALM_RUN` and `NOTIFY_SOCKET` to the environment, and the values
/// of [`secrets`](Self::secrets), which it reads when it starts the process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// The key of the component in the file.
    pub component: String,
    /// The number of the replica, from 0.
    pub index: u32,
    /// The kind of the component.
    pub kind: Kind,
    /// The executable: a path, or a name without a slash, which is searched for in `PATH`.
    pub command: PathBuf,
    /// The arguments of the executable.
    pub args: Vec<String>,
    /// The environment besides that of the runner, with `PALM_WIRING` for a program of palm.
    pub env: BTreeMap<String, String>,
    /// Variables of the environment whose values are not part of the file, and are not stored or shown.
    pub secrets: BTreeMap<String, Secret>,
    /// The working directory of the process.
    pub working_dir: PathBuf,
    /// What makes the instance ready.
    pub readiness: Readiness,
    /// The time within which a started instance has to become ready, unless it is a job.
    pub ready_timeout: Duration,
    /// What happens after an exit.
    pub restart: Restart,
    /// The time between SIGTERM and SIGKILL, which ends the whole process group.
    pub drain: Duration,
    /// The keys of the components that have to be ready before it starts.
    pub after: Vec<String>,
    /// Instances with a lower number are stopped first: entry points, then workers, then the steps downstream.
    pub stop_order: u32,
}

/// Where the value of a secret variable is read from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Secret {
    /// The content of a file, without a line break at its end.
    File(PathBuf),
    /// A variable of the runner's environment.
    Env(String),
}

/// What makes an instance ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Readiness {
    /// `READY=1` on its `NOTIFY_SOCKET`.
    Notify,
    /// This address, `ipc://..` or `tcp://..`, accepts connections.
    Address(String),
    /// The process runs.
    Running,
    /// The process has ended with status 0: the instance is a job.
    Exit,
}

/// What happens after an exit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restart {
    /// After which exits the instance is started again.
    pub policy: RestartPolicy,
    /// The delay before the first restart and the longest one. It doubles with each restart.
    pub backoff: RangeInclusive<Duration>,
    /// The number of restarts in a row after which the instance has failed. `None`: unlimited.
    pub max: Option<u32>,
    /// The time that an instance has to be ready until its restarts are counted from 0 again.
    pub reset_after: Duration,
}

impl Default for Restart {
    /// Always, after 1 s to 1 min, without a limit, counted from 0 after 1 min.
    fn default() -> Self {
        Self {
            policy: RestartPolicy::Always,
            backoff: Duration::from_secs(1)..=Duration::from_secs(60),
            max: None,
            reset_after: Duration::from_secs(60),
        }
    }
}

/// After which exits an instance is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum RestartPolicy {
    /// After each exit.
    Always,
    /// After an exit with another status than 0, or by a signal.
    OnFailure,
    /// After none.
    Never,
}

impl Instance {
    /// Returns the key of the component and the number of the replica.
    pub fn id(&self) -> InstanceId {
        InstanceId {
            component: self.component.clone(),
            index: self.index,
        }
    }

    /// Returns a number that is equal for two descriptions of one process: one that differs needs a restart.
    ///
    /// It covers what the process is started with: kind, command, arguments, environment, references to secrets and
    /// working directory. Settings of the supervision can be replaced while the process runs.
    pub fn fingerprint(&self) -> u64 {
        let started_with = (
            self.kind,
            &self.command,
            &self.args,
            &self.env,
            &self.secrets,
            &self.working_dir,
        );
        let text = serde_json::to_vec(&started_with).unwrap_or_else(|_| {
            // A path that is not UTF-8 has no representation in JSON.
            format!("{started_with:?}").into_bytes()
        });
        xxh3_64(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_parsed_as_they_are_displayed() {
        let id: InstanceId = "worker/12".parse().unwrap();
        assert_eq!((id.component.as_str(), id.index), ("worker", 12));
        assert_eq!(id.to_string(), "worker/12");
        for text in [
            "worker",
            "worker/",
            "/1",
            "worker/-1",
            "worker/+1",
            "worker/x",
            "a/1/2",
            "worker/4294967296",
        ] {
            assert!(text.parse::<InstanceId>().is_err(), "{text}");
        }
        let error = "worker".parse::<InstanceId>().unwrap_err().to_string();
        assert_eq!(
            error,
            "`worker` is not an instance: write COMPONENT/INDEX, such as `worker/2`"
        );
    }
}
