//! One Raft group on this node: the handle.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use openraft::{EmptyNode, Instant as _, async_runtime::WatchReceiver, errors::Fatal};
use skein_catalog::Catalog;
use skein_proto::{ErrorCode, Failure, NodeId};
use skein_transport::{Serve, Transport};
use tokio::{
    sync::{Semaphore, watch},
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    Config, Limits, RaftStatus, StartError, StateMachine, Timings,
    acknowledged::Acknowledged,
    compaction::Compactor,
    compare::{Comparer, Prints},
    disk::Disk,
    findings::Findings,
    log::{Log, Origin},
    metrics,
    network::Peers,
    observe::{Observer, Progress},
    propose_service::ProposeService,
    raft_service::RaftService,
    reconcile::{PROPOSALS_MAX, Reconciler},
    replica::{Parts, Replica},
    snapshot::Shelf,
    status::Heard,
    storage::Storage,
    types::{Raft, Snapshot, SnapshotMeta, Types},
    volume::{self, FileSystem, Volume},
};

/// The group that replicates the catalogue.
pub type Consensus = Group<Catalog>;

/// One Raft group on this node. A handle: clones are the same group.
pub struct Group<M: StateMachine> {
    pub(crate) inner: Arc<Inner<M>>,
}

pub(crate) struct Inner<M: StateMachine> {
    pub(crate) node: NodeId,
    pub(crate) raft: Raft<M>,
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) disk: Disk,
    volume: Arc<dyn Volume>,
    pub(crate) timings: Timings,
    pub(crate) limits: Limits,
    pub(crate) state: watch::Receiver<Arc<M>>,
    /// The number of entries applied to `state`.
    pub(crate) applied: watch::Receiver<u64>,
    pub(crate) status: watch::Receiver<RaftStatus>,
    heard: Arc<Heard>,
    log: Log,
    pub(crate) prints: Prints,
    pub(crate) findings: Findings,
    /// One for each proposal under way here while this node leads.
    pub(crate) proposals: Arc<Semaphore>,
    tasks: TaskTracker,
    pub(crate) closing: CancellationToken,
}

impl<M: StateMachine> Inner<M> {
    /// Starts what looks after the group as long as it is open.
    fn watch_over(&self, status: watch::Sender<RaftStatus>, shelf: Shelf) {
        let (raft, log, closing) = (&self.raft, &self.log, &self.closing);
        let mut observer = Observer {
            node: self.node,
            seen: raft.metrics(),
            log: log.clone(),
            disk: self.disk.clone(),
            heard: self.heard.clone(),
            findings: self.findings.clone(),
            timings: self.timings,
            progress: Progress::default(),
            status,
        };
        observer.publish();
        self.tasks.spawn(observer.run(closing.clone()));
        let compactor = Compactor { raft: raft.clone(), log: log.clone(), shelf, limits: self.limits };
        self.tasks.spawn(compactor.run(closing.clone()));
        let comparer = Comparer {
            node: self.node,
            raft: raft.clone(),
            transport: self.transport.clone(),
            prints: self.prints.clone(),
            findings: self.findings.clone(),
            period: self.timings.compare(),
        };
        self.tasks.spawn(comparer.run(closing.clone()));
    }
}

/// How long founding may take: one vote and a few entries, each synced.
const FOUND_PATIENCE: Duration = Duration::from_secs(15);

/// How long one voter is waited for when the leadership is handed over, before another is asked.
const HAND_OVER_PATIENCE: Duration = Duration::from_millis(700);

impl<M: StateMachine> Clone for Group<M> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
    }
}

impl<M: StateMachine> Group<M> {
    /// Starts the group on this node from what its directory holds; an empty one makes a node that waits to be
    /// founded or spoken to. The services are to be registered with the transport right after.
    ///
    /// # Errors
    /// When the directory is corrupt, of a newer release, or not readable. Nothing is served then.
    pub async fn start(config: Config, transport: Arc<dyn Transport>) -> Result<Self, StartError> {
        Self::start_on(Arc::new(FileSystem), config, transport).await
    }

    /// The same on a volume that may be something else than the file system.
    ///
    /// # Errors
    /// As [`Group::start`].
    pub async fn start_on(
        volume: Arc<dyn Volume>,
        config: Config,
        transport: Arc<dyn Transport>,
    ) -> Result<Self, StartError> {
        metrics::describe();
        let openraft = Arc::new(config.to_openraft()?);
        let disk = Disk::new(volume.clone(), config.dir.clone(), config.limits.disk_reserve_bytes);
        let (opening, place, room) = (config.clone(), volume.clone(), disk.clone());
        let opened = volume::run(&*volume, move || open::<M>(&place, &opening, room)).await;
        let (log, shelf, restored) = opened.map_err(|error| StartError::Raft(error.to_string()))??;
        let (published, state) = watch::channel(Arc::new(M::default()));
        let (applied_tx, applied) = watch::channel(0);
        let closing = CancellationToken::new();
        let (prints, findings) = (Prints::default(), Findings::default());
        let replica = Replica::new(Parts {
            shelf: shelf.clone(),
            restored,
            disk: disk.clone(),
            prints: prints.clone(),
            published,
            applied: applied_tx,
            closing: closing.clone(),
        });
        let peers =
            Peers { transport: transport.clone(), acknowledged: Acknowledged::default(), findings: findings.clone() };
        let raft = Raft::<M>::new(
            config.node.0,
            openraft,
            peers,
            Storage { log: log.clone(), message_bytes: config.limits.message_bytes },
            replica,
        )
        .await;
        let raft = raft.map_err(|error| StartError::Raft(error.to_string()))?;
        let (tasks, heard) = (TaskTracker::new(), Arc::new(Heard::new()));
        let (status_tx, status) = watch::channel(RaftStatus { node: config.node, ..RaftStatus::default() });
        let (node, timings, limits) = (config.node, config.timings, config.limits);
        let proposals = Arc::new(Semaphore::new(PROPOSALS_MAX as usize));
        let inner = Inner {
            node,
            raft,
            transport,
            disk,
            volume,
            timings,
            limits,
            state,
            applied,
            status,
            heard,
            log,
            prints,
            findings,
            proposals,
            tasks,
            closing,
        };
        inner.watch_over(status_tx, shelf);
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Begins a group with this node as its only voter, and has the first proposals applied in order. Repeating it
    /// after a crash is safe as far as the proposals are; a group that was begun is not begun again.
    ///
    /// # Errors
    /// The refusal of a proposal, or `no-quorum` when the node does not get to lead its own group.
    pub async fn found(&self, first: Vec<M::Proposal>) -> Result<(), Failure> {
        let deadline = Instant::now() + FOUND_PATIENCE;
        let raft = &self.inner.raft;
        if !raft.is_initialized().await.map_err(|error| self.stopped(&error))? {
            let members = [(self.inner.node.0, EmptyNode {})];
            let begun = raft.initialize(std::collections::BTreeMap::from(members)).await;
            begun.map_err(|error| Failure::not_executed(ErrorCode::Conflict, error.to_string()))?;
        }
        for proposal in &first {
            let (_, outcome) = self.submit(proposal, deadline).await?;
            if let Some(refusal) = M::refusal(&outcome) {
                return Err(refusal);
            }
        }
        Ok(())
    }

    /// What answers [`Service::Raft`](skein_transport::Service::Raft) and
    /// [`Service::Propose`](skein_transport::Service::Propose), in this order.
    pub fn services(&self) -> (Arc<dyn Serve>, Arc<dyn Serve>) {
        let inner = &*self.inner;
        (
            Arc::new(RaftService {
                raft: inner.raft.clone(),
                disk: inner.disk.clone(),
                volume: inner.volume.clone(),
                heard: inner.heard.clone(),
                findings: inner.findings.clone(),
                storage: Storage { log: inner.log.clone(), message_bytes: inner.limits.message_bytes },
                entry_bytes_max: inner.limits.entry_bytes_max,
                incoming: Default::default(),
            }),
            Arc::new(ProposeService { group: self.clone() }),
        )
    }

    /// How the group looks from here, now.
    pub fn status(&self) -> RaftStatus {
        self.inner.status.borrow().clone()
    }

    /// How the group looks from here, and each change of it.
    pub fn watch_status(&self) -> watch::Receiver<RaftStatus> {
        self.inner.status.clone()
    }

    /// The state as applied here, now.
    pub fn state(&self) -> Arc<M> {
        self.inner.state.borrow().clone()
    }

    /// The state as applied here, and each change of it.
    pub fn watch_state(&self) -> watch::Receiver<Arc<M>> {
        self.inner.state.clone()
    }

    /// From now on, whenever this node leads, it keeps the group's membership as [`plan`](crate::plan()) wants it:
    /// it adds the members of the state as learners, lets 1, 3 or 5 of them vote, and replaces a voter that stays
    /// dead. `alive` is the failure detector's word. Ends with [`Group::shutdown`].
    pub fn reconcile(&self, alive: watch::Receiver<BTreeSet<NodeId>>) {
        let Inner { node, raft, timings, state, proposals, closing, tasks, .. } = &*self.inner;
        let place = (*node, *timings);
        let reconciler = Reconciler::new(place, raft.clone(), state.clone(), alive, proposals.clone());
        tasks.spawn(reconciler.run(closing.clone()));
    }

    /// Hands the leadership to another voter that is alive and up to date, if this node leads; returns when another
    /// leads or the deadline has passed. Nothing is lost either way.
    pub async fn hand_over(&self, deadline: Instant) {
        let mut metrics = self.inner.raft.metrics();
        let heirs = {
            let seen = metrics.borrow_watched();
            heirs(&seen, self.inner.node, self.inner.timings.lease())
        };
        for heir in heirs {
            tracing::info!(%heir, "hands over the leadership");
            let _ = self.inner.raft.trigger().transfer_leader(heir.0).await;
            let until = deadline.min(Instant::now() + HAND_OVER_PATIENCE);
            loop {
                let leader = metrics.borrow_watched().current_leader;
                if leader.is_some_and(|leader| leader != self.inner.node.0) || Instant::now() >= deadline {
                    return;
                }
                match tokio::time::timeout_at(until, metrics.changed()).await {
                    Ok(Ok(())) => {}
                    // Raft has ended here: nobody tells any more who leads.
                    Ok(Err(_)) => return,
                    Err(_) => break,
                }
            }
        }
    }

    /// Stops the group on this node and closes its log. Other clones of the handle answer `unavailable` from then on.
    ///
    /// # Errors
    /// When something of it had already ended in a panic.
    pub async fn shutdown(&self) -> Result<(), Failure> {
        self.inner.closing.cancel();
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
        let internal = |what: String| Failure::executed(ErrorCode::Internal, what);
        self.inner.log.begin_close();
        self.inner.raft.shutdown().await.map_err(|error| internal(format!("raft ended badly: {error}")))?;
        self.inner.log.close().await.map_err(|error| internal(format!("the log ended badly: {error}")))
    }

    /// The failure of a group that stopped on this node.
    pub(crate) fn stopped(&self, error: &Fatal<Types>) -> Failure {
        let fault = self.inner.status.borrow().fault.clone();
        fault.unwrap_or_else(|| {
            Failure::maybe_executed(ErrorCode::Unavailable, format!("raft stopped on this node: {error}"))
        })
    }
}

/// Opens what is on the disk and checks that its parts fit. Returns the state in the newest snapshot, too.
#[expect(clippy::type_complexity, reason = "the parts of a group, taken apart where they are made")]
fn open<M: StateMachine>(
    volume: &Arc<dyn Volume>,
    config: &Config,
    disk: Disk,
) -> Result<(Log, Shelf, Option<(M, SnapshotMeta)>), StartError> {
    let dir = config.dir.join("snapshots");
    // Snapshots without a log: the log was lost, and with it the vote.
    let is_used = Shelf::is_used(&**volume, &dir).map_err(StartError::io("list", &dir))?;
    let must_exist = config.must_exist || is_used;
    let log =
        Log::open(volume, &config.dir.join("log"), &Origin { node: config.node, limits: config.limits, must_exist })?;
    let (shelf, newest) = Shelf::open(volume.clone(), dir.clone(), disk)?;
    volume::settle_dir(&**volume, &config.dir).map_err(StartError::io("sync", &config.dir))?;
    let covered = newest.as_ref().and_then(|snapshot| snapshot.meta.last_log_id).map_or(0, |last| last.index + 1);
    if covered < log.range().start {
        let what = format!("the log begins with entry {}, but the snapshot ends before {covered}", log.range().start);
        return Err(StartError::corrupt(dir, 0, what));
    }
    let restored = newest.map(|Snapshot { meta, snapshot }| Ok((M::restore(&snapshot)?, meta))).transpose();
    Ok((log, shelf, restored.map_err(|what: String| StartError::corrupt(dir, 0, what))?))
}

/// The voters that may lead next, the one with the most of the log first.
fn heirs(seen: &openraft::RaftMetrics<Types>, node: NodeId, lease: Duration) -> Vec<NodeId> {
    let (Some(matched), Some(heartbeats)) = (&seen.replication, &seen.heartbeat) else {
        return Vec::new();
    };
    let is_alive = |id: &u64| heartbeats.get(id).is_some_and(|acked| acked.is_some_and(|at| at.elapsed() <= lease));
    let voters = seen.membership_config.voter_ids().filter(|id| *id != node.0 && is_alive(id));
    let mut heirs: Vec<_> = voters.map(|id| (matched.get(&id).copied().flatten().map(|log| log.index), id)).collect();
    heirs.sort_unstable();
    heirs.into_iter().rev().map(|(_, id)| NodeId(id)).collect()
}
