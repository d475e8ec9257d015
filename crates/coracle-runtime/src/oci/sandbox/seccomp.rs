//! Which system calls a program may make: those of an ordinary program, and none that manage the machine.
//! The spawner compiles the filters once; the first process of each sandbox installs them.
//!
//! The line is drawn where container engines draw it by default: mounting, namespaces, modules, keys, tracing, clocks and
//! the kernel's own programs are out. What is not named is refused with EPERM; `clone3` with ENOSYS, because its flags
//! lie in memory where a filter cannot look, and C libraries then use `clone`, whose flags it can see.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

/// The filters, in the order to install them.
#[derive(Debug, Clone)]
pub(super) struct Filters(Vec<BpfProgram>);

/// New namespaces of any kind, as flags of `clone` and `unshare`.
const NEW_NAMESPACES: u64 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET) as u64;

macro_rules! calls {
    ($($name:ident)*) => { &[$(libc::$name),*] };
}

/// What every program may do.
const ALLOWED: &[libc::c_long] = calls! {
    // Files.
    SYS_read SYS_write SYS_readv SYS_writev SYS_pread64 SYS_pwrite64 SYS_preadv SYS_pwritev SYS_preadv2 SYS_pwritev2
    SYS_openat SYS_openat2 SYS_close SYS_close_range SYS_lseek SYS_fstat SYS_newfstatat SYS_statx SYS_statfs SYS_fstatfs
    SYS_ftruncate SYS_truncate SYS_fallocate SYS_fadvise64 SYS_readahead SYS_fsync SYS_fdatasync SYS_sync
    SYS_sync_file_range SYS_syncfs SYS_flock SYS_fcntl SYS_ioctl SYS_dup SYS_dup3 SYS_pipe2 SYS_splice SYS_tee
    SYS_vmsplice SYS_sendfile SYS_copy_file_range SYS_getdents64 SYS_getcwd SYS_chdir SYS_fchdir SYS_chroot
    SYS_mkdirat SYS_unlinkat SYS_renameat2 SYS_linkat SYS_symlinkat SYS_readlinkat SYS_mknodat
    SYS_faccessat SYS_faccessat2 SYS_fchmod SYS_fchmodat SYS_fchown SYS_fchownat SYS_umask SYS_utimensat
    SYS_getxattr SYS_lgetxattr SYS_fgetxattr SYS_listxattr SYS_llistxattr SYS_flistxattr SYS_setxattr SYS_lsetxattr
    SYS_fsetxattr SYS_removexattr SYS_lremovexattr SYS_fremovexattr SYS_name_to_handle_at
    SYS_inotify_init1 SYS_inotify_add_watch SYS_inotify_rm_watch SYS_memfd_create
    // Memory.
    SYS_brk SYS_mmap SYS_munmap SYS_mremap SYS_mprotect SYS_madvise SYS_msync SYS_mincore SYS_mlock SYS_mlock2
    SYS_munlock SYS_mlockall SYS_munlockall SYS_membarrier SYS_pkey_alloc SYS_pkey_free SYS_pkey_mprotect
    SYS_remap_file_pages SYS_process_madvise
    // Processes and threads.
    SYS_clone3 SYS_execve SYS_execveat SYS_exit SYS_exit_group SYS_wait4 SYS_waitid SYS_set_tid_address SYS_futex
    SYS_futex_waitv SYS_set_robust_list SYS_get_robust_list SYS_rseq SYS_getpid SYS_getppid SYS_gettid SYS_getpgid
    SYS_setpgid SYS_getsid SYS_setsid SYS_kill SYS_tkill SYS_tgkill SYS_pidfd_open SYS_pidfd_send_signal
    SYS_prctl SYS_getrlimit SYS_setrlimit SYS_getrusage SYS_getpriority SYS_setpriority
    SYS_sched_yield SYS_sched_getaffinity SYS_sched_setaffinity SYS_sched_getparam SYS_sched_setparam
    SYS_sched_getscheduler SYS_sched_setscheduler SYS_sched_getattr SYS_sched_setattr SYS_sched_get_priority_max
    SYS_sched_get_priority_min SYS_sched_rr_get_interval SYS_ioprio_get SYS_ioprio_set SYS_getcpu
    // Who it is.
    SYS_getuid SYS_geteuid SYS_getgid SYS_getegid SYS_getresuid SYS_getresgid SYS_getgroups SYS_setuid SYS_setgid
    SYS_setreuid SYS_setregid SYS_setresuid SYS_setresgid SYS_setgroups SYS_setfsuid SYS_setfsgid SYS_capget SYS_capset
    // Signals.
    SYS_rt_sigaction SYS_rt_sigprocmask SYS_rt_sigreturn SYS_rt_sigpending SYS_rt_sigsuspend SYS_rt_sigtimedwait
    SYS_rt_sigqueueinfo SYS_rt_tgsigqueueinfo SYS_sigaltstack SYS_signalfd4 SYS_restart_syscall
    // Time.
    SYS_clock_gettime SYS_clock_getres SYS_clock_nanosleep SYS_nanosleep SYS_gettimeofday SYS_times SYS_timer_create
    SYS_timer_settime SYS_timer_gettime SYS_timer_getoverrun SYS_timer_delete SYS_timerfd_create SYS_timerfd_settime
    SYS_timerfd_gettime SYS_getitimer SYS_setitimer SYS_adjtimex SYS_clock_adjtime
    // Waiting.
    SYS_epoll_create1 SYS_epoll_ctl SYS_epoll_pwait SYS_epoll_pwait2 SYS_ppoll SYS_pselect6 SYS_eventfd2
    SYS_io_setup SYS_io_submit SYS_io_getevents SYS_io_cancel SYS_io_destroy
    // Talking.
    SYS_socketpair SYS_bind SYS_listen SYS_accept SYS_accept4 SYS_connect SYS_getsockname SYS_getpeername
    SYS_sendto SYS_recvfrom SYS_sendmsg SYS_recvmsg SYS_sendmmsg SYS_recvmmsg SYS_shutdown SYS_setsockopt
    SYS_getsockopt SYS_mq_open SYS_mq_unlink SYS_mq_timedsend SYS_mq_timedreceive SYS_mq_notify SYS_mq_getsetattr
    SYS_shmget SYS_shmat SYS_shmdt SYS_shmctl SYS_semget SYS_semop SYS_semctl SYS_semtimedop SYS_msgget SYS_msgsnd
    SYS_msgrcv SYS_msgctl
    // The rest of an ordinary life.
    SYS_uname SYS_sysinfo SYS_getrandom SYS_seccomp SYS_landlock_create_ruleset SYS_landlock_add_rule
    SYS_landlock_restrict_self
};

/// The older names that only x86-64 has, and its own registers.
#[cfg(target_arch = "x86_64")]
const ALLOWED_HERE: &[libc::c_long] = calls! {
    SYS_open SYS_creat SYS_stat SYS_lstat SYS_access SYS_poll SYS_select SYS_pipe SYS_dup2 SYS_fork SYS_vfork
    SYS_getdents SYS_mkdir SYS_rmdir SYS_rename SYS_renameat SYS_link SYS_unlink SYS_symlink SYS_readlink SYS_chmod
    SYS_chown SYS_lchown SYS_mknod SYS_utime SYS_utimes SYS_futimesat SYS_alarm SYS_pause SYS_time SYS_getpgrp
    SYS_epoll_create SYS_epoll_wait SYS_eventfd SYS_signalfd SYS_inotify_init SYS_arch_prctl SYS_get_thread_area
    SYS_set_thread_area
};
#[cfg(not(target_arch = "x86_64"))]
const ALLOWED_HERE: &[libc::c_long] = calls! { SYS_renameat };

/// Personalities that only change what a program sees of itself: Linux as it is, and with a 32-bit name; and asking for the present one.
const PERSONALITIES: [u64; 4] = [0x0, 0x8, 0x2_0000, 0xffff_ffff];

impl Filters {
    /// Compiles them for this machine.
    pub(super) fn compile() -> Result<Self, seccompiler::Error> {
        let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
            ALLOWED.iter().chain(ALLOWED_HERE).map(|call| (*call, Vec::new())).collect();
        rules.insert(libc::SYS_clone, vec![rule(0, SeccompCmpOp::MaskedEq(NEW_NAMESPACES), 0)?]);
        // A virtual machine's host is not for guests of guests; see AF_VSOCK.
        rules.insert(libc::SYS_socket, vec![rule(0, SeccompCmpOp::Ne, libc::AF_VSOCK as u64)?]);
        // Of itself alone: the first process of a sandbox has the same user, and must not be bounded by programs.
        rules.insert(libc::SYS_prlimit64, vec![rule(0, SeccompCmpOp::Eq, 0)?]);
        let personalities = PERSONALITIES.map(|which| rule(0, SeccompCmpOp::Eq, which));
        rules.insert(libc::SYS_personality, personalities.into_iter().collect::<Result<_, _>>()?);
        let only = |rules, mismatch, matched| -> Result<BpfProgram, seccompiler::Error> {
            let here = std::env::consts::ARCH.try_into()?;
            Ok(SeccompFilter::new(rules, mismatch, matched, here)?.try_into()?)
        };
        let errno = |errno: i32| SeccompAction::Errno(errno as u32);
        let no_clone3 = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
        Ok(Self(vec![
            only(rules, errno(libc::EPERM), SeccompAction::Allow)?,
            only(no_clone3, SeccompAction::Allow, errno(libc::ENOSYS))?,
        ]))
    }

    /// Installs them for this process and all that come from it.
    pub(super) fn install(&self) -> Result<(), seccompiler::Error> {
        self.0.iter().try_for_each(|filter| seccompiler::apply_filter(filter))
    }
}

fn rule(argument: u8, how: SeccompCmpOp, value: u64) -> Result<SeccompRule, seccompiler::Error> {
    let condition = SeccompCondition::new(argument, SeccompCmpArgLen::Dword, how, value)?;
    Ok(SeccompRule::new(vec![condition])?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filters_fit_the_kernel() {
        let filters = Filters::compile().unwrap();
        // BPF_MAXINSNS: the most instructions that a filter may have.
        assert!(filters.0.iter().all(|filter| filter.len() < 4_096), "{:?}", filters.0.iter().map(Vec::len));
    }

    #[test]
    fn nothing_that_manages_the_machine_is_allowed() {
        let refused = calls! {
            SYS_mount SYS_umount2 SYS_pivot_root SYS_fsopen SYS_open_tree SYS_move_mount SYS_mount_setattr SYS_unshare
            SYS_setns SYS_ptrace SYS_process_vm_readv SYS_process_vm_writev SYS_kcmp SYS_bpf SYS_perf_event_open
            SYS_keyctl SYS_add_key SYS_request_key SYS_init_module SYS_finit_module SYS_delete_module SYS_kexec_load
            SYS_reboot SYS_swapon SYS_swapoff SYS_sethostname SYS_setdomainname SYS_settimeofday SYS_clock_settime
            SYS_acct SYS_quotactl SYS_userfaultfd SYS_open_by_handle_at SYS_syslog SYS_vhangup SYS_io_uring_setup
            SYS_fanotify_init SYS_pidfd_getfd SYS_nfsservctl SYS_lookup_dcookie SYS_migrate_pages SYS_move_pages
        };
        for call in refused {
            assert!(!ALLOWED.contains(call) && !ALLOWED_HERE.contains(call), "{call}");
        }
    }
}
