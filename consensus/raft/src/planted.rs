//! Mistakes that were made here once, for simulations that must find them when they are made again.
//!
//! No seam lies above them, so that nobody else could make them. Only the feature `simulation` lets anybody ask for one,
//! and then for one thread, on which a simulated mesh runs; see docs/decisions/0032.

/// A mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Planted {
    /// Entries cannot be read when all of them lie before the cache begins, as when the two were subtracted the wrong way
    /// round.
    RangeBeforeCache,
    /// Who votes is not noted in the state, so that no removal is weighed against another and who was removed ends at
    /// once, whether or not its vote is needed.
    UnweighedRemoval,
}

#[cfg(feature = "simulation")]
thread_local! {
    static MADE: std::cell::Cell<Option<Planted>> = const { std::cell::Cell::new(None) };
}

/// Has the groups on this thread make a mistake from now on, or none.
#[cfg(feature = "simulation")]
pub fn plant(planted: Option<Planted>) {
    MADE.set(planted);
}

/// Whether this mistake is to be made.
#[cfg(feature = "simulation")]
pub(crate) fn is(planted: Planted) -> bool {
    MADE.get() == Some(planted)
}

/// Whether this mistake is to be made: never.
#[cfg(not(feature = "simulation"))]
pub(crate) const fn is(_: Planted) -> bool {
    false
}
