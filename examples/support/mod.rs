//! What all examples share: the command line, and how the client prints what it got.

use std::fmt::Write as _;

use clap::builder::PossibleValuesParser;
use clap::{Arg, Command, value_parser};
use palm::Result;

/// Where an example's components are: on the ports of the documentation, each shifted.
#[derive(Debug, Clone, Copy)]
pub struct Ports {
    offset: u16,
}

impl Ports {
    /// The address on the documented port `port`.
    pub fn at(self, port: u16) -> String {
        format!("tcp://127.0.0.1:{}", port + self.offset)
    }
}

/// Runs one role of the example, or all of them in this process, the client last.
///
/// `run` runs a role: the client until it has its answers, the others for ever.
pub async fn run<F>(
    example: &'static str,
    about: &'static str,
    roles: &'static [&'static str],
    run: impl Fn(&'static str, Ports) -> F,
) -> Result<()>
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let role = Arg::new("role")
        .help("The component to run; without it the whole scenario runs in this process")
        .value_parser(PossibleValuesParser::new(roles));
    let offset = Arg::new("port-offset")
        .long("port-offset")
        .value_name("N")
        .help("Shifts every port by N")
        .value_parser(value_parser!(u16).range(..=59_000))
        .default_value("0");
    let command = Command::new(example).about(about).arg(role).arg(offset);
    let arguments = command.get_matches();
    let offset = arguments.get_one::<u16>("port-offset");
    let ports = Ports {
        offset: offset.copied().unwrap_or_default(),
    };
    palm::logging::init();

    let role = arguments.get_one::<String>("role");
    if let Some(role) = roles.iter().find(|known| Some(**known) == role.map(String::as_str)) {
        return run(role, ports).await;
    }
    let mut components = tokio::task::JoinSet::new();
    for role in roles.iter().filter(|role| **role != "client") {
        components.spawn(run(role, ports));
    }
    tokio::select! {
        done = run("client", ports) => done,
        Some(ended) = components.join_next() => ended.expect("a component does not panic"),
    }
}

/// Bytes as Python prints them, so that the lines are those of pylm's client.
pub fn python(bytes: &[u8]) -> String {
    let quote = if bytes.contains(&b'\'') && !bytes.contains(&b'"') { '"' } else { '\'' };
    let mut text = format!("b{quote}");
    for &byte in bytes {
        match byte {
            b'\n' => text.push_str("\\n"),
            b'\r' => text.push_str("\\r"),
            b'\t' => text.push_str("\\t"),
            b'\\' => text.push_str("\\\\"),
            b'\'' if quote == '\'' => text.push_str("\\'"),
            0x20..0x7f => text.push(byte.into()),
            _ => write!(text, "\\x{byte:02x}").expect("a String takes all"),
        }
    }
    text.push(quote);
    text
}
