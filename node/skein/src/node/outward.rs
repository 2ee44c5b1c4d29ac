//! The way out of this node for its functions' HTTP requests.

use std::{fs, sync::Arc};

use skein_egress::{EgressConfig, HttpEgress};
use skein_engine::{Asked, HttpRequest, HttpResponse};
use skein_proto::{AppName, Failure, Grants};
use skein_runtime::Egress;
use tokio::time::Instant;

use super::descriptors::Descriptors;
use crate::{config::NodeConfig, data_dir::io_failure};

struct WayOut(HttpEgress);

impl Egress for WayOut {
    fn send(&self, request: HttpRequest, app: &AppName, grants: &Grants, deadline: Instant) -> Asked<HttpResponse> {
        self.0.send(request, app, grants, deadline)
    }
}

/// What sends requests, as the node is configured.
///
/// # Errors
/// What keeps the additional certificates from being read.
pub(super) fn egress(config: &NodeConfig, descriptors: Descriptors) -> Result<Arc<dyn Egress>, Failure> {
    let mut settings = EgressConfig::default();
    settings.requests_max = settings.requests_max.min(descriptors.share());
    settings.may_reach_private = config.egress_private;
    if let Some(path) = &config.egress_ca {
        settings.roots_pem = fs::read(path).map_err(|error| io_failure("read `egress_ca`,", path, &error))?;
    }
    Ok(Arc::new(WayOut(HttpEgress::new(settings)?)))
}
