//! Each command and its refusals, with values only. Random sequences are in `replicas`.

use skein_proto::{
    AliasName, AppName, Digest, ErrorCode, FunctionName, Limits, Manifest, MeshId, NodeId, NodeName, VersionId,
};
use uuid::Uuid;

use super::*;
use crate::{Addresses, Binding, MemberRole, RequestId, Role};

mod apps;
mod functions;
mod members;
mod replicas;
mod snapshots;

/// A catalogue that is told commands one after another.
#[derive(Default)]
struct Bench {
    catalog: Catalog,
    at_ms: u64,
}

impl Bench {
    fn tell(&mut self, command: Command) -> Outcome {
        let index = self.catalog.index() + 1;
        let request = RequestId(Uuid::from_u128(u128::from(index)));
        self.catalog.apply(index, &Proposal { request, at_ms: self.at_ms, command })
    }

    fn done(&mut self, command: Command) {
        assert_eq!(self.tell(command), Outcome::Done);
    }

    /// Tells a command that must be refused with `code` and words of `says`, and must change nothing.
    fn refused(&mut self, command: Command, code: ErrorCode, says: &str) {
        let before = self.catalog.clone();
        let shown = format!("{command:?}");
        match self.tell(command) {
            Outcome::Refused { code: found, message } => {
                assert_eq!(found, code, "{shown}: {message}");
                assert!(message.contains(says), "{shown}: {message}");
            }
            other => panic!("{shown} was not refused: {other:?}"),
        }
        assert_eq!(essence(&self.catalog), essence(&before));
    }

    /// The log shows that these vote.
    fn voters(&mut self, nodes: &[u64]) {
        let index = self.catalog.index() + 1;
        self.catalog.set_voters(index, &nodes.iter().copied().map(NodeId).collect());
    }

    fn publish(&mut self, name: &str, alias: Option<&str>) -> u64 {
        match self.tell(publish(name, alias, None)) {
            Outcome::Published(id) => id.number,
            other => panic!("{other:?}"),
        }
    }
}

/// All but what a refusal may change.
fn essence(catalog: &Catalog) -> Catalog {
    Catalog { index: 0, recent: Recent::default(), fingerprint: 0, ..catalog.clone() }
}

fn app() -> AppName {
    "shop".parse().unwrap()
}

fn function(name: &str) -> FunctionName {
    name.parse().unwrap()
}

fn alias(name: &str) -> AliasName {
    name.parse().unwrap()
}

fn publish(name: &str, to: Option<&str>, expected: Option<u64>) -> Command {
    Command::PublishVersion {
        manifest: Box::new(Manifest::named(app(), function(name))),
        digest: Digest::of(name.as_bytes()),
        size: 10,
        holders: vec![NodeId(1)],
        note: String::new(),
        author: "k1".into(),
        alias: to.map(alias),
        expected,
    }
}

fn join(name: &str, key: &str, token: Option<&str>) -> Command {
    let addresses = Addresses { mesh: "127.0.0.1:1".into(), http: "127.0.0.1:2".into(), admin: "127.0.0.1:3".into() };
    Command::AddMember {
        name: name.parse::<NodeName>().unwrap(),
        key: Digest::of(key.as_bytes()),
        addresses,
        role: MemberRole::Auto,
        token: token.map(Into::into),
    }
}

fn token(id: &str, expires_ms: u64) -> Command {
    Command::CreateToken { id: id.into(), token: TokenRecord { hash: Digest::of(b"t"), role: None, expires_ms } }
}

fn key(id: &str, role: Role) -> Command {
    let key = KeyRecord {
        hash: Digest::of(id.as_bytes()),
        role,
        app: None,
        note: String::new(),
        created_ms: 0,
        expires_ms: None,
    };
    Command::CreateKey { id: id.into(), key }
}

#[test]
fn a_mesh_begins_once() {
    let mut bench = Bench::default();
    let mesh = MeshId(Uuid::from_u128(7));
    bench.done(Command::Found { mesh });
    assert_eq!(bench.catalog.mesh(), Some(mesh));
    bench.refused(Command::Found { mesh }, ErrorCode::Conflict, "begun already");
}

#[test]
fn a_repeated_request_is_answered_and_not_applied_twice() {
    let mut catalog = Catalog::default();
    let proposal = Proposal { request: RequestId(Uuid::from_u128(1)), at_ms: 0, command: publish("price", None, None) };
    let first = catalog.apply(5, &proposal);
    let before = catalog.clone();
    assert_eq!(catalog.apply(9, &proposal), first);
    assert_eq!(catalog.index(), 9);
    assert_eq!(catalog.outcome(proposal.request), Some((5, &first)));
    assert_eq!(Catalog { index: 5, fingerprint: before.fingerprint, ..catalog }, before);
}

#[test]
fn a_request_id_is_good_for_one_command() {
    let mut catalog = Catalog::default();
    let request = RequestId(Uuid::from_u128(1));
    let create = |name: &str| Command::CreateApp { app: name.parse().unwrap(), binding: Binding::default() };
    assert_eq!(catalog.apply(1, &Proposal { request, at_ms: 0, command: create("one") }), Outcome::Done);
    let before = essence(&catalog);
    let removal = Command::RemoveApp { app: "one".parse().unwrap() };
    for command in [create("two"), removal] {
        let Outcome::Refused { code, message } = catalog.apply(2, &Proposal { request, at_ms: 0, command }) else {
            panic!("another command was answered as if it had been done");
        };
        assert_eq!(code, ErrorCode::Conflict);
        assert!(message.contains("used for another request, applied at index 1"), "{message}");
    }
    assert_eq!(catalog.apply(4, &Proposal { request, at_ms: 9, command: create("one") }), Outcome::Done);
    assert_eq!(essence(&catalog), before);
}

#[test]
fn a_publication_repeated_by_way_of_another_node_is_the_same_request() {
    let mut catalog = Catalog::default();
    let request = RequestId(Uuid::from_u128(1));
    let first = catalog.apply(1, &Proposal { request, at_ms: 0, command: publish("price", None, None) });
    let mut again = publish("price", None, None);
    if let Command::PublishVersion { holders, .. } = &mut again {
        *holders = vec![NodeId(3), NodeId(2)];
    }
    assert_eq!(catalog.apply(2, &Proposal { request, at_ms: 0, command: again }), first);
}

#[test]
fn replicas_that_applied_something_else_once_differ_in_their_fingerprint_ever_after() {
    let apply = |names: [&str; 3]| {
        let mut bench = Bench::default();
        bench.voters(&[1]);
        names.map(|name| {
            bench.publish(name, None);
            bench.catalog.fingerprint()
        })
    };
    let (one, same, other) = (apply(["a", "b", "c"]), apply(["a", "b", "c"]), apply(["a", "x", "c"]));
    assert_eq!(one, same);
    assert_eq!([one[0] == other[0], one[1] == other[1], one[2] == other[2]], [true, false, false]);
}

#[test]
fn the_words_of_a_refusal_are_no_part_of_the_fingerprint() {
    let of = |outcome: Outcome| {
        let mut catalog = Catalog::default();
        catalog.note(1, 7, &outcome);
        catalog.fingerprint()
    };
    let refused = |code, message: &str| of(Outcome::Refused { code, message: message.to_owned() });
    // As two releases may put it, while a mesh is upgraded node by node.
    assert_eq!(refused(ErrorCode::Conflict, "it is taken"), refused(ErrorCode::Conflict, "somebody has it"));
    assert_ne!(refused(ErrorCode::Conflict, "it is taken"), refused(ErrorCode::NotFound, "it is taken"));
    assert_ne!(refused(ErrorCode::Conflict, "it is taken"), of(Outcome::Done));
}

#[test]
fn entries_that_say_nothing_and_who_votes_are_part_of_the_fingerprint() {
    let of = |tell: fn(&mut Catalog)| {
        let mut catalog = Catalog::default();
        tell(&mut catalog);
        catalog.fingerprint()
    };
    let told = [
        of(|_| {}),
        of(|catalog| catalog.advance(1)),
        of(|catalog| catalog.advance(2)),
        of(|catalog| catalog.set_voters(1, &[NodeId(1)].into())),
        of(|catalog| catalog.set_voters(1, &[NodeId(2)].into())),
    ];
    assert_eq!(std::collections::BTreeSet::from(told).len(), told.len());
}

#[test]
fn blank_entries_move_the_index_forward_only() {
    let mut catalog = Catalog::default();
    catalog.advance(4);
    catalog.advance(2);
    assert_eq!(catalog.index(), 4);
}

#[test]
fn a_key_is_listed_until_it_is_revoked() {
    let mut bench = Bench::default();
    bench.done(key("root", Role::Admin));
    bench.done(key("ci", Role::Publish));
    bench.refused(key("ci", Role::Read), ErrorCode::Conflict, "exists already");
    bench.refused(key("a b", Role::Read), ErrorCode::BadRequest, "visible ASCII");
    assert_eq!(bench.catalog.keys().map(|(id, _)| id).collect::<Vec<_>>(), ["ci", "root"]);
    bench.done(Command::RevokeKey { id: "ci".into() });
    assert!(bench.catalog.key("ci").is_none());
    bench.refused(Command::RevokeKey { id: "ci".into() }, ErrorCode::NotFound, "keys: root");
}

#[test]
fn the_last_key_that_administers_the_mesh_stays() {
    let mut bench = Bench::default();
    bench.done(key("root", Role::Admin));
    bench.refused(Command::RevokeKey { id: "root".into() }, ErrorCode::Conflict, "last key");
    bench.done(key("root2", Role::Admin));
    bench.done(Command::RevokeKey { id: "root".into() });
}

#[test]
fn a_key_that_ends_does_not_stand_in_for_one_that_does_not() {
    let mut bench = Bench::default();
    let ending = |id: &str, end: u64| {
        let Command::CreateKey { id, mut key } = key(id, Role::Admin) else { unreachable!() };
        key.expires_ms = Some(end);
        Command::CreateKey { id, key }
    };
    let revoke = |id: &str| Command::RevokeKey { id: id.into() };
    bench.done(ending("short", 4_000));
    bench.done(ending("long", 9_000));
    bench.refused(revoke("long"), ErrorCode::Conflict, "good for as long");
    bench.done(key("root", Role::Admin));
    bench.done(revoke("long"));
    bench.refused(revoke("root"), ErrorCode::Conflict, "good for as long");
    bench.done(revoke("short"));
    bench.done(ending("short", 4_000));
    bench.at_ms = 4_000;
    bench.refused(revoke("root"), ErrorCode::Conflict, "good for as long");
    bench.done(revoke("short"));
}

#[test]
fn tokens_expired_for_a_day_are_forgotten() {
    let mut bench = Bench::default();
    bench.done(token("t1", 1_000));
    bench.refused(token("t1", 2_000), ErrorCode::Conflict, "exists already");
    bench.at_ms = 1_000 + 24 * 60 * 60 * 1_000;
    bench.done(token("t2", u64::MAX));
    assert!(bench.catalog.token("t1").is_none());
    assert!(bench.catalog.token("t2").is_some());
}
