//! Results that legacy workers send to the PULL socket.

use crate::component_state::ComponentState;
use crate::message::Message;
use crate::parts::receive_loop::{Origin, SourceEvent};

/// Counts the results from the socket, and drops duplicates of redelivered tasks. Links count theirs.
pub(in crate::parts::workers) fn count_results(
    state: &ComponentState,
    results: &mut Vec<SourceEvent>,
) {
    let mut pushed = state.pushed();
    let mut arrived = 0;
    results.retain(|result| {
        let SourceEvent::Messages {
            batch,
            origin: Origin::Socket,
            ..
        } = result
        else {
            return true;
        };
        arrived += 1;
        let Some(pushed) = &mut pushed else {
            return true;
        };
        // Frames from sockets are not batched.
        match Message::decode(batch.first()).map_or(0, |message| message.task_number()) {
            0 => true,
            number => pushed.result(number),
        }
    });
    drop(pushed);
    if arrived > 0 {
        state.outstanding.subtract(arrived);
    }
}
