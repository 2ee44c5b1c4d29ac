//! Whose places are known while a log is replayed.

use skein_catalog::{Addresses, Command, MemberRole, Proposal, RequestId};
use skein_proto::{Digest, MeshId};

use super::*;
use crate::{Members, Told};

fn at(port: u16) -> Addresses {
    let address = |port: u16| format!("127.0.0.1:{port}");
    Addresses { mesh: address(port), http: address(port + 1), admin: address(port + 2) }
}

/// A catalogue with the founder alone: the first state that is published while a log is replayed.
fn replaying() -> Catalog {
    let (name, key, role) = ("n1".parse().unwrap(), Digest::of(b"1"), MemberRole::Auto);
    let found = Command::Found { mesh: MeshId::random() };
    let add = Command::AddMember { name, key, addresses: at(1_000), role, token: None };
    let mut catalog = Catalog::default();
    for (index, command) in [found, add].into_iter().enumerate() {
        let request = RequestId(uuid::Uuid::now_v7());
        catalog.apply(index as u64 + 1, &Proposal { request, at_ms: 0, command });
    }
    catalog
}

fn peer(node: u64, port: u16) -> KnownPeer {
    KnownPeer { node: NodeId(node), key: Digest::of(&node.to_le_bytes()), addresses: at(port) }
}

#[test]
fn a_joiner_that_replays_an_old_log_keeps_the_members_it_was_told_of() {
    let members = Members::new(Told { index: 9, peers: vec![peer(1, 1_000), peer(2, 2_000), peer(3, 3_000)] });
    let catalog = replaying();
    let vouched = members.vouched(&catalog);
    let places = places(&catalog, &Records::default(), &vouched, NodeId(4));
    let nodes: Vec<NodeId> = places.keys().copied().collect();
    assert_eq!(nodes, [1, 2, 3].map(NodeId), "whoever is not in this state yet was not removed by it");
    assert_eq!(places[&NodeId(3)], ["127.0.0.1:3000".parse().unwrap()]);
}

#[test]
fn this_node_is_not_among_the_others() {
    assert!(places(&replaying(), &Records::default(), &[], NodeId(1)).is_empty());
}
