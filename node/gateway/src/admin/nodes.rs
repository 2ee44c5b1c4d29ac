//! Nodes and the mesh: asked of the assembly, which knows more than the catalogue.

use bytes::Bytes;

use super::{Asked, asked::to_json};
use crate::{
    api::{NodeList, NodeQuery},
    problem::Refusal,
};

/// `GET /v1/nodes`.
pub(super) async fn list(asked: Asked) -> Result<Bytes, Refusal> {
    to_json(&NodeList { nodes: asked.admin.parts.operations.nodes().await })
}

/// `GET /v1/status`.
pub(super) async fn status(asked: Asked) -> Result<Bytes, Refusal> {
    to_json(&asked.admin.parts.operations.status().await)
}

/// `POST /v1/nodes/{node}/drain`.
pub(super) async fn drain(asked: Asked) -> Result<Bytes, Refusal> {
    let NodeQuery { force } = asked.query()?;
    to_json(&asked.admin.parts.operations.drain(&asked.param("node")?, force).await?)
}

/// `POST /v1/nodes/{node}/resume`.
pub(super) async fn resume(asked: Asked) -> Result<Bytes, Refusal> {
    to_json(&asked.admin.parts.operations.resume(&asked.param("node")?).await?)
}

/// `DELETE /v1/nodes/{node}`.
pub(super) async fn remove(asked: Asked) -> Result<Bytes, Refusal> {
    let NodeQuery { force } = asked.query()?;
    to_json(&asked.admin.parts.operations.remove(&asked.param("node")?, force).await?)
}
