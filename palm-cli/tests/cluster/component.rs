//! The components that this program is.

use std::process::ExitCode;

use palm::prelude::*;

/// Plays the role of a component if the arguments are those of one, and ends. Returns the exit code of a program of
/// `palm::main!`, which the runner starts by `run` and asks for its components by `list`.
pub(crate) fn run() -> Option<ExitCode> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let runtime = || tokio::runtime::Runtime::new().unwrap();
    let ended = match arguments[..] {
        ["master", db] => runtime().block_on(Master::new("numbers").bind(db).start()),
        ["worker", db, name] => runtime().block_on(Numbers.connect(db).name(name).start()),
        ["run", ..] | ["list", ..] => return Some(program::run()),
        _ => return None,
    };
    if let Err(error) = ended {
        eprintln!("{error}");
        std::process::exit(1);
    }
    std::process::exit(0);
}

mod program {
    palm::main!();

    pub(super) fn run() -> std::process::ExitCode {
        main()
    }
}

/// A worker.
#[derive(Debug, Default)]
pub(crate) struct Numbers;

#[palm::worker(server = "numbers")]
impl Numbers {
    #[palm::method]
    fn double(&self, number: String) -> String {
        let number: u64 = number.parse().unwrap();
        (2 * number).to_string()
    }
}
