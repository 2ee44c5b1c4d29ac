//! How much CPU time a thread has used, read from any thread of the process.
#![allow(unsafe_code, reason = "the clock of another thread has no safe interface")]

use std::{
    fs::File,
    io::{Cursor, Read as _, Write as _},
    mem::MaybeUninit,
    time::Duration,
};

/// What a thread is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Activity {
    /// It runs, or waits for a core.
    Running,
    /// It waits for something that may never come: a lock, a message, the time.
    Asleep,
    /// It waits for a disk, or somebody holds it; or the kernel does not say.
    Other,
}

/// The CPU clock of one thread. Good for as long as the thread lives; later it reads as nothing, or as the clock of
/// another thread that was given the same number.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ThreadClock(libc::clockid_t);

impl ThreadClock {
    /// The clock of the calling thread.
    pub(crate) fn current() -> Self {
        let mut id = libc::CLOCK_THREAD_CPUTIME_ID;
        // SAFETY: the calling thread lives, and `id` is written before it is read. A failure leaves it at the clock of
        // whoever reads, which nobody can tell from a broken one; glibc and musl know none for a thread that lives.
        unsafe { libc::pthread_getcpuclockid(libc::pthread_self(), &raw mut id) };
        Self(id)
    }

    /// The CPU time the thread has used; none if it is gone.
    pub(crate) fn read(self) -> Option<Duration> {
        let mut time = MaybeUninit::<libc::timespec>::uninit();
        // SAFETY: the kernel checks the clock and writes the whole of `time` when it says that it has.
        let time = unsafe {
            if libc::clock_gettime(self.0, time.as_mut_ptr()) != 0 {
                return None;
            }
            time.assume_init()
        };
        Some(Duration::new(u64::try_from(time.tv_sec).ok()?, u32::try_from(time.tv_nsec).ok()?))
    }

    /// What the thread is doing at the moment. Takes no memory.
    pub(crate) fn activity(self) -> Activity {
        // The kernel's name for the clock of a thread has the thread's number in it, inverted, above three bits.
        let thread = !(self.0 >> 3);
        let mut text = [0; 128];
        let mut path = Cursor::new([0; 48]);
        let end = write!(path, "/proc/self/task/{thread}/stat").map_or(0, |()| path.position() as usize);
        let path = std::str::from_utf8(&path.get_ref()[..end]).unwrap_or_default();
        let Ok(read) = File::open(path).and_then(|mut file| file.read(&mut text)) else { return Activity::Other };
        // `NUMBER (NAME) STATE …`; a name has at most 15 bytes, and may have brackets in it.
        let state = text[..read].iter().rposition(|byte| *byte == b')').and_then(|end| text.get(end + 2));
        match state {
            Some(b'R') => Activity::Running,
            Some(b'S') => Activity::Asleep,
            _ => Activity::Other,
        }
    }
}

/// The CPU time the calling thread has used since it started.
pub fn thread_cpu_time() -> Duration {
    ThreadClock(libc::CLOCK_THREAD_CPUTIME_ID).read().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    fn until(is_so: impl Fn() -> bool) {
        let patience = clock::now() + Duration::from_secs(20);
        while !is_so() {
            assert!(clock::now() < patience, "it never comes");
            std::thread::yield_now();
        }
    }

    #[test]
    fn the_calling_thread_runs() {
        assert_eq!(ThreadClock::current().activity(), Activity::Running);
    }

    #[test]
    fn another_threads_clock_runs_while_that_thread_computes_and_not_while_it_waits() {
        let (tell, told) = std::sync::mpsc::channel();
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let computing = std::thread::spawn(move || {
            tell.send(ThreadClock::current()).unwrap();
            while ended.try_recv().is_err() {}
        });
        let clock = told.recv().unwrap();
        until(|| clock.activity() == Activity::Running);
        let begin = clock.read().unwrap();
        until(|| clock.read().unwrap() >= begin + Duration::from_millis(5));
        end.send(()).unwrap();
        computing.join().unwrap();

        let (tell, told) = std::sync::mpsc::channel();
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let waiting = std::thread::spawn(move || {
            tell.send(ThreadClock::current()).unwrap();
            let _ = ended.recv();
        });
        let clock = told.recv().unwrap();
        until(|| clock.activity() == Activity::Asleep);
        let enough = thread_cpu_time() + Duration::from_millis(20);
        while thread_cpu_time() < enough {}
        assert!(clock.read().unwrap() < Duration::from_millis(10));
        drop(end);
        waiting.join().unwrap();
    }
}
