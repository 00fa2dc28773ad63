//! The output of processes: files per run, which are rotated, compressed, followed and searched.
//!
//! `LOGS/COMPONENT/INDEX/RUN.log` has the output of one run. A line is in the format of the container runtime
//! interface, as containers have it, so that tools read it: `2026-11-28T12:00:00.000000000Z stderr F text`, with `P` in
//! place of `F` if the line continues in the next one. Rotated parts are `RUN.log.1`, `RUN.log.2.gz` and so on, the
//! oldest first.

mod capture;
mod compress;
mod cursor;
mod entry;
mod failures;
mod file;
mod follow;
mod format;
mod lines;
mod output;
mod pipe;
mod read;
mod search;
mod segment;
mod stamp;
mod text;

pub use entry::{Entry, Selection};
pub use follow::Follower;
pub use format::{Level, Line, Stream};
pub use palm_plan::LogLimits;
pub use read::{History, instances};
pub use search::{Found, Search, SearchError, search};
pub use segment::last_run;
pub use text::plain;

pub(crate) use capture::Capture;
pub(crate) use failures::{LogChange, LogChangeKind, lost};
pub(crate) use format::timestamp;
pub(crate) use output::OpenOutput;
