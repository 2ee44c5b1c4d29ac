//! The handle to a mesh: which node to ask, and whether to ask another.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use async_trait::async_trait;
use skein_proto::{
    ErrorCode, Failure, FunctionRef, Invocation, InvocationTarget, Invoke, ParseError, Progress, Reply, codec,
};
use skein_transport::CaPin;
use tokio::time::Instant;

use crate::{
    Context, Function,
    link::Link,
    wire::{ClientReply, ClientRequest},
};

/// A mesh, as its client sees it. A handle: clones share its connections.
#[derive(Clone)]
pub struct Mesh {
    shared: Arc<Shared>,
}

struct Shared {
    key: String,
    pin: CaPin,
    links: Vec<Link>,
    /// The link that answered last, and is asked first.
    first: AtomicUsize,
}

impl Mesh {
    /// Connects to the first node of `context` that answers.
    ///
    /// # Errors
    /// `bad-request` for a context without nodes; `untrusted` if its CA is no certificate, or a node is not signed by
    /// it; `unreachable` when no node answers. Nothing was executed.
    pub async fn connect(context: Context) -> Result<Self, Failure> {
        let pin = CaPin::from_pem(&context.ca)?;
        let links: Vec<_> = context.nodes.into_iter().map(|node| Link::new(node.name, node.mesh)).collect();
        let mesh = Self { shared: Arc::new(Shared { key: context.key, pin, links, first: AtomicUsize::new(0) }) };
        let mut last = Failure::not_executed(ErrorCode::BadRequest, "the context names no node");
        for (index, link) in mesh.shared.links.iter().enumerate() {
            match link.connected(&mesh.shared.pin, Instant::now() + CONNECT_MAX).await {
                Ok(_) => {
                    mesh.shared.first.store(index, Relaxed);
                    return Ok(mesh);
                }
                Err(failure) => last = failure,
            }
        }
        Err(last)
    }

    /// The function that `reference` (`[app/]name[@version|:alias]`) names. Asks nobody; the call itself does.
    ///
    /// # Errors
    /// [`ParseError`] when the text is no reference.
    pub fn function(&self, reference: &str) -> Result<Function, ParseError> {
        Ok(Function::new(self.clone(), reference.parse()?))
    }

    /// Ends the connections. Calls under way on other clones end with `unreachable` or `peer-lost`.
    pub async fn close(self) {
        for link in &self.shared.links {
            link.close().await;
        }
    }

    /// Sends a call to one node after another until one has an answer that another would not better.
    pub(crate) async fn send(&self, invocation: Invocation) -> Result<ClientReply, Failure> {
        let reference = reference(invocation.target)?;
        let (deadline, is_idempotent) = (invocation.deadline, invocation.is_idempotent);
        let mut request = ClientRequest {
            key: self.shared.key.clone(),
            invocation: invocation.id,
            reference,
            payload: invocation.payload,
            headers: invocation.headers,
            deadline_ms: 0,
            traceparent: invocation.traceparent,
            index_min: invocation.index_min,
            is_idempotent,
        };
        let count = self.shared.links.len();
        let first = self.shared.first.load(Relaxed);
        let mut progress = Progress::NotExecuted;
        let mut last = Failure::not_executed(ErrorCode::Unreachable, "the context names no node");
        // Every node once, and the first once more: its connection may only have been stale.
        for index in (first..=first + count).map(|index| index % count.max(1)) {
            let Some(link) = self.shared.links.get(index) else { break };
            let remaining = deadline.saturating_duration_since(Instant::now());
            if remaining.is_zero() {
                last = Failure::not_executed(ErrorCode::DeadlineExceeded, "the deadline passed before a node answered");
                break;
            }
            request.deadline_ms = u64::try_from(remaining.as_millis()).unwrap_or(u64::MAX).max(1);
            match link.call(&self.shared.pin, codec::encode(&request)?, deadline).await {
                Ok(answer) => {
                    self.shared.first.store(index, Relaxed);
                    return decode(&answer);
                }
                Err(failure) if is_worth_another_node(&failure, is_idempotent) => {
                    progress = furthest(progress, failure.progress);
                    last = failure;
                }
                Err(failure) => {
                    last = failure;
                    break;
                }
            }
        }
        last.progress = furthest(progress, last.progress);
        Err(last)
    }
}

#[async_trait]
impl Invoke for Mesh {
    /// Calls a function by its name. Versions by id are between nodes.
    async fn invoke(&self, invocation: Invocation) -> Result<Reply, Failure> {
        self.send(invocation).await.map(|answer| answer.reply)
    }
}

fn reference(target: InvocationTarget) -> Result<FunctionRef, Failure> {
    match target {
        InvocationTarget::Reference(reference) => Ok(reference),
        InvocationTarget::Version(version) => {
            let message = format!("a client calls functions by name, not version {version} by its id");
            Err(Failure::not_executed(ErrorCode::BadRequest, message))
        }
    }
}

fn decode(answer: &[u8]) -> Result<ClientReply, Failure> {
    let unreadable = |error: codec::CodecError| Failure::executed(ErrorCode::Malformed, format!("the answer: {error}"));
    codec::decode(answer).map_err(unreadable)
}

/// Whether another node may do better. Pure.
fn is_worth_another_node(failure: &Failure, is_idempotent: bool) -> bool {
    let is_safe = match failure.progress {
        Progress::NotExecuted => true,
        Progress::MaybeExecuted => is_idempotent,
        Progress::Executed => false,
    };
    // These speak of the node that was asked, or of the way to it. What speaks of the call (no such function, no leave,
    // overloaded everywhere) is the same from every node, and repeating it would only add to the load.
    let is_the_nodes = matches!(
        failure.code,
        ErrorCode::Unreachable
            | ErrorCode::PeerLost
            | ErrorCode::Draining
            | ErrorCode::Unavailable
            | ErrorCode::Moved
            | ErrorCode::ArtifactUnavailable
            | ErrorCode::Untrusted
            | ErrorCode::ProtocolMismatch
    );
    is_safe && is_the_nodes
}

/// What is known of several attempts: if one may have run, the call may have.
fn furthest(one: Progress, other: Progress) -> Progress {
    match (one, other) {
        (Progress::Executed, _) | (_, Progress::Executed) => Progress::Executed,
        (Progress::MaybeExecuted, _) | (_, Progress::MaybeExecuted) => Progress::MaybeExecuted,
        (Progress::NotExecuted, Progress::NotExecuted) => Progress::NotExecuted,
    }
}

/// How long [`Mesh::connect`] waits for each node.
const CONNECT_MAX: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests;
