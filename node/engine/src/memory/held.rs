//! Who holds how much: one instance's bill, one program's tally, and the sums.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Acquire, Ordering::Relaxed, Ordering::Release},
    },
    time::Duration,
};

use super::{Ledger, Purpose};

/// What one program holds of the node's memory, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Held {
    /// Its machine code as it is mapped, and what describes it.
    pub code: u64,
    /// Its idle instances, without what those that serve many calls keep in their memory.
    pub idle: u64,
    /// The memory of its guests that run, whether they have touched it or not, and what instances that serve many calls
    /// keep.
    pub guests: u64,
}

impl Held {
    /// All of it.
    pub fn total(&self) -> u64 {
        self.code + self.idle + self.guests
    }
}

/// What the process holds, by what it is, in bytes. As of the last look but for the guests' part.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Memory {
    /// Most that the process may hold; `u64::MAX` is no bound.
    pub budget: u64,
    /// What the kernel says that it holds.
    pub resident: u64,
    /// That, less what running guests have touched of their memory.
    pub base: u64,
    /// What running guests may touch, and what is set aside for what is being loaded.
    pub guests: u64,
    /// The code that is loaded, each module once; part of `base`.
    pub code: u64,
    /// The instances that are alive, without their memory; part of `base`.
    pub instances: u64,
}

impl Memory {
    /// The most that the process can hold by what it has given away.
    pub fn committed(&self) -> u64 {
        self.base.saturating_add(self.guests)
    }
}

/// What the guests of one program have.
#[derive(Debug, Default)]
pub(crate) struct Tally(AtomicU64);

impl Tally {
    pub(crate) fn bytes(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// What one instance's memory is charged for. Only the thread that runs or resets the instance changes it.
#[derive(Debug)]
pub(super) struct Bill {
    ledger: Arc<Ledger>,
    tally: Arc<Tally>,
    /// What the caller has set aside, for as long as the call lasts.
    paid: AtomicU64,
    /// What was taken beyond that.
    own: AtomicU64,
    /// What the tally has of it.
    tallied: AtomicU64,
    /// What the host keeps for the guest.
    held: AtomicU64,
    /// What the last look has found of the pages that the idle instance has.
    found: AtomicU64,
    /// Those pages.
    resting: AtomicU64,
    /// Counts the calls; odd while there is one, or while the memory is kept.
    turns: AtomicU64,
    /// Whether the call's guest may be kept waiting for memory; no longer once it is stopped.
    may_wait: AtomicBool,
    was_short: AtomicBool,
}

impl Bill {
    pub(super) fn new(ledger: Arc<Ledger>, tally: Arc<Tally>) -> Self {
        let (paid, own, tallied, held, found, resting) = Default::default();
        let (turns, may_wait, was_short) = Default::default();
        Self { ledger, tally, paid, own, tallied, held, found, resting, turns, may_wait, was_short }
    }

    /// By what one knows the call that the memory is charged for; none if it is for none.
    pub(super) fn turn(&self) -> Option<u64> {
        Some(self.turns.load(Acquire)).filter(|turn| turn % 2 == 1)
    }

    pub(super) fn enter(&self, paid: u64, may_wait: bool, length: u64) {
        if self.turn().is_none() {
            self.turns.fetch_add(1, Release);
        }
        self.paid.store(paid, Relaxed);
        self.held.store(0, Relaxed);
        self.may_wait.store(may_wait, Relaxed);
        // What was kept is paid for by now; there is never more to take than before.
        self.charge(length);
    }

    /// The guest is stopped: from now on its call waits for nothing.
    pub(super) fn wait_no_more(&self) {
        self.may_wait.store(false, Relaxed);
    }

    pub(super) fn charge(&self, length: u64) -> bool {
        self.settle(length.saturating_add(self.held.load(Relaxed)))
    }

    pub(super) fn hold(&self, bytes: u64, length: u64) -> bool {
        let before = self.held.swap(bytes, Relaxed);
        let is_held = self.charge(length);
        if !is_held {
            self.held.store(before, Relaxed);
        }
        is_held
    }

    pub(super) fn keep(&self, length: u64) -> bool {
        self.paid.store(0, Relaxed);
        self.held.store(0, Relaxed);
        self.may_wait.store(false, Relaxed);
        self.charge(length)
    }

    /// The call is over, and the memory as it was before it but for `kept` bytes of pages that the instance has now.
    pub(super) fn leave(&self, kept: u64) {
        self.ledger.stays(kept.saturating_sub(self.found.swap(kept, Relaxed)));
        self.resting.store(kept, Relaxed);
        self.paid.store(0, Relaxed);
        self.held.store(0, Relaxed);
        self.settle(0);
        if self.turn().is_some() {
            self.turns.fetch_add(1, Release);
        }
    }

    /// A look has found all of the memory to be a running guest's, and none of it an idle instance's.
    pub(super) fn was_seen_running(&self) {
        self.found.store(0, Relaxed);
    }

    /// What an idle instance holds of its memory.
    pub(super) fn resting(&self) -> u64 {
        self.resting.load(Relaxed)
    }

    pub(super) fn was_short(&self) -> bool {
        self.was_short.load(Relaxed)
    }

    pub(super) fn forget_shortage(&self) {
        self.was_short.store(false, Relaxed);
    }

    /// Takes or gives back so much that `total` is paid for.
    fn settle(&self, total: u64) -> bool {
        let paid = self.paid.load(Relaxed);
        let (wanted, own) = (total.saturating_sub(paid), self.own.load(Relaxed));
        if wanted > own && !self.take(wanted - own, || std::thread::sleep(WAIT)) {
            self.was_short.store(true, Relaxed);
            return false;
        }
        self.ledger.give_back(own.saturating_sub(wanted));
        self.own.store(wanted, Relaxed);
        self.tally(total.max(paid));
        true
    }

    /// Takes `bytes` more, if need be after waits for what others give back.
    fn take(&self, bytes: u64, wait: impl Fn()) -> bool {
        for _ in 0..WAITS_MAX {
            if !self.may_wait.load(Relaxed) {
                break;
            }
            if self.ledger.take(bytes, Purpose::Grow).is_ok() {
                return true;
            }
            wait();
        }
        self.ledger.take(bytes, Purpose::Grow).is_ok()
    }

    fn tally(&self, total: u64) {
        let before = self.tallied.swap(total, Relaxed);
        if total >= before {
            self.tally.0.fetch_add(total - before, Relaxed);
        } else {
            self.tally.0.fetch_sub(before - total, Relaxed);
        }
    }
}

impl Drop for Bill {
    fn drop(&mut self) {
        self.paid.store(0, Relaxed);
        self.held.store(0, Relaxed);
        self.settle(0);
    }
}

/// A guest that wants to grow waits so long, so often, for what the node can do without: it takes the node's eviction a
/// tenth of a second to see that memory is short, and to let go of what nobody uses.
const WAIT: Duration = Duration::from_millis(10);
const WAITS_MAX: u32 = 40;

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn bill(budget: u64) -> (Arc<Ledger>, Arc<Tally>, Bill) {
        let (ledger, tally) = (Ledger::new(budget), Arc::<Tally>::default());
        let bill = Bill::new(ledger.clone(), tally.clone());
        (ledger, tally, bill)
    }

    #[test]
    fn a_call_pays_only_for_what_its_caller_has_not() {
        let (ledger, tally, bill) = bill(1_600);
        bill.enter(300, false, 0);
        assert!(bill.charge(300) && ledger.given() == 0 && tally.bytes() == 300);
        assert!(bill.charge(500) && ledger.given() == 200 && tally.bytes() == 500);
        assert!(!bill.charge(3_000) && bill.was_short() && ledger.given() == 200);
        bill.leave(0);
        assert_eq!((ledger.given(), tally.bytes(), bill.turn()), (0, 0, None));
    }

    #[test]
    fn a_guest_that_is_stopped_waits_for_memory_no_longer() {
        let (_, _, bill) = bill(1_600);
        bill.enter(0, true, 0);
        let waits = Cell::new(0);
        let wait_then_stop = || {
            waits.set(waits.get() + 1);
            if waits.get() == 3 {
                bill.wait_no_more();
            }
        };
        assert!(!bill.take(3_000, wait_then_stop));
        assert_eq!(waits.get(), 3);
    }

    #[test]
    fn pages_that_an_idle_instance_keeps_count_once_until_a_look_finds_them() {
        let (ledger, _, bill) = bill(1_600);
        for kept in [100, 100, 60, 100] {
            bill.enter(0, false, 300);
            bill.leave(kept);
        }
        assert_eq!(ledger.given(), 140, "100, and 40 again that were not there at the last look");
        ledger.observe(|| (900, 0));
        assert_eq!((ledger.given(), ledger.base()), (0, 900));
        bill.enter(0, false, 300);
        bill.was_seen_running();
        bill.leave(100);
        assert_eq!(ledger.given(), 100, "the look has found it to be a guest's");
    }

    #[test]
    fn what_is_kept_pays_for_itself_until_the_next_call() {
        let (ledger, tally, bill) = bill(1_600);
        bill.enter(300, false, 0);
        assert!(bill.charge(400) && bill.hold(50, 400) && ledger.given() == 150);
        assert!(bill.keep(400) && ledger.given() == 400 && bill.turn().is_some());
        bill.enter(300, false, 400);
        assert_eq!((ledger.given(), tally.bytes()), (100, 400));
        drop(bill);
        assert_eq!((ledger.given(), tally.bytes()), (0, 0));
    }
}
