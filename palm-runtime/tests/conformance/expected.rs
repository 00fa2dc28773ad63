//! Tests that a backend is known to fail.
//!
//! Each expectation states how its test fails. A test that fails in another way shows a new fault, and a test that
//! passes no longer belongs here; the suite fails in both cases.

/// A test that fails.
#[derive(Debug)]
pub(crate) struct ExpectedFailure {
    pub(crate) test: &'static str,
    /// The missing property of the backend.
    pub(crate) reason: &'static str,
    /// The failed test prints one of these texts.
    pub(crate) outputs: &'static [&'static str],
}

/// Printed by the harness if a test does not end.
const HANGS: &str = "not done within";

const OMQ: &[ExpectedFailure] = &[
    ExpectedFailure {
        test: "backpressure::a_local_subscriber_that_stops_reading_is_disconnected_and_others_lose_nothing",
        reason: "the timeout is TCP's; on ipc a publisher waits until the subscriber reads or dies",
        outputs: &[HANGS],
    },
    ExpectedFailure {
        test: "backpressure::a_subscriber_that_stops_reading_does_not_delay_other_topics",
        reason: "all subscribers share one queue",
        outputs: &[HANGS],
    },
];

#[cfg(feature = "zeromq")]
const ALLOCATES_ANNOUNCED_LEN: &str =
    "the crate allocates as many bytes as a header announces, and the process aborts";

#[cfg(feature = "zeromq")]
const NO_HANDSHAKE_TIMEOUT: &str = "the crate does not limit the duration of a handshake";

/// A machine that grants the memory lets the test hang.
#[cfg(feature = "zeromq")]
const ABORTS: &[&str] = &["memory allocation of", HANGS];

#[cfg(feature = "zeromq")]
const ZEROMQ: &[ExpectedFailure] = &[
    ExpectedFailure {
        test: "malformed::huge_command_after_the_handshake_closes_only_its_connection",
        reason: ALLOCATES_ANNOUNCED_LEN,
        outputs: ABORTS,
    },
    ExpectedFailure {
        test: "malformed::huge_frame_after_the_handshake_closes_only_its_connection",
        reason: ALLOCATES_ANNOUNCED_LEN,
        outputs: ABORTS,
    },
    ExpectedFailure {
        test: "malformed::huge_frame_before_the_handshake_closes_only_its_connection",
        reason: ALLOCATES_ANNOUNCED_LEN,
        outputs: ABORTS,
    },
    ExpectedFailure {
        test: "malformed::huge_frame_within_a_message_closes_only_its_connection",
        reason: ALLOCATES_ANNOUNCED_LEN,
        outputs: ABORTS,
    },
    ExpectedFailure {
        test: "malformed::connecting_sockets_recover_from_a_huge_frame_of_a_server",
        reason: ALLOCATES_ANNOUNCED_LEN,
        outputs: ABORTS,
    },
    ExpectedFailure {
        test: "malformed::connecting_sockets_recover_from_random_bytes_of_a_server",
        reason: ALLOCATES_ANNOUNCED_LEN,
        outputs: ABORTS,
    },
    ExpectedFailure {
        test: "malformed::http_request_closes_only_its_connection",
        reason: "the crate waits for 64 bytes, without a timeout, before it reads the first",
        outputs: &[HANGS],
    },
    ExpectedFailure {
        test: "malformed::silence_after_half_a_greeting_closes_only_its_connection",
        reason: NO_HANDSHAKE_TIMEOUT,
        outputs: &[HANGS],
    },
    ExpectedFailure {
        test: "malformed::random_bytes_after_the_handshake_close_only_their_connection",
        reason: ALLOCATES_ANNOUNCED_LEN,
        outputs: ABORTS,
    },
    ExpectedFailure {
        test: "malformed::reserved_bits_in_a_header_close_only_their_connection",
        reason: "the crate ignores them",
        outputs: &[HANGS],
    },
    ExpectedFailure {
        test: "reconnection::messages_sent_without_a_peer_arrive_after_reconnection",
        reason: "the crate's PUSH does not read, so it detects the end of a connection only when it writes",
        outputs: &[HANGS],
    },
];

fn expected_failures() -> &'static [ExpectedFailure] {
    #[cfg(feature = "zeromq")]
    if super::setup::backend() == palm_runtime::socket::Backend::Zeromq {
        return ZEROMQ;
    }
    OMQ
}

/// Returns how the test of this name fails, if it is expected to.
pub(crate) fn expected_failure(test: &str) -> Option<&'static ExpectedFailure> {
    expected_failures()
        .iter()
        .find(|expected| expected.test == test)
}

#[test]
fn expected_failures_name_tests_and_outputs() {
    let executable = std::env::current_exe().unwrap();
    let list = std::process::Command::new(executable)
        .args(["--list", "--format=terse"])
        .output();
    let list = String::from_utf8(list.unwrap().stdout).unwrap();
    for expected in expected_failures() {
        let test = expected.test;
        // Without a test of that name, the expectation would be met for ever.
        let line = format!("{test}: test");
        assert!(
            list.lines().any(|known| known == line),
            "there is no test `{test}`"
        );
        let has_output = !expected.outputs.is_empty() && !expected.outputs.contains(&"");
        assert!(has_output, "how does `{test}` fail?");
    }
}
