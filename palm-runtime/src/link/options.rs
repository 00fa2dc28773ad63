//! The limits and timeouts of links.

use std::time::Duration;

use crate::options::options;

options! {
    /// How the links of a component behave: when a peer counts as lost, and how often a task is delivered.
    ///
    /// A peer that is killed is detected at once, by its closed connection; one that is stopped or cut off, after
    /// [`idle_timeout`](Self::idle_timeout), whatever its role. The two ends of a link may have different options.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use palm::LinkOptions;
    /// let options = LinkOptions::new().idle_timeout(Duration::from_secs(5)).max_deliver(1);
    /// ```
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct LinkOptions {
        /// Sets whether the component offers links, and uses those that its peers offer. Default: yes.
        ///
        /// Without links, messages travel over PUSH, PULL, PUB and SUB as in pylm, which lose messages with a killed
        /// worker or a broken connection.
        enabled: bool = true,
        /// Sets the interval at which a connecting peer that has nothing to send shows a sign of life. Default: 7 s.
        ///
        /// It is shorter if the idle timeout of the other end requires it. With the default, 1000 idle workers cost their
        /// master less than 1 % of a processor.
        heartbeat: Duration = Duration::from_secs(7),
        /// Sets the time without a sign of life after which a peer counts as lost. Default: 15 s.
        idle_timeout: Duration = Duration::from_secs(15),
        /// Sets the time that a worker whose connection was closed has to reconnect before its tasks are redelivered
        /// to others. Default: 250 ms.
        reconnect_grace: Duration = Duration::from_millis(250),
        /// Sets the time that a lost peer has to return to its session. Default: 30 s.
        ///
        /// Meanwhile its publications are retained for it, or for the next subscriber of its name. The time is shorter in
        /// two cases: a client whose connection was closed has 3 s, after which its calls are cancelled, and a
        /// subscriber with a full backlog has [`idle_timeout`](Self::idle_timeout), since its publisher waits for it.
        session_expiry: Duration = Duration::from_secs(30),
        /// Sets how long a subscriber may read nothing while its backlog is full (10 000 messages or 64 MiB). `None`: no
        /// limit. Default: 60 s.
        ///
        /// The subscriber is then disconnected as a slow consumer, and its backlog is dropped. Until then it slows down
        /// the publisher. The time includes that in which it is away, so that one that keeps reconnecting has no longer.
        /// [`SocketOptions::slow_subscriber_timeout`](crate::socket::SocketOptions::slow_subscriber_timeout) is the limit
        /// for legacy subscribers, which have no link.
        slow_consumer_timeout: Option<Duration> as impl Into<Option<Duration>> = Some(Duration::from_secs(60)),
        /// Sets the time after which a task without a result is pushed again, to the same or another legacy worker, such
        /// as one of pylm. Default: `None`, since it cannot be known whether such a worker still runs the task.
        ///
        /// The first result counts, so functions with several results lose some of them.
        ack_wait: Option<Duration> as impl Into<Option<Duration>> = None,
        /// Sets the number of workers that may be lost after they have begun a task, before the task fails. Default: 3.
        ///
        /// The last delivery runs exclusively on its worker if one becomes idle within 5 s, so that a poison message does
        /// not affect other tasks; with 1 there is no such delivery.
        max_deliver: u32 = 3,
        /// Sets the limit on sessions. Default: 10 000.
        max_sessions: usize = 10_000,
        /// Sets the limit on the bytes of received calls that were not passed on, and separately on those of workers'
        /// results, of all peers together. Default: 512 MiB.
        ///
        /// A peer may use at most four times the free capacity, and 8 MiB; messages beyond that are dropped on arrival,
        /// and requested again once there is capacity. A message that is larger than the limit is accepted if no other
        /// waits.
        max_unread_bytes: usize = 512 * 1024 * 1024,
        /// Sets the limit on the bytes of tasks that are with workers and have no result yet. Further tasks wait in their
        /// queue. Default: 512 MiB.
        max_task_bytes: usize = 512 * 1024 * 1024,
        /// Sets the limit on the bytes of publications and answers that subscribers and clients have not acknowledged, of
        /// all peers together. Default: 1 GiB.
        ///
        /// A peer may use at most four times the free capacity; beyond that it counts as one with a full backlog, see
        /// [`slow_consumer_timeout`](Self::slow_consumer_timeout).
        max_backlog_bytes: usize = 1024 * 1024 * 1024,
    }
}
