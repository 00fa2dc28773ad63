//! What a user reads where the macros do not accept what was written. What they accept are test targets
//! of their own, in `tests/ui/pass`: as long as trybuild has nothing to run, it only checks, and all
//! programs at once.
//!
//! `TRYBUILD=overwrite cargo test -p ui-tests` writes the `.stderr` files anew; read their diff.

#[test]
fn ui() {
    trybuild::TestCases::new().compile_fail("tests/ui/fail/*/*.rs");
}

#[test]
fn what_is_accepted_is_built() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/ui/pass");
    for file in std::fs::read_dir(folder).unwrap() {
        let path = format!("tests/ui/pass/{}", file.unwrap().file_name().display());
        let listed = include_str!("../Cargo.toml").contains(&path);
        assert!(listed, "ui-tests/Cargo.toml has no `[[test]]` for {path}");
    }
}
