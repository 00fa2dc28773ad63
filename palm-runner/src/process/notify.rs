//! The protocol of `sd_notify`: what processes report of themselves.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use palm_plan::InstanceId;
use tokio::net::UnixDatagram;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Longer datagrams are cut.
const MAX_BYTES: usize = 4096;

/// What a process has reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Notification {
    Ready,
    /// `RELOADING=1`: it is busy with itself, until it is ready again.
    Reloading,
    Stopping,
    Status(String),
    Watchdog,
}

/// A notification of a run.
pub(crate) type Report = (InstanceId, u32, Notification);

/// The socket of one run. Its name alone says who the sender is: the sender may have ended when its message is
/// read, so its process id would not.
#[derive(Debug)]
pub(crate) struct NotifySocket {
    /// A second descriptor of the socket, for the next runner.
    socket: OwnedFd,
    reader: JoinHandle<()>,
}

impl NotifySocket {
    /// Binds the socket at a path, in place of one that an earlier runner left.
    pub(crate) fn bind(
        path: &Path,
        id: InstanceId,
        run: u32,
        sender: mpsc::Sender<Report>,
    ) -> io::Result<Self> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let socket = std::os::unix::net::UnixDatagram::bind(path)?;
        Self::with_socket(socket.into(), id, run, sender)
    }

    /// Continues with the socket of an earlier runner.
    pub(crate) fn with_socket(
        socket: OwnedFd,
        id: InstanceId,
        run: u32,
        sender: mpsc::Sender<Report>,
    ) -> io::Result<Self> {
        let datagrams = std::os::unix::net::UnixDatagram::from(socket.try_clone()?);
        datagrams.set_nonblocking(true)?;
        let datagrams = UnixDatagram::from_std(datagrams)?;
        let reader = tokio::spawn(async move {
            let mut buffer = [0; MAX_BYTES];
            while let Ok(length) = datagrams.recv(&mut buffer).await {
                for notification in parse(&buffer[..length]) {
                    let report = (id.clone(), run, notification);
                    if sender.send(report).await.is_err() {
                        return;
                    }
                }
            }
        });
        Ok(Self { socket, reader })
    }

    /// Returns the socket, for the next runner.
    pub(crate) fn socket(&self) -> &OwnedFd {
        &self.socket
    }
}

impl Drop for NotifySocket {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

fn parse(datagram: &[u8]) -> Vec<Notification> {
    let text = String::from_utf8_lossy(datagram);
    let notification = |line: &str| match line.split_once('=')? {
        ("READY", "1") => Some(Notification::Ready),
        ("RELOADING", "1") => Some(Notification::Reloading),
        ("STOPPING", "1") => Some(Notification::Stopping),
        ("WATCHDOG", "1") => Some(Notification::Watchdog),
        ("STATUS", text) => Some(Notification::Status(crate::logs::plain(text))),
        _ => None,
    };
    let mut notifications: Vec<_> = text.lines().filter_map(notification).collect();
    // A status is that of the state which the datagram reports, wherever its line stands.
    notifications.sort_by_key(|it| matches!(it, Notification::Status(_)));
    notifications
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datagram_has_a_line_for_each_notification() {
        let datagram = b"READY=1\nSTATUS=3 tasks\x1b[31m\xff\nMAINPID=1\nX\nWATCHDOG=1";
        let expected = [
            Notification::Ready,
            Notification::Watchdog,
            Notification::Status("3 tasks\u{fffd}".to_owned()),
        ];
        assert_eq!(parse(datagram), expected);
        assert_eq!(parse(b"RELOADING=1\nSTOPPING=1").len(), 2);
    }
}
