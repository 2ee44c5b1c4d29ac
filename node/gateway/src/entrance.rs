//! What every request passes, whichever listener it came in by: admission, the key, and the index it asks for.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use http::{HeaderMap, header};
use skein_catalog::{Catalog, Propose};
use skein_proto::{ErrorCode, Failure};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout_at},
};

use crate::{
    GatewayConfig, KeyIdentity,
    auth::identify,
    body::{BodyPolicy, overloaded},
    problem::Refusal,
    shares::{Share, Shares},
};

/// The door of one listener.
pub(crate) struct Entrance {
    consensus: Arc<dyn Propose>,
    permits: Arc<Semaphore>,
    shares: Arc<Shares>,
    pub(crate) bodies: BodyPolicy,
}

/// Longest wait for this node to apply an index that a caller has seen elsewhere.
const INDEX_WAIT_MAX: Duration = Duration::from_secs(2);

impl Entrance {
    pub(crate) fn new(consensus: Arc<dyn Propose>, config: &GatewayConfig) -> Self {
        Self {
            consensus,
            permits: Arc::new(Semaphore::new(config.requests_max.min(Semaphore::MAX_PERMITS))),
            shares: Shares::new(config),
            bodies: BodyPolicy::new(config),
        }
    }

    /// Leave to go on, given back when dropped. Never waits.
    pub(crate) fn permit(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        let refuse = |_| overloaded("this node is answering as many requests as it may");
        self.permits.clone().try_acquire_owned().map_err(refuse)
    }

    /// What whoever holds this key may have under way here, given back when dropped. Never waits.
    pub(crate) fn share(&self, caller: &KeyIdentity) -> Result<Share, Refusal> {
        self.shares.request(caller)
    }

    /// The catalogue as applied here.
    pub(crate) fn known(&self) -> Arc<Catalog> {
        self.consensus.catalog()
    }

    /// The catalogue as applied here, once it is as new as the caller asks for with `skein-min-index`, and the caller, whom
    /// `is_let_in` lets in. Nobody gets to wait without a key, and the key may have ended in what was waited for.
    pub(crate) async fn catalog_for<E>(
        &self,
        headers: &HeaderMap,
        by: Option<Instant>,
        is_let_in: impl Fn(&KeyIdentity) -> Result<(), E>,
    ) -> Result<(Arc<Catalog>, KeyIdentity), Refusal>
    where
        Refusal: From<E>,
    {
        let known = self.known();
        let mut caller = identify_in(&known, headers)?;
        is_let_in(&caller)?;
        let catalog = self.catalog(headers, by).await?;
        if !Arc::ptr_eq(&known, &catalog) {
            caller = identify_in(&catalog, headers)?;
            is_let_in(&caller)?;
        }
        Ok((catalog, caller))
    }

    async fn catalog(&self, headers: &HeaderMap, by: Option<Instant>) -> Result<Arc<Catalog>, Refusal> {
        let index_min = index_min(headers)?;
        let catalog = self.consensus.catalog();
        if catalog.index() >= index_min {
            return Ok(catalog);
        }
        let until = Instant::now() + INDEX_WAIT_MAX;
        let until = by.map_or(until, |by| by.min(until));
        let mut watch = self.consensus.watch();
        let applied = timeout_at(until, watch.wait_for(|catalog| catalog.index() >= index_min)).await;
        match applied {
            Ok(Ok(catalog)) => Ok(catalog.clone()),
            Ok(Err(_)) | Err(_) => {
                let message = format!("this node has not applied index {index_min} yet; it is at {}", catalog.index());
                let failure = Failure::not_executed(ErrorCode::Unavailable, message);
                Err(failure.retry_after(Duration::from_secs(1)).into())
            }
        }
    }
}

/// Whom the request's key stands for, by that catalogue.
pub(crate) fn identify_in(catalog: &Catalog, headers: &HeaderMap) -> Result<KeyIdentity, Refusal> {
    let unauthenticated = |message: &str| Failure::not_executed(ErrorCode::Unauthenticated, message);
    let value = headers.get(header::AUTHORIZATION).ok_or_else(|| unauthenticated("no key was sent"))?;
    let (scheme, key) = value
        .to_str()
        .ok()
        .and_then(|text| text.split_once(' '))
        .ok_or_else(|| unauthenticated("the authorization header is not of the form `Bearer KEY`"))?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(unauthenticated("the authorization scheme is not `Bearer`").into());
    }
    Ok(identify(catalog, key.trim(), now_ms())?)
}

/// The catalogue index below which nothing may answer, as the caller says; 0 for any.
pub(crate) fn index_min(headers: &HeaderMap) -> Result<u64, Refusal> {
    let Some(value) = headers.get("skein-min-index") else { return Ok(0) };
    let index = value.to_str().ok().and_then(|text| text.trim().parse().ok());
    index.ok_or_else(|| Refusal::bad_request("`skein-min-index` is not a whole number"))
}

/// The time in milliseconds since the Unix epoch; what expiries are held against.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
