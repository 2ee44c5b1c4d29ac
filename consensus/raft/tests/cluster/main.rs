//! Groups of several nodes in one process, over a network whose links can be cut.

#![allow(clippy::unwrap_used, reason = "all of this is a test, its helpers too")]

mod catalog;
mod cluster;
mod doors;
mod ledger;
mod losses;
mod network;
mod removal;

use std::{collections::BTreeSet, time::Duration};

use skein_proto::{ErrorCode, NodeId, Progress};
use skein_raft::{Config, Group, StartError};
use tokio::time::Instant;

use crate::{
    cluster::{Cluster, until},
    ledger::{Change, Ledger},
};

fn plain(_: &mut Config) {}

fn hasty(config: &mut Config) {
    config.timings.replace_ms = 300;
}

fn forgetful(config: &mut Config) {
    let limits = &mut config.limits;
    (limits.snapshot_entries, limits.kept_entries, limits.segment_bytes) = (40, 5, 2_000);
    (limits.cache_bytes, limits.frame_bytes, limits.message_bytes) = (500, 300, 400);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_grows_from_one_to_three_to_five_voters_by_itself() {
    let mut cluster = Cluster::found(plain).await;
    assert_eq!(cluster.status(1).voters, BTreeSet::from([NodeId(1)]));
    cluster.join(2).await;
    until("2 follows", || cluster.status(1).learners.contains(&NodeId(2))).await;
    cluster.join(3).await;
    cluster.await_voters(&[1, 2, 3]).await;
    cluster.join(4).await;
    until("4 follows", || cluster.status(1).learners.contains(&NodeId(4))).await;
    assert_eq!(cluster.status(1).voters.len(), 3);
    cluster.join(5).await;
    cluster.await_voters(&[1, 2, 3, 4, 5]).await;
    cluster.join(6).await;
    cluster.submit(6, Change::Note(1)).await.unwrap();
    for node in 1..=6 {
        cluster.await_notes(node, &[1]).await;
    }
    assert_eq!(cluster.status(1).voters.len(), 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_leader_is_followed_by_another_and_catches_up_when_it_returns() {
    let mut cluster = Cluster::of(3, plain).await;
    cluster.submit(3, Change::Note(1)).await.unwrap();
    let dead = cluster.leader_among(&[1, 2, 3]).await;
    let others: Vec<u64> = (1..=3).filter(|node| *node != dead).collect();
    cluster.stop(dead).await;
    let started = Instant::now();
    cluster.submit(others[0], Change::Note(2)).await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    cluster.submit(others[1], Change::Note(3)).await.unwrap();
    cluster.start(dead).await.unwrap();
    cluster.await_notes(dead, &[1, 2, 3]).await;
    cluster.submit(dead, Change::Note(4)).await.unwrap();
    cluster.await_voters(&[1, 2, 3]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_is_there_after_all_nodes_restart() {
    let mut cluster = Cluster::of(3, forgetful).await;
    let notes: Vec<u64> = (0..120).collect();
    for note in &notes {
        cluster.submit(1 + note % 3, Change::Note(*note)).await.unwrap();
    }
    for node in 1..=3 {
        cluster.stop(node).await;
    }
    for node in 1..=3 {
        cluster.start(node).await.unwrap();
    }
    for node in 1..=3 {
        cluster.await_notes(node, &notes).await;
    }
    cluster.submit(2, Change::Note(999)).await.unwrap();
    until("there is a snapshot", || cluster.status(1).snapshot_index > 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_restarts_alone_serves_what_it_knew_to_be_committed() {
    let mut cluster = Cluster::of(3, plain).await;
    for note in 0..10 {
        cluster.submit(1, Change::Note(note)).await.unwrap();
    }
    cluster.await_notes(3, &(0..10).collect::<Vec<_>>()).await;
    for node in 1..=3 {
        cluster.stop(node).await;
    }
    cluster.start(3).await.unwrap();
    let notes = &cluster.node(3).state().notes;
    assert!(notes.len() >= 9, "at most the last hint of a commit may be missing: {notes:?}");
    assert!(!cluster.status(3).is_quorum_alive);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_minority_refuses_in_time_and_the_majority_goes_on() {
    let cluster = Cluster::of(3, plain).await;
    let leader = cluster.leader_among(&[1, 2, 3]).await;
    let others: Vec<u64> = (1..=3).filter(|node| *node != leader).collect();
    cluster.network.cut_off(&BTreeSet::from([NodeId(leader)]));
    let started = Instant::now();
    let deadline = started + Duration::from_millis(1_900);
    let (refused, unread) = tokio::join!(
        cluster.node(leader).submit(&Change::Note(666), deadline),
        cluster.node(leader).await_read_index(deadline),
    );
    let refused = refused.unwrap_err();
    assert_eq!((refused.code, refused.progress), (ErrorCode::NoQuorum, Progress::MaybeExecuted));
    assert_eq!(unread.unwrap_err().code, ErrorCode::NoQuorum);
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    until("it knows", || !cluster.status(leader).is_quorum_alive).await;
    let started = Instant::now();
    let deadline = started + Duration::from_millis(500);
    let refused = cluster.node(leader).submit(&Change::Note(667), deadline).await.unwrap_err();
    assert_eq!((refused.code, refused.progress), (ErrorCode::NoQuorum, Progress::NotExecuted));
    cluster.submit(others[0], Change::Note(1)).await.unwrap();
    cluster.network.heal();
    cluster.await_notes(leader, &[1]).await;
    cluster.submit(leader, Change::Note(2)).await.unwrap();
    cluster.await_notes(others[1], &[1, 2]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blank_node_gets_the_snapshot() {
    let mut cluster = Cluster::of(3, forgetful).await;
    let notes: Vec<u64> = (0..150).collect();
    for note in &notes {
        cluster.submit(1, Change::Note(*note)).await.unwrap();
    }
    until("the log is purged", || cluster.status(1).snapshot_index > 100).await;
    cluster.join(4).await;
    cluster.await_notes(4, &notes).await;
    until("it has the snapshot", || cluster.status(4).snapshot_index > 0).await;
    cluster.stop(4).await;
    cluster.start(4).await.unwrap();
    cluster.await_notes(4, &notes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_voter_that_stays_dead_is_replaced_only_when_there_is_a_spare() {
    let mut cluster = Cluster::of(3, hasty).await;
    cluster.stop(3).await;
    let lost_since = Instant::now();
    until("the grace is over", || lost_since.elapsed() > Duration::from_secs(1)).await;
    cluster.await_voters(&[1, 2, 3]).await;
    cluster.join(4).await;
    cluster.await_voters(&[1, 2, 4]).await;
    cluster.start(3).await.unwrap();
    cluster.submit(3, Change::Note(1)).await.unwrap();
    cluster.await_voters(&[1, 2, 4]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_member_leaves_even_when_it_leads() {
    let mut cluster = Cluster::of(4, plain).await;
    let leader = cluster.leader_among(&[1, 2, 3]).await;
    cluster.submit(4, Change::Leave(NodeId(leader))).await.unwrap();
    let others: Vec<u64> = (1..=4).filter(|node| *node != leader).collect();
    let heir = cluster.leader_among(&others).await;
    let gone = NodeId(leader);
    until("it is gone", || {
        let status = cluster.status(heir);
        !status.voters.contains(&gone) && !status.learners.contains(&gone) && status.voters.len() == 3
    })
    .await;
    cluster.submit(heir, Change::Note(1)).await.unwrap();
    cluster.stop(leader).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leadership_is_handed_over_within_the_deadline() {
    let cluster = Cluster::of(3, plain).await;
    let leader = cluster.leader_among(&[1, 2, 3]).await;
    let started = Instant::now();
    cluster.node(leader).hand_over(started + Duration::from_secs(5)).await;
    let others: Vec<u64> = (1..=3).filter(|node| *node != leader).collect();
    cluster.leader_among(&others).await;
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    cluster.submit(leader, Change::Note(1)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_has_ended_hands_nothing_over() {
    let cluster = Cluster::of(3, plain).await;
    let leader = cluster.leader_among(&[1, 2, 3]).await;
    cluster.node(leader).shutdown().await.unwrap();
    let far = Instant::now() + cluster::PATIENCE * 10;
    let handed = tokio::time::timeout(cluster::PATIENCE, cluster.node(leader).hand_over(far));
    assert!(handed.await.is_ok(), "it waits to be told who leads next, by nobody");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_index_on_any_node_covers_what_was_acknowledged_on_another() {
    let cluster = Cluster::of(3, plain).await;
    for note in 0..20 {
        let index = cluster.submit(1 + note % 3, Change::Note(note)).await.unwrap();
        let reader = cluster.node(1 + (note + 1) % 3);
        let read = reader.await_read_index(Instant::now() + cluster::PATIENCE).await.unwrap();
        assert!(read >= index);
        assert!(reader.state().notes.contains(&note));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_returns_knows_all_that_was_acknowledged_once_a_leader_has_told_it_how_far_that_is() {
    let mut cluster = Cluster::of(3, plain).await;
    cluster.stop(3).await;
    cluster.submit(1, Change::Note(1)).await.unwrap();
    for node in 1..=2 {
        cluster.stop(node).await;
    }
    cluster.start(3).await.unwrap();
    let alone = cluster.node(3).await_read_index(Instant::now() + cluster::PATIENCE).await.unwrap_err();
    assert_eq!((alone.code, alone.progress), (ErrorCode::NoQuorum, Progress::NotExecuted));
    for node in 1..=2 {
        cluster.start(node).await.unwrap();
    }
    let deadline = Instant::now() + cluster::PATIENCE;
    // Until there is a leader, nobody can say.
    while let Err(failure) = cluster.node(3).await_read_index(deadline).await {
        assert!(failure.code == ErrorCode::NoQuorum && Instant::now() < deadline, "{failure}");
    }
    assert_eq!(cluster.node(3).state().notes, [1]);
}

/// By this a node tells whether others know more than it does, or whether nobody can know.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_lacks_what_a_leader_has_is_told_apart_from_one_that_nobody_answers() {
    let mut cluster = Cluster::of(3, plain).await;
    cluster.stop(3).await;
    cluster.submit(1, Change::Note(1)).await.unwrap();
    cluster.start_full(3).await;
    until("3 has heard of a leader", || cluster.status(3).leader.is_some()).await;
    let soon = || Instant::now() + Duration::from_secs(2);
    let deadline = Instant::now() + cluster::PATIENCE;
    let lacking = loop {
        let failure = cluster.node(3).await_read_index(soon()).await.unwrap_err();
        // Between two leaders nobody answers.
        if failure.code != ErrorCode::NoQuorum || Instant::now() >= deadline {
            break failure;
        }
    };
    assert_eq!((lacking.code, lacking.progress), (ErrorCode::Unavailable, Progress::Executed), "{lacking}");
    // Now none of the disks takes even the entry with which a leader begins: nobody can say what was committed.
    for node in 1..=3 {
        cluster.stop(node).await;
    }
    for node in 1..=3 {
        cluster.start_full(node).await;
    }
    cluster.leader_among(&[1, 2, 3]).await;
    for node in 1..=3 {
        let unknown = cluster.node(node).await_read_index(soon()).await.unwrap_err();
        assert_eq!((unknown.code, unknown.progress), (ErrorCode::NoQuorum, Progress::NotExecuted), "{unknown}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_changes_nothing_and_a_repeated_proposal_is_applied_once() {
    let cluster = Cluster::found(plain).await;
    let refused = cluster.node(1).found(vec![Change::Refuse]).await.unwrap_err();
    assert_eq!((refused.code, refused.progress), (ErrorCode::Conflict, Progress::NotExecuted));
    for _ in 0..3 {
        cluster.submit(1, Change::Note(5)).await.unwrap();
    }
    assert_eq!(cluster.node(1).state().notes, [5]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_proposals_says_so_and_loses_nothing() {
    let mut cluster = Cluster::found(plain).await;
    cluster.submit(1, Change::Note(1)).await.unwrap();
    cluster.stop(1).await;
    let mut config = cluster.config(1);
    config.limits.disk_reserve_bytes = u64::MAX;
    let full = Group::<Ledger>::start(config, cluster.network.link(NodeId(1))).await.unwrap();
    until("it leads", || full.status().is_leader()).await;
    assert!(full.status().is_disk_full);
    let refused = full.submit(&Change::Note(2), Instant::now() + cluster::PATIENCE).await.unwrap_err();
    assert_eq!((refused.code, refused.progress), (ErrorCode::DiskFull, Progress::NotExecuted));
    let again = full.submit(&Change::Note(1), Instant::now() + cluster::PATIENCE).await.unwrap();
    assert_eq!(again.1, ledger::Noted::Done, "what was done before is told, room or none");
    full.shutdown().await.unwrap();
    cluster.start(1).await.unwrap();
    cluster.submit(1, Change::Note(3)).await.unwrap();
    assert_eq!(cluster.node(1).state().notes, [1, 3]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_log_or_snapshot_is_named_and_not_served() {
    let mut cluster = Cluster::found(forgetful).await;
    for note in 0..100 {
        cluster.submit(1, Change::Note(note)).await.unwrap();
    }
    until("there is a snapshot", || cluster.status(1).snapshot_index > 0).await;
    cluster.stop(1).await;
    for (dir, extension) in [("log", "log"), ("snapshots", "snapshot")] {
        let files = std::fs::read_dir(cluster.dir_of(1).join(dir)).unwrap().map(|entry| entry.unwrap().path());
        let victim = files.filter(|path| path.extension().is_some_and(|it| it == extension)).min().unwrap();
        let sound = std::fs::read(&victim).unwrap();
        let mut bytes = sound.clone();
        bytes[100] ^= 0x10;
        std::fs::write(&victim, bytes).unwrap();
        let refused = cluster.start(1).await.unwrap_err();
        assert!(matches!(&refused, StartError::Corrupt { file, .. } if *file == victim), "{refused}");
        assert_eq!(refused.code(), ErrorCode::CorruptStore);
        std::fs::write(&victim, sound).unwrap();
    }
    cluster.start(1).await.unwrap();
    cluster.await_notes(1, &(0..100).collect::<Vec<_>>()).await;
}

/// A log that is bounded by its bytes only.
fn frugal(config: &mut Config) {
    let limits = &mut config.limits;
    (limits.snapshot_bytes, limits.kept_bytes, limits.segment_bytes) = (4_000, 1_000, 1_000);
    limits.cache_bytes = 500;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_is_bounded_by_bytes_however_few_its_entries_are() {
    let mut cluster = Cluster::found(frugal).await;
    let notes: Vec<u64> = (0..300).collect();
    for note in &notes {
        cluster.submit(1, Change::Note(*note)).await.unwrap();
    }
    let log = cluster.dir_of(1).join("log");
    let bytes = || {
        let files = std::fs::read_dir(&log).unwrap().filter_map(|entry| entry.ok()?.metadata().ok());
        files.map(|file| file.len()).sum::<u64>()
    };
    // What is kept, what a start replays, a segment at either end, and the hard state.
    until("the log is purged", || bytes() < 8_000).await;
    assert!(cluster.status(1).snapshot_index > 200);
    cluster.stop(1).await;
    cluster.start(1).await.unwrap();
    cluster.await_notes(1, &notes).await;
    cluster.join(2).await;
    cluster.await_notes(2, &notes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_log_is_gone_does_not_start_as_a_blank_one() {
    let mut cluster = Cluster::found(forgetful).await;
    for note in 0..100 {
        cluster.submit(1, Change::Note(note)).await.unwrap();
    }
    until("there is a snapshot", || cluster.status(1).snapshot_index > 0).await;
    cluster.stop(1).await;
    std::fs::remove_dir_all(cluster.dir_of(1).join("log")).unwrap();
    let refused = cluster.start(1).await.unwrap_err();
    assert!(matches!(refused, StartError::Gone { .. }), "a snapshot is left: {refused}");
    std::fs::remove_dir_all(cluster.dir_of(1)).unwrap();
    let mut config = cluster.config(1);
    config.must_exist = true;
    let refused = Group::<Ledger>::start(config, cluster.network.link(NodeId(1))).await.err().unwrap();
    assert!(matches!(refused, StartError::Gone { .. }), "its owner remembers: {refused}");
    assert_eq!(refused.code(), ErrorCode::CorruptStore);
    assert!(!cluster.dir_of(1).exists(), "nothing is made in its place");
}
