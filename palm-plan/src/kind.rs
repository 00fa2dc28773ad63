//! The kinds of components.

use std::fmt;
use std::str::FromStr;

/// A kind of component, as `kind = ".."` in the file of a cluster and in what a process is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(
    feature = "wiring",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "lowercase")
)]
#[non_exhaustive]
pub enum Kind {
    /// Answers calls.
    Server,
    /// Distributes calls to workers.
    Master,
    /// A step that distributes its messages to workers.
    Hub,
    /// Runs the tasks of a master or hub.
    Worker,
    /// A step downstream of a server, master, hub or pipeline.
    Pipeline,
    /// A step that follows several streams.
    Sink,
    /// Serves clients of another protocol, and calls components for them.
    Gateway,
    /// A client that runs to its end.
    Job,
    /// A program that is not part of the graph, such as a database.
    Process,
}

impl Kind {
    /// All kinds, in the order of the documentation.
    pub const ALL: [Self; 9] = [
        Self::Server,
        Self::Master,
        Self::Hub,
        Self::Worker,
        Self::Pipeline,
        Self::Sink,
        Self::Gateway,
        Self::Job,
        Self::Process,
    ];

    /// Returns the name, as in the file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Master => "master",
            Self::Hub => "hub",
            Self::Worker => "worker",
            Self::Pipeline => "pipeline",
            Self::Sink => "sink",
            Self::Gateway => "gateway",
            Self::Job => "job",
            Self::Process => "process",
        }
    }

    /// Returns whether clients call it.
    pub fn is_entry_point(self) -> bool {
        matches!(self, Self::Server | Self::Master)
    }

    /// Returns whether it distributes tasks to workers.
    pub fn has_workers(self) -> bool {
        matches!(self, Self::Master | Self::Hub)
    }

    /// Returns whether it follows another component, and continues its stream.
    pub fn is_step(self) -> bool {
        matches!(self, Self::Pipeline | Self::Hub | Self::Sink)
    }

    /// Returns whether it binds the addresses of a palm component, at least a `db_address`. It publishes then, so that
    /// steps can follow it, and it cannot have replicas.
    pub fn binds(self) -> bool {
        self.is_entry_point() || self.is_step()
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

/// A text is not the name of a [`Kind`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownKind(
    /// The text.
    pub String,
);

impl fmt::Display for UnknownKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = Kind::ALL.map(Kind::name).join(", ");
        write!(formatter, "unknown kind `{}`; there are {names}", self.0)
    }
}

impl std::error::Error for UnknownKind {}

impl FromStr for Kind {
    type Err = UnknownKind;

    fn from_str(text: &str) -> Result<Self, UnknownKind> {
        let mut all = Self::ALL.into_iter();
        all.find(|kind| kind.name() == text)
            .ok_or_else(|| UnknownKind(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(feature = "wiring")]
    fn names_are_those_of_serde() {
        for kind in Kind::ALL {
            let text = serde_json::to_string(&kind).unwrap();
            assert_eq!(text, format!("\"{kind}\""));
        }
    }

    #[test]
    fn names_are_parsed() {
        for kind in Kind::ALL {
            assert_eq!(kind.name().parse(), Ok(kind));
        }
        let error = "wroker".parse::<Kind>().unwrap_err().to_string();
        assert!(error.starts_with("unknown kind `wroker`; there are server, master, hub"));
    }
}
