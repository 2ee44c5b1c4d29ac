//! The code of every version lies on as many members as it should, and at no time on none.

use std::collections::{BTreeMap, BTreeSet};

use skein_catalog::Catalog;
use skein_placement::copies::COPIES;
use skein_proto::{Digest, NodeId};

use crate::artifacts::name;

/// The artifacts that lie on fewer than enough of the members, by what each of these has on its disk.
pub fn check(catalog: &Catalog, disks: &BTreeMap<NodeId, BTreeSet<String>>) -> Option<String> {
    let members: BTreeSet<NodeId> = catalog.members().map(|member| member.node).collect();
    let wanted = COPIES.min(members.len());
    let short: Vec<String> = holders(catalog, disks, &members)
        .into_iter()
        .filter(|(_, holders)| holders.len() < wanted)
        .map(|(what, holders)| format!("{what} lies on {holders:?} only"))
        .collect();
    (!short.is_empty()).then(|| format!("of {wanted} copies: {}", short.join("; ")))
}

/// The artifacts that no node has which belongs to the mesh, or is on its way out.
pub fn lost(catalog: &Catalog, disks: &BTreeMap<NodeId, BTreeSet<String>>) -> Option<String> {
    let nodes = catalog.members().chain(catalog.leaving()).map(|member| member.node).collect();
    let lost = holders(catalog, disks, &nodes).into_iter().filter(|(_, holders)| holders.is_empty());
    let lost: BTreeSet<String> = lost.map(|(what, _)| what).collect();
    // Where it lies still: with those that were taken off.
    let anywhere = holders(catalog, disks, &disks.keys().copied().collect());
    let found = anywhere.into_iter().filter(|(what, _)| lost.contains(what));
    let found: Vec<String> = found.map(|(what, holders)| format!("{what} (which {holders:?} have)")).collect();
    (!lost.is_empty()).then(|| format!("of {nodes:?} none has {}", found.join(", ")))
}

/// Which of these nodes have the code of each version.
fn holders(
    catalog: &Catalog,
    disks: &BTreeMap<NodeId, BTreeSet<String>>,
    nodes: &BTreeSet<NodeId>,
) -> Vec<(String, Vec<NodeId>)> {
    let has = |node: &NodeId, digest: Digest| disks.get(node).is_some_and(|disk| disk.contains(&name(digest)));
    let versions = catalog.functions().flat_map(|function| {
        function.versions.values().map(|version| (format!("{}@{}", function.name, version.number), version.digest))
    });
    versions.map(|(what, digest)| (what, nodes.iter().copied().filter(|node| has(node, digest)).collect())).collect()
}
