//! What the assembly asks of its peers.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use skein_catalog::Propose;
use skein_membership::Told;
use skein_proto::{Digest, ErrorCode, Failure, InvocationId, NodeId, VersionId, codec};
use skein_router::Router;
use skein_transport::{Caller, Serve};
use tokio::time::Instant;

use super::{
    Shared, copies,
    join::{Admission, JoinRequest},
    migrate, prewarm, why,
};

/// One request of a peer.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum ControlRequest {
    /// Answer when this version could be called here: its publication applied, its code compiled.
    AwaitVersion {
        /// The version.
        version: VersionId,
        /// The log index of its publication.
        index: u64,
    },
    /// Make this version, published at `index`, ready here without a call.
    Warm {
        /// The version.
        version: VersionId,
        /// The log index of its publication.
        index: u64,
        /// Only because it will probably be called, and only with what there is to spare.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        is_guess: bool,
    },
    /// Take no new calls of this version, which is ready at `to`, and send them there for a while. The answer is how many
    /// calls still run, or none if the version is not live here.
    Release {
        /// The version.
        version: VersionId,
        /// Where it went.
        to: NodeId,
        /// For how long.
        hold_ms: u64,
    },
    /// Tell what is known here of a call.
    Why {
        /// The call.
        invocation: InvocationId,
    },
    /// Make ready elsewhere what is in use here: this node is about to be drained.
    Evacuate,
    /// Keep an artifact that a version needs, got from one of these members.
    Keep {
        /// Which.
        digest: Digest,
        /// Who has it.
        from: Vec<NodeId>,
    },
    /// Tell what the last look at the copies of artifacts found.
    Copies,
    /// Tell who the members are: the sender has no leader, and may have been away while some joined.
    Members,
    /// Decide about a node that asked a member without the CA.
    Join(JoinRequest),
}

/// Answers the peers.
pub(super) struct Control {
    shared: Shared,
    admission: Arc<Admission>,
    router: Arc<Router>,
}

impl Control {
    pub(super) fn new(shared: Shared, admission: Arc<Admission>, router: Arc<Router>) -> Self {
        Self { shared, admission, router }
    }
}

#[async_trait]
impl Serve for Control {
    // The transport lets strangers join and call functions, and nothing else: whoever asks here is a member.
    async fn call(&self, _: Caller, body: Bytes, deadline: Instant) -> Result<Bytes, Failure> {
        match codec::decode(&body)? {
            ControlRequest::AwaitVersion { version, index } => {
                await_version(&self.shared, version, index, deadline).await?;
                Ok(Bytes::new())
            }
            ControlRequest::Warm { version, is_guess: true, .. } => {
                prewarm::guess_here(&self.shared, version, deadline).await;
                Ok(Bytes::new())
            }
            ControlRequest::Warm { version, index, .. } => {
                migrate::warm_here(&self.shared, version, index, deadline).await?;
                Ok(Bytes::new())
            }
            ControlRequest::Release { version, to, hold_ms } => {
                let hold = Duration::from_millis(hold_ms);
                Ok(codec::encode(&migrate::release_here(&self.shared, version, to, hold).await)?)
            }
            ControlRequest::Why { invocation } => {
                Ok(codec::encode(&why::known(&self.shared, &self.router, invocation))?)
            }
            ControlRequest::Evacuate => {
                migrate::evacuate(&self.shared, deadline).await;
                Ok(Bytes::new())
            }
            ControlRequest::Keep { digest, from } => {
                copies::keep_here(&self.shared, digest, &from, deadline).await?;
                Ok(Bytes::new())
            }
            ControlRequest::Copies => {
                let report = self.shared.copies.borrow().clone();
                Ok(codec::encode(&report)?)
            }
            ControlRequest::Members => {
                let catalog = self.shared.consensus.catalog();
                let told = Told::by(&catalog, |node, recorded| self.shared.addresses_of(node, recorded));
                Ok(codec::encode(&told)?)
            }
            ControlRequest::Join(join) => self.admission.admit(join, deadline).await,
        }
    }
}

/// Waits until `version`, published at `index`, could be called here.
///
/// # Errors
/// `deadline-exceeded`, or why the version cannot be prepared.
pub(super) async fn await_version(
    shared: &Shared,
    version: VersionId,
    index: u64,
    deadline: Instant,
) -> Result<(), Failure> {
    let mut watch = shared.consensus.watch();
    // The guard that the wait gives must be gone before the next await.
    let applied = tokio::time::timeout_at(deadline, watch.wait_for(|catalog| catalog.index() >= index))
        .await
        .map(|waited| waited.is_ok());
    match applied {
        Ok(true) => {}
        Ok(false) => return Err(Failure::not_executed(ErrorCode::Unavailable, "the node is stopping")),
        Err(_) => {
            let message = format!("index {index} was not applied here in time");
            return Err(Failure::not_executed(ErrorCode::DeadlineExceeded, message));
        }
    }
    shared.runtime.prepare(version, deadline).await
}
