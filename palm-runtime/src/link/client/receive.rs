//! Receives headers and messages of the peer, handles the session's events, and ends the session.

use std::time::{Duration, Instant};

use super::{ClientState, LinkArrival, LinkClient, ResendPolicy};
use crate::clock;
use crate::link::session::{LIVENESS_VERSION, SessionEvent, TaggedBatch, WORKER_CONTROL_VERSION};
use crate::link::{SUBSCRIBER, WORKER, header, is_header};
use crate::message::lease::LinkReceipt;
use crate::socket::Frames;

/// Delay of a new session after a refusal.
const REFUSED_RETRY_DELAY: Duration = Duration::from_secs(1);

impl LinkClient {
    pub(super) fn receive(&self, messages: impl Iterator<Item = Frames>) {
        let now = clock::now();
        let mut state = self.state();
        let state = &mut *state;
        let mut arrivals = Vec::new();
        let mut has_changed = false;
        for mut frames in messages {
            if let Some(requests) = &self.requests
                && !frames.first().is_some_and(|first| is_header(first))
            {
                requests.receive_reply(&frames);
                continue;
            }
            let mut frames = frames.drain(..);
            let header = frames.next().and_then(header::decode);
            let Some(header) = header else {
                tracing::warn!(address = %self.address, "dropping a message of the peer: the link header is malformed");
                continue;
            };
            if header.session != *state.session.id() {
                continue;
            }
            let mut events = std::mem::take(&mut state.events);
            state.session.receive(now, &header, frames, &mut events);
            for event in events.drain(..) {
                has_changed |= changes_session(&event);
                self.handle_event(state, event, now, &mut arrivals);
            }
            state.events = events;
        }
        state.flush(now);
        self.arrivals.push(arrivals);
        match has_changed {
            true => self.notify_changed(),
            false => self.progressed.notify_waiters(),
        }
    }

    /// Handles an event of the session. Adds what is for the owner of the link to `arrivals`.
    fn handle_event(
        &self,
        state: &mut ClientState,
        event: SessionEvent,
        now: Instant,
        arrivals: &mut Vec<LinkArrival>,
    ) {
        match event {
            SessionEvent::Opened => {
                state.is_open = true;
                if std::mem::take(&mut state.has_logged_end) {
                    tracing::info!(address = %self.address, "the link is open again");
                }
                self.refused.clear();
                state.show_life();
                if state.session.version() < WORKER_CONTROL_VERSION {
                    state.older_session = state.session_number;
                }
            }
            SessionEvent::Messages(item) => {
                let received = state.receipt_of(&item, now);
                if self.hello.role == SUBSCRIBER {
                    let each = received.each(&item.batch);
                    let each = each.map(|(one, frame)| LinkArrival::Messages(one, frame.into()));
                    arrivals.extend(each);
                } else {
                    arrivals.push(LinkArrival::Messages(received, item.batch));
                }
            }
            SessionEvent::SubscriptionsReady => arrivals.push(LinkArrival::SubscriptionsReady),
            SessionEvent::Cancelled(list) => {
                if let Some(cancellations) = &self.cancellations {
                    cancellations.cancel(&list);
                }
            }
            SessionEvent::ReportWanted { calls } => self.send_report(state, calls),
            SessionEvent::Request(request) => self.handle_request(state, &request),
            SessionEvent::Report(_) | SessionEvent::Reply { .. } => {}
            SessionEvent::Draining => state.handle_draining(),
            SessionEvent::Finished => state.peer_finished = true,
            SessionEvent::Forgotten => {
                tracing::info!(address = %self.address, "the peer does not know the session: opening a new one");
                state.has_logged_end = true;
                state.end_session(false, now);
            }
            SessionEvent::Closed { is_settled } => {
                tracing::info!(address = %self.address, "the peer has closed the link");
                state.has_logged_end = true;
                // Results for one run of a master mean nothing to the next one.
                let is_settled = is_settled && self.hello.role != WORKER;
                state.end_session(is_settled, now);
            }
            SessionEvent::Refused(refusal) => {
                let reason = refusal.reason;
                if self.refused.set(&reason) {
                    tracing::warn!(address = %self.address, "the peer has refused the link: {reason}");
                }
                state.end_session(false, now);
                state.retry_at = Some(now + REFUSED_RETRY_DELAY);
            }
        }
    }
}

impl ClientState {
    /// Counts the messages of a batch that has arrived, and returns their receipt.
    fn receipt_of(&mut self, item: &TaggedBatch, now: Instant) -> LinkReceipt {
        let messages = item.len() as u64;
        self.received_tasks += messages;
        self.pace.began(messages, now);
        LinkReceipt {
            session: self.session_number,
            tag: item.tag,
            step: item.step,
            messages,
            bytes: item.batch.bytes() as u64,
        }
    }

    /// Lets the liveness thread show signs of life for the open session while its task cannot run.
    fn show_life(&self) {
        let session = &self.session;
        let knows_it = session.version() >= LIVENESS_VERSION;
        let session = knows_it.then(|| (session.id().clone(), session.heartbeat()));
        self.liveness.set_session(session);
    }

    /// Handles a peer that drains: messages beyond its credit move to the next session.
    fn handle_draining(&mut self) {
        self.peer_is_draining = true;
        let unsent = self.session.take_unsent();
        self.next_session.extend(unsent);
        self.session.finish();
    }

    /// Ends the session, and selects the messages for the next one. `is_settled` is set if the peer has handled
    /// all messages that it has acknowledged.
    pub(super) fn end_session(&mut self, is_settled: bool, now: Instant) {
        self.liveness.set_session(None);
        self.tasks.session_is_over(self.session_number);
        let mut untransmitted = self.session.take_unsent();
        let mut waiting = self.session.take_unacknowledged();
        untransmitted.append(&mut self.next_session);
        if !is_settled {
            // Results of a worker are dropped, since their tasks run again.
            waiting.retain(|item| item.tag == ResendPolicy::ByLink.tag());
            untransmitted.retain(|item| {
                item.tag == ResendPolicy::ByLink.tag()
                    || item.tag == ResendPolicy::IfUntransmitted.tag()
            });
            self.is_lost = true;
        }
        waiting.append(&mut untransmitted);
        self.next_session = waiting;
        self.peer_finished |= self.is_draining;
        self.pace.forget(now);
    }
}

/// Returns whether a session begins, drains or ends with this event.
fn changes_session(event: &SessionEvent) -> bool {
    match event {
        SessionEvent::Opened
        | SessionEvent::Draining
        | SessionEvent::Finished
        | SessionEvent::Forgotten
        | SessionEvent::Closed { .. }
        | SessionEvent::Refused(_) => true,
        SessionEvent::Messages(_)
        | SessionEvent::SubscriptionsReady
        | SessionEvent::Cancelled(_)
        | SessionEvent::ReportWanted { .. }
        | SessionEvent::Report(_)
        | SessionEvent::Request(_)
        | SessionEvent::Reply { .. } => false,
    }
}
