//! How patient the ends of a link are.

use std::time::Duration;

/// How the links of a component behave: how soon a peer counts as gone, and how often a task is tried.
///
/// A peer that is killed is noticed at once, by its connection; one that is cut off or stopped, after
/// [`patience`](Self::patience). A subscriber that is stopped is waited for as long as it is connected. Both
/// ends need not have the same options.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LinkOptions {
    /// Whether a component offers links, and uses those that are offered. Default: yes. Without, messages
    /// go over PUSH, PULL, PUB and SUB as in pylm, which lose what is with a worker that dies, or on a
    /// connection that breaks.
    pub enabled: bool,
    /// How long who connects is silent if it has nothing to say; less where the other side's patience asks
    /// for it. Default: 7 s. 1000 idle workers cost their master less than 1 % of a processor then.
    pub heartbeat: Duration,
    /// How long a peer may be silent until it counts as gone. Default: 15 s.
    pub patience: Duration,
    /// How long a worker whose connection is gone has to come back before its tasks are given to
    /// others. Default: 250 ms.
    pub grace: Duration,
    /// How long the session of a peer that is gone is kept, so that it can go on where it was, and what is
    /// published for a subscriber waits for the next of its name. The calls of a client that is gone for
    /// longer are cancelled. Default: 30 s.
    pub resume_limit: Duration,
    /// How long a subscriber may take nothing, while as much as may wait for it does (10 000 messages,
    /// 64 MiB), until it is dropped with an error. Default: as long as it is connected; it slows the
    /// publisher. A client is dropped after [`resume_limit`](Self::resume_limit) then.
    pub slow_limit: Option<Duration>,
    /// After how long without a result a task that was pushed to a worker without a link, as one of pylm, is
    /// given to another one, which may be the same; the first result counts, so functions with several lose
    /// some of them. Default: never, since it cannot be known what has become of such a worker.
    pub pushed_limit: Option<Duration>,
    /// How many workers are tried with a task until it becomes an error to its caller. Default: 3.
    pub max_attempts: u32,
    /// How many sessions there may be at once. Default: 10 000.
    pub max_sessions: usize,
}

impl Default for LinkOptions {
    fn default() -> Self {
        Self {
            enabled: true,
            heartbeat: Duration::from_secs(7),
            patience: Duration::from_secs(15),
            grace: Duration::from_millis(250),
            resume_limit: Duration::from_secs(30),
            slow_limit: None,
            pushed_limit: None,
            max_attempts: 3,
            max_sessions: 10_000,
        }
    }
}
