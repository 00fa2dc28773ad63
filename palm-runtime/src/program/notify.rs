//! The notifications of `sd_notify`, for systemd, podman and palm's own runner: ready, status, stopping and signs of
//! life. They are sent only if `NOTIFY_SOCKET` is set.

use std::time::Duration;

/// Sends notifications, if a runner asks for them.
#[derive(Debug)]
pub(super) struct Notifier {
    #[cfg(unix)]
    sender: Option<unix::Sender>,
}

impl Notifier {
    /// Returns the notifier of this process.
    pub(super) fn from_environment() -> Self {
        Self {
            #[cfg(unix)]
            sender: unix::Sender::from_environment(),
        }
    }

    /// Reports that the component works: its sockets are bound, and it is connected upstream.
    pub(super) fn ready(&self, status: &str) {
        self.send(Notification::Ready(status.to_owned()));
    }

    /// Describes in a line what the program does.
    pub(super) fn status(&self, status: &str) {
        self.send(Notification::Status(status.to_owned()));
    }

    /// Reports that the component drains.
    pub(super) fn stopping(&self) {
        self.send(Notification::Stopping);
    }

    /// Sends a sign of life.
    pub(super) fn alive(&self) {
        self.send(Notification::Alive);
    }

    /// Returns whether a runner reads notifications.
    pub(super) fn is_read(&self) -> bool {
        #[cfg(unix)]
        return self.sender.is_some();
        #[cfg(not(unix))]
        false
    }

    /// Returns the interval of signs of life that the runner expects.
    pub(super) fn watchdog(&self) -> Option<Duration> {
        #[cfg(unix)]
        return self.sender.as_ref().and_then(|_| unix::watchdog());
        #[cfg(not(unix))]
        None
    }

    fn send(&self, notification: Notification) {
        #[cfg(unix)]
        if let Some(sender) = &self.sender {
            sender.send(notification);
        }
        #[cfg(not(unix))]
        drop(notification);
    }
}

#[derive(Debug)]
#[cfg_attr(not(unix), allow(dead_code, reason = "there is no NOTIFY_SOCKET"))]
enum Notification {
    Ready(String),
    Status(String),
    Stopping,
    Alive,
}

#[cfg(unix)]
mod unix {
    use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
    use std::time::Duration;

    use sd_notify::NotifyState;

    use super::Notification;

    /// More than a program sends in its life, except for signs of life. Those that a runner does not read are dropped.
    const QUEUED: usize = 16;

    /// How long the end of the program waits for a runner that does not read.
    const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

    /// Sends from a thread of its own, because the socket blocks if the runner does not read.
    #[derive(Debug)]
    pub(super) struct Sender {
        queue: Option<SyncSender<Notification>>,
        /// Disconnected when the thread has sent everything.
        done: Receiver<()>,
    }

    impl Sender {
        pub(super) fn from_environment() -> Option<Self> {
            std::env::var_os("NOTIFY_SOCKET")?;
            let (queue, queued) = sync_channel(QUEUED);
            let (has_ended, done) = sync_channel(0);
            let thread = std::thread::Builder::new().name("palm-notify".to_owned());
            let thread = thread.spawn(move || {
                let mut has_failed = false;
                for notification in queued {
                    if let Err(error) = send(&notification)
                        && !has_failed
                    {
                        has_failed = true;
                        tracing::warn!(%error, "cannot send notifications to NOTIFY_SOCKET");
                    }
                }
                drop::<SyncSender<()>>(has_ended);
            });
            match thread {
                Ok(_) => Some(Self {
                    queue: Some(queue),
                    done,
                }),
                Err(error) => {
                    tracing::warn!(%error, "cannot send notifications to NOTIFY_SOCKET");
                    None
                }
            }
        }

        pub(super) fn send(&self, notification: Notification) {
            if let Some(queue) = &self.queue {
                let _ = queue.try_send(notification);
            }
        }
    }

    impl Drop for Sender {
        fn drop(&mut self) {
            self.queue = None;
            if self.done.recv_timeout(FLUSH_TIMEOUT) == Err(RecvTimeoutError::Timeout) {
                tracing::warn!("NOTIFY_SOCKET is not read, notifications are lost");
            }
        }
    }

    fn send(notification: &Notification) -> std::io::Result<()> {
        match notification {
            Notification::Ready(status) => {
                sd_notify::notify(&[NotifyState::Ready, NotifyState::Status(status)])
            }
            Notification::Status(status) => sd_notify::notify(&[NotifyState::Status(status)]),
            Notification::Stopping => {
                sd_notify::notify(&[NotifyState::Stopping, NotifyState::Status("draining")])
            }
            Notification::Alive => sd_notify::notify(&[NotifyState::Watchdog]),
        }
    }

    /// Half of the time after which the runner counts the program as hung.
    pub(super) fn watchdog() -> Option<Duration> {
        sd_notify::watchdog_enabled().map(|limit| limit / 2)
    }
}
