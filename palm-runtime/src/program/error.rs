//! Why a program ends, and its exit code.

use std::io::Write as _;
use std::process::ExitCode;

use crate::failure::{BoxError, chain};

/// Why a program does not start a component, or why the component ended.
#[derive(Debug)]
pub(super) enum ProgramError {
    /// The command line has a mistake, or asks for help.
    CommandLine(clap::Error),
    /// The configuration file, `PALM_WIRING` or the program itself has a mistake.
    Mistake(String),
    /// A component does not start, has failed, or did not drain within its limit.
    Failed(BoxError),
    /// A second signal ended a component that was draining.
    Interrupted,
}

impl ProgramError {
    pub(super) fn mistake(text: impl Into<String>) -> Self {
        Self::Mistake(text.into())
    }

    /// Returns the description for `STATUS` and for people, in one line.
    pub(super) fn text(&self) -> String {
        match self {
            Self::CommandLine(error) => error.to_string(),
            Self::Mistake(text) => text.clone(),
            Self::Failed(error) => chain(&**error),
            Self::Interrupted => "a second signal ended it before it had drained".to_owned(),
        }
    }

    /// Writes the error to standard error, or help to standard output, and returns the exit code.
    pub(super) fn report(&self) -> ExitCode {
        // Nothing can be done about a closed output.
        let _ = match self {
            Self::CommandLine(error) => error.print(),
            _ => writeln!(std::io::stderr(), "error: {}", self.text()),
        };
        match self {
            Self::CommandLine(error) if !error.use_stderr() => ExitCode::SUCCESS,
            Self::CommandLine(_) | Self::Mistake(_) => ExitCode::from(2),
            Self::Failed(_) => ExitCode::from(1),
            Self::Interrupted => ExitCode::from(3),
        }
    }
}

impl From<clap::Error> for ProgramError {
    fn from(error: clap::Error) -> Self {
        Self::CommandLine(error)
    }
}

impl From<BoxError> for ProgramError {
    fn from(error: BoxError) -> Self {
        Self::Failed(error)
    }
}
