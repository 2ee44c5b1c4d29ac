//! Keeps the process's signals off the threads on which guests run.
#![allow(unsafe_code, reason = "the mask of a thread is set and read by C functions")]

use std::{mem::MaybeUninit, ptr};

/// The signals by which a guest traps, and those of a process that is beyond help: they come to the thread that caused
/// them, and are handled on a stack of their own.
const OWN: [libc::c_int; 6] = [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGTRAP, libc::SIGABRT];

/// Has other threads than this one handle SIGTERM, SIGCHLD and whatever else is sent to the process. To be called by each
/// thread on which guests may run, before the first; one thread at least must go without.
///
/// Handlers that were not made for guests run on the stack that the thread has at that moment (`SA_ONSTACK` is not set:
/// sigaction(2)). Near the end of a guest's stack there is no room for them: the kernel makes a fault of it, the guest is
/// told of a stack overflow that it did not cause, and the signal is lost.
pub fn shield_thread() {
    let mut shielded = MaybeUninit::uninit();
    // SAFETY: the set is filled before it is read, and lives as long as the calls that are given it.
    unsafe {
        libc::sigfillset(shielded.as_mut_ptr());
        for signal in OWN {
            libc::sigdelset(shielded.as_mut_ptr(), signal);
        }
        // It fails for an unknown way to combine sets only.
        libc::pthread_sigmask(libc::SIG_BLOCK, shielded.as_ptr(), ptr::null_mut());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_blocked(signal: libc::c_int) -> bool {
        let mut mask = MaybeUninit::uninit();
        // SAFETY: without a new set the call only fills the old one, which lives as long as both calls.
        unsafe {
            libc::pthread_sigmask(libc::SIG_BLOCK, ptr::null(), mask.as_mut_ptr());
            libc::sigismember(mask.as_ptr(), signal) == 1
        }
    }

    #[test]
    fn a_shielded_thread_hears_of_its_own_traps_only() {
        let shielded = std::thread::spawn(|| {
            shield_thread();
            for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGCHLD, libc::SIGHUP, libc::SIGUSR1] {
                assert!(is_blocked(signal), "{signal}");
            }
            assert!(OWN.iter().all(|signal| !is_blocked(*signal)));
        });
        shielded.join().unwrap();
        assert!(!is_blocked(libc::SIGTERM), "another thread hears of it");
    }
}
