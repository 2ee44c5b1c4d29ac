//! What a node does when its memory is short. The budgets here are far beyond what the process has, and used up by rooms
//! that nothing is in: how much the process holds is not a test's to know among others.

use skein_proto::{Manifest, Progress};

use super::{
    tests::{LONG, Node, eventually, slow},
    *,
};
use crate::testing::{ECHO, SPIN, manifest};

/// Half of what can be counted.
const BUDGET: u64 = u64::MAX / 2;

/// Begins with a memory of 1 GiB, of which nothing is touched: what other tests of this process give back meanwhile is
/// less.
const WIDE: &str = r#"(module (memory (export "memory") 16384) (func (export "_start")))"#;

fn wide(name: &str) -> Manifest {
    let mut manifest = manifest(name);
    manifest.limits.memory_bytes = 1 << 30;
    manifest
}

impl Node {
    pub(super) async fn evict(&self, wanted: u64) -> u64 {
        match self.runtime.shared.supervisor.call(|reply| supervisor::Message::Evict(wanted, reply), Some(LONG)).await {
            Ok(CallResult::Success(bytes)) => bytes,
            other => panic!("{other:?}"),
        }
    }

    /// Waits until so many activations may leave.
    pub(super) async fn evictable(&self, count: usize) {
        let table = &self.runtime.shared.table;
        eventually(|| table.all().iter().filter(|activation| activation.is_evictable()).count() == count).await;
    }

    /// Sets all memory aside that there is to begin with.
    fn fill(&self) -> Room {
        self.engine.observe();
        let left = |short: skein_engine::NoRoom| short.wanted - short.missing;
        self.engine.room(self.engine.room(BUDGET).map_or_else(left, |_| 0)).unwrap()
    }
}

#[tokio::test]
async fn an_evicted_version_answers_again_and_is_cold() {
    let node = Node::start().await;
    let versions: Vec<_> = (0..3).map(|i| node.publish(manifest(&format!("echo{i}")), ECHO)).collect();
    for version in &versions {
        node.call(*version, b"x").await.unwrap();
    }
    node.evictable(3).await;
    assert!(node.evict(1).await > 0);
    assert_eq!(node.runtime.load().activations, 2, "no more than needed leave");
    assert!(node.evict(u64::MAX).await > 0);
    assert_eq!(node.runtime.load().activations, 0);
    assert_eq!(node.evict(1).await, 0, "nobody is left");
    for version in &versions {
        let reply = node.call(*version, b"again").await.unwrap();
        assert_eq!((reply.payload.as_ref(), reply.start), (&b"again"[..], Start::Cold));
    }
    node.end().await;
}

#[tokio::test]
async fn a_version_with_a_call_is_not_evicted() {
    let node = Node::start().await;
    let (busy, idle) = (node.publish(slow("busy"), SPIN), node.publish(manifest("idle"), ECHO));
    let runtime = node.runtime.clone();
    let call = tokio::spawn(async move { runtime.invoke(super::tests::invocation(busy, b"", LONG)).await });
    node.running(1).await;
    node.call(idle, b"x").await.unwrap();
    node.evictable(1).await;
    node.evict(u64::MAX).await;
    let left: Vec<_> = node.runtime.activations().iter().map(|activation| activation.version).collect();
    assert_eq!(left, [busy]);
    call.abort();
    node.end().await;
}

#[tokio::test]
async fn a_call_without_room_is_refused_before_it_begins_and_runs_when_there_is_some() {
    let node = Node::within(BUDGET, |_| {}).await;
    let version = node.publish(wide("wide"), WIDE);
    node.call(version, b"x").await.unwrap();
    let all = node.fill();
    let refused = node.call(version, b"x").await.unwrap_err();
    assert_eq!((refused.code, refused.progress), (ErrorCode::Overloaded, Progress::NotExecuted), "{refused:?}");
    assert!(refused.retry_after_ms.is_some() && refused.message.contains("--memory"), "{refused:?}");
    drop(all);
    // Its activation may have been let go of for the other call.
    node.call(version, b"x").await.unwrap();
    node.end().await;
}

#[tokio::test]
async fn a_call_waits_a_moment_for_room_that_others_give_back() {
    let node = Node::within(BUDGET, |_| {}).await;
    let all = node.fill();
    let rooms = node.runtime.shared.rooms.clone();
    let engine = node.engine.clone();
    let found = tokio::spawn(async move { rooms.find(|| engine.room(1 << 40), Instant::now() + LONG).await });
    drop(all);
    assert_eq!(found.await.unwrap().unwrap().bytes(), 1 << 40);
    node.end().await;
}

#[tokio::test]
async fn nothing_is_left_of_the_books_when_all_calls_are_over() {
    let node = Node::within(BUDGET, |_| {}).await;
    let version = node.publish(manifest("echo"), ECHO);
    for _ in 0..100 {
        node.call(version, b"x").await.unwrap();
    }
    eventually(|| {
        node.engine.observe();
        node.engine.memory().guests == 0
    })
    .await;
    node.end().await;
}

impl Node {
    fn keep(&self, version: VersionId, count: u32) {
        let record = self.runtime.shared.record(version, 0).unwrap();
        self.runtime.keep(Kept::from([(version, (record, count))]));
    }

    fn idle_instances(&self, version: VersionId) -> usize {
        let activation = self.runtime.shared.table.find(version);
        activation.and_then(|activation| activation.program()).map_or(0, |program| program.idle())
    }
}

#[tokio::test]
async fn what_is_kept_is_ready_without_a_call_and_stays() {
    let node = Node::with(|config| config.instance_idle_ms = 2).await;
    let mut kept = manifest("kept");
    kept.scale.idle_ms = 1;
    let mut other = kept.clone();
    other.name = "other".parse().unwrap();
    let (kept, other) = (node.publish(kept, ECHO), node.publish(other, ECHO));
    node.keep(kept, 3);
    eventually(|| node.idle_instances(kept) == 3).await;
    assert_eq!(node.call(kept, b"x").await.unwrap().start, Start::Warm, "the first call is not cold");
    node.call(other, b"x").await.unwrap();
    eventually(|| node.runtime.load().activations == 1).await;
    assert_eq!(node.idle_instances(kept), 3);
    // It leaves when nothing else is left to let go of, and comes back by itself.
    node.evictable(1).await;
    assert!(node.evict(1).await > 0);
    eventually(|| node.idle_instances(kept) == 3).await;
    node.runtime.keep(Kept::new());
    eventually(|| node.runtime.load().activations == 0).await;
    node.end().await;
}

#[tokio::test]
async fn what_is_kept_and_left_for_memory_comes_back_only_when_there_is_some_to_spare() {
    let node = Node::within(BUDGET, |config| config.idle_tick_ms = 3_600_000).await;
    let versions = [node.publish(manifest("one"), ECHO), node.publish(manifest("other"), ECHO)];
    let kept = versions.map(|version| (version, (node.runtime.shared.record(version, 0).unwrap(), 1)));
    node.runtime.keep(Kept::from(kept));
    let tick = || node.runtime.shared.supervisor.cast(supervisor::Message::Tick).unwrap();
    tick();
    node.evictable(2).await;
    let all = node.fill();
    // If the watch has not done so already.
    node.evict(u64::MAX).await;
    eventually(|| node.runtime.load().activations == 0).await;
    for _ in 0..3 {
        tick();
        // Whatever the tick began is in the table when this is answered.
        node.evict(0).await;
        assert_eq!(node.runtime.load().activations, 0, "nobody is driven out for it");
    }
    drop(all);
    eventually(|| {
        node.engine.observe();
        tick();
        node.runtime.load().activations == 2
    })
    .await;
    node.end().await;
}

#[tokio::test]
async fn what_is_kept_does_not_come_back_while_it_is_leaving() {
    let node = Node::within(BUDGET, |config| config.idle_tick_ms = 3_600_000).await;
    let version = node.publish(manifest("echo"), ECHO);
    node.keep(version, 1);
    let tick = || node.runtime.shared.supervisor.cast(supervisor::Message::Tick).unwrap();
    tick();
    node.evictable(1).await;
    let _all = node.fill();
    // The tick is there before the activation has heard that it is to end.
    tokio::join!(node.evict(u64::MAX), async { tick() });
    node.evict(0).await;
    assert_eq!(node.runtime.load().activations, 0, "nobody is driven out for it");
    node.end().await;
}

#[tokio::test]
async fn what_is_kept_leaves_after_what_is_not() {
    let node = Node::start().await;
    let (kept, other) = (node.publish(manifest("kept"), ECHO), node.publish(manifest("other"), ECHO));
    node.keep(kept, 1);
    for _ in 0..20 {
        node.call(other, b"x").await.unwrap();
    }
    eventually(|| node.idle_instances(kept) == 1).await;
    node.evictable(2).await;
    assert!(node.evict(1).await > 0);
    let left: Vec<_> = node.runtime.activations().iter().map(|activation| activation.version).collect();
    assert_eq!(left, [kept]);
    node.end().await;
}

#[tokio::test]
async fn what_idles_together_does_not_stop_all_at_once() {
    let node = Node::with(|config| config.idle_tick_ms = 3_600_000).await;
    for i in 0..40 {
        let mut manifest = manifest(&format!("echo{i}"));
        manifest.scale.idle_ms = 1;
        let version = node.publish(manifest, ECHO);
        node.call(version, b"x").await.unwrap();
    }
    node.evictable(40).await;
    let tick = || node.runtime.shared.supervisor.cast(supervisor::Message::Tick).unwrap();
    for left in [24, 8, 0] {
        tick();
        eventually(|| node.runtime.load().activations == left).await;
    }
    node.end().await;
}

#[tokio::test]
async fn no_more_calls_run_at_a_time_than_scale_max() {
    let node = Node::start().await;
    let mut manifest = slow("spin");
    manifest.scale.max = 1;
    let version = node.publish(manifest, SPIN);
    let call = |runtime: Runtime| {
        tokio::spawn(async move { runtime.invoke(super::tests::invocation(version, b"", LONG)).await })
    };
    let calls = [call(node.runtime.clone()), call(node.runtime.clone())];
    node.busy(1, 1).await;
    // What the others are told of the one that waits.
    eventually(|| node.runtime.load().queue_age_ms > 0).await;
    calls.iter().for_each(|call| call.abort());
    eventually(|| node.runtime.load().queue_age_ms == 0).await;
    node.end().await;
}
