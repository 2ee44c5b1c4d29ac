//! The client: sends a request, follows its redirects as far as the grants go, takes the answer.

use std::{sync::Arc, time::Duration};

use reqwest::{Certificate, Client, Response, redirect::Policy};
use skein_engine::{Asked, HttpRequest, HttpResponse, grants};
use skein_proto::{AppName, ErrorCode, Failure, Grants, Progress};
use tokio::time::{Instant, timeout_at};
use url::Host;

use crate::{
    EgressConfig,
    address::{Lookup, Resolver, is_private},
    body, fault,
    hop::Hop,
    share::Shares,
};

/// Sends HTTP requests for guests. Clones share connections and limits.
#[derive(Clone)]
pub struct HttpEgress {
    shared: Arc<Shared>,
}

struct Shared {
    /// For hosts that a grant names.
    named: Client,
    /// For hosts below a domain that a grant names: reaches no private address.
    guarded: Client,
    turns: Shares,
    room: Shares,
    may_reach_private: bool,
}

impl HttpEgress {
    /// A client with these settings. Connects to nothing yet.
    ///
    /// # Errors
    /// `bad-request` if `roots_pem` is no PEM, `internal` if there is no TLS.
    pub fn new(config: EgressConfig) -> Result<Self, Failure> {
        Self::with(config, Lookup::System)
    }

    pub(crate) fn with(config: EgressConfig, lookup: Lookup) -> Result<Self, Failure> {
        let lookup = Arc::new(lookup);
        let roots = Certificate::from_pem_bundle(&config.roots_pem).map_err(|error| {
            Failure::not_executed(ErrorCode::BadRequest, format!("the additional certificates are no PEM: {error}"))
        })?;
        let client = |is_guarded| {
            let resolver = Resolver { lookup: Arc::clone(&lookup), is_guarded };
            let builder = Client::builder()
                .user_agent(concat!("skein/", env!("CARGO_PKG_VERSION")))
                .dns_resolver(Arc::new(resolver))
                .redirect(Policy::none())
                .referer(false)
                .no_proxy()
                .connect_timeout(CONNECT_MAX)
                .pool_idle_timeout(IDLE_MAX)
                .pool_max_idle_per_host(IDLE_PER_HOST_MAX);
            let builder = roots.iter().cloned().fold(builder, reqwest::ClientBuilder::add_root_certificate);
            builder
                .build()
                .map_err(|error| Failure::not_executed(ErrorCode::Internal, format!("no HTTP client: {error}")))
        };
        let shared = Shared {
            named: client(!config.may_reach_private)?,
            guarded: client(true)?,
            turns: Shares::of(config.requests_max),
            room: Shares::of(config.answers_bytes_max),
            may_reach_private: config.may_reach_private,
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Sends `request` of a function of `app` if `grants` allow it, and gives the whole answer, whatever its status, by `deadline` at the
    /// latest. Dropping the future breaks the request off.
    ///
    /// # Errors
    /// `not-granted` for an origin, or a redirect to one, that no grant covers, and for private addresses; `bad-request`;
    /// `too-large` for an answer over the request's limit; `overloaded`; `unreachable`, not executed, without a
    /// connection; `peer-lost` for one that breaks; `malformed`; `deadline-exceeded`.
    pub fn send(&self, request: HttpRequest, app: &AppName, grants: &Grants, deadline: Instant) -> Asked<HttpResponse> {
        let (shared, app, grants) = (Arc::clone(&self.shared), app.clone(), grants.clone());
        Box::pin(async move {
            timeout_at(deadline, shared.exchange(request, &app, &grants)).await.unwrap_or_else(|_| {
                let message = "the call's deadline passed before the answer of its HTTP request was there";
                Err(Failure::maybe_executed(ErrorCode::DeadlineExceeded, message))
            })
        })
    }
}

impl Shared {
    async fn exchange(&self, request: HttpRequest, app: &AppName, granted: &Grants) -> Result<HttpResponse, Failure> {
        let (url, leave) = grants::http(granted, &request.url)?;
        let mut turn = self.turns.begin(app);
        if !turn.grow_to(1) {
            let message = format!("this node sends as many HTTP requests for functions of app {app} as it may now");
            return Err(Failure::not_executed(ErrorCode::Overloaded, message).retry_after(TURN_RETRY_AFTER));
        }
        let bytes_max = request.response_bytes_max;
        let mut hop = Hop::first(request, url, leave)?;
        for _ in 0..=REDIRECTS_MAX {
            let response = self.attempt(&hop).await?;
            let status = response.status();
            let Some(url) = hop.redirected_to(status, response.headers())? else {
                return body::read(response, &hop, bytes_max, self.room.begin(app)).await;
            };
            let leave = grants::http_url(granted, &url).map_err(|failure| {
                // The first origin has seen the request.
                let message = format!("{} redirects elsewhere: {}", hop.origin(), failure.message);
                Failure { message, progress: Progress::Executed, ..failure }
            })?;
            hop = hop.next(status, url, leave);
        }
        let message = format!("{} redirects more than {REDIRECTS_MAX} times", hop.origin());
        Err(Failure::executed(ErrorCode::LimitExceeded, message))
    }

    async fn attempt(&self, hop: &Hop) -> Result<Response, Failure> {
        let may_be_private = hop.is_named && self.may_reach_private;
        // The resolver never sees an address.
        let is_private_address = match hop.url.host() {
            Some(Host::Ipv4(address)) => is_private(address.into()),
            Some(Host::Ipv6(address)) => is_private(address.into()),
            _ => false,
        };
        if is_private_address && !may_be_private {
            return Err(fault::private(&hop.origin()));
        }
        let client = if hop.is_named { &self.named } else { &self.guarded };
        let request = client.request(hop.method.clone(), hop.url.clone()).headers(hop.headers.clone());
        let request = if hop.body.is_empty() { request } else { request.body(hop.body.clone()) };
        request.send().await.map_err(|error| fault::failure(error, hop))
    }
}

/// What browsers and curl's users are used to is 20 and 50; ten have always been enough.
const REDIRECTS_MAX: usize = 10;

/// Longest wait for a connection, TLS included.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// How long a connection stays without requests, and how many of one host do.
const IDLE_MAX: Duration = Duration::from_secs(30);
const IDLE_PER_HOST_MAX: usize = 16;

/// When another request is likely to have ended.
const TURN_RETRY_AFTER: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests;
