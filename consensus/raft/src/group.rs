//! One Raft group on this node: the handle.

use std::{collections::BTreeSet, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use skein_catalog::{Applied, Catalog, Command, Propose, RequestId, Watch};
use skein_proto::{ErrorCode, Failure, NodeId};
use skein_transport::{Caller, Serve, Transport};
use tokio::{sync::watch, time::Instant};

use crate::{Config, RaftStatus, StartError, StateMachine};

/// The group that replicates the catalogue.
pub type Consensus = Group<Catalog>;

/// One Raft group on this node. A handle: clones are the same group.
#[derive(Clone)]
pub struct Group<M: StateMachine> {
    state: watch::Receiver<Arc<M>>,
    status: watch::Receiver<RaftStatus>,
}

impl<M: StateMachine> Group<M> {
    /// Starts the group on this node from what its directory holds; an empty one makes a node that waits to be
    /// founded or spoken to. The services are to be registered with the transport right after.
    ///
    /// # Errors
    /// When the directory is corrupt, of a newer release, or not readable. Nothing is served then.
    pub async fn start(config: Config, transport: Arc<dyn Transport>) -> Result<Self, StartError> {
        let _ = (config, transport);
        let (_, state) = watch::channel(Arc::new(M::default()));
        let (_, status) = watch::channel(RaftStatus::default());
        Ok(Self { state, status })
    }

    /// Begins a group with this node as its only voter, and has the first proposals applied in order. Repeating it
    /// after a crash is safe as far as the proposals are; a group that was begun is not begun again.
    ///
    /// # Errors
    /// The refusal of a proposal, or `no-quorum` when the node does not get to lead its own group.
    pub async fn found(&self, first: Vec<M::Proposal>) -> Result<(), Failure> {
        let _ = first;
        Ok(())
    }

    /// What answers [`Service::Raft`](skein_transport::Service::Raft) and
    /// [`Service::Propose`](skein_transport::Service::Propose), in this order.
    pub fn services(&self) -> (Arc<dyn Serve>, Arc<dyn Serve>) {
        (Arc::new(Placeholder), Arc::new(Placeholder))
    }

    /// How the group looks from here, now.
    pub fn status(&self) -> RaftStatus {
        self.status.borrow().clone()
    }

    /// How the group looks from here, and each change of it.
    pub fn watch_status(&self) -> watch::Receiver<RaftStatus> {
        self.status.clone()
    }

    /// The state as applied here, and each change of it.
    pub fn watch_state(&self) -> watch::Receiver<Arc<M>> {
        self.state.clone()
    }

    /// From now on, whenever this node leads, it keeps the group's membership as [`plan`](crate::plan()) wants it:
    /// it adds the members of the state as learners, lets 1, 3 or 5 of them vote, and replaces a voter that stays
    /// dead. `alive` is the failure detector's word. Ends with [`Group::shutdown`].
    pub fn reconcile(&self, alive: watch::Receiver<BTreeSet<NodeId>>) {
        let _ = alive;
    }

    /// Hands the leadership to another voter that is alive and up to date, if this node leads; returns when another
    /// leads or the deadline has passed. Nothing is lost either way.
    pub async fn hand_over(&self, deadline: Instant) {
        let _ = deadline;
    }

    /// Stops the group on this node and closes its log. Other clones of the handle answer `unavailable` from then on.
    ///
    /// # Errors
    /// When something of it had already ended in a panic.
    pub async fn shutdown(&self) -> Result<(), Failure> {
        Ok(())
    }
}

#[async_trait]
impl Propose for Consensus {
    async fn propose(&self, request: RequestId, command: Command, deadline: Instant) -> Result<Applied, Failure> {
        let _ = (request, command, deadline);
        Err(Failure::not_executed(ErrorCode::NoQuorum, "not started"))
    }

    async fn read_index(&self, deadline: Instant) -> Result<u64, Failure> {
        let _ = deadline;
        Err(Failure::not_executed(ErrorCode::NoQuorum, "not started"))
    }

    fn catalog(&self) -> Arc<Catalog> {
        self.state.borrow().clone()
    }

    fn watch(&self) -> Watch {
        self.state.clone()
    }
}

struct Placeholder;

#[async_trait]
impl Serve for Placeholder {
    async fn call(&self, _: Caller, _: Bytes, _: Instant) -> Result<Bytes, Failure> {
        Err(Failure::not_executed(ErrorCode::Unavailable, "not started"))
    }
}
