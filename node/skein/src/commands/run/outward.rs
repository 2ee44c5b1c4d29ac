//! What a function may reach when it runs with no mesh: the HTTP origins it was granted, and nothing else.

use bytes::Bytes;
use skein_egress::{EgressConfig, HttpEgress};
use skein_engine::{Asked, HttpRequest, HttpResponse, InvokeRequest, Services, grants};
use skein_proto::{AppName, ErrorCode, Failure, Grants, Manifest};
use tokio::time::Instant;

/// The outward side of one local call. Polled by threads of the async runtime's own.
pub(super) struct Local {
    egress: HttpEgress,
    app: AppName,
    grants: Grants,
    deadline: Instant,
}

impl Local {
    /// For a call of the version of `manifest` that ends at `deadline`.
    ///
    /// # Errors
    /// `internal` if there is no TLS.
    pub(super) fn new(manifest: &Manifest, deadline: Instant) -> Result<Self, Failure> {
        let (app, grants) = (manifest.app.clone(), manifest.grants.clone());
        Ok(Self { egress: HttpEgress::new(EgressConfig::default())?, app, grants, deadline })
    }
}

impl Services for Local {
    fn invoke(&self, request: InvokeRequest) -> Asked<Bytes> {
        let failure = grants::invoke(&self.grants, &request.reference).map_or_else(
            |failure| failure,
            |function| {
                let message =
                    format!("calling {function} needs a mesh, which `skein run` has not: publish both functions");
                Failure::not_executed(ErrorCode::Unavailable, message)
            },
        );
        Box::pin(std::future::ready(Err(failure)))
    }

    fn http(&self, request: HttpRequest) -> Asked<HttpResponse> {
        self.egress.send(request, &self.app, &self.grants, self.deadline)
    }
}
