//! Every command with every role, and that the table is what these say.

use std::collections::BTreeMap;

use skein_proto::{Digest, Manifest, MeshId};
use uuid::Uuid;

use super::*;
use crate::{Addresses, Binding, KeyRecord, Proposal, RequestId, Role, TokenRecord};

const AUTO: NodeId = NodeId(1);
const VOTER: NodeId = NodeId(2);
const WORKER: NodeId = NodeId(3);
const STRANGER: NodeId = NodeId(9);

fn addresses() -> Addresses {
    Addresses { mesh: "127.0.0.1:1".into(), http: "127.0.0.1:2".into(), admin: "127.0.0.1:3".into() }
}

fn add(name: &str, role: MemberRole, token: Option<&str>) -> Command {
    let (name, key) = (name.parse().unwrap(), Digest::of(name.as_bytes()));
    Command::AddMember { name, key, addresses: addresses(), role, token: token.map(Into::into) }
}

fn token() -> Command {
    let token = TokenRecord { hash: Digest::of(b"t"), role: None, expires_ms: 10 };
    Command::CreateToken { id: "t".into(), token }
}

/// A mesh with one member of each role.
fn mesh() -> Catalog {
    let mut catalog = Catalog::default();
    let commands = [
        Command::Found { mesh: MeshId(Uuid::from_u128(7)) },
        add("auto", MemberRole::Auto, None),
        token(),
        add("voter", MemberRole::Voter, Some("t")),
        add("worker", MemberRole::Worker, Some("t")),
    ];
    for (index, command) in (1..).zip(commands) {
        let request = RequestId(Uuid::from_u128(u128::from(index)));
        let outcome = catalog.apply(index, &Proposal { request, at_ms: 1, command });
        assert!(!matches!(outcome, crate::Outcome::Refused { .. }), "{outcome:?}");
    }
    catalog
}

/// One of each that is no member's own business, after its name.
fn of_servers() -> Vec<Command> {
    let (app, name, alias): (skein_proto::AppName, skein_proto::FunctionName, skein_proto::AliasName) =
        ("shop".parse().unwrap(), "price".parse().unwrap(), "live".parse().unwrap());
    let hash = Digest::of(b"k");
    let key = KeyRecord { hash, role: Role::Admin, app: None, note: String::new(), created_ms: 0, expires_ms: None };
    vec![
        add("late", MemberRole::Auto, Some("t")),
        Command::RemoveMember { node: WORKER },
        Command::SetDraining { node: WORKER, is_draining: true },
        Command::PublishVersion {
            manifest: Box::new(Manifest::named(app.clone(), name.clone())),
            digest: hash,
            size: 1,
            holders: vec![WORKER],
            note: String::new(),
            author: "k".into(),
            alias: None,
            expected: None,
        },
        Command::DeleteFunction { app: app.clone(), name: name.clone() },
        Command::SetAlias { app: app.clone(), name: name.clone(), alias: alias.clone(), version: 1, expected: None },
        Command::Rollback { app: app.clone(), name, alias, to: None },
        Command::CreateApp { app: app.clone(), binding: Binding::default() },
        Command::BindApp { app: app.clone(), binding: Binding::default() },
        Command::RemoveApp { app },
        Command::CreateKey { id: "k".into(), key },
        Command::RevokeKey { id: "k".into() },
        token(),
    ]
}

fn check(command: &Command, from: NodeId, expected: Option<ErrorCode>) {
    let found = mesh().may_propose(from, command).err().map(|failure| failure.code);
    assert_eq!(found, expected, "{} from node {from}", command.name());
}

#[test]
fn what_an_administrator_asks_for_comes_from_no_worker() {
    for command in of_servers() {
        check(&command, AUTO, None);
        check(&command, VOTER, None);
        check(&command, WORKER, Some(ErrorCode::Forbidden));
        check(&command, STRANGER, Some(ErrorCode::Unavailable));
    }
}

#[test]
fn where_and_what_a_member_is_it_says_itself() {
    for about in [AUTO, VOTER, WORKER] {
        let update = Command::UpdateMember { node: about, addresses: addresses() };
        for command in [update, Command::SetLabels { node: about, labels: BTreeMap::new() }] {
            for from in [AUTO, VOTER, WORKER] {
                check(&command, from, (from != about).then_some(ErrorCode::Forbidden));
            }
            check(&command, STRANGER, Some(ErrorCode::Unavailable));
        }
    }
}

#[test]
fn nobody_founds_a_mesh_from_afar() {
    let command = Command::Found { mesh: MeshId(Uuid::from_u128(8)) };
    for from in [AUTO, VOTER, WORKER] {
        check(&command, from, Some(ErrorCode::Forbidden));
    }
}

#[test]
fn every_command_is_tried() {
    let mut tried: Vec<&str> = of_servers().iter().map(Command::name).collect();
    tried.extend(["Found", "UpdateMember", "SetLabels"]);
    tried.sort_unstable();
    tried.dedup();
    // As many as the table has lines, counted in its text.
    let lines = include_str!("../rights.rs").lines().filter(|line| line.contains("=> (\"")).count();
    assert_eq!(tried.len(), lines, "a line of the table is tried by no test here: {tried:?}");
}
