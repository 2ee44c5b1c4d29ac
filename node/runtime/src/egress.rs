//! The seam to whatever sends guests' HTTP requests.

use skein_engine::{Asked, HttpRequest, HttpResponse};
use skein_proto::{AppName, Grants};
use tokio::time::Instant;

/// Sends HTTP requests for guests. The assembly gives one to the runtime; it is asked only for what the version's
/// grants allow, and must ask them itself about every redirect that it follows.
pub trait Egress: Send + Sync {
    /// Sends `request` for a version of `app` with `grants`, and gives the whole answer by `deadline` at the latest. Dropping
    /// the future takes the request back.
    ///
    /// # Errors
    /// In the future: `not-granted`, `bad-request`, `unreachable`, `too-large`, `overloaded`, `deadline-exceeded`,
    /// `peer-lost`; each says by its progress whether the other side may have seen the request.
    fn send(&self, request: HttpRequest, app: &AppName, grants: &Grants, deadline: Instant) -> Asked<HttpResponse>;
}
