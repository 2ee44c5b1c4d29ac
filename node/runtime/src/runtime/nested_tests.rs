//! Guests that call others: the runtime with the real engine, guests that import the module `skein`, and a router that
//! only resolves names.

use std::{
    collections::BTreeMap,
    sync::{Mutex, atomic::AtomicUsize},
};

use skein_engine::{Asked, HttpRequest, HttpResponse};
use skein_proto::{AppName, FunctionRef, Grants, Progress};

use tokio::task::JoinSet;

use super::tests::{LONG, Node, eventually, invocation, slow};
use super::*;
use crate::testing::{ASK, DOWN, ECHO, FAN, FETCH, HOG, NAP, SPIN, manifest};

/// Stands for the router: resolves names, and keeps what passes.
struct Names {
    runtime: Runtime,
    known: Mutex<BTreeMap<String, VersionId>>,
    passed: Mutex<Vec<Invocation>>,
    taken_back: Arc<AtomicUsize>,
}

/// Counts a call that was dropped before its answer.
struct Passing(Arc<AtomicUsize>, bool);

impl Drop for Passing {
    fn drop(&mut self) {
        if !self.1 {
            self.0.fetch_add(1, SeqCst);
        }
    }
}

#[async_trait]
impl Invoke for Names {
    async fn invoke(&self, invocation: Invocation) -> Result<Reply, Failure> {
        let InvocationTarget::Reference(reference) = &invocation.target else { panic!("a guest names functions") };
        let version = self.known.lock().unwrap().get(&reference.function()).copied();
        let version = version.ok_or_else(|| Failure::not_executed(ErrorCode::FunctionNotFound, "no such function"))?;
        self.passed.lock().unwrap().push(invocation.clone());
        let mut passing = Passing(self.taken_back.clone(), false);
        let target = InvocationTarget::Version(version);
        let outcome = self.runtime.invoke(Invocation { target, ..invocation }).await;
        passing.1 = true;
        outcome
    }
}

/// Answers with the URL.
struct Mirror;

impl Egress for Mirror {
    fn send(&self, request: HttpRequest, _: &AppName, _: &Grants, _: Instant) -> Asked<HttpResponse> {
        Box::pin(async move {
            // tidy: sleeps because a request takes time, during which its guest waits.
            tokio::time::sleep(Duration::from_millis(1)).await;
            Ok(HttpResponse { status: 200, headers: vec![("a".into(), "b".into())], body: request.url.into() })
        })
    }
}

pub(super) struct Bench {
    pub(super) node: Node,
    names: Arc<Names>,
}

impl Bench {
    pub(super) async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let node = Node::with(change).await;
        let runtime = node.runtime.clone();
        let names =
            Arc::new(Names { runtime, known: Mutex::default(), passed: Mutex::default(), taken_back: Arc::default() });
        let invoke: Arc<dyn Invoke> = names.clone();
        node.runtime.connect(&invoke, Some(Arc::new(Mirror)));
        Self { node, names }
    }

    pub(super) fn publish(
        &self,
        name: &str,
        guest: &str,
        change: impl FnOnce(&mut skein_proto::Manifest),
    ) -> VersionId {
        let mut manifest = slow(name);
        manifest.grants.invoke = vec!["*".into()];
        change(&mut manifest);
        let version = self.node.publish(manifest, guest);
        self.names.known.lock().unwrap().insert(format!("default/{name}"), version);
        version
    }

    pub(super) async fn text(&self, version: VersionId, payload: &'static [u8]) -> String {
        let reply = self.node.call(version, payload).await.unwrap();
        String::from_utf8(reply.payload.to_vec()).unwrap()
    }

    fn passed(&self) -> Vec<Invocation> {
        self.names.passed.lock().unwrap().clone()
    }
}

#[tokio::test]
async fn a_nested_call_is_one_deeper_in_the_same_trace_and_within_the_deadline() {
    let bench = Bench::with(|_| {}).await;
    bench.publish("echo", ECHO, |_| {});
    let ask = bench.publish("ask", ASK, |_| {});
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let mut call = invocation(ask, b"default/echo", Duration::from_secs(20));
    (call.depth, call.chain) = (1, vec!["default/first".into()]);
    (call.traceparent, call.is_idempotent) = (Some(format!("00-{trace}-00f067aa0ba902b7-01").into()), true);
    let deadline = call.deadline;
    let reply = bench.node.runtime.invoke(call).await.unwrap();
    assert_eq!(reply.payload.as_ref(), b"default/echo");
    assert!(reply.usage.outbound == 1 && reply.usage.wait_us > 0, "{:?}", reply.usage);
    assert!(reply.usage.wait_us <= reply.usage.run_us, "{:?}", reply.usage);
    let nested = bench.passed().remove(0);
    assert_eq!((nested.depth, nested.chain), (2, vec!["default/first".to_owned(), "default/ask".to_owned()]));
    assert!(nested.is_idempotent && nested.deadline <= deadline);
    let parent = nested.traceparent.unwrap();
    assert!(parent.starts_with(&format!("00-{trace}-")) && !parent.contains("00f067aa0ba902b7"), "{parent}");
    bench.node.end().await;
}

#[tokio::test]
async fn what_is_not_granted_is_refused_by_name() {
    let bench = Bench::with(|_| {}).await;
    bench.publish("echo", ECHO, |_| {});
    let none = bench.publish("none", ASK, |manifest| manifest.grants.invoke.clear());
    let answer = bench.text(none, b"default/echo").await;
    assert!(answer.contains("not-granted") && answer.contains("default/echo"), "{answer}");
    let fetch = bench.publish("fetch", FETCH, |manifest| manifest.grants.http = vec!["https://a.example".into()]);
    let answer = bench.text(fetch, b"GET https://a.example/x\n").await;
    assert_eq!(answer, "200\na: b\n\nhttps://a.example/x");
    let answer = bench.text(fetch, b"GET https://b.example/x\n").await;
    assert!(answer.contains("not-granted") && answer.contains("https://b.example"), "{answer}");
    assert!(bench.passed().is_empty());
    bench.node.end().await;
}

#[tokio::test]
async fn a_function_that_calls_itself_for_ever_is_told_of_its_loop() {
    let bench = Bench::with(|config| (config.threads_max, config.waiting_max) = (1, 2)).await;
    let ask = bench.publish("ask", ASK, |manifest| manifest.limits.concurrency = 1);
    let answer = bench.text(ask, b"default/ask").await;
    assert!(answer.contains("limit-exceeded") && answer.contains("default/ask → default/ask"), "{answer}");
    assert_eq!(bench.passed().len(), usize::from(Invocation::DEPTH_MAX));
    bench.node.end().await;
}

#[tokio::test]
async fn concurrent_chains_through_one_small_node_all_end() {
    let bench = Bench::with(|config| (config.threads_max, config.waiting_max) = (2, 24)).await;
    let down = bench.publish("down", DOWN, |manifest| manifest.limits.concurrency = 64);
    let mut calls = JoinSet::new();
    for _ in 0..64 {
        let runtime = bench.node.runtime.clone();
        calls.spawn(async move { runtime.invoke(invocation(down, b"12345678", LONG)).await });
    }
    let mut bottoms = 0;
    while let Some(call) = calls.join_next().await {
        match call.unwrap() {
            Ok(reply) if reply.payload.as_ref() == b"bottom" => bottoms += 1,
            Ok(reply) => {
                let text = String::from_utf8_lossy(&reply.payload).into_owned();
                assert!(text.contains("overloaded"), "{text}");
            }
            Err(failure) => assert_eq!(failure.code, ErrorCode::Overloaded, "{failure}"),
        }
    }
    assert!(bottoms > 0, "some chain goes all the way down");
    println!("{bottoms} of 64 chains of 9 went all the way down through 2 slots and 24 places");
    eventually(|| bench.node.runtime.load().in_flight == 0).await;
    bench.node.end().await;
}

#[tokio::test]
async fn chains_of_a_busy_function_wait_their_turn_and_succeed() {
    let bench = Bench::with(|_| {}).await;
    let down = bench.publish("down", DOWN, |manifest| manifest.limits.concurrency = 8);
    let mut calls = JoinSet::new();
    for _ in 0..16 {
        let runtime = bench.node.runtime.clone();
        calls.spawn(async move { runtime.invoke(invocation(down, b"12345678", LONG)).await });
    }
    while let Some(call) = calls.join_next().await {
        assert_eq!(call.unwrap().unwrap().payload.as_ref(), b"bottom");
    }
    bench.node.end().await;
}

#[tokio::test]
async fn two_functions_that_call_each_other_do_not_lock_up() {
    let bench = Bench::with(|_| {}).await;
    let other = |name: &str, to: &str, bench: &Bench| {
        let guest = DOWN.replace("default/down", to);
        bench.publish(name, &guest, |manifest| manifest.limits.concurrency = 1)
    };
    let (ping, pong) = (other("ping", "default/pong", &bench), other("pong", "default/ping", &bench));
    let calls = [ping, pong].map(|version| {
        let runtime = bench.node.runtime.clone();
        tokio::spawn(async move { runtime.invoke(invocation(version, b"123456", LONG)).await })
    });
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap().payload.as_ref(), b"bottom");
    }
    bench.node.end().await;
}

#[tokio::test]
async fn a_guest_may_wait_for_several_at_once() {
    let bench = Bench::with(|_| {}).await;
    bench.publish("echo", ECHO, |_| {});
    let fan = bench.publish("fan", FAN, |_| {});
    assert_eq!(bench.text(fan, b"abcdefgh").await, "abcdefgh".repeat(8));
    bench.node.end().await;
}

#[tokio::test]
async fn what_a_guest_has_started_goes_on_and_frees_its_permits_while_the_guest_computes() {
    let bench = Bench::with(|_| {}).await;
    let nap = NAP.replace("600000000000", "200000000");
    let slow = bench.publish("slow", &nap, |manifest| manifest.limits.concurrency = 1);
    let (echo, hog) = (bench.publish("echo", ECHO, |_| {}), bench.publish("hog", HOG, |_| {}));
    // Ready, so that the answer that the hog waits for comes before all others.
    bench.text(slow, b"").await;
    bench.text(echo, b"").await;
    let runtime = bench.node.runtime.clone();
    let computes = tokio::spawn(async move { runtime.invoke(invocation(hog, b"", LONG)).await });
    eventually(|| bench.passed().len() == 7).await;
    // Those that run are followed by those in line, though nobody asks for an answer any more.
    eventually(|| bench.node.runtime.line(slow).is_some_and(|line| line.queued == 0)).await;
    let calls = || bench.node.runtime.activations().iter().map(|one| one.in_flight).sum::<u32>();
    eventually(|| calls() == 1).await;
    bench.text(slow, b"").await;
    assert!(!computes.is_finished());
    computes.abort();
    bench.node.busy(0, 0).await;
    bench.node.end().await;
}

#[tokio::test]
async fn what_a_guest_has_started_ends_with_it() {
    let bench = Bench::with(|_| {}).await;
    let slow = bench.publish("slow", NAP, |manifest| manifest.limits.concurrency = 1);
    let (echo, hog) = (bench.publish("echo", ECHO, |_| {}), bench.publish("hog", HOG, |_| {}));
    bench.text(echo, b"").await;
    bench.node.runtime.prepare(slow, Instant::now() + LONG).await.unwrap();
    let runtime = bench.node.runtime.clone();
    let computes = tokio::spawn(async move { runtime.invoke(invocation(hog, b"", LONG)).await });
    eventually(|| bench.passed().len() == 7 && bench.node.runtime.shared.executor.waiting() > 0).await;
    computes.abort();
    bench.node.busy(0, 0).await;
    eventually(|| bench.names.taken_back.load(SeqCst) > 0).await;
    bench.node.end().await;
}

#[tokio::test]
async fn stopping_the_outer_call_stops_the_inner_one() {
    let bench = Bench::with(|_| {}).await;
    bench.publish("spin", SPIN, |_| {});
    let ask = bench.publish("ask", ASK, |_| {});
    let runtime = bench.node.runtime.clone();
    let call = tokio::spawn(async move { runtime.invoke(invocation(ask, b"default/spin", LONG)).await });
    bench.node.running(2).await;
    assert_eq!(bench.node.runtime.shared.executor.waiting(), 1);
    call.abort();
    bench.node.busy(0, 0).await;
    assert_eq!(bench.names.taken_back.load(SeqCst), 1);
    // By its deadline, too.
    let limited = bench.publish("limited", ASK, |manifest| manifest.limits.deadline_ms = 200);
    bench.node.runtime.prepare(limited, Instant::now() + LONG).await.unwrap();
    let failure = bench.node.call(limited, b"default/spin").await.unwrap_err();
    assert_eq!((failure.code, failure.progress), (ErrorCode::DeadlineExceeded, Progress::Executed), "{failure}");
    bench.node.busy(0, 0).await;
    bench.node.end().await;
}

#[tokio::test]
async fn without_a_place_to_wait_a_request_is_refused_and_the_guest_goes_on() {
    let bench = Bench::with(|config| config.waiting_max = 1).await;
    bench.publish("spin", SPIN, |_| {});
    let ask = bench.publish("ask", ASK, |_| {});
    let runtime = bench.node.runtime.clone();
    let first = tokio::spawn(async move { runtime.invoke(invocation(ask, b"default/spin", LONG)).await });
    bench.node.running(2).await;
    let answer = bench.text(ask, b"default/spin").await;
    assert!(answer.contains("overloaded") && answer.contains("wait for others"), "{answer}");
    first.abort();
    bench.node.end().await;
}

#[tokio::test]
async fn a_sleeping_guest_leaves_its_slot_to_others() {
    let bench = Bench::with(|config| config.threads_max = 1).await;
    let (nap, echo) = (bench.publish("nap", NAP, |_| {}), bench.publish("echo", ECHO, |_| {}));
    let runtime = bench.node.runtime.clone();
    let napping = tokio::spawn(async move { runtime.invoke(invocation(nap, b"", LONG)).await });
    eventually(|| bench.node.runtime.shared.executor.waiting() == 1).await;
    assert_eq!(bench.text(echo, b"meanwhile").await, "meanwhile");
    napping.abort();
    bench.node.busy(0, 0).await;
    bench.node.end().await;
}

/// The memory and mappings of this process, as the kernel counts them.
fn process() -> (u64, usize, usize) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.split_whitespace().next().unwrap().parse::<u64>().unwrap()
    };
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap().lines().count();
    (field("RssAnon:"), maps, usize::try_from(field("Threads:")).unwrap())
}

/// `cargo test -p skein-runtime --release -- --ignored --nocapture memory_of`
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement: prints what 4,000 waiting guests cost"]
async fn memory_of_4000_waiting_guests() {
    const VERSIONS: usize = 8;
    const EACH: usize = 500;
    let bench = Bench::with(|config| (config.thread_idle_ms, config.waiting_max) = (100, 4_200)).await;
    let versions: Vec<_> = (0..VERSIONS)
        .map(|i| bench.publish(&format!("nap{i}"), NAP, |manifest| manifest.limits.concurrency = 512))
        .collect();
    for version in &versions {
        bench.node.runtime.prepare(*version, Instant::now() + LONG).await.unwrap();
    }
    let before = process();
    let began = Instant::now();
    let mut calls = JoinSet::new();
    for version in versions.iter().cycle().take(VERSIONS * EACH) {
        let (runtime, version) = (bench.node.runtime.clone(), *version);
        // As if others had called them: calls from outside take no more than three quarters of the places.
        let call = Invocation { depth: 1, ..invocation(version, b"", LONG) };
        calls.spawn(async move { runtime.invoke(call).await });
    }
    eventually(|| bench.node.runtime.shared.executor.waiting() == VERSIONS * EACH).await;
    let (rose, after) = (began.elapsed(), process());
    let guests = VERSIONS * EACH;
    println!(
        "{guests} waiting guests after {rose:?}: {} KiB each, {} maps each ({} in all), {} threads",
        (after.0 - before.0) / guests as u64,
        (after.1 - before.1) / guests,
        after.1,
        after.2
    );
    let began = Instant::now();
    calls.abort_all();
    while calls.join_next().await.is_some() {}
    bench.node.busy(0, 0).await;
    println!("all stopped after {:?}", began.elapsed());
    eventually(|| bench.node.runtime.shared.executor.threads() == 0).await;
    let left = process();
    println!("then: {} KiB more than before, {} maps, {} threads", left.0.saturating_sub(before.0), left.1, left.2);
    bench.node.end().await;
}

#[tokio::test]
async fn an_instance_that_served_before_is_told_as_reused() {
    const REACTOR: &str =
        r#"(module (memory (export "memory") 1) (func (export "_initialize")) (func (export "handle")))"#;
    let node = Node::start().await;
    let mut reusing = manifest("reactor");
    reusing.instance = skein_proto::InstancePolicy::Reuse;
    let version = node.publish(reusing, REACTOR);
    let mut starts = Vec::new();
    for _ in 0..3 {
        starts.push(node.call(version, b"").await.unwrap().start);
    }
    assert_eq!(starts, [Start::Cold, Start::Reused, Start::Reused]);
    let fresh = node.publish(manifest("fresh"), REACTOR);
    node.call(fresh, b"").await.unwrap();
    assert_eq!(node.call(fresh, b"").await.unwrap().start, Start::Warm);
    node.end().await;
}

#[tokio::test]
async fn a_runtime_without_a_router_refuses_by_name() {
    let node = Node::start().await;
    let mut asking = manifest("ask");
    asking.grants.invoke = vec!["*".into()];
    let ask = node.publish(asking, ASK);
    let reply = node.call(ask, b"default/echo").await.unwrap();
    let text = String::from_utf8_lossy(&reply.payload).into_owned();
    assert!(text.contains("unavailable") && text.contains("still starting"), "{text}");
    assert!("default/echo".parse::<FunctionRef>().is_ok());
    node.end().await;
}
