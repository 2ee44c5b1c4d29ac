//! Whole clients against whole networks on the loopback; the functions behind them are fakes.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicBool, Ordering::SeqCst},
};

use bytes::Bytes;
use serde_json::{Value, json};
use skein_proto::{Digest, InvocationId, MeshId, NodeId, Progress};
use skein_transport::{Authority, Identity, Network, NetworkConfig, NodeKey, Service, Validity};
use tokio::net::UdpSocket;

use super::*;
use crate::{
    ContextNode,
    link::{Entry, Promise},
    server::{ClientService, NodesService},
    testing::{Functions, KEY, Keys},
    wire::NodeAddress,
};

struct Nodes {
    authority: Authority,
    keys: Arc<Keys>,
    nodes: Vec<(Network, Arc<Functions>)>,
}

impl Nodes {
    /// A mesh of so many nodes, numbered from 1, that do not know each other.
    async fn start(count: u64) -> Self {
        let mut mesh =
            Self { authority: Authority::found(MeshId::random()).unwrap(), keys: Arc::default(), nodes: Vec::new() };
        for node in 1..=count {
            mesh.add(node, "127.0.0.1:0").await;
        }
        mesh
    }

    async fn add(&mut self, node: u64, addr: &str) {
        let key = NodeKey::generate().unwrap();
        let signed = self.authority.sign(&key.request().unwrap(), NodeId(node), Validity::of_a_node()).unwrap();
        let identity = Identity::new(key, &signed, self.authority.certificate()).unwrap();
        let trust = Arc::new(|_: NodeId, _: Digest| true);
        let network = Network::bind(NetworkConfig::new(addr.parse().unwrap()), identity, trust).await.unwrap();
        let functions = Arc::new(Functions { node, ..Functions::default() });
        network.handle(Service::Client, Arc::new(ClientService::new(functions.clone(), self.keys.clone())));
        network.handle(Service::Nodes, Arc::new(NodesService::new(self.keys.clone())));
        network.start();
        self.nodes.push((network, functions));
    }

    fn context(&self) -> Context {
        let node = |(network, _): &(Network, Arc<Functions>)| {
            let (name, mesh) = (format!("node-{}", self.nodes.len()), network.local_addr().to_string());
            ContextNode { name, mesh, http: String::new(), admin: String::new() }
        };
        let ca = ca_pem(&self.authority);
        Context { mesh: "m".into(), ca, key: KEY.into(), nodes: self.nodes.iter().map(node).collect() }
    }

    fn entry(&self) -> Entry {
        Entry { pin: CaPin::from_pem(&ca_pem(&self.authority)).unwrap(), key: KEY.into() }
    }

    /// How many calls each node has seen.
    fn seen(&self) -> Vec<usize> {
        self.nodes.iter().map(|(_, functions)| functions.seen.lock().unwrap().len()).collect()
    }

    /// Ends a node; what it counted stays.
    async fn stop(&self, index: usize) {
        self.nodes[index].0.shutdown(Instant::now() + Duration::from_secs(20)).await;
    }
}

/// The certificate of an authority as a context has it.
fn ca_pem(authority: &Authority) -> String {
    let key = NodeKey::generate().unwrap();
    let signed = authority.sign(&key.request().unwrap(), NodeId(99), Validity::of_a_node()).unwrap();
    Identity::new(key, &signed, authority.certificate()).unwrap().ca_pem()
}

#[tokio::test]
async fn bytes_and_json_go_there_and_back() {
    let nodes = Nodes::start(1).await;
    let mesh = Mesh::connect(nodes.context()).await.unwrap();
    let traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let echo = mesh.function("echo").unwrap().header("X-Foo", "bar").deadline(Duration::MAX).traceparent(traceparent);
    let reply = echo.invoke("hi").await.unwrap();
    assert_eq!((reply.payload.as_ref(), reply.version, reply.node.as_str()), (&b"hi"[..], 4, "goose"));
    let seen = nodes.nodes[0].1.seen.lock().unwrap().pop().unwrap();
    assert_eq!(seen.traceparent.as_deref(), Some(traceparent));
    assert!(seen.remaining() <= DEADLINE_MAX);
    assert_eq!((seen.id, &seen.headers[..]), (reply.invocation, &[("X-Foo".to_owned(), "bar".to_owned())][..]));
    let value: Value = echo.call(&json!({"a": [1, 2]})).await.unwrap();
    assert_eq!(value, json!({"a": [1, 2]}));
    let failure = echo.invoke("no json").await.unwrap().json::<Value>().unwrap_err();
    assert_eq!((failure.code, failure.progress), (ErrorCode::Malformed, Progress::Executed));
    let large = Bytes::from(vec![7; 3 << 20]);
    assert_eq!(echo.invoke(large.clone()).await.unwrap().payload, large);
    mesh.close().await;
    nodes.stop(0).await;
}

#[tokio::test]
async fn more_calls_than_a_connection_has_streams_wait_their_turn() {
    let nodes = Nodes::start(1).await;
    let mesh = Mesh::connect(nodes.context()).await.unwrap();
    let echo = mesh.function("echo").unwrap().deadline(Duration::from_secs(60));
    let mut calls = JoinSet::new();
    for number in 0..200_u32 {
        let echo = echo.clone();
        calls.spawn(async move { (number, echo.call::<_, u32>(&number).await) });
    }
    while let Some(call) = calls.join_next().await {
        let (number, answer) = call.unwrap();
        assert_eq!(answer.unwrap(), number);
    }
}

#[tokio::test]
async fn what_speaks_of_the_call_is_answered_by_the_first_node() {
    let nodes = Nodes::start(2).await;
    let mesh = Mesh::connect(nodes.context()).await.unwrap();
    let failure = mesh.function("fail").unwrap().idempotent().invoke("").await.unwrap_err();
    assert_eq!((failure.code, failure.exit_code), (ErrorCode::FunctionFailed, Some(3)));
    let failure = mesh.function("missing").unwrap().invoke("").await.unwrap_err();
    assert_eq!(failure.code, ErrorCode::FunctionNotFound);
    assert_eq!(nodes.seen(), [2, 0]);
    let other = Mesh::connect(Context { key: "sk_other".into(), ..nodes.context() }).await.unwrap();
    let failure = other.function("echo").unwrap().invoke("").await.unwrap_err();
    assert_eq!((failure.code, failure.progress), (ErrorCode::Unauthenticated, Progress::NotExecuted));
    assert_eq!(nodes.seen(), [2, 0]);
}

#[tokio::test]
async fn another_node_is_asked_when_one_is_leaving_or_gone() {
    let nodes = Nodes::start(2).await;
    let mesh = Mesh::connect(nodes.context()).await.unwrap();
    let failure = mesh.function("draining").unwrap().invoke("").await.unwrap_err();
    assert_eq!((failure.code, failure.progress), (ErrorCode::Draining, Progress::NotExecuted));
    assert_eq!(nodes.seen(), [1, 1]);
    nodes.stop(0).await;
    let reply = mesh.function("echo").unwrap().idempotent().invoke("hi").await.unwrap();
    assert_eq!(reply.node, "2");
    let fresh = Mesh::connect(nodes.context()).await.unwrap();
    assert_eq!(fresh.function("echo").unwrap().invoke("hi").await.unwrap().node, "2");
    nodes.stop(1).await;
    let failure = fresh.function("echo").unwrap().deadline(Duration::from_millis(300)).invoke("hi").await.unwrap_err();
    assert_eq!(failure.code, ErrorCode::Unreachable, "{failure:?}");
}

#[tokio::test]
async fn a_node_that_returns_is_found_again() {
    let mut nodes = Nodes::start(1).await;
    let context = nodes.context();
    let mesh = Mesh::connect(context.clone()).await.unwrap();
    nodes.stop(0).await;
    // Its socket closes with the last handle.
    nodes.nodes.clear();
    nodes.add(1, &context.nodes[0].mesh).await;
    let echo = mesh.function("echo").unwrap().idempotent();
    let mut reply = echo.invoke("hi").await;
    while let Err(failure) = reply {
        assert_ne!(failure.progress, Progress::Executed, "{failure}");
        tokio::time::sleep(Duration::from_millis(20)).await;
        reply = echo.invoke("hi").await;
    }
    assert_eq!(nodes.seen(), [1]);
}

#[tokio::test]
async fn a_node_that_does_not_answer_is_given_up_at_the_deadline() {
    let nodes = Nodes::start(1).await;
    let mesh = Mesh::connect(nodes.context()).await.unwrap();
    let hang = mesh.function("hang").unwrap().deadline(Duration::from_millis(50));
    let failure = hang.invoke("").await.unwrap_err();
    assert_eq!((failure.code, failure.progress), (ErrorCode::DeadlineExceeded, Progress::MaybeExecuted), "{failure}");
    assert_eq!(mesh.function("echo").unwrap().invoke("hi").await.unwrap().node, "goose");
}

#[tokio::test]
async fn a_node_of_another_mesh_is_untrusted() {
    let nodes = Nodes::start(1).await;
    let other = Authority::found(MeshId::random()).unwrap();
    let context = Context { ca: ca_pem(&other), ..nodes.context() };
    let failure = Mesh::connect(context).await.err().unwrap();
    assert_eq!((failure.code, failure.progress), (ErrorCode::Untrusted, Progress::NotExecuted), "{failure}");
    let context = Context { ca: "not a certificate".into(), ..nodes.context() };
    assert_eq!(Mesh::connect(context).await.err().unwrap().code, ErrorCode::Untrusted);
    let context = Context { nodes: Vec::new(), ..nodes.context() };
    assert_eq!(Mesh::connect(context).await.err().unwrap().code, ErrorCode::BadRequest);
}

#[tokio::test]
async fn calls_by_version_id_are_not_for_clients() {
    let nodes = Nodes::start(1).await;
    let mesh = Mesh::connect(nodes.context()).await.unwrap();
    let version = skein_proto::VersionId { function: skein_proto::FunctionId(1), number: 1 };
    let named = Invocation::new("echo".parse().unwrap(), Bytes::new(), Instant::now() + CONNECT_MAX);
    let invocation = Invocation { target: InvocationTarget::Version(version), ..named };
    assert_eq!(mesh.invoke(invocation).await.unwrap_err().code, ErrorCode::BadRequest);
    assert!(mesh.function("a/b/c").is_err());
}

/// A wire between a client and a node that can be cut.
struct Wire {
    addr: SocketAddr,
    is_cut: Arc<AtomicBool>,
    /// While it is cut new connections pass: as if what is on the way had forgotten the old ones.
    forgets: Arc<AtomicBool>,
    _task: JoinSet<()>,
}

impl Wire {
    /// Passes on what comes here to `to`, and back what comes from there.
    async fn to(to: SocketAddr) -> Self {
        let bind = || UdpSocket::bind("127.0.0.1:0");
        let (near, far) = (bind().await.unwrap(), bind().await.unwrap());
        far.connect(to).await.unwrap();
        let (addr, mut task) = (near.local_addr().unwrap(), JoinSet::new());
        let (is_cut, forgets) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
        let (cut, forgotten) = (is_cut.clone(), forgets.clone());
        task.spawn(async move {
            let (mut there, mut back, mut from, mut first) = ([0; 2048], [0; 2048], None, None);
            loop {
                tokio::select! {
                    Ok((bytes, sender)) = near.recv_from(&mut there) => {
                        // Each connection has a socket of its own.
                        let is_first = *first.get_or_insert(sender) == sender;
                        if cut.load(SeqCst) && (is_first || !forgotten.load(SeqCst)) {
                            continue;
                        }
                        from = Some(sender);
                        let _ = far.send(&there[..bytes]).await;
                    }
                    Ok(bytes) = far.recv(&mut back) => if let Some(from) = from {
                        let passes = !cut.load(SeqCst) || (from != first.unwrap_or(from) && forgotten.load(SeqCst));
                        if passes {
                            let _ = near.send_to(&back[..bytes], from).await;
                        }
                    },
                }
            }
        });
        Self { addr, is_cut, forgets, _task: task }
    }
}

/// Waits until what should come true has.
async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let wait = async {
        while !is_so() {
            // tidy: sleeps because it looks again
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("{what} did not come true"));
}

/// Longer than anything here takes, on a machine that does much else, and much shorter than the calls' deadlines.
const PATIENCE: Duration = Duration::from_secs(20);
const LONG: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_dies_costs_its_callers_a_moment_and_not_their_deadlines() {
    let nodes = Nodes::start(2).await;
    let wire = Wire::to(nodes.nodes[0].0.local_addr()).await;
    let mut context = nodes.context();
    context.nodes[0].mesh = wire.addr.to_string();
    let mesh = Mesh::connect(context).await.unwrap();
    let (hang, echo) = (mesh.function("hang").unwrap().deadline(LONG), mesh.function("echo").unwrap().deadline(LONG));
    let under_way = tokio::spawn(async move { hang.invoke("").await });
    until("the call runs", || nodes.seen() == [1, 0]).await;
    wire.is_cut.store(true, SeqCst);
    // Both leave at once: the first may run twice, and is sent to the other node as soon as this one is in doubt.
    let idempotent = echo.clone().idempotent();
    let (repeatable, plain) = tokio::join!(idempotent.invoke("a"), timeout(PATIENCE, echo.invoke("b")));
    assert_eq!(repeatable.unwrap().node, "2");
    if let Err(failure) = plain.expect("it does not wait for its deadline") {
        assert_eq!((failure.code, failure.progress), (ErrorCode::PeerLost, Progress::MaybeExecuted), "{failure}");
    }
    let lost = timeout(PATIENCE, under_way).await.expect("it does not wait for its deadline").unwrap().unwrap_err();
    assert_eq!((lost.code, lost.progress), (ErrorCode::PeerLost, Progress::MaybeExecuted), "{lost}");
    assert_eq!(echo.invoke("c").await.unwrap().node, "2", "new calls avoid it");
    mesh.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_failed_beside_a_silent_node_fails_as_it_did_there() {
    let nodes = Nodes::start(2).await;
    let wire = Wire::to(nodes.nodes[0].0.local_addr()).await;
    let mut context = nodes.context();
    context.nodes[0].mesh = wire.addr.to_string();
    let mesh = Mesh::connect(context).await.unwrap();
    let call = mesh.function("hang-on-the-first").unwrap().deadline(LONG).idempotent();
    let under_way = tokio::spawn(async move { call.invoke("").await });
    until("the call runs", || nodes.seen() == [1, 0]).await;
    wire.is_cut.store(true, SeqCst);
    let failure = timeout(PATIENCE, under_way).await.expect("it is told at once").unwrap().unwrap_err();
    assert_eq!((failure.code, failure.progress), (ErrorCode::FunctionFailed, Progress::Executed), "{failure}");
    mesh.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_hasty_caller_does_not_close_a_node_to_the_others() {
    let nodes = Nodes::start(1).await;
    let entry = Arc::new(nodes.entry());
    let link = Arc::new(Link::new("goose".into(), nodes.nodes[0].0.local_addr().to_string()));
    // Its time is over before it begins; should the dial be quicker all the same, so much the better.
    let _ = link.connected(&entry, Instant::now()).await;
    link.connected(&entry, Instant::now() + LONG).await.unwrap();
    assert_eq!(link.promise(), Promise::Connected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_closes_while_it_dials_keeps_no_connection() {
    let nodes = Nodes::start(1).await;
    let entry = Arc::new(nodes.entry());
    let link = Arc::new(Link::new("goose".into(), nodes.nodes[0].0.local_addr().to_string()));
    let _ = link.connected(&entry, Instant::now()).await;
    link.close().await;
    assert!(link.open().is_none());
    assert!(link.connected(&entry, Instant::now() + LONG).await.is_err(), "and makes no other");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_closes_ends_the_connections_that_it_replaced() {
    let nodes = Nodes::start(1).await;
    let entry = Arc::new(nodes.entry());
    let link = Arc::new(Link::new("goose".into(), nodes.nodes[0].0.local_addr().to_string()));
    let mut old = Vec::new();
    for _ in 0..3 {
        let stranger = link.connected(&entry, Instant::now() + LONG).await.unwrap();
        link.replace(&stranger);
        old.push(stranger);
    }
    // Nobody waits for an answer on the last one any more.
    drop(old.pop());
    let newest = link.connected(&entry, Instant::now() + LONG).await.unwrap();
    assert!(old.iter().all(|stranger| !stranger.is_closed()), "calls go on waiting on them");
    link.close().await;
    assert!(newest.is_closed() && old.iter().all(|stranger| stranger.is_closed()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mesh_that_can_take_no_more_is_asked_a_few_times_and_when_it_says() {
    let nodes = Nodes::start(5).await;
    let mesh = Mesh::connect(nodes.context()).await.unwrap();
    let began = Instant::now();
    let failure = mesh.function("unavailable").unwrap().deadline(LONG).invoke("").await.unwrap_err();
    assert_eq!((failure.code, failure.retry_after_ms), (ErrorCode::Unavailable, Some(40)));
    assert_eq!(nodes.seen().iter().sum::<usize>(), 3, "{:?}", nodes.seen());
    assert!(began.elapsed() >= Duration::from_millis(80), "it waited each time");
    // And no later than its deadline allows.
    let failure =
        mesh.function("unavailable").unwrap().deadline(Duration::from_millis(30)).invoke("").await.unwrap_err();
    assert_eq!(failure.code, ErrorCode::Unavailable);
    assert_eq!(nodes.seen().iter().sum::<usize>(), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_node_is_followed_by_the_next_and_asked_once() {
    let nodes = Nodes::start(2).await;
    let mesh = Mesh::connect(nodes.context()).await.unwrap();
    // The first node is asked first, or not at all.
    mesh.function("full-on-the-first").unwrap().deadline(LONG).invoke("").await.unwrap();
    let before = nodes.seen().iter().sum::<usize>();
    let failure = mesh.function("full").unwrap().deadline(LONG).invoke("").await.unwrap_err();
    assert_eq!((failure.code, failure.progress), (ErrorCode::Overloaded, Progress::NotExecuted));
    assert_eq!(nodes.seen().iter().sum::<usize>() - before, 2, "each node once");
    nodes.stop(1).await;
    let alone = Nodes::start(1).await;
    let mesh = Mesh::connect(alone.context()).await.unwrap();
    mesh.function("full").unwrap().deadline(LONG).invoke("").await.unwrap_err();
    assert_eq!(alone.seen(), [1], "the only node is not asked again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_has_as_many_calls_under_way_as_it_makes() {
    let nodes = Nodes::start(2).await;
    let mesh = Mesh::connect(nodes.context()).await.unwrap();
    // Nobody has asked the other one anything when all these calls come to it at once.
    nodes.stop(0).await;
    let hang = mesh.function("hang").unwrap().deadline(LONG);
    let mut calls = JoinSet::new();
    for _ in 0..300 {
        let hang = hang.clone();
        calls.spawn(async move { hang.invoke("").await });
    }
    until("all run at once", || nodes.seen() == [0, 300]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_the_context_does_not_name_are_learnt_from_the_mesh() {
    let nodes = Nodes::start(2).await;
    let learnt = nodes.context().nodes.into_iter().map(|node| NodeAddress { name: node.name, mesh: node.mesh });
    *nodes.keys.nodes.lock().unwrap() = learnt.collect();
    let mut context = nodes.context();
    context.nodes.truncate(1);
    let mesh = Mesh::connect(context).await.unwrap();
    until("both are known", || mesh.shared.nodes.links().len() == 2).await;
    nodes.stop(0).await;
    assert_eq!(mesh.function("echo").unwrap().invoke("hi").await.unwrap().node, "2");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_leaves_answers_what_it_has_and_loses_nothing() {
    let nodes = Nodes::start(2).await;
    let mesh = Mesh::connect(nodes.context()).await.unwrap();
    let slow = mesh.function("slow").unwrap().deadline(LONG);
    let under_way = tokio::spawn(async move { slow.invoke("mine").await });
    until("the call runs", || nodes.seen() == [1, 0]).await;
    let echo = mesh.function("echo").unwrap().deadline(LONG);
    let calls = async {
        for _ in 0..200 {
            echo.invoke("x").await.unwrap();
        }
    };
    // Not one of them may fail, whether the node has said that it leaves or not.
    tokio::join!(calls, nodes.stop(0));
    assert_eq!(under_way.await.unwrap().unwrap().payload, "mine");
    assert_eq!(echo.invoke("x").await.unwrap().node, "2");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_stays_is_asked_for_the_others_and_not_one_that_leaves() {
    let nodes = Nodes::start(2).await;
    let mesh = Mesh::connect(nodes.context()).await.unwrap();
    let hang = mesh.function("hang").unwrap().deadline(LONG);
    // While it is under way its connection stays.
    let mut under_way = JoinSet::new();
    under_way.spawn(async move { hang.invoke("").await });
    until("the call runs", || nodes.seen() == [1, 0]).await;
    let failure = mesh.function("draining").unwrap().invoke("").await.unwrap_err();
    assert_eq!((failure.code, nodes.seen()), (ErrorCode::Draining, vec![2, 1]), "there is a connection to each");
    let links = mesh.shared.nodes.links();
    nodes.nodes[0].0.farewell();
    until("it is told", || links[0].promise() == Promise::Leaving).await;
    assert!(links[0].open().is_some());
    assert_eq!(mesh.shared.nodes.open().unwrap().node(), NodeId(2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_nodes_that_are_lost_the_one_that_was_reached_before_is_tried_first() {
    let nodes = Nodes::start(1).await;
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut context = nodes.context();
    let never = ContextNode { mesh: silent.local_addr().unwrap().to_string(), ..context.nodes[0].clone() };
    context.nodes.insert(0, never);
    let (entry, known) = (Arc::new(nodes.entry()), crate::nodes::Nodes::new(nodes.entry(), context.nodes));
    let links = known.links();
    let (failed, reached) = tokio::join!(
        links[0].connected(&entry, Instant::now() + LONG),
        links[1].connected(&entry, Instant::now() + LONG)
    );
    assert!(failed.is_err() && reached.is_ok());
    nodes.stop(0).await;
    until("both are lost", || links.iter().all(|link| link.promise() == Promise::Lost)).await;
    assert!(Arc::ptr_eq(&known.order(&[])[0], &links[1]));
}

/// Has each node be cut off when it gets a call of `ends-nodes`; the wires to them.
async fn mortal(nodes: &Nodes, context: &mut Context, cut: impl Fn(usize) -> Vec<usize>) -> Vec<Wire> {
    let mut wires = Vec::new();
    for (network, _) in &nodes.nodes {
        wires.push(Wire::to(network.local_addr()).await);
    }
    for (index, (_, functions)) in nodes.nodes.iter().enumerate() {
        context.nodes[index].mesh = wires[index].addr.to_string();
        let wires: Vec<_> = cut(index).into_iter().map(|index| wires[index].is_cut.clone()).collect();
        if !wires.is_empty() {
            let end = move || wires.iter().for_each(|is_cut| is_cut.store(true, SeqCst));
            assert!(functions.end.set(Box::new(end)).is_ok());
        }
    }
    wires
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_ends_the_nodes_that_get_it_ends_two() {
    let nodes = Nodes::start(5).await;
    let mut context = nodes.context();
    let _wires = mortal(&nodes, &mut context, |index| vec![index]).await;
    let mesh = Mesh::connect(context).await.unwrap();
    let ends = mesh.function("ends-nodes").unwrap().deadline(LONG).idempotent();
    let failure = timeout(PATIENCE, ends.invoke("")).await.expect("it is told at once").unwrap_err();
    assert_eq!((failure.code, failure.progress), (ErrorCode::PeerLost, Progress::MaybeExecuted), "{failure}");
    assert_eq!(nodes.seen().iter().sum::<usize>(), 2, "{:?}", nodes.seen());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_closes_the_connections_it_comes_by_closes_two() {
    let nodes = Nodes::start(5).await;
    for (network, functions) in &nodes.nodes {
        let (network, runtime) = (network.clone(), tokio::runtime::Handle::current());
        let end = move || {
            let network = network.clone();
            drop(runtime.spawn(async move { network.shutdown(Instant::now()).await }));
        };
        assert!(functions.end.set(Box::new(end)).is_ok());
    }
    let mesh = Mesh::connect(nodes.context()).await.unwrap();
    let ends = mesh.function("ends-nodes").unwrap().deadline(LONG).idempotent();
    let failure = timeout(PATIENCE, ends.invoke("")).await.expect("it is told at once").unwrap_err();
    assert_eq!((failure.code, failure.progress), (ErrorCode::PeerLost, Progress::MaybeExecuted), "{failure}");
    assert_eq!(nodes.seen().iter().sum::<usize>(), 2, "{:?}", nodes.seen());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_fall_silent_together_do_not_count_as_ended_by_a_call() {
    let nodes = Nodes::start(4).await;
    let mut context = nodes.context();
    // With the first go the second and the third.
    let _wires = mortal(&nodes, &mut context, |index| if index == 0 { vec![0, 1, 2] } else { Vec::new() }).await;
    let mesh = Mesh::connect(context).await.unwrap();
    mesh.function("draining").unwrap().invoke("").await.unwrap_err();
    assert_eq!(nodes.seen(), [1, 1, 1, 1], "there is a connection to each");
    let ends = mesh.function("ends-nodes").unwrap().deadline(LONG).idempotent();
    let reply = timeout(PATIENCE, ends.invoke("")).await.expect("it does not wait for its deadline").unwrap();
    assert_eq!((reply.node.as_str(), nodes.seen()), ("4", vec![2, 1, 1, 2]));
    let told: Vec<_> = [0, 3].map(|node: usize| nodes.nodes[node].1.seen.lock().unwrap()[1].was_lost).into();
    assert_eq!(told, [false, true], "a node that loses it, too, does not try it on another");
}

/// A call that is lost when the client loses all three nodes, to each of which it has a connection; and the wires to them.
async fn cut_off(nodes: &Nodes) -> (Mesh, Vec<Wire>, tokio::task::JoinHandle<Result<crate::Reply, Failure>>) {
    let mut context = nodes.context();
    let wires = mortal(nodes, &mut context, |index| if index == 0 { vec![0, 1, 2] } else { Vec::new() }).await;
    let mesh = Mesh::connect(context).await.unwrap();
    mesh.function("draining").unwrap().invoke("").await.unwrap_err();
    assert_eq!(nodes.seen(), [1, 1, 1], "there is a connection to each");
    let ends = mesh.function("ends-nodes").unwrap().deadline(LONG).idempotent();
    (mesh, wires, tokio::spawn(async move { ends.invoke("").await }))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_whose_connections_all_end_at_once_makes_new_ones() {
    let nodes = Nodes::start(3).await;
    let (_mesh, wires, call) = cut_off(&nodes).await;
    wires.iter().for_each(|wire| wire.forgets.store(true, SeqCst));
    let reply = timeout(PATIENCE, call).await.expect("it does not wait for its deadline").unwrap().unwrap();
    assert!(["2", "3"].contains(&reply.node.as_str()), "{}", reply.node);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_is_cut_off_for_a_while_goes_on_when_it_is_not() {
    let nodes = Nodes::start(3).await;
    let (mesh, wires, call) = cut_off(&nodes).await;
    let links = mesh.shared.nodes.links();
    until("both others were dialed in vain", || links[1..].iter().all(|link| link.has_failed())).await;
    wires.iter().for_each(|wire| wire.is_cut.store(false, SeqCst));
    let reply = timeout(PATIENCE, call).await.expect("it does not wait for its deadline").unwrap().unwrap();
    assert!(["2", "3"].contains(&reply.node.as_str()), "{}", reply.node);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_of_a_client_that_closes_while_it_is_cut_off_ends() {
    let nodes = Nodes::start(3).await;
    let (mesh, _wires, call) = cut_off(&nodes).await;
    let links = mesh.shared.nodes.links();
    until("both others were dialed in vain", || links[1..].iter().all(|link| link.has_failed())).await;
    mesh.close().await;
    let failure = timeout(PATIENCE, call).await.expect("it does not wait for its deadline").unwrap().unwrap_err();
    assert_eq!((failure.code, failure.progress), (ErrorCode::Unreachable, Progress::MaybeExecuted), "{failure}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_whose_time_is_over_ends_no_connection() {
    let nodes = Nodes::start(3).await;
    let mesh = Mesh::connect(nodes.context()).await.unwrap();
    mesh.function("draining").unwrap().invoke("").await.unwrap_err();
    let open =
        || -> Vec<_> { mesh.shared.nodes.links().iter().map(|link| link.open().map(|one| one.node())).collect() };
    let before = open();
    assert!(before.iter().all(Option::is_some), "there is a connection to each");
    let call = Call { request: a_request(), deadline: Instant::now() };
    let mut settled = Settled::beside(true);
    let reached = mesh.shared.reach(&call, &mut Vec::new(), &mut Vec::new(), &mut settled).await;
    assert!(reached.is_none(), "there is no time to hear from a node");
    assert_eq!(open(), before);
}

fn a_request() -> ClientRequest {
    ClientRequest {
        invocation: InvocationId::random(),
        reference: "echo".parse().unwrap(),
        payload: Bytes::new(),
        headers: Vec::new(),
        deadline_ms: 0,
        traceparent: None,
        index_min: 0,
        is_idempotent: true,
        was_lost: true,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_does_not_answer_does_not_keep_the_others_of_its_name_waiting() {
    let nodes = Nodes::start(1).await;
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let addresses = vec![silent.local_addr().unwrap(), nodes.nodes[0].0.local_addr()];
    let (link, entry) = (Link::new("goose".into(), String::new()), Arc::new(nodes.entry()));
    let reached = timeout(PATIENCE, link.reach_any(addresses, &entry, Instant::now() + LONG)).await;
    assert_eq!(reached.expect("it does not wait for the deadline").unwrap().node(), NodeId(1));
}
