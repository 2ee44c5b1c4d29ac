//! One request of the admin API, authorized: its parameters, query and body by their types.

use std::{collections::BTreeMap, str::FromStr, sync::Arc};

use axum::extract::Query;
use bytes::Bytes;
use http::request::Parts as Head;
use serde::{Serialize, de::DeserializeOwned};
use skein_catalog::{Applied, Catalog, Command, PROPOSE_DEADLINE, RequestId};
use skein_proto::{AppName, ErrorCode, Failure, ParseError};
use tokio::time::Instant;
use uuid::Uuid;

use super::{Access, Admin, Scope};
use crate::{
    KeyIdentity,
    body::{Allowed, Inbound},
    entrance::identify_in,
    places::Here,
    problem::Refusal,
    shares::Share,
};

/// Largest JSON body: a manifest is a few KiB.
const JSON_BYTES_MAX: u64 = 1 << 20;

/// One request that its caller may make.
pub(crate) struct Asked {
    pub(crate) admin: Arc<Admin>,
    caller: Option<KeyIdentity>,
    /// What its caller has under way here.
    share: Option<Share>,
    /// Who may make it.
    access: &'static Access,
    head: Head,
    params: BTreeMap<String, String>,
}

impl Asked {
    pub(super) fn new(admin: Arc<Admin>, head: Head, params: BTreeMap<String, String>) -> Self {
        Self { admin, caller: None, share: None, access: &Access::Public, head, params }
    }

    /// The same, once its caller is known and allowed to make it.
    pub(super) async fn admit(mut self, access: &'static Access) -> Result<Self, Refusal> {
        if matches!(access, Access::Public) {
            return Ok(self);
        }
        if !self.admin.parts.operations.is_serving() {
            self.admin.parts.operations.until_serving().await?;
        }
        self.access = access;
        let caller = identify_in(&self.admin.entrance.known(), &self.head.headers)?;
        self.allow(&caller)?;
        self.share = Some(self.admin.entrance.share(&caller)?);
        self.caller = Some(caller);
        if let Some(here) = self.head.extensions.get::<Here>() {
            here.let_in();
        }
        Ok(self)
    }

    /// Whether the caller may make it.
    fn allow(&self, caller: &KeyIdentity) -> Result<(), Refusal> {
        let Access::Key(role, scope) = self.access else { return Ok(()) };
        match scope {
            Scope::Mesh => caller.allow(*role, None)?,
            Scope::Path => caller.allow(*role, Some(&self.param::<AppName>("app")?))?,
            Scope::Own => caller.allow(*role, caller.app.as_ref())?,
        }
        Ok(())
    }

    /// The app the caller is confined to; none for all.
    pub(super) fn own_app(&self) -> Option<&AppName> {
        self.caller.as_ref().and_then(|caller| caller.app.as_ref())
    }

    /// The id of the caller's key.
    pub(super) fn author(&self) -> String {
        self.caller.as_ref().map(|caller| caller.id.clone()).unwrap_or_default()
    }

    /// A part of the path.
    pub(super) fn param<T: FromStr<Err = ParseError>>(&self, name: &str) -> Result<T, Refusal> {
        Ok(self.text(name).parse()?)
    }

    /// A part of the path, as text.
    pub(super) fn text(&self, name: &str) -> &str {
        self.params.get(name).map(String::as_str).unwrap_or_default()
    }

    /// The query.
    pub(super) fn query<T: DeserializeOwned>(&self) -> Result<T, Refusal> {
        let query = Query::try_from_uri(&self.head.uri);
        query.map(|Query(query)| query).map_err(|error| Refusal::bad_request(error.body_text()))
    }

    /// The catalogue here, at least as new as the caller asks for.
    pub(super) async fn catalog(&self) -> Result<Arc<Catalog>, Refusal> {
        let (catalog, _) =
            self.admin.entrance.catalog_for(&self.head.headers, None, |caller| self.allow(caller)).await?;
        Ok(catalog)
    }

    /// How its body may arrive, of `most` bytes.
    pub(super) fn allowed(&self, most: u64) -> Allowed<'_> {
        let share = self.share.as_ref().map(Share::bytes);
        Allowed { bodies: &self.admin.entrance.bodies, most, deadline: None, share }
    }

    /// The body, which must be there.
    pub(super) async fn json<T: DeserializeOwned>(&self, body: Inbound) -> Result<T, Refusal> {
        let held = body.read(self.allowed(JSON_BYTES_MAX), &mut |_| {}).await?;
        from_json(&held.bytes)
    }

    /// The body, or its default if there is none.
    pub(super) async fn json_or_default<T: DeserializeOwned + Default>(&self, body: Inbound) -> Result<T, Refusal> {
        let held = body.read(self.allowed(JSON_BYTES_MAX), &mut |_| {}).await?;
        if held.bytes.trim_ascii().is_empty() { Ok(T::default()) } else { from_json(&held.bytes) }
    }

    /// The request's id: the client's own `idempotency-key`, or a new one.
    pub(super) fn request_id(&self) -> Result<RequestId, Refusal> {
        let Some(value) = self.head.headers.get("idempotency-key") else { return Ok(RequestId(Uuid::now_v7())) };
        let id = value.to_str().ok().and_then(|text| Uuid::try_parse(text.trim()).ok());
        id.map(RequestId).ok_or_else(|| Refusal::bad_request("`idempotency-key` is not a UUID"))
    }

    /// Has a command committed and applied here.
    pub(super) async fn propose(&self, request: RequestId, command: Command) -> Result<Applied, Refusal> {
        let deadline = Instant::now() + PROPOSE_DEADLINE;
        Ok(self.admin.parts.consensus.propose(request, command, deadline).await?)
    }
}

fn from_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(bytes)
        .map_err(|error| Refusal::bad_request(format!("the body is not the JSON this takes: {error}")))
}

/// An answer as JSON.
pub(super) fn to_json<T: Serialize>(value: &T) -> Result<Bytes, Refusal> {
    let json = serde_json::to_vec(value);
    json.map(Bytes::from).map_err(|error| {
        Failure::executed(ErrorCode::Internal, format!("the answer could not be written: {error}")).into()
    })
}
