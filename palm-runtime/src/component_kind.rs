//! The kinds of components.

/// A kind of component.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ComponentKind {
    /// Answers calls.
    Server,
    /// A step downstream of a server, master, hub or pipeline.
    Pipeline,
    /// A step that follows several streams.
    Sink,
    /// Distributes calls to workers.
    Master,
    /// A step that distributes its messages to workers.
    Hub,
    /// Runs the tasks of a master or hub.
    Worker,
    /// A worker whose functions have several results.
    MuxWorker,
    /// Runs the tasks of a master over HTTP.
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
