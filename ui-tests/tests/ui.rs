//! Compile errors of programs that palm rejects.
//!
//! Programs that palm accepts are in `tests/ui/pass`, and are test targets of their own: if trybuild has nothing to
//! run, it checks all programs at once instead of building each.
//!
//! `TRYBUILD=overwrite cargo test -p ui-tests` rewrites the `.stderr` files; read their diff.

#[test]
fn ui() {
    trybuild::TestCases::new().compile_fail("tests/ui/fail/*/*.rs");
}

#[test]
fn every_accepted_program_is_a_test_target() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/ui/pass");
    for file in std::fs::read_dir(folder).unwrap() {
        let path = format!("tests/ui/pass/{}", file.unwrap().file_name().display());
        let listed = include_str!("../Cargo.toml").contains(&path);
        assert!(listed, "ui-tests/Cargo.toml has no `[[test]]` for {path}");
    }
}
