//! The kinds of components.

/// A kind of component.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ComponentKind {
    /// Answers calls.
    Server,
    /// A step behind a server, master, hub or other pipeline.
    Pipeline,
    /// A step that gathers several streams.
    Sink,
    /// Spreads calls over workers.
    Master,
    /// A step that spreads its messages over workers.
    Hub,
    /// Does a master's or hub's work.
    Worker,
    /// A worker whose functions give many results.
    MuxWorker,
    /// Does a master's work, over HTTP.
    HttpWorker,
}

impl std::fmt::Display for ComponentKind {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Server => "server",
            Self::Pipeline => "pipeline",
            Self::Sink => "sink",
            Self::Master => "master",
            Self::Hub => "hub",
            Self::Worker => "worker",
            Self::MuxWorker => "mux_worker",
            Self::HttpWorker => "http_worker",
        })
    }
}
