//! A publication makes one version, however often its request was handed over on the way.

use std::collections::BTreeMap;

use skein_catalog::Catalog;
use skein_proto::Digest;

/// The publications that became more than one version. Each has code of its own.
pub fn check(catalog: &Catalog) -> Vec<String> {
    let mut versions: BTreeMap<Digest, usize> = BTreeMap::new();
    for version in catalog.functions().flat_map(|function| function.versions.values()) {
        *versions.entry(version.digest).or_default() += 1;
    }
    let many = versions.into_iter().filter(|(_, count)| *count > 1);
    many.map(|(digest, count)| format!("one publication, of {digest}, became {count} versions")).collect()
}
