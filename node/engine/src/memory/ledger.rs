//! The books of the node's memory: what guests were given, what else the process holds, and what is left to give.
//!
//! The kernel says what the process holds, but only looks backwards: what a guest may touch next is in none of its
//! figures. So what running guests may touch is counted here as it is given, to the byte and at once, and what they
//! have touched of it is left out of what the kernel says:
//!
//! ```text
//! process = base (measured now and then: resident, less what running guests have touched) + given (counted always)
//! ```

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::AcqRel, Ordering::Acquire, Ordering::Relaxed},
};

use tokio::sync::Notify;

/// What an engine counts, shared by all that takes memory.
#[derive(Debug)]
pub(crate) struct Ledger {
    /// Most that the process may hold; `u64::MAX` is no bound.
    budget: u64,
    /// What the process held at the last look, without what running guests had touched of theirs.
    base: AtomicU64,
    /// What the kernel said at the last look that the process held.
    resident: AtomicU64,
    /// What running guests may touch, and what is set aside for loading.
    given: AtomicU64,
    /// The part of `given` that the next look finds in `base`.
    settled: AtomicU64,
    /// Somebody was refused.
    short: Notify,
}

/// For what memory is wanted. The last sixteenth of the budget is for nobody: it takes what no book can know at once,
/// such as buffers of the network and stacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// For what nobody has asked for yet: up to 12 sixteenths, below which a node does not let go of anything. Refusing
    /// it is no shortage, and nobody is told of it.
    Spare,
    /// To begin something, which can as well begin later: up to 14 sixteenths.
    Begin,
    /// For what runs already and would fail: up to 15 sixteenths.
    Grow,
}

/// Memory set aside, given back when dropped.
#[derive(Debug)]
pub struct Room {
    ledger: Arc<Ledger>,
    bytes: u64,
}

/// There is not as much memory left in the node's budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{wanted} bytes of memory are wanted, {missing} more than the node's budget of {budget} has left")]
pub struct NoRoom {
    /// What was asked for.
    pub wanted: u64,
    /// How much of it is not there.
    pub missing: u64,
    /// The most that the process may hold.
    pub budget: u64,
}

impl Ledger {
    pub(crate) fn new(budget: u64) -> Arc<Self> {
        Arc::new(Self {
            budget,
            base: AtomicU64::new(0),
            resident: AtomicU64::new(0),
            given: AtomicU64::new(0),
            settled: AtomicU64::new(0),
            short: Notify::new(),
        })
    }

    pub(crate) fn budget(&self) -> u64 {
        self.budget
    }

    /// What the process held at the last look, without what running guests had touched.
    pub(crate) fn base(&self) -> u64 {
        self.base.load(Relaxed)
    }

    /// What running guests may touch, and what is set aside.
    pub(crate) fn given(&self) -> u64 {
        self.given.load(Acquire)
    }

    /// Sets `bytes` aside until the room is dropped.
    ///
    /// # Errors
    /// [`NoRoom`] if the budget has no room for as much.
    pub(crate) fn room(self: &Arc<Self>, bytes: u64) -> Result<Room, NoRoom> {
        self.take(bytes, Purpose::Begin)?;
        Ok(Room { ledger: Arc::clone(self), bytes })
    }

    /// The same for what nobody has asked for yet; none unless there is plenty.
    pub(crate) fn spare(self: &Arc<Self>, bytes: u64) -> Option<Room> {
        self.take(bytes, Purpose::Spare).ok()?;
        Some(Room { ledger: Arc::clone(self), bytes })
    }

    /// Refuses `bytes`, whatever is left: something else has run out that letting go of what is loaded brings back.
    pub(crate) fn refuse(&self, bytes: u64) -> NoRoom {
        self.short.notify_one();
        NoRoom { wanted: bytes, missing: bytes, budget: self.budget }
    }

    /// Counts `bytes` as given; whoever took them gives them back.
    pub(crate) fn take(&self, bytes: u64, purpose: Purpose) -> Result<(), NoRoom> {
        let most = self.most(purpose).saturating_sub(self.base.load(Relaxed));
        let taken = self.given.fetch_update(AcqRel, Acquire, |given| {
            let sum = given.saturating_add(bytes);
            (sum <= most).then_some(sum)
        });
        taken.map(|_| ()).map_err(|given| {
            if purpose != Purpose::Spare {
                self.short.notify_one();
            }
            let missing = given.saturating_add(bytes) - most;
            NoRoom { wanted: bytes, missing, budget: self.budget }
        })
    }

    pub(crate) fn give_back(&self, bytes: u64) {
        self.given.fetch_sub(bytes, AcqRel);
    }

    /// Counts `bytes` as given until the next look, which finds them in what the process holds.
    pub(crate) fn stays(&self, bytes: u64) {
        self.given.fetch_add(bytes, AcqRel);
        self.settled.fetch_add(bytes, AcqRel);
    }

    /// Ends when somebody has been refused since the last time.
    pub(crate) async fn refused(&self) {
        self.short.notified().await;
    }

    /// What the kernel said at the last look that the process held.
    pub(crate) fn resident(&self) -> u64 {
        self.resident.load(Relaxed)
    }

    /// Takes over what a look at the process found. `look` gives its resident bytes and how many of them running guests
    /// have touched of what they were given.
    pub(crate) fn observe(&self, look: impl FnOnce() -> (u64, u64)) {
        // Before the look, which sees what has settled by now.
        let settled = self.settled.swap(0, AcqRel);
        let (resident, touched) = look();
        self.base.store(resident.saturating_sub(touched), Relaxed);
        self.resident.store(resident, Relaxed);
        self.give_back(settled);
    }

    fn most(&self, purpose: Purpose) -> u64 {
        let sixteenths = match purpose {
            Purpose::Spare => 12,
            Purpose::Begin => 14,
            Purpose::Grow => 15,
        };
        if self.budget == u64::MAX { u64::MAX } else { self.budget / 16 * sixteenths }
    }
}

impl Room {
    /// What was set aside.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What the room was for has been made and stays: it is the process's own, which the next look finds.
    pub fn settle(mut self) {
        self.ledger.settled.fetch_add(std::mem::take(&mut self.bytes), AcqRel);
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.ledger.give_back(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]
    use super::*;

    #[test]
    fn nothing_is_given_beyond_the_budget_and_all_comes_back() {
        let ledger = Ledger::new(1_600);
        ledger.observe(|| (500, 100));
        assert_eq!(ledger.base(), 400);
        let room = ledger.room(1_000).unwrap();
        assert_eq!(ledger.room(1).unwrap_err(), NoRoom { wanted: 1, missing: 1, budget: 1_600 });
        ledger.take(100, Purpose::Grow).unwrap();
        assert_eq!(ledger.take(1, Purpose::Grow).unwrap_err().missing, 1);
        drop(room);
        ledger.give_back(100);
        assert_eq!(ledger.given(), 0);
    }

    #[test]
    fn what_was_loaded_is_counted_until_a_look_has_found_it() {
        let ledger = Ledger::new(1_600);
        ledger.room(300).unwrap().settle();
        assert_eq!((ledger.base(), ledger.given()), (0, 300));
        ledger.observe(|| {
            ledger.room(50).unwrap().settle();
            (300, 0)
        });
        assert_eq!((ledger.base(), ledger.given()), (300, 50), "what settles during a look waits for the next");
    }

    #[tokio::test]
    async fn what_nobody_asked_for_gets_only_what_is_plenty_and_asks_nobody_to_let_go() {
        let ledger = Ledger::new(1_600);
        let room = ledger.spare(1_200).unwrap();
        assert!(ledger.spare(1).is_none());
        let nobody_is_told = tokio::time::timeout(std::time::Duration::ZERO, ledger.refused()).await;
        assert!(nobody_is_told.is_err());
        drop(room);
        assert_eq!(ledger.spare(1_200).unwrap().bytes(), 1_200);
    }

    #[test]
    fn no_bound_is_no_bound() {
        let ledger = Ledger::new(u64::MAX);
        ledger.observe(|| (u64::MAX / 2, 0));
        ledger.room(u64::MAX / 4).unwrap();
    }
}
