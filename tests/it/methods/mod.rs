//! Methods: their signatures, how they run concurrently, and how they fail.

mod concurrency;
mod failures;
mod many_results;
mod signatures;
mod worker;
