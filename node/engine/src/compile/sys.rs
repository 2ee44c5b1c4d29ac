//! The system calls by which a compiler's process is held to its bounds.
#![allow(unsafe_code, reason = "these system calls have no safe wrapper in the standard library")]

use std::{
    io,
    mem::MaybeUninit,
    os::fd::{AsRawFd as _, BorrowedFd},
    ptr,
    time::Duration,
};

/// What a compiler's process may use.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Private memory.
    pub(super) memory_bytes: u64,
    /// CPU time of all its threads.
    pub(super) cpu: Duration,
    /// How far behind others it stands in line for a core: 0 to 19.
    pub(super) nice: i32,
}

/// Holds the calling process to `bounds`, for good: it can write no files, leaves no core file, and is killed when the
/// thread that started it ends. Closes what descriptors it has besides the standard ones, and blocks no signal.
///
/// For a process that has only just started, and owns no descriptors yet.
pub(super) fn confine(bounds: Bounds) -> io::Result<()> {
    // SAFETY: plain values; the signal can only end this process.
    done(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) })?;
    // SAFETY: nothing in this process has opened a descriptor that it means to use again.
    done(unsafe { libc::close_range(3, libc::c_uint::MAX, 0) })?;
    unblock_signals()?;
    // Data rather than address space: threads reserve more of the latter than they ever touch.
    limit(libc::RLIMIT_DATA, bounds.memory_bytes, 0)?;
    // The first signal says why; at the hard limit, a second later, it would be a kill that might be anybody's.
    limit(libc::RLIMIT_CPU, bounds.cpu.as_secs_f64().ceil().max(1.0) as u64, 1)?;
    limit(libc::RLIMIT_FSIZE, 0, 0)?;
    limit(libc::RLIMIT_CORE, 0, 0)?;
    limit(libc::RLIMIT_NOFILE, DESCRIPTORS_MAX, 0)?;
    // A bound on what others wait, and none on the module: nothing fails for want of it.
    let _ = lower_priority(bounds.nice);
    Ok(())
}

/// Has no program that this thread starts be given more than the thread has, by its owner's bit or otherwise.
pub(super) fn renounce_privileges() -> io::Result<()> {
    // SAFETY: plain values.
    done(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1_u64, 0_u64, 0_u64, 0_u64) })
}

/// Blocks no signal in the calling thread. A process begins with the mask of the thread that started it, and a guest's
/// thread blocks nearly all (`signals`): the one that says that the CPU time is used up would wait for ever.
fn unblock_signals() -> io::Result<()> {
    let mut none = MaybeUninit::uninit();
    // SAFETY: the set is filled before it is read, and outlives both calls.
    let error = unsafe {
        libc::sigemptyset(none.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, none.as_ptr(), ptr::null_mut())
    };
    if error == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(error)) }
}

/// Stands further back in line for a core: the calling thread, and those that it starts from now on. Who stands further
/// back already stays there: only a privileged process may come forward again.
pub(crate) fn lower_priority(nice: i32) -> io::Result<()> {
    // SAFETY: plain values. 0 is the caller, by which Linux means its thread.
    match done(unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) }) {
        Err(error) if error.raw_os_error() == Some(libc::EACCES) => Ok(()),
        lowered => lowered,
    }
}

/// Bounds a resource by `most`, and what the process may raise that to by as much more as `grace`.
fn limit(resource: libc::__rlimit_resource_t, most: u64, grace: u64) -> io::Result<()> {
    let mut now = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `now` is a place for the answer, and outlives the call.
    done(unsafe { libc::getrlimit(resource, &raw mut now) })?;
    // A limit that is lower already stays.
    let limit =
        libc::rlimit { rlim_cur: most.min(now.rlim_max), rlim_max: most.saturating_add(grace).min(now.rlim_max) };
    // SAFETY: `limit` outlives the call.
    done(unsafe { libc::setrlimit(resource, &raw const limit) })
}

/// Makes writes to `fd` return instead of waiting.
pub(super) fn set_nonblocking(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: the descriptor is open as long as it is borrowed; flags are plain values.
    let flags = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) };
    done(flags)?;
    // SAFETY: as above.
    done(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, flags | libc::O_NONBLOCK) })
}

/// What to wait for on a descriptor.
#[derive(Debug, Clone, Copy)]
pub(super) enum Wait<'f> {
    /// Until it can be read, or was closed at the other end.
    Read(BorrowedFd<'f>),
    /// Until it can be written, or was closed at the other end.
    Write(BorrowedFd<'f>),
    /// Not at all.
    Not,
}

/// Waits until one of `waits` has come, or `most` has passed; says which have.
pub(super) fn wait<const N: usize>(waits: [Wait<'_>; N], most: Duration) -> io::Result<[bool; N]> {
    let mut polled = waits.map(|wait| {
        let (fd, events) = match wait {
            Wait::Read(fd) => (fd.as_raw_fd(), libc::POLLIN),
            Wait::Write(fd) => (fd.as_raw_fd(), libc::POLLOUT),
            Wait::Not => (-1, 0),
        };
        libc::pollfd { fd, events, revents: 0 }
    });
    // Up, so that a wait never ends just before its time.
    let most_ms = i32::try_from(most.as_millis().saturating_add(1)).unwrap_or(i32::MAX);
    // SAFETY: the array lives longer than the call, and has as many entries as it is told.
    let result = unsafe { libc::poll(polled.as_mut_ptr(), N as libc::nfds_t, most_ms) };
    match done(result) {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok([false; N]),
        Err(error) => Err(error),
        Ok(()) => Ok(polled.map(|fd| fd.revents != 0)),
    }
}

fn done(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Enough for a thread pool, and for nothing else.
const DESCRIPTORS_MAX: u64 = 64;

#[cfg(test)]
mod tests {
    use super::*;

    /// The calling thread's place in line.
    fn nice() -> i32 {
        // SAFETY: plain values; 0 is the calling thread.
        unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) }
    }

    #[test]
    fn who_stands_further_back_already_stays_there_and_goes_on() {
        // A thread of its own, which has no privileges: the raw call, unlike the C library's, is for one thread.
        let stood = std::thread::spawn(|| {
            // SAFETY: plain values. Where this thread has no privileges to begin with, it fails, and there is nothing to lose.
            unsafe { libc::syscall(libc::SYS_setresuid, 65_534, 65_534, 65_534) };
            lower_priority(10).unwrap();
            assert_eq!(nice(), 10);
            lower_priority(5).unwrap();
            lower_priority(11).unwrap();
            nice()
        });
        assert_eq!(stood.join().unwrap(), 11);
    }
}
