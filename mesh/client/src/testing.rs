//! What the tests of this crate share: a node that answers clients, without a runtime behind it.

use std::sync::{
    Mutex, OnceLock,
    atomic::{AtomicU64, Ordering::SeqCst},
};

use async_trait::async_trait;
use bytes::Bytes;
use skein_proto::{
    ErrorCode, Failure, FunctionId, FunctionRef, Invocation, InvocationTarget, Invoke, NodeId, NodeName, Reply, Start,
    Usage, VersionId,
};
use tokio::time::Instant;

use crate::{server::Authorize, wire::NodeAddress};

/// The key that is good here.
pub(crate) const KEY: &str = "sk_good_00";

/// Answers every call by what its function is called, and keeps what it was asked.
#[derive(Default)]
pub(crate) struct Functions {
    pub(crate) node: u64,
    pub(crate) seen: Mutex<Vec<Invocation>>,
    /// What becomes of the node when it is called by `ends-nodes`.
    pub(crate) end: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

#[async_trait]
impl Invoke for Functions {
    async fn invoke(&self, invocation: Invocation) -> Result<Reply, Failure> {
        self.seen.lock().unwrap().push(invocation.clone());
        let InvocationTarget::Reference(reference) = &invocation.target else { panic!("not resolved yet") };
        match reference.name.as_str() {
            "echo" => Ok(reply(self.node, invocation.payload)),
            "fail" => {
                Err(Failure { exit_code: Some(3), ..Failure::executed(ErrorCode::FunctionFailed, "exit code 3") })
            }
            "slow" => {
                // tidy: sleeps because so long a call is to be under way
                tokio::time::sleep(std::time::Duration::from_millis(300)).await;
                Ok(reply(self.node, invocation.payload))
            }
            "unavailable" => {
                let failure = Failure::not_executed(ErrorCode::Unavailable, "no node can take it");
                Err(failure.retry_after(std::time::Duration::from_millis(40)))
            }
            "full-on-the-first" if self.node != 1 => Ok(reply(self.node, invocation.payload)),
            "full" | "full-on-the-first" => {
                let failure = Failure::not_executed(ErrorCode::Overloaded, "full");
                Err(failure.retry_after(std::time::Duration::from_millis(1)))
            }
            "draining" => Err(Failure::not_executed(ErrorCode::Draining, "leaving")),
            "ends-nodes" => match self.end.get() {
                Some(end) => {
                    end();
                    std::future::pending().await
                }
                None => Ok(reply(self.node, invocation.payload)),
            },
            "hang" => std::future::pending().await,
            "hang-on-the-first" if self.node == 1 => std::future::pending().await,
            "hang-on-the-first" => Err(Failure::executed(ErrorCode::FunctionFailed, "it ran here")),
            _ => Err(Failure::not_executed(ErrorCode::FunctionNotFound, "no such function")),
        }
    }
}

fn reply(node: u64, payload: Bytes) -> Reply {
    let version = VersionId { function: FunctionId(1), number: 4 };
    Reply { payload, version, node: NodeId(node), start: Start::Warm, usage: Usage::default() }
}

/// Knows one key and these nodes, and calls node 1 `goose`.
#[derive(Default)]
pub(crate) struct Keys {
    pub(crate) nodes: Mutex<Vec<NodeAddress>>,
    /// The catalogue's index, which becomes what is waited for.
    pub(crate) index: AtomicU64,
    /// As of when the key is revoked; 0 for never.
    pub(crate) revoked: AtomicU64,
}

impl Keys {
    fn is_revoked(&self) -> bool {
        (1..=self.index.load(SeqCst)).contains(&self.revoked.load(SeqCst))
    }
}

#[async_trait]
impl Authorize for Keys {
    async fn reach(&self, index: u64, _: Instant) -> Result<(), Failure> {
        self.index.fetch_max(index, SeqCst);
        Ok(())
    }

    fn identify(&self, key: &str) -> Result<(), Failure> {
        match key {
            KEY if !self.is_revoked() => Ok(()),
            _ => Err(Failure::not_executed(ErrorCode::Unauthenticated, "unknown key")),
        }
    }

    fn authorize(&self, key: &str, function: &FunctionRef) -> Result<(), Failure> {
        match (key, function.app.as_str()) {
            _ if self.is_revoked() => Err(Failure::not_executed(ErrorCode::Unauthenticated, "revoked")),
            (KEY, "secret") => Err(Failure::not_executed(ErrorCode::Forbidden, "not this app")),
            (KEY, _) => Ok(()),
            _ => Err(Failure::not_executed(ErrorCode::Unauthenticated, "unknown key")),
        }
    }

    fn nodes(&self, key: &str) -> Result<Vec<NodeAddress>, Failure> {
        match key {
            KEY => Ok(self.nodes.lock().unwrap().clone()),
            _ => Err(Failure::not_executed(ErrorCode::Unauthenticated, "unknown key")),
        }
    }

    fn node_name(&self, node: NodeId) -> Option<NodeName> {
        (node == NodeId(1)).then(|| "goose".parse().unwrap())
    }
}
