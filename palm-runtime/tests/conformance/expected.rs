//! What a backend is known not to do.

/// The tests that fail with this backend, and why.
#[cfg(not(feature = "zeromq"))]
pub(crate) const EXPECTED_TO_FAIL: &[(&str, &str)] = &[
    (
        "backpressure::a_local_subscriber_that_stops_reading_costs_the_others_nothing_and_is_dropped",
        "the timeout is TCP's; on ipc a publisher waits until the subscriber reads or dies",
    ),
    (
        "backpressure::a_subscriber_that_stops_reading_does_not_hold_up_other_topics",
        "there is one queue in front of all subscribers",
    ),
    (
        "router_dealer::a_peer_cannot_take_the_name_that_another_has_chosen",
        "the latest peer of a name has it; palm's own peers choose none",
    ),
];

#[cfg(feature = "zeromq")]
const ABORTS: &str = "the crate allocates what a header announces, and the process aborts";

#[cfg(feature = "zeromq")]
const NO_HASTE: &str = "the crate lets a peer take any time to introduce itself";

/// The tests that fail with this backend, and why.
#[cfg(feature = "zeromq")]
pub(crate) const EXPECTED_TO_FAIL: &[(&str, &str)] = &[
    (
        "limits::a_heartbeat_is_answered",
        "the crate knows no PING: it ends the connection",
    ),
    (
        "limits::a_message_of_endless_empty_frames_ends_its_connection",
        "the crate has no limit on the frames of a message",
    ),
    (
        "limits::a_message_over_the_limit_ends_only_its_connection",
        "the crate has no limit on the size of a message, nor tells PULL whose it is",
    ),
    (
        "limits::a_message_over_the_limit_is_not_waited_for",
        "the crate has no limit on the size of a message",
    ),
    (
        "limits::a_peer_that_introduces_itself_byte_by_byte_is_given_up",
        NO_HASTE,
    ),
    ("limits::a_peer_that_says_nothing_is_given_up", NO_HASTE),
    (
        "limits::a_peer_without_a_heartbeat_is_given_up",
        "the crate sends no PING",
    ),
    ("malformed::a_huge_command_after_the_handshake", ABORTS),
    ("malformed::a_huge_frame_after_the_handshake", ABORTS),
    ("malformed::a_huge_frame_before_the_handshake", ABORTS),
    ("malformed::a_huge_frame_within_a_message", ABORTS),
    ("malformed::a_server_that_sends_a_huge_frame", ABORTS),
    ("malformed::a_server_that_sends_random_bytes", ABORTS),
    (
        "malformed::an_http_request",
        "the crate waits for 64 bytes, for ever, before it looks at the first",
    ),
    ("malformed::half_a_greeting_and_then_silence", NO_HASTE),
    ("malformed::random_bytes_after_the_handshake", ABORTS),
    (
        "malformed::reserved_bits_in_a_header",
        "the crate ignores them",
    ),
    (
        "reconnection::what_is_sent_while_nobody_is_there_arrives_later",
        "the crate's PUSH does not read, so that it notices the end of a connection only when it writes",
    ),
    (
        "router_dealer::a_peer_cannot_take_the_name_that_another_has_chosen",
        "the latest peer of a name has it",
    ),
    (
        "router_dealer::a_peer_cannot_take_the_name_that_another_was_given",
        "the latest peer of a name has it, chosen or not; given names are hard to guess",
    ),
];

/// What a test says when it hangs.
const HANGS: &str = "not done within";

/// What the tests that are expected to fail with the default backend say then: one that fails for another reason is a
/// new fault. How those of the other backend fail depends on the machine, as on how much memory it grants.
const FAILURES: &[(&str, &str)] = &[
    (
        "backpressure::a_local_subscriber_that_stops_reading_costs_the_others_nothing_and_is_dropped",
        HANGS,
    ),
    (
        "backpressure::a_subscriber_that_stops_reading_does_not_hold_up_other_topics",
        HANGS,
    ),
    (
        "router_dealer::a_peer_cannot_take_the_name_that_another_has_chosen",
        "assertion `left != right` failed\n  left: b\"name\"\n right: b\"name\"",
    ),
];

/// What a test that is expected to fail says then; empty if that is not known.
pub(crate) fn expected_failure(name: &str) -> &'static str {
    if cfg!(feature = "zeromq") {
        return "";
    }
    let failure = FAILURES.iter().find(|(known, _)| *known == name);
    failure.map_or("", |(_, text)| text)
}

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
    let list = std::process::Command::new(executable)
        .args(["--list", "--format=terse"])
        .output();
    let list = String::from_utf8(list.unwrap().stdout).unwrap();
    for (name, _) in EXPECTED_TO_FAIL {
        let line = format!("{name}: test");
        assert!(
            list.lines().any(|known| known == line),
            "there is no test `{name}`"
        );
        assert!(
            cfg!(feature = "zeromq") || !expected_failure(name).is_empty(),
            "how does `{name}` fail?"
        );
    }
}
