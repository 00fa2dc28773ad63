//! The limits and timeouts of links.

use std::time::Duration;

/// How the links of a component behave: when a peer counts as lost, and how often a task is delivered.
///
/// A peer that is killed is detected at once, by its closed connection; one that is stopped or cut off, after
/// [`idle_timeout`](Self::idle_timeout), whatever its role. The two ends of a link may have different options.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LinkOptions {
    /// Whether the component offers links, and uses those that its peers offer. Default: yes. Without links, messages
    /// travel over PUSH, PULL, PUB and SUB as in pylm, which lose messages with a killed worker or a broken connection.
    pub enabled: bool,
    /// The interval at which a connecting peer that has nothing to send shows a sign of life. It is shorter if the idle
    /// timeout of the other end requires it. Default: 7 s. 1000 idle workers then cost their master less than 1 % of a
    /// processor.
    pub heartbeat: Duration,
    /// The time without a sign of life after which a peer counts as lost. Default: 15 s.
    pub idle_timeout: Duration,
    /// The time that a worker whose connection was closed has to reconnect before its tasks are redelivered to
    /// others. Default: 250 ms.
    pub reconnect_grace: Duration,
    /// The time that a lost peer has to return to its session, while its publications are retained for it, or for the
    /// next subscriber of its name. Default: 30 s. It is shorter in two cases: a client whose connection was
    /// closed has 3 s, after which its calls are cancelled, and a subscriber with a full backlog has
    /// [`idle_timeout`](Self::idle_timeout), since its publisher waits for it.
    pub session_expiry: Duration,
    /// How long a living subscriber may read nothing while its backlog is full (10 000 messages or
    /// 64 MiB), before it is disconnected as a slow consumer and its backlog is dropped. Until then it slows
    /// down the publisher. `None`: no limit. Default: 60 s.
    pub slow_consumer_timeout: Option<Duration>,
    /// The time after which a task without a result is pushed again, to the same or another legacy worker, such as one
    /// of pylm. The first result counts, so functions with several results lose
    /// some of them. Default: `None`, since it cannot be known whether such a worker still runs the task.
    pub ack_wait: Option<Duration>,
    /// The number of workers that may be lost after they have begun a task, before the task fails. The last delivery
    /// runs exclusively on its worker if one becomes idle within 5 s, so that a poison message does not affect other
    /// tasks; with 1 there is no such delivery. Default: 3.
    pub max_deliver: u32,
    /// The limit on sessions. Default: 10 000.
    pub max_sessions: usize,
    /// The limit on the bytes of received calls that were not passed on, and separately on those of workers' results,
    /// of all peers together. A peer may use at most four times the free capacity, and 8 MiB; messages beyond that
    /// are dropped on arrival, and requested again once there is capacity. A message that is larger than
    /// the limit is accepted if no other waits. Default: 512 MiB.
    pub max_unread_bytes: usize,
    /// The limit on the bytes of tasks that are with workers and have no result yet. Further tasks wait
    /// in their queue. Default: 512 MiB.
    pub max_task_bytes: usize,
    /// The limit on the bytes of publications and answers that subscribers and clients have not acknowledged,
    /// of all peers together. A peer may use at most four times the free capacity; beyond that it counts as one with
    /// a full backlog, see [`slow_consumer_timeout`](Self::slow_consumer_timeout). Default: 1 GiB.
    pub max_backlog_bytes: usize,
}

impl Default for LinkOptions {
    fn default() -> Self {
        Self {
            enabled: true,
            heartbeat: Duration::from_secs(7),
            idle_timeout: Duration::from_secs(15),
            reconnect_grace: Duration::from_millis(250),
            session_expiry: Duration::from_secs(30),
            slow_consumer_timeout: Some(Duration::from_secs(60)),
            ack_wait: None,
            max_deliver: 3,
            max_sessions: 10_000,
            max_unread_bytes: 512 * 1024 * 1024,
            max_task_bytes: 512 * 1024 * 1024,
            max_backlog_bytes: 1024 * 1024 * 1024,
        }
    }
}
