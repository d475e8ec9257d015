//! The first process of a sandbox: it raises the walls around itself, and then runs programs within them when the server asks.
//! It reaps what they leave, and its end is the end of everything in the sandbox.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use rustix::process::{DumpableBehavior, Pid, Resource, Rlimit, Signal, WaitOptions, setrlimit, wait};
use rustix::thread::{CapabilitySet, CapabilitySets, Gid, LinkNameSpaceType, Uid};

use super::namespaces::{
    Strings, loopback_up, see_own_groups_alone, signal_all, signals_as_file, spawn, wait_for_the_core,
};
use super::root::{self, Sources};
use super::seccomp::Filters;
use super::spec::{Network, Runs, Spec};
use super::user::{self, Identity};
use super::wire::{self, Ask, FDS_MAX, Status, Step, Tell};

/// Files that a program may have open, where the machine allows as many.
const FILES_MAX: u64 = 65_536;

/// Where programs are looked for when the environment does not say.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How much sooner than its size says the program of a call is ended where memory runs out, in thousandths of what there is.
const OOM_SCORE: &str = "500";

/// What ends a program that could not become one: the code that shells give it.
const NOT_FOUND: i32 = 127;

/// What the first process of a sandbox is given.
pub(super) struct Birth {
    pub(super) spec: Spec,
    pub(super) sources: Sources,
    pub(super) filters: Filters,
    /// The namespace of its users, where the machine has such.
    pub(super) users: Option<OwnedFd>,
    /// The number of its first user on the machine.
    pub(super) base: u32,
    pub(super) control: OwnedFd,
    pub(super) stdout: OwnedFd,
    pub(super) stderr: OwnedFd,
}

/// Why a sandbox cannot be.
struct Failure {
    step: Step,
    what: String,
}

trait At<T> {
    /// Names the step that failed.
    fn at(self, step: Step, doing: &str) -> Result<T, Failure>;
}

impl<T, E: std::fmt::Display> At<T> for Result<T, E> {
    fn at(self, step: Step, doing: &str) -> Result<T, Failure> {
        self.map_err(|error| Failure { step, what: format!("{doing}: {error}") })
    }
}

/// All of the life of the first process, from its birth to its end.
pub(super) fn live(birth: Birth) -> u8 {
    let Birth { spec, sources, filters, users, base, control, stdout, stderr } = birth;
    let walls = raise(&spec, sources, &filters, users.as_ref().map(AsFd::as_fd), base, control.as_fd());
    drop((users, filters));
    let ran = walls.and_then(|signals| {
        wire::send(&control, &Tell::Built, &[]).at(Step::Walls, "tell that it is built")?;
        let program = Program::of(&spec).at(Step::Program, "prepare the program")?;
        program.enter_workdir().map_err(|what| Failure { step: Step::Program, what })?;
        Init { control: &control, signals, program, main: None, running: Vec::new() }
            .run(spec.runs, stdout, stderr)
    });
    match ran {
        Ok(()) => 0,
        Err(Failure { step, what }) => {
            // Gone servers need not be told.
            let _ = wire::send(&control, &Tell::Failed { step, what }, &[]);
            1
        }
    }
}

/// Raises the walls, and leaves all rights outside; gives the signals as a file.
fn raise(
    spec: &Spec,
    sources: Sources,
    filters: &Filters,
    users: Option<BorrowedFd<'_>>,
    base: u32,
    control: BorrowedFd<'_>,
) -> Result<OwnedFd, Failure> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .at(Step::Walls, "be ended with the spawner")?;
    rustix::system::sethostname(spec.hostname.as_bytes()).at(Step::Walls, "set the host name")?;
    if let Network::Own { listen, .. } = &spec.network {
        loopback_up().at(Step::Walls, "set up the loopback")?;
        let mut sockets = Vec::new();
        for address in listen {
            sockets.push(listening(*address).at(Step::Walls, &format!("listen on {address}"))?);
        }
        for some in sockets.chunks(FDS_MAX) {
            let fds: Vec<_> = some.iter().map(AsFd::as_fd).collect();
            wire::send(control, &Tell::Sockets, &fds).at(Step::Walls, "pass sockets")?;
        }
    }
    root::enter(spec, sources, base).at(Step::Files, "build its root")?;
    let who = identity_of(spec).at(Step::User, "find its user")?;
    bound_by_rlimits(spec);
    // Where that is refused, calls are slower and no less right.
    let _ = wait_for_the_core();
    // From here on rights are used, then left, and cannot come back.
    see_own_groups_alone().at(Step::Walls, "leave the machine's groups")?;
    if let Some(users) = users {
        rustix::thread::move_into_link_name_space(users, Some(LinkNameSpaceType::User))
            .at(Step::Walls, "enter its user namespace")?;
    }
    // Without such a namespace its users are those of the machine, with numbers that nobody else has.
    let first = if users.is_some() { 0 } else { base };
    become_user(&who, first).at(Step::Walls, "become its user")?;
    silence().at(Step::Walls, "open /dev/null")?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .at(Step::Walls, "be closed to tracing")?;
    // Changing users forgot it.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .at(Step::Walls, "be ended with the spawner")?;
    let signals = signals_as_file(&[libc::SIGCHLD]).at(Step::Walls, "listen for signals")?;
    rustix::thread::set_no_new_privs(true).at(Step::Walls, "renounce new privileges")?;
    filters.install().at(Step::Walls, "filter system calls")?;
    Ok(signals)
}

/// A socket that listens on the loopback of the sandbox, for the server.
fn listening(address: std::net::SocketAddrV4) -> rustix::io::Result<OwnedFd> {
    let socket = socket_with(
        AddressFamily::INET,
        SocketType::STREAM,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )?;
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, 128)?;
    Ok(socket)
}

/// Who the program runs as, by the accounts of the root that this process is in.
pub(super) fn identity_of(spec: &Spec) -> Result<Identity, String> {
    // An image may have no accounts: then there are numbers alone. A large file is no file of accounts.
    let read = |path: &str| {
        let is_small =
            std::fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.len() <= 1 << 20);
        if is_small { std::fs::read_to_string(path).unwrap_or_default() } else { String::new() }
    };
    user::identity(&spec.user, &read("/etc/passwd"), &read("/etc/group"))
}

/// Leaves all rights of root, and becomes the user; `first` is the number of the sandbox's root here.
fn become_user(who: &Identity, first: u32) -> rustix::io::Result<()> {
    for capability in CapabilitySet::all().iter() {
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            // This kernel does not know it yet.
            Ok(()) | Err(rustix::io::Errno::INVAL) => {}
            Err(error) => return Err(error),
        }
    }
    rustix::thread::clear_ambient_capability_set()?;
    let groups: Vec<Gid> = who.groups.iter().map(|gid| Gid::from_raw(first + gid)).collect();
    let (uid, gid) = (Uid::from_raw(first + who.uid), Gid::from_raw(first + who.gid));
    rustix::thread::set_thread_groups(&groups)?;
    rustix::thread::set_thread_res_gid(gid, gid, gid)?;
    rustix::thread::set_thread_res_uid(uid, uid, uid)?;
    let none = CapabilitySet::empty();
    rustix::thread::set_capabilities(
        None,
        CapabilitySets { effective: none, permitted: none, inheritable: none },
    )
}

/// Bounds on what the groups do not count. Refused is what the machine bounds lower already.
fn bound_by_rlimits(spec: &Spec) {
    let processes = u64::from(spec.bounds.processes) + 2;
    for (resource, wanted) in
        [(Resource::Nofile, FILES_MAX), (Resource::Core, 0), (Resource::Nproc, processes)]
    {
        let most = rustix::process::getrlimit(resource).maximum.map_or(wanted, |maximum| maximum.min(wanted));
        let _ = setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) });
    }
}

/// Lets go of the standard streams, which are the server's.
fn silence() -> rustix::io::Result<()> {
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&null)
}

/// A program, ready to be run often.
struct Program {
    /// The paths to try, in turn.
    paths: Vec<CString>,
    /// What to say if none of them is there.
    not_found: String,
    arguments: Strings,
    environment: Vec<CString>,
    workdir: CString,
}

impl Program {
    fn of(spec: &Spec) -> Result<Self, String> {
        let text = |text: &str| CString::new(text).map_err(|_| format!("`{text}` has a zero byte"));
        let first = spec.command.first().filter(|first| !first.is_empty()).ok_or("it has no command")?;
        let variable =
            |name: &str| spec.env.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        let is_path = first.contains('/');
        let place = if is_path { "" } else { " in the folders of its PATH" };
        let not_found = format!("`{first}`: there is no such program{place}");
        let paths = if is_path {
            vec![text(first)?]
        } else {
            let folders = variable("PATH").unwrap_or(PATH).split(':').filter(|folder| !folder.is_empty());
            folders.map(|folder| text(&format!("{folder}/{first}"))).collect::<Result<_, _>>()?
        };
        let mut environment = Vec::new();
        for (name, value) in &spec.env {
            environment.push(text(&format!("{name}={value}"))?);
        }
        if variable("PATH").is_none() {
            environment.push(text(&format!("PATH={PATH}"))?);
        }
        if variable("HOME").is_none() {
            let home = identity_of(spec)?.home.unwrap_or_else(|| "/".into());
            environment.push(text(&format!("HOME={home}"))?);
        }
        let arguments = spec.command.iter().map(|argument| text(argument)).collect::<Result<_, _>>()?;
        let workdir = if spec.workdir.is_empty() { "/" } else { &spec.workdir };
        Ok(Self {
            paths,
            not_found,
            arguments: Strings::new(arguments),
            environment,
            workdir: text(workdir)?,
        })
    }

    /// Starts it in a process of its own; the inner error is why it cannot be run.
    fn start(
        &mut self,
        beside: &[(String, String)],
        streams: [BorrowedFd<'_>; 3],
    ) -> io::Result<Result<Pid, String>> {
        let mut environment = self.environment.clone();
        for (name, value) in beside {
            let variable = format!("{name}={value}");
            // What the function was given is not the caller's to say.
            let is_given = |own: &CString| own.as_bytes().starts_with(&variable.as_bytes()[..=name.len()]);
            if !self.environment.iter().any(is_given) {
                environment.extend(CString::new(variable));
            }
        }
        let environment = Strings::new(environment);
        for (at, path) in self.paths.iter().enumerate() {
            match spawn(path, &self.arguments, &environment, streams) {
                Ok(pid) => {
                    // Where it was found it is looked for from now on.
                    self.paths = vec![self.paths[at].clone()];
                    return Ok(Ok(pid));
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound && self.paths.len() > 1 => {}
                // Too many processes, or no memory for one.
                Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::ENOMEM)) => {
                    return Err(error);
                }
                Err(error) => {
                    return Ok(Err(format!("`{}`: {}", path.to_string_lossy(), in_words(&error, path))));
                }
            }
        }
        Ok(Err(self.not_found.clone()))
    }

    /// Enters its folder: all that is started begins there.
    fn enter_workdir(&self) -> Result<(), String> {
        rustix::process::chdir(&self.workdir)
            .map_err(|error| format!("enter the folder `{}`: {error}", self.workdir.to_string_lossy()))
    }
}

/// Has the kernel end the program of a call before this process, where memory runs out: the sandbox has other calls.
fn dies_first(pid: Pid) {
    // Refused is as before: then the kernel chooses by size alone.
    let _ = std::fs::write(format!("/proc/{}/oom_score_adj", pid.as_raw_nonzero()), OOM_SCORE);
}

fn in_words(error: &io::Error, path: &CString) -> String {
    match error.raw_os_error() {
        Some(libc::ENOEXEC) => {
            "it is no program of this machine: a script begins with `#!`, a binary is for its architecture"
                .into()
        }
        Some(libc::ENOENT) if Path::new(&*path.to_string_lossy()).exists() => {
            "the interpreter or loader that it names is not there".into()
        }
        Some(libc::ENOENT) => "there is no such program".into(),
        Some(libc::EACCES) => "it may not be executed by its user".into(),
        _ => error.to_string(),
    }
}

/// What runs in the sandbox.
struct Init<'a> {
    control: &'a OwnedFd,
    signals: OwnedFd,
    program: Program,
    /// The program that runs always.
    main: Option<Pid>,
    /// The programs that run for a call.
    running: Vec<(u64, Pid)>,
}

impl Init<'_> {
    fn run(mut self, runs: Runs, stdout: OwnedFd, stderr: OwnedFd) -> Result<(), Failure> {
        if runs == Runs::Always {
            let null = rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
                .at(Step::Walls, "open /dev/null")?;
            let streams = [null.as_fd(), stdout.as_fd(), stderr.as_fd()];
            let started = self.program.start(&[], streams).at(Step::Walls, "fork")?;
            self.main = Some(started.map_err(|what| Failure { step: Step::Program, what })?);
        }
        // Only the program holds on to them: their end is its silence.
        drop((stdout, stderr));
        self.tell(&Tell::Started, &[])?;
        let mut buffer = Vec::new();
        loop {
            let mut fds =
                [PollFd::new(self.control, PollFlags::IN), PollFd::new(&self.signals, PollFlags::IN)];
            match poll(&mut fds, None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error).at(Step::Walls, "wait"),
            }
            let (asked, died) = (!fds[0].revents().is_empty(), !fds[1].revents().is_empty());
            if died && self.reap()? {
                return Ok(());
            }
            if asked {
                let Some((ask, fds)) =
                    wire::receive(self.control, &mut buffer).at(Step::Walls, "hear the server")?
                else {
                    // The server is gone or needs us no more.
                    return Ok(());
                };
                if !self.obey(ask, &fds)? {
                    return Ok(());
                }
            }
        }
    }

    /// Does what the server asks; says whether to go on.
    fn obey(&mut self, ask: Ask, fds: &[OwnedFd]) -> Result<bool, Failure> {
        match ask {
            Ask::Sockets(count) => {
                let one = || {
                    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
                    socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)
                };
                // Out of descriptors is for the server to hear: it gets fewer, or none.
                let sockets: Vec<OwnedFd> = (0..count.min(FDS_MAX)).map_while(|_| one().ok()).collect();
                let fds: Vec<_> = sockets.iter().map(AsFd::as_fd).collect();
                self.tell(&Tell::Sockets, &fds)?;
            }
            Ask::Run { call, env } => {
                let [stdin, stdout, stderr] = fds else {
                    // Its descriptors did not fit: a program has bounded this process, and no call would ever run again.
                    let what = "a call came without its streams".to_owned();
                    return Err(Failure { step: Step::Walls, what });
                };
                match self.program.start(&env, [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()]) {
                    Ok(Ok(pid)) => {
                        dies_first(pid);
                        self.running.push((call, pid));
                    }
                    Ok(Err(what)) => self.tell(&Tell::NotStarted { call, what }, &[])?,
                    // Too many processes, or no memory: the program's own bounds.
                    Err(error) => {
                        let status = Status::Exited(NOT_FOUND);
                        let _ = rustix::io::write(
                            stderr,
                            format!("cannot start a process: {error}\n").as_bytes(),
                        );
                        self.tell(&Tell::Ended { call, status }, &[])?;
                    }
                }
            }
            Ask::Kill { call } => {
                if let Some((_, pid)) = self.running.iter().find(|(running, _)| *running == call) {
                    // Its session is its group; gone in this moment is as good.
                    let _ = rustix::process::kill_process_group(*pid, Signal::KILL);
                }
            }
            Ask::Stop => match (self.main, self.running.is_empty()) {
                (None, true) => return Ok(false),
                // Everything but this process itself.
                _ => signal_all(libc::SIGTERM),
            },
        }
        Ok(true)
    }

    /// Buries the dead, and tells of those that the server asked for; says whether the sandbox ends with them.
    fn reap(&mut self) -> Result<bool, Failure> {
        let mut signal = [0; 128];
        while rustix::io::read(&self.signals, &mut signal).is_ok_and(|length| length > 0) {}
        // Any child: each program has a session, and so a group, of its own.
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            let status = match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => Status::Exited(code),
                (None, signal) => Status::Signaled(signal.unwrap_or_default()),
            };
            if self.main == Some(pid) {
                self.tell(&Tell::Exited { status }, &[])?;
                return Ok(true);
            }
            let Some(at) = self.running.iter().position(|(_, running)| *running == pid) else { continue };
            let (call, _) = self.running.swap_remove(at);
            if self.running.is_empty() && self.main.is_none() {
                // What a program left behind must not outlive the calls: nobody would ever end it.
                signal_all(libc::SIGKILL);
            }
            self.tell(&Tell::Ended { call, status }, &[])?;
        }
        Ok(false)
    }

    fn tell(&self, tell: &Tell, fds: &[BorrowedFd<'_>]) -> Result<(), Failure> {
        wire::send(self.control, tell, fds).at(Step::Walls, "answer the server")
    }
}
