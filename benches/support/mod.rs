//! What the benchmarks share: components as processes of their own.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

/// An address on a port that the system picks.
pub(crate) const ANY: &str = "tcp://127.0.0.1:0";

/// A component as a process, killed with this one.
pub(crate) struct Process {
    child: Child,
    /// The words of the line that it printed first.
    says: Vec<String>,
}

impl Process {
    /// This program with other arguments.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let program = std::env::current_exe().expect("this program has a path");
        let mut command = Command::new(program);
        command.args(arguments);
        Self::spawn(command)
    }

    /// Any program; waits for its first line.
    pub(crate) fn spawn(mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the process starts");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("stdout is piped");
        BufReader::new(stdout)
            .read_line(&mut line)
            .expect("the process says something");
        let says = line.split_whitespace().map(str::to_owned).collect();
        Self { child, says }
    }

    /// Word number `number` of what it printed, usually an address.
    pub(crate) fn address(&self, number: usize) -> &str {
        &self.says[number]
    }

    /// Its number.
    #[allow(dead_code, reason = "not every benchmark asks")]
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Process {
    /// Lets it end by itself, which it does when nobody holds the other end of its stdin.
    #[allow(dead_code, reason = "not every benchmark does")]
    pub(crate) async fn release(mut self) {
        drop(self.child.stdin.take());
        let child = tokio::task::spawn_blocking(move || {
            let _ = self.child.wait();
        });
        child.await.expect("it ends");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Ends with the process that started this one, which holds the other end of stdin.
pub(crate) async fn until_orphaned() {
    let wait = || std::io::stdin().read_line(&mut String::new());
    let _ = tokio::task::spawn_blocking(wait).await;
}
