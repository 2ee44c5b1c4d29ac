//! Several nodes, wired to one another in memory: exchange, and what bad peers and disks do to it.

use std::{
    collections::HashMap,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use skein_proto::NodeId;
use skein_transport::{Caller, Duplex};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::Instant,
};

use super::*;
use crate::wire::{self, Answer, Request};

mod bad_peers;
mod exchange;

/// Nodes by id, each with what answers there.
#[derive(Clone, Default)]
struct Net {
    nodes: Arc<Mutex<HashMap<NodeId, Arc<dyn Serve>>>>,
    opened: Arc<AtomicUsize>,
    /// Those of whom nothing is heard, as the transport has it.
    silent: Arc<Mutex<HashSet<NodeId>>>,
}

struct End {
    net: Net,
    me: NodeId,
}

struct Node {
    artifacts: Artifacts,
    dir: TempDir,
}

impl Net {
    async fn node(&self, id: u64) -> Node {
        self.node_with(id, Config::default()).await
    }

    async fn node_with(&self, id: u64, config: Config) -> Node {
        let dir = TempDir::new().unwrap();
        let end = Arc::new(End { net: self.clone(), me: NodeId(id) });
        let artifacts = Artifacts::open_with(config, dir.path().into(), end).await.unwrap();
        self.nodes.lock().unwrap().insert(NodeId(id), artifacts.service());
        Node { artifacts, dir }
    }

    fn bad(&self, id: u64, peer: Bad) {
        self.nodes.lock().unwrap().insert(NodeId(id), Arc::new(peer));
    }

    fn opened(&self) -> usize {
        self.opened.load(Ordering::Relaxed)
    }
}

impl End {
    fn peer(&self, peer: NodeId) -> Result<Arc<dyn Serve>, Failure> {
        let known = self.net.nodes.lock().unwrap().get(&peer).cloned();
        known.ok_or_else(|| Failure::not_executed(ErrorCode::Unreachable, "nobody there"))
    }
}

#[async_trait]
impl Transport for End {
    fn local(&self) -> NodeId {
        self.me
    }

    async fn call(
        &self,
        peer: NodeId,
        _: skein_transport::Service,
        body: Bytes,
        deadline: Instant,
    ) -> Result<Bytes, Failure> {
        self.peer(peer)?.call(Caller::Peer(self.me), body, deadline).await
    }

    async fn open(&self, peer: NodeId, _: skein_transport::Service, _: Instant) -> Result<Box<dyn Duplex>, Failure> {
        let serve = self.peer(peer)?;
        self.net.opened.fetch_add(1, Ordering::Relaxed);
        let (here, there) = tokio::io::duplex(1_000);
        let me = Caller::Peer(self.me);
        tokio::spawn(async move { serve.stream(me, Box::new(there)).await });
        Ok(Box::new(here))
    }

    fn is_silent(&self, peer: NodeId) -> bool {
        self.net.silent.lock().unwrap().contains(&peer)
    }

    fn datagram(&self, _: NodeId, _: skein_transport::Service, _: Bytes) {}
}

/// A peer that answers a request with a message and bytes, then closes or goes silent.
#[derive(Clone)]
struct Bad {
    answer: Option<Answer>,
    bytes: &'static [u8],
    is_silent: bool,
}

#[async_trait]
impl Serve for Bad {
    async fn call(&self, _: Caller, _: Bytes, _: Instant) -> Result<Bytes, Failure> {
        Ok(Bytes::from_static(b"garbage"))
    }

    async fn stream(&self, _: Caller, mut stream: Box<dyn Duplex>) {
        let _: Request = wire::receive(&mut *stream, Duration::from_secs(60)).await.unwrap();
        if let Some(answer) = &self.answer {
            wire::send(&mut *stream, answer, Duration::from_secs(60)).await.unwrap();
        }
        let _ = stream.write_all(self.bytes).await;
        if self.is_silent {
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest).await;
        }
    }
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

fn ids<const N: usize>(ids: [u64; N]) -> [NodeId; N] {
    ids.map(NodeId)
}

/// The file of `digest` in the store of `node`.
fn file(node: &Node, digest: Digest) -> PathBuf {
    let hex = digest.to_hex();
    node.dir.path().join(&hex[..2]).join(hex)
}
