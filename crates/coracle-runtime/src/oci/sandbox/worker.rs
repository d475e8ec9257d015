//! Makes one sandbox: its groups, its users, its files and its first process, and then ends.
//! Forked by the spawner for each start, so that starts overlap; the first process becomes the spawner's own child.

use std::fs;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, OwnedFd};

use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, WaitOptions, waitpid};

use super::cgroup::{Cgroups, Group};
use super::init::{self, Birth};
use super::namespaces::{Spaces, fork_apart, fork_as_nobody};
use super::root::Sources;
use super::seccomp::Filters;
use super::spec::{Network, Spec};
use super::user::IDS;
use super::wire::{self, Step, Tell};

/// The first user of the first sandbox on the machine; above all that people and services use.
const FIRST_USER: u32 = 0x1000_0000;

/// How many sandboxes have users of their own before numbers are used again.
const RANGES: u64 = 16_384;

/// What all workers of a spawner share.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) cgroups: Cgroups,
    pub(super) filters: Filters,
    /// Whether users can be mapped: namespaces of users and owners of files.
    pub(super) maps_users: bool,
    /// Where workers tell the spawner of births.
    pub(super) births: OwnedFd,
}

/// What the server sent for a sandbox.
pub(super) struct Job {
    pub(super) spec: Spec,
    pub(super) control: OwnedFd,
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
}

/// A birth as it is told: the number of a sandbox, and that of its first process.
pub(super) const BIRTH_BYTES: usize = 12;

pub(super) fn birth_of(bytes: &[u8; BIRTH_BYTES]) -> (u64, Option<Pid>) {
    let (id, pid) = bytes.split_at(8);
    let id = u64::from_le_bytes(id.try_into().unwrap_or_default());
    (id, Pid::from_raw(i32::from_le_bytes(pid.try_into().unwrap_or_default())))
}

/// Makes a sandbox. In its first process this comes back with that one's end.
pub(super) fn make(machine: Machine, job: Job) -> u8 {
    let control = match job.control.try_clone() {
        Ok(control) => control,
        Err(_) => return 1,
    };
    match born(machine, job) {
        Ok(code) => code,
        Err((step, error)) => {
            // A server that is gone need not be told.
            let _ = wire::send(&control, &Tell::Failed { step, what: error.to_string() }, &[]);
            1
        }
    }
}

fn born(machine: Machine, job: Job) -> Result<u8, (Step, io::Error)> {
    let Job { spec, control, stdout, stderr } = job;
    let walls = |error: io::Error| (Step::Walls, error);
    let id = spec.id;
    let group = machine.cgroups.make(id, &spec.bounds).map_err(walls)?;
    let base = FIRST_USER + u32::try_from(id % RANGES).unwrap_or_default() * IDS;
    let users = if machine.maps_users { Some(user_namespace(base).map_err(walls)?) } else { None };
    let sources =
        Sources::open(&spec.root, users.as_ref().map(AsFd::as_fd)).map_err(|error| (Step::Files, error))?;
    // Nobody writes to it: its end says that the birth is known.
    let (known, tells) = pipe_with(PipeFlags::CLOEXEC).map_err(|error| walls(error.into()))?;
    let birthplace = group.birthplace().map_err(walls)?;
    let network = matches!(spec.network, Network::Own { .. });
    let spaces = Spaces { network, group: birthplace.as_ref().map(AsFd::as_fd) };
    let Some(pid) = fork_apart(spaces).map_err(walls)? else {
        drop((tells, birthplace));
        group.enter().map_err(walls)?;
        // Nothing comes; an error would be the end of the pipe too.
        let _ = rustix::io::read(&known, &mut [0]);
        drop(known);
        let Machine { filters, .. } = machine;
        let birth = Birth { spec, sources, filters, users, base, control, stdout, stderr };
        return Ok(init::live(birth));
    };
    tell_birth(&machine, &group, id, pid, &control).map_err(|error| {
        // It waits to be known; without that it must not go on.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        (Step::Walls, error)
    })?;
    drop(tells);
    Ok(0)
}

fn tell_birth(machine: &Machine, group: &Group, id: u64, pid: Pid, control: &OwnedFd) -> io::Result<()> {
    let mut birth = Vec::with_capacity(BIRTH_BYTES);
    birth.write_all(&id.to_le_bytes())?;
    birth.write_all(&pid.as_raw_nonzero().get().to_le_bytes())?;
    // Before anything that can fail: whoever is born is buried.
    rustix::io::write(&machine.births, &birth)?;
    let (handles, fds) = group.handles();
    let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
    wire::send(control, &Tell::Born(handles), &fds)
}

/// A namespace in which the users of a sandbox are users of the machine that nobody else is.
pub(super) fn user_namespace(base: u32) -> io::Result<OwnedFd> {
    let (ready, holds) = pipe_with(PipeFlags::CLOEXEC)?;
    let Some(pid) = fork_as_nobody()? else {
        drop(holds);
        let _ = rustix::io::read(&ready, &mut [0]);
        std::process::exit(0)
    };
    let folder = format!("/proc/{}", pid.as_raw_nonzero());
    let map = format!("0 {base} {IDS}\n");
    let namespace = fs::write(format!("{folder}/uid_map"), &map)
        .and_then(|()| fs::write(format!("{folder}/gid_map"), &map))
        .and_then(|()| fs::File::open(format!("{folder}/ns/user")));
    drop(holds);
    let _ = waitpid(Some(pid), WaitOptions::empty());
    namespace.map(OwnedFd::from)
}
