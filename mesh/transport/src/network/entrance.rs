//! How much strangers may have under way at once, and clients, who are strangers with a good key: doors of their own, so
//! that whoever has no key cannot keep out those who have one, nor those who are about to show theirs.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

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
    turn: Option<Turn>,
}

/// What one stranger's connection may have under way, so that no connection takes all places of the others.
pub(super) struct Share {
    /// Whether one of its requests had a good answer, for which it needs a key. It has no share then but a client's.
    is_client: AtomicBool,
    first: Arc<Semaphore>,
    second: Arc<Semaphore>,
    introductions: Arc<Semaphore>,
}

/// One request of a share; given back when dropped.
pub(super) struct Turn {
    _permit: OwnedSemaphorePermit,
    /// What its body may still grow by.
    left: usize,
}

impl Share {
    pub(super) fn new() -> Self {
        let semaphore = |permits| Arc::new(Semaphore::new(permits));
        Self {
            is_client: AtomicBool::new(false),
            first: semaphore(1),
            second: semaphore(1),
            introductions: semaphore(INTRODUCTIONS_MAX),
        }
    }

    pub(super) fn is_client(&self) -> bool {
        self.is_client.load(Ordering::Relaxed)
    }

    /// It is a client's from now on; false if it was before.
    pub(super) fn has_shown_a_key(&self) -> bool {
        !self.is_client.swap(true, Ordering::Relaxed)
    }

    /// A turn for a call without a key: for one of any size, and for a small one beside it.
    pub(super) fn turn(&self) -> Option<Turn> {
        let turn = |of: &Arc<Semaphore>, left| {
            of.clone().try_acquire_owned().ok().map(|permit| Turn { _permit: permit, left })
        };
        turn(&self.first, usize::MAX).or_else(|| turn(&self.second, SECOND_BODY_BYTES_MAX))
    }

    /// A turn to show a key or a token.
    pub(super) fn introduction(&self) -> Option<Turn> {
        let permit = self.introductions.clone().try_acquire_owned().ok()?;
        Some(Turn { _permit: permit, left: usize::MAX })
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
        Some(Place { _request: request, kibibytes: self.kibibytes.clone(), body: None, spare: 0, turn })
    }
}

impl Place {
    /// Room for so many bytes more; false if there is none.
    pub(super) fn hold(&mut self, bytes: usize) -> bool {
        if let Some(turn) = &mut self.turn {
            let Some(left) = turn.left.checked_sub(bytes) else { return false };
            turn.left = left;
        }
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

/// The largest body of a stranger's call beside another of its connection: the default payload limit is six of these.
const SECOND_BODY_BYTES_MAX: usize = 1 << 20;

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

    #[test]
    fn a_share_is_one_call_of_any_size_and_a_small_one_beside_it() {
        let (entrance, share) = (Entrance::new(9, 64 << 20), Share::new());
        let mut first = entrance.admit(share.turn()).unwrap();
        let mut second = entrance.admit(share.turn()).unwrap();
        assert!(share.turn().is_none() && share.introduction().is_some());
        assert!(first.hold(32 << 20) && second.hold(SECOND_BODY_BYTES_MAX));
        assert!(!second.hold(1));
        drop(first);
        assert!(entrance.admit(share.turn()).unwrap().hold(32 << 20));
    }
}
