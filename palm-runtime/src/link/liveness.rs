//! Signs of life for links whose task cannot run, by one thread of the process.
//!
//! A method that blocks its thread may delay the task that drives a link; on a runtime with one thread
//! it always does. The peer would consider the process dead, and redeliver its tasks. So a link publishes when it will
//! be driven again at the latest ([`LinkLiveness`]). If that time passes, the thread `palm-liveness` sends headers with
//! `alive` over a connection of its own, as often as heartbeats, until the link is driven again. Otherwise nothing is
//! sent, and the thread wakes about twice a second.
//!
//! A link that no task drives any more, since its component or its runtime has stopped, shows no signs of life.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

use super::header;
use crate::message::proto::LinkHeader;
use crate::socket::{Address, Dealer, Frames, SocketOptions};
use crate::spawn::spawn;
use crate::watchdog::{self, Watchdog};

/// How late a link may be driven, unless its heartbeat interval is shorter.
const MAX_LATENESS: Duration = Duration::from_secs(1);

/// The shortest interval at which the thread checks links.
const MIN_CHECK_INTERVAL: Duration = Duration::from_millis(25);

/// Time for which the thread sleeps if it has nothing to watch.
const IDLE_INTERVAL: Duration = Duration::from_secs(60);

/// The value of `late_at` while no task drives the link.
const NEVER: u64 = u64::MAX;

/// The state of a link that the thread can read without the task that drives the link.
#[derive(Debug)]
pub(super) struct LinkLiveness {
    address: Address,
    sockets: SocketOptions,
    /// When the link will be late, in milliseconds since [`START`].
    late_at: AtomicU64,
    sign: Mutex<Option<LifeSign>>,
    is_registered: AtomicBool,
    /// Whether the thread is showing signs of life.
    is_shown: AtomicBool,
}

/// A header that shows life, and the interval at which it is sent.
#[derive(Debug, Clone)]
struct LifeSign {
    header: Bytes,
    interval: Duration,
}

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

fn milliseconds(at: Instant) -> u64 {
    let since = at.saturating_duration_since(*START).as_millis();
    u64::try_from(since).unwrap_or(NEVER - 1)
}

impl LinkLiveness {
    pub(super) fn new(address: &Address, sockets: &SocketOptions) -> Arc<Self> {
        Arc::new(Self {
            address: address.clone(),
            sockets: sockets.clone(),
            late_at: AtomicU64::new(NEVER),
            sign: Mutex::default(),
            is_registered: AtomicBool::new(false),
            is_shown: AtomicBool::new(false),
        })
    }

    /// Declares that a task drives the link, until the guard is dropped.
    pub(super) fn drive(self: &Arc<Self>) -> DriveGuard<'_> {
        watch(self);
        DriveGuard(self)
    }

    /// Declares that the link will be driven again at `due` at the latest.
    pub(super) fn driven(&self, due: Instant, heartbeat: Duration) {
        let late_at = due + MAX_LATENESS.min(heartbeat / 2);
        self.late_at.store(milliseconds(late_at), Ordering::Relaxed);
    }

    /// Sets the open session and its heartbeat interval; `None` if there is none, or its peer does not support signs of
    /// life.
    pub(super) fn set_session(&self, session: Option<(Bytes, Duration)>) {
        let sign = session.map(|(session, interval)| {
            let header = header::encode(&LinkHeader {
                alive: true,
                ..header::new(session)
            });
            LifeSign { header, interval }
        });
        *self.sign.lock() = sign;
    }

    /// Returns the sign of life to send if the link is late.
    fn late(&self, now: Instant) -> Option<LifeSign> {
        let late_at = self.late_at.load(Ordering::Relaxed);
        if late_at == NEVER || milliseconds(now) < late_at {
            return None;
        }
        self.sign.lock().clone()
    }

    /// Returns the time until the link may be late.
    fn due_in(&self, now: Instant) -> Duration {
        match self.late_at.load(Ordering::Relaxed) {
            NEVER => IDLE_INTERVAL,
            late_at => Duration::from_millis(late_at.saturating_sub(milliseconds(now)) + 1),
        }
    }
}

/// Shows that a task drives a link.
#[derive(Debug)]
pub(super) struct DriveGuard<'a>(&'a LinkLiveness);

impl Drop for DriveGuard<'_> {
    fn drop(&mut self) {
        self.0.late_at.store(NEVER, Ordering::Relaxed);
    }
}

/// The links of the process, and the thread that watches them.
#[derive(Debug, Default)]
struct LivenessRegistry {
    links: Vec<Weak<LinkLiveness>>,
    /// The process that has the thread. A forked process has none.
    process: Option<u32>,
    wake: Arc<Notify>,
}

static REGISTRY: LazyLock<Mutex<LivenessRegistry>> = LazyLock::new(Mutex::default);

fn registry() -> MutexGuard<'static, LivenessRegistry> {
    REGISTRY.lock()
}

fn watch(life: &Arc<LinkLiveness>) {
    if !life.is_registered.swap(true, Ordering::AcqRel) {
        registry().links.push(Arc::downgrade(life));
    }
    start();
}

/// Starts the thread if it does not run.
pub(crate) fn start() {
    // Before anything is late.
    LazyLock::force(&START);
    let mut registry = registry();
    let process = std::process::id();
    if registry.process != Some(process) {
        let wake = Arc::<Notify>::default();
        let watched = wake.clone();
        let thread = std::thread::Builder::new().name("palm-liveness".to_owned());
        match thread.spawn(move || run(&watched)) {
            Ok(_) => registry.process = Some(process),
            Err(error) => tracing::warn!(%error, "no thread for signs of life"),
        }
        registry.wake = wake;
    }
    registry.wake.notify_one();
}

fn run(wake: &Notify) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    match runtime {
        Ok(runtime) => runtime.block_on(look_after_links(wake)),
        Err(error) => tracing::warn!(%error, "no runtime for signs of life"),
    }
}

async fn look_after_links(wake: &Notify) {
    let mut watchdog = Watchdog::default();
    let mut looked_at = None::<Instant>;
    loop {
        let now = Instant::now();
        let mut next = IDLE_INTERVAL;
        let links = {
            let mut registry = registry();
            registry.links.retain(|life| life.strong_count() > 0);
            registry.links.clone()
        };
        for life in links.iter().filter_map(Weak::upgrade) {
            if life.late(now).is_none() {
                next = next.min(life.due_in(now));
            } else {
                next = next.min(watchdog::INTERVAL);
                if !life.is_shown.swap(true, Ordering::AcqRel) {
                    spawn(show(life));
                }
            }
        }
        if looked_at.is_none_or(|at| now.saturating_duration_since(at) >= watchdog::INTERVAL / 2) {
            looked_at = Some(now);
            if watchdog.look(now) {
                next = next.min(watchdog::INTERVAL);
            }
        } else {
            next = next.min(watchdog::INTERVAL);
        }
        tokio::select! {
            () = tokio::time::sleep(next.max(MIN_CHECK_INTERVAL)) => {}
            () = wake.notified() => {}
        }
    }
}

/// Shows signs of life until the link is driven again.
async fn show(life: Arc<LinkLiveness>) {
    if let Ok(dealer) = Dealer::connect(&life.address, &life.sockets).await {
        tracing::debug!(address = %life.address, "the task of a link cannot run: sending signs of life for it");
        let mut sent = None::<Instant>;
        while let Some(LifeSign { header, interval }) = life.late(Instant::now()) {
            if sent.is_none_or(|at| at.elapsed() >= interval) {
                let frames: Frames = std::iter::once(header).collect();
                // Without a connection nothing is sent.
                let _ = tokio::time::timeout(interval, dealer.send(frames)).await;
                sent = Some(Instant::now());
            }
            tokio::time::sleep(interval.min(watchdog::INTERVAL / 2)).await;
        }
        dealer.close(Duration::ZERO).await;
    }
    life.is_shown.store(false, Ordering::Release);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn link_shows_life_only_while_it_is_driven_late_and_has_a_session() {
        let address = "tcp://127.0.0.1:9".parse().expect("it is an address");
        let life = LinkLiveness::new(&address, &SocketOptions::default());
        let begin = Instant::now();
        let later = begin + Duration::from_secs(100);
        let heartbeat = Duration::from_secs(7);
        assert!(life.late(later).is_none(), "no task drives the link");
        let drive = life.drive();
        life.driven(begin + heartbeat, heartbeat);
        assert!(life.late(later).is_none(), "the link has no session");
        life.set_session(Some((vec![7; header::SESSION_LEN].into(), heartbeat)));
        assert!(life.late(begin + heartbeat).is_none());
        assert!(life.late(begin + heartbeat + MAX_LATENESS / 2).is_none());
        let sign = life
            .late(begin + heartbeat + 2 * MAX_LATENESS)
            .expect("the link is late");
        let header = header::decode(sign.header).expect("the sign is a header");
        assert!(header.alive && sign.interval == heartbeat);
        drop(drive);
        assert!(life.late(later).is_none(), "the task has ended");
    }

    #[test]
    fn short_heartbeat_makes_a_link_late_sooner() {
        let address = "tcp://127.0.0.1:9".parse().expect("it is an address");
        let life = LinkLiveness::new(&address, &SocketOptions::default());
        let begin = Instant::now();
        let heartbeat = Duration::from_millis(200);
        let _drive = life.drive();
        life.set_session(Some((vec![7; header::SESSION_LEN].into(), heartbeat)));
        life.driven(begin, heartbeat);
        assert!(life.late(begin + Duration::from_millis(50)).is_none());
        assert!(life.late(begin + Duration::from_millis(150)).is_some());
    }
}
