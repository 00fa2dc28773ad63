//! The command line of all examples, and the output of their clients.
//!
//! The examples have a `main` of their own, because each also runs its whole scenario in one process, its client
//! included, at the ports of pylm's documentation, where pylm can take the place of any role. `palm init` writes the
//! same scenarios as programs of `palm::main!`.

use std::fmt::Write as _;

use clap::builder::EnumValueParser;
use clap::{Arg, Command, ValueEnum, value_parser};
use tokio::task::JoinSet;

/// The ports of an example: those of pylm's documentation, shifted by an offset.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ports {
    offset: u16,
}

impl Ports {
    /// Returns the ZeroMQ address of the documented port `port`.
    #[allow(dead_code, reason = "one role of one example has no such address")]
    pub(crate) fn at(self, port: u16) -> String {
        format!("tcp://{}", self.host(port))
    }

    /// Returns host and port, for HTTP.
    pub(crate) fn host(self, port: u16) -> String {
        format!("127.0.0.1:{}", port + self.offset)
    }
}

/// Runs the role that the command line names, or all roles in this process.
///
/// `component` runs one role. The last role is the client: the example ends with it, and the others run
/// until then.
pub(crate) async fn run<R, F, E>(
    about: &'static str,
    component: impl Fn(R, Ports) -> F,
) -> Result<(), E>
where
    R: ValueEnum + Copy + Send + Sync + 'static,
    F: Future<Output = Result<(), E>> + Send + 'static,
    E: Send + 'static,
{
    let role = Arg::new("role")
        .help("The component to run; without it, the whole scenario runs in this process")
        .value_parser(EnumValueParser::<R>::new());
    let offset = Arg::new("port-offset")
        .long("port-offset")
        .value_name("N")
        .help("Shifts every port by N")
        .value_parser(value_parser!(u16).range(..=59_000))
        .default_value("0");
    let arguments = Command::new(env!("CARGO_BIN_NAME"))
        .about(about)
        .args([role, offset])
        .get_matches();
    let offset = *arguments
        .get_one("port-offset")
        .expect("the option has a default");
    let ports = Ports { offset };
    palm::logging::init();

    if let Some(&role) = arguments.get_one::<R>("role") {
        return component(role, ports).await;
    }
    let [servers @ .., client] = R::value_variants() else {
        return Ok(());
    };
    let mut running: JoinSet<_> = servers.iter().map(|&role| component(role, ports)).collect();
    tokio::select! {
        done = component(*client, ports) => done,
        Some(ended) = running.join_next() => ended.expect("a component does not panic"),
    }
}

/// Formats bytes as Python does, so that the output is that of pylm's client.
#[allow(dead_code, reason = "not every example prints answers")]
pub(crate) fn python(bytes: &[u8]) -> String {
    let has_single_only = bytes.contains(&b'\'') && !bytes.contains(&b'"');
    let quote = if has_single_only { '"' } else { '\'' };
    let mut text = format!("b{quote}");
    for &byte in bytes {
        match byte {
            b'\n' => text.push_str("\\n"),
            b'\r' => text.push_str("\\r"),
            b'\t' => text.push_str("\\t"),
            b'\\' => text.push_str("\\\\"),
            b'\'' if quote == '\'' => text.push_str("\\'"),
            0x20..0x7f => text.push(byte.into()),
            _ => write!(text, "\\x{byte:02x}").expect("writing to a String does not fail"),
        }
    }
    text.push(quote);
    text
}
