//! `palm completions` and `palm man`.

use std::path::Path;

use clap::CommandFactory as _;
use clap_complete::Shell;

use super::{Failure, write};
use crate::arguments::Arguments;

pub(super) fn completions(shell: Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "palm", &mut script);
    Ok(write(&script)?)
}

pub(super) fn man(directory: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(directory)?;
    Ok(clap_mangen::generate_to(Arguments::command(), directory)?)
}
