//! The router and its receiving side, between fakes of the three seams: runtime, transport, catalogue.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use skein_catalog::{Addresses, Catalog, Command, MemberRole, Proposal, RequestId, Watch};
use skein_membership::{Peer, PeerState, View};
use skein_proto::{
    Digest, ErrorCode, Failure, FunctionId, Invocation, InvocationTarget, Invoke, Load, Manifest, MeshId, NodeId,
    Progress, Reply, Start, Usage, VersionId, codec,
};
use skein_transport::{Caller, Duplex, Serve, Service, Transport};
use tokio::{sync::watch, time::Instant};
use uuid::Uuid;

use crate::{End, Router, invoke_service, wire::Attempt};

mod deciding;
mod receiving;
mod routing;

/// What a fake node does with an attempt.
#[derive(Clone)]
enum Does {
    Fails(Failure),
    Hangs,
    /// Runs until its time is over and says so, which takes this long to come back.
    RunsToItsDeadline(Duration),
    /// Answers well, this much later.
    Lingers(Duration),
    /// Fails, this much later.
    FailsAfter(Duration, Failure),
    /// Answers well, and says that it used so much.
    Uses(Usage),
}

/// All nodes' runtimes, node 1's called directly, the others' through the transport.
#[derive(Default)]
struct Fake {
    /// What each node does with its next attempts; when there is nothing left it succeeds.
    plan: Mutex<BTreeMap<u64, VecDeque<Does>>>,
    /// The attempts, in order.
    seen: Mutex<Vec<(u64, Attempt)>>,
    /// From which node the network hears nothing.
    doubted: Mutex<Option<u64>>,
    /// From which nodes the network has heard nothing for a moment.
    silent: Mutex<Vec<u64>>,
}

impl Fake {
    async fn run(&self, node: u64, attempt: Attempt) -> Result<Reply, Failure> {
        let does = self.plan.lock().unwrap().get_mut(&node).and_then(VecDeque::pop_front);
        let reply = Reply {
            payload: attempt.payload.clone(),
            version: attempt.version,
            node: NodeId(node),
            start: Start::Warm,
            usage: Usage::default(),
        };
        let time = Duration::from_millis(attempt.deadline_ms);
        self.seen.lock().unwrap().push((node, attempt));
        match does {
            None => Ok(reply),
            Some(Does::Fails(failure)) => Err(failure),
            Some(Does::Hangs) => std::future::pending().await,
            Some(Does::RunsToItsDeadline(way_back)) => {
                // tidy: sleeps because a function that uses its time is what is tested; the clock is paused.
                tokio::time::sleep(time + way_back).await;
                Err(Failure::executed(ErrorCode::DeadlineExceeded, "the function ran to its deadline"))
            }
            Some(Does::Lingers(time)) => {
                // tidy: sleeps because the slowness of a node is what is tested; the clock is paused.
                tokio::time::sleep(time).await;
                Ok(reply)
            }
            Some(Does::FailsAfter(time, failure)) => {
                // tidy: sleeps because the time that a dial takes is what is tested; the clock is paused.
                tokio::time::sleep(time).await;
                Err(failure)
            }
            Some(Does::Uses(usage)) => Ok(Reply { usage, ..reply }),
        }
    }

    fn nodes_tried(&self) -> Vec<u64> {
        self.seen.lock().unwrap().iter().map(|(node, _)| *node).collect()
    }
}

#[async_trait]
impl Invoke for Fake {
    async fn invoke(&self, invocation: Invocation) -> Result<Reply, Failure> {
        let InvocationTarget::Version(version) = invocation.target else { panic!("a runtime takes versions") };
        let deadline_ms = u64::try_from(invocation.remaining().as_millis()).unwrap();
        self.run(1, Attempt { deadline_ms, ..Attempt::new(&invocation, version, invocation.index_min) }).await
    }
}

#[async_trait]
impl Transport for Fake {
    fn local(&self) -> NodeId {
        NodeId(1)
    }

    async fn call(&self, peer: NodeId, service: Service, body: Bytes, deadline: Instant) -> Result<Bytes, Failure> {
        assert_eq!(service, Service::Invoke);
        let run = self.run(peer.0, codec::decode(&body).unwrap());
        match tokio::time::timeout_at(deadline, run).await {
            Ok(reply) => Ok(codec::encode(&reply?)?),
            Err(_) => Err(Failure::maybe_executed(ErrorCode::DeadlineExceeded, "no answer in time")),
        }
    }

    async fn open(&self, _: NodeId, _: Service, _: Instant) -> Result<Box<dyn Duplex>, Failure> {
        Err(Failure::not_executed(ErrorCode::Unreachable, "calls only"))
    }

    fn is_doubted(&self, peer: NodeId) -> bool {
        *self.doubted.lock().unwrap() == Some(peer.0)
    }

    fn is_silent(&self, peer: NodeId) -> bool {
        self.is_doubted(peer) || self.silent.lock().unwrap().contains(&peer.0)
    }

    fn datagram(&self, _: NodeId, _: Service, _: Bytes) {}
}

/// A catalogue in which `default/price` has one version, published at index 5.
fn catalog() -> Catalog {
    let mut catalog = Catalog::default();
    let mut tell = |index: u64, command| {
        let request = RequestId(Uuid::from_u128(u128::from(index)));
        catalog.apply(index, &Proposal { request, at_ms: 0, command })
    };
    tell(1, Command::Found { mesh: MeshId(Uuid::from_u128(1)) });
    let addresses = Addresses { mesh: "127.0.0.1:1".into(), http: "127.0.0.1:2".into(), admin: "127.0.0.1:3".into() };
    let key = Digest::of(b"one");
    let name = "one".parse().unwrap();
    tell(2, Command::AddMember { name, key, addresses, role: MemberRole::Auto, token: None });
    let publish = Command::PublishVersion {
        manifest: Box::new(Manifest::named("default".parse().unwrap(), "price".parse().unwrap())),
        digest: Digest::of(b"code"),
        size: 4,
        holders: vec![NodeId(1)],
        note: String::new(),
        author: "k1".into(),
        alias: Some("live".parse().unwrap()),
        expected: None,
    };
    let outcome = tell(5, publish);
    assert!(!matches!(outcome, skein_catalog::Outcome::Refused { .. }), "{outcome:?}");
    catalog
}

fn version() -> VersionId {
    catalog().resolve(&"price".parse().unwrap()).unwrap().id
}

fn peer(node: u64) -> Peer {
    Peer { node: NodeId(node), state: PeerState::Alive, load: Load::default() }
}

/// A router on node 1 and all that surrounds it.
struct Bench {
    fake: Arc<Fake>,
    catalog: watch::Sender<Arc<Catalog>>,
    view: watch::Sender<Arc<View>>,
    router: Router,
}

impl Bench {
    /// Nodes 1 to `size`, all idle and cold: calls run on node 1 unless something is in the way.
    fn of(size: u64) -> Self {
        let peers = (1..=size).map(|node| (NodeId(node), peer(node))).collect();
        let (view, seen) = watch::channel(Arc::new(View { peers }));
        let (catalog, applied) = watch::channel(Arc::new(catalog()));
        let fake = Arc::new(Fake::default());
        let router = Router::new(NodeId(1), fake.clone(), applied, seen, fake.clone());
        Self { fake, catalog, view, router }
    }

    fn plan(self, node: u64, does: impl IntoIterator<Item = Does>) -> Self {
        self.fake.plan.lock().unwrap().insert(node, does.into_iter().collect());
        self
    }

    fn with(self, node: u64, change: impl FnOnce(&mut Peer)) -> Self {
        self.view.send_modify(|view| {
            let mut next = View::clone(view);
            change(next.peers.get_mut(&NodeId(node)).unwrap());
            *view = Arc::new(next);
        });
        self
    }

    async fn invoke(&self, change: impl FnOnce(&mut Invocation)) -> Result<Reply, Failure> {
        let mut invocation = call();
        change(&mut invocation);
        self.router.invoke(invocation).await
    }
}

fn call() -> Invocation {
    let deadline = Instant::now() + Duration::from_secs(10);
    Invocation::new("price".parse().unwrap(), Bytes::from_static(b"in"), deadline)
}

fn not_executed(code: ErrorCode) -> Does {
    Does::Fails(Failure::not_executed(code, format!("said {code}")))
}
