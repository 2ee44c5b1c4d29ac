//! Disks that lose what they had synced, and directories that are put back from old copies.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use bytes::Bytes;
use skein_proto::{ErrorCode, Failure, NodeId};
use skein_raft::Config;
use skein_transport::{Caller, Serve, Service};
use tokio::time::Instant;

use crate::{
    cluster::{Cluster, until},
    ledger::Change,
};

fn curious(config: &mut Config) {
    config.timings.compare_ms = 50;
}

/// What a follower acknowledged is known to its leader as long as that leads: no election comes in between, however busy
/// the machine is.
fn steady(config: &mut Config) {
    (config.timings.election_min_ms, config.timings.election_max_ms) = (1_500, 3_000);
}

/// A copy of a node's directory, to be put back.
struct Copy {
    of: PathBuf,
    files: tempfile::TempDir,
}

impl Copy {
    fn of(dir: &Path) -> Self {
        let files = tempfile::tempdir().unwrap();
        copy(dir, files.path());
        Self { of: dir.to_owned(), files }
    }

    fn put_back(&self) {
        fs::remove_dir_all(&self.of).unwrap();
        copy(self.files.path(), &self.of);
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

impl Cluster {
    /// Has a node lose all that it was sent while `work` was done, and what it acknowledged of it.
    async fn forget(&mut self, node: u64, notes: &[u64]) {
        self.stop(node).await;
        let copy = Copy::of(&self.dir_of(node));
        self.start(node).await.unwrap();
        let writer = self.nodes.keys().find(|id| id.0 != node).unwrap().0;
        for note in notes {
            self.submit(writer, Change::Note(*note)).await.unwrap();
        }
        self.await_notes(node, notes).await;
        self.stop(node).await;
        copy.put_back();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_lost_the_end_of_its_log_is_sent_it_again_and_everybody_is_told() {
    let mut cluster = Cluster::of(3, steady).await;
    let leader = cluster.leader_among(&[1, 2, 3]).await;
    let lost = (1..=3).find(|node| *node != leader).unwrap();
    cluster.forget(lost, &[1, 2, 3]).await;
    cluster.start(lost).await.unwrap();
    cluster.await_notes(lost, &[1, 2, 3]).await;
    until("it knows what it lost", || {
        cluster.status(lost).lost.is_some_and(|lost| lost.is_back && lost.last - lost.first >= 2)
    })
    .await;
    until("its leader says so", || cluster.status(leader).others_lost.contains(&NodeId(lost))).await;
    cluster.submit(lost, Change::Note(4)).await.unwrap();
}

/// A follower whose link takes no entries while `is_shut`, and which counts who asks for its vote.
struct Sieve {
    raft: Arc<dyn Serve>,
    is_shut: AtomicBool,
    asked: AtomicUsize,
}

#[async_trait]
impl Serve for Sieve {
    async fn call(&self, from: Caller, body: Bytes, deadline: Instant) -> Result<Bytes, Failure> {
        let is = |kind: &[u8]| body.windows(kind.len()).take(3).any(|window| window == kind);
        // A heartbeat is an append, too, but a short one.
        if is(b"append") && body.len() > 300 && self.is_shut.load(Ordering::SeqCst) {
            return Err(Failure::not_executed(ErrorCode::Unreachable, "shut"));
        }
        let answer = self.raft.call(from, body.clone(), deadline).await;
        if is(b"pre-vote") {
            self.asked.fetch_add(1, Ordering::SeqCst);
        }
        answer
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_voter_that_lost_what_it_acknowledged_helps_nobody_to_lead_who_lacks_it_too() {
    let mut cluster = Cluster::of(3, steady).await;
    let leader = cluster.leader_among(&[1, 2, 3]).await;
    let others: Vec<u64> = (1..=3).filter(|node| *node != leader).collect();
    let (lost, behind) = (others[0], others[1]);
    cluster.stop(behind).await;
    // Acknowledged by the leader and the one that loses it. Large enough that the sieve tells it from a heartbeat.
    let notes: Vec<u64> = (1..=40).collect();
    cluster.forget(lost, &notes).await;
    cluster.network.cut_off(&[NodeId(lost)].into());
    cluster.start(lost).await.unwrap();
    let (raft, _) = cluster.node(lost).services();
    let sieve = Arc::new(Sieve { raft, is_shut: AtomicBool::new(true), asked: AtomicUsize::new(0) });
    cluster.network.plug(NodeId(lost), Service::Raft, sieve.clone());
    cluster.network.heal();
    let is_incomplete = |cluster: &Cluster| cluster.status(lost).lost.is_some_and(|lost| !lost.is_back);
    until("it is told what it lost", || is_incomplete(&cluster)).await;
    cluster.network.cut_off(&[NodeId(leader)].into());
    cluster.start(behind).await.unwrap();
    let asked = sieve.asked.load(Ordering::SeqCst);
    until("it was asked for its vote again and again", || sieve.asked.load(Ordering::SeqCst) >= asked + 4).await;
    assert!(!cluster.status(behind).is_leader() && !cluster.status(lost).is_leader());
    assert!(is_incomplete(&cluster));
    cluster.network.heal();
    sieve.is_shut.store(false, Ordering::SeqCst);
    for node in [lost, behind] {
        cluster.await_notes(node, &notes).await;
    }
    cluster.submit(lost, Change::Note(99)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_that_applied_different_entries_find_out() {
    let mut cluster = Cluster::of(3, curious).await;
    for node in 1..=3 {
        cluster.submit(node, Change::Note(1)).await.unwrap();
    }
    until("all have compared", || (1..=3).all(|node| cluster.status(node).differs_at.is_none())).await;
    // Node 2 acknowledges with node 1 what it then loses, and with node 3 goes on as if it had never been.
    cluster.stop(3).await;
    cluster.stop(2).await;
    let copy = Copy::of(&cluster.dir_of(2));
    cluster.start(2).await.unwrap();
    for note in 10..20 {
        cluster.submit(2, Change::Note(note)).await.unwrap();
    }
    cluster.stop(2).await;
    cluster.stop(1).await;
    copy.put_back();
    for node in 2..=3 {
        cluster.start(node).await.unwrap();
    }
    for note in 50..90 {
        cluster.submit(2, Change::Note(note)).await.unwrap();
    }
    let leader = cluster.leader_among(&[2, 3]).await;
    cluster.start(1).await.unwrap();
    until("node 1 knows", || cluster.status(1).differs_at.is_some()).await;
    until("its leader knows", || cluster.status(leader).others_differ.contains(&NodeId(1))).await;
    let same = 5 - leader;
    assert_eq!(cluster.status(same).differs_at, None);
}
