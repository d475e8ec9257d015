//! The spawner: a small process with one thread that makes sandboxes, and outlives the server just long enough to end them all.
//! The server starts it from its own program ([`SANDBOX_SPAWNER`]) and speaks with it through `sandboxes.rs`.
//!
//! It has mounts of its own, so that none outlives it, and all first processes of sandboxes are its children,
//! so that none outlives it either: the kernel ends them with it.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::ExitCode;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, wait};

use super::cgroup::{Cgroups, Group};
use super::namespaces::{
    Attributes, close_all_but_standard, fork, see_own_mounts_alone, set_attributes, signals_as_file,
};
use super::root::NO_OVERLAYFS;
use super::seccomp::Filters;
use super::wire::{self, End, News, Order, Protection, Status};
use super::worker::{self, BIRTH_BYTES, Job, Machine, birth_of, user_namespace};

/// The argument that makes this program a spawner of sandboxes: the binary calls [`sandbox_spawner`] for it.
pub const SANDBOX_SPAWNER: &str = "sandbox-spawner";

/// Sandboxes that are to be killed as soon as they are born. Most of them are dead already, and never will be.
const UNWANTED_MAX: usize = 1_024;

/// How soon to try again to remove a group whose processes the kernel has not let go of yet.
const AGAIN: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };

/// How often that is tried at the end: ten seconds' worth. What is left then is the next server's to sweep.
const ENDS_MAX: usize = 500;

/// The whole of the process, and of those that it forks.
///
/// Called by the binary for its hidden argument `sandbox-spawner`, before anything else is set up: it must have one thread.
/// What follows the argument is the name of this server's groups; the folder it is started in is like those that layers lie in.
pub fn sandbox_spawner() -> ExitCode {
    // Whoever started the server may have left files open in it, which no sandbox is to have.
    close_all_but_standard();
    let (Some(name), Ok(folder)) = (std::env::args().nth(2), std::env::current_dir()) else {
        return ExitCode::from(2);
    };
    let Ok(server) = io::stdin().as_fd().try_clone_to_owned() else { return ExitCode::from(2) };
    let null = std::fs::File::open("/dev/null");
    if null.and_then(|null| Ok(rustix::stdio::dup2_stdin(&null)?)).is_err() {
        return ExitCode::from(2);
    }
    match Spawner::open(server, &name, &folder) {
        Ok(spawner) => match spawner.serve() {
            Ok(None) => ExitCode::SUCCESS,
            Ok(Some((machine, job))) => ExitCode::from(worker::make(machine, job)),
            Err(_) => ExitCode::FAILURE,
        },
        // There is nobody but the server to tell, and it has been told.
        Err(_) => ExitCode::FAILURE,
    }
}

struct Spawner {
    server: OwnedFd,
    signals: OwnedFd,
    births: OwnedFd,
    machine: Machine,
    /// The sandboxes that live, by the number of their first process.
    living: HashMap<Pid, u64>,
    /// Those that were to be killed before their birth was heard of.
    unwanted: Vec<u64>,
    /// Groups that could not be removed yet.
    left: Vec<Group>,
}

impl Spawner {
    fn open(server: OwnedFd, name: &str, folder: &Path) -> io::Result<Self> {
        match Self::stand(&server, name, folder) {
            Ok(spawner) => Ok(spawner),
            Err(error) => {
                let unusable = Some(error.to_string());
                wire::send(&server, &News::Here { protections: Vec::new(), unusable }, &[])?;
                Err(error)
            }
        }
    }

    fn stand(server: &OwnedFd, name: &str, folder: &Path) -> io::Result<Self> {
        if !rustix::process::geteuid().is_root() {
            return Err(io::Error::other(
                "this server does not run as root, which sandboxes of programs need in this version",
            ));
        }
        let may_not =
            |error: io::Error| io::Error::other(format!("this server may not make namespaces: {error}"));
        see_own_mounts_alone().map_err(|error| may_not(error.into()))?;
        mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)
            .map_err(|error| may_not(error.into()))?;
        let signals = signals_as_file(&[libc::SIGCHLD])?;
        let (births, tell_births) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        let filters = Filters::compile().map_err(io::Error::other)?;
        let cgroups = Cgroups::find(name);
        let mapped = maps_users(folder);
        let protections = protections(&cgroups, mapped.as_ref().err());
        let machine = Machine { cgroups, filters, maps_users: mapped.is_ok(), births: tell_births };
        wire::send(server, &News::Here { protections, unusable: None }, &[])?;
        let server = server.try_clone()?;
        Ok(Self {
            server,
            signals,
            births,
            machine,
            living: HashMap::new(),
            unwanted: Vec::new(),
            left: Vec::new(),
        })
    }

    /// Makes and buries sandboxes until the server is gone, and then ends those that are left.
    /// In each worker it comes back with its job, and with nothing of the spawner's that a sandbox could hold on to.
    fn serve(mut self) -> io::Result<Option<(Machine, Job)>> {
        let mut buffer = Vec::new();
        loop {
            let (asked, happened) = self.wait()?;
            if happened {
                self.bury();
            }
            if !asked {
                continue;
            }
            match wire::receive::<Order>(&self.server, &mut buffer) {
                Ok(Some((Order::Make, fds))) => {
                    if let Some(job) = fork_for(fds) {
                        return Ok(Some((self.machine, job)));
                    }
                }
                Ok(Some((Order::Kill { id }, _))) => self.kill(id),
                Ok(None) | Err(_) => break,
            }
        }
        self.end_all();
        Ok(None)
    }

    fn wait(&mut self) -> io::Result<(bool, bool)> {
        self.left.retain(|group| !group.remove());
        let mut fds = [
            PollFd::new(&self.server, PollFlags::IN),
            PollFd::new(&self.signals, PollFlags::IN),
            PollFd::new(&self.births, PollFlags::IN),
        ];
        match poll(&mut fds, (!self.left.is_empty()).then_some(&AGAIN)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let [server, signals, births] = fds.map(|fd| !fd.revents().is_empty());
        Ok((server, signals || births))
    }

    /// Hears of births and deaths, and tells the server of the latter.
    fn bury(&mut self) {
        let mut signal = [0; 128];
        while rustix::io::read(&self.signals, &mut signal).is_ok_and(|length| length > 0) {}
        self.hear_births();
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            // Its birth was told before it could die.
            self.hear_births();
            let Some(id) = self.living.remove(&pid) else { continue };
            let group = self.machine.cgroups.group(id);
            let status = match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => Status::Exited(code),
                (None, signal) => Status::Signaled(signal.unwrap_or_default()),
            };
            let end = End {
                status,
                out_of_memory: group.ran_out_of_memory(),
                memory_peak_bytes: group.memory_peak_bytes(),
            };
            if !group.remove() {
                self.left.push(group);
            }
            // A server that is gone is seen at the end of its wire, and then everything is ended in order.
            let _ = wire::send(&self.server, &News::Gone { id, end }, &[]);
        }
    }

    fn hear_births(&mut self) {
        let mut birth = [0; BIRTH_BYTES];
        while rustix::io::read(&self.births, &mut birth).is_ok_and(|length| length == BIRTH_BYTES) {
            let (id, Some(pid)) = birth_of(&birth) else { continue };
            self.living.insert(pid, id);
            if let Some(at) = self.unwanted.iter().position(|unwanted| *unwanted == id) {
                self.unwanted.swap_remove(at);
                self.kill(id);
            }
        }
    }

    fn kill(&mut self, id: u64) {
        self.hear_births();
        match self.living.iter().find(|(_, living)| **living == id) {
            Some((pid, _)) => {
                // The kernel ends all processes of a sandbox with its first.
                let _ = kill_process(*pid, Signal::KILL);
                self.machine.cgroups.group(id).thaw();
            }
            // Dead already, or not born yet: the server asks for no death twice.
            None => {
                if self.unwanted.len() == UNWANTED_MAX {
                    self.unwanted.remove(0);
                }
                self.unwanted.push(id);
            }
        }
    }

    /// The server is gone: so is everything.
    fn end_all(&mut self) {
        self.hear_births();
        let all: Vec<u64> = self.living.values().copied().collect();
        for id in all {
            self.kill(id);
        }
        while let Ok(Some((pid, _))) = wait(WaitOptions::empty()) {
            self.hear_births();
            if let Some(id) = self.living.remove(&pid) {
                self.left.push(self.machine.cgroups.group(id));
            }
            // Workers that were on their way may have borne more.
            let late: Vec<u64> = self.living.values().copied().collect();
            late.into_iter().for_each(|id| self.kill(id));
        }
        for _ in 0..ENDS_MAX {
            self.left.retain(|group| !group.remove());
            if self.left.is_empty() {
                break;
            }
            // The kernel lets go of processes a little after it has told of their end.
            let _ = poll(&mut [], Some(&AGAIN));
        }
        self.machine.cgroups.remove();
    }
}

/// Forks a worker; gives its job there.
fn fork_for(fds: Vec<OwnedFd>) -> Option<Job> {
    let Ok([spec, control, stdout, stderr]) = <[OwnedFd; 4]>::try_from(fds) else { return None };
    // Without a worker, and without a spec that can be read, the wire to the server breaks off, which says enough.
    let Ok(None) = fork() else { return None };
    let mut spec = std::fs::File::from(spec);
    let read =
        io::Seek::rewind(&mut spec).and_then(|()| Ok(serde_json::from_reader(io::BufReader::new(spec))?));
    match read {
        Ok(spec) => Some(Job { spec, control, stdout, stderr }),
        Err(_) => std::process::exit(1),
    }
}

/// Whether the owners of files in `folder` can be mapped.
fn maps_users(folder: &Path) -> io::Result<()> {
    use rustix::mount::{OpenTreeFlags, open_tree};
    let users = user_namespace(1 << 28)?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = open_tree(rustix::fs::CWD, folder, flags)?;
    set_attributes(tree.as_fd(), Attributes { owners: Some(users.as_fd()), ..Attributes::default() })
}

fn protections(cgroups: &Cgroups, no_users: Option<&io::Error>) -> Vec<Protection> {
    let one = |name: &str, how: &str, active| Protection { name: name.into(), how: how.into(), active };
    // Asking for it loads it, where it is a module.
    let overlay = rustix::mount::fsopen("overlay", rustix::mount::FsOpenFlags::FSOPEN_CLOEXEC).is_ok();
    let mut all = vec![
        one("namespaces", "of mounts, processes, network, IPC, host name and groups", true),
        match no_users {
            None => one("user namespace", "each has users of its own, and its files owners of them", true),
            Some(error) => one(
                "user namespace",
                &format!("{error}; each sandbox has a user that is not root instead"),
                false,
            ),
        },
        one("syscall filter", "those of ordinary programs pass, no others", true),
        one("no capabilities", "nor any to be gained by executing something", true),
        match overlay {
            true => one("image layers", "by overlayfs", true),
            false => one("image layers", NO_OVERLAYFS, false),
        },
    ];
    all.extend(cgroups.protections());
    all
}
