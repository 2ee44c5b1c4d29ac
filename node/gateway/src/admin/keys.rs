//! Keys and join tokens: made, listed, taken back. A secret is shown once, in the answer that made it.
//!
//! So making one is not idempotent, whatever `idempotency-key` says: who repeats it because the answer was lost gets
//! another, and the first remains a key whose secret nobody knows.

use std::time::Duration;

use bytes::Bytes;
use skein_catalog::{Command, KeyRecord, RequestId};
use uuid::Uuid;

use super::{Asked, asked::to_json};
use crate::{
    api::{Done, KeyCreated, KeyList, KeyRequest, KeySummary, TOKEN_TTL_MAX, TokenRequest},
    auth::mint,
    body::Inbound,
    entrance::now_ms,
    problem::Refusal,
};

/// Life of a join token whose maker says nothing.
const TOKEN_TTL: Duration = Duration::from_secs(3600);
/// Longest remark on a key, in bytes: it lives in every replica of the catalogue.
const NOTE_BYTES_MAX: usize = 1_000;

/// `GET /v1/keys`.
pub(super) async fn list(asked: Asked) -> Result<Bytes, Refusal> {
    let catalog = asked.catalog().await?;
    let now_ms = now_ms();
    let keys = catalog.keys().map(|(id, key)| KeySummary {
        id: id.to_owned(),
        role: key.role,
        app: key.app.clone(),
        note: key.note.clone(),
        created_ms: key.created_ms,
        expires_ms: key.expires_ms,
        is_expired: key.expires_ms.is_some_and(|expires| expires <= now_ms),
    });
    let mut keys: Vec<KeySummary> = keys.collect();
    keys.sort_by(|one, other| one.id.cmp(&other.id));
    to_json(&KeyList { keys, index: catalog.index() })
}

/// `POST /v1/keys`.
pub(super) async fn create(asked: Asked, body: Inbound) -> Result<Bytes, Refusal> {
    let KeyRequest { role, app, note, ttl_ms } = asked.json(body).await?;
    if note.len() > NOTE_BYTES_MAX {
        return Err(Refusal::bad_request(format!("the note is {} bytes; at most {NOTE_BYTES_MAX} fit", note.len())));
    }
    if ttl_ms == Some(0) {
        return Err(Refusal::bad_request("`ttl_ms` must be at least 1"));
    }
    let created_ms = now_ms();
    let expires_ms = ttl_ms.map(|ttl| created_ms.saturating_add(ttl));
    let minted = mint(rand::random(), rand::random());
    let key = KeyRecord { hash: minted.hash, role, app: app.clone(), note, created_ms, expires_ms };
    let command = Command::CreateKey { id: minted.id.clone(), key };
    let applied = asked.propose(RequestId(Uuid::now_v7()), command).await?;
    to_json(&KeyCreated { key: minted.text, id: minted.id, role, app, expires_ms, index: applied.index })
}

/// `DELETE /v1/keys/{id}`.
pub(super) async fn revoke(asked: Asked) -> Result<Bytes, Refusal> {
    let command = Command::RevokeKey { id: asked.text("id").to_owned() };
    let applied = asked.propose(asked.request_id()?, command).await?;
    to_json(&Done { index: applied.index })
}

/// `POST /v1/tokens`.
pub(super) async fn create_token(asked: Asked, body: Inbound) -> Result<Bytes, Refusal> {
    let TokenRequest { ttl_ms, role } = asked.json_or_default(body).await?;
    let ttl = ttl_ms.map_or(TOKEN_TTL, Duration::from_millis);
    if !(Duration::from_millis(1)..=TOKEN_TTL_MAX).contains(&ttl) {
        let most = TOKEN_TTL_MAX.as_millis();
        return Err(Refusal::bad_request(format!("`ttl_ms` must be from 1 to {most}, which is 7 days")));
    }
    to_json(&asked.admin.parts.operations.create_token(ttl, role).await?)
}
