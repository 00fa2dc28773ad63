//! Programs that start themselves (`palm::main!`): the example `programs` as a child process.

mod commands;
#[cfg(unix)]
mod running;
#[cfg(unix)]
mod wired;

use std::process::Command;

use palm::Client;

use super::examples;
use super::process::{Ended, Process};
use super::setup::{SOON, soon};

/// Returns the command that runs the program with these arguments, without variables of palm in its environment.
fn program(arguments: &[&str]) -> Command {
    let mut command = examples::command("programs");
    command.args(arguments);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PALM_") {
            command.env_remove(name);
        }
    }
    command.env_remove("NOTIFY_SOCKET");
    command
}

/// Runs a command to its end.
async fn ended(command: Command) -> Ended {
    Process::spawn("programs", command).output(SOON).await
}

/// Calls functions of the component at `db_address`, and returns the answer.
#[cfg(unix)]
async fn call(db_address: &str, steps: &[&str], argument: &str) -> String {
    let (server, _) = steps[0].split_once('.').unwrap();
    let client = Client::connect(server, db_address).await.unwrap();
    let steps = steps.to_vec();
    let answer = soon("an answer", client.eval(steps, argument))
        .await
        .unwrap();
    String::from_utf8(answer.to_vec()).unwrap()
}
