//! A crate that imports palm under another name: see `tests/renamed.rs`.
