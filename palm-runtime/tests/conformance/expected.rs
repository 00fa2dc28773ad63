//! What a backend is known not to do.

/// The tests that fail with this backend, and why.
#[cfg(not(feature = "zeromq"))]
pub(crate) const EXPECTED_TO_FAIL: &[(&str, &str)] = &[];

/// The tests that fail with this backend, and why.
#[cfg(feature = "zeromq")]
pub(crate) const EXPECTED_TO_FAIL: &[(&str, &str)] = &[];

/// Why the test of this name fails, if it is expected to.
pub(crate) fn expected_to_fail(name: &str) -> Option<&'static str> {
    EXPECTED_TO_FAIL
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, reason)| *reason)
}

/// A test that was renamed would be expected to fail for ever under its old name.
#[test]
fn every_expectation_is_about_a_test() {
    let executable = std::env::current_exe().unwrap();
    let list = std::process::Command::new(executable).args(["--list", "--format=terse"]).output();
    let list = String::from_utf8(list.unwrap().stdout).unwrap();
    for (name, _) in EXPECTED_TO_FAIL {
        let line = format!("{name}: test");
        assert!(list.lines().any(|known| known == line), "there is no test `{name}`");
    }
}
