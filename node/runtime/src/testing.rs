//! What the tests of this crate share: a catalogue to publish in, guests, and a store of code.

use std::{
    collections::HashMap,
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

/// Code bytes in memory, with a count of how often they were asked for.
#[derive(Default)]
pub(crate) struct Store {
    code: Mutex<HashMap<Digest, Bytes>>,
    pub(crate) fetches: AtomicUsize,
    is_held: AtomicBool,
}

impl Store {
    pub(crate) fn put(&self, code: &[u8]) {
        self.code.lock().unwrap().insert(Digest::of(code), Bytes::copy_from_slice(code));
    }

    /// From now on nothing is answered.
    pub(crate) fn hold(&self) {
        self.is_held.store(true, SeqCst);
    }
}

#[async_trait]
impl CodeSource for Store {
    async fn code(&self, version: &VersionRecord, _: Instant) -> Result<Bytes, Failure> {
        self.fetches.fetch_add(1, SeqCst);
        if self.is_held.load(SeqCst) {
            std::future::pending::<()>().await;
        }
        let found = self.code.lock().unwrap().get(&version.digest).cloned();
        found.ok_or_else(|| Failure::not_executed(ErrorCode::ArtifactUnavailable, "no node has it"))
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
