//! The command looks into clusters whose components are processes. This program is the tests and the components.
//!
//! Ignored tests need another program: tmux, or for those that are called `pylm` an interpreter that has pylm,
//! `PALM_PYTHON`.

#![allow(missing_docs, clippy::print_stdout, clippy::unwrap_used)]
#![cfg_attr(not(target_os = "linux"), allow(unused))]

#[cfg(target_os = "linux")]
mod component;
#[cfg(target_os = "linux")]
mod cost;
#[cfg(target_os = "linux")]
mod problems;
#[cfg(target_os = "linux")]
mod setup;
#[cfg(target_os = "linux")]
mod tmux;
#[cfg(target_os = "linux")]
mod walk;
#[cfg(target_os = "linux")]
mod workers;

fn main() {
    #[cfg(target_os = "linux")]
    {
        component::run();
        let mut arguments = libtest_mimic::Arguments::from_args();
        // Each test is a cluster of processes.
        arguments.test_threads.get_or_insert(2);
        let tests = [
            walk::tests(),
            workers::tests(),
            problems::tests(),
            tmux::tests(),
            cost::tests(),
        ];
        libtest_mimic::run(&arguments, tests.into_iter().flatten().collect()).exit();
    }
}
