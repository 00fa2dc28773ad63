//! What a component logs about its peers: that a worker, subscriber or client connected, drains, left or was lost,
//! once each; and that calls wait because no worker is connected.
//!
//! Clients that make one call each connect and leave by the thousand. The first few of each interval are logged one by
//! one, and the others are counted. No I/O besides logging; time is an argument.

use std::time::{Duration, Instant};

use super::truncate_name;
use crate::message::proto::Function;

/// Maximum number of events of clients that are logged one by one in each interval.
const MAX_CLIENT_EVENTS: u32 = 10;
const CLIENT_EVENT_INTERVAL: Duration = Duration::from_secs(10);

/// Time for which calls wait for a worker until a warning is logged.
const NO_WORKER_LOG_DELAY: Duration = Duration::from_millis(500);

/// Maximum number of functions of a worker that a log line names.
const MAX_LISTED_FUNCTIONS: usize = 10;

/// The recent log lines about peers.
#[derive(Debug, Default)]
pub(super) struct PeerLog {
    clients: ClientEventLog,
    /// Since when calls wait for a worker, and whether that was logged.
    waiting: Option<(Instant, bool)>,
}

impl PeerLog {
    pub(super) fn client_connected(&mut self, name: &str, now: Instant) {
        match self.clients.connected(now) {
            true => tracing::info!(client = name, "client connected"),
            false => tracing::debug!(client = name, "client connected"),
        }
    }

    /// Logs that a client's session has ended; `how` says in which way.
    pub(super) fn client_ended(&mut self, name: &str, how: &str, now: Instant) {
        match self.clients.ended(now) {
            true => tracing::info!(client = name, "client {how}"),
            false => tracing::debug!(client = name, "client {how}"),
        }
    }

    /// Logs the counted events at the end of an interval.
    pub(super) fn tick(&mut self, now: Instant) {
        if let Some((connected, ended)) = self.clients.due(now) {
            tracing::info!(connected, ended, "further clients connected and left");
        }
    }

    /// Logs why calls wait for a worker, if they have waited for [`NO_WORKER_LOG_DELAY`].
    pub(super) fn wait(&mut self, waiting: Option<String>, now: Instant) {
        if let Some(cause) = self.is_new_wait(waiting, now) {
            tracing::warn!("{cause}: start a worker with the `db_address` of this component");
        }
    }

    /// Returns the cause of a wait if it is to be logged: once for each wait.
    fn is_new_wait(&mut self, waiting: Option<String>, now: Instant) -> Option<String> {
        let Some(cause) = waiting else {
            self.waiting = None;
            return None;
        };
        let (since, is_logged) = self.waiting.get_or_insert((now, false));
        if *is_logged || now.saturating_duration_since(*since) < NO_WORKER_LOG_DELAY {
            return None;
        }
        *is_logged = true;
        Some(cause)
    }
}

/// Which events of clients are logged one by one.
#[derive(Debug, Default)]
struct ClientEventLog {
    /// When the interval began.
    begun: Option<Instant>,
    logged: u32,
    /// Connections in this interval that were not logged one by one.
    connected: u64,
    /// Ends of sessions in this interval that were not logged one by one.
    ended: u64,
}

impl ClientEventLog {
    /// Returns whether the event is one of the first of its interval.
    fn is_logged(&mut self, now: Instant) -> bool {
        self.begun.get_or_insert(now);
        self.logged += 1;
        self.logged <= MAX_CLIENT_EVENTS
    }

    fn connected(&mut self, now: Instant) -> bool {
        let is_logged = self.is_logged(now);
        self.connected += u64::from(!is_logged);
        is_logged
    }

    fn ended(&mut self, now: Instant) -> bool {
        let is_logged = self.is_logged(now);
        self.ended += u64::from(!is_logged);
        is_logged
    }

    /// At the end of an interval, returns the numbers of unlogged connections and ends, unless both are zero.
    fn due(&mut self, now: Instant) -> Option<(u64, u64)> {
        let begun = self.begun?;
        if now.saturating_duration_since(begun) < CLIENT_EVENT_INTERVAL {
            return None;
        }
        let Self {
            connected, ended, ..
        } = std::mem::take(self);
        (connected + ended > 0).then_some((connected, ended))
    }
}

/// Lists the functions of a worker for the log.
pub(crate) fn listed<'a>(functions: impl ExactSizeIterator<Item = &'a Function>) -> String {
    let more = functions.len().saturating_sub(MAX_LISTED_FUNCTIONS);
    let names = functions.take(MAX_LISTED_FUNCTIONS);
    let names: Vec<_> = names
        .map(|function| truncate_name(&function.name))
        .collect();
    match more {
        0 => names.join(", "),
        more => format!("{} and {more} more", names.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_of_thousands_of_clients_are_counted() {
        let (mut clients, begin) = (ClientEventLog::default(), Instant::now());
        let mut logged = 0;
        for _ in 0..5000 {
            logged += u32::from(clients.connected(begin));
            logged += u32::from(clients.ended(begin));
        }
        assert_eq!(logged, MAX_CLIENT_EVENTS);
        assert_eq!(clients.due(begin), None);
        let end = begin + CLIENT_EVENT_INTERVAL;
        assert_eq!(clients.due(end), Some((4995, 4995)));
        assert_eq!(clients.due(end + CLIENT_EVENT_INTERVAL), None);
        assert!(clients.connected(end));
    }

    #[test]
    fn events_of_few_clients_are_logged_one_by_one() {
        let (mut clients, begin) = (ClientEventLog::default(), Instant::now());
        assert!(clients.connected(begin) && clients.ended(begin));
        assert_eq!(clients.due(begin + CLIENT_EVENT_INTERVAL), None);
    }

    #[test]
    fn wait_for_a_worker_is_logged_once() {
        let (mut reports, begin) = (PeerLog::default(), Instant::now());
        let cause = |count| Some(format!("no worker is connected ({count} calls wait)"));
        assert_eq!(reports.is_new_wait(cause(1), begin), None);
        let due = begin + NO_WORKER_LOG_DELAY;
        assert_eq!(reports.is_new_wait(cause(2), due), cause(2));
        assert_eq!(
            reports.is_new_wait(cause(3), due + NO_WORKER_LOG_DELAY),
            None
        );
        assert_eq!(reports.is_new_wait(None, due + NO_WORKER_LOG_DELAY), None);
        let again = due + 2 * NO_WORKER_LOG_DELAY;
        assert_eq!(reports.is_new_wait(cause(1), again), None);
        assert_eq!(
            reports.is_new_wait(cause(1), again + NO_WORKER_LOG_DELAY),
            cause(1)
        );
    }

    #[test]
    fn long_list_of_functions_is_cut() {
        let functions: Vec<_> = (0..12)
            .map(|number| Function {
                name: format!("f{number}"),
                ..Function::default()
            })
            .collect();
        assert_eq!(listed(functions[..2].iter()), "f0, f1");
        let all = listed(functions.iter());
        assert!(all.ends_with("f9 and 2 more"), "{all}");
    }
}
