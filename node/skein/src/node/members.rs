//! Who is trusted: the CA's signature first, the catalogue after it.

use std::sync::OnceLock;

use skein_catalog::Watch;
use skein_proto::{Digest, NodeId};
use skein_transport::Trust;

/// The members as the catalogue knows them; until there is one, whoever the CA has signed.
#[derive(Default)]
pub(super) struct Members {
    catalog: OnceLock<Watch>,
}

impl Members {
    /// From now on, asks this catalogue. The network must exist before it.
    pub(super) fn follow(&self, catalog: Watch) {
        let _ = self.catalog.set(catalog);
    }
}

impl Trust for Members {
    fn is_trusted(&self, node: NodeId, key: Digest) -> bool {
        let Some(catalog) = self.catalog.get() else { return true };
        let catalog = catalog.borrow();
        // A node that is not known yet has just been let in: the CA signs only what the catalogue has accepted, and
        // this replica may be behind. A removed one stays known as removed.
        !catalog.was_removed(node) && catalog.member(node).is_none_or(|member| member.key == key)
    }
}
