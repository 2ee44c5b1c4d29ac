//! One transfer per digest at a time: whoever comes while one is under way waits for it and shares what it brings.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use bytes::Bytes;
use skein_proto::{Digest, Failure, NodeId};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

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
    /// Until when some of them had not answered, if they ran out of time.
    pub(crate) cut_off: Option<Instant>,
}

impl Landing {
    /// Whether somebody who may ask these peers until then learns nothing by asking again: a transfer that ran out of
    /// time earlier, or asked others, says nothing of what more patience brings.
    pub(crate) fn settles(&self, peers: &[NodeId], deadline: Instant) -> bool {
        let is_patient = self.cut_off.is_none_or(|until| until >= deadline);
        self.result.is_ok() || (is_patient && peers.iter().all(|peer| self.asked.contains(peer)))
    }
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
        let mut under_way = self.flights.under_way();
        let is_ours = under_way.get(&self.digest).is_some_and(|flight| Arc::ptr_eq(flight, &self.flight));
        // A turn that is given up passes to who waits for it, and whoever comes must find that one: no second transfer
        // beside it. Nobody begins to wait while the map is ours; who waits holds the flight, as the map and we do.
        let passes_on = self.flight.landing.get().is_none() && Arc::strong_count(&self.flight) > 2;
        // Who comes after a landing starts afresh, so that an old failure is not told for ever.
        if is_ours && !passes_on {
            under_way.remove(&self.digest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn landing(bytes: &'static [u8]) -> Landing {
        Landing { result: Ok(Bytes::from_static(bytes)), asked: Vec::new(), cut_off: None }
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
    async fn a_turn_given_up_passes_to_a_waiter_whom_all_others_find() {
        let flights = Flights::default();
        let digest = Digest::of(b"a");
        let Joined::Turn(turn) = flights.join(digest).await else { panic!("the first has the turn") };
        let give_up = async {
            tokio::task::yield_now().await;
            drop(turn);
        };
        let (_, second) = tokio::join!(give_up, flights.join(digest));
        let Joined::Turn(turn) = second else { panic!("nobody has the turn") };
        // Whoever comes now waits for the second instead of having a turn beside it.
        let land = async {
            tokio::task::yield_now().await;
            turn.land(landing(b"x"));
        };
        let (third, ()) = tokio::join!(flights.join(digest), land);
        assert!(matches!(third, Joined::Landed(_)), "two transfers at a time");
        assert!(flights.is_empty());
    }

    #[test]
    fn a_failure_settles_nothing_for_who_has_more_time_or_more_peers() {
        let now = Instant::now();
        let later = now + std::time::Duration::from_secs(1);
        let failure = Failure::not_executed(skein_proto::ErrorCode::ArtifactUnavailable, "nobody has it");
        let asked = vec![NodeId(1), NodeId(2)];
        let hasty = Landing { result: Err(failure), asked, cut_off: Some(now) };
        assert!(hasty.settles(&[NodeId(1)], now));
        assert!(!hasty.settles(&[NodeId(1)], later), "it had less time");
        assert!(!hasty.settles(&[NodeId(3)], now), "it asked others");
        let told = Landing { cut_off: None, ..hasty.clone() };
        assert!(told.settles(&[NodeId(2)], later), "they said that they do not have it");
        let landed = Landing { result: Ok(Bytes::new()), ..hasty };
        assert!(landed.settles(&[NodeId(3)], later));
    }
}
