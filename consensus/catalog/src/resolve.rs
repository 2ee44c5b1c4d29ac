//! From a name to the version that answers it.

use std::sync::Arc;

use skein_proto::{ErrorCode, Failure, FunctionRef, Target, VersionId};

use crate::{Catalog, VersionRecord, refusal::Refusal};

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
        let FunctionRef { app, name, target } = reference;
        let function = self
            .function(app, name)
            .ok_or_else(|| Failure::not_executed(ErrorCode::FunctionNotFound, self.unknown_function(app, name)))?;
        let number = match target {
            Target::Version(number) => *number,
            Target::Alias(alias) => function.existing_alias(alias)?.last().copied().unwrap_or(0),
        };
        let version = function.existing_version(number)?.clone();
        Ok(Resolved { id: VersionId { function: function.id, number }, version })
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::not_executed(refusal.code, refusal.message)
    }
}
