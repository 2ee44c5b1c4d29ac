//! The handle: routes one invocation.

use std::sync::Arc;

use async_trait::async_trait;
use skein_catalog::Watch;
use skein_membership::View;
use skein_proto::{Failure, Invocation, Invoke, NodeId, Reply};
use skein_transport::Transport;
use tokio::sync::watch;

/// Takes calls by name and has them run on the best node. Clone it freely.
#[derive(Clone)]
pub struct Router {
    local: Arc<dyn Invoke>,
}

impl Router {
    /// A router for the node `me`, whose runtime is `local`.
    pub fn new(
        me: NodeId,
        local: Arc<dyn Invoke>,
        catalog: Watch,
        view: watch::Receiver<Arc<View>>,
        transport: Arc<dyn Transport>,
    ) -> Self {
        let _ = (me, catalog, view, transport);
        Self { local }
    }
}

#[async_trait]
impl Invoke for Router {
    async fn invoke(&self, invocation: Invocation) -> Result<Reply, Failure> {
        self.local.invoke(invocation).await
    }
}
