//! Snapshots of a replica on a disk that is full or damages them.

use std::{path::Path, time::Duration};

use skein_catalog::Catalog;
use tokio::time::timeout;

use super::*;
use crate::volume::{
    Volume,
    test_disk::{Faults, TestDisk},
};

const DIR: &str = "/snapshots";

fn meta(index: u64) -> SnapshotMeta {
    let leader = openraft::impls::leader_id_adv::LeaderId { term: 1, node_id: 1 };
    SnapshotMeta { last_log_id: Some(LogId::new(leader, index)), ..SnapshotMeta::default() }
}

fn state(index: u64) -> Catalog {
    let mut state = Catalog::default();
    state.advance(index);
    state
}

/// A replica that has applied what lies before this index.
fn replica(disk: &TestDisk, index: u64) -> Replica<Catalog> {
    let volume: Arc<dyn Volume> = Arc::new(disk.clone());
    let room = Disk::new(volume.clone(), DIR.into(), 100);
    let (shelf, _) = Shelf::open(volume, DIR.into(), room.clone()).unwrap();
    Replica::new(Parts {
        shelf,
        restored: Some((state(index), meta(index))),
        disk: room,
        prints: Prints::default(),
        published: watch::channel(Arc::default()).0,
        applied: watch::channel(0).0,
        closing: CancellationToken::new(),
    })
}

fn index(snapshot: &Snapshot) -> Option<u64> {
    snapshot.meta.last_log_id.map(|last| last.index)
}

#[tokio::test]
async fn a_damaged_snapshot_of_a_running_node_is_written_anew_from_memory() {
    let disk = TestDisk::default();
    let mut old = replica(&disk, 5);
    old.get_snapshot_builder().await.build_snapshot().await.unwrap();
    let mut replica = replica(&disk, 9);
    disk.damage(&disk.names(Path::new(DIR))[0], |bytes| bytes[40] ^= 1);
    let served = replica.get_current_snapshot().await.unwrap().unwrap();
    assert_eq!((index(&served), Catalog::from_snapshot(&served.snapshot).unwrap().index()), (Some(9), 9));
    let stored = replica.shelf.get().unwrap().unwrap();
    assert_eq!((index(&stored), stored.snapshot), (Some(9), served.snapshot));
}

#[tokio::test]
async fn a_snapshot_that_cannot_be_read_for_want_of_descriptors_is_served_from_memory() {
    let disk = TestDisk::default();
    let mut replica = replica(&disk, 5);
    replica.get_snapshot_builder().await.build_snapshot().await.unwrap();
    disk.fail(Faults { has_no_descriptors: true, ..Faults::default() });
    assert_eq!(index(&replica.get_current_snapshot().await.unwrap().unwrap()), Some(5));
}

#[tokio::test]
async fn a_snapshot_that_cannot_be_written_is_none_for_now_and_taken_later() {
    let disk = TestDisk::default();
    let mut replica = replica(&disk, 5);
    let faults = [
        Faults { room: Some(150), ..Faults::default() },
        Faults { good_syncs: Some(0), ..Faults::default() },
        Faults { has_no_descriptors: true, ..Faults::default() },
    ];
    for fault in faults {
        disk.fail(fault);
        let nothing = replica.get_snapshot_builder().await.build_snapshot().await.unwrap();
        assert_eq!((nothing.meta, nothing.snapshot), (SnapshotMeta::default(), Bytes::new()));
        assert!(disk.names(Path::new(DIR)).is_empty());
    }
    disk.fail(Faults::default());
    let taken = replica.get_snapshot_builder().await.build_snapshot().await.unwrap();
    assert_eq!(index(&taken), Some(5));
    // From now on the size is known, and no state is written out for nothing.
    let room = Some(usize::try_from(replica.shelf.bytes()).unwrap() + 99);
    disk.fail(Faults { room, ..Faults::default() });
    assert!(replica.try_create_snapshot_builder(false).await.is_none());
    disk.fail(Faults { room: room.map(|room| room + 1), ..Faults::default() });
    assert!(replica.try_create_snapshot_builder(false).await.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_from_the_leader_waits_for_room_and_ends_with_the_group() {
    let disk = TestDisk::default();
    let mut replica = replica(&disk, 5);
    disk.fail(Faults { room: Some(100), ..Faults::default() });
    let snapshot = StateMachine::snapshot(&state(9)).unwrap();
    let meta = meta(9);
    let early = timeout(Duration::from_secs(5), replica.install_snapshot(&meta, snapshot.clone()));
    assert!(early.await.is_err());
    assert_eq!(replica.state.index(), 5);
    disk.fail(Faults::default());
    replica.install_snapshot(&meta, snapshot.clone()).await.unwrap();
    assert_eq!((replica.state.index(), index(&replica.shelf.get().unwrap().unwrap())), (9, Some(9)));
    disk.fail(Faults { room: Some(100), ..Faults::default() });
    replica.closing.cancel();
    let later = SnapshotMeta { last_log_id: meta.last_log_id.map(|last| LogId::new(last.leader_id, 12)), ..meta };
    let refused = replica.install_snapshot(&later, snapshot).await.unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::StorageFull);
}

#[test]
fn an_entry_that_is_no_proposal_is_passed_over_alike_everywhere_and_one_of_a_newer_release_is_not() {
    let (mut one, mut two) = (replica(&TestDisk::default(), 5), replica(&TestDisk::default(), 5));
    let entry = |index: u64, bytes: &[u8]| crate::types::Entry {
        log_id: meta(index).last_log_id.unwrap(),
        payload: EntryPayload::Normal(Payload(Bytes::copy_from_slice(bytes))),
    };
    for replica in [&mut one, &mut two] {
        assert_eq!(replica.apply_entry(entry(6, b"\xc1")).unwrap(), Payload::default());
        assert_eq!(replica.state.index(), 6);
    }
    assert_eq!(one.state, two.state);
    let newer = b"\x83\xa7request\xc4\x10................\xa5at_ms\x01\xa7command\xa5Paint";
    let refused = one.apply_entry(entry(7, newer)).unwrap_err().to_string();
    assert!(refused.contains("a newer release wrote entry 7"), "{refused}");
    assert_eq!(one.state.index(), 6);
}
