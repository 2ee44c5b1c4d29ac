//! Guests that call the functions of WASI one after the other, and say which of them answered otherwise than expected.

use std::fmt::Write as _;

use skein_engine::{Output, RunError};

use Arg::{Int, Letters, Long, Text};

/// Error numbers of WASI.
pub(crate) mod errno {
    pub(crate) const EBADF: u16 = 8;
    pub(crate) const EEXIST: u16 = 20;
    pub(crate) const EILSEQ: u16 = 25;
    pub(crate) const EINVAL: u16 = 28;
    pub(crate) const EISDIR: u16 = 31;
    pub(crate) const ELOOP: u16 = 32;
    pub(crate) const ENAMETOOLONG: u16 = 37;
    pub(crate) const ENOENT: u16 = 44;
    pub(crate) const ENOTDIR: u16 = 54;
    pub(crate) const ENOTSOCK: u16 = 57;
    pub(crate) const EPERM: u16 = 63;
    pub(crate) const ESPIPE: u16 = 70;
    pub(crate) const ENOTCAPABLE: u16 = 76;
    pub(crate) const EMFILE: u16 = 33;
    pub(crate) const ENOSPC: u16 = 51;
    pub(crate) const EROFS: u16 = 69;
    pub(crate) const EXDEV: u16 = 75;
}

/// One call of the guest's, and the error it must get. 0 is success.
pub(crate) struct Step(pub(crate) &'static str, pub(crate) Vec<Arg>, pub(crate) u16);

#[derive(Clone, Copy)]
pub(crate) enum Arg {
    Int(u32),
    Long(u64),
    /// An address and a length.
    Text(&'static str),
    /// The address of a path of so many letters, and their number.
    Letters(u32),
}

/// All rights that a preopened directory lets others inherit.
pub(crate) const ALL: u64 = (1 << 28) - 1;
pub(crate) const READ: u64 = 1 << 1;
pub(crate) const SEEK: u64 = 1 << 2;
pub(crate) const TELL: u64 = 1 << 5;
pub(crate) const WRITE: u64 = 1 << 6;
pub(crate) const CREATE_FILE: u64 = 1 << 10;
pub(crate) const OPEN: u64 = 1 << 13;
pub(crate) const READDIR: u64 = 1 << 14;
pub(crate) const FILE: u64 = READ | WRITE | SEEK | TELL | 1 << 21 | 1 << 22;

/// The directory the guest was given, and the first number that is free.
pub(crate) const DIR: u32 = 3;
pub(crate) const FREE: u32 = 4;
/// Where results are written.
pub(crate) const OUT: Arg = Int(16);

#[allow(clippy::too_many_arguments, reason = "what the function takes, and what it must answer")]
pub(crate) fn open(fd: u32, follow: u32, path: &'static str, how: u32, rights: (u64, u64), errno: u16) -> Step {
    let (base, inheriting) = rights;
    let args = vec![Int(fd), Int(follow), Text(path), Int(how), Long(base), Long(inheriting), Int(0), OUT];
    Step("path_open", args, errno)
}

/// Opens an existing path for reading.
pub(crate) fn read(path: &'static str, errno: u16) -> Step {
    open(DIR, 1, path, 0, (READ, 0), errno)
}

/// Creates a file below the directory and opens it.
pub(crate) fn create(path: &'static str, errno: u16) -> Step {
    open(DIR, 1, path, 1, (FILE, 0), errno)
}

pub(crate) fn directory(path: &'static str) -> Step {
    Step("path_create_directory", vec![Int(DIR), Text(path)], 0)
}

pub(crate) fn link(target: &'static str, path: &'static str, errno: u16) -> Step {
    Step("path_symlink", vec![Text(target), Int(DIR), Text(path)], errno)
}

pub(crate) fn on_path(function: &'static str, path: &'static str, errno: u16) -> Step {
    Step(function, vec![Int(DIR), Text(path)], errno)
}

pub(crate) fn rename(old: &'static str, new: &'static str, errno: u16) -> Step {
    Step("path_rename", vec![Int(DIR), Text(old), Int(DIR), Text(new)], errno)
}

pub(crate) fn hard_link(old: &'static str, follow: u32, new: &'static str, errno: u16) -> Step {
    Step("path_link", vec![Int(DIR), Int(follow), Text(old), Int(DIR), Text(new)], errno)
}

pub(crate) fn stat(path: &'static str, errno: u16) -> Step {
    Step("path_filestat_get", vec![Int(DIR), Int(1), Text(path), OUT], errno)
}

pub(crate) fn narrow(fd: u32, base: u64, inheriting: u64, errno: u16) -> Step {
    Step("fd_fdstat_set_rights", vec![Int(fd), Long(base), Long(inheriting)], errno)
}

pub(crate) fn on_fd(function: &'static str, fd: u32, errno: u16) -> Step {
    Step(function, vec![Int(fd)], errno)
}

pub(crate) fn renumber(from: u32, to: u32, errno: u16) -> Step {
    Step("fd_renumber", vec![Int(from), Int(to)], errno)
}

/// Reads or writes one byte.
pub(crate) fn move_byte(function: &'static str, fd: u32, errno: u16) -> Step {
    Step(function, vec![Int(fd), Int(32), Int(1), OUT], errno)
}

/// Panics unless the guest of `steps` ended well.
pub(crate) fn expect(ran: Result<Output, RunError>, steps: &[Step], what: &str) {
    match ran {
        Ok(_) => {}
        Err(RunError::Exit { code, .. }) => {
            let Step(function, _, expected) = &steps[(code / 1000 - 1) as usize];
            panic!("{what}: step {}, {function}: {}, not {expected}", code / 1000, code % 1000);
        }
        Err(other) => panic!("{what}: {other}"),
    }
}

/// A command that takes the steps in turn, and ends with 1000 times the number of the first that answered otherwise,
/// plus its answer.
pub(crate) fn module(steps: &[Step]) -> String {
    let (mut imports, mut data, mut body) = (String::new(), String::new(), String::new());
    let mut names: Vec<&str> = Vec::new();
    let mut at = 6000_usize;
    for (index, Step(function, args, expected)) in steps.iter().enumerate() {
        let (mut values, mut types) = (String::new(), String::new());
        for arg in args {
            match arg {
                Int(value) => write!(values, "(i32.const {value})").unwrap(),
                Long(value) => write!(values, "(i64.const {value})").unwrap(),
                Letters(count) => write!(values, "(i32.const 1000) (i32.const {count})").unwrap(),
                Text(text) => {
                    let bytes: String = text.bytes().map(|byte| format!("\\{byte:02x}")).collect();
                    write!(data, "(data (i32.const {at}) \"{bytes}\")").unwrap();
                    write!(values, "(i32.const {at}) (i32.const {})", text.len()).unwrap();
                    at += text.len();
                }
            }
            types += match arg {
                Int(_) => "i32 ",
                Long(_) => "i64 ",
                Text(_) | Letters(_) => "i32 i32 ",
            };
        }
        if !names.contains(function) {
            names.push(function);
            imports += &format!(
                r#"(import "wasi_snapshot_preview1" "{function}" (func ${function} (param {types}) (result i32)))"#
            );
        }
        write!(
            body,
            "(if (i32.ne (local.tee $errno (call ${function} {values})) (i32.const {expected}))
                (then (call $exit (i32.add (i32.const {}) (local.get $errno)))))",
            (index + 1) * 1000
        )
        .unwrap();
    }
    // At 8 what is no UTF-8, at 32 one buffer of one byte, from 1000 on a long name.
    format!(
        r#"(module {imports} (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
        (memory (export "memory") 1) (data (i32.const 8) "\ff\fe") (data (i32.const 32) "\28\00\00\00\01\00\00\00")
        (data (i32.const 1000) "{}") {data} (func (export "_start") (local $errno i32) {body}))"#,
        "x".repeat(4100)
    )
}
