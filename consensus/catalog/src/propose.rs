//! The seam between whoever changes or reads the catalogue and whatever replicates it.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use skein_proto::Failure;
use tokio::{sync::watch, time::Instant};

use crate::{Catalog, Command, Outcome, RequestId};

/// A view that changes: the catalogue as applied on this node.
pub type Watch = watch::Receiver<Arc<Catalog>>;

/// A command that is committed and applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// The log index at which it was applied.
    pub index: u64,
    /// What became of it. Never [`Outcome::Refused`]: [`Propose::propose`] makes that a [`Failure`].
    pub outcome: Outcome,
}

/// One command in, one outcome out, and a watch on the applied catalogue. Only the assembly knows what stands behind.
#[async_trait]
pub trait Propose: Send + Sync {
    /// Has a command committed, wherever the leader is, and applied on this node.
    ///
    /// Acknowledged means fsynced on a majority of the voters. Cancel-safe in that nothing breaks; the command may be
    /// applied all the same. Repeating with the same `request` is safe: it is applied once.
    ///
    /// # Errors
    /// `no-quorum` when no majority answered by the deadline (`maybe-executed` if the command was handed to a leader);
    /// the refusal's own code, `not-executed`, when the catalogue refused it.
    async fn propose(&self, request: RequestId, command: Command, deadline: Instant) -> Result<Applied, Failure>;

    /// Waits until what was committed anywhere before this call is applied here, and says up to which index: a
    /// linearizable read (Raft, section 6.4) is this and then [`Propose::catalog`].
    ///
    /// # Errors
    /// `no-quorum` when that cannot be known by the deadline; `unavailable`, `executed`, when it is known, and not all of
    /// it is applied here by then.
    async fn read_index(&self, deadline: Instant) -> Result<u64, Failure>;

    /// The catalogue as applied here, now.
    fn catalog(&self) -> Arc<Catalog>;

    /// The catalogue as applied here, and each change of it.
    fn watch(&self) -> Watch;
}

/// How long a proposal waits for a quorum unless its caller says otherwise: a new leader is there in about a second,
/// and a minority must refuse within two.
pub const PROPOSE_DEADLINE: Duration = Duration::from_millis(1_900);
