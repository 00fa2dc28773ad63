//! `palm`: looks into running clusters, and calls their functions.

use std::process::ExitCode;

use clap::Parser as _;
use palm_cli::arguments::Arguments;
use palm_cli::commands;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if std::env::var_os("PALM_LOG").is_some() {
        palm::logging::init();
    }
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            commands::report(&error);
            return ExitCode::FAILURE;
        }
    };
    let done = runtime.block_on(commands::run(arguments));
    // A thread may be reading standard input, which nothing can interrupt.
    runtime.shutdown_background();
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) if failure.is_broken_pipe() => ExitCode::SUCCESS,
        Err(failure) => {
            commands::report(&failure);
            ExitCode::FAILURE
        }
    }
}
