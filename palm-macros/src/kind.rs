//! [`Kind`]: the component attributes, and everything in which they differ.

use crate::helper::Helper;
use crate::options::{self, Accepted};

/// Which attribute it is.
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

    /// How the attribute is written.
    pub(crate) fn usage(self) -> String {
        let attribute = self.attribute();
        if self.is_worker() {
            format!("#[palm::{attribute}(server = \"...\")]")
        } else {
            format!("#[palm::{attribute}(name = \"...\")]")
        }
    }

    /// What such a component is called in a sentence.
    pub(crate) fn noun(self) -> &'static str {
        match self {
            Self::MuxWorker => "mux worker",
            Self::HttpWorker => "HTTP worker",
            _ => self.attribute(),
        }
    }

    /// Its variant of the runtime's `ComponentKind`.
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

    /// The trait by which it is used, and the builder that the trait leads to, if it is one that does.
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

    pub(crate) fn options(self) -> &'static [Accepted] {
        if self.is_worker() {
            &[options::SERVER, options::CRATE]
        } else {
            &[options::NAME, options::CRATE]
        }
    }

    /// Whether its name is its master's.
    pub(crate) fn is_worker(self) -> bool {
        matches!(self, Self::Worker | Self::MuxWorker | Self::HttpWorker)
    }

    /// Whether it has functions, rather than only hooks.
    pub(crate) fn is_callable(self) -> bool {
        !matches!(self, Self::Master | Self::Hub)
    }

    /// Why `helper` has no place in such a component, if it has none.
    pub(crate) fn refuses(self, helper: Helper) -> Option<String> {
        let noun = self.noun();
        match helper {
            Helper::Method if !self.is_callable() => Some(format!(
                "a {noun} has no methods that can be called: `#[palm::method]` belongs under {}; \
                 a {noun} has `#[palm::scatter]`, `#[palm::gather]` and `#[palm::handle_stream]`",
                helper.place()
            )),
            Helper::Scatter | Helper::Gather if self.is_callable() => Some(format!(
                "a {noun} does not {}: `#[palm::{0}]` belongs under {}; for many results of one \
                 message, let a `#[palm::method]` return an iterator or a stream",
                helper.name(),
                helper.place()
            )),
            Helper::HandleStream if self.is_worker() => Some(format!(
                "a {noun} answers its master, which does the publishing: put \
                 `#[palm::handle_stream]` under the `#[palm::master]` or `#[palm::hub]`"
            )),
            _ => None,
        }
    }
}
