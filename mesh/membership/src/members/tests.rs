//! Who is trusted, by the catalogue and by the word of members.

use std::sync::Arc;

use skein_catalog::{Command, MemberRole, Proposal, RequestId};
use skein_proto::MeshId;

use super::*;

fn key(node: u64) -> Digest {
    Digest::of(&node.to_le_bytes())
}

fn addresses() -> Addresses {
    let address = || "127.0.0.1:1".to_owned();
    Addresses { mesh: address(), http: address(), admin: address() }
}

fn peer(node: u64) -> KnownPeer {
    KnownPeer { node: NodeId(node), key: key(node), addresses: addresses() }
}

/// A catalogue after these commands, the first of which founds the mesh.
fn catalog(commands: Vec<Command>) -> Catalog {
    let mut catalog = Catalog::default();
    let first = Command::Found { mesh: MeshId::random() };
    for (index, command) in std::iter::once(first).chain(commands).enumerate() {
        let request = RequestId(uuid::Uuid::now_v7());
        catalog.apply(index as u64 + 1, &Proposal { request, at_ms: 0, command });
    }
    catalog
}

fn add(node: u64, token: Option<&str>) -> Command {
    let (name, role) = (format!("n{node}").parse().unwrap(), MemberRole::Auto);
    let token = token.map(str::to_owned);
    Command::AddMember { name, key: key(node), addresses: addresses(), role, token }
}

/// Members of which the catalogue knows the first two, at index 4, and has removed the third if told to.
fn members(told: Told, is_removed: bool) -> (Members, tokio::sync::watch::Sender<Arc<Catalog>>) {
    let record = skein_catalog::TokenRecord { hash: key(0), role: None, expires_ms: u64::MAX };
    let mut commands =
        vec![add(1, None), Command::CreateToken { id: "t".to_owned(), token: record }, add(2, Some("t"))];
    if is_removed {
        commands.extend([add(3, Some("t")), Command::RemoveMember { node: NodeId(3), secured: None }]);
    }
    let (tx, watch) = tokio::sync::watch::channel(Arc::new(catalog(commands)));
    let members = Members::new(told);
    members.follow(watch);
    (members, tx)
}

#[test]
fn before_the_catalogue_arrives_only_those_it_was_told_of_are_trusted() {
    let members = Members::new(Told { index: 5, peers: vec![peer(1)] });
    assert!(members.is_trusted(NodeId(1), key(1)));
    assert!(!members.is_trusted(NodeId(1), key(2)));
    assert!(!members.is_trusted(NodeId(9), key(9)));
    assert!(!Members::new(Told::default()).is_trusted(NodeId(1), key(1)), "told of nobody, it trusts nobody");
}

#[test]
fn a_catalogue_as_new_as_what_was_told_decides_alone() {
    let (members, _tx) = members(Told { index: 4, peers: vec![peer(1), peer(9)] }, false);
    assert!(members.is_trusted(NodeId(1), key(1)));
    assert!(!members.is_trusted(NodeId(9), key(9)), "signed by the CA, and yet not a member");
}

#[test]
fn who_joined_while_this_node_was_away_is_trusted_by_the_word_of_a_member() {
    let (members, _tx) = members(Told::default(), false);
    assert!(!members.is_trusted(NodeId(3), key(3)));
    assert!(members.tell(Told { index: 9, peers: vec![peer(1), peer(2), peer(3)] }));
    assert!(members.is_trusted(NodeId(3), key(3)));
    assert!(!members.is_trusted(NodeId(3), key(4)), "with its own key only");
    assert!(!members.tell(Told { index: 8, peers: Vec::new() }), "older words do not count");
    assert!(members.is_trusted(NodeId(3), key(3)));
}

#[test]
fn who_was_removed_is_not_trusted_whoever_vouches_for_it() {
    let (members, _tx) = members(Told { index: 99, peers: vec![peer(3)] }, true);
    assert!(!members.is_trusted(NodeId(3), key(3)));
}
