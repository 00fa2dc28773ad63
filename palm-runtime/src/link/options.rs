//! The limits and timeouts of links.

use std::time::Duration;

/// How the links of a component behave: how soon a peer counts as gone, and how often a task is tried.
///
/// A peer that is killed is noticed at once, by its connection; one that is cut off or stopped, after
/// [`idle_timeout`](Self::idle_timeout), whatever its role. Both ends need not have the same options.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LinkOptions {
    /// Whether a component offers links, and uses those that are offered. Default: yes. Without, messages
    /// go over PUSH, PULL, PUB and SUB as in pylm, which lose what is with a worker that dies, or on a
    /// connection that breaks.
    pub enabled: bool,
    /// How long who connects is silent if it has nothing to say; less if the idle timeout of the other side asks
    /// for it. Default: 7 s. 1000 idle workers cost their master less than 1 % of a processor then.
    pub heartbeat: Duration,
    /// How long a peer may be silent until it counts as gone. Default: 15 s.
    pub idle_timeout: Duration,
    /// How long a worker whose connection is gone has to come back before its tasks are given to
    /// others. Default: 250 ms.
    pub reconnect_grace: Duration,
    /// How long a lost peer may take to return to its session, while its publications wait for it, or for the
    /// next subscriber of its name. Default: 30 s. It is shorter in two cases: a client whose connection was
    /// closed has 3 s, after which its calls are cancelled, and a subscriber with a full backlog has
    /// [`idle_timeout`](Self::idle_timeout), since others wait for it.
    pub session_expiry: Duration,
    /// How long a subscriber that is alive may read nothing while its backlog is full (10 000 messages or
    /// 64 MiB), before it is disconnected as a slow consumer and its backlog is dropped. Until then it slows
    /// down the publisher. `None`: without a limit. Default: 60 s.
    pub slow_consumer_timeout: Option<Duration>,
    /// After how long without a result a task that was pushed to a worker without a link, as one of pylm, is
    /// given to another one, which may be the same; the first result counts, so functions with several lose
    /// some of them. Default: never, since it cannot be known what has become of such a worker.
    pub ack_wait: Option<Duration>,
    /// How many workers may be lost after they have begun a task, until it ends with an error. The last attempt
    /// runs alone on its worker, so that a message that kills its workers does no harm to others; with 1 there is
    /// no such attempt. Default: 3.
    pub max_deliver: u32,
    /// How many sessions there may be at once. Default: 10 000.
    pub max_sessions: usize,
    /// How many bytes of calls that have come over links may wait to be passed on, and how many of results of
    /// workers, of all peers together. A peer has at most four times what is free, and 8 MiB; beyond that its
    /// messages are dropped on arrival, and requested again once there is capacity. A message that is larger than
    /// all of it is accepted if no other waits. Default: 512 MiB.
    pub max_unread_bytes: usize,
    /// How many bytes of tasks may be with workers, all of them together, that have no result yet. Further ones wait
    /// in their queue. Default: 512 MiB.
    pub max_task_bytes: usize,
    /// How many bytes of publications and answers may wait for subscribers and clients that have not acknowledged
    /// them, of all peers together. A peer has at most four times what is free; beyond that it counts as one with
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
