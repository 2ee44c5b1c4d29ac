//! Random commands: replicas stay equal, snapshots restore equal and go on equal, refusals change nothing.

use proptest::prelude::*;

use super::{apps::labels, *};

const NAMES: [&str; 3] = ["price", "tax", "feed"];
const ALIASES: [&str; 3] = ["live", "beta", "old"];
const IDS: [&str; 3] = ["a", "b", "c"];

fn one_of(names: [&'static str; 3]) -> impl Strategy<Value = &'static str> {
    prop::sample::select(names.to_vec())
}

fn node() -> impl Strategy<Value = NodeId> {
    (1_u64..6).prop_map(NodeId)
}

fn expected() -> impl Strategy<Value = Option<u64>> {
    prop_oneof![3 => Just(None), 1 => (0_u64..4).prop_map(Some)]
}

fn publications() -> impl Strategy<Value = Command> {
    let to = prop::option::of(one_of(ALIASES));
    (one_of(NAMES), to, expected(), 0_usize..8).prop_map(|(name, to, expected, holder_count)| {
        let mut command = publish(name, to, expected);
        if let Command::PublishVersion { holders, .. } = &mut command {
            holders.truncate(holder_count);
        }
        command
    })
}

fn alias_commands() -> impl Strategy<Value = Command> {
    (one_of(NAMES), one_of(ALIASES), 1_u64..5, expected(), any::<bool>()).prop_map(
        |(name, to, version, expected, set)| {
            let (name, alias) = (function(name), alias(to));
            if set {
                Command::SetAlias { app: app(), name, alias, version, expected }
            } else {
                Command::Rollback { app: app(), name, alias, to: expected }
            }
        },
    )
}

fn member_commands() -> impl Strategy<Value = Command> {
    prop_oneof![
        4 => (one_of(NAMES), one_of(IDS), prop::option::of(one_of(IDS)))
            .prop_map(|(name, key, token)| join(name, key, token)),
        1 => (node(), prop::option::of(0_u64..40))
            .prop_map(|(node, secured)| Command::RemoveMember { node, secured }),
        1 => (node(), any::<bool>()).prop_map(|(node, is_draining)| Command::SetDraining { node, is_draining }),
        1 => (node(), one_of(NAMES)).prop_map(|(node, zone)| Command::SetLabels { node, labels: labels(zone) }),
        1 => (node(), one_of(NAMES)).prop_map(|(node, mesh)| {
            let addresses = Addresses { mesh: mesh.into(), http: String::new(), admin: String::new() };
            Command::UpdateMember { node, addresses }
        }),
    ]
}

fn app_commands() -> impl Strategy<Value = Command> {
    (0..3, one_of(NAMES), one_of(NAMES)).prop_map(|(kind, zone, name)| {
        let binding = Binding { labels: labels(zone), nodes: [name.parse().unwrap()].into() };
        match kind {
            0 => Command::CreateApp { app: app(), binding: Binding::default() },
            1 => Command::BindApp { app: app(), binding },
            _ => Command::RemoveApp { app: app() },
        }
    })
}

fn commands() -> impl Strategy<Value = Command> {
    prop_oneof![
        1 => (0_u128..2).prop_map(|mesh| Command::Found { mesh: MeshId(Uuid::from_u128(mesh)) }),
        6 => publications(),
        6 => alias_commands(),
        6 => member_commands(),
        3 => app_commands(),
        1 => one_of(NAMES).prop_map(|name| Command::DeleteFunction { app: app(), name: function(name) }),
        2 => (one_of(IDS), any::<bool>())
            .prop_map(|(id, admin)| key(id, if admin { Role::Admin } else { Role::Read })),
        2 => one_of(IDS).prop_map(|id| Command::RevokeKey { id: id.into() }),
        2 => (one_of(IDS), 0_u64..100).prop_map(|(id, expires_ms)| token(id, expires_ms)),
    ]
}

/// Requests come from a small set, so that some are repeated.
fn proposals() -> impl Strategy<Value = Vec<Proposal>> {
    let proposal = (0_u128..200, 0_u64..100, commands()).prop_map(|(request, at_ms, command)| Proposal {
        request: RequestId(Uuid::from_u128(request)),
        at_ms,
        command,
    });
    prop::collection::vec(proposal, 1..80)
}

/// What must hold of every catalogue.
fn check_invariants(catalog: &Catalog) {
    for record in catalog.functions() {
        assert_eq!(catalog.function_by_id(record.id), Some(record));
        assert_eq!(
            record.versions.keys().copied().collect::<Vec<_>>(),
            (1..=record.versions.len() as u64).collect::<Vec<_>>()
        );
        for history in record.aliases.values() {
            assert!((1..=16).contains(&history.len()));
            assert!(history.iter().all(|number| record.versions.contains_key(number)));
            assert!(history.windows(2).all(|pair| pair[0] != pair[1]), "a move to where it was");
        }
    }
    let mut names: Vec<_> = catalog.members().map(|member| &member.name).collect();
    names.sort();
    assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "a name borne twice");
    assert!(catalog.members().all(|member| !catalog.was_removed(member.node)));
    assert!(catalog.leaving().all(|member| catalog.was_removed(member.node) && !catalog.has_left(member.node)));
    assert!(catalog.leaving().count() <= 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn replicas_and_restored_snapshots_are_equal_at_each_step(
        proposals in proposals(),
        snapshot_at in any::<prop::sample::Index>(),
    ) {
        let snapshot_at = snapshot_at.index(proposals.len());
        let (mut one, mut two) = (Catalog::default(), Catalog::default());
        let mut restored = None;
        for (step, proposal) in proposals.iter().enumerate() {
            let index = step as u64 + 1;
            // As the log would show it: all members vote, and who was removed does not.
            if step % 5 == 4 {
                let voters = one.members().map(|member| member.node).collect();
                [&mut one, &mut two].into_iter().chain(&mut restored).for_each(|it| it.set_voters(index, &voters));
            }
            let before = one.clone();
            let outcome = one.apply(index, proposal);
            prop_assert_eq!(&two.apply(index, proposal), &outcome);
            prop_assert_eq!(&one, &two);
            check_invariants(&one);
            if matches!(outcome, Outcome::Refused { .. }) || before.outcome(proposal.request).is_some() {
                prop_assert_eq!(essence(&one), essence(&before));
            }
            if let Some(restored) = &mut restored {
                prop_assert_eq!(&Catalog::apply(restored, index, proposal), &outcome);
                prop_assert_eq!(&*restored, &one);
            }
            if step == snapshot_at {
                restored = Some(Catalog::from_snapshot(&one.to_snapshot().unwrap()).unwrap());
                prop_assert_eq!(restored.as_ref(), Some(&one));
            }
        }
        prop_assert_eq!(one.to_snapshot().unwrap(), two.to_snapshot().unwrap());
        prop_assert_eq!(restored.unwrap().to_snapshot().unwrap(), one.to_snapshot().unwrap());
    }
}
