//! The receiving side: a peer's attempt goes to the runtime here, never to a router.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use skein_catalog::Watch;
use skein_proto::{ErrorCode, Failure, Invoke, codec};
use skein_transport::{Caller, Serve};
use tokio::time::Instant;

use crate::{reach::reach, wire::Attempt};

/// What answers peers' attempts with `local`, the runtime; to be registered for [`skein_transport::Service::Invoke`].
///
/// A peer may have applied more of the catalogue than this node: the attempt waits for it a little, and is sent back
/// as `moved` (not executed) when that takes too long.
pub fn invoke_service(local: Arc<dyn Invoke>, catalog: Watch) -> Arc<dyn Serve> {
    Arc::new(InvokeService { local, catalog })
}

struct InvokeService {
    local: Arc<dyn Invoke>,
    catalog: Watch,
}

#[async_trait]
impl Serve for InvokeService {
    async fn call(&self, from: Caller, body: Bytes, deadline: Instant) -> Result<Bytes, Failure> {
        if from == Caller::Stranger {
            return Err(Failure::not_executed(ErrorCode::Untrusted, "only members may send attempts"));
        }
        let attempt: Attempt = codec::decode(&body)?;
        let version = attempt.version;
        let invocation = attempt.into_invocation(deadline);
        invocation.check_depth()?;
        if let Err(index) = reach(&self.catalog, invocation.index_min, invocation.deadline).await {
            let asked = invocation.index_min;
            let message = format!("the node has applied the catalogue up to {index}, not yet up to {asked}");
            return Err(Failure::not_executed(ErrorCode::Moved, message));
        }
        if self.catalog.borrow().version(version).is_none() {
            let message = format!("function {} has no version {}", version.function, version.number);
            return Err(Failure::not_executed(ErrorCode::VersionNotFound, message));
        }
        let reply = self.local.invoke(invocation).await?;
        codec::encode(&reply).map_err(|error| Failure::executed(ErrorCode::Internal, error.to_string()))
    }
}
