//! What comes from other members is read before it is believed, and what is told of a proposal is true.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use async_trait::async_trait;
use bytes::Bytes;
use serde::Serialize;
use skein_proto::{ErrorCode, Failure, NodeId, Progress, codec};
use skein_transport::{Caller, Serve, Service};
use tokio::time::Instant;

use crate::{
    cluster::{Cluster, PATIENCE, until},
    ledger::Change,
    plain,
};

/// The question as it is on the wire.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
enum Ask {
    Propose(Bytes),
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_proposal_never_comes_into_the_log() {
    let cluster = Cluster::of(3, plain).await;
    let leader = cluster.leader_among(&[1, 2, 3]).await;
    let member = (1..=3).find(|node| *node != leader).unwrap();
    let large = codec::encode(&Change::Note(7)).unwrap().to_vec();
    let large = [large, vec![0; 1 << 20]].concat();
    let last = cluster.status(leader).last_log_index;
    for (bytes, says) in [(vec![0xc1], "this is no proposal"), (large, "at most 1048576")] {
        let ask = codec::encode(&Ask::Propose(Bytes::from(bytes))).unwrap();
        let link = cluster.network.link(NodeId(member));
        let refused = link.call(NodeId(leader), Service::Propose, ask, Instant::now() + PATIENCE).await.unwrap_err();
        assert_eq!((refused.code, refused.progress), (ErrorCode::BadRequest, Progress::NotExecuted));
        assert!(refused.message.contains(says), "{refused}");
    }
    assert_eq!(cluster.status(leader).last_log_index, last);
    cluster.submit(member, Change::Note(1)).await.unwrap();
}

/// A leader that dies after it committed the first proposal, and its successor, whose disk is full.
struct Dies {
    leader: Arc<dyn Serve>,
    asked: AtomicUsize,
}

#[async_trait]
impl Serve for Dies {
    async fn call(&self, from: Caller, body: Bytes, deadline: Instant) -> Result<Bytes, Failure> {
        if self.asked.fetch_add(1, Ordering::SeqCst) == 0 {
            self.leader.call(from, body, deadline).await?;
            return Err(Failure::maybe_executed(ErrorCode::PeerLost, "the answer is lost"));
        }
        Err(Failure::not_executed(ErrorCode::DiskFull, "no room"))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_leader_may_have_taken_on_is_never_told_as_not_executed() {
    let cluster = Cluster::of(3, plain).await;
    let leader = cluster.leader_among(&[1, 2, 3]).await;
    let member = (1..=3).find(|node| *node != leader).unwrap();
    let (_, real) = cluster.node(leader).services();
    let dies = Arc::new(Dies { leader: real, asked: AtomicUsize::new(0) });
    cluster.network.plug(NodeId(leader), Service::Propose, dies);
    let told = cluster.node(member).submit(&Change::Note(1), Instant::now() + PATIENCE).await.unwrap_err();
    assert_eq!((told.code, told.progress), (ErrorCode::DiskFull, Progress::MaybeExecuted));
    cluster.await_notes(member, &[1]).await;
    let told = cluster.node(member).submit(&Change::Note(2), Instant::now() + PATIENCE).await.unwrap_err();
    assert_eq!((told.code, told.progress), (ErrorCode::DiskFull, Progress::NotExecuted));
}

/// What a candidate says, as it is on the wire.
#[derive(Serialize)]
struct VoteRequest {
    vote: Vote,
    last_log_id: LogId,
    leadership_transfer: bool,
}

#[derive(Serialize)]
struct Vote {
    leader_id: LeaderId,
    committed: bool,
}

#[derive(Serialize)]
struct LogId {
    leader_id: LeaderId,
    index: u64,
}

#[derive(Serialize)]
struct LeaderId {
    term: u64,
    node_id: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
enum Message {
    Vote(VoteRequest),
}

/// Asks `to` for its vote in the name of `from`, past what holds an honest node back, and with a log that nobody has.
async fn forge(cluster: &Cluster, from: u64, to: u64, term: u64) -> Result<Bytes, Failure> {
    let vote = Vote { leader_id: LeaderId { term, node_id: from }, committed: false };
    let asks =
        codec::encode(&Message::Vote(VoteRequest { vote, last_log_id: None, leadership_transfer: true })).unwrap();
    let link = cluster.network.link(NodeId(from));
    link.call(NodeId(to), Service::Raft, asks, Instant::now() + PATIENCE).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_asks_nobody_for_a_vote() {
    let mut cluster = Cluster::of(3, plain).await;
    cluster.start(4).await.unwrap();
    cluster.submit(1, Change::Join(NodeId(4), false)).await.unwrap();
    let leader = cluster.leader_among(&[1, 2, 3]).await;
    let term = cluster.status(leader).term;
    let refused = forge(&cluster, 4, leader, term + 1).await.unwrap_err();
    assert_eq!((refused.code, refused.progress), (ErrorCode::Untrusted, Progress::NotExecuted));
    assert!(refused.message.contains("node 4 is a worker"), "{refused}");
    assert_eq!(cluster.status(leader).term, term);
    cluster.submit(4, Change::Note(1)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_vote_takes_the_last_term_there_is() {
    let cluster = Cluster::of(3, plain).await;
    let leader = cluster.leader_among(&[1, 2, 3]).await;
    let forger = (1..=3).find(|node| *node != leader).unwrap();
    for node in (1..=3).filter(|node| *node != forger) {
        let refused = forge(&cluster, forger, node, u64::MAX).await.unwrap_err();
        assert_eq!((refused.code, refused.progress), (ErrorCode::Untrusted, Progress::NotExecuted));
        assert!(refused.message.contains("out of reach"), "{refused}");
    }
    cluster.submit(forger, Change::Note(1)).await.unwrap();
    // One that could be is taken, and the group goes on from there.
    let far = cluster.status(leader).term + (1 << 31);
    forge(&cluster, forger, leader, far).await.unwrap();
    until("the group is in a term beyond that one", || cluster.status(forger).term > far).await;
    cluster.submit(forger, Change::Note(2)).await.unwrap();
}
