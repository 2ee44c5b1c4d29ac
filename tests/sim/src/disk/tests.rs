//! What a cut, a kill, a failed sync and a full disk leave.

use rand::SeedableRng;

use super::*;

const DIR: &str = "/d";

fn disk(seed: u64) -> SimDisk {
    let disk = SimDisk::new(SmallRng::seed_from_u64(seed));
    disk.create_dir_all(Path::new(DIR)).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    disk
}

fn path() -> PathBuf {
    Path::new(DIR).join("f.log")
}

/// A disk with an empty file whose name is certain.
fn with_file(seed: u64) -> (SimDisk, Arc<dyn VolumeFile>) {
    let disk = disk(seed);
    let file = disk.create(&path()).unwrap();
    disk.sync_dir(Path::new(DIR)).unwrap();
    (disk, file)
}

/// What is left of `synced` and then `late` after a cut.
fn left(seed: u64, lies: bool) -> Vec<u8> {
    let (disk, file) = with_file(seed);
    if lies {
        disk.lie();
    }
    file.write_all_at(&[1; 700], 0).unwrap();
    file.sync().unwrap();
    file.write_all_at(&[2; 700], 700).unwrap();
    disk.cut_power();
    disk.read(&path()).unwrap()
}

#[test]
fn what_was_synced_is_there_after_a_cut_and_the_rest_may_be() {
    let all: Vec<Vec<u8>> = (0..200).map(|seed| left(seed, false)).collect();
    assert!(all.iter().all(|bytes| bytes[..700] == [1; 700]));
    assert!(all.iter().any(|bytes| bytes.len() == 700), "nothing of the rest");
    assert!(all.iter().any(|bytes| bytes.get(700..) == Some(&[2; 700])), "all of it");
    assert!(all.iter().any(|bytes| bytes.len() == 1_400 && bytes[700..].contains(&0)), "a hole in it");
}

#[test]
fn a_sync_that_lies_keeps_nothing_for_certain() {
    assert!((0..50).any(|seed| left(seed, true).is_empty()));
}

#[test]
fn what_failed_to_sync_is_read_until_the_power_is_cut_and_no_later_sync_keeps_it() {
    let left = |seed, is_written_again| {
        let (disk, file) = with_file(seed);
        file.write_all_at(&[1; 100], 0).unwrap();
        disk.fail_syncs(1);
        file.sync().unwrap_err();
        assert_eq!(disk.read(&path()).unwrap(), [1; 100]);
        if is_written_again {
            file.write_all_at(&[1; 100], 0).unwrap();
        }
        file.sync().unwrap();
        disk.cut_power();
        disk.read(&path()).unwrap()
    };
    assert!((0..50).any(|seed| left(seed, false).is_empty()));
    assert!((0..50).all(|seed| left(seed, true) == [1; 100]));
}

#[test]
fn what_a_killed_process_wrote_is_read_by_the_next_and_lost_at_a_cut() {
    let (disk, file) = with_file(1);
    file.write_all_at(&[1; 100], 0).unwrap();
    let (told, was_told) = std::sync::mpsc::channel();
    disk.kill_after(0, move || told.send(()).unwrap());
    file.sync().unwrap_err();
    was_told.try_recv().unwrap();
    disk.read(&path()).unwrap_err();
    disk.begin();
    assert_eq!(disk.read(&path()).unwrap(), [1; 100]);
    let lost = |seed| {
        let (disk, file) = with_file(seed);
        file.write_all_at(&[1; 100], 0).unwrap();
        disk.kill_after(0, || {});
        file.sync().unwrap_err();
        disk.begin();
        disk.cut_power();
        disk.read(&path()).unwrap().is_empty()
    };
    assert!((0..50).any(lost));
}

#[test]
fn a_process_is_killed_before_each_change_in_turn_and_in_the_midst_of_a_write() {
    let lengths: Vec<usize> = (0..50)
        .map(|seed| {
            let (disk, file) = with_file(seed);
            disk.kill_after(1, || {});
            file.set_len(0).unwrap();
            file.write_all_at(&[1; 100], 0).unwrap_err();
            disk.begin();
            disk.read(&path()).unwrap().len()
        })
        .collect();
    assert!(lengths.iter().any(|len| *len > 0 && *len < 100));
}

#[test]
fn a_name_is_certain_once_its_directory_is_synced() {
    let (old, new, dir) = (Path::new("/d/old"), Path::new("/d/new"), Path::new(DIR));
    let found = |seed| {
        let disk = disk(seed);
        disk.create(old).unwrap();
        disk.sync_dir(dir).unwrap();
        disk.rename(old, new).unwrap();
        disk.cut_power();
        disk.list(dir).unwrap()
    };
    let all: Vec<_> = (0..50).map(found).collect();
    assert!(all.iter().all(|names| names.len() == 1));
    assert!(all.iter().any(|names| names == &[old]) && all.iter().any(|names| names == &[new]));
}

#[test]
fn a_directory_is_certain_once_the_one_above_it_is_synced() {
    let is_lost = |seed| {
        let (disk, dir) = (disk(seed), Path::new("/d/e/f"));
        disk.create_dir_all(dir).unwrap();
        disk.create(&dir.join("file")).unwrap();
        disk.sync_dir(dir).unwrap();
        disk.sync_dir(Path::new("/d/e")).unwrap();
        disk.cut_power();
        disk.list(dir).unwrap().is_empty()
    };
    assert!((0..50).any(is_lost));
}

#[test]
fn a_full_disk_takes_what_there_is_room_for_and_more_when_something_is_removed() {
    let (disk, file) = with_file(1);
    disk.fill(Some(10));
    assert_eq!(file.write_all_at(&[1; 16], 0).unwrap_err().kind(), io::ErrorKind::StorageFull);
    assert_eq!(disk.read(&path()).unwrap(), [1; 10]);
    file.write_all_at(&[2; 10], 0).unwrap();
    let other = Path::new("/d/other");
    assert!(disk.create(other).unwrap().write_all_at(&[1], 0).is_err());
    disk.remove(&path()).unwrap();
    disk.open(other).unwrap().write_all_at(&[1; 10], 0).unwrap();
}
