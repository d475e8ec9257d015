//! Messages with descriptors, between the server, its spawner and the first process of a sandbox.
//! Each wire keeps messages apart (`SOCK_SEQPACKET`), so that one is received whole or not at all.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recv, recvmsg, sendmsg, socketpair,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The longest message, in bytes; a head of a call has at most 64 KiB, and grows as JSON.
const MESSAGE_BYTES_MAX: usize = 512 << 10;

/// The most descriptors of one message; the kernel takes 253.
pub(super) const FDS_MAX: usize = 64;

/// What the server tells its spawner.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Order {
    /// Make a sandbox of the spec in the first descriptor; the others are its control, standard output and standard error.
    Make,
    /// End a sandbox at once, frozen or not.
    Kill { id: u64 },
}

/// What the spawner tells the server.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum News {
    /// It is there, and this is what the machine gives it.
    Here { protections: Vec<Protection>, unusable: Option<String> },
    /// A sandbox is gone.
    Gone { id: u64, end: End },
}

/// One of the walls of a sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Protection {
    /// What it is.
    pub name: String,
    /// How it is there, or why it is not.
    pub how: String,
    /// Whether it is there.
    pub active: bool,
}

/// How a sandbox ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct End {
    /// What its first process ended with.
    pub(crate) status: Status,
    /// Whether it had used up its memory.
    pub(crate) out_of_memory: bool,
    /// The most memory it had, in bytes; 0 if nobody counted.
    pub(crate) memory_peak_bytes: u64,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Status {
    Exited(i32),
    Signaled(i32),
}

/// What the server tells the first process of a sandbox.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Ask {
    /// So many sockets, made inside.
    Sockets(usize),
    /// Run the program for a call, with this environment beside its own; the descriptors are its standard streams.
    Run { call: u64, env: Vec<(String, String)> },
    /// End the program of a call.
    Kill { call: u64 },
    /// Ask all programs to end.
    Stop,
}

/// What the making of a sandbox, and then its first process, tell the server.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Tell {
    /// It has a process; the descriptors are those of [`Handles`].
    Born(Handles),
    /// It could not be made, or its program not be started.
    Failed { step: Step, what: String },
    /// The walls stand. The descriptors are the listening sockets that were asked for.
    Built,
    /// The program runs.
    Started,
    /// Sockets that were asked for; without descriptors, none could be made.
    Sockets,
    /// The program of a call ended.
    Ended { call: u64, status: Status },
    /// The program of a call could not be run, and why: the sandbox is there for others.
    NotStarted { call: u64, what: String },
    /// The program that runs always ended; the sandbox ends with it.
    Exited { status: Status },
}

/// How the group of a sandbox is spoken to: descriptors that come with it, in this order, where they are there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Handles {
    /// The file that freezes it, and whose freezer that is.
    pub(super) freezer: Option<Version>,
    /// The file of the memory that it uses.
    pub(super) memory: bool,
    /// The file that tells whether it ran out of memory.
    pub(super) oom: bool,
    /// The file of the processor time that it has used, and whose unit that is in.
    pub(super) processor: Option<Version>,
}

/// The two kinds of control groups; a machine may have both at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Version {
    V1,
    V2,
}

/// What went wrong on the way to a program that runs: whose fault it is depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Step {
    /// The walls: ours.
    Walls,
    /// The files: the layers, or what the machine can do with them.
    Files,
    /// Who the program was to run as: the image's or the settings'.
    User,
    /// The program itself: it is not there, or cannot be run.
    Program,
}

/// Two ends of a wire, closed on exec.
pub(super) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let (one, other) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    for end in [&one, &other] {
        // Refused is as before: then only shorter messages fit.
        let _ = rustix::net::sockopt::set_socket_send_buffer_size(end, MESSAGE_BYTES_MAX * 2);
    }
    Ok((one, other))
}

/// Sends one message.
pub(super) fn send<T: Serialize>(wire: impl AsFd, message: &T, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let bytes = serde_json::to_vec(message)?;
    if bytes.len() > MESSAGE_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the message is too long"));
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many descriptors"));
    }
    rustix::io::retry_on_intr(|| sendmsg(&wire, &[IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL))?;
    Ok(())
}

/// Receives one message; `None` when the other end is closed.
pub(super) fn receive<T: DeserializeOwned>(
    wire: impl AsFd,
    buffer: &mut Vec<u8>,
) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    // Asked first: a buffer for the longest would cost every sandbox its pages.
    let peek = RecvFlags::PEEK | RecvFlags::TRUNC;
    let (_, length) = past_reset(|| recv(&wire, &mut [0; 0], peek))?;
    buffer.resize(length.min(MESSAGE_BYTES_MAX), 0);
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let read =
        past_reset(|| recvmsg(&wire, &mut [IoSliceMut::new(buffer)], &mut control, RecvFlags::CMSG_CLOEXEC))?;
    let rights = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(fds) => Some(fds),
        _ => None,
    });
    let fds: Vec<OwnedFd> = rights.flatten().collect();
    if read.bytes == 0 {
        return Ok(None);
    }
    Ok(Some((serde_json::from_slice(&buffer[..read.bytes])?, fds)))
}

/// Does it again where the kernel told, instead of what came, that the other end closed with something unread: it tells that once,
/// and before what that end said last.
fn past_reset<T>(mut receive: impl FnMut() -> rustix::io::Result<T>) -> rustix::io::Result<T> {
    match rustix::io::retry_on_intr(&mut receive) {
        Err(rustix::io::Errno::CONNRESET) => rustix::io::retry_on_intr(receive),
        received => received,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_arrive_whole_with_their_descriptors_and_then_the_end() {
        let (one, other) = pair().unwrap();
        let env = vec![("A".to_owned(), "x".repeat(100_000))];
        send(&one, &Ask::Run { call: 7, env }, &[one.as_fd(), other.as_fd()]).unwrap();
        send(&one, &Ask::Stop, &[]).unwrap();
        drop(one);
        let mut buffer = Vec::new();
        let (message, fds) = receive::<Ask>(&other, &mut buffer).unwrap().unwrap();
        assert!(matches!(message, Ask::Run { call: 7, env } if env[0].1.len() == 100_000));
        assert_eq!(fds.len(), 2);
        drop(fds);
        assert!(matches!(receive::<Ask>(&other, &mut buffer), Ok(Some((Ask::Stop, _)))));
        assert!(matches!(receive::<Ask>(&other, &mut buffer), Ok(None)));
    }

    #[test]
    fn last_words_are_heard_of_an_end_that_did_not_hear_all() {
        let (one, other) = pair().unwrap();
        send(&other, &Ask::Sockets(4), &[]).unwrap();
        send(&one, &Ask::Stop, &[]).unwrap();
        drop(one);
        let mut buffer = Vec::new();
        assert!(matches!(receive::<Ask>(&other, &mut buffer), Ok(Some((Ask::Stop, _)))));
        assert!(matches!(receive::<Ask>(&other, &mut buffer), Ok(None)));
    }

    #[test]
    fn a_message_that_is_too_long_is_refused_and_not_cut() {
        let (one, _other) = pair().unwrap();
        let env = vec![("A".to_owned(), "x".repeat(MESSAGE_BYTES_MAX))];
        assert!(send(&one, &Ask::Run { call: 7, env }, &[]).is_err());
    }
}
