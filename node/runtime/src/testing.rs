//! What the tests of this crate share: a catalogue to publish in, guests, and a store of code.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
};

use async_trait::async_trait;
use bytes::Bytes;
use skein_catalog::{Catalog, Command, Outcome, Proposal, RequestId, VersionRecord};
use skein_proto::{Digest, ErrorCode, Failure, Manifest, NodeId, VersionId};
use tokio::time::Instant;
use uuid::Uuid;

use crate::CodeSource;

/// A manifest of `default/name`.
pub(crate) fn manifest(name: &str) -> Manifest {
    Manifest::named(Default::default(), name.parse().unwrap())
}

/// Applies a command, which must not be refused, as the next entry of the log.
pub(crate) fn apply(catalog: &mut Catalog, command: Command) -> Outcome {
    let proposal = Proposal { request: RequestId(Uuid::now_v7()), at_ms: 1, command };
    let outcome = catalog.apply(catalog.index() + 1, &proposal);
    assert!(!matches!(outcome, Outcome::Refused { .. }), "{outcome:?}");
    outcome
}

/// Publishes `code` as the next version, with the alias `live` if `is_live`.
pub(crate) fn publish(catalog: &mut Catalog, manifest: Manifest, code: &[u8], is_live: bool) -> VersionId {
    let command = Command::PublishVersion {
        manifest: Box::new(manifest),
        digest: Digest::of(code),
        size: u64::try_from(code.len()).unwrap(),
        holders: vec![NodeId(1)],
        note: String::new(),
        author: String::new(),
        alias: is_live.then(Default::default),
        expected: None,
    };
    match apply(catalog, command) {
        Outcome::Published(version) => version,
        other => panic!("{other:?}"),
    }
}

/// Code bytes that peers have, and of which some have been fetched; with a count of the fetches.
#[derive(Default)]
pub(crate) struct Store {
    code: Mutex<HashMap<Digest, Bytes>>,
    /// What is on this node.
    here: Mutex<HashSet<Digest>>,
    pub(crate) fetches: AtomicUsize,
    is_held: AtomicBool,
    breaks: AtomicBool,
}

impl Store {
    pub(crate) fn put(&self, code: &[u8]) {
        self.code.lock().unwrap().insert(Digest::of(code), Bytes::copy_from_slice(code));
    }

    /// As if it had been fetched.
    pub(crate) fn put_here(&self, code: &[u8]) {
        self.here.lock().unwrap().insert(Digest::of(code));
    }

    /// From now on no peer answers.
    pub(crate) fn hold(&self) {
        self.is_held.store(true, SeqCst);
    }

    /// The next fetch panics.
    pub(crate) fn break_once(&self) {
        self.breaks.store(true, SeqCst);
    }
}

#[async_trait]
impl CodeSource for Store {
    async fn code(&self, version: &VersionRecord, _: Instant) -> Result<Bytes, Failure> {
        if !self.has(version) {
            self.fetches.fetch_add(1, SeqCst);
            assert!(!self.breaks.swap(false, SeqCst), "on purpose");
            if self.is_held.load(SeqCst) {
                std::future::pending::<()>().await;
            }
        }
        let found = self.code.lock().unwrap().get(&version.digest).cloned();
        let found = found.ok_or_else(|| Failure::not_executed(ErrorCode::ArtifactUnavailable, "no node has it"))?;
        self.here.lock().unwrap().insert(version.digest);
        Ok(found)
    }

    fn has(&self, version: &VersionRecord) -> bool {
        self.here.lock().unwrap().contains(&version.digest)
    }
}

/// Copies stdin to stdout.
pub(crate) const ECHO: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start")
    (loop $more
      (i32.store (i32.const 0) (i32.const 64))
      (i32.store (i32.const 4) (i32.const 4096))
      (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
      (i32.store (i32.const 4) (i32.load (i32.const 8)))
      (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 12)))
      (br_if $more (i32.load (i32.const 8))))))"#;

/// Never ends.
pub(crate) const SPIN: &str = r#"(module (memory (export "memory") 1) (func (export "_start") (loop $l (br $l))))"#;

/// Writes `boom` to its log and ends with exit code 3.
pub(crate) const FAIL: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (data (i32.const 64) "boom")
  (func (export "_start")
    (i32.store (i32.const 0) (i32.const 64))
    (i32.store (i32.const 4) (i32.const 4))
    (drop (call $write (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 12)))
    (call $exit (i32.const 3))))"#;

/// Writes its environment to stdout, each variable ended by a NUL.
pub(crate) const ENVIRONMENT: &str = r#"(module
  (import "wasi_snapshot_preview1" "environ_sizes_get" (func $sizes (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_get" (func $get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 4)
  (func (export "_start")
    (drop (call $sizes (i32.const 16) (i32.const 4)))
    (drop (call $get (i32.const 64) (i32.const 65536)))
    (i32.store (i32.const 0) (i32.const 65536))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 12)))))"#;

/// What guests of the module `skein` share: reads the payload to 4096 (its length is `$payload`'s result), and writes
/// the answer of a request to the result.
macro_rules! skein_guest {
    ($data:literal, $start:literal) => {
        concat!(
            r#"(module
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "skein" "invoke" (func $invoke (param i32 i32 i32 i32 i32 i32) (result i32)))
  (import "skein" "http" (func $http (param i32 i32 i32 i32) (result i32)))
  (import "skein" "answer" (func $answer (param i32) (result i64)))
  (import "skein" "take" (func $take (param i32 i32)))
  (import "skein" "output" (func $output (param i32 i32)))
  (memory (export "memory") 4)
  (data (i32.const 64) ""#,
            $data,
            r#"")
  (func $payload (result i32)
    (i32.store (i32.const 0) (i32.const 4096))
    (i32.store (i32.const 4) (i32.const 4096))
    (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
    (i32.load (i32.const 8)))
  (func $pass (param $request i32)
    (local $length i32)
    (local.set $length (i32.wrap_i64 (call $answer (local.get $request))))
    (call $take (local.get $request) (i32.const 65536))
    (call $output (i32.const 65536) (local.get $length)))
  (func (export "_start") (local $length i32) (local $i i32)
    (local.set $length (call $payload))
"#,
            $start,
            "))"
        )
    };
}

/// Calls the function that its payload names, with the name as payload, and gives its answer, or the failure as JSON.
pub(crate) const ASK: &str = skein_guest!(
    "",
    "(call $pass (call $invoke (i32.const 4096) (local.get $length) (i32.const 0) (i32.const 0)
      (i32.const 4096) (local.get $length)))"
);

/// Calls `default/down` with a payload one byte shorter than its own, down to none.
pub(crate) const DOWN: &str = skein_guest!(
    "default/downbottom",
    "(if (i32.eqz (local.get $length))
      (then (call $output (i32.const 76) (i32.const 6)))
      (else (call $pass (call $invoke (i32.const 64) (i32.const 12) (i32.const 0) (i32.const 0)
        (i32.const 4096) (i32.sub (local.get $length) (i32.const 1))))))"
);

/// Calls `default/echo` as often as its payload has bytes, all at once, and gives the answers one after another.
pub(crate) const FAN: &str = skein_guest!(
    "default/echo",
    "(loop $ask
      (i32.store (i32.add (i32.const 1024) (i32.mul (local.get $i) (i32.const 4)))
        (call $invoke (i32.const 64) (i32.const 12) (i32.const 0) (i32.const 0) (i32.const 4096) (local.get $length)))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br_if $ask (i32.lt_u (local.get $i) (local.get $length))))
    (local.set $i (i32.const 0))
    (loop $take
      (call $pass (i32.load (i32.add (i32.const 1024) (i32.mul (local.get $i) (i32.const 4)))))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br_if $take (i32.lt_u (local.get $i) (local.get $length))))"
);

/// Calls `default/slow` six times and `default/echo` once, takes the answer of the last, and computes for ever.
pub(crate) const HOG: &str = skein_guest!(
    "default/slowdefault/echo",
    "(loop $ask
      (drop (call $invoke (i32.const 64) (i32.const 12) (i32.const 0) (i32.const 0) (i32.const 4096) (i32.const 0)))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br_if $ask (i32.lt_u (local.get $i) (i32.const 6))))
    (drop (call $answer (call $invoke (i32.const 76) (i32.const 12) (i32.const 0) (i32.const 0)
      (i32.const 4096) (i32.const 0))))
    (loop $compute (br $compute))"
);

/// Sends the HTTP request whose head its payload is.
pub(crate) const FETCH: &str =
    skein_guest!("", "(call $pass (call $http (i32.const 4096) (local.get $length) (i32.const 0) (i32.const 0)))");

/// Sleeps for ten minutes.
pub(crate) const NAP: &str = r#"(module
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start")
    (i32.store (i32.const 16) (i32.const 1))
    (i64.store (i32.const 24) (i64.const 600000000000))
    (drop (call $poll (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 128)))))"#;
