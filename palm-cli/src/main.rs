//! `palm`: runs clusters, looks into running ones, and calls their functions.

use std::process::ExitCode;

use clap::Parser as _;
use palm_cli::arguments::{Arguments, Command};
use palm_cli::commands::{self, Failure};

fn main() -> ExitCode {
    #[cfg(target_os = "linux")]
    if let Some(code) = commands::cluster::hidden(std::env::args_os().skip(1)) {
        return code;
    }
    let arguments = Arguments::parse();
    if let Err(error) = arguments.check() {
        error.exit();
    }
    if std::env::var_os("PALM_LOG").is_some() {
        palm::logging::init();
    }
    // In the main thread, which must not end before the components do.
    #[cfg(target_os = "linux")]
    let arguments = match arguments.command {
        Command::Cluster(command) if command.drained_addresses().is_none() => {
            return exit_code(commands::cluster::run(command));
        }
        command => Arguments { command },
    };
    // The screen exchanges small messages with all components once a second: handing each of them to another thread
    // would cost more than the message.
    let mut runtime = match &arguments.command {
        Command::Top(_) => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    let runtime = match runtime.enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            commands::report(&error);
            return ExitCode::FAILURE;
        }
    };
    let done = runtime.block_on(commands::run(arguments));
    // A thread may be reading standard input, which nothing can interrupt.
    runtime.shutdown_background();
    exit_code(done)
}

fn exit_code(done: Result<(), Failure>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) if failure.is_broken_pipe() => ExitCode::SUCCESS,
        Err(failure) => {
            commands::report(&failure);
            ExitCode::FAILURE
        }
    }
}
