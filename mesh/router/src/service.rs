//! The receiving side: a peer's attempt goes to the runtime here.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use skein_catalog::Watch;
use skein_proto::{ErrorCode, Failure, Invoke};
use skein_transport::{Caller, Serve};
use tokio::time::Instant;

/// What answers peers' attempts; to be registered for [`skein_transport::Service::Invoke`].
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
        let _ = (&self.local, &self.catalog, from, body, deadline);
        Err(Failure::not_executed(ErrorCode::Unavailable, "not yet"))
    }
}
