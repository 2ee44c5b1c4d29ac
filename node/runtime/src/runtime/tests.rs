//! The runtime with the real engine and small guests.

use std::sync::atomic::Ordering::SeqCst as Ordered;

use bytes::Bytes;
use skein_catalog::{Catalog, Command};
use skein_engine::EngineConfig;
use skein_proto::{ColdCause, Digest, Manifest, Progress};
use tempfile::TempDir;
use tokio::{
    sync::watch,
    task::{JoinHandle as Task, JoinSet},
};

use super::*;
use crate::testing::{ECHO, ENVIRONMENT, FAIL, SPIN, Store, apply, manifest, publish};

pub(super) struct Node {
    pub(super) runtime: Runtime,
    pub(super) engine: Engine,
    catalog: watch::Sender<Arc<Catalog>>,
    pub(super) store: Arc<Store>,
    _cache: TempDir,
}

impl Node {
    pub(super) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    pub(super) async fn with(change: impl FnOnce(&mut Config)) -> Self {
        Self::within(u64::MAX, change).await
    }

    /// With a bound on the memory of the process, which is that of all tests.
    pub(super) async fn within(memory_bytes_max: u64, change: impl FnOnce(&mut Config)) -> Self {
        let cache = tempfile::tempdir().unwrap();
        let mut engine_config = EngineConfig::new(cache.path());
        engine_config.memory_bytes_max = memory_bytes_max;
        let engine = Engine::open(engine_config).unwrap();
        let (catalog, watch) = watch::channel(Arc::default());
        let store = Arc::new(Store::default());
        let mut config = Config { idle_tick_ms: 5, ..Config::new(NodeId(7)) };
        change(&mut config);
        let runtime = Runtime::start(config, engine.clone(), store.clone(), watch).await.unwrap();
        Self { runtime, engine, catalog, store, _cache: cache }
    }

    pub(super) fn publish(&self, manifest: Manifest, wat: &str) -> VersionId {
        let code = wat::parse_str(wat).unwrap();
        self.store.put(&code);
        self.publish_unstored(manifest, &code)
    }

    fn publish_unstored(&self, manifest: Manifest, code: &[u8]) -> VersionId {
        let mut catalog = Catalog::clone(&self.catalog.borrow());
        let version = publish(&mut catalog, manifest, code, true);
        self.catalog.send_replace(Arc::new(catalog));
        version
    }

    fn delete(&self, name: &str) {
        let mut catalog = Catalog::clone(&self.catalog.borrow());
        apply(&mut catalog, Command::DeleteFunction { app: Default::default(), name: name.parse().unwrap() });
        self.catalog.send_replace(Arc::new(catalog));
    }

    /// Binds the app of all functions to nodes with this label, or to none; this node has no labels.
    fn bind(&self, zone: Option<&str>) {
        let labels = zone.map(|zone| ("zone".to_owned(), zone.to_owned())).into_iter().collect();
        let binding = skein_catalog::Binding { labels, ..Default::default() };
        let mut catalog = Catalog::clone(&self.catalog.borrow());
        apply(&mut catalog, Command::BindApp { app: Default::default(), binding });
        self.catalog.send_replace(Arc::new(catalog));
    }

    pub(super) async fn call(&self, version: VersionId, payload: &'static [u8]) -> Result<Reply, Failure> {
        self.runtime.invoke(invocation(version, payload, LONG)).await
    }

    fn spawn(&self, version: VersionId, deadline: Duration) -> Task<Result<Reply, Failure>> {
        let runtime = self.runtime.clone();
        tokio::spawn(async move { runtime.invoke(invocation(version, b"", deadline)).await })
    }

    /// Waits until so many calls run and wait.
    pub(super) async fn busy(&self, in_flight: u32, queued: u32) {
        eventually(|| {
            let load = self.runtime.load();
            (load.in_flight, load.queued) == (in_flight, queued)
        })
        .await;
    }

    /// Waits until so many guests have a thread.
    pub(super) async fn running(&self, guests: usize) {
        eventually(|| self.runtime.shared.executor.running() == guests).await;
    }

    pub(super) async fn end(self) {
        self.runtime.shutdown(Instant::now()).await;
        assert_eq!(self.runtime.shared.executor.threads(), 0, "every thread is joined");
        self.engine.shutdown();
    }
}

pub(super) const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(200);

pub(super) fn invocation(version: VersionId, payload: &'static [u8], deadline: Duration) -> Invocation {
    let named = "default/any".parse().unwrap();
    let target = InvocationTarget::Version(version);
    Invocation { target, ..Invocation::new(named, Bytes::from_static(payload), Instant::now() + deadline) }
}

pub(super) async fn eventually(condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(LONG, wait).await.expect("the condition was not met in time");
}

pub(super) fn slow(name: &str) -> Manifest {
    let mut manifest = manifest(name);
    manifest.limits.deadline_ms = 60_000;
    manifest
}

#[tokio::test]
async fn the_first_call_is_cold_and_the_second_warm() {
    let node = Node::start().await;
    let version = node.publish(manifest("echo"), ECHO);
    let first = node.call(version, b"one").await.unwrap();
    assert_eq!((first.payload.as_ref(), first.start), (&b"one"[..], Start::Cold));
    assert_eq!((first.version, first.node), (version, NodeId(7)));
    assert!(first.usage.start_us > 0 && first.usage.memory_bytes > 0, "{:?}", first.usage);
    let second = node.call(version, b"two").await.unwrap();
    assert_eq!((second.payload.as_ref(), second.start, second.usage.start_us), (&b"two"[..], Start::Warm, 0));
    let status = node.runtime.activations();
    assert_eq!((status.len(), status[0].state, status[0].calls), (1, ActivationState::Ready, 2));
    assert_eq!(node.runtime.load().warm, [(version.function.0, version.number)]);
    node.end().await;
}

#[tokio::test]
async fn concurrent_first_calls_share_one_start() {
    let node = Node::start().await;
    let version = node.publish(manifest("echo"), ECHO);
    let mut calls = JoinSet::new();
    for _ in 0..50 {
        let runtime = node.runtime.clone();
        calls.spawn(async move { runtime.invoke(invocation(version, b"x", LONG)).await });
    }
    while let Some(call) = calls.join_next().await {
        assert_eq!(call.unwrap().unwrap().payload.as_ref(), b"x");
    }
    let status = node.runtime.activations();
    assert_eq!((status.len(), status[0].generation, status[0].calls), (1, 1, 50));
    assert_eq!(node.store.fetches.load(Ordered), 1);
    node.end().await;
}

#[tokio::test]
async fn calls_beyond_the_permits_and_the_line_are_shed() {
    let node = Node::start().await;
    let mut manifest = slow("spin");
    manifest.limits.concurrency = 2;
    let version = node.publish(manifest, SPIN);
    let calls: Vec<_> = (0..6).map(|_| node.spawn(version, LONG)).collect();
    node.busy(2, 4).await;
    let shed = node.call(version, b"").await.unwrap_err();
    assert_eq!((shed.code, shed.progress), (ErrorCode::Overloaded, Progress::NotExecuted));
    assert!(shed.retry_after_ms.is_some_and(|ms| ms > 0), "{shed:?}");
    // Those in line move up as others leave.
    calls[0].abort();
    calls[1].abort();
    node.busy(2, 2).await;
    calls.iter().for_each(Task::abort);
    node.busy(0, 0).await;
    node.end().await;
}

#[tokio::test]
async fn a_call_waits_in_line_for_no_longer_than_its_deadline_and_the_limit() {
    let node = Node::with(|config| config.waiting_ms_max = 30).await;
    let mut manifest = slow("spin");
    manifest.limits.concurrency = 1;
    let version = node.publish(manifest, SPIN);
    let running = node.spawn(version, LONG);
    node.busy(1, 0).await;
    let waited = node.call(version, b"").await.unwrap_err();
    assert_eq!((waited.code, waited.progress), (ErrorCode::Overloaded, Progress::NotExecuted));
    let late = node.spawn(version, Duration::from_millis(5)).await.unwrap().unwrap_err();
    assert_eq!((late.code, late.progress), (ErrorCode::DeadlineExceeded, Progress::NotExecuted));
    running.abort();
    node.end().await;
}

#[tokio::test]
async fn dropping_the_future_stops_the_guest() {
    let node = Node::start().await;
    let version = node.publish(slow("spin"), SPIN);
    let call = node.spawn(version, LONG);
    node.running(1).await;
    call.abort();
    // The permit comes home only when the guest has left its thread.
    node.busy(0, 0).await;
    node.end().await;
}

#[tokio::test]
async fn a_call_that_is_taken_back_while_it_waits_for_a_thread_leaves_nothing_behind() {
    let node = Node::with(|config| config.threads_max = 1).await;
    let (spin, echo) = (node.publish(slow("spin"), SPIN), node.publish(manifest("echo"), ECHO));
    node.call(echo, b"").await.unwrap();
    // An answer is there before its thread is free: what holds it next is to be the guest that spins.
    node.running(0).await;
    let running = node.spawn(spin, LONG);
    node.running(1).await;
    let waits = node.spawn(echo, LONG);
    node.busy(2, 0).await;
    eventually(|| node.runtime.shared.executor.queued() == 1).await;
    waits.abort();
    node.busy(1, 0).await;
    assert_eq!(node.runtime.shared.executor.queued(), 0);
    assert!(!running.is_finished());
    running.abort();
    node.end().await;
}

#[tokio::test]
async fn a_guest_is_stopped_at_the_earlier_of_its_limit_and_the_callers_deadline() {
    let node = Node::start().await;
    let mut limited = manifest("limited");
    limited.limits.deadline_ms = 50;
    for (manifest, deadline) in [(limited, LONG), (slow("spin"), Duration::from_millis(400))] {
        let version = node.publish(manifest, SPIN);
        // Started before, so that the deadline passes in the guest and not in its start.
        node.runtime.prepare(version, Instant::now() + LONG).await.unwrap();
        let failure = node.spawn(version, deadline).await.unwrap().unwrap_err();
        assert_eq!((failure.code, failure.progress), (ErrorCode::DeadlineExceeded, Progress::Executed), "{failure}");
    }
    node.busy(0, 0).await;
    node.end().await;
}

#[tokio::test]
async fn an_idle_activation_stops_and_the_next_call_starts_another() {
    let node = Node::start().await;
    let mut manifest = manifest("echo");
    manifest.scale.idle_ms = 20;
    let version = node.publish(manifest, ECHO);
    let cold = |reply: &Reply| (reply.start, reply.usage.cold);
    assert_eq!(cold(&node.call(version, b"").await.unwrap()), (Start::Cold, Some(ColdCause::First)));
    eventually(|| node.runtime.activations().is_empty()).await;
    assert!(node.runtime.is_prepared(version), "its code stays");
    assert_eq!(cold(&node.call(version, b"").await.unwrap()), (Start::Cold, Some(ColdCause::Idle)));
    assert_eq!(node.store.fetches.load(Ordered), 1);
    node.end().await;
}

#[tokio::test]
async fn a_busy_activation_is_not_idle() {
    let node = Node::start().await;
    let mut manifest = slow("spin");
    manifest.scale.idle_ms = 1;
    let version = node.publish(manifest, SPIN);
    let call = node.spawn(version, Duration::from_millis(300));
    node.running(1).await;
    let failure = call.await.unwrap().unwrap_err();
    assert_eq!((failure.code, failure.progress), (ErrorCode::DeadlineExceeded, Progress::Executed));
    eventually(|| node.runtime.activations().is_empty()).await;
    node.end().await;
}

#[tokio::test]
async fn a_draining_node_finishes_its_calls_and_refuses_new_ones_until_it_resumes() {
    let node = Node::start().await;
    let (spin, echo) = (node.publish(slow("spin"), SPIN), node.publish(manifest("echo"), ECHO));
    let running = node.spawn(spin, Duration::from_secs(1));
    node.running(1).await;
    node.call(echo, b"").await.unwrap();
    assert!(!node.runtime.drain(Instant::now()).await, "a call still runs");
    assert!(node.runtime.load().is_draining);
    for version in [echo, spin] {
        let refused = node.call(version, b"").await.unwrap_err();
        assert_eq!((refused.code, refused.progress), (ErrorCode::Draining, Progress::NotExecuted));
    }
    assert!(node.runtime.drain(Instant::now() + LONG).await);
    let ended = running.await.unwrap().unwrap_err();
    assert_eq!((ended.code, ended.progress), (ErrorCode::DeadlineExceeded, Progress::Executed), "it ran to its end");
    assert!(node.runtime.activations().is_empty());
    node.runtime.resume();
    assert_eq!(node.call(echo, b"back").await.unwrap().payload.as_ref(), b"back");
    node.end().await;
}

#[tokio::test]
async fn a_deleted_version_stops_and_is_not_found() {
    let node = Node::start().await;
    let version = node.publish(manifest("echo"), ECHO);
    node.call(version, b"").await.unwrap();
    node.delete("echo");
    eventually(|| node.runtime.activations().is_empty()).await;
    assert!(!node.runtime.is_prepared(version));
    let failure = node.call(version, b"").await.unwrap_err();
    assert_eq!((failure.code, failure.progress), (ErrorCode::VersionNotFound, Progress::NotExecuted));
    node.end().await;
}

#[tokio::test]
async fn a_call_that_read_the_record_before_the_deletion_starts_nothing() {
    let node = Node::start().await;
    let version = node.publish(manifest("echo"), ECHO);
    let record = node.runtime.shared.record(version, 0).unwrap();
    node.delete("echo");
    for message in [supervisor::Message::Activate, supervisor::Message::Warm] {
        let asked = node.runtime.shared.supervisor.call(|reply| message(version, record.clone(), reply), Some(LONG));
        let CallResult::Success(Err(failure)) = asked.await.unwrap() else { panic!("it is started") };
        assert_eq!((failure.code, failure.progress), (ErrorCode::VersionNotFound, Progress::NotExecuted));
    }
    assert!(node.runtime.activations().is_empty());
    node.end().await;
}

#[tokio::test]
async fn a_preparation_that_breaks_is_begun_anew_by_the_next_caller_and_by_the_prefetch() {
    let node = Node::start().await;
    node.store.break_once();
    let version = node.publish(manifest("echo"), ECHO);
    eventually(|| node.store.fetches.load(Ordered) > 0).await;
    eventually(|| node.runtime.is_prepared(version)).await;
    node.store.break_once();
    let other = node.publish(manifest("other"), SPIN);
    let mut broken = 0;
    while let Err(failure) = node.runtime.prepare(other, Instant::now() + LONG).await {
        assert_eq!(failure.code, ErrorCode::Internal);
        broken += 1;
        assert!(broken < 3, "{failure}");
    }
    node.end().await;
}

#[tokio::test]
async fn what_is_here_is_compiled_while_peers_are_slow_to_send_the_rest() {
    let node = Node::start().await;
    node.store.hold();
    let slow: Vec<_> = [ENVIRONMENT, SPIN, FAIL]
        .iter()
        .enumerate()
        .map(|(i, guest)| node.publish(manifest(&format!("slow{i}")), guest))
        .collect();
    for version in slow {
        let runtime = node.runtime.clone();
        tokio::spawn(async move { runtime.prepare(version, Instant::now() + LONG).await });
    }
    eventually(|| node.store.fetches.load(Ordered) == 3).await;
    node.store.put_here(&wat::parse_str(ECHO).unwrap());
    let version = node.publish(manifest("echo"), ECHO);
    assert_eq!(node.call(version, b"x").await.unwrap().payload.as_ref(), b"x");
    node.end().await;
}

#[tokio::test]
async fn an_app_that_is_bound_elsewhere_ends_its_calls_here_and_sends_new_ones_on() {
    let node = Node::start().await;
    let (spin, echo) = (node.publish(manifest("spin"), SPIN), node.publish(manifest("echo"), ECHO));
    node.call(echo, b"x").await.unwrap();
    let running = node.spawn(spin, Duration::from_secs(2));
    node.busy(1, 0).await;
    eventually(|| node.runtime.activations().iter().all(|one| one.state == ActivationState::Ready)).await;
    node.bind(Some("eu"));
    eventually(|| node.runtime.line(echo).is_none() && node.runtime.line(spin).is_none()).await;
    for version in [echo, spin] {
        let failure = node.call(version, b"x").await.unwrap_err();
        assert_eq!((failure.code, failure.progress), (ErrorCode::Moved, Progress::NotExecuted));
        assert_eq!(failure.index, Some(node.catalog.borrow().index()));
        assert!(failure.message.contains("bound to nodes with zone=eu"), "{failure}");
    }
    assert_eq!(node.runtime.prepare(echo, Instant::now() + LONG).await.unwrap_err().code, ErrorCode::Moved);
    assert_eq!(node.runtime.load().in_flight, 1, "what runs may end");
    let ended = running.await.unwrap().unwrap_err();
    assert_eq!((ended.code, ended.progress), (ErrorCode::DeadlineExceeded, Progress::Executed));
    node.bind(None);
    let reply = node.call(echo, b"x").await.unwrap();
    assert_eq!((&reply.payload[..], reply.usage.cold), (&b"x"[..], Some(ColdCause::Bound)));
    node.end().await;
}

#[tokio::test]
async fn a_version_that_is_not_applied_here_yet_is_moved_and_not_missing() {
    let node = Node::start().await;
    let version = VersionId { function: skein_proto::FunctionId(1), number: 1 };
    let early = Invocation { index_min: 9, ..invocation(version, b"", LONG) };
    let failure = node.runtime.invoke(early).await.unwrap_err();
    assert_eq!((failure.code, failure.progress), (ErrorCode::Moved, Progress::NotExecuted));
    node.end().await;
}

#[tokio::test]
async fn a_start_that_fails_is_told_to_all_who_wait_and_tried_again_soon() {
    let node = Node::start().await;
    let code = wat::parse_str(ECHO).unwrap();
    let version = node.publish_unstored(manifest("echo"), &code);
    let calls: Vec<_> = (0..10).map(|_| node.spawn(version, LONG)).collect();
    for call in calls {
        let failure = call.await.unwrap().unwrap_err();
        assert_eq!((failure.code, failure.progress), (ErrorCode::ArtifactUnavailable, Progress::NotExecuted));
    }
    node.store.put(&code);
    let mut last = node.call(version, b"x").await;
    while let Err(failure) = last {
        assert_eq!(failure.code, ErrorCode::ArtifactUnavailable);
        let pause = failure.retry_after_ms.expect("it says when to come back");
        tokio::time::sleep(Duration::from_millis(pause)).await;
        last = node.call(version, b"x").await;
    }
    node.end().await;
}

#[tokio::test]
async fn what_is_no_module_is_refused_by_name() {
    let node = Node::start().await;
    node.store.put(b"hello");
    let version = node.publish_unstored(manifest("text"), b"hello");
    let prepared = node.runtime.prepare(version, Instant::now() + LONG).await.unwrap_err();
    let called = node.call(version, b"").await.unwrap_err();
    for failure in [prepared, called] {
        assert_eq!((failure.code, failure.progress), (ErrorCode::BadModule, Progress::NotExecuted), "{failure}");
    }
    node.end().await;
}

#[tokio::test]
async fn a_new_version_is_prepared_before_anybody_calls_it() {
    let node = Node::start().await;
    let version = node.publish(manifest("echo"), ECHO);
    eventually(|| node.runtime.is_prepared(version)).await;
    assert!(node.runtime.activations().is_empty(), "prepared is not live");
    node.runtime.prepare(version, Instant::now()).await.unwrap();
    assert!(node.engine.is_cached(Digest::of(&wat::parse_str(ECHO).unwrap())));
    node.end().await;
}

#[tokio::test]
async fn too_large_a_payload_is_refused_without_a_start() {
    let node = Node::start().await;
    let mut manifest = manifest("echo");
    manifest.limits.payload_bytes = 3;
    let version = node.publish(manifest, ECHO);
    let failure = node.call(version, b"four").await.unwrap_err();
    assert_eq!((failure.code, failure.progress), (ErrorCode::TooLarge, Progress::NotExecuted));
    assert!(node.runtime.activations().is_empty());
    assert_eq!(node.call(version, b"123").await.unwrap().payload.as_ref(), b"123");
    node.end().await;
}

#[tokio::test]
async fn a_failing_guest_is_told_with_its_exit_code_and_log() {
    let node = Node::start().await;
    let version = node.publish(manifest("fail"), FAIL);
    let failure = node.call(version, b"").await.unwrap_err();
    assert_eq!((failure.code, failure.progress), (ErrorCode::FunctionFailed, Progress::Executed));
    assert_eq!((failure.exit_code, failure.log_tail.as_str()), (Some(3), "boom"));
    node.end().await;
}

#[tokio::test]
async fn headers_and_grants_reach_the_guest_as_environment() {
    let node = Node::start().await;
    let mut manifest = manifest("env");
    manifest.grants.env.insert("CURRENCY".into(), "EUR".into());
    let version = node.publish(manifest, ENVIRONMENT);
    let mut call = invocation(version, b"", LONG);
    call.headers = [("X-Foo".into(), "bar".into())].into();
    let id = call.id;
    let reply = node.runtime.invoke(call).await.unwrap();
    let text = String::from_utf8(reply.payload.to_vec()).unwrap();
    let seen: Vec<_> = text.split('\0').collect();
    let invocation = format!("SKEIN_INVOCATION={id}");
    for expected in ["CURRENCY=EUR", "HTTP_X_FOO=bar", "SKEIN_FUNCTION=default/env", "SKEIN_VERSION=1", &invocation] {
        assert!(seen.contains(&expected), "{expected} is not in {seen:?}");
    }
    node.end().await;
}

#[tokio::test]
async fn shutdown_does_not_wait_for_code_that_does_not_arrive() {
    let node = Node::start().await;
    node.store.hold();
    let version = node.publish(manifest("echo"), ECHO);
    let call = node.spawn(version, LONG);
    node.busy(1, 0).await;
    let tasks = node.runtime.shared.tasks.clone();
    node.end().await;
    assert!(tasks.is_empty());
    assert_eq!(call.await.unwrap().unwrap_err().progress, Progress::NotExecuted);
}

#[tokio::test]
async fn names_are_for_the_router() {
    let node = Node::start().await;
    let call = Invocation::new("default/echo".parse().unwrap(), Bytes::new(), Instant::now() + LONG);
    assert_eq!(node.runtime.invoke(call).await.unwrap_err().code, ErrorCode::BadRequest);
    node.end().await;
}

#[tokio::test]
async fn shutdown_stops_what_runs_and_joins_every_thread() {
    let node = Node::start().await;
    let version = node.publish(slow("spin"), SPIN);
    let calls: Vec<_> = (0..3).map(|_| node.spawn(version, LONG)).collect();
    node.running(3).await;
    let runtime = node.runtime.clone();
    node.end().await;
    for call in calls {
        let failure = call.await.unwrap().unwrap_err();
        assert_eq!(failure.code, ErrorCode::Unavailable, "{failure}");
    }
    assert!(runtime.shared.tasks.is_empty());
    runtime.shutdown(Instant::now()).await;
    let refused = runtime.invoke(invocation(version, b"", LONG)).await.unwrap_err();
    assert_eq!((refused.code, refused.progress), (ErrorCode::Draining, Progress::NotExecuted));
}

/// Echoes; but sleeps for 30 ms first if the payload begins with `s`, and never ends if it begins with `l`.
const MOODY: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start")
    (i32.store (i32.const 0) (i32.const 1024))
    (i32.store (i32.const 4) (i32.const 4096))
    (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
    (if (i32.eq (i32.load8_u (i32.const 1024)) (i32.const 108)) (then (loop $l (br $l))))
    (if (i32.eq (i32.load8_u (i32.const 1024)) (i32.const 115)) (then
      (i32.store (i32.const 144) (i32.const 1))
      (i64.store (i32.const 152) (i64.const 30000000))
      (drop (call $poll (i32.const 128) (i32.const 256) (i32.const 1) (i32.const 320)))))
    (i32.store (i32.const 4) (i32.load (i32.const 8)))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 12)))))"#;

/// Calls until the version runs briefly: a busy machine may take more runs to show that it is short.
async fn until_brief(node: &Node, version: VersionId) {
    let give_up = Instant::now() + LONG;
    loop {
        assert_eq!(node.call(version, b"x").await.unwrap().payload, &b"x"[..]);
        let activation = node.runtime.shared.table.find(version).unwrap();
        if activation.brevity.is_granted() {
            return;
        }
        assert!(Instant::now() < give_up, "it never runs briefly");
    }
}

#[tokio::test]
async fn a_short_function_runs_where_it_arrives_and_nobody_can_tell() {
    let node = Node::start().await;
    let version = node.publish(manifest("moody"), MOODY);
    until_brief(&node, version).await;
    let activation = node.runtime.shared.table.find(version).unwrap();
    let calls = activation.status().calls;
    for _ in 0..50 {
        let reply = node.call(version, b"abc").await.unwrap();
        assert_eq!((&reply.payload[..], reply.start), (&b"abc"[..], Start::Warm));
    }
    assert_eq!((activation.status().calls, activation.status().in_flight), (calls + 50, 0));
    node.end().await;
}

#[tokio::test]
async fn a_brief_run_that_waits_or_goes_on_begins_again_elsewhere() {
    let node = Node::start().await;
    let version = node.publish(manifest("moody"), MOODY);
    until_brief(&node, version).await;
    let activation = node.runtime.shared.table.find(version).unwrap();
    let reply = node.call(version, b"sleep").await.unwrap();
    assert_eq!(&reply.payload[..], b"sleep");
    assert!(reply.usage.run_us >= 30_000, "it slept, on a thread of its own: {:?}", reply.usage);
    assert!(!activation.brevity.is_granted(), "it is barred for a while");
    assert_eq!(node.call(version, b"x").await.unwrap().payload, &b"x"[..]);

    let other = node.publish(manifest("other"), MOODY);
    until_brief(&node, other).await;
    let failure = node.runtime.invoke(invocation(other, b"loop", SHORT)).await.unwrap_err();
    assert_eq!((failure.code, failure.progress), (ErrorCode::DeadlineExceeded, Progress::Executed));
    assert_eq!(node.call(other, b"x").await.unwrap().payload, &b"x"[..]);
    node.end().await;
}
