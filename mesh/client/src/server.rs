//! The node's half: takes requests of clients, checks their keys, and hands the calls on.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use skein_proto::{
    ErrorCode, Failure, FunctionRef, Invocation, InvocationTarget, Invoke, Limits, NodeId, NodeName, codec,
};
use skein_transport::{Caller, Serve};
use tokio::time::Instant;

use crate::wire::{ClientReply, ClientRequest, HEADERS_MAX, NodeAddress, NodesReply, NodesRequest};

/// Says whether a key may call a function, and how nodes are called. The assembly answers from its catalogue.
#[async_trait]
pub trait Authorize: Send + Sync {
    /// Whether `key` is one of the mesh's, whatever it allows. Asked before anything of a request is read.
    ///
    /// # Errors
    /// `unauthenticated` for a key that is unknown, revoked or expired.
    fn identify(&self, key: &str) -> Result<(), Failure>;

    /// Leave for the holder of `key` to call `function` now.
    ///
    /// # Errors
    /// `unauthenticated` for a key that is unknown, revoked or expired; `forbidden` for one that does not allow this.
    fn authorize(&self, key: &str, function: &FunctionRef) -> Result<(), Failure>;

    /// Waits, for a bounded while, until the node knows the catalogue as of `index`.
    ///
    /// # Errors
    /// `unavailable`, not executed, if it does not by then.
    async fn reach(&self, index: u64, deadline: Instant) -> Result<(), Failure>;

    /// The name of a node, for the client to show.
    fn node_name(&self, node: NodeId) -> Option<NodeName>;

    /// The nodes of the mesh, for the holder of `key`, whatever else that allows.
    ///
    /// # Errors
    /// `unauthenticated` for a key that is unknown, revoked or expired.
    fn nodes(&self, key: &str) -> Result<Vec<NodeAddress>, Failure>;
}

/// Serves [`Service::Client`](skein_transport::Service::Client): one request is one call.
#[derive(Clone)]
pub struct ClientService {
    invoke: Arc<dyn Invoke>,
    authorize: Arc<dyn Authorize>,
}

impl ClientService {
    /// A service that asks `authorize` about each request and has `invoke`, the node's router, run it.
    pub fn new(invoke: Arc<dyn Invoke>, authorize: Arc<dyn Authorize>) -> Self {
        Self { invoke, authorize }
    }
}

#[async_trait]
impl Serve for ClientService {
    /// Nobody calls without a key.
    async fn call(&self, _: Caller, _: Bytes, _: Instant) -> Result<Bytes, Failure> {
        Err(keyless())
    }

    async fn admit(&self, key: &str) -> Result<(), Failure> {
        self.authorize.identify(key)
    }

    async fn call_with_key(&self, key: &str, body: Bytes, deadline: Instant) -> Result<Bytes, Failure> {
        let request: ClientRequest = codec::decode(&body)?;
        drop(body);
        let wanted = Duration::from_millis(request.deadline_ms.min(Limits::DEADLINE_MS_MAX));
        let deadline = deadline.min(Instant::now() + wanted);
        self.authorize.authorize(key, &request.reference)?;
        if request.index_min > 0 {
            // Nobody gets to wait without a key, and the catalogue that answers may be one in which the key has ended.
            self.authorize.reach(request.index_min, deadline).await?;
            self.authorize.authorize(key, &request.reference)?;
        }
        let reply = self.invoke.invoke(invocation(request, deadline)?).await?;
        let node_name = self.authorize.node_name(reply.node).map_or_else(String::new, |name| name.to_string());
        // The function has run: a reply that cannot be written must not look like a call that never began.
        codec::encode(&ClientReply { reply, node_name })
            .map_err(|error| Failure::executed(ErrorCode::Internal, error.to_string()))
    }
}

/// Serves [`Service::Nodes`](skein_transport::Service::Nodes): which nodes there are, so that a client finds others when
/// the one that it knows is gone.
#[derive(Clone)]
pub struct NodesService {
    authorize: Arc<dyn Authorize>,
}

impl NodesService {
    /// A service that asks `authorize`.
    pub fn new(authorize: Arc<dyn Authorize>) -> Self {
        Self { authorize }
    }
}

#[async_trait]
impl Serve for NodesService {
    /// Nobody is told without a key.
    async fn call(&self, _: Caller, _: Bytes, _: Instant) -> Result<Bytes, Failure> {
        Err(keyless())
    }

    async fn admit(&self, key: &str) -> Result<(), Failure> {
        self.authorize.identify(key)
    }

    async fn call_with_key(&self, key: &str, body: Bytes, _: Instant) -> Result<Bytes, Failure> {
        let NodesRequest {} = codec::decode(&body)?;
        let nodes = self.authorize.nodes(key)?;
        Ok(codec::encode(&NodesReply { nodes })?)
    }
}

fn keyless() -> Failure {
    Failure::not_executed(ErrorCode::Unauthenticated, "a client's request begins with its key")
}

/// The invocation that a request asks for, to end at `deadline`. Pure.
fn invocation(request: ClientRequest, deadline: Instant) -> Result<Invocation, Failure> {
    let refuse = |message: String| Err(Failure::not_executed(ErrorCode::TooLarge, message));
    if request.headers.len() > HEADERS_MAX {
        return refuse(format!("more than {HEADERS_MAX} headers; at most {HEADERS_MAX} are taken"));
    }
    let bytes: usize = request.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    if bytes > HEADERS_BYTES_MAX {
        let count = request.headers.len();
        return refuse(format!("{count} headers of {bytes} bytes; at most {HEADERS_BYTES_MAX} bytes are taken"));
    }
    if request.traceparent.as_ref().is_some_and(|text| text.len() > TRACEPARENT_BYTES_MAX) {
        return refuse(format!("the traceparent has more than {TRACEPARENT_BYTES_MAX} bytes"));
    }
    Ok(Invocation {
        id: request.invocation,
        target: InvocationTarget::Reference(request.reference),
        payload: request.payload,
        headers: request.headers.into(),
        deadline,
        traceparent: request.traceparent.map(Into::into),
        depth: 0,
        chain: Vec::new(),
        caller: None,
        index_min: request.index_min,
        is_idempotent: request.is_idempotent,
        is_insistent: false,
        was_lost: request.was_lost,
    })
}

/// What HTTP servers take commonly.
const HEADERS_BYTES_MAX: usize = 64 << 10;

/// A version 00 traceparent has 55 bytes; later ones may be longer (W3C Trace Context, section 3.2).
const TRACEPARENT_BYTES_MAX: usize = 512;

#[cfg(test)]
mod tests;
