//! The names in one directory in memory.

use std::{collections::BTreeMap, sync::Arc};

use super::NodeId;

/// What a directory has, by name, and in the order in which it came: that order is what readers see, so that none
/// misses an entry, or sees one twice, while others come and go.
#[derive(Debug)]
pub(super) struct Listing {
    pub(super) parent: NodeId,
    by_name: BTreeMap<Arc<str>, (u64, NodeId)>,
    by_order: BTreeMap<u64, Arc<str>>,
    next: u64,
}

impl Listing {
    pub(super) fn new(parent: NodeId) -> Self {
        Self { parent, by_name: BTreeMap::new(), by_order: BTreeMap::new(), next: 0 }
    }

    pub(super) fn get(&self, name: &str) -> Option<NodeId> {
        self.by_name.get(name).map(|(_, id)| *id)
    }

    pub(super) fn insert(&mut self, name: &str, id: NodeId) {
        let name: Arc<str> = name.into();
        self.by_order.insert(self.next, Arc::clone(&name));
        self.by_name.insert(name, (self.next, id));
        self.next += 1;
    }

    pub(super) fn remove(&mut self, name: &str) {
        if let Some((order, _)) = self.by_name.remove(name) {
            self.by_order.remove(&order);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// The entries from `order` on: their order, name and node.
    pub(super) fn from(&self, order: u64) -> impl Iterator<Item = (u64, &str, NodeId)> {
        let found = |(order, name): (&u64, &'_ Arc<str>)| Some((*order, self.by_name.get(name)?.1));
        self.by_order.range(order..).filter_map(move |entry| {
            let (order, id) = found(entry)?;
            Some((order, &**entry.1, id))
        })
    }
}
