//! Where each member may be: what the catalogue, its own signed record and other members say of it, put in order. Pure.

use std::collections::BTreeMap;

use skein_catalog::Catalog;
use skein_proto::NodeId;
use skein_transport::Address;

use crate::{KnownPeer, Records};

#[cfg(test)]
mod tests;

/// Where each of the others may be, the best word first: its own, then the catalogue's, then that of who vouched for it.
pub fn places(
    catalog: &Catalog,
    records: &Records,
    vouched: &[KnownPeer],
    me: NodeId,
) -> BTreeMap<NodeId, Vec<Address>> {
    // Those that were removed and whose votes are needed still, too.
    let recorded = catalog.members().chain(catalog.leaving()).map(|member| (member.node, &member.addresses));
    let vouched = vouched.iter().map(|peer| (peer.node, &peer.addresses));
    let mut places: BTreeMap<NodeId, Vec<Address>> = BTreeMap::new();
    for (node, addresses) in recorded.chain(vouched).filter(|(node, _)| *node != me) {
        let known = places.entry(node).or_default();
        let own = records.get(node).map(|at| at.mesh.clone());
        let read = addresses.mesh.parse().ok();
        if read.is_none() {
            tracing::warn!(%node, addr = %addresses.mesh, "address cannot be read");
        }
        for address in own.into_iter().chain(read) {
            if !known.contains(&address) {
                known.push(address);
            }
        }
    }
    places
}
