//! Clusters of palm components that `palm up` runs, under load. This program is the tests and the components.

#![allow(missing_docs, clippy::print_stdout, clippy::unwrap_used)]
#![cfg_attr(not(target_os = "linux"), allow(unused))]

#[cfg(target_os = "linux")]
mod commands;
#[cfg(target_os = "linux")]
mod component;
#[cfg(target_os = "linux")]
mod load;
#[cfg(target_os = "linux")]
mod setup;
#[cfg(target_os = "linux")]
mod watch;

fn main() -> std::process::ExitCode {
    #[cfg(target_os = "linux")]
    {
        if let Some(code) = component::run() {
            return code;
        }
        let mut arguments = libtest_mimic::Arguments::from_args();
        // Each test is a cluster with load of its own.
        arguments.test_threads.get_or_insert(2);
        let tests = [commands::tests(), load::tests(), watch::tests()];
        libtest_mimic::run(&arguments, tests.into_iter().flatten().collect()).exit()
    }
    #[cfg(not(target_os = "linux"))]
    std::process::ExitCode::SUCCESS
}
