//! Whole clients against whole networks on the loopback; the functions behind them are fakes.

use bytes::Bytes;
use serde_json::{Value, json};
use skein_proto::{Digest, MeshId, NodeId};
use skein_transport::{Authority, Identity, Network, NetworkConfig, NodeKey, Service, Validity};

use super::*;
use crate::{
    ContextNode,
    server::ClientService,
    testing::{Functions, KEY, Keys},
};

struct Nodes {
    authority: Authority,
    nodes: Vec<(Network, Arc<Functions>)>,
}

impl Nodes {
    /// A mesh of so many nodes, numbered from 1, that do not know each other.
    async fn start(count: u64) -> Self {
        let mut mesh = Self { authority: Authority::found(MeshId::random()).unwrap(), nodes: Vec::new() };
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
        network.handle(Service::Client, Arc::new(ClientService::new(functions.clone(), Arc::new(Keys))));
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

fn check(code: ErrorCode, failure: Failure, expected_worth: [bool; 2]) {
    let worth = [false, true].map(|is_idempotent| is_worth_another_node(&failure, is_idempotent));
    assert_eq!((failure.code, worth), (code, expected_worth));
}

#[test]
fn only_what_another_node_may_better_is_sent_to_another() {
    use ErrorCode::{Draining, FunctionNotFound, Overloaded, PeerLost, Unreachable};
    check(Unreachable, Failure::not_executed(Unreachable, ""), [true, true]);
    check(Draining, Failure::not_executed(Draining, ""), [true, true]);
    check(PeerLost, Failure::maybe_executed(PeerLost, ""), [false, true]);
    check(PeerLost, Failure::executed(PeerLost, ""), [false, false]);
    check(FunctionNotFound, Failure::not_executed(FunctionNotFound, ""), [false, false]);
    check(Overloaded, Failure::not_executed(Overloaded, ""), [false, false]);
}

#[test]
fn the_outcome_of_several_attempts_is_as_uncertain_as_the_worst() {
    use Progress::{Executed, MaybeExecuted, NotExecuted};
    assert_eq!(furthest(NotExecuted, NotExecuted), NotExecuted);
    assert_eq!(furthest(MaybeExecuted, NotExecuted), MaybeExecuted);
    assert_eq!(furthest(NotExecuted, Executed), Executed);
}

#[tokio::test]
async fn bytes_and_json_go_there_and_back() {
    let nodes = Nodes::start(1).await;
    let mesh = Mesh::connect(nodes.context()).await.unwrap();
    let echo = mesh.function("echo").unwrap().header("X-Foo", "bar").deadline(Duration::from_secs(60));
    let reply = echo.invoke("hi").await.unwrap();
    assert_eq!((reply.payload.as_ref(), reply.version, reply.node.as_str()), (&b"hi"[..], 4, "goose"));
    let seen = nodes.nodes[0].1.seen.lock().unwrap().pop().unwrap();
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
    assert_eq!(nodes.seen(), [2, 1], "both, and the first once more");
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
    assert_eq!(mesh.function("echo").unwrap().invoke("hi").await.unwrap().node, "goose", "the next call dials anew");
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
