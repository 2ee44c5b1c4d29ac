//! A guest that tries to reach what it was not given, in every way its functions allow.
//!
//! Each probe runs against a directory of the machine and against a private one: the answers are the same, and what is
//! outside of the directory is as it was.

use std::{fs, os::unix::fs::symlink, path::Path};

use skein_engine::{Call, Preopen};

use crate::{
    probe::{
        ALL,
        Arg::{Int, Letters, Long, Text},
        CREATE_FILE, DIR, FILE, FREE, OPEN, OUT, READ, READDIR, Step, TELL, WRITE, create, directory,
        errno::*,
        expect, hard_link, link, module, move_byte, narrow, on_fd, on_path, open, read, rename, renumber, stat,
    },
    support::{Bench, LONG, call},
};

/// What it is called, and what it does.
type Probe = (&'static str, Vec<Step>);

fn paths_that_lead_out() -> Vec<Probe> {
    vec![
        ("the parent", vec![read("..", EPERM)]),
        ("beside the directory", vec![read("../outside/secret", EPERM)]),
        ("out by a detour", vec![directory("a"), read("a/../../outside/secret", EPERM)]),
        ("out and in again", vec![directory("a"), read("../inside/a", EPERM)]),
        ("far out", vec![read("../../../../../../../../etc/passwd", EPERM)]),
        ("out past what is not there", vec![read("nothing/../../outside/secret", ENOENT)]),
        ("out with slashes", vec![read(".//..//outside", EPERM), read("..///", EPERM)]),
        ("an absolute path", vec![read("/etc/passwd", EPERM), read("//etc/passwd", EPERM), read("/", EPERM)]),
        ("no path", vec![read("", ENOENT)]),
        ("a path with a NUL", vec![read("a\0/../../outside", EINVAL), create("a\0b", EINVAL)]),
        ("a path that is no text", vec![Step("path_create_directory", vec![Int(DIR), Int(8), Int(2)], EILSEQ)]),
        ("a name too long", vec![Step("path_create_directory", vec![Int(DIR), Letters(256)], ENAMETOOLONG)]),
        ("a path too long", vec![Step("path_create_directory", vec![Int(DIR), Letters(4097)], ENAMETOOLONG)]),
        ("a path beyond memory", vec![Step("path_unlink_file", vec![Int(DIR), Int(65_000), Int(60_000)], 21)]),
        ("a path around the end of memory", vec![Step("path_unlink_file", vec![Int(DIR), Int(u32::MAX), Int(8)], 21)]),
        ("creating outside", vec![create("../new", EPERM), create("../outside/new", EPERM)]),
        ("a directory outside", vec![on_path("path_create_directory", "../new", EPERM)]),
        ("a link outside", vec![link("a", "../new", EPERM)]),
        ("removing outside", vec![on_path("path_unlink_file", "../outside/secret", EPERM)]),
        ("removing a directory outside", vec![on_path("path_remove_directory", "../outside/empty", EPERM)]),
        ("looking outside", vec![stat("../outside/secret", EPERM), stat("..", EPERM)]),
        ("renaming outwards", vec![create("f", 0), rename("f", "../f", EPERM), rename("f", "/tmp/f", EPERM)]),
        ("renaming inwards", vec![rename("../outside/secret", "mine", EPERM)]),
        ("linking outwards", vec![create("f", 0), hard_link("f", 0, "../f", EPERM)]),
        ("linking inwards", vec![hard_link("../outside/secret", 0, "mine", EPERM)]),
        ("linking inwards, following", vec![hard_link("../outside/secret", 1, "mine", EPERM)]),
        (
            "times outside",
            vec![Step(
                "path_filestat_set_times",
                vec![Int(DIR), Int(1), Text("../outside/secret"), Long(0), Long(0), Int(5)],
                EPERM,
            )],
        ),
        ("a file as a directory", vec![create("f", 0), read("f/..", ENOTDIR), read("f/", ENOTDIR)]),
    ]
}

fn links_that_lead_out() -> Vec<Probe> {
    vec![
        ("an absolute link", vec![link("/etc/passwd", "l", EPERM), read("l", ENOENT)]),
        ("a link to the parent", vec![link("..", "l", 0), read("l", EPERM), read("l/outside/secret", EPERM)]),
        ("a link beside", vec![link("../outside/secret", "l", 0), read("l", EPERM), stat("l", EPERM)]),
        ("a chain of links", vec![link("m", "l", 0), link("n", "m", 0), link("../outside", "n", 0), read("l", EPERM)]),
        ("links in a circle", vec![link("m", "l", 0), link("l", "m", 0), read("l", ELOOP)]),
        ("a link to itself", vec![link("l/x", "l", 0), read("l", ELOOP)]),
        ("a link that is not followed", vec![link("../outside", "l", 0), open(DIR, 0, "l", 0, (READ, 0), ELOOP)]),
        (
            "through a link that is not followed",
            vec![link("..", "l", 0), open(DIR, 0, "l/outside", 0, (READ, 0), EPERM)],
        ),
        ("a link with a slash", vec![link("../outside", "l", 0), open(DIR, 0, "l/", 0, (READ, 0), EPERM)]),
        ("creating through a dangling link", vec![link("../new", "l", 0), create("l", EPERM)]),
        ("cutting through a link", vec![link("../outside/secret", "l", 0), open(DIR, 1, "l", 8, (WRITE, 0), EPERM)]),
        ("a directory through a link", vec![link("..", "l", 0), on_path("path_create_directory", "l/new", EPERM)]),
        ("removing through a link", vec![link("../outside", "l", 0), on_path("path_unlink_file", "l/secret", EPERM)]),
        ("renaming through a link", vec![link("../outside", "l", 0), rename("l/secret", "mine", EPERM)]),
        ("renaming into a link", vec![create("f", 0), link("../outside", "l", 0), rename("f", "l/f", EPERM)]),
        ("linking through a link", vec![link("../outside/secret", "l", 0), hard_link("l", 1, "mine", EPERM)]),
        (
            "a second name of a link",
            vec![link("../outside/secret", "l", 0), hard_link("l", 0, "mine", 0), read("mine", EPERM)],
        ),
        (
            "a link that leads out once it is moved",
            vec![
                directory("a"),
                link("../f", "a/l", 0),
                create("f", 0),
                read("a/l", 0),
                rename("a/l", "l", 0),
                read("l", EPERM),
            ],
        ),
        (
            "a directory that is moved while open",
            vec![
                directory("a"),
                directory("a/b"),
                open(DIR, 0, "a/b", 2, (ALL, ALL), 0),
                rename("a/b", "b", 0),
                open(FREE, 1, "..", 0, (READ, 0), EPERM),
                open(FREE, 1, "../..", 0, (READ, 0), EPERM),
            ],
        ),
        (
            "a link that takes the place of a directory",
            vec![
                directory("a"),
                open(DIR, 0, "a", 2, (ALL, ALL), 0),
                on_path("path_remove_directory", "a", 0),
                link("../outside", "a", 0),
                open(FREE, 1, "secret", 0, (READ, 0), ENOENT),
                open(FREE, 1, "new", 1, (FILE, 0), ENOENT),
                read("a/secret", EPERM),
            ],
        ),
        ("what others left there", vec![read("left", EPERM), read("left-absolute", EPERM)]),
        (
            "where a link of others leads",
            vec![Step("path_readlink", vec![Int(DIR), Text("left-absolute"), Int(64), Int(64), OUT], EPERM)],
        ),
    ]
}

fn descriptors_that_were_not_given() -> Vec<Probe> {
    let guesses = [FREE, 5, 63, 64, 1023, 1024, 1 << 16, 1 << 31, u32::MAX];
    let guess = |function| guesses.iter().map(|fd| on_fd(function, *fd, EBADF)).collect::<Vec<_>>();
    vec![
        ("closing by guess", guess("fd_close")),
        ("syncing by guess", guess("fd_sync")),
        ("reading by guess", guesses.iter().map(|fd| move_byte("fd_read", *fd, EBADF)).collect()),
        (
            "renumbering by guess",
            guesses.iter().flat_map(|fd| [renumber(*fd, 3, EBADF), renumber(3, *fd, EBADF)]).collect(),
        ),
        ("a closed directory", vec![on_fd("fd_close", DIR, 0), read("f", EBADF), on_fd("fd_close", DIR, EBADF)]),
        (
            "a directory under a stream's number",
            vec![
                renumber(DIR, 1, 0),
                open(1, 0, "..", 0, (READ, 0), EPERM),
                read("f", EBADF),
                open(1, 0, "f", 1, (FILE, 0), 0),
            ],
        ),
        (
            "a stream as a directory",
            vec![renumber(0, DIR, 0), read("f", ENOTDIR), on_path("path_unlink_file", "f", ENOTDIR)],
        ),
        ("a file as a directory to start from", vec![create("f", 0), open(FREE, 0, "..", 0, (READ, 0), ENOTDIR)]),
        ("a directory as a file", vec![move_byte("fd_read", DIR, EISDIR), move_byte("fd_write", DIR, EISDIR)]),
        ("a socket that is none", vec![Step("sock_shutdown", vec![Int(DIR), Int(0)], ENOTSOCK)]),
        ("a position in a stream", vec![Step("fd_seek", vec![Int(0), Long(0), Int(0), OUT], ESPIPE)]),
    ]
}

fn rights_that_grow() -> Vec<Probe> {
    let create_with = |base, inheriting, errno| open(DIR, 0, "f", 1, (base, inheriting), errno);
    vec![
        ("rights given back", vec![narrow(DIR, OPEN, FILE, 0), narrow(DIR, OPEN | READDIR, FILE, ENOTCAPABLE)]),
        ("inheriting given back", vec![narrow(DIR, OPEN, READ, 0), narrow(DIR, OPEN, READ | WRITE, ENOTCAPABLE)]),
        ("rights that there are not", vec![narrow(DIR, 1 << 30, 0, EINVAL), narrow(DIR, 1 << 63, 0, EINVAL)]),
        ("sockets' rights", vec![narrow(DIR, 1 << 28, 0, ENOTCAPABLE), read("f", ENOENT)]),
        (
            "creating without the right",
            vec![narrow(DIR, OPEN, ALL, 0), create_with(READ, 0, ENOTCAPABLE), read("f", ENOENT)],
        ),
        ("opening without the right", vec![narrow(DIR, READDIR, ALL, 0), read("f", ENOTCAPABLE)]),
        (
            "cutting without the right",
            vec![create("f", 0), narrow(DIR, OPEN, ALL, 0), open(DIR, 0, "f", 8, (WRITE, 0), ENOTCAPABLE)],
        ),
        (
            "more than is inherited",
            vec![
                narrow(DIR, OPEN | CREATE_FILE, READ, 0),
                create_with(READ | WRITE, 0, ENOTCAPABLE),
                create_with(READ, WRITE, ENOTCAPABLE),
                create_with(READ, 0, 0),
                move_byte("fd_write", FREE, ENOTCAPABLE),
            ],
        ),
        (
            "more by a directory in between",
            vec![
                directory("a"),
                open(DIR, 0, "a", 2, (OPEN | CREATE_FILE, READ), 0),
                open(FREE, 0, "f", 1, (READ | WRITE, 0), ENOTCAPABLE),
                open(FREE, 0, ".", 2, (OPEN, READ | WRITE), ENOTCAPABLE),
                open(FREE, 0, "f", 1, (READ, 0), 0),
            ],
        ),
    ]
}

fn rights_of_files() -> Vec<Probe> {
    let create_with = |base, inheriting, errno| open(DIR, 0, "f", 1, (base, inheriting), errno);
    vec![
        (
            "writing what is open for reading",
            vec![create_with(READ, 0, 0), move_byte("fd_write", FREE, ENOTCAPABLE), move_byte("fd_read", FREE, 0)],
        ),
        (
            "reading what is open for writing",
            vec![create_with(WRITE, 0, 0), move_byte("fd_read", FREE, ENOTCAPABLE), move_byte("fd_write", FREE, 0)],
        ),
        (
            "seeking without the right",
            vec![
                create_with(READ | TELL, 0, 0),
                Step("fd_seek", vec![Int(FREE), Long(1), Int(0), OUT], ENOTCAPABLE),
                Step("fd_seek", vec![Int(FREE), Long(0), Int(1), OUT], 0),
                Step("fd_pread", vec![Int(FREE), Int(32), Int(1), Long(0), OUT], ENOTCAPABLE),
            ],
        ),
        (
            "cutting by a descriptor",
            vec![create_with(WRITE, 0, 0), Step("fd_filestat_set_size", vec![Int(FREE), Long(9)], ENOTCAPABLE)],
        ),
        (
            "times by a descriptor",
            vec![
                create_with(WRITE, 0, 0),
                Step("fd_filestat_set_times", vec![Int(FREE), Long(0), Long(0), Int(1)], ENOTCAPABLE),
            ],
        ),
        (
            "what is known of a file",
            vec![create_with(WRITE, 0, 0), Step("fd_filestat_get", vec![Int(FREE), OUT], ENOTCAPABLE)],
        ),
        (
            "flags without the right",
            vec![create_with(WRITE, 0, 0), Step("fd_fdstat_set_flags", vec![Int(FREE), Int(1)], ENOTCAPABLE)],
        ),
        (
            "syncing without the right",
            vec![
                create_with(WRITE, 0, 0),
                on_fd("fd_sync", FREE, ENOTCAPABLE),
                on_fd("fd_datasync", FREE, ENOTCAPABLE),
            ],
        ),
    ]
}

fn rights_of_others() -> Vec<Probe> {
    let create_with = |base, inheriting, errno| open(DIR, 0, "f", 1, (base, inheriting), errno);
    vec![
        (
            "rights kept under another number",
            vec![
                create_with(READ, 0, 0),
                renumber(FREE, 0, 0),
                move_byte("fd_write", 0, ENOTCAPABLE),
                narrow(0, READ | WRITE, 0, ENOTCAPABLE),
            ],
        ),
        (
            "a stream's rights",
            vec![narrow(1, 0, 0, 0), move_byte("fd_write", 1, ENOTCAPABLE), narrow(0, WRITE, 0, ENOTCAPABLE)],
        ),
        (
            "reading a directory without the right",
            vec![
                narrow(DIR, OPEN, 0, 0),
                Step("fd_readdir", vec![Int(DIR), Int(64), Int(64), Long(0), OUT], ENOTCAPABLE),
            ],
        ),
        (
            "removing without the right",
            vec![
                create("f", 0),
                narrow(DIR, OPEN, ALL, 0),
                on_path("path_unlink_file", "f", ENOTCAPABLE),
                on_path("path_remove_directory", "f", ENOTCAPABLE),
            ],
        ),
        (
            "naming without the right",
            vec![
                create("f", 0),
                narrow(DIR, OPEN, ALL, 0),
                rename("f", "g", ENOTCAPABLE),
                hard_link("f", 0, "g", ENOTCAPABLE),
                link("f", "g", ENOTCAPABLE),
            ],
        ),
        (
            "asking without the right",
            vec![
                create("f", 0),
                narrow(DIR, OPEN, ALL, 0),
                stat("f", ENOTCAPABLE),
                Step("path_readlink", vec![Int(DIR), Text("f"), Int(64), Int(64), OUT], ENOTCAPABLE),
            ],
        ),
        (
            "flags that there are not",
            vec![
                open(DIR, 2, "f", 1, (READ, 0), EINVAL),
                open(DIR, 0, "f", 16, (READ, 0), EINVAL),
                open(DIR, 0, "f", 3, (READ, 0), EINVAL),
            ],
        ),
        ("a new file that is there", vec![create("f", 0), open(DIR, 0, "f", 5, (READ, 0), EEXIST)]),
    ]
}

#[test]
fn no_probe_gets_out_of_its_directory_or_more_rights_than_it_was_given() {
    let probes: Vec<Probe> = [
        paths_that_lead_out(),
        links_that_lead_out(),
        descriptors_that_were_not_given(),
        rights_that_grow(),
        rights_of_files(),
        rights_of_others(),
    ]
    .into_iter()
    .flatten()
    .collect();
    assert!(probes.len() >= 80, "{}", probes.len());
    let bench = Bench::new();
    for (name, steps) in &probes {
        let text = module(steps);
        for on_disk in [true, false] {
            // A private directory has nothing that others left there.
            if !on_disk && name.contains("others") {
                continue;
            }
            let outer = tempfile::tempdir().unwrap();
            let inside = prepare(outer.path());
            let before = everything_outside(outer.path());
            let preopens = if on_disk { vec![Preopen::open(&inside, "/", false).unwrap()] } else { Vec::new() };
            let ran = bench.load(&text).run(Call { preopens: &preopens, scratch: !on_disk, ..call(LONG) });
            let place = if on_disk { "machine" } else { "memory" };
            expect(ran, steps, &format!("{name} ({place})"));
            assert_eq!(everything_outside(outer.path()), before, "{name} ({place})");
        }
    }
}

/// A directory for the guest, and one beside it that is not for it.
fn prepare(outer: &Path) -> std::path::PathBuf {
    let inside = outer.join("inside");
    fs::create_dir(&inside).unwrap();
    fs::create_dir_all(outer.join("outside/empty")).unwrap();
    fs::write(outer.join("outside/secret"), "secret").unwrap();
    symlink("../outside/secret", inside.join("left")).unwrap();
    symlink(outer.join("outside/secret"), inside.join("left-absolute")).unwrap();
    inside
}

fn everything_outside(outer: &Path) -> Vec<String> {
    let secret = fs::metadata(outer.join("outside/secret")).unwrap();
    let mut all = vec![format!("{:?}, {:?}", fs::read(outer.join("outside/secret")), secret.modified())];
    for dir in [outer.to_path_buf(), outer.join("outside")] {
        all.extend(fs::read_dir(dir).unwrap().map(|entry| format!("{:?}", entry.unwrap().file_name())));
    }
    all.sort();
    all
}
