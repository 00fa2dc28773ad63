//! From one runner to the next, without a gap: the runner executes another version of itself in its own process.
//!
//! Children stay children, and their exit codes wait. Descriptors pass through a Unix socket that is the standard input
//! of the next version (`SCM_RIGHTS`): that needs no unsafe code, as inheriting them by number would. The first
//! descriptor is a file in memory with the state.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Read as _, Seek as _, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use palm_plan::InstanceId;
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use serde::{Deserialize, Serialize};

use super::{ClusterEvent, Launch};
use crate::logs::OpenOutput;
use crate::state::{ExitKind, Supervisor, Time};

/// The hidden subcommand that calls [`resume`](super::resume).
const RESUME_ARGUMENTS: [&str; 2] = ["__run", "--resume"];
/// Descriptors in one message. Linux permits 253.
const MAX_DESCRIPTORS: usize = 200;
/// The content of all messages but the last, and of the last.
const MORE: u8 = 0;
const LAST: u8 = 1;

/// The state of a runner.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct State {
    pub(super) launch: Launch,
    pub(super) supervisor: Supervisor,
    pub(super) now: Time,
    pub(super) is_stopping: bool,
    pub(super) upgrades: u32,
    /// The sockets on which runs report.
    pub(super) sockets: Vec<(InstanceId, u32)>,
    pub(super) outputs: Vec<Output>,
    /// Runs that have ended, whose descendants have not yet.
    pub(super) ends: Vec<(InstanceId, u32, u32, ExitKind)>,
    /// Events that could not be written yet.
    #[serde(default)]
    pub(super) events: Vec<ClusterEvent>,
}

/// The output of a run.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Output {
    id: InstanceId,
    run: u32,
    has_pipe: [bool; 2],
    pending: [Vec<u8>; 2],
    last_lines: [VecDeque<String>; 2],
    #[serde(default)]
    lost: Option<(u64, String)>,
}

/// The descriptors of a runner, in the order of their passing.
#[derive(Debug)]
pub(super) struct Descriptors {
    pub(super) lock: OwnedFd,
    pub(super) api: OwnedFd,
    pub(super) sockets: Vec<OwnedFd>,
    pub(super) pipes: Vec<OwnedFd>,
}

impl Output {
    /// Separates what can be written to a file from the descriptors.
    pub(super) fn split(output: OpenOutput) -> (Self, Vec<OwnedFd>) {
        let this = Self {
            id: output.id,
            run: output.run,
            has_pipe: [output.pipes[0].is_some(), output.pipes[1].is_some()],
            pending: output.pending,
            last_lines: output.last_lines,
            lost: output.lost,
        };
        (this, output.pipes.into_iter().flatten().collect())
    }

    /// Combines it with its descriptors, which are the next ones of `pipes`.
    pub(super) fn join(self, pipes: &mut impl Iterator<Item = OwnedFd>) -> OpenOutput {
        OpenOutput {
            id: self.id,
            run: self.run,
            pipes: self
                .has_pipe
                .map(|has_pipe| has_pipe.then(|| pipes.next()).flatten()),
            pending: self.pending,
            last_lines: self.last_lines,
            lost: self.lost,
        }
    }
}

/// Replaces this process. Returns only if that fails; nothing is lost then.
pub(super) fn execute(executable: &Path, state: &State, descriptors: &Descriptors) -> io::Error {
    match send(state, descriptors) {
        Ok(socket) => Command::new(executable)
            .args(RESUME_ARGUMENTS)
            .stdin(Stdio::from(socket))
            .exec(),
        Err(error) => error,
    }
}

/// Returns a socket in which the state waits to be received.
fn send(state: &State, descriptors: &Descriptors) -> io::Result<OwnedFd> {
    let mut file = File::from(memfd_create("palm-runner", MemfdFlags::CLOEXEC)?);
    serde_json::to_writer(&mut file, state)?;
    file.flush()?;
    file.rewind()?;
    let (sender, receiver) = socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?;
    let mut all = vec![
        file.as_fd(),
        descriptors.lock.as_fd(),
        descriptors.api.as_fd(),
    ];
    all.extend(descriptors.sockets.iter().map(AsFd::as_fd));
    all.extend(descriptors.pipes.iter().map(AsFd::as_fd));
    let mut chunks = all.chunks(MAX_DESCRIPTORS).peekable();
    while let Some(chunk) = chunks.next() {
        let content = if chunks.peek().is_some() { MORE } else { LAST };
        send_chunk(&sender, content, chunk)?;
    }
    Ok(receiver)
}

fn send_chunk(sender: &OwnedFd, content: u8, chunk: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space =
        [const { MaybeUninit::uninit() }; rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(chunk)) {
        return Err(io::Error::other("too many descriptors in one message"));
    }
    let bytes = [content];
    // It must not block, because the socket has no reader yet.
    sendmsg(
        sender,
        &[IoSlice::new(&bytes)],
        &mut control,
        SendFlags::DONTWAIT,
    )?;
    Ok(())
}

/// Receives the state of the previous version from standard input.
pub(super) fn receive() -> io::Result<(State, Descriptors)> {
    let mut all = Vec::new();
    loop {
        let mut space =
            [const { MaybeUninit::uninit() }; rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut content = [LAST];
        let mut content_slice = [IoSliceMut::new(&mut content)];
        let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
        recvmsg(io::stdin(), &mut content_slice, &mut control, flags)?;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                all.extend(descriptors);
            }
        }
        if content == [LAST] {
            break;
        }
    }
    let missing = || io::Error::new(io::ErrorKind::UnexpectedEof, "descriptors are missing");
    let mut all = all.into_iter();
    let mut text = String::new();
    File::from(all.next().ok_or_else(missing)?).read_to_string(&mut text)?;
    let state: State = serde_json::from_str(&text)?;
    let lock = all.next().ok_or_else(missing)?;
    let api = all.next().ok_or_else(missing)?;
    let sockets: Vec<_> = all.by_ref().take(state.sockets.len()).collect();
    let descriptors = Descriptors {
        lock,
        api,
        sockets,
        pipes: all.collect(),
    };
    // The socket is not needed any more, and components must not find it.
    rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    Ok((state, descriptors))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn descriptors_keep_their_order_in_output() {
        let pipes: Vec<OwnedFd> = (0..3)
            .map(|_| UnixStream::pair().unwrap().0.into())
            .collect();
        let output = |index: u32, has_pipe| Output {
            id: format!("a/{index}").parse().unwrap(),
            run: index,
            has_pipe,
            pending: [vec![1], Vec::new()],
            last_lines: Default::default(),
            lost: None,
        };
        let mut pipes = pipes.into_iter();
        let first = output(0, [false, true]).join(&mut pipes);
        let second = output(1, [true, true]).join(&mut pipes);
        assert!(first.pipes[0].is_none() && first.pipes[1].is_some());
        assert!(second.pipes.iter().all(Option::is_some));
        let (again, descriptors) = Output::split(second);
        assert_eq!((again.has_pipe, descriptors.len()), ([true, true], 2));
    }
}
