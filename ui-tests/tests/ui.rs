//! What the macros accept, and what a user reads where they do not.
//!
//! `TRYBUILD=overwrite cargo test -p ui-tests` writes the `.stderr` files anew; read their diff.

#[test]
fn ui() {
    let cases = trybuild::TestCases::new();
    cases.pass("tests/ui/pass/*.rs");
    cases.compile_fail("tests/ui/fail/*/*.rs");
}
