//! Members are taken off while others are, or while others die.

use skein_proto::NodeId;
use tokio::time::Instant;

use crate::{
    cluster::{Cluster, PATIENCE, until},
    ledger::Change,
    plain,
};

impl Cluster {
    /// Ends a removed node as the program does: when its own state says that it votes no more.
    async fn end(&mut self, node: u64) {
        until(&format!("{node} knows that it may end"), || {
            let state = self.node(node).state();
            !state.members.contains_key(&NodeId(node)) && !state.voters.contains(&NodeId(node))
        })
        .await;
        self.stop(node).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn voters_that_are_removed_at_once_vote_until_the_group_goes_on_without_them() {
    let mut cluster = Cluster::of(3, plain).await;
    let leader = cluster.leader_among(&[1, 2, 3]).await;
    let others: Vec<u64> = (1..=3).filter(|node| *node != leader).collect();
    let leave = |node: u64| cluster.submit(leader, Change::Leave(NodeId(node)));
    let (one, two) = tokio::join!(leave(others[0]), leave(others[1]));
    one.unwrap();
    two.unwrap();
    for node in others {
        cluster.end(node).await;
    }
    cluster.submit(leader, Change::Note(1)).await.unwrap();
    cluster.await_voters(&[leader]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_voter_makes_up_for_one_that_dies_meanwhile() {
    let mut cluster = Cluster::of(3, plain).await;
    let leader = cluster.leader_among(&[1, 2, 3]).await;
    let others: Vec<u64> = (1..=3).filter(|node| *node != leader).collect();
    let removed = cluster.submit(leader, Change::Leave(NodeId(others[0]))).await;
    removed.unwrap();
    cluster.stop(leader).await;
    cluster.submit(others[1], Change::Note(1)).await.unwrap();
    cluster.end(others[0]).await;
    cluster.start(leader).await.unwrap();
    cluster.submit(others[1], Change::Note(2)).await.unwrap();
    cluster.await_notes(leader, &[1, 2]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_only_voter_hands_over_to_the_node_that_is_left() {
    let mut cluster = Cluster::found(plain).await;
    cluster.join(2).await;
    cluster.submit(2, Change::Note(1)).await.unwrap();
    cluster.submit(2, Change::Leave(NodeId(1))).await.unwrap();
    cluster.end(1).await;
    cluster.submit(2, Change::Note(2)).await.unwrap();
    cluster.await_voters(&[2]).await;
    cluster.await_notes(2, &[1, 2]).await;
}

/// A removal that comes between a look at the members and the entry that gives them a vote.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_gets_a_vote_who_was_removed_before() {
    let mut cluster = Cluster::found(plain).await;
    for node in 2..=3 {
        cluster.join(node).await;
    }
    let until = Instant::now() + PATIENCE / 5;
    let mut rounds = 0;
    while Instant::now() < until {
        for node in 2..=3 {
            cluster.submit(1, Change::Leave(NodeId(node))).await.unwrap();
            cluster.submit(1, Change::Join(NodeId(node), true)).await.unwrap();
        }
        rounds += 1;
    }
    let strays = &cluster.node(1).state().strays;
    assert!(strays.is_empty(), "{strays:?} after {rounds} rounds");
    cluster.await_voters(&[1, 2, 3]).await;
}
