//! One transfer per digest at a time: whoever comes while one is under way waits for it and shares what it brings.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use bytes::Bytes;
use skein_proto::{Digest, Failure, NodeId};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The transfers under way.
#[derive(Debug, Default)]
pub(crate) struct Flights(Mutex<HashMap<Digest, Arc<Flight>>>);

/// One transfer, and how it ended.
#[derive(Debug)]
struct Flight {
    /// One permit: the turn to transfer. Closed when the transfer has ended.
    turn: Arc<Semaphore>,
    landing: OnceLock<Landing>,
}

/// How a transfer ended.
#[derive(Debug, Clone)]
pub(crate) struct Landing {
    pub(crate) result: Result<Bytes, Failure>,
    /// The peers that were asked.
    pub(crate) asked: Vec<NodeId>,
}

/// What somebody who wants an artifact is to do.
pub(crate) enum Joined<'a> {
    /// Transfer it, and tell the others.
    Turn(Turn<'a>),
    /// Somebody else's transfer ended.
    Landed(Landing),
}

/// The turn to transfer. Dropped without `land`, for instance because its caller went away, it passes to a waiter.
pub(crate) struct Turn<'a> {
    flights: &'a Flights,
    flight: Arc<Flight>,
    digest: Digest,
    _permit: OwnedSemaphorePermit,
}

impl Flights {
    /// Takes the turn, or waits for the end of the transfer that is under way.
    pub(crate) async fn join(&self, digest: Digest) -> Joined<'_> {
        loop {
            let flight = self.flight(digest);
            if let Ok(permit) = flight.turn.clone().acquire_owned().await {
                return Joined::Turn(Turn { flights: self, flight, digest, _permit: permit });
            }
            // The turn is closed only after the landing is known.
            if let Some(landing) = flight.landing.get() {
                return Joined::Landed(landing.clone());
            }
        }
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.under_way().is_empty()
    }

    fn flight(&self, digest: Digest) -> Arc<Flight> {
        let new = || Arc::new(Flight { turn: Arc::new(Semaphore::new(1)), landing: OnceLock::new() });
        self.under_way().entry(digest).or_insert_with(new).clone()
    }

    fn under_way(&self) -> MutexGuard<'_, HashMap<Digest, Arc<Flight>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn<'_> {
    /// Tells those who wait how it ended.
    pub(crate) fn land(self, landing: Landing) {
        let _ = self.flight.landing.set(landing);
        self.flight.turn.close();
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        // Who comes from now on starts afresh, so that an old failure is not told for ever.
        let mut under_way = self.flights.under_way();
        if under_way.get(&self.digest).is_some_and(|flight| Arc::ptr_eq(flight, &self.flight)) {
            under_way.remove(&self.digest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn landing(bytes: &'static [u8]) -> Landing {
        Landing { result: Ok(Bytes::from_static(bytes)), asked: Vec::new() }
    }

    #[tokio::test]
    async fn waiters_share_the_landing_and_nothing_is_left() {
        let flights = Flights::default();
        let digest = Digest::of(b"a");
        let Joined::Turn(turn) = flights.join(digest).await else { panic!("the first has the turn") };
        let (_, second, third) = tokio::join!(
            async {
                tokio::task::yield_now().await;
                turn.land(landing(b"x"));
            },
            flights.join(digest),
            flights.join(digest),
        );
        for joined in [second, third] {
            let Joined::Landed(landing) = joined else { panic!("a second turn was given") };
            assert_eq!(landing.result, Ok(Bytes::from_static(b"x")));
        }
        assert!(flights.is_empty());
    }

    #[tokio::test]
    async fn a_turn_given_up_passes_to_a_waiter() {
        let flights = Flights::default();
        let digest = Digest::of(b"a");
        let Joined::Turn(turn) = flights.join(digest).await else { panic!("the first has the turn") };
        let (_, second) = tokio::join!(async { drop(turn) }, flights.join(digest));
        let Joined::Turn(turn) = second else { panic!("nobody has the turn") };
        drop(turn);
        assert!(flights.is_empty());
    }
}
