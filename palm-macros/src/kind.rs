//! [`Kind`]: the component attributes and their differences.

use crate::helper::Helper;
use crate::options::{self, OptionSpec};

/// A component attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Server,
    Pipeline,
    Sink,
    Worker,
    MuxWorker,
    HttpWorker,
    Master,
    Hub,
}

impl Kind {
    /// The attribute's name.
    pub(crate) fn attribute(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Pipeline => "pipeline",
            Self::Sink => "sink",
            Self::Worker => "worker",
            Self::MuxWorker => "mux_worker",
            Self::HttpWorker => "http_worker",
            Self::Master => "master",
            Self::Hub => "hub",
        }
    }

    /// An example of the attribute.
    pub(crate) fn usage(self) -> String {
        let attribute = self.attribute();
        if self.is_worker() {
            format!("#[palm::{attribute}(server = \"...\")]")
        } else {
            format!("#[palm::{attribute}(name = \"...\")]")
        }
    }

    /// The kind of component in a sentence.
    pub(crate) fn noun(self) -> &'static str {
        match self {
            Self::MuxWorker => "mux worker",
            Self::HttpWorker => "HTTP worker",
            _ => self.attribute(),
        }
    }

    /// The variant of the runtime's `ComponentKind`.
    pub(crate) fn variant(self) -> &'static str {
        match self {
            Self::Server => "Server",
            Self::Pipeline => "Pipeline",
            Self::Sink => "Sink",
            Self::Worker => "Worker",
            Self::MuxWorker => "MuxWorker",
            Self::HttpWorker => "HttpWorker",
            Self::Master => "Master",
            Self::Hub => "Hub",
        }
    }

    /// The trait that starts such a component, and the builder that the trait returns, if it returns one.
    pub(crate) fn builder(self) -> (&'static str, Option<&'static str>) {
        match self {
            Self::Server => ("Bind", Some("ServerBuilder")),
            Self::Pipeline => ("Bind", Some("PipelineBuilder")),
            Self::Sink => ("Bind", Some("SinkBuilder")),
            Self::Master => ("Bind", Some("MasterBuilder")),
            Self::Hub => ("Bind", Some("HubBuilder")),
            Self::Worker | Self::MuxWorker => ("Connect", Some("WorkerBuilder")),
            Self::HttpWorker => ("IntoHttpWorker", None),
        }
    }

    /// The builder by which a program of `palm::main!` starts such a component.
    pub(crate) fn program_builder(self) -> &'static str {
        self.builder().1.unwrap_or("HttpWorkerBuilder")
    }

    /// The options of the attribute.
    pub(crate) fn options(self) -> &'static [OptionSpec] {
        if self.is_worker() {
            &[options::SERVER, options::CRATE]
        } else {
            &[options::NAME, options::CRATE]
        }
    }

    /// Whether its functions are named after its master.
    pub(crate) fn is_worker(self) -> bool {
        matches!(self, Self::Worker | Self::MuxWorker | Self::HttpWorker)
    }

    /// Whether it has methods that can be called; otherwise it has only hooks.
    pub(crate) fn is_callable(self) -> bool {
        !matches!(self, Self::Master | Self::Hub)
    }

    /// Returns why such a component cannot have `helper`, if it cannot.
    pub(crate) fn rejects(self, helper: Helper) -> Option<String> {
        let noun = self.noun();
        let name = helper.name();
        let parents = helper.parents();
        match helper {
            Helper::Method if !self.is_callable() => Some(format!(
                "a {noun} has no callable methods: `#[palm::method]` belongs under {parents}; a {noun} \
                 has `#[palm::scatter]`, `#[palm::gather]` and `#[palm::handle_stream]`"
            )),
            Helper::Scatter | Helper::Gather if self.is_callable() => Some(format!(
                "a {noun} has no `#[palm::{name}]`, which belongs under {parents}; to answer a message with \
                 many results, return an iterator or a stream from a `#[palm::method]`"
            )),
            Helper::HandleStream if self.is_worker() => Some(format!(
                "a {noun} returns its results to its master, which publishes them: put \
                 `#[palm::handle_stream]` under the `#[palm::master]` or `#[palm::hub]`"
            )),
            _ => None,
        }
    }
}
