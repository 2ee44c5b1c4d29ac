//! Private files answer as the machine's do: random work is done on both, and every answer compared.

use std::path::Path;

use proptest::prelude::*;

use super::{NodeId, Tree};
use crate::wasi::{
    Errno,
    directory::{OpenHow, Opened},
    disk::DiskDirectory,
    stat::{FileType, Stat},
};

/// Something done by path. Paths meet each other on purpose.
#[derive(Debug, Clone)]
enum Step {
    Open(&'static str, u8),
    Create(&'static str),
    Remove(&'static str),
    Unlink(&'static str),
    Symlink(&'static str, &'static str),
    Link(&'static str, bool, &'static str),
    Rename(&'static str, &'static str),
    ReadLink(&'static str),
    Stat(&'static str, bool),
}

// No slashes and single dots at the end: after a link the libraries that follow paths do not agree what they mean.
const PATHS: &[&str] = &[
    "a",
    "b",
    "c",
    "a/b",
    "a/b/c",
    "b/a",
    "a/..",
    ".",
    "..",
    "../a",
    "a/../b",
    "./c",
    "a//b",
    "a/b/../..",
    "a/../..",
    "a/../../b",
    "c/a",
    "b/../c/a",
];
const TARGETS: &[&str] = &["a", "b", "a/b", "..", "../a", "../..", ".", "c", "b/a", "../b", "x"];

fn step() -> impl Strategy<Value = Step> {
    let path = || proptest::sample::select(PATHS);
    prop_oneof![
        4 => (path(), 0..64_u8).prop_map(|(path, how)| Step::Open(path, how)),
        4 => path().prop_map(Step::Create),
        1 => path().prop_map(Step::Remove),
        1 => path().prop_map(Step::Unlink),
        3 => (proptest::sample::select(TARGETS), path()).prop_map(|(target, path)| Step::Symlink(target, path)),
        2 => (path(), any::<bool>(), path()).prop_map(|(old, follow, new)| Step::Link(old, follow, new)),
        2 => (path(), path()).prop_map(|(old, new)| Step::Rename(old, new)),
        1 => path().prop_map(Step::ReadLink),
        2 => (path(), any::<bool>()).prop_map(|(path, follow)| Step::Stat(path, follow)),
    ]
}

fn how(bits: u8) -> OpenHow {
    let has = |bit: u8| bits & 1 << bit != 0;
    let directory = has(1) && !has(0);
    OpenHow {
        follow: has(2),
        create: has(0),
        directory,
        exclusive: has(0) && has(3),
        truncate: has(4) && !directory,
        read: true,
        write: has(5),
    }
}

/// What can be compared: not the times, the numbers, or the sizes of directories.
fn known(stat: Result<Stat, Errno>) -> Result<String, Errno> {
    stat.map(|stat| match stat.kind {
        FileType::Directory => "directory".to_owned(),
        kind => format!("{kind:?} of {} bytes, {} names", stat.size, stat.links),
    })
}

/// What the private files answer.
fn on_tree(tree: &mut Tree, step: &Step) -> Result<String, Errno> {
    const ROOT: NodeId = Tree::ROOT;
    let done = |result: Result<(), Errno>| result.map(|()| String::new());
    match *step {
        Step::Open(path, bits) => tree.open(ROOT, path, &how(bits)).map(|opened| match opened {
            Opened::Directory(_) => "directory".to_owned(),
            Opened::File(node) => {
                if how(bits).write {
                    tree.write(node, 0, path.as_bytes()).expect("room for it");
                }
                "file".to_owned()
            }
        }),
        Step::Create(path) => done(tree.create_directory(ROOT, path)),
        Step::Remove(path) => done(tree.remove_directory(ROOT, path)),
        Step::Unlink(path) => done(tree.unlink(ROOT, path)),
        Step::Symlink(target, path) => done(tree.symlink(target, ROOT, path)),
        Step::Link(old, follow, new) => done(tree.link((ROOT, old), follow, (ROOT, new))),
        Step::Rename(old, new) => done(tree.rename((ROOT, old), (ROOT, new))),
        Step::ReadLink(path) => tree.read_link(ROOT, path),
        Step::Stat(path, follow) => known(tree.stat_path(ROOT, path, follow)),
    }
}

/// What the machine answers.
fn on_disk(disk: &DiskDirectory, step: &Step) -> Result<String, Errno> {
    let done = |result: Result<(), Errno>| result.map(|()| String::new());
    match *step {
        Step::Open(path, bits) => disk.open(path, &how(bits)).map(|opened| match opened {
            Opened::Directory(_) => "directory".to_owned(),
            Opened::File(file) => {
                if how(bits).write {
                    file.write(0, path.as_bytes()).expect("room for it");
                }
                "file".to_owned()
            }
        }),
        Step::Create(path) => done(disk.create_directory(path)),
        Step::Remove(path) => done(disk.remove_directory(path)),
        Step::Unlink(path) => done(disk.unlink(path)),
        Step::Symlink(target, path) => done(disk.symlink(target, path)),
        Step::Link(old, follow, new) => done(disk.link(old, follow, (disk, new))),
        Step::Rename(old, new) => done(disk.rename(old, (disk, new))),
        Step::ReadLink(path) => disk.read_link(path),
        Step::Stat(path, follow) => known(disk.stat(path, follow)),
    }
}

/// Everything there is, as lines.
fn listing(tree: &Tree, directory: NodeId, path: &str, lines: &mut Vec<String>) {
    let mut children = Vec::new();
    tree.entries(directory, 0, &mut |entry| {
        children.push(String::from_utf8(entry.name.to_vec()).expect("a name"));
        true
    })
    .expect("a directory");
    for name in children {
        let below = format!("{path}{name}");
        lines.push(format!("{below}: {:?}", known(tree.stat_path(directory, &name, false))));
        let child = tree.locate(directory, &name, false).expect("an entry").node.expect("an entry");
        if tree.stat(child).expect("a node").kind == FileType::Directory {
            listing(tree, child, &format!("{below}/"), lines);
        }
    }
    lines.sort();
}

fn listing_on_disk(disk: &DiskDirectory, dir: &Path, path: &str, lines: &mut Vec<String>) {
    for entry in std::fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry")) {
        let below = format!("{path}{}", entry.file_name().to_str().expect("a name"));
        lines.push(format!("{below}: {:?}", known(disk.stat(&below, false))));
        if entry.file_type().expect("a type").is_dir() {
            listing_on_disk(disk, &entry.path(), &format!("{below}/"), lines);
        }
    }
    lines.sort();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn private_files_answer_as_those_of_the_machine_do(steps in proptest::collection::vec(step(), 1..24)) {
        let outer = tempfile::tempdir().expect("a directory");
        // One level further in, so that a step that escaped would be seen.
        let dir = outer.path().join("inner");
        std::fs::create_dir(&dir).expect("a directory");
        let disk = DiskDirectory::open_ambient(&dir, false).expect("a directory");
        let mut tree = Tree::default();
        tree.reset(1 << 20);
        tree.touch();
        for (index, step) in steps.iter().enumerate() {
            let (ours, theirs) = (on_tree(&mut tree, step), on_disk(&disk, step));
            prop_assert_eq!(ours.is_ok(), theirs.is_ok(), "step {} of {:?}: {:?} {:?}", index, steps, ours, theirs);
            if ours != theirs {
                // Where a path is wrong in two ways, each may be said.
                prop_assert!(ours.is_err(), "step {} of {:?}: {:?} {:?}", index, steps, ours, theirs);
            }
        }
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        listing(&tree, Tree::ROOT, "", &mut ours);
        listing_on_disk(&disk, &dir, "", &mut theirs);
        prop_assert_eq!(ours, theirs);
        prop_assert_eq!(std::fs::read_dir(outer.path()).expect("a directory").count(), 1);
    }
}

#[test]
fn nothing_is_left_of_a_budget_that_was_given_back() {
    let mut tree = Tree::default();
    tree.reset(64 << 10);
    tree.touch();
    let how = how(0b10_0001);
    for round in 0..3 {
        for index in 0..16 {
            let Ok(Opened::File(node)) = tree.open(Tree::ROOT, &format!("f{index}"), &how) else { panic!("no file") };
            assert_eq!(tree.write(node, 0, &[7; 4096]), Ok(4096), "round {round}, file {index}");
        }
        let Ok(Opened::File(node)) = tree.open(Tree::ROOT, "more", &how) else { panic!("no file") };
        assert_eq!(tree.write(node, 0, &[7]), Err(Errno::NOSPC));
        tree.unlink(Tree::ROOT, "more").expect("it is there");
        // A file that is open keeps its room until it is closed.
        tree.retain(node_of(&tree, "f0"));
        let kept = node_of(&tree, "f0");
        for index in 0..16 {
            tree.unlink(Tree::ROOT, &format!("f{index}")).expect("it is there");
        }
        assert_eq!(tree.budget.used, 1);
        tree.release(kept);
        assert_eq!((tree.budget.used, tree.entries), (0, 0));
    }
    assert!(tree.nodes.len() < 32, "numbers are used again");
}

#[test]
fn names_are_bounded_too() {
    let mut tree = Tree::default();
    tree.reset(4096);
    tree.touch();
    let made = (0..100).take_while(|index| tree.create_directory(Tree::ROOT, &format!("d{index}")).is_ok()).count();
    assert_eq!(made, 20);
    assert_eq!(tree.create_directory(Tree::ROOT, "more"), Err(Errno::NOSPC));
    assert_eq!(tree.link((Tree::ROOT, "d0"), false, (Tree::ROOT, "more")), Err(Errno::NOSPC));
}

fn node_of(tree: &Tree, name: &str) -> NodeId {
    tree.locate(Tree::ROOT, name, false).expect("a path").node.expect("a file")
}
