//! Methods: their signatures, how they run concurrently, and how they fail.

mod cancelled;
mod concurrency;
mod failures;
mod many_results;
mod signatures;
mod worker;
