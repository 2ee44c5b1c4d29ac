//! Takes from the calling thread, and from those it starts, what a compiler has no use for: privileges by `exec`, files,
//! sockets, other processes.
//!
//! Three of the kernel's means, each of which would do much of it alone. What the kernel lacks is said, and the others stand:
//! a compiler bounded in memory and time is still better than one in the node's own process.

use std::{collections::BTreeMap, error::Error};

use landlock::{ABI, Access as _, AccessFs, AccessNet, Ruleset, RulesetAttr as _, RulesetStatus, Scope};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

use super::sys;

/// Enters the sandbox, for good. Gives what could not be had of it, in words for the log; nothing if all is in force.
///
/// Files that are open stay open.
pub(super) fn enter() -> Vec<String> {
    let mut missing = Vec::new();
    let mut note = |what: &str, done: Result<(), Box<dyn Error>>| {
        if let Err(error) = done {
            missing.push(format!("{what} ({error})"));
        }
    };
    note("no_new_privs", sys::renounce_privileges().map_err(Into::into));
    note("landlock", close_files());
    // Last: what is above needs calls that it does not allow.
    note("seccomp", allow_few_calls());
    missing
}

/// No path can be opened, no port used, no process outside signalled, as far as this kernel's landlock reaches.
fn close_files() -> Result<(), Box<dyn Error>> {
    let status = Ruleset::default()
        .handle_access(AccessFs::from_all(NEWEST))?
        .handle_access(AccessNet::from_all(NEWEST))?
        .scope(Scope::from_all(NEWEST))?
        .create()?
        .restrict_self()?;
    match status.ruleset {
        RulesetStatus::NotEnforced => Err("this kernel does not have it".into()),
        RulesetStatus::PartiallyEnforced | RulesetStatus::FullyEnforced => Ok(()),
    }
}

/// Whatever is not on the list does not exist, as far as the thread can tell: `ENOSYS`, upon which a library falls back to
/// an older call or does without.
fn allow_few_calls() -> Result<(), Box<dyn Error>> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = ALLOWED.iter().map(|call| (*call, Vec::new())).collect();
    // New threads, and no new processes. Its flags can be looked at; those of `clone3` cannot, and libraries fall back to
    // this one.
    let thread = u64::from(libc::CLONE_THREAD.cast_unsigned());
    rules.insert(libc::SYS_clone, vec![first_argument(SeccompCmpOp::MaskedEq(thread), thread)?]);
    let name = u64::from(libc::PR_SET_NAME.cast_unsigned());
    rules.insert(libc::SYS_prctl, vec![first_argument(SeccompCmpOp::Eq, name)?]);
    // How a process aborts; no other process is its business.
    let own = u64::from(std::process::id());
    rules.insert(libc::SYS_tgkill, vec![first_argument(SeccompCmpOp::Eq, own)?]);
    let absent = SeccompAction::Errno(libc::ENOSYS.cast_unsigned());
    let filter = SeccompFilter::new(rules, absent, SeccompAction::Allow, std::env::consts::ARCH.try_into()?)?;
    let program: BpfProgram = filter.try_into()?;
    seccompiler::apply_filter(&program)?;
    Ok(())
}

fn first_argument(op: SeccompCmpOp, value: u64) -> Result<SeccompRule, Box<dyn Error>> {
    Ok(SeccompRule::new(vec![SeccompCondition::new(0, SeccompCmpArgLen::Dword, op, value)?])?)
}

/// The newest landlock that is known here; older kernels enforce what they know of it.
const NEWEST: ABI = ABI::V6;

/// What a compilation calls: its pipes, memory, threads, clocks, and its end. Nothing that makes a descriptor.
const ALLOWED: &[i64] = &[
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_close,
    libc::SYS_fstat,
    libc::SYS_lseek,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_futex,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_membarrier,
    libc::SYS_getcpu,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_getrandom,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_prlimit64,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::{
        fs,
        io::{self, Read as _},
        net::{TcpListener, TcpStream, UdpSocket},
        os::unix::net::{UnixListener, UnixStream},
        process::Command,
        thread,
    };

    use super::*;

    /// What `work` gives on a thread that has entered what `enter` does. The rest of the process is as it was.
    fn within<T: Send>(enter: impl FnOnce() + Send, work: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let thread = scope.spawn(|| {
                enter();
                work()
            });
            thread.join().unwrap()
        })
    }

    fn refused<T>(done: io::Result<T>) -> Option<io::Error> {
        done.err()
    }

    #[test]
    fn no_file_is_opened_no_socket_connected_and_no_program_started() {
        let dir = tempfile::tempdir().unwrap();
        let (file, socket) = (dir.path().join("file"), dir.path().join("socket"));
        fs::write(&file, "x").unwrap();
        let mut open = fs::File::open(&file).unwrap();
        let (tcp, _unix) = (TcpListener::bind("127.0.0.1:0").unwrap(), UnixListener::bind(&socket).unwrap());
        let address = tcp.local_addr().unwrap();
        let attempts = || {
            [
                ("read a file", refused(fs::File::open(&file))),
                ("write a file", refused(fs::write(dir.path().join("new"), "x"))),
                ("list a directory", refused(fs::read_dir("/"))),
                ("remove a file", refused(fs::remove_file(&file))),
                ("connect", refused(TcpStream::connect(address))),
                ("bind", refused(UdpSocket::bind("127.0.0.1:0"))),
                ("reach a local socket", refused(UnixStream::connect(&socket))),
                ("start a program", refused(Command::new("/bin/true").status())),
            ]
        };
        let (missing, outcomes, was_read) = thread::scope(|scope| {
            let thread = scope.spawn(|| {
                let missing = enter();
                let outcomes = attempts();
                let mut text = String::new();
                let was_read = open.read_to_string(&mut text).is_ok() && text == "x";
                (missing, outcomes, was_read)
            });
            thread.join().unwrap()
        });
        assert_eq!(missing, Vec::<String>::new(), "this machine's kernel has it all");
        for (what, error) in outcomes {
            assert!(error.is_some(), "the compiler could {what}");
        }
        assert!(was_read, "what was open stays open");
        // Without it, all of this can be done.
        fs::write(&file, "x").unwrap();
        for (what, error) in attempts() {
            assert!(error.is_none(), "nobody could {what}: {error:?}");
        }
    }

    /// Has these calls fail as on a kernel that does not know them.
    fn without(calls: &[i64]) {
        let rules = calls.iter().map(|call| (*call, Vec::new())).collect();
        let absent = SeccompAction::Errno(libc::ENOSYS.cast_unsigned());
        let arch = std::env::consts::ARCH.try_into().unwrap();
        let filter = SeccompFilter::new(rules, SeccompAction::Allow, absent, arch).unwrap();
        seccompiler::apply_filter(&BpfProgram::try_from(filter).unwrap()).unwrap();
    }

    #[test]
    fn what_the_kernel_lacks_is_named_and_the_rest_is_in_force() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "x").unwrap();
        let opened = |without_calls: &[i64]| {
            within(
                || without(without_calls),
                || (enter(), fs::read(&file).is_ok(), TcpListener::bind("127.0.0.1:0").is_ok()),
            )
        };
        let (missing, is_read, is_bound) = opened(&[libc::SYS_landlock_create_ruleset]);
        assert!(missing.len() == 1 && missing[0].starts_with("landlock ("), "{missing:?}");
        assert!(!is_read && !is_bound);
        let (missing, is_read, _) = opened(&[libc::SYS_seccomp]);
        assert!(missing.len() == 1 && missing[0].starts_with("seccomp ("), "{missing:?}");
        assert!(!is_read, "landlock is there");
    }

    #[test]
    fn landlock_alone_keeps_files_closed() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "x").unwrap();
        let error = within(|| close_files().unwrap(), || fs::read(&file).unwrap_err());
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        assert_eq!(fs::read(&file).unwrap(), b"x");
    }

    #[test]
    fn threads_memory_and_clocks_are_left() {
        let total = within(
            || drop(enter()),
            || {
                let threads: Vec<_> = (0..4_usize).map(|i| thread::spawn(move || vec![i; 1 << 20].len())).collect();
                let begin = crate::clock::now();
                let total: usize = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
                (total, crate::clock::now() >= begin)
            },
        );
        assert_eq!(total, (4 << 20, true));
    }
}
