//! How much clients may have under way at once, and those who show a token or ask for nodes: doors of their own, so that
//! calls do not keep out those who are about to show what they have. A stranger without a good key has no door for calls.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::seats::{Busy, Seat};

/// One of the doors.
pub(super) struct Entrance {
    requests: Arc<Semaphore>,
    kibibytes: Arc<Semaphore>,
}

/// A place for one request and for what has arrived of its body; given back when dropped.
pub(super) struct Place {
    _request: OwnedSemaphorePermit,
    kibibytes: Arc<Semaphore>,
    body: Option<OwnedSemaphorePermit>,
    /// Bytes that fit into what is held already.
    spare: usize,
    _turn: Option<Turn>,
}

/// What one stranger's connection may have under way, so that none takes the places of the others.
pub(super) struct Share {
    seat: Mutex<Held>,
    /// Places of those who have shown a good key.
    clients: Arc<Semaphore>,
    introductions: Arc<Semaphore>,
}

/// What a connection holds of the node's places.
enum Held {
    /// A member's has its place elsewhere.
    Nothing,
    /// It has shown no key.
    Seat(Seat),
    /// It has.
    Client(#[expect(dead_code, reason = "held for as long as the connection lasts")] OwnedSemaphorePermit),
}

/// One request of a share; given back when dropped.
pub(super) struct Turn {
    _permit: OwnedSemaphorePermit,
}

impl Share {
    /// For a connection that has `seat`, if it is a stranger's.
    pub(super) fn new(seat: Option<Seat>, clients: Arc<Semaphore>) -> Self {
        let seat = Mutex::new(seat.map_or(Held::Nothing, Held::Seat));
        Self { seat, clients, introductions: Arc::new(Semaphore::new(INTRODUCTIONS_MAX)) }
    }

    /// It is a client's from now on, and gives its seat up; whether it was not before. None if there is no place for one
    /// more client: it keeps its seat.
    pub(super) fn has_shown_a_key(&self) -> Option<bool> {
        let mut held = self.seat();
        if matches!(*held, Held::Client(_)) {
            return Some(false);
        }
        *held = Held::Client(self.clients.clone().try_acquire_owned().ok()?);
        Some(true)
    }

    /// While this is kept, the connection is not idle.
    pub(super) fn busy(&self) -> Option<Busy> {
        match &*self.seat() {
            Held::Seat(seat) => Some(seat.busy()),
            Held::Nothing | Held::Client(_) => None,
        }
    }

    fn seat(&self) -> MutexGuard<'_, Held> {
        // Nothing panics under the lock.
        self.seat.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A turn to show a key or a token.
    pub(super) fn introduction(&self) -> Option<Turn> {
        let permit = self.introductions.clone().try_acquire_owned().ok()?;
        Some(Turn { _permit: permit })
    }
}

impl Entrance {
    pub(super) fn new(requests_max: usize, bytes_max: usize) -> Self {
        let semaphore = |permits: usize| Arc::new(Semaphore::new(permits.min(Semaphore::MAX_PERMITS)));
        Self { requests: semaphore(requests_max), kibibytes: semaphore(bytes_max.div_ceil(KIBIBYTE)) }
    }

    /// The door for those who show a key or token: there is always room for what so many connections may, each by its
    /// share, so that none of them keeps another out.
    pub(super) fn for_introductions(connections_max: usize) -> Self {
        let requests_max = connections_max.saturating_mul(INTRODUCTIONS_MAX);
        Self::new(requests_max, requests_max.saturating_mul(INTRODUCTION_BYTES_MAX))
    }

    /// A place for one more request, if there is one. Never waits.
    pub(super) fn admit(&self, turn: Option<Turn>) -> Option<Place> {
        let request = self.requests.clone().try_acquire_owned().ok()?;
        Some(Place { _request: request, kibibytes: self.kibibytes.clone(), body: None, spare: 0, _turn: turn })
    }
}

impl Place {
    /// Room for so many bytes more; false if there is none.
    pub(super) fn hold(&mut self, bytes: usize) -> bool {
        let Some(missing) = bytes.checked_sub(self.spare).filter(|missing| *missing > 0) else {
            self.spare -= bytes;
            return true;
        };
        let wanted = missing.div_ceil(KIBIBYTE);
        let permit =
            u32::try_from(wanted).ok().and_then(|count| self.kibibytes.clone().try_acquire_many_owned(count).ok());
        let Some(permit) = permit else { return false };
        self.spare = wanted * KIBIBYTE - missing;
        match &mut self.body {
            Some(body) => body.merge(permit),
            None => self.body = Some(permit),
        }
        true
    }
}

/// Bodies are counted in these: a semaphore's permits are too few for bytes.
const KIBIBYTE: usize = 1 << 10;

/// How often one connection may show a key or token at once: each side of a race has one.
const INTRODUCTIONS_MAX: usize = 2;

/// The largest body that does: a key, or a token, addresses and a certificate request, which are some 2 KiB. 1,024
/// connections hold 32 MiB of them at worst.
pub(super) const INTRODUCTION_BYTES_MAX: usize = 16 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_and_bytes_are_given_back_when_the_request_is_over() {
        let entrance = Entrance::new(2, 10 << 10);
        let (mut one, two) = (entrance.admit(None).unwrap(), entrance.admit(None));
        assert!(two.is_some() && entrance.admit(None).is_none(), "two places");
        // Ten bytes and the rest of their kibibyte, then nine more.
        assert!(one.hold(10) && one.hold(1_014) && one.hold(9 << 10));
        assert!(!one.hold(1), "ten KiB are held");
        drop((one, two));
        assert!(entrance.admit(None).unwrap().hold(10 << 10));
    }
}
