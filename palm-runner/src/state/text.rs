//! Durations in sentences.

use std::time::Duration;

/// Returns whole seconds, or milliseconds if it is less than one.
pub(super) fn seconds(duration: Duration) -> String {
    let millis = duration.as_millis();
    match millis {
        0 => "0 s".to_owned(),
        1..1000 => format!("{millis} ms"),
        _ => format!("{} s", (millis + 500) / 1000),
    }
}
