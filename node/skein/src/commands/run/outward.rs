//! What a function may reach when it runs with no mesh: the HTTP origins it was granted, and nothing else.

use bytes::Bytes;
use skein_egress::{EgressConfig, HttpEgress};
use skein_engine::{Asked, HttpRequest, HttpResponse, InvokeRequest, Services, grants};
use skein_proto::{ErrorCode, Failure, Grants};
use tokio::time::Instant;

/// The outward side of one local call. Polled by threads of the async runtime's own.
pub(super) struct Local {
    egress: HttpEgress,
    grants: Grants,
    deadline: Instant,
}

impl Local {
    /// For a call that ends at `deadline`.
    ///
    /// # Errors
    /// `internal` if there is no TLS.
    pub(super) fn new(grants: Grants, deadline: Instant) -> Result<Self, Failure> {
        Ok(Self { egress: HttpEgress::new(EgressConfig::default())?, grants, deadline })
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
        self.egress.send(request, &self.grants, self.deadline)
    }
}
