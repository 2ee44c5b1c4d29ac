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
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

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
        let mut dials = JoinSet::new();
        for index in 0..mesh.shared.links.len() {
            let mesh = mesh.clone();
            dials.spawn(async move {
                // A node that is there answers before the next one is bothered.
                sleep(STAGGER * u32::try_from(index).unwrap_or(u32::MAX)).await;
                (index, mesh.dial(index).await)
            });
        }
        let mut last = Failure::not_executed(ErrorCode::BadRequest, "the context names no node");
        while let Some(dialed) = dials.join_next().await {
            match dialed {
                Ok((index, Ok(()))) => {
                    mesh.shared.first.store(index, Relaxed);
                    return Ok(mesh);
                }
                Ok((_, Err(failure))) => last = failure,
                Err(broken) => last = Failure::not_executed(ErrorCode::Internal, broken.to_string()),
            }
        }
        Err(last)
    }

    async fn dial(&self, index: usize) -> Result<(), Failure> {
        match self.shared.links.get(index) {
            Some(link) => link.connected(&self.shared.pin, Instant::now() + CONNECT_MAX).await.map(drop),
            None => Ok(()),
        }
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
            headers: invocation.headers.to_vec(),
            deadline_ms: 0,
            traceparent: invocation.traceparent.as_deref().map(str::to_owned),
            index_min: invocation.index_min,
            is_idempotent,
        };
        let mut progress = Progress::NotExecuted;
        // What stands if the deadline leaves no time to ask anybody; else the last answer, which says more.
        let mut last = Failure::not_executed(ErrorCode::DeadlineExceeded, "the deadline passed before the call left");
        for (index, link) in self.order() {
            let remaining = deadline.saturating_duration_since(Instant::now());
            if remaining.is_zero() {
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

    /// The links in the order in which to ask them: the one that answered last leads among those that promise the same,
    /// and the first is asked once more at the end, since its connection may only have been stale.
    fn order(&self) -> Vec<(usize, &Link)> {
        let links = &self.shared.links;
        let first = self.shared.first.load(Relaxed);
        let mut order: Vec<_> = links.iter().enumerate().collect();
        order.rotate_left(first.min(links.len()));
        order.sort_by_cached_key(|(_, link)| link.promise());
        order.extend(order.first().copied());
        order
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

/// How far apart [`Mesh::connect`] begins its dials: some handshakes on a local network, one around the world.
const STAGGER: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests;
