//! Answers members that take this node for the leader.

use async_trait::async_trait;
use bytes::Bytes;
use skein_proto::{ErrorCode, Failure, codec};
use skein_transport::{Caller, Serve};
use tokio::time::Instant;

use crate::{Group, StateMachine};

/// Serves [`Service::Propose`](skein_transport::Service::Propose). Passes nothing on: who asks, asks the next one itself.
pub(crate) struct ProposeService<M: StateMachine> {
    pub(crate) group: Group<M>,
}

#[async_trait]
impl<M: StateMachine> Serve for ProposeService<M> {
    async fn call(&self, from: Caller, body: Bytes, deadline: Instant) -> Result<Bytes, Failure> {
        let Caller::Peer(from) = from else {
            return Err(Failure::not_executed(ErrorCode::Untrusted, "proposals are taken from members only"));
        };
        let answer = self.group.answer_peer(from, &codec::decode(&body)?, deadline).await?;
        Ok(codec::encode(&answer)?)
    }
}
