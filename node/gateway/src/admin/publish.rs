//! Artifacts and the versions made of them.

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use skein_proto::{AppName, Digest, ErrorCode, Failure, FunctionName, Limits};

use super::{Asked, asked::to_json};
use crate::{
    api::{ArtifactStored, PublishRequest},
    body::Inbound,
    problem::Refusal,
};

/// `PUT /v1/artifacts/{digest}`. Hashed piece by piece as it arrives, so that no async thread hashes 64 MiB at once.
pub(super) async fn put_artifact(asked: Asked, body: Inbound) -> Result<Bytes, Refusal> {
    let named = match asked.param::<Digest>("digest") {
        Ok(digest) => digest,
        Err(refusal) => {
            body.discard().await;
            return Err(refusal);
        }
    };
    let mut hasher = Sha256::new();
    let allowed = asked.allowed(Limits::ARTIFACT_BYTES_MAX);
    let held = body.read(allowed, &mut |piece| hasher.update(piece)).await?;
    let found = Digest::from_bytes(hasher.finalize().into());
    if found != named {
        let message = format!("the body's digest is {found}, not {named} as the path says; nothing was stored");
        return Err(Failure::not_executed(ErrorCode::Conflict, message).into());
    }
    let size = held.bytes.len() as u64;
    let digest = asked.admin.parts.operations.put_artifact(held.bytes.clone()).await?;
    to_json(&ArtifactStored { digest, size })
}

/// `POST /v1/functions/{app}/{name}/versions`.
pub(super) async fn publish(asked: Asked, body: Inbound) -> Result<Bytes, Refusal> {
    let publish: PublishRequest = asked.json(body).await?;
    let (app, name): (AppName, FunctionName) = (asked.param("app")?, asked.param("name")?);
    let manifest = &publish.manifest;
    if manifest.app != app || manifest.name != name {
        let named = format!("{}/{}", manifest.app, manifest.name);
        return Err(Refusal::bad_request(format!("the manifest is of `{named}`, the path of `{app}/{name}`")));
    }
    manifest.check_size()?;
    manifest.check().map_err(|message| Failure::not_executed(ErrorCode::BadManifest, message))?;
    let request = asked.request_id()?;
    to_json(&asked.admin.parts.operations.publish(publish, asked.author(), request).await?)
}
