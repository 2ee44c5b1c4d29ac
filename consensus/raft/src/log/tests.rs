//! The log against a plain vector, over restarts, cuts and flipped bits.

mod crashes;

use std::fs;

use proptest::prelude::*;
use skein_proto::NodeId;
use tempfile::TempDir;

use super::*;
use crate::{
    Limits,
    volume::test_disk::{Faults, TestDisk},
};

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn file_system() -> Arc<dyn Volume> {
    Arc::new(crate::FileSystem)
}

/// A log of node 1 whose segments hold this much.
fn origin(segment_bytes: u64) -> Origin {
    Origin { node: NodeId(1), limits: Limits { segment_bytes, ..Limits::default() }, must_exist: false }
}

fn open(dir: &TempDir) -> Log {
    Log::open(&file_system(), dir.path(), &origin(400)).unwrap()
}

fn entry(index: u64, salt: u8) -> Bytes {
    let len = 20 + (index as usize * 7) % 60;
    let mut bytes = vec![salt; len];
    bytes[..8].copy_from_slice(&index.to_le_bytes());
    Bytes::from(bytes)
}

async fn append(log: &Log, first: u64, entries: Vec<Bytes>) {
    let (tx, rx) = oneshot::channel();
    log.append(first, entries, |result| tx.send(result).unwrap()).await.unwrap();
    rx.await.unwrap().unwrap();
}

async fn all(log: &Log) -> (u64, Vec<Bytes>) {
    log.read(0..u64::MAX).await.unwrap()
}

/// What may happen to a log.
#[derive(Debug, Clone)]
enum Event {
    Append { count: u64, salt: u8 },
    Truncate { back: u64 },
    Purge { ahead: u64 },
    PurgeBeyond { gap: u64 },
    Vote(u8),
    Commit(u8),
    Reopen,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => (1_u64..12, any::<u8>()).prop_map(|(count, salt)| Event::Append { count, salt }),
        2 => (0_u64..15).prop_map(|back| Event::Truncate { back }),
        2 => (0_u64..15).prop_map(|ahead| Event::Purge { ahead }),
        1 => (0_u64..9).prop_map(|gap| Event::PurgeBeyond { gap }),
        1 => any::<u8>().prop_map(Event::Vote),
        1 => any::<u8>().prop_map(Event::Commit),
        3 => Just(Event::Reopen),
    ]
}

/// What the log should hold.
#[derive(Debug, Default, Clone, PartialEq)]
struct Model {
    first: u64,
    entries: Vec<Bytes>,
    vote: Option<Bytes>,
    purged: Option<Bytes>,
}

impl Model {
    fn next(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    async fn of(log: &Log) -> Self {
        let (_, entries) = all(log).await;
        Self { first: log.range().start, entries, vote: log.vote(), purged: log.purged() }
    }

    async fn happen(&mut self, event: &Event, log: &mut Log, dir: &TempDir) {
        match *event {
            Event::Append { count, salt } => {
                let entries: Vec<_> = (self.next()..self.next() + count).map(|index| entry(index, salt)).collect();
                append(log, self.next(), entries.clone()).await;
                self.entries.extend(entries);
            }
            Event::Truncate { back } => {
                let next = self.next().saturating_sub(back).max(self.first);
                log.truncate(next).await.unwrap();
                self.entries.truncate((next - self.first) as usize);
            }
            Event::Purge { ahead } => self.purge((self.first + ahead).min(self.next()), log).await,
            Event::PurgeBeyond { gap } => self.purge(self.next() + gap, log).await,
            Event::Vote(vote) => {
                self.vote = Some(Bytes::from(vec![vote]));
                log.save_vote(Bytes::from(vec![vote])).await.unwrap();
            }
            Event::Commit(id) => log.save_committed(Bytes::from(vec![id])).await.unwrap(),
            Event::Reopen => {
                log.close().await.unwrap();
                *log = open(dir);
            }
        }
    }

    async fn purge(&mut self, first: u64, log: &Log) {
        if first == self.first {
            return;
        }
        let id = Bytes::from(first.to_le_bytes().to_vec());
        log.purge(first, id.clone()).await.unwrap();
        let gone = ((first - self.first) as usize).min(self.entries.len());
        self.entries.drain(..gone);
        (self.first, self.purged) = (first, Some(id));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_log_is_a_vector_that_survives_restarts(events in proptest::collection::vec(event(), 1..40)) {
        runtime().block_on(async {
            let dir = tempfile::tempdir().unwrap();
            let (mut log, mut model) = (open(&dir), Model::default());
            for event in &events {
                model.happen(event, &mut log, &dir).await;
                assert_eq!(Model::of(&log).await, model, "after {event:?}");
                assert_eq!(log.range(), model.first..model.next());
            }
            model.happen(&Event::Reopen, &mut log, &dir).await;
            assert_eq!(Model::of(&log).await, model);
        });
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4))]

    #[test]
    fn a_write_torn_at_any_byte_loses_nothing_that_was_acknowledged(
        batches in proptest::collection::vec((1_u64..4, any::<u8>()), 1..5),
    ) {
        runtime().block_on(async {
            let dir = tempfile::tempdir().unwrap();
            let log = Log::open(&file_system(), dir.path(), &origin(1 << 20)).unwrap();
            let (mut next, mut acknowledged, mut safe) = (0, 0, 0);
            let file = dir.path().join("0000000001.log");
            for (count, salt) in batches {
                (acknowledged, safe) = (next, fs::metadata(&file).unwrap().len());
                append(&log, next, (next..next + count).map(|index| entry(index, salt)).collect()).await;
                next += count;
            }
            // As a crash leaves it: an orderly end notes that all of it is on the disk.
            let hard_state = dir.path().join("hard-state");
            let crashed = fs::read(&hard_state).unwrap();
            log.close().await.unwrap();
            let whole = fs::read(&file).unwrap();
            for cut in safe as usize..whole.len() {
                fs::write(&file, &whole[..cut]).unwrap();
                fs::write(&hard_state, &crashed).unwrap();
                let log = Log::open(&file_system(), dir.path(), &origin(1 << 20)).unwrap();
                assert_eq!(log.range(), 0..acknowledged, "cut at {cut}");
                assert_eq!(fs::metadata(&file).unwrap().len(), safe);
                log.close().await.unwrap();
            }
            let log = Log::open(&file_system(), dir.path(), &origin(1 << 20)).unwrap();
            append(&log, acknowledged, vec![entry(acknowledged, 1)]).await;
            log.close().await.unwrap();
            let log = Log::open(&file_system(), dir.path(), &origin(1 << 20)).unwrap();
            assert_eq!(all(&log).await.1.last(), Some(&entry(acknowledged, 1)));
        });
    }
}

/// A closed log of several segments, of which some were purged.
fn segmented() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        let log = open(&dir);
        for index in 0..60 {
            append(&log, index, vec![entry(index, 3)]).await;
        }
        log.save_committed(Bytes::from_static(b"59")).await.unwrap();
        log.purge(20, Bytes::from_static(b"19")).await.unwrap();
        log.save_vote(Bytes::from_static(b"vote")).await.unwrap();
        log.close().await.unwrap();
    });
    dir
}

fn segments(dir: &TempDir) -> Vec<PathBuf> {
    let files = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = files.filter(|path| path.extension().is_some_and(|it| it == "log")).collect();
    files.sort();
    files
}

fn refusal(dir: &TempDir) -> String {
    match Log::open(&file_system(), dir.path(), &origin(400)) {
        Ok(_) => "opened".to_owned(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_vote_and_the_entries_survive_and_purged_segments_are_gone() {
    let dir = segmented();
    assert!(!segments(&dir)[0].ends_with("0000000001.log"));
    let log = open(&dir);
    assert_eq!((log.range(), log.vote()), (20..60, Some(Bytes::from_static(b"vote"))));
    assert_eq!(log.committed(), Some(Bytes::from_static(b"59")));
}

#[test]
fn a_bit_flipped_in_any_segment_but_the_last_is_refused_by_name() {
    let dir = segmented();
    let files = segments(&dir);
    for file in &files[..files.len() - 1] {
        let sound = fs::read(file).unwrap();
        for byte in (0..sound.len()).step_by(13) {
            let mut bytes = sound.clone();
            bytes[byte] ^= 1;
            fs::write(file, bytes).unwrap();
            let refusal = refusal(&dir);
            let is_named = refusal.contains("corrupt at byte") || refusal.contains("format version");
            assert!(is_named && refusal.contains(&file.display().to_string()), "{byte}: {refusal}");
        }
        fs::write(file, sound).unwrap();
    }
    assert_eq!(refusal(&dir), "opened");
}

#[test]
fn a_missing_segment_is_refused_whichever_it_is() {
    let count = segments(&segmented()).len();
    for missing in 0..count {
        let dir = segmented();
        let file = &segments(&dir)[missing];
        fs::remove_file(file).unwrap();
        let refusal = refusal(&dir);
        assert!(refusal.contains("missing") && refusal.contains(&file.display().to_string()), "{refusal}");
    }
}

#[test]
fn a_missing_hard_state_beside_a_log_is_refused() {
    let dir = segmented();
    fs::remove_file(dir.path().join("hard-state")).unwrap();
    assert!(refusal(&dir).contains("hard-state is corrupt"), "{}", refusal(&dir));
}

#[test]
fn the_log_of_another_node_is_refused() {
    let dir = segmented();
    let refused = Log::open(&file_system(), dir.path(), &Origin { node: NodeId(2), ..origin(400) });
    assert!(matches!(refused, Err(StartError::OtherNode { found: NodeId(1), expected: NodeId(2), .. })));
}

#[test]
fn a_segment_whose_making_never_finished_is_made_again() {
    let dir = segmented();
    let last = segments(&dir).pop().unwrap();
    let number: u64 = last.file_stem().unwrap().to_str().unwrap().parse().unwrap();
    fs::write(dir.path().join(format!("{:010}.log", number + 1)), b"skein").unwrap();
    runtime().block_on(async {
        let log = open(&dir);
        for index in 60..90 {
            append(&log, index, vec![entry(index, 4)]).await;
        }
        log.close().await.unwrap();
        assert_eq!(open(&dir).range(), 20..90);
    });
}

#[test]
fn an_unborn_segment_does_not_make_a_torn_write_look_like_damage() {
    let dir = segmented();
    let last = segments(&dir).pop().unwrap();
    let number: u64 = last.file_stem().unwrap().to_str().unwrap().parse().unwrap();
    let unborn = dir.path().join(format!("{:010}.log", number + 1));
    for begun in [&b""[..], &[0; 32], &[0; 100]] {
        fs::write(&unborn, begun).unwrap();
        let torn = [fs::read(&last).unwrap(), vec![9, 0, 0]].concat();
        fs::write(&last, &torn).unwrap();
        let log = open(&dir);
        assert_eq!(log.range(), 20..60);
        assert!(!unborn.exists(), "it is removed");
        assert_eq!(fs::read(&last).unwrap().len(), torn.len() - 3);
        runtime().block_on(log.close()).unwrap();
    }
}

#[test]
fn a_log_that_lost_what_was_synced_is_refused_and_not_cut_off() {
    let dir = segmented();
    let last = segments(&dir).pop().unwrap();
    let sound = fs::read(&last).unwrap();
    for cut in 0..sound.len() {
        fs::write(&last, &sound[..cut]).unwrap();
        let refusal = refusal(&dir);
        assert!(
            refusal.contains("corrupt at byte") && refusal.contains(&last.display().to_string()),
            "{cut}: {refusal}"
        );
        assert_eq!(fs::read(&last).unwrap(), &sound[..cut], "nothing is changed");
    }
    fs::write(&last, sound).unwrap();
    assert_eq!(refusal(&dir), "opened");
}

#[test]
fn a_purged_segment_that_cannot_be_removed_stops_nothing() {
    let disk = TestDisk::default();
    let volume: Arc<dyn Volume> = Arc::new(disk.clone());
    let runtime = runtime();
    runtime.block_on(async {
        let log = Log::open(&volume, Path::new("/log"), &origin(400)).unwrap();
        for index in 0..40 {
            append(&log, index, vec![entry(index, 3)]).await;
        }
        disk.fail(Faults { cannot_remove: true, ..Faults::default() });
        log.purge(30, Bytes::from_static(b"29")).await.unwrap();
        append(&log, 40, vec![entry(40, 3)]).await;
        log.close().await.unwrap();
        let log = Log::open(&volume, Path::new("/log"), &origin(400)).unwrap();
        assert_eq!((log.range(), log.fault()), (30..41, None));
        log.close().await.unwrap();
        let left = disk.names(Path::new("/log")).len();
        disk.fail(Faults::default());
        assert_eq!(Log::open(&volume, Path::new("/log"), &origin(400)).unwrap().range(), 30..41);
        assert!(disk.names(Path::new("/log")).len() < left, "the next start removes it");
    });
}

#[test]
fn an_entry_that_could_not_be_read_again_is_not_written() {
    let dir = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        let log = open(&dir);
        let refused = log.append(0, vec![Bytes::from(vec![0; ENTRY_BYTES_MAX + 1])], |_| {}).await.unwrap_err();
        assert_eq!((refused.kind(), log.range(), log.fault()), (io::ErrorKind::InvalidInput, 0..0, None));
        append(&log, 0, vec![Bytes::from(vec![0; ENTRY_BYTES_MAX])]).await;
        log.close().await.unwrap();
        assert_eq!(all(&open(&dir)).await.1[0].len(), ENTRY_BYTES_MAX);
    });
}

#[test]
fn many_waiting_appends_share_one_sync() {
    let dir = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        let log = Log::open(&file_system(), dir.path(), &origin(1 << 20)).unwrap();
        let mut waiting = Vec::new();
        for index in 0..500 {
            let (tx, rx) = oneshot::channel();
            log.append(index, vec![entry(index, 0)], |result| tx.send(result).unwrap()).await.unwrap();
            waiting.push(rx);
        }
        assert_eq!(all(&log).await.1.len(), 500, "readable before they are on the disk");
        for done in waiting {
            done.await.unwrap().unwrap();
        }
        log.close().await.unwrap();
        assert_eq!(open(&dir).range(), 0..500);
    });
}

#[test]
fn a_log_longer_than_its_cache_is_read_in_any_range_and_starts_again() {
    let dir = tempfile::tempdir().unwrap();
    let limits = Limits { cache_bytes: 300, segment_bytes: 2_000, frame_bytes: 200, ..Limits::default() };
    let origin = Origin { limits, ..origin(0) };
    runtime().block_on(async {
        let log = Log::open(&file_system(), dir.path(), &origin).unwrap();
        for index in 0..40 {
            append(&log, index, vec![entry(index, 5)]).await;
        }
        log.close().await.unwrap();
        for _ in 0..2 {
            let log = Log::open(&file_system(), dir.path(), &origin).unwrap();
            assert!(!lock(&log.inner.memory).locate(&(0..40)).frames.is_empty());
            for (start, end) in (0..40).flat_map(|start| (start + 1..=40).map(move |end| (start, end))) {
                let expected = (start..end).map(|index| entry(index, 5)).collect();
                assert_eq!(log.read(start..end).await.unwrap(), (start, expected), "{start}..{end}");
            }
            log.close().await.unwrap();
        }
    });
}

#[test]
fn a_node_that_has_begun_does_not_start_without_its_log() {
    let must_exist = Origin { must_exist: true, ..origin(400) };
    let refusal = |dir: &TempDir| Log::open(&file_system(), dir.path(), &must_exist).err().map(|it| it.to_string());
    let gone = tempfile::tempdir().unwrap();
    assert!(refusal(&gone).unwrap().contains("join anew"));
    assert_eq!(fs::read_dir(gone.path()).unwrap().count(), 0, "nothing is made in its place");
    fs::remove_dir(gone.path()).unwrap();
    assert!(refusal(&gone).unwrap().contains("join anew"));
    assert!(!gone.path().exists());
    let dir = segmented();
    assert_eq!(refusal(&dir), None);
}
