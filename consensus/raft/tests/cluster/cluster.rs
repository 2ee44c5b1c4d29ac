//! Several groups in one process, each with a directory of its own.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::Duration,
};

use skein_proto::{Failure, NodeId};
use skein_raft::{Config, Group, RaftStatus, StartError};
use skein_transport::Service;
use tempfile::TempDir;
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

use crate::{
    ledger::{Change, Ledger, Noted},
    network::Network,
};

pub(crate) struct Cluster {
    pub(crate) network: Network,
    pub(crate) nodes: BTreeMap<NodeId, Group<Ledger>>,
    alive: watch::Sender<BTreeSet<NodeId>>,
    dir: TempDir,
    tune: fn(&mut Config),
}

/// Longest wait for what must come: generous, since tests of other crates may use the machine too.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

impl Cluster {
    /// A group of one, founded by node 1.
    pub(crate) async fn found(tune: fn(&mut Config)) -> Self {
        let (alive, _) = watch::channel(BTreeSet::new());
        let dir = tempfile::tempdir().unwrap();
        let mut cluster = Self { network: Network::default(), nodes: BTreeMap::new(), alive, dir, tune };
        cluster.start(1).await.unwrap();
        cluster.node(1).found(vec![Change::Join(NodeId(1), true)]).await.unwrap();
        cluster
    }

    /// A group of this many members, all that can vote doing so.
    pub(crate) async fn of(size: u64, tune: fn(&mut Config)) -> Self {
        let mut cluster = Self::found(tune).await;
        for node in 2..=size {
            cluster.join(node).await;
        }
        let voters = (1..=if size >= 5 {
            5
        } else if size >= 3 {
            3
        } else {
            1
        })
            .collect::<Vec<_>>();
        cluster.await_voters(&voters).await;
        cluster
    }

    pub(crate) fn config(&self, node: u64) -> Config {
        let mut config = Config::new(self.dir_of(node), NodeId(node));
        (self.tune)(&mut config);
        config
    }

    pub(crate) fn dir_of(&self, node: u64) -> PathBuf {
        self.dir.path().join(node.to_string())
    }

    pub(crate) async fn start(&mut self, node: u64) -> Result<(), StartError> {
        self.start_as(self.config(node), node).await
    }

    /// The same on a disk that takes no new entries.
    pub(crate) async fn start_full(&mut self, node: u64) {
        let mut config = self.config(node);
        config.limits.disk_reserve_bytes = u64::MAX;
        self.start_as(config, node).await.unwrap();
    }

    async fn start_as(&mut self, config: Config, node: u64) -> Result<(), StartError> {
        let id = NodeId(node);
        let group = Group::<Ledger>::start(config, self.network.link(id)).await?;
        let (raft, propose) = group.services();
        self.network.plug(id, Service::Raft, raft);
        self.network.plug(id, Service::Propose, propose);
        group.reconcile(self.alive.subscribe());
        self.nodes.insert(id, group);
        self.alive.send_if_modified(|alive| alive.insert(id));
        Ok(())
    }

    /// Takes a node off the network first, so that nobody hears it stop.
    pub(crate) async fn stop(&mut self, node: u64) {
        let id = NodeId(node);
        self.network.unplug(id);
        self.alive.send_if_modified(|alive| alive.remove(&id));
        self.nodes.remove(&id).unwrap().shutdown().await.unwrap();
    }

    pub(crate) async fn join(&mut self, node: u64) {
        self.start(node).await.unwrap();
        self.submit(1, Change::Join(NodeId(node), true)).await.unwrap();
    }

    pub(crate) fn node(&self, node: u64) -> &Group<Ledger> {
        &self.nodes[&NodeId(node)]
    }

    pub(crate) fn status(&self, node: u64) -> RaftStatus {
        self.node(node).status()
    }

    pub(crate) async fn submit(&self, node: u64, change: Change) -> Result<u64, Failure> {
        let (index, noted) = self.node(node).submit(&change, Instant::now() + PATIENCE).await?;
        assert_eq!(noted, Noted::Done);
        Ok(index)
    }

    /// The leader that a node of these sees, once one of them leads.
    pub(crate) async fn leader_among(&self, nodes: &[u64]) -> u64 {
        let mut leader = None;
        until(&format!("one of {nodes:?} leads"), || {
            leader = nodes.iter().copied().find(|node| {
                let status = self.status(*node);
                status.is_leader() && status.is_quorum_alive
            });
            leader.is_some()
        })
        .await;
        leader.unwrap()
    }

    pub(crate) async fn await_voters(&self, voters: &[u64]) {
        let expected: BTreeSet<_> = voters.iter().map(|node| NodeId(*node)).collect();
        let is_so = |status: RaftStatus| status.voters == expected && !status.is_changing;
        until(&format!("{voters:?} vote"), || self.nodes.values().all(|group| is_so(group.status()))).await;
    }

    pub(crate) async fn await_notes(&self, node: u64, notes: &[u64]) {
        until(&format!("node {node} has {} notes", notes.len()), || self.node(node).state().notes == notes).await;
    }
}

/// Waits until a condition holds.
pub(crate) async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        sleep(Duration::from_millis(10)).await;
    }
}
