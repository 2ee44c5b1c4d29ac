//! Bringing an artifact here: from this disk, or from the first peer that gives the right bytes.

use bytes::Bytes;
use skein_proto::{Digest, ErrorCode, Failure, NodeId};
use tokio::time::{Instant, timeout_at};
use tracing::{debug, warn};

use crate::{
    Artifacts,
    exchange::{self, Patience},
    flight::{Joined, Landing},
    metrics,
    store::PutError,
};

impl Artifacts {
    /// The bytes, from here or from the peers in their order, and kept. Concurrent fetches of one digest share one
    /// transfer. Bytes that could not be kept, because the disk is full, are returned all the same: calls go on.
    ///
    /// # Errors
    /// `artifact-unavailable` or `deadline-exceeded`, both `not-executed`.
    pub async fn fetch(&self, digest: Digest, from: &[NodeId], deadline: Instant) -> Result<Bytes, Failure> {
        timeout_at(deadline, self.fetch_once(digest, from, deadline)).await.unwrap_or_else(|_| {
            let message = format!("artifact {digest} could not be fetched from nodes {} in time", listed(from));
            Err(Failure::not_executed(ErrorCode::DeadlineExceeded, message))
        })
    }

    /// Ends by the deadline of its caller; each turn of the loop waits for the end of somebody else's transfer.
    async fn fetch_once(&self, digest: Digest, from: &[NodeId], deadline: Instant) -> Result<Bytes, Failure> {
        loop {
            if let Some(bytes) = self.local(digest).await {
                return Ok(bytes);
            }
            match self.flights.join(digest).await {
                Joined::Turn(turn) => {
                    // Another transfer may have ended between the look and the turn.
                    let (result, is_cut_off) = match self.local(digest).await {
                        Some(bytes) => (Ok(bytes), false),
                        None => self.pull_from(digest, from, deadline).await,
                    };
                    let cut_off = is_cut_off.then_some(deadline);
                    turn.land(Landing { result: result.clone(), asked: from.to_vec(), cut_off });
                    return result;
                }
                Joined::Landed(landing) if landing.settles(from, deadline) => return landing.result,
                // We know peers that the other one did not ask, or have time that it did not have.
                Joined::Landed(_) => {}
            }
        }
    }

    /// What is here, if it can be read: a disk that fails does not keep us from asking peers.
    async fn local(&self, digest: Digest) -> Option<Bytes> {
        if !self.has(digest) {
            return None;
        }
        self.get(digest).await.unwrap_or_else(|failure| {
            warn!(%digest, %failure, "asking peers for an artifact that should be here");
            None
        })
    }

    /// The bytes, and whether a peer that did not give them ran out of time.
    async fn pull_from(&self, digest: Digest, from: &[NodeId], deadline: Instant) -> (Result<Bytes, Failure>, bool) {
        let mut is_cut_off = false;
        let mut peers: Vec<NodeId> = from.iter().copied().filter(|peer| *peer != self.transport.local()).collect();
        // To wait for one that may be gone is worth it only when the others do not have it.
        peers.sort_by_cached_key(|peer| self.transport.is_silent(*peer));
        let mut reasons = Vec::new();
        for (asked, peer) in peers.iter().enumerate() {
            let patience = Patience::share(deadline, peers.len() - asked);
            let bytes = match exchange::pull(&*self.transport, *peer, digest, patience).await {
                Ok(bytes) => bytes,
                Err(error) => {
                    debug!(%digest, %peer, %error, "a peer did not give an artifact");
                    is_cut_off |= error.is_for_want_of_time();
                    reasons.push(format!("node {peer}: {error}"));
                    continue;
                }
            };
            match self.keep(Some(digest), bytes.clone()).await {
                Ok(_) => {}
                Err(error @ PutError::Mismatch { .. }) => {
                    ::metrics::counter!(metrics::REFUSED_ANSWERS).increment(1);
                    warn!(%digest, %peer, "a peer's bytes did not match their digest");
                    reasons.push(format!("node {peer}: {error}"));
                    continue;
                }
                // Verified before anything is written, so the bytes are the right ones.
                Err(error) => warn!(%digest, %error, "a fetched artifact is used but could not be kept"),
            }
            ::metrics::counter!(metrics::FETCHED_BYTES).increment(bytes.len() as u64);
            return (Ok(bytes), is_cut_off);
        }
        let reasons = if reasons.is_empty() { "no node was named that may have it".into() } else { reasons.join("; ") };
        let message = format!("artifact {digest} could not be had: {reasons}");
        (Err(Failure::not_executed(ErrorCode::ArtifactUnavailable, message)), is_cut_off)
    }
}

fn listed(peers: &[NodeId]) -> String {
    let shown: Vec<String> = peers.iter().take(8).map(NodeId::to_string).collect();
    shown.join(", ")
}
