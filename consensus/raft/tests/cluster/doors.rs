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
    cluster::{Cluster, PATIENCE},
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
