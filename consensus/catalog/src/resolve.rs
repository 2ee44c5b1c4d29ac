//! From a name to the version that answers it.

use std::sync::Arc;

use skein_proto::{Failure, FunctionRef, VersionId};

use crate::{Catalog, VersionRecord};

/// What a reference means in one catalogue.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// The version.
    pub id: VersionId,
    /// Its record.
    pub version: Arc<VersionRecord>,
}

impl Catalog {
    /// The version that `reference` names here.
    ///
    /// # Errors
    /// `function-not-found`, `version-not-found` or `alias-not-found`, all `not-executed`, with the known ones named.
    pub fn resolve(&self, reference: &FunctionRef) -> Result<Resolved, Failure> {
        let _ = reference;
        Err(Failure::not_executed(skein_proto::ErrorCode::FunctionNotFound, ""))
    }
}
