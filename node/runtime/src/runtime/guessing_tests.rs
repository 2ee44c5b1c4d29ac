//! Versions that are started before anybody calls them.

use std::sync::Mutex;

use super::{
    nested_tests::Bench,
    tests::{LONG, Node, eventually},
    *,
};
use crate::testing::{ASK, ECHO, SPIN, manifest};

impl Node {
    /// A version whose code is compiled here and that is not live.
    async fn prepared(&self, name: &str, change: impl FnOnce(&mut skein_proto::Manifest)) -> VersionId {
        let mut manifest = manifest(name);
        change(&mut manifest);
        let version = self.publish(manifest, ECHO);
        self.runtime.prepare(version, Instant::now() + LONG).await.unwrap();
        version
    }

    async fn prewarm(&self, version: VersionId) -> bool {
        self.runtime.prewarm(version, Instant::now() + LONG).await
    }
}

#[tokio::test]
async fn the_first_call_of_a_guess_is_warm_and_says_so_and_the_guess_is_no_use() {
    let node = Node::start().await;
    let version = node.prepared("echo", |_| {}).await;
    assert!(node.prewarm(version).await);
    let status = &node.runtime.activations()[0];
    assert_eq!((status.state, status.calls), (ActivationState::Ready, 0));
    assert!(!node.prewarm(version).await, "it is there already");
    let replies = [node.call(version, b"x").await.unwrap(), node.call(version, b"x").await.unwrap()];
    assert_eq!(replies.each_ref().map(|reply| reply.start), [Start::Warm, Start::Warm]);
    assert_eq!(replies.each_ref().map(|reply| reply.usage.is_foreseen), [true, false]);
    node.end().await;
}

#[tokio::test]
async fn nothing_is_compiled_kept_waiting_or_started_against_its_settings_for_a_guess() {
    let node = Node::with(|config| config.prefetch_parallel = 1).await;
    node.store.hold();
    let uncompiled = node.publish(manifest("uncompiled"), ECHO);
    assert!(!node.prewarm(uncompiled).await);
    node.end().await;
    let node = Node::start().await;
    let fleeting = node.prepared("fleeting", |manifest| manifest.scale.idle_ms = 0).await;
    assert!(!node.prewarm(fleeting).await, "it is not to stay without calls");
    let moved = node.prepared("moved", |_| {}).await;
    node.call(moved, b"x").await.unwrap();
    node.runtime.release(moved, NodeId(3), LONG).await.unwrap();
    eventually(|| node.runtime.activations().is_empty()).await;
    assert!(!node.prewarm(moved).await, "its calls go elsewhere");
    assert!(node.runtime.activations().is_empty());
    node.end().await;
}

#[tokio::test]
async fn a_node_whose_cores_are_taken_or_that_drains_starts_nothing_on_a_guess() {
    let node = Node::start().await;
    let echo = node.prepared("echo", |_| {}).await;
    let spin = node.publish(super::tests::slow("spin"), SPIN);
    let cores = thread_count();
    let spins: Vec<_> = (0..=cores)
        .map(|_| {
            let runtime = node.runtime.clone();
            tokio::spawn(async move { runtime.invoke(super::tests::invocation(spin, b"", LONG)).await })
        })
        .collect();
    node.running(cores + 1).await;
    assert!(!node.prewarm(echo).await);
    spins.iter().for_each(|spin| spin.abort());
    node.running(0).await;
    assert!(node.runtime.drain(Instant::now() + LONG).await);
    assert!(!node.prewarm(echo).await);
    node.end().await;
}

fn thread_count() -> usize {
    std::thread::available_parallelism().unwrap().get()
}

#[tokio::test]
async fn a_guess_leaves_before_all_others_and_soon_if_nobody_calls_it() {
    let node = Node::start().await;
    let called = node.prepared("called", |_| {}).await;
    node.call(called, b"x").await.unwrap();
    let guess = node.prepared("guess", |_| {}).await;
    assert!(node.prewarm(guess).await);
    node.evictable(2).await;
    assert!(node.evict(1).await > 0);
    let left: Vec<_> = node.runtime.activations().iter().map(|activation| activation.version).collect();
    assert_eq!(left, [called]);
    let brief = node.prepared("brief", |manifest| manifest.scale.idle_ms = 20).await;
    assert!(node.prewarm(brief).await);
    eventually(|| node.runtime.load().activations == 1).await;
    node.end().await;
}

#[tokio::test]
async fn what_a_function_called_before_is_wanted_when_a_call_starts_it_and_never_else() {
    let bench = Bench::with(|_| {}).await;
    let wanted: Arc<Mutex<Vec<VersionId>>> = Arc::default();
    let told = wanted.clone();
    bench.node.runtime.foresee(move |version| told.lock().unwrap().push(version));
    let idle = |manifest: &mut skein_proto::Manifest| manifest.scale.idle_ms = 20;
    let echo = bench.publish("echo", ECHO, idle);
    let ask = bench.publish("ask", ASK, idle);
    let gone = || async { eventually(|| bench.node.runtime.activations().is_empty()).await };
    assert_eq!(bench.text(ask, b"default/echo").await, "default/echo");
    gone().await;
    assert!(wanted.lock().unwrap().is_empty(), "nothing was known");
    bench.node.runtime.warm(ask, Instant::now() + LONG).await.unwrap();
    gone().await;
    assert!(wanted.lock().unwrap().is_empty(), "nobody called it");
    assert_eq!(bench.text(ask, b"default/echo").await, "default/echo");
    eventually(|| *wanted.lock().unwrap() == [echo]).await;
    bench.node.end().await;
}
