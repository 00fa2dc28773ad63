//! Runners with real processes. This program is the tests, the runners and their children: see [`role`].

#![allow(missing_docs, clippy::print_stdout, clippy::unwrap_used)]
#![cfg_attr(not(target_os = "linux"), allow(unused))]

#[cfg(target_os = "linux")]
mod api;
#[cfg(target_os = "linux")]
mod ends;
#[cfg(target_os = "linux")]
mod machine;
#[cfg(target_os = "linux")]
mod misbehaviour;
#[cfg(target_os = "linux")]
mod role;
#[cfg(target_os = "linux")]
mod setup;
#[cfg(target_os = "linux")]
mod start;
#[cfg(target_os = "linux")]
mod upgrade;

fn main() {
    #[cfg(target_os = "linux")]
    {
        role::run();
        let arguments = libtest_mimic::Arguments::from_args();
        let tests = [
            api::tests(),
            ends::tests(),
            machine::tests(),
            misbehaviour::tests(),
            start::tests(),
            upgrade::tests(),
        ];
        libtest_mimic::run(&arguments, tests.into_iter().flatten().collect()).exit();
    }
}
