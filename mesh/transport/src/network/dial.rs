//! A dial to one peer, at all the places where it may be: whoever proves there to be that peer is the one.
//!
//! The likeliest place is asked first, the next one a moment later, so that one which does not answer costs that moment
//! and not the whole patience.

use std::{collections::HashSet, net::SocketAddr, sync::Arc};

use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use quinn::{ClientConfig, Endpoint};
use skein_proto::{ErrorCode, Failure};
use tokio::{
    sync::Notify,
    time::{Duration, Instant, sleep_until, timeout},
};

use super::{
    host::Host,
    link::{Dial, Link},
};
use crate::Address;

/// What a dial needs besides whom it is for.
pub(super) struct Dialer<'a> {
    pub(super) host: &'a Arc<Host>,
    pub(super) endpoint: &'a Endpoint,
    pub(super) client: &'a ClientConfig,
    pub(super) dial: &'a Dial,
}

/// What an attempt came to.
enum Step {
    /// A name stands for these.
    Found(Vec<SocketAddr>),
    Connected(Result<Arc<Link>, Failure>),
}

/// How long a place is waited for before the next is asked as well: a round trip around the world and the handshake's
/// work on a busy machine.
const NEXT_AFTER: Duration = Duration::from_millis(200);

/// Most places that one dial asks: what a peer says of itself, what the catalogue says, where it called from, each a
/// name of several addresses at worst.
const PLACES_MAX: usize = 12;

impl Dialer<'_> {
    /// The first connection that comes about. `places` is asked at the beginning, and again each time `more` tells that
    /// there may be others now. Each attempt ends by itself, and there are [`PLACES_MAX`] at most.
    ///
    /// # Errors
    /// The last failure, `not-executed`, when all have failed.
    pub(super) async fn connect(&self, places: impl Fn() -> Vec<Address>, more: &Notify) -> Result<Arc<Link>, Failure> {
        let mut known: HashSet<Address> = HashSet::new();
        let mut waiting: Vec<Address> = Vec::new();
        let mut attempts = FuturesUnordered::new();
        let mut last = Failure::not_executed(ErrorCode::Unreachable, format!("node {} has no address", self.dial.peer));
        let mut next = Instant::now();
        let mut add = |waiting: &mut Vec<Address>, found: Vec<Address>| {
            // The end is taken first.
            for place in found.into_iter().rev() {
                if known.len() < PLACES_MAX && known.insert(place.clone()) {
                    waiting.push(place);
                }
            }
        };
        add(&mut waiting, places());
        loop {
            if attempts.is_empty() && waiting.is_empty() {
                // It may have been told of another place at this very moment.
                add(&mut waiting, places());
                if waiting.is_empty() {
                    return Err(last);
                }
            }
            tokio::select! {
                biased;
                Some(step) = attempts.next(), if !attempts.is_empty() => match step {
                    Step::Connected(Ok(link)) => return Ok(link),
                    Step::Connected(Err(failure)) => {
                        last = failure;
                        next = Instant::now();
                    }
                    Step::Found(found) => {
                        add(&mut waiting, found.into_iter().map(Address::from).collect());
                        next = Instant::now();
                    }
                },
                () = more.notified() => add(&mut waiting, places()),
                () = sleep_until(next), if !waiting.is_empty() => {
                    next = Instant::now() + NEXT_AFTER;
                    if let Some(place) = waiting.pop() {
                        attempts.push(self.attempt(place));
                    }
                }
            }
        }
    }

    /// Looks a name up, or connects to an IP address.
    fn attempt(&self, place: Address) -> BoxFuture<'_, Step> {
        let patience = self.host.config.dial_timeout;
        let whom = format!("node {} at {place}", self.dial.peer);
        let late = move |_| Err(Failure::not_executed(ErrorCode::Unreachable, format!("{whom} does not answer")));
        match place.ip() {
            Some(ip) => {
                let addr = SocketAddr::new(ip, place.port());
                let connect = Link::connect(self.host, self.endpoint, self.client.clone(), self.dial, addr);
                async move { Step::Connected(timeout(patience, connect).await.unwrap_or_else(late)) }.boxed()
            }
            None => async move {
                match timeout(patience, place.resolve()).await {
                    Ok(Ok(found)) => Step::Found(found),
                    Ok(Err(failure)) => Step::Connected(Err(failure)),
                    Err(elapsed) => Step::Connected(late(elapsed)),
                }
            }
            .boxed(),
        }
    }
}
