//! The places of one listener: who is connected, how busy, and who leaves for whom.
//!
//! Nobody keeps a place by being silent. When all places are taken, the connection that has been idle for longest leaves,
//! those first that have not shown a good key; no address may take more than its part. A connection whose answers are
//! not read ends, sooner while answers take more memory than they may.

mod seat;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, Ipv6Addr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use metrics::counter;
use tokio::{
    sync::Notify,
    time::{Instant, MissedTickBehavior, interval, timeout},
};

pub(crate) use seat::{Busy, Here, Seat};

use crate::metrics::ENDED;

/// How long who has shown a good key may be idle before it leaves for others: between two requests of one client.
const IDLE_KNOWN: Duration = Duration::from_secs(1);
/// After how long without a step answers count as not read, once they take more memory than they may.
const UNREAD_PATIENCE: Duration = Duration::from_millis(500);
/// Of so many places one is made free beforehand, by those that have shown no key: who looks for one looks at all.
const PLACES_PER_SPARE: usize = 64;
/// Between two looks for a place, when everybody is busy.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// Between two looks at all connections; a quarter of the shortest time limit, if that is less.
const SWEEP_MAX: Duration = Duration::from_secs(1);

/// What the connections of a listener may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Room {
    /// Most connections.
    pub(crate) connections: usize,
    /// Most connections of one address.
    pub(crate) of_one_address: usize,
    /// How long a connection may be there without a request.
    pub(crate) idle: Duration,
    /// How long the answers of a connection may take no step.
    pub(crate) patience: Duration,
    /// Most bytes of answers that were not read yet.
    pub(crate) unread_bytes: usize,
}

/// The places of one listener.
pub(crate) struct Places {
    name: &'static str,
    room: Room,
    table: Mutex<Table>,
    /// A place is free again. One task at a time waits for it: the one that accepts.
    freed: Notify,
    unread: AtomicUsize,
}

#[derive(Default)]
struct Table {
    seats: BTreeMap<u64, Arc<Seat>>,
    /// How many seats each address has.
    by_origin: HashMap<IpAddr, usize>,
    next: u64,
}

/// A place that is taken, until it is dropped.
pub(crate) struct Place {
    places: Arc<Places>,
    id: u64,
    pub(crate) seat: Arc<Seat>,
}

/// What a look for a place finds.
enum Found {
    Place(Place),
    /// Somebody leaves, or will.
    Soon,
    /// The address has as many as it may, and all are busy.
    Never,
}

impl Places {
    pub(crate) fn new(name: &'static str, room: Room) -> Arc<Self> {
        Arc::new(Self { name, room, table: Mutex::default(), freed: Notify::new(), unread: AtomicUsize::new(0) })
    }

    /// A place for a connection from `from`, once there is one. None if the address has as many as it may, all busy.
    pub(crate) async fn take(self: &Arc<Self>, from: IpAddr) -> Option<Place> {
        let origin = origin(from);
        loop {
            match self.look(origin, Instant::now()) {
                Found::Place(place) => return Some(place),
                Found::Never => {
                    self.count("address");
                    return None;
                }
                // Whether it ends by being told or by the clock: looked at again either way.
                Found::Soon => drop(timeout(LOOK_AGAIN, self.freed.notified()).await),
            }
        }
    }

    fn look(self: &Arc<Self>, origin: IpAddr, now: Instant) -> Found {
        let mut table = self.table();
        let is_full = table.seats.len() >= self.room.connections;
        let own = table.by_origin.get(&origin).copied().unwrap_or(0);
        if own >= self.room.of_one_address {
            let spares = self.room.of_one_address / PLACES_PER_SPARE;
            let is_soon = self.make_way(&table, now, spares, |seat| seat.origin == origin);
            return if is_soon || is_full { Found::Soon } else { Found::Never };
        }
        if is_full {
            self.make_way(&table, now, self.room.connections / PLACES_PER_SPARE, |_| true);
            return Found::Soon;
        }
        let id = table.next;
        table.next += 1;
        let seat = Arc::new(Seat::new(origin, now));
        table.seats.insert(id, seat.clone());
        *table.by_origin.entry(origin).or_default() += 1;
        Found::Place(Place { places: self.clone(), id, seat })
    }

    /// Has the one leave that can be spared most, and of those that have shown no key `spares` at once; whether somebody
    /// leaves.
    fn make_way(&self, table: &Table, now: Instant, spares: usize, is_asked: impl Fn(&Seat) -> bool) -> bool {
        let mut spared = Vec::new();
        for seat in table.seats.values().filter(|seat| is_asked(seat)) {
            if seat.end.is_cancelled() {
                return true;
            }
            match seat.idle() {
                Some((true, since)) if now.saturating_duration_since(since) < IDLE_KNOWN => {}
                Some(rank) => spared.push((rank, seat)),
                None => {}
            }
        }
        spared.sort_unstable_by_key(|(rank, _)| *rank);
        let leaving =
            spared.iter().enumerate().take(spares.max(1)).filter(|(at, ((is_known, _), _))| *at == 0 || !is_known);
        let mut is_soon = false;
        for (_, (_, seat)) in leaving {
            self.count("crowded");
            seat.end.cancel();
            is_soon = true;
        }
        is_soon
    }

    /// Whether one more answer may be made. Those that nobody reads leave for it.
    pub(crate) fn has_room_for_answers(&self, now: Instant) -> bool {
        if self.unread() < self.room.unread_bytes {
            return true;
        }
        self.end_unread(now, UNREAD_PATIENCE);
        self.unread() < self.room.unread_bytes
    }

    /// Looks at all connections from time to time. Never ends by itself.
    pub(crate) async fn watch(self: Arc<Self>) {
        let shortest = self.room.idle.min(self.room.patience);
        let mut tick = interval((shortest / 4).clamp(Duration::from_millis(1), SWEEP_MAX));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            self.sweep(Instant::now());
        }
    }

    fn sweep(&self, now: Instant) {
        let over = self.unread() >= self.room.unread_bytes;
        self.end_unread(now, if over { UNREAD_PATIENCE.min(self.room.patience) } else { self.room.patience });
        for seat in self.table().seats.values().filter(|seat| !seat.leaves()) {
            if seat.idle().is_some_and(|(_, since)| now.saturating_duration_since(since) >= self.room.idle) {
                self.count("idle");
                seat.end_softly.cancel();
            }
        }
    }

    /// Ends the connections whose answers took no step for `patience`, or are late: those first that hold most, and while
    /// patience is short, only until what is left fits.
    fn end_unread(&self, now: Instant, patience: Duration) {
        let table = self.table();
        let mut unread: Vec<(usize, &Arc<Seat>)> =
            table.seats.values().filter_map(|seat| Some((seat.unread_for(now, patience)?, seat))).collect();
        unread.sort_by_key(|(bytes, _)| std::cmp::Reverse(*bytes));
        let mut left = self.unread();
        for (bytes, seat) in unread {
            if patience < self.room.patience && left < self.room.unread_bytes {
                return;
            }
            left = left.saturating_sub(bytes);
            if !seat.end.is_cancelled() {
                self.count("unread");
                seat.end.cancel();
            }
        }
    }

    fn unread(&self) -> usize {
        self.unread.load(Ordering::Relaxed)
    }

    fn count(&self, reason: &'static str) {
        counter!(ENDED, "listener" => self.name, "reason" => reason).increment(1);
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// What counts the bytes of an answer until they are taken.
    pub(crate) fn here(&self) -> Here {
        Here { places: self.places.clone(), seat: self.seat.clone() }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut table = self.places.table();
        table.seats.remove(&self.id);
        let origin = self.seat.origin;
        if let Some(count) = table.by_origin.get_mut(&origin) {
            *count -= 1;
            if *count == 0 {
                table.by_origin.remove(&origin);
            }
        }
        drop(table);
        self.places.freed.notify_one();
    }
}

/// What counts as one address: of IPv6, a network of 64 bits, which is what one host is given.
fn origin(from: IpAddr) -> IpAddr {
    match from.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
        address @ IpAddr::V4(_) => address,
    }
}
