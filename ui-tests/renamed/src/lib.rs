//! A crate that knows palm under another name: see `tests/renamed.rs`.
