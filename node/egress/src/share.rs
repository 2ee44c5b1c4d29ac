//! What the requests of all apps share, and how much of it one app may take. Pure but for a lock.
//!
//! An app may take as much as is left for all others, and no more: alone it comes to hold half of all there is, with one
//! greedy neighbour a third, and however many hold their share there is always some left for one that holds nothing
//! ("dynamic thresholds" of shared buffers: Choudhury and Hahne, "Dynamic Queue Length Thresholds for Shared-Memory
//! Packet Switches", 1998). No app's servers, slow or talkative as they may be, keep another app from its own.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use skein_proto::AppName;

/// Something there is a bounded amount of. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Shares {
    total: usize,
    books: Arc<Mutex<Books>>,
}

#[derive(Debug, Default)]
struct Books {
    taken: usize,
    /// Of apps that hold some: as many as requests are under way at most.
    by_app: HashMap<AppName, usize>,
}

/// What one request holds. Dropping it gives it back.
#[derive(Debug)]
pub(crate) struct Share {
    shares: Shares,
    app: AppName,
    amount: usize,
}

impl Shares {
    pub(crate) fn of(total: usize) -> Self {
        Self { total: total.max(1), books: Arc::default() }
    }

    /// A share of `app`'s, of nothing yet.
    pub(crate) fn begin(&self, app: &AppName) -> Share {
        Share { shares: self.clone(), app: app.clone(), amount: 0 }
    }

    /// How much nobody holds.
    #[cfg(test)]
    pub(crate) fn left(&self) -> usize {
        self.total - self.books().taken
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        // Nothing panics under the lock.
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Share {
    /// Grows to `amount` in all, if it is smaller; false, and unchanged, if that is more than the app may take now.
    pub(crate) fn grow_to(&mut self, amount: usize) -> bool {
        let Some(more) = amount.checked_sub(self.amount).filter(|more| *more > 0) else { return true };
        let mut books = self.shares.books();
        let held = books.by_app.get(&self.app).copied().unwrap_or(0);
        let left = self.shares.total.saturating_sub(books.taken);
        if held.saturating_add(more) > left {
            return false;
        }
        books.taken += more;
        *books.by_app.entry(self.app.clone()).or_default() += more;
        self.amount = amount;
        true
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut books = self.shares.books();
        books.taken = books.taken.saturating_sub(self.amount);
        if let Some(held) = books.by_app.get_mut(&self.app) {
            *held = held.saturating_sub(self.amount);
            if *held == 0 {
                books.by_app.remove(&self.app);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app(name: &str) -> AppName {
        name.parse().unwrap()
    }

    /// As much as `name` can take in steps of one.
    fn fill(shares: &Shares, name: &str) -> Share {
        let mut share = shares.begin(&app(name));
        while share.grow_to(share.amount + 1) {}
        share
    }

    #[test]
    fn no_app_takes_what_is_left_for_others() {
        let shares = Shares::of(1_200);
        let greedy = [fill(&shares, "a"), fill(&shares, "a")];
        assert_eq!(greedy.each_ref().map(|share| share.amount), [600, 0], "an app's requests share its half");
        assert_eq!(fill(&shares, "b").amount, 300);
        let held = fill(&shares, "b");
        assert_eq!(fill(&shares, "c").amount, 150);
        drop((greedy, held));
        assert_eq!((shares.left(), shares.books().by_app.len()), (1_200, 0));
    }

    #[test]
    fn what_is_taken_goes_by_the_total_and_not_by_the_pieces() {
        let shares = Shares::of(1 << 20);
        let mut share = shares.begin(&app("a"));
        (1..=1_000).for_each(|total| assert!(share.grow_to(total)));
        assert!(share.grow_to(7) && share.amount == 1_000);
        assert_eq!(shares.left(), (1 << 20) - 1_000);
        assert!(!share.grow_to(1 << 21));
        assert_eq!(share.amount, 1_000, "what is refused changes nothing");
    }

    #[test]
    fn the_last_piece_may_be_taken_by_who_holds_nothing() {
        let shares = Shares::of(1);
        assert!(shares.begin(&app("a")).grow_to(1));
        let first = fill(&shares, "a");
        assert!(first.amount == 1 && !shares.begin(&app("b")).grow_to(1));
    }
}
