//! What became of recent calls: asked of the assembly, which asks the nodes that took them.

use bytes::Bytes;
use skein_proto::{ErrorCode, Failure};

use super::{Asked, asked::to_json};
use crate::problem::Refusal;

/// `GET /v1/invocations/{id}/why`.
pub(super) async fn why(asked: Asked) -> Result<Bytes, Refusal> {
    let invocation = asked.param("id")?;
    let report = asked.admin.parts.operations.why(invocation).await?;
    // Whoever may see one app learns nothing of the calls of another, not even that there was one.
    if let Some(own) = asked.own_app()
        && report.app.as_ref() != Some(own)
    {
        let message = format!("no call {invocation} of app {own} is known");
        return Err(Failure::not_executed(ErrorCode::NotFound, message).into());
    }
    to_json(&report)
}
