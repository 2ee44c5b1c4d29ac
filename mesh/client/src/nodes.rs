//! The nodes that a client knows: those of its context, and those that the mesh says it has.

use std::{
    collections::HashSet,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
};

use skein_proto::Failure;
use skein_transport::Stranger;
use tokio::time::Instant;

use crate::{
    ContextNode,
    link::{Entry, Link, Promise},
    race::first,
    wire::NodeAddress,
};

/// The links to all nodes that are known. Those of the context stay, whatever the mesh says: what it says may be
/// addresses that are good inside only.
pub(crate) struct Nodes {
    entry: Arc<Entry>,
    seeds: Vec<Arc<Link>>,
    links: RwLock<Arc<[Arc<Link>]>>,
    /// The link that answered last, and is asked first; an index into the links.
    first: AtomicUsize,
    is_closed: AtomicBool,
}

impl Nodes {
    pub(crate) fn new(entry: Entry, seeds: Vec<ContextNode>) -> Self {
        let seeds: Vec<_> = seeds.into_iter().map(|node| Arc::new(Link::new(node.name, node.mesh))).collect();
        let links = RwLock::new(seeds.clone().into());
        Self { entry: Arc::new(entry), seeds, links, first: AtomicUsize::new(0), is_closed: AtomicBool::new(false) }
    }

    pub(crate) fn links(&self) -> Arc<[Arc<Link>]> {
        self.links.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Those that were not tried yet, the most promising first; the one that answered last leads its equals. Of nodes that
    /// must be dialed those lead that were reached once, then the context's own: what the mesh says may be good inside only.
    pub(crate) fn order(&self, tried: &[Arc<Link>]) -> Vec<Arc<Link>> {
        let links = self.links();
        let mut order: Vec<_> = links.to_vec();
        order.rotate_left(self.first.load(Relaxed).min(links.len()));
        order.retain(|link| !tried.iter().any(|tried| Arc::ptr_eq(tried, link)));
        order.sort_by_cached_key(|link| {
            let promise = link.promise();
            let must_dial = promise != Promise::Connected;
            (promise, must_dial && !link.was_up(), must_dial && !self.is_own(link))
        });
        order
    }

    /// Whether the context names it.
    fn is_own(&self, link: &Arc<Link>) -> bool {
        self.seeds.iter().any(|seed| Arc::ptr_eq(seed, link))
    }

    /// Whether there is a node that was not tried yet.
    pub(crate) fn has_others(&self, tried: &[Arc<Link>]) -> bool {
        self.links().iter().any(|link| !tried.iter().any(|tried| Arc::ptr_eq(tried, link)))
    }

    /// The link that answered is asked first from now on.
    pub(crate) fn answered(&self, link: &Arc<Link>) {
        if let Some(index) = self.links().iter().position(|known| Arc::ptr_eq(known, link)) {
            self.first.store(index, Relaxed);
        }
    }

    /// A connection to the most promising node that was not tried yet; none if all were. Where none is up the nodes are
    /// dialed side by side, each a moment after the one before or as soon as that has failed.
    pub(crate) async fn reach(
        &self,
        tried: &[Arc<Link>],
        deadline: Instant,
    ) -> Option<Result<(Arc<Link>, Arc<Stranger>), Failure>> {
        let mut order = self.order(tried).into_iter().peekable();
        let best = order.peek()?;
        if best.promise() == Promise::Connected
            && let Some(stranger) = best.open()
        {
            return Some(Ok((best.clone(), stranger)));
        }
        let dial = |link: Arc<Link>| {
            let entry = self.entry.clone();
            async move { link.connected(&entry, deadline).await.map(|stranger| (link, stranger)) }
        };
        first(order.map(dial)).await
    }

    /// The most promising connection that there is now: one to a node that answers and stays, if any.
    pub(crate) fn open(&self) -> Option<Arc<Stranger>> {
        self.order(&[]).iter().find_map(|link| link.open())
    }

    /// What a node says which nodes there are. Links that are known stay as they are.
    pub(crate) fn learn(&self, nodes: Vec<NodeAddress>) {
        if nodes.is_empty() {
            return;
        }
        let mut links = self.links.write().unwrap_or_else(PoisonError::into_inner);
        if self.is_closed.load(Relaxed) {
            return;
        }
        let known = |address: &str| links.iter().find(|link| link.address() == address).cloned();
        let (mut next, mut seen) = (Vec::new(), HashSet::new());
        for node in nodes.into_iter().take(NODES_MAX) {
            if seen.insert(node.mesh.clone()) {
                next.push(known(&node.mesh).unwrap_or_else(|| Arc::new(Link::new(node.name, node.mesh))));
            }
        }
        next.extend(self.seeds.iter().filter(|seed| !seen.contains(seed.address())).cloned());
        let first = links.get(self.first.load(Relaxed));
        let first = first.and_then(|first| next.iter().position(|link| Arc::ptr_eq(link, first)));
        self.first.store(first.unwrap_or(0), Relaxed);
        *links = next.into();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed.load(Relaxed)
    }

    pub(crate) async fn close(&self) {
        // Nothing is learnt any more once this is seen under the lock.
        let links = {
            let links = self.links.write().unwrap_or_else(PoisonError::into_inner);
            self.is_closed.store(true, Relaxed);
            links.clone()
        };
        for link in links.iter().chain(&self.seeds) {
            link.close().await;
        }
    }
}

/// Most nodes taken from what a node says: more than there are voters and workers in any mesh that was tried.
const NODES_MAX: usize = 1_000;

#[cfg(test)]
mod tests {
    use skein_transport::CaPin;

    use super::*;

    fn node(name: &str, mesh: &str) -> NodeAddress {
        NodeAddress { name: name.into(), mesh: mesh.into() }
    }

    fn addresses(nodes: &Nodes) -> Vec<String> {
        nodes.links().iter().map(|link| link.address().to_owned()).collect()
    }

    #[test]
    fn what_the_mesh_says_is_taken_and_the_contexts_own_nodes_stay() {
        let seed = |name: &str, mesh: &str| ContextNode {
            name: name.into(),
            mesh: mesh.into(),
            http: String::new(),
            admin: String::new(),
        };
        let entry = Entry { pin: CaPin::Certificate(bytes::Bytes::new()), key: String::new() };
        let nodes = Nodes::new(entry, vec![seed("a", "in:1"), seed("b", "out:2")]);
        let (a, b) = (nodes.links()[0].clone(), nodes.links()[1].clone());
        nodes.answered(&b);
        nodes.learn(vec![node("c", "in:3"), node("a", "in:1"), node("a2", "in:1")]);
        assert_eq!(addresses(&nodes), ["in:3", "in:1", "out:2"]);
        assert!(Arc::ptr_eq(&nodes.links()[1], &a), "its connection stays");
        let order: Vec<_> = nodes.order(&[]).iter().map(|link| link.address().to_owned()).collect();
        assert_eq!(
            order,
            ["out:2", "in:1", "in:3"],
            "it leads still, and the context's own come before what was learnt"
        );
        nodes.learn(vec![node("a", "in:9")]);
        assert_eq!(addresses(&nodes), ["in:9", "in:1", "out:2"]);
        nodes.learn(Vec::new());
        assert_eq!(addresses(&nodes).len(), 3, "a node that knows none has not heard of its mesh yet");
        let tried = nodes.links().to_vec();
        assert!(nodes.order(&tried).is_empty());
    }
}
