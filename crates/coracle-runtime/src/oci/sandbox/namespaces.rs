//! The system calls that make namespaces and mounts and have no safe wrapper anywhere: each in a function that is safe to call.
//! Everything here runs in processes of one thread: the spawner, its workers, and the first process of a sandbox.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use rustix::process::Pid;

/// New namespaces that a process begins in, and its group.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spaces<'a> {
    /// Whether it gets a network of its own.
    pub(super) network: bool,
    /// The folder of a group of cgroup v2.
    pub(super) group: Option<BorrowedFd<'a>>,
}

/// Makes a copy of this process: its number, or nothing in the copy.
#[expect(unsafe_code, reason = "there is no other way to copy a process that is ready to work")]
pub(super) fn fork() -> io::Result<Option<Pid>> {
    // Not `clone3`, which programs are not allowed, and the first process of a sandbox with them.
    // SAFETY: this process has one thread, so the copy lacks none that could hold a lock, and goes on as any program may.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        pid => Ok(Pid::from_raw(pid)),
    }
}

/// Makes a copy of this process in namespaces of its own, as a brother: this process's parent becomes its parent.
pub(super) fn fork_apart(spaces: Spaces<'_>) -> io::Result<Option<Pid>> {
    let mut flags =
        libc::CLONE_PARENT | libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
    if spaces.network {
        flags |= libc::CLONE_NEWNET;
    }
    // The kernel gives a brother the signal that this process has itself.
    clone(flags as u64, 0, spaces.group)
}

/// Makes a copy of this process in a user namespace of its own.
pub(super) fn fork_as_nobody() -> io::Result<Option<Pid>> {
    clone(libc::CLONE_NEWUSER as u64, libc::SIGCHLD as u64, None)
}

#[expect(
    unsafe_code,
    reason = "no library makes a process in new namespaces without starting a program in it"
)]
fn clone(flags: u64, exit_signal: u64, group: Option<BorrowedFd<'_>>) -> io::Result<Option<Pid>> {
    const INTO_CGROUP: u64 = 0x2_0000_0000;
    #[repr(C)]
    #[derive(Default)]
    struct Arguments {
        flags: u64,
        pidfd: u64,
        child_tid: u64,
        parent_tid: u64,
        exit_signal: u64,
        stack: u64,
        stack_size: u64,
        tls: u64,
        set_tid: u64,
        set_tid_size: u64,
        cgroup: u64,
    }
    let (flags, cgroup) = match group {
        Some(group) => (flags | INTO_CGROUP, group.as_raw_fd() as u64),
        None => (flags, 0),
    };
    let arguments = Arguments { flags, exit_signal, cgroup, ..Arguments::default() };
    // SAFETY: the arguments live as long as the call, and their size is told. Without CLONE_VM and with a stack of 0 it is a fork:
    // the copy goes on here with memory of its own. This process has one thread, so the copy lacks none that could hold a lock.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const arguments, size_of::<Arguments>()) };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        pid => Ok(Pid::from_raw(pid as i32)),
    }
}

/// What changes for a mount that is not attached yet.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Attributes<'a> {
    pub(super) read_only: bool,
    pub(super) no_exec: bool,
    /// The user namespace whose users own its files.
    pub(super) owners: Option<BorrowedFd<'a>>,
    /// Whether mounts beneath it change too.
    pub(super) recursive: bool,
}

/// Changes a detached mount; it never has devices or set-user-id files after that.
#[expect(unsafe_code, reason = "rustix has no mount_setattr")]
pub(super) fn set_attributes(mount: BorrowedFd<'_>, wanted: Attributes<'_>) -> io::Result<()> {
    let mut set = libc::MOUNT_ATTR_NOSUID;
    for (flag, bit) in
        [(wanted.read_only, libc::MOUNT_ATTR_RDONLY), (wanted.no_exec, libc::MOUNT_ATTR_NOEXEC)]
    {
        set |= if flag { bit } else { 0 };
    }
    let mut attributes = libc::mount_attr { attr_set: set, attr_clr: 0, propagation: 0, userns_fd: 0 };
    if let Some(owners) = wanted.owners {
        attributes.attr_set |= libc::MOUNT_ATTR_IDMAP;
        attributes.userns_fd = owners.as_raw_fd() as u64;
    }
    let at = libc::AT_EMPTY_PATH | if wanted.recursive { libc::AT_RECURSIVE } else { 0 };
    let here: &CStr = c"";
    // SAFETY: all pointers are to values that live as long as the call, and the size of the structure is told.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            here.as_ptr(),
            at,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A descriptor that can be read when a child ended or somebody asks this process to end; those signals do nothing else any more.
#[expect(unsafe_code, reason = "rustix has no signalfd")]
pub(super) fn signals_as_file(signals: &[i32]) -> io::Result<OwnedFd> {
    use std::os::fd::FromRawFd;
    // SAFETY: a set of signals is plain data, made empty before it is used; both calls read and write nothing else.
    let fd = unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in signals {
            libc::sigaddset(&raw mut set, *signal);
        }
        if libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) != 0 {
            return Err(io::Error::last_os_error());
        }
        libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK)
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just given it to us, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Closes every file of this process but its standard streams.
#[expect(unsafe_code, reason = "rustix closes what it owns, and these are nobody's")]
pub(super) fn close_all_but_standard() {
    // SAFETY: called at the start of a program, before anything of it has opened a file that it counts on.
    unsafe {
        libc::close_range(3, libc::c_uint::MAX, 0);
    }
}

/// Sets up the loopback of the network that this process is in.
#[expect(unsafe_code, reason = "rustix has no way to set the flags of a network device")]
pub(super) fn loopback_up() -> io::Result<()> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    // SAFETY: the structure is plain data; the name is short, and ends with a zero. The request reads it and keeps nothing.
    let done = unsafe {
        let mut request: libc::ifreq = std::mem::zeroed();
        for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
            *to = *from as libc::c_char;
        }
        request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
        libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request)
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Has this process, and all that come of it, wait for a core until whoever has it lets go of it or had it for long.
///
/// The server wakes a program with every call that it passes on. The kernel would run the program there and then, one call
/// at a time: a switch for each, and as many on the way back. `SCHED_BATCH` of sched(7) leaves out just that.
#[expect(unsafe_code, reason = "rustix has no sched_setscheduler, and that of musl asks nobody")]
pub(super) fn wait_for_the_core() -> io::Result<()> {
    // SAFETY: all zeros is a priority, which this policy has no other of; the call reads it and keeps nothing of it.
    let done = unsafe {
        let priority: libc::sched_param = std::mem::zeroed();
        libc::syscall(libc::SYS_sched_setscheduler, 0, libc::SCHED_BATCH, &raw const priority)
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Sends a signal to every process that this one sees, but itself. For the first process of a sandbox alone.
#[expect(unsafe_code, reason = "rustix names one process or one group")]
pub(super) fn signal_all(signal: i32) {
    // SAFETY: it takes two numbers. Nobody there is as good.
    unsafe { libc::kill(-1, signal) };
}

/// From here on this process sees its groups as the roots of their trees, and none above.
#[expect(unsafe_code, reason = "unshare can take descriptors away from other threads")]
pub(super) fn see_own_groups_alone() -> rustix::io::Result<()> {
    // SAFETY: it is not the flag that splits descriptors, and this process has one thread.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWCGROUP) }
}

/// Gives this process a list of mounts of its own.
#[expect(unsafe_code, reason = "unshare can take descriptors away from other threads")]
pub(super) fn see_own_mounts_alone() -> rustix::io::Result<()> {
    // SAFETY: as above.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNS) }
}

/// Starts a program in a process and a session of its own, with these standard streams, and the signals as programs expect them.
///
/// Not a fork: what this process has in memory is neither copied nor marked to be.
#[expect(
    unsafe_code,
    reason = "no library starts a program without asking for `clone3` or a table of its own"
)]
pub(super) fn spawn(
    path: &CStr,
    arguments: &Strings,
    environment: &Strings,
    streams: [BorrowedFd<'_>; 3],
) -> io::Result<Pid> {
    let signals = libc::POSIX_SPAWN_SETSIGDEF | libc::POSIX_SPAWN_SETSIGMASK;
    let flags = signals as libc::c_short | libc::POSIX_SPAWN_SETSID;
    let mut pid = 0;
    // SAFETY: attributes, actions and sets are plain data, made before they are used and let go of at the end; the strings are
    // arrays of pointers to C strings that live on, and end with a null pointer; the descriptors are open.
    let failed = unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        let mut attributes: libc::posix_spawnattr_t = std::mem::zeroed();
        let mut actions: libc::posix_spawn_file_actions_t = std::mem::zeroed();
        libc::posix_spawnattr_init(&raw mut attributes);
        libc::posix_spawn_file_actions_init(&raw mut actions);
        libc::sigemptyset(&raw mut set);
        let mut failed = libc::posix_spawnattr_setsigmask(&raw mut attributes, &raw const set);
        libc::sigfillset(&raw mut set);
        failed |= libc::posix_spawnattr_setsigdefault(&raw mut attributes, &raw const set);
        failed |= libc::posix_spawnattr_setflags(&raw mut attributes, flags);
        for (number, stream) in (0..).zip(streams) {
            failed |= libc::posix_spawn_file_actions_adddup2(&raw mut actions, stream.as_raw_fd(), number);
        }
        if failed == 0 {
            failed = libc::posix_spawn(
                &raw mut pid,
                path.as_ptr(),
                &raw const actions,
                &raw const attributes,
                arguments.pointers.as_ptr().cast(),
                environment.pointers.as_ptr().cast(),
            );
        }
        libc::posix_spawn_file_actions_destroy(&raw mut actions);
        libc::posix_spawnattr_destroy(&raw mut attributes);
        failed
    };
    match Pid::from_raw(pid) {
        Some(pid) if failed == 0 => Ok(pid),
        _ => Err(io::Error::from_raw_os_error(failed)),
    }
}

/// C strings as a program takes them.
pub(super) struct Strings {
    _strings: Vec<std::ffi::CString>,
    pointers: Vec<*const libc::c_char>,
}

impl Strings {
    pub(super) fn new(strings: Vec<std::ffi::CString>) -> Self {
        // The text of a CString does not move with it.
        let pointers = strings.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect();
        Self { _strings: strings, pointers }
    }
}
