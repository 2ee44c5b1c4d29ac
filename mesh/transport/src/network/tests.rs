//! Real sockets on the loopback, each test with nodes of its own.

mod calls;
mod doors;
mod hostile;
mod leaving;
mod places;
mod silence;
mod trust;

use std::{
    collections::HashSet,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use skein_proto::{Digest, MeshId, Progress};
use tokio::sync::Notify;

use super::*;
use crate::{Authority, NodeKey, Validity};

/// Answers by what the body says, and counts what happens to it.
#[derive(Default)]
struct Echo {
    started: AtomicUsize,
    dropped: AtomicUsize,
    /// Keys that were shown.
    asked: AtomicUsize,
    changed: Notify,
    datagrams: Mutex<Vec<Bytes>>,
}

impl Echo {
    /// Waits until `seen` holds.
    async fn until(&self, seen: impl Fn(&Self) -> bool) {
        let wait = async {
            loop {
                let changed = self.changed.notified();
                if seen(self) {
                    return;
                }
                changed.await;
            }
        };
        timeout(PATIENCE, wait).await.expect("condition came true in time");
    }
}

struct Dropped(Arc<Echo>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.dropped.fetch_add(1, SeqCst);
        self.0.changed.notify_waiters();
    }
}

struct Handler(Arc<Echo>);

#[async_trait]
impl Serve for Handler {
    async fn call(&self, _: Caller, body: Bytes, _: Instant) -> Result<Bytes, Failure> {
        let _dropped = Dropped(self.0.clone());
        self.0.started.fetch_add(1, SeqCst);
        self.0.changed.notify_waiters();
        match &body[..] {
            b"hang" => std::future::pending().await,
            b"panic" => panic!("asked to"),
            b"fail" => Err(Failure::executed(ErrorCode::FunctionFailed, "as asked")),
            b"large" => Ok(Bytes::from(vec![7; 5 << 20])),
            _ => Ok(body),
        }
    }

    async fn admit(&self, key: &str) -> Result<(), Failure> {
        self.0.asked.fetch_add(1, SeqCst);
        match key {
            KEY => Ok(()),
            _ => Err(Failure::not_executed(ErrorCode::Unauthenticated, "not this one")),
        }
    }

    async fn stream(&self, _: Caller, stream: Box<dyn Duplex>) {
        let (mut reader, mut writer) = tokio::io::split(stream);
        if tokio::io::copy(&mut reader, &mut writer).await.is_ok() {
            let _ = tokio::io::AsyncWriteExt::shutdown(&mut writer).await;
        }
    }

    fn datagram(&self, _: NodeId, body: Bytes) {
        self.0.datagrams.lock().unwrap().push(body);
        self.0.changed.notify_waiters();
    }
}

/// The members that a node's catalogue would trust: all but these, which were removed.
#[derive(Default)]
struct Removed(Mutex<HashSet<NodeId>>);

impl Trust for Removed {
    fn is_trusted(&self, node: NodeId, _: Digest) -> bool {
        !self.has_left(node)
    }

    fn has_left(&self, node: NodeId) -> bool {
        self.0.lock().unwrap().contains(&node)
    }
}

struct Node {
    network: Network,
    echo: Arc<Echo>,
    removed: Arc<Removed>,
}

struct TestMesh {
    authority: Authority,
}

impl TestMesh {
    fn new() -> Self {
        Self { authority: Authority::found(MeshId::random()).unwrap() }
    }

    fn identity(&self, node: u64) -> Identity {
        self.identity_until(node, Validity::of_a_node())
    }

    fn identity_until(&self, node: u64, validity: Validity) -> Identity {
        let key = NodeKey::generate().unwrap();
        let certificate = self.authority.sign(&key.request().unwrap(), NodeId(node), validity).unwrap();
        Identity::new(key, &certificate, self.authority.certificate()).unwrap()
    }

    async fn node(&self, node: u64) -> Node {
        Node::start(self.identity(node), localhost()).await
    }

    /// Two nodes that know each other's address.
    async fn pair(&self) -> (Node, Node) {
        let (one, two) = (self.node(1).await, self.node(2).await);
        one.meet(&two);
        two.meet(&one);
        (one, two)
    }
}

impl Node {
    async fn start(identity: Identity, addr: SocketAddr) -> Self {
        Self::configured(NetworkConfig::new(addr), identity).await
    }

    async fn configured(config: NetworkConfig, identity: Identity) -> Self {
        let (echo, removed) = (Arc::<Echo>::default(), Arc::<Removed>::default());
        let network = Network::bind(config, identity, removed.clone()).await.unwrap();
        for service in
            [Service::Control, Service::Raft, Service::Gossip, Service::Client, Service::Nodes, Service::Join]
        {
            network.handle(service, Arc::new(Handler(echo.clone())));
        }
        network.start();
        Self { network, echo, removed }
    }

    fn meet(&self, other: &Node) {
        self.network.set_address(other.network.local(), other.network.local_addr());
    }

    async fn ask(&self, other: &Node, body: impl Into<Bytes>) -> Result<Bytes, Failure> {
        self.network.call(other.network.local(), Service::Control, body.into(), soon()).await
    }

    async fn stop(self) {
        self.network.shutdown(Instant::now() + PATIENCE).await;
    }
}

fn localhost() -> SocketAddr {
    ([127, 0, 0, 1], 0).into()
}

fn soon() -> Instant {
    Instant::now() + PATIENCE
}

fn code<T: std::fmt::Debug>(result: Result<T, Failure>) -> (ErrorCode, Progress) {
    let failure = result.expect_err("the call fails");
    (failure.code, failure.progress)
}

/// The key that is good.
const KEY: &str = "sk_good_00";

/// Longer than anything here takes, on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(20);
