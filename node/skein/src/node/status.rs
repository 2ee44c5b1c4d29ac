//! The mesh as this node sees it: nodes, consensus, warnings with the next step.

use std::collections::BTreeSet;

use skein_catalog::{Catalog, Member, Propose};
use skein_gateway::api::{
    ActivationSummary, ConsensusRole, ConsensusStatus, MeshStatus, NodeLoad, NodeState, NodeStatus, Warning,
};
use skein_membership::{PeerState, View};
use skein_placement::copies::COPIES;
use skein_proto::{Load, NodeId, NodeName};
use skein_raft::RaftStatus;

use super::{
    Shared,
    copies::{self, CopiesReport},
};

/// How far a node's catalogue may be behind before it is worth a warning: some seconds of a busy mesh.
const LAG_MAX: u64 = 100;

pub(super) fn nodes(shared: &Shared) -> Vec<NodeStatus> {
    let (catalog, view, raft) = (shared.consensus.catalog(), shared.membership.view(), shared.consensus.status());
    let me = shared.transport.local();
    let shown = catalog.members().map(|member| {
        let addresses = shared.addresses_of(member.node, &member.addresses);
        NodeStatus { addresses, ..node(member, me, &view, &raft) }
    });
    shown.collect()
}

fn node(member: &Member, me: NodeId, view: &View, raft: &RaftStatus) -> NodeStatus {
    let peer = view.peers.get(&member.node);
    let none = Load::default();
    let load = peer.map_or(&none, |peer| &peer.load);
    let state = match peer.map(|peer| peer.state) {
        _ if member.node == me => NodeState::Alive,
        Some(PeerState::Alive) => NodeState::Alive,
        Some(PeerState::Suspect | PeerState::Unheard) => NodeState::Suspect,
        _ => NodeState::Down,
    };
    NodeStatus {
        name: member.name.clone(),
        id: member.node,
        state,
        consensus: consensus_role(member.node, raft),
        role: member.role,
        is_draining: member.is_draining || load.is_draining,
        is_self: member.node == me,
        addresses: member.addresses.clone(),
        labels: member.labels.clone(),
        applied_index: if member.node == me { raft.applied_index } else { load.applied_index },
        load: NodeLoad::from(load),
    }
}

fn consensus_role(node: NodeId, raft: &RaftStatus) -> ConsensusRole {
    if raft.leader == Some(node) && raft.is_quorum_alive {
        ConsensusRole::Leader
    } else if raft.voters.contains(&node) {
        ConsensusRole::Voter
    } else if raft.learners.contains(&node) {
        ConsensusRole::Learner
    } else {
        ConsensusRole::None
    }
}

pub(super) fn status(shared: &Shared) -> MeshStatus {
    let (catalog, raft) = (shared.consensus.catalog(), shared.consensus.status());
    let nodes = nodes(shared);
    let activations = shared.runtime.activations().into_iter().map(|activation| ActivationSummary {
        app: activation.app,
        name: activation.name,
        version: activation.version.number,
        state: format!("{:?}", activation.state).to_lowercase(),
        in_flight: activation.in_flight,
        queued: activation.queued,
        calls: activation.calls,
    });
    MeshStatus {
        mesh: catalog.mesh(),
        node: shared.name(),
        release: env!("CARGO_PKG_VERSION").to_owned(),
        index: catalog.index(),
        consensus: consensus(&catalog, &raft),
        functions: catalog.functions().count() as u64,
        versions: catalog.functions().map(|function| function.versions.len() as u64).sum(),
        activations: activations.collect(),
        warnings: {
            let is_lost = *shared.quorum_lost.borrow();
            let mut warnings = warnings(&nodes, (&raft, is_lost), |node| shared.transport.is_doubted(node));
            warnings.extend(copies_warning(&catalog, &shared.copies.borrow()));
            warnings
        },
        nodes,
    }
}

fn consensus(catalog: &Catalog, raft: &RaftStatus) -> ConsensusStatus {
    let name = |node: NodeId| catalog.member(node).map(|member| member.name.clone());
    let names = |nodes: &BTreeSet<NodeId>| -> Vec<NodeName> { nodes.iter().copied().filter_map(name).collect() };
    ConsensusStatus {
        has_quorum: raft.is_quorum_alive,
        leader: raft.leader.filter(|_| raft.is_quorum_alive).and_then(name),
        term: raft.term,
        committed_index: raft.committed_index,
        voters: names(&raft.voters),
        learners: names(&raft.learners),
    }
}

/// Above what a node holds that lets go of what nobody uses: all the rest is in use.
fn is_short_of_memory(load: &NodeLoad) -> bool {
    load.memory_budget_mib > 0 && u64::from(load.memory_mib) * 16 > u64::from(load.memory_budget_mib) * 14
}

/// What the last look at the copies of artifacts left undone.
fn copies_warning(catalog: &Catalog, report: &CopiesReport) -> Option<Warning> {
    let named = copies::named(catalog, report);
    let (message, advice) = match report {
        CopiesReport { short: 0, .. } => return None,
        CopiesReport { lost: 0, short, .. } => (
            format!("{short} artifact(s) have fewer copies than {}: {named}", COPIES),
            "see in the logs of the other nodes why they do not take them (a full disk?); copies are made by themselves",
        ),
        CopiesReport { lost, .. } => (
            format!("no node that answers has {lost} artifact(s) that versions need: {named}"),
            "start the nodes that are down, or publish the same files again",
        ),
    };
    Some(Warning { message, advice: advice.to_owned() })
}

fn warnings(
    nodes: &[NodeStatus],
    (raft, is_quorum_lost): (&RaftStatus, bool),
    is_doubted: impl Fn(NodeId) -> bool,
) -> Vec<Warning> {
    let mut warnings = Vec::new();
    let mut warn = |message: String, advice: &str| warnings.push(Warning { message, advice: advice.to_owned() });
    if let Some(fault) = &raft.fault {
        warn(format!("the consensus stopped on this node: {}", fault.message), fault.code.advice());
    }
    if is_quorum_lost {
        let advice = "start the missing voters again; until then functions answer, and nothing can be published";
        warn("no majority of the voters answers".to_owned(), advice);
    }
    if raft.is_disk_full {
        warn(
            "this node's disk has too little room for the log".to_owned(),
            "free some space; writes go on by themselves",
        );
    }
    replicas(nodes, raft, &mut warn);
    // A path that is cut makes gossip suspect the peer, too, until others vouch for it: the path is what to look at.
    let is_unheard = |node: &NodeStatus| !node.is_self && node.state != NodeState::Down && is_doubted(node.id);
    for node in nodes.iter().filter(|node| node.state != NodeState::Alive && !is_unheard(node)) {
        let advice = "start it again with its data directory, or take it off with `skein node remove`";
        warn(format!("{} is {}", node.name, node.state.as_str()), advice);
    }
    let alive = nodes.iter().filter(|node| node.state == NodeState::Alive);
    if alive.clone().next().is_some() && alive.clone().all(|node| node.is_draining) {
        let advice = "have one take calls again with `skein node resume NAME`, or let another node join";
        warn("every node that is alive is draining: nothing takes calls".to_owned(), advice);
    }
    for node in nodes.iter().filter(|node| is_unheard(node)) {
        let advice = "see whether UDP goes through between the two, both ways; calls go round meanwhile";
        let (name, addr) = (&node.name, &node.addresses.mesh);
        let others = if node.state == NodeState::Alive { "reach" } else { "have not given up" };
        warn(format!("this node hears nothing from {name} at {addr}, which other nodes {others}"), advice);
    }
    for node in alive.filter(|node| node.applied_index + LAG_MAX < raft.committed_index) {
        let behind = raft.committed_index - node.applied_index;
        warn(format!("{} is {behind} log entries behind", node.name), "it catches up by itself; watch `skein nodes`");
    }
    for node in nodes.iter().filter(|node| node.state == NodeState::Alive && is_short_of_memory(&node.load)) {
        let (used, budget) = (node.load.memory_mib, node.load.memory_budget_mib);
        let advice = "start it with a larger `--memory`, or let more nodes join: calls that need more are refused";
        warn(format!("{} uses {used} of its {budget} MiB and has nothing left to let go of", node.name), advice);
    }
    if nodes.len() < 3 {
        let advice = "let more nodes join (`skein token create`): three survive the loss of one";
        warn(format!("a mesh of {} loses its data with one disk or stops with one node", nodes.len()), advice);
    }
    warnings
}

/// What the consensus found to be wrong with a log or a catalogue: here, and as the leader with those of others.
fn replicas(nodes: &[NodeStatus], raft: &RaftStatus, warn: &mut impl FnMut(String, &str)) {
    let lost_advice = "its disk lost what it had synced, or an old copy of its directory was put back: see to the disk; \
                       if in doubt remove the node and let it join anew";
    let differs_advice = "one of the two lost acknowledged writes: compare what they answer, then remove the one that is \
                          wrong and let it join anew";
    if let Some(lost) = raft.lost {
        let state = if lost.is_back { "has them again" } else { "votes for nobody who lacks them" };
        let (first, last) = (lost.first, lost.last);
        warn(
            format!("this node lost log entries {first} to {last}, which it had acknowledged, and {state}"),
            lost_advice,
        );
    }
    if let Some(index) = raft.differs_at {
        warn(format!("the catalogue here is not the leader's, as of index {index}"), differs_advice);
    }
    for node in nodes.iter().filter(|node| !node.is_self) {
        let name = &node.name;
        if raft.others_lost.contains(&node.id) {
            warn(format!("{name} lost log entries that it had acknowledged, and was sent them again"), lost_advice);
        }
        if raft.others_differ.contains(&node.id) {
            warn(format!("the catalogue of {name} is not the one here"), differs_advice);
        }
        if raft.stuck.contains(&node.id) {
            let advice = "see its log and its disk; restart it";
            warn(format!("{name} is behind and has not got on for 30 s, though it answers"), advice);
        }
    }
}

#[cfg(test)]
mod tests {
    use skein_catalog::{Addresses, MemberRole};

    use super::*;

    fn shown(name: &str, state: NodeState, is_draining: bool) -> NodeStatus {
        let address = || "127.0.0.1:1".to_owned();
        NodeStatus {
            name: name.parse().unwrap(),
            id: NodeId(1),
            state,
            consensus: ConsensusRole::Voter,
            role: MemberRole::Auto,
            is_draining,
            is_self: false,
            addresses: Addresses { mesh: address(), http: address(), admin: address() },
            labels: std::collections::BTreeMap::new(),
            applied_index: 0,
            load: NodeLoad::default(),
        }
    }

    #[test]
    fn a_mesh_in_which_nothing_takes_calls_says_so() {
        use NodeState::{Alive, Down};
        let is_warned = |nodes: &[NodeStatus]| {
            let warnings = warnings(nodes, (&RaftStatus::default(), false), |_| false);
            let warning = warnings.iter().find(|warning| warning.message.contains("nothing takes calls"));
            warning.is_some_and(|warning| warning.advice.contains("`skein node resume NAME`"))
        };
        assert!(is_warned(&[shown("a", Alive, true)]));
        assert!(is_warned(&[shown("a", Alive, true), shown("b", Alive, true), shown("c", Down, false)]));
        assert!(!is_warned(&[shown("a", Alive, true), shown("b", Alive, false)]));
        assert!(!is_warned(&[shown("a", Alive, false), shown("b", Down, false)]));
    }
}
