//! Spreading an artifact: pushing it until enough peers have it durably.

use std::collections::HashSet;

use bytes::Bytes;
use skein_proto::{Digest, ErrorCode, Failure, NodeId};
use tokio::{
    task::JoinSet,
    time::{Instant, timeout_at},
};
use tracing::warn;

use crate::{
    Artifacts,
    exchange::{self, ExchangeError, Patience},
    metrics,
    wire::WHICH_MAX,
};

impl Artifacts {
    /// Pushes the artifact to candidates, in their order, until `copies` of them have it durably; returns those (this
    /// node is never among them), fewer than `copies` when no more candidates answer or the deadline passed.
    ///
    /// # Errors
    /// `artifact-unavailable` when this node does not have it.
    pub async fn replicate(
        &self,
        digest: Digest,
        candidates: &[NodeId],
        copies: usize,
        deadline: Instant,
    ) -> Result<Vec<NodeId>, Failure> {
        let Some(bytes) = self.get(digest).await? else {
            let message = format!("artifact {digest} is not here, so it cannot be replicated");
            return Err(Failure::not_executed(ErrorCode::ArtifactUnavailable, message));
        };
        let mut seen = HashSet::from([self.transport.local()]);
        let mut waiting = candidates.iter().copied().filter(|peer| seen.insert(*peer)).collect::<Vec<_>>().into_iter();
        let mut pushes = JoinSet::new();
        let mut holders = HashSet::new();
        loop {
            // As many at a time as copies are missing: a failure brings in the next candidate.
            while holders.len() + pushes.len() < copies
                && let Some(peer) = waiting.next()
            {
                let patience = Patience::share(deadline, 1 + waiting.len().min(1));
                pushes.spawn(self.clone().push_to(peer, digest, bytes.clone(), patience));
            }
            match timeout_at(deadline, pushes.join_next()).await {
                Ok(Some(Ok((peer, Ok(()))))) => drop(holders.insert(peer)),
                Ok(Some(Ok((peer, Err(error))))) => warn!(%digest, %peer, %error, "a peer did not take an artifact"),
                Ok(Some(Err(error))) => warn!(%digest, %error, "a push of an artifact broke off"),
                // Dropping the set ends the pushes that are still under way.
                Ok(None) | Err(_) => break,
            }
        }
        Ok(candidates.iter().copied().filter(|peer| holders.remove(peer)).collect())
    }

    async fn push_to(
        self,
        peer: NodeId,
        digest: Digest,
        bytes: Bytes,
        patience: Patience,
    ) -> (NodeId, Result<(), ExchangeError>) {
        let result = exchange::push(&*self.transport, peer, (digest, &bytes), patience).await;
        if result.is_ok() {
            ::metrics::counter!(metrics::SENT_BYTES).increment(bytes.len() as u64);
        }
        (peer, result)
    }

    /// Which of these artifacts `peer` says that it has, a truth value for each; of this node, what its disk says. Says
    /// nothing of their soundness. Asked in pieces, so that no call is large.
    ///
    /// # Errors
    /// When the peer does not answer by the deadline.
    pub async fn which_at(&self, peer: NodeId, digests: &[Digest], deadline: Instant) -> Result<Vec<bool>, Failure> {
        let mut has = Vec::with_capacity(digests.len());
        for piece in digests.chunks(WHICH_MAX) {
            has.extend(match peer == self.transport.local() {
                true => self.which(piece.to_vec()).await?,
                false => exchange::ask_which(&*self.transport, peer, piece, deadline).await?,
            });
        }
        Ok(has)
    }

    /// Whether `peer` says that it has the artifact. Says nothing of its soundness.
    ///
    /// # Errors
    /// When the peer does not answer.
    pub async fn has_at(&self, peer: NodeId, digest: Digest, deadline: Instant) -> Result<bool, Failure> {
        exchange::ask(&*self.transport, peer, digest, deadline).await
    }
}
