//! Confinement: once a command has all it needs, it gives up the rest.
//!
//! What the frames, devices and clients of a running command can say is met by code that could have a defect. So when
//! everything is open, a command that goes on for long calls [`enter`]: from then on the kernel refuses it
//! new files, new sockets and other programs (seccomp, for all threads), and reaching the file system or the network at
//! all (Landlock, for the calling thread and those it starts). What it holds goes on working, and what it has to open
//! later it says with [`Keep`].
//!
//! Only a process whose [`arm`] was called is confined, so that a program which uses this crate as a library keeps its
//! rights; `--no-sandbox` leaves it out.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset,
    RulesetAttr, RulesetCreatedAttr, RulesetStatus,
};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, apply_filter_all_threads,
};

static ARMED: AtomicBool = AtomicBool::new(false);

/// Makes [`enter`] work in this process.
pub fn arm() {
    ARMED.store(true, Ordering::Relaxed);
}

/// What a command goes on to need that it cannot hold open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep<'a> {
    /// Nothing: all it needs is open.
    Nothing,
    /// Making files and writing over old ones, in this directory and below; reading none.
    CreateBelow(&'a Path),
    /// Removing files, in this directory and below.
    RemoveBelow(&'a Path),
}

/// Makes [`enter`] do nothing again.
pub fn disarm() {
    ARMED.store(false, Ordering::Relaxed);
}

/// What a running command may still call. Everything works on what is open already, but for threads, memory and events.
const CALLS: &[i64] = &[
    // Descriptors that are open.
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_preadv,
    libc::SYS_pwritev,
    libc::SYS_lseek,
    libc::SYS_close,
    libc::SYS_fstat,
    libc::SYS_statx,
    libc::SYS_newfstatat,
    // What a client's descriptor is, and what file system is behind it.
    libc::SYS_fstatfs,
    libc::SYS_readlinkat,
    libc::SYS_fcntl,
    libc::SYS_ioctl,
    libc::SYS_ftruncate,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_getdents64,
    libc::SYS_dup,
    libc::SYS_dup3,
    // Sockets that are open, and those that come in by them.
    libc::SYS_sendmsg,
    libc::SYS_recvmsg,
    libc::SYS_sendto,
    libc::SYS_recvfrom,
    libc::SYS_accept4,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_shutdown,
    // Waiting, and events to wait for.
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_ppoll,
    libc::SYS_eventfd2,
    libc::SYS_futex,
    libc::SYS_nanosleep,
    libc::SYS_clock_nanosleep,
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_gettimeofday,
    libc::SYS_sched_yield,
    libc::SYS_restart_syscall,
    // Memory.
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_mlock,
    libc::SYS_munlock,
    libc::SYS_brk,
    libc::SYS_memfd_create,
    libc::SYS_membarrier,
    // Threads and signals.
    libc::SYS_clone,
    libc::SYS_clone3,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_prctl,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_setaffinity,
    libc::SYS_getrusage,
    libc::SYS_getrandom,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_tgkill,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// The same by the names that other architectures never had.
#[cfg(target_arch = "x86_64")]
const OLDER_CALLS: &[i64] = &[
    libc::SYS_poll,
    libc::SYS_epoll_wait,
    libc::SYS_dup2,
    libc::SYS_readlink,
];
#[cfg(not(target_arch = "x86_64"))]
const OLDER_CALLS: &[i64] = &[];

/// O_LARGEFILE of the kernel's: some C libraries set it, and say that it is 0.
const LARGE_FILE: i32 = 0o100_000;

/// What removes a file; Landlock says where.
const REMOVE: &[i64] = &[
    libc::SYS_unlinkat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_unlink,
];

/// Confines this process from here on, but for what it is to keep; once. Where the kernel does not help it goes on as it is, and
/// says so in the log.
pub fn enter(keep: Keep<'_>) {
    if !ARMED.swap(false, Ordering::Relaxed) {
        return;
    }
    match files(keep) {
        Ok(RulesetStatus::FullyEnforced) => log::debug!("confined by Landlock"),
        Ok(RulesetStatus::PartiallyEnforced) => {
            log::info!("confined by Landlock as far as this kernel knows it");
        }
        Ok(RulesetStatus::NotEnforced) => {
            log::info!("not confined by Landlock: this kernel has none");
        }
        Err(error) => log::info!("not confined by Landlock: {error:#}"),
    }
    match calls(keep) {
        Ok(()) => log::debug!("confined by seccomp"),
        Err(error) => log::info!("not confined by seccomp: {error:#}"),
    }
}

/// No file, no directory, no TCP port, for this thread and those it starts.
fn files(keep: Keep<'_>) -> anyhow::Result<RulesetStatus> {
    let abi = ABI::V4;
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(abi))?
        .handle_access(AccessNet::from_all(abi))?
        .create()?;
    let kept = match keep {
        Keep::Nothing => None,
        Keep::CreateBelow(dir) => Some((
            dir,
            AccessFs::MakeReg | AccessFs::WriteFile | AccessFs::Truncate,
        )),
        Keep::RemoveBelow(dir) => Some((dir, AccessFs::RemoveFile.into())),
    };
    if let Some((dir, access)) = kept {
        let open = PathFd::new(dir).with_context(|| format!("{}", dir.display()))?;
        rules = rules.add_rule(PathBeneath::new(open, access))?;
    }
    Ok(rules.restrict_self()?.ruleset)
}

/// Only [`CALLS`] and what is kept, for all threads; the others fail with EPERM.
fn calls(keep: Keep<'_>) -> anyhow::Result<()> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = CALLS
        .iter()
        .chain(OLDER_CALLS)
        .map(|number| (*number, Vec::new()))
        .collect();
    match keep {
        Keep::Nothing => {}
        Keep::CreateBelow(_) => {
            // As `File::create` opens them, and in no other way.
            let how = u64::from((libc::O_WRONLY | libc::O_CREAT | libc::O_TRUNC).unsigned_abs());
            let harmless = u64::from((libc::O_CLOEXEC | LARGE_FILE).unsigned_abs());
            let flags = SeccompCondition::new(
                2,
                SeccompCmpArgLen::Dword,
                SeccompCmpOp::MaskedEq(u64::from(u32::MAX) & !harmless),
                how,
            )?;
            rules.insert(libc::SYS_openat, vec![SeccompRule::new(vec![flags])?]);
        }
        Keep::RemoveBelow(_) => rules.extend(REMOVE.iter().map(|call| (*call, Vec::new()))),
    }
    let filter = SeccompFilter::new(
        rules,
        SeccompAction::Errno(libc::EPERM.unsigned_abs()),
        SeccompAction::Allow,
        std::env::consts::ARCH.try_into()?,
    )?;
    let program: BpfProgram = filter.try_into()?;
    Ok(apply_filter_all_threads(&program)?)
}
