//! The kinds of components that a program starts, each of which is a command.

use std::fmt;
use std::str::FromStr;

use palm_plan::Kind;

use crate::component_kind::ComponentKind;

/// A kind of component that a program starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ProgramKind {
    /// A kind of the file of a cluster.
    Cluster(Kind),
    /// A worker that its master reaches by HTTP. The file of a cluster has no such kind, since the master connects to a
    /// URL, and not to a component.
    HttpWorker,
}

impl ProgramKind {
    pub(super) const WORKER: Self = Self::Cluster(Kind::Worker);
    pub(super) const HUB: Self = Self::Cluster(Kind::Hub);

    /// All kinds, in the order of the help.
    pub(super) const ALL: [Self; 7] = [
        Self::Cluster(Kind::Server),
        Self::Cluster(Kind::Master),
        Self::HUB,
        Self::WORKER,
        Self::Cluster(Kind::Pipeline),
        Self::Cluster(Kind::Sink),
        Self::HttpWorker,
    ];

    /// Returns the name of the command.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::HttpWorker => "http_worker",
            Self::Cluster(kind) => kind.name(),
        }
    }

    /// Returns whether it distributes tasks to workers.
    pub(super) fn has_workers(self) -> bool {
        matches!(self, Self::Cluster(kind) if kind.has_workers())
    }

    /// Returns an address that such a component may have, and the flag that sets it.
    pub(super) fn example_address(self) -> &'static str {
        match self {
            Self::HttpWorker => "--bind 127.0.0.1:8888",
            Self::WORKER => "--connect tcp://127.0.0.1:5559",
            Self::Cluster(_) => "--bind tcp://127.0.0.1:5559",
        }
    }
}

impl From<ComponentKind> for ProgramKind {
    fn from(kind: ComponentKind) -> Self {
        Self::Cluster(match kind {
            ComponentKind::Server => Kind::Server,
            ComponentKind::Master => Kind::Master,
            ComponentKind::Hub => Kind::Hub,
            ComponentKind::Worker | ComponentKind::MuxWorker => Kind::Worker,
            ComponentKind::Pipeline => Kind::Pipeline,
            ComponentKind::Sink => Kind::Sink,
            ComponentKind::HttpWorker => return Self::HttpWorker,
        })
    }
}

impl fmt::Display for ProgramKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

/// A text is not the name of a [`ProgramKind`].
#[derive(Debug)]
pub(super) struct NotAKind;

impl FromStr for ProgramKind {
    type Err = NotAKind;

    fn from_str(text: &str) -> Result<Self, NotAKind> {
        let mut all = Self::ALL.into_iter();
        all.find(|kind| kind.name() == text).ok_or(NotAKind)
    }
}
