//! A guest that was stopped and does not come back: how that is noticed, and the end of the process.
//!
//! A stopped guest leaves its thread at its next safepoint or wait, within microseconds of that thread's time. If it
//! does not, something of the host's holds the thread for ever: a lock whose holder is gone, for one. Such a process
//! answers less and less, and looks alive to whoever would start it anew. The mesh survives the end of a node better.
//!
//! A thread that is merely slow must not be taken for a lost one. So no clock on the wall counts: the watchdog looks
//! every now and then, and what counts are looks at which the thread slept, not for a disk, and had done nothing since
//! the look before; or the CPU time that it used. A process that is halted looks at nothing, a thread that waits for a
//! core does not sleep, and one that waits for a slow disk is in another state.
#![allow(unsafe_code, reason = "the process is ended without running anything of it")]

use std::{
    io::{self, Write as _},
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, Thread},
    time::Duration,
};

use crate::thread_clock::{Activity, ThreadClock};

/// How the process ends: `EX_SOFTWARE` of sysexits.h.
pub const EXIT_CODE_LOST: u8 = 70;

/// How long whoever reads stderr may keep the process from its end.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The thread that ends the process when its last words are not taken. There before it is needed: to start one takes
/// memory.
static ENDER: OnceLock<Thread> = OnceLock::new();
static IS_ENDING: AtomicBool = AtomicBool::new(false);

/// Looks at a thread that all have to find it asleep in the same place.
const LOOKS: u32 = 15;

/// Between two looks, if a guest is to count as lost after `patience`.
pub(super) fn look_every(patience: Duration) -> Duration {
    patience / LOOKS
}

/// What was seen of the thread of a guest since it was stopped.
#[derive(Debug, Clone, Copy)]
pub(super) struct Absence {
    /// Its CPU time at the first look.
    begin: Duration,
    /// Its CPU time at the last look.
    last: Duration,
    /// How many looks in a row found it asleep, and its CPU time what it had been.
    asleep: u32,
}

impl Absence {
    /// Of a thread that has used so much CPU time.
    pub(super) fn begin(cpu: Duration) -> Self {
        Self { begin: cpu, last: cpu, asleep: 0 }
    }

    /// Notes another look; true if the guest is lost.
    pub(super) fn look(&mut self, seen: Seen, patience: Duration) -> bool {
        let stands = seen.activity == Activity::Asleep && seen.cpu == self.last;
        self.asleep = if stands { self.asleep + 1 } else { 0 };
        self.last = seen.cpu;
        self.asleep >= LOOKS || seen.cpu.saturating_sub(self.begin) >= patience
    }
}

/// A thread at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) cpu: Duration,
    pub(super) activity: Activity,
}

impl Seen {
    pub(super) fn of(clock: ThreadClock) -> Self {
        Self { cpu: clock.read().unwrap_or_default(), activity: clock.activity() }
    }
}

/// Makes ready for [`end_process`]; once a process is enough.
pub(super) fn stand_by() -> io::Result<()> {
    if ENDER.get().is_none() {
        let ender = thread::Builder::new().name("skein-ender".to_owned()).stack_size(64 << 10).spawn(|| {
            while !IS_ENDING.load(Ordering::SeqCst) {
                thread::park();
            }
            thread::sleep(LAST_WORDS);
            exit()
        })?;
        // Where two engines start at once, one of the two threads is never woken.
        let _ = ENDER.set(ender.thread().clone());
    }
    Ok(())
}

/// Says which guest is lost, and ends the process on the spot. Takes no lock and no memory: the lock that is lost may be
/// the allocator's, or that of the log.
pub(super) fn end_process(name: &str) {
    let mut line = [0; 512];
    let mut rest = &mut line[..];
    // A name that is too long is cut short.
    let _ = writeln!(
        rest,
        "error: the function {name:.200} was stopped and its thread does not come back, so this process can no longer \
         be trusted and ends itself (exit {EXIT_CODE_LOST}); start it again, and report the function"
    );
    let free = rest.len();
    let said = &line[..line.len() - free];
    // Whoever reads stderr may have stopped reading: then the write never returns. To ask before whether it would is not
    // enough, since another thread may write in between.
    IS_ENDING.store(true, Ordering::SeqCst);
    if let Some(ender) = ENDER.get() {
        ender.unpark();
        // SAFETY: the kernel copies the line, which lives.
        unsafe { libc::write(libc::STDERR_FILENO, said.as_ptr().cast(), said.len()) };
    }
    exit()
}

/// Ends the process at once.
fn exit() -> ! {
    // SAFETY: nothing runs in this process after the call.
    unsafe { libc::_exit(i32::from(EXIT_CODE_LOST)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(15);

    /// How many looks it takes until a guest counts as lost, of so many.
    fn check(looks: impl IntoIterator<Item = (u64, Activity)>, expected: Option<usize>) {
        let mut absence = Absence::begin(Duration::ZERO);
        let mut looks = looks.into_iter();
        let lost = looks.position(|(cpu_ms, activity)| {
            absence.look(Seen { cpu: Duration::from_millis(cpu_ms), activity }, PATIENCE)
        });
        assert_eq!(lost, expected);
    }

    fn always(activity: Activity) -> impl Iterator<Item = (u64, Activity)> {
        std::iter::repeat_n((0, activity), 1_000)
    }

    #[test]
    fn a_thread_that_sleeps_and_never_moves_is_lost() {
        check(always(Activity::Asleep), Some(14));
    }

    #[test]
    fn a_thread_that_gets_no_core_is_not_lost() {
        check(always(Activity::Running), None);
    }

    #[test]
    fn a_thread_that_waits_for_a_disk_or_is_held_is_not_lost() {
        check(always(Activity::Other), None);
    }

    #[test]
    fn a_thread_that_moves_a_little_now_and_then_is_not_lost() {
        check((0..1_000).map(|look| (look / 10, Activity::Asleep)), None);
        check((0..1_000).map(|look| (0, if look % 14 == 13 { Activity::Running } else { Activity::Asleep })), None);
    }

    #[test]
    fn a_thread_that_computes_on_and_on_is_lost_by_its_own_time() {
        check((1..1_000).map(|look| (look * 100, Activity::Running)), Some(149));
    }
}
