//! Joining, leaving, draining.

use super::*;

/// A mesh of node 1, `goose`, with a good token `t`.
fn founded() -> Bench {
    let mut bench = Bench { at_ms: 100, ..Bench::default() };
    assert_eq!(bench.tell(join("goose", "k1", None)), Outcome::Member(NodeId(1)));
    bench.done(token("t", 200));
    bench
}

#[test]
fn a_repeated_join_gets_the_same_id_whatever_became_of_its_token() {
    let mut bench = founded();
    assert_eq!(bench.tell(join("gander", "k2", Some("t"))), Outcome::Member(NodeId(2)));
    let before = essence(&bench.catalog);
    bench.at_ms = 500;
    assert_eq!(bench.tell(join("other", "k2", Some("t"))), Outcome::Member(NodeId(2)));
    assert_eq!(bench.tell(join("goose", "k1", None)), Outcome::Member(NodeId(1)));
    assert_eq!(essence(&bench.catalog), before);
}

#[test]
fn only_the_founder_joins_without_a_token_and_others_need_one_that_is_known_and_in_time() {
    let mut bench = founded();
    bench.refused(join("gander", "k2", None), ErrorCode::BadToken, "needs a token");
    bench.refused(join("gander", "k2", Some("u")), ErrorCode::BadToken, "not known");
    bench.at_ms = 200;
    bench.refused(join("gander", "k2", Some("t")), ErrorCode::BadToken, "expired 0 s ago");
    bench.at_ms = 199;
    assert_eq!(bench.tell(join("gander", "k2", Some("t"))), Outcome::Member(NodeId(2)));
}

#[test]
fn a_name_is_borne_by_one_member_and_free_again_when_it_left() {
    let mut bench = founded();
    bench.tell(join("gander", "k2", Some("t")));
    bench.refused(join("gander", "k3", Some("t")), ErrorCode::Conflict, "taken: goose, gander");
    bench.done(Command::RemoveMember { node: NodeId(2), secured: None });
    assert_eq!(bench.tell(join("gander", "k3", Some("t"))), Outcome::Member(NodeId(3)));
}

#[test]
fn a_removed_member_is_never_accepted_again() {
    let mut bench = founded();
    bench.tell(join("gander", "k2", Some("t")));
    assert!(bench.catalog.trusts(NodeId(2), &Digest::of(b"k2")));
    bench.done(Command::RemoveMember { node: NodeId(2), secured: None });
    assert!(bench.catalog.was_removed(NodeId(2)) && bench.catalog.member(NodeId(2)).is_none());
    assert!(!bench.catalog.trusts(NodeId(2), &Digest::of(b"k2")));
    bench.refused(join("gander", "k2", Some("t")), ErrorCode::Untrusted, "removed for good");
    bench.done(Command::RemoveMember { node: NodeId(2), secured: None });
    bench.refused(Command::SetDraining { node: NodeId(2), is_draining: true }, ErrorCode::NotFound, "removed for good");
}

/// A mesh of this many nodes, `n1` and so on, that all vote.
fn voting(count: u64) -> Bench {
    let mut bench = Bench::default();
    bench.tell(join("n1", "k1", None));
    bench.done(token("t", 200));
    for node in 2..=count {
        assert_eq!(
            bench.tell(join(&format!("n{node}"), &format!("k{node}"), Some("t"))),
            Outcome::Member(NodeId(node))
        );
    }
    bench.voters(&(1..=count).collect::<Vec<_>>());
    bench
}

fn remove(node: u64) -> Command {
    Command::RemoveMember { node: NodeId(node), secured: None }
}

fn leaving(bench: &Bench) -> Vec<u64> {
    bench.catalog.leaving().map(|member| member.node.0).collect()
}

#[test]
fn a_removed_voter_is_trusted_and_stays_until_it_votes_no_more() {
    let mut bench = voting(3);
    bench.done(remove(3));
    assert!(bench.catalog.member(NodeId(3)).is_none() && bench.catalog.was_removed(NodeId(3)));
    assert!(bench.catalog.trusts(NodeId(3), &Digest::of(b"k3")) && !bench.catalog.has_left(NodeId(3)));
    assert!(!bench.catalog.trusts(NodeId(3), &Digest::of(b"k1")));
    // Both the old voters and the new ones vote while that changes.
    bench.voters(&[1, 2, 3]);
    assert_eq!(leaving(&bench), [3]);
    bench.voters(&[1]);
    assert_eq!(leaving(&bench), []);
    assert!(bench.catalog.has_left(NodeId(3)) && !bench.catalog.trusts(NodeId(3), &Digest::of(b"k3")));
    assert!(!bench.catalog.has_left(NodeId(2)));
}

#[test]
fn voters_are_removed_one_after_another() {
    let mut bench = voting(3);
    bench.done(remove(3));
    bench.refused(remove(2), ErrorCode::Conflict, "node 3 (n3) was removed and still votes");
    bench.done(remove(3));
    bench.voters(&[1]);
    bench.done(remove(2));
    assert!(bench.catalog.has_left(NodeId(2)), "it did not vote any more");
}

#[test]
fn a_member_without_a_vote_is_gone_when_it_is_removed() {
    let mut bench = voting(4);
    bench.voters(&[1, 2, 3]);
    bench.done(remove(3));
    bench.done(remove(4));
    assert!(bench.catalog.has_left(NodeId(4)));
    assert_eq!(leaving(&bench), [3]);
}

/// Publishes `name`, which these nodes have.
fn publish_on(name: &str, nodes: &[u64]) -> Command {
    let mut command = publish(name, None, None);
    if let Command::PublishVersion { holders, .. } = &mut command {
        *holders = nodes.iter().copied().map(NodeId).collect();
    }
    command
}

#[test]
fn a_member_stays_that_took_a_copy_since_the_others_were_seen_to_have_enough() {
    let mut bench = voting(4);
    let before = bench.catalog.index();
    assert!(matches!(bench.tell(publish_on("price", &[1, 4])), Outcome::Published(_)));
    let seen_at = |secured| Command::RemoveMember { node: NodeId(4), secured };
    bench.refused(seen_at(Some(before)), ErrorCode::Conflict, "took a copy of shop/price@1 since");
    let published = before + 1;
    bench.done(Command::RemoveMember { node: NodeId(3), secured: Some(before) });
    bench.voters(&[1, 2, 4]);
    bench.done(seen_at(Some(published)));
}

#[test]
fn a_member_is_taken_off_whatever_it_holds_if_that_is_asked_for() {
    let mut bench = voting(3);
    assert!(matches!(bench.tell(publish_on("price", &[1, 3])), Outcome::Published(_)));
    bench.done(remove(3));
}

#[test]
fn a_publication_of_which_a_removal_left_one_copy_is_refused() {
    let mut bench = voting(4);
    bench.done(remove(4));
    let says = "these were removed meanwhile: 4; publish again";
    bench.refused(publish_on("price", &[1, 4]), ErrorCode::Unavailable, says);
    bench.refused(publish_on("price", &[4]), ErrorCode::Unavailable, says);
    // What was promised is still there; and what nobody else could take was never promised.
    assert!(matches!(bench.tell(publish_on("price", &[1, 2, 4])), Outcome::Published(_)));
    assert!(matches!(bench.tell(publish_on("price", &[1])), Outcome::Published(_)));
}

#[test]
fn the_last_member_stays() {
    let mut bench = founded();
    bench.refused(Command::RemoveMember { node: NodeId(1), secured: None }, ErrorCode::Conflict, "last member");
    bench.refused(Command::RemoveMember { node: NodeId(9), secured: None }, ErrorCode::NotFound, "members: 1 (goose)");
}

#[test]
fn the_last_member_that_may_vote_stays() {
    let mut bench = with_worker();
    bench.refused(remove(1), ErrorCode::Conflict, "the only member that is no worker");
    // With another one, whether it votes already or not, it may go; then that one stays.
    bench.tell(join("gosling", "k3", Some("t")));
    bench.done(remove(1));
    bench.refused(remove(3), ErrorCode::Conflict, "node 3 (gosling) is the only member that is no worker");
    bench.done(remove(2));
}

/// A mesh whose second member is a worker.
fn with_worker() -> Bench {
    let mut bench = founded();
    let record = TokenRecord { hash: Digest::of(b"w"), role: Some(MemberRole::Worker), expires_ms: 1_000 };
    bench.done(Command::CreateToken { id: "w".into(), token: record });
    bench.tell(join("gander", "k2", Some("w")));
    bench
}

#[test]
fn a_token_with_a_role_decides_the_role() {
    let bench = with_worker();
    assert_eq!(bench.catalog.member(NodeId(2)).unwrap().role, MemberRole::Worker);
    assert_eq!(bench.catalog.member_named("goose").unwrap().role, MemberRole::Auto);
}

#[test]
fn a_member_tells_its_addresses_and_whether_it_drains() {
    let mut bench = founded();
    let addresses = Addresses { mesh: "10.0.0.1:7".into(), http: "h".into(), admin: "a".into() };
    bench.done(Command::UpdateMember { node: NodeId(1), addresses: addresses.clone() });
    bench.done(Command::SetDraining { node: NodeId(1), is_draining: true });
    let member = bench.catalog.member(NodeId(1)).unwrap();
    assert!(member.is_draining && member.addresses == addresses);
    let long = Addresses { mesh: "a".repeat(300), ..addresses };
    bench.refused(Command::UpdateMember { node: NodeId(1), addresses: long }, ErrorCode::TooLarge, "mesh address");
    bench.done(Command::SetDraining { node: NodeId(1), is_draining: false });
    assert!(!bench.catalog.member(NodeId(1)).unwrap().is_draining);
}
