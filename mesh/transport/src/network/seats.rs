//! Seats of those who have shown nothing yet, and who leaves when a newcomer finds none: whoever has been idle longest.
//!
//! A newcomer is never refused for those who sit and do nothing: they leave one by one, first those of its own address if
//! that has as many as one address may, and else of all. Whoever shows what it has gives its seat up for a better place.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio_util::sync::CancellationToken;

/// All seats of one kind.
pub(super) struct Seats {
    seats_max: usize,
    per_address_max: usize,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    /// By the order in which they were taken.
    taken: BTreeMap<u64, Taken>,
    next: u64,
}

struct Taken {
    from: Origin,
    /// Requests under way that have arrived whole.
    busy: Arc<AtomicUsize>,
    leave: CancellationToken,
}

/// One seat; given back when dropped.
pub(super) struct Seat {
    seats: Arc<Seats>,
    number: u64,
    busy: Arc<AtomicUsize>,
    leave: CancellationToken,
}

/// Whoever has this is not idle until it is dropped.
pub(super) struct Busy(Arc<AtomicUsize>);

/// What counts as one address: an IPv4 address, or the 64 bits of an IPv6 address that one customer is given at least.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Origin(IpAddr);

impl Seats {
    pub(super) fn new(seats_max: usize, per_address_max: usize) -> Arc<Self> {
        Arc::new(Self { seats_max, per_address_max, table: Mutex::default() })
    }

    /// How many are taken.
    #[cfg(test)]
    pub(super) fn taken(&self) -> usize {
        self.table().taken.len()
    }

    /// A seat for somebody at `address`. Whoever must leave for it is told, and gone from the table at once. None if there
    /// are no seats at all.
    pub(super) fn take(self: &Arc<Self>, address: IpAddr) -> Option<Seat> {
        if self.seats_max == 0 || self.per_address_max == 0 {
            return None;
        }
        let from = Origin::of(address);
        let (busy, leave) = (Arc::<AtomicUsize>::default(), CancellationToken::new());
        let mut table = self.table();
        let of_address = table.taken.values().filter(|taken| taken.from == from).count();
        if of_address >= self.per_address_max {
            table.send_away(|taken| taken.from == from);
        } else if table.taken.len() >= self.seats_max {
            table.send_away(|_| true);
        }
        let number = table.next;
        table.next += 1;
        table.taken.insert(number, Taken { from, busy: busy.clone(), leave: leave.clone() });
        drop(table);
        Some(Seat { seats: self.clone(), number, busy, leave })
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // Nothing panics under the lock.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// Has one of those who `may_leave` go: the first that is idle, and if all are busy the first.
    fn send_away(&mut self, may_leave: impl Fn(&Taken) -> bool) {
        let mut candidates = self.taken.iter().filter(|(_, taken)| may_leave(taken));
        let first = candidates.clone().next();
        let idle = candidates.find(|(_, taken)| taken.busy.load(Ordering::Relaxed) == 0);
        let Some(number) = idle.or(first).map(|(number, _)| *number) else { return };
        if let Some(taken) = self.taken.remove(&number) {
            taken.leave.cancel();
        }
    }
}

impl Seat {
    /// Cancelled when somebody else needs the seat.
    pub(super) fn leave(&self) -> CancellationToken {
        self.leave.clone()
    }

    /// The seat is kept before those of idle ones until this is dropped.
    pub(super) fn busy(&self) -> Busy {
        self.busy.fetch_add(1, Ordering::Relaxed);
        Busy(self.busy.clone())
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.seats.table().taken.remove(&self.number);
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Origin {
    fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                Self(IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0)))
            }
            address => Self(address),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn left(seats: &[Seat]) -> Vec<usize> {
        seats.iter().enumerate().filter(|(_, seat)| seat.leave.is_cancelled()).map(|(at, _)| at).collect()
    }

    #[test]
    fn up_to_the_bound_nobody_leaves_and_beyond_it_whoever_came_first() {
        let seats = Seats::new(3, 3);
        let mut taken = Vec::new();
        for (address, leaves) in [
            ("10.0.0.1", vec![]),
            ("10.0.0.2", vec![]),
            ("10.0.0.3", vec![]),
            ("10.0.0.4", vec![0]),
            ("10.0.0.5", vec![0, 1]),
        ] {
            taken.push(seats.take(ip(address)).unwrap());
            assert_eq!(left(&taken), leaves, "{address}");
        }
        assert_eq!(seats.taken(), 3);
        drop(taken);
        assert_eq!(seats.taken(), 0);
    }

    #[test]
    fn an_address_that_has_as_many_as_it_may_loses_its_own() {
        let seats = Seats::new(10, 2);
        let mut taken = vec![seats.take(ip("10.0.0.9")).unwrap()];
        for leaves in [vec![], vec![], vec![1], vec![1, 2]] {
            taken.push(seats.take(ip("10.0.0.1")).unwrap());
            assert_eq!(left(&taken), leaves);
        }
        assert_eq!(seats.taken(), 3);
    }

    #[test]
    fn who_is_busy_stays_while_another_is_idle() {
        let seats = Seats::new(2, 2);
        let mut taken = vec![seats.take(ip("10.0.0.1")).unwrap(), seats.take(ip("10.0.0.2")).unwrap()];
        let busy = [taken[0].busy(), taken[0].busy()];
        taken.push(seats.take(ip("10.0.0.3")).unwrap());
        assert_eq!(left(&taken), [1]);
        let _third = taken[2].busy();
        taken.push(seats.take(ip("10.0.0.4")).unwrap());
        assert_eq!(left(&taken), [0, 1], "all are busy");
        drop(busy);
    }

    #[test]
    fn an_address_is_64_bits_of_ipv6_and_all_of_ipv4() {
        let is_one = |one, other| Origin::of(ip(one)) == Origin::of(ip(other));
        assert!(is_one("2001:db8:1:2::1", "2001:db8:1:2:ffff::9"));
        assert!(!is_one("2001:db8:1:2::1", "2001:db8:1:3::1"));
        assert!(is_one("::ffff:10.0.0.1", "10.0.0.1"));
        assert!(!is_one("10.0.0.1", "10.0.0.2") && !is_one("::ffff:10.0.0.1", "::ffff:10.0.0.2"));
    }

    #[test]
    fn where_there_are_no_seats_nobody_sits() {
        assert!(Seats::new(0, 1).take(ip("::1")).is_none() && Seats::new(1, 0).take(ip("::1")).is_none());
        assert!(Seats::new(1, 1).take(ip("::1")).is_some());
    }
}
