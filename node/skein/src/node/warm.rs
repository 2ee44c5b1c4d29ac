//! Which versions this node keeps ready (`scale.warm`, and more by `scale.schedule`): a share of its own, found from the
//! catalogue, the view and the time.

use std::time::Duration;

use skein_catalog::{Catalog, Propose as _, VersionRecord};
use skein_membership::View;
use skein_placement::warm_share;
use skein_proto::{AppName, NodeId, VersionId, WeekMinute};
use skein_runtime::Kept;
use tokio_util::sync::CancellationToken;

use super::{Shared, access::now_ms};

/// After a change, before the shares are found again: several changes make one, and a node that is only suspected has
/// time to answer.
const SETTLE: Duration = Duration::from_millis(500);

/// Tells the runtime what to keep, at every change and every minute, until told to stop.
pub(super) async fn keep(shared: Shared, stop: CancellationToken) {
    let me = shared.transport.local();
    let (mut catalog, mut view) = (shared.consensus.watch(), shared.membership.watch());
    let mut told: Vec<(VersionId, u32)> = Vec::new();
    loop {
        let kept = {
            let (catalog, view) = (catalog.borrow_and_update().clone(), view.borrow_and_update());
            shares(&catalog, &nodes(&catalog, &view, me), me, WeekMinute::of_unix_ms(now_ms()))
        };
        let mut now: Vec<_> = kept.iter().map(|(version, (_, count))| (*version, *count)).collect();
        now.sort_unstable();
        if now != told {
            tracing::debug!(versions = now.len(), "kept ready here");
            told = now;
            shared.runtime.keep(kept);
        }
        tokio::select! {
            () = stop.cancelled() => return,
            changed = catalog.changed() => if changed.is_err() { return },
            changed = view.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(until_next_minute(now_ms())) => {}
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(SETTLE) => {}
        }
    }
}

/// Whether `node` is to keep a version ready now: it would start it again if it were stopped there.
pub(super) fn is_kept(
    catalog: &Catalog,
    nodes: &[NodeId],
    (version, node): (VersionId, NodeId),
    now: WeekMinute,
) -> bool {
    let function = catalog.function_by_id(version.function);
    let is_aliased = |record: &VersionRecord| {
        let function = function.filter(|function| catalog.may_run(&function.app, node));
        function.is_some_and(|one| one.aliases.values().any(|history| history.last() == Some(&record.number)))
    };
    let record = catalog.version(version).filter(|record| is_aliased(record));
    record.is_some_and(|record| {
        let nodes = may_run(catalog, nodes, &record.manifest.app);
        share((version, record), &nodes, node, now) > 0
    })
}

/// Those of `nodes` that an app may run on.
fn may_run(catalog: &Catalog, nodes: &[NodeId], app: &AppName) -> Vec<NodeId> {
    nodes.iter().copied().filter(|node| catalog.may_run(app, *node)).collect()
}

/// How long it is until the next minute begins, by this node's clock.
fn until_next_minute(now_ms: u64) -> Duration {
    Duration::from_millis(MINUTE_MS - now_ms % MINUTE_MS)
}

const MINUTE_MS: u64 = 60_000;

/// The nodes that take calls, as far as this one knows.
pub(super) fn nodes(catalog: &Catalog, view: &View, me: NodeId) -> Vec<NodeId> {
    let takes_calls = |node: NodeId| {
        node == me || view.is_alive(node) && view.peers.get(&node).is_some_and(|peer| !peer.load.is_draining)
    };
    let members = catalog.members().filter(|member| !member.is_draining);
    members.map(|member| member.node).filter(|node| takes_calls(*node)).collect()
}

/// This node's share of every version that an alias points at.
fn shares(catalog: &Catalog, nodes: &[NodeId], me: NodeId, now: WeekMinute) -> Kept {
    let mut kept = Kept::new();
    for function in catalog.functions() {
        let nodes = may_run(catalog, nodes, &function.app);
        let aliased = function.aliases.values().filter_map(|history| history.last());
        for record in aliased.filter_map(|number| function.versions.get(number)) {
            let version = VersionId { function: function.id, number: record.number };
            let share = share((version, record), &nodes, me, now);
            if share > 0 {
                kept.insert(version, (record.clone(), share));
            }
        }
    }
    kept
}

fn share((version, record): (VersionId, &VersionRecord), nodes: &[NodeId], node: NodeId, now: WeekMinute) -> u32 {
    match record.manifest.scale.warm_at(now) {
        0 => 0,
        warm => warm_share(version, warm, nodes, node),
    }
}

#[cfg(test)]
mod tests {
    use skein_catalog::{Addresses, Command, MemberRole, Outcome, Proposal, RequestId};
    use skein_proto::{Digest, Manifest, MeshId, Window};
    use uuid::Uuid;

    use super::*;

    /// A mesh of three nodes with `default/f`: version 1 without an alias, version 2 live; of each `warm` instances are
    /// kept, and three from 08:00 to 09:00.
    fn catalog(warm: u32) -> (Catalog, [VersionId; 2]) {
        let mut catalog = Catalog::default();
        let mut tell = |command| {
            let proposal = Proposal { request: RequestId(Uuid::now_v7()), at_ms: 1, command };
            catalog.apply(catalog.index() + 1, &proposal)
        };
        tell(Command::Found { mesh: MeshId(Uuid::from_u128(1)) });
        for name in ["n1", "n2", "n3"] {
            let (mesh, http, admin) = (format!("{name}:1"), format!("{name}:2"), format!("{name}:3"));
            let (key, name) = (Digest::of(name.as_bytes()), name.parse().unwrap());
            let addresses = Addresses { mesh, http, admin };
            tell(Command::AddMember { name, key, addresses, role: MemberRole::Auto, token: None });
        }
        let versions = [None, Some(Default::default())].map(|alias| {
            let mut manifest = Manifest::named(Default::default(), "f".parse().unwrap());
            let window = Window { days: Vec::new(), between: "08:00-09:00".parse().unwrap(), warm: 3 };
            (manifest.scale.warm, manifest.scale.schedule) = (warm, vec![window]);
            let (note, author, digest) = (String::new(), String::new(), Digest::of(b"code"));
            let (manifest, holders) = (Box::new(manifest), vec![NodeId(1)]);
            let publish =
                Command::PublishVersion { manifest, digest, size: 4, holders, note, author, alias, expected: None };
            match tell(publish) {
                Outcome::Published(version) => version,
                other => panic!("{other:?}"),
            }
        });
        (catalog, versions)
    }

    const NODES: [NodeId; 3] = [NodeId(1), NodeId(2), NodeId(3)];
    const HOUR_MS: u64 = 3_600_000;

    fn keepers(catalog: &Catalog, version: VersionId, at_ms: u64) -> usize {
        let now = WeekMinute::of_unix_ms(at_ms);
        let is_keeper = |node: &NodeId| {
            let is_kept = is_kept(catalog, &NODES, (version, *node), now);
            assert_eq!(is_kept, shares(catalog, &NODES, *node, now).contains_key(&version), "as the node itself finds");
            is_kept
        };
        NODES.iter().filter(|node| is_keeper(node)).count()
    }

    #[test]
    fn as_many_nodes_keep_a_version_as_the_time_of_day_says_and_only_if_it_has_an_alias() {
        let (catalog, [staged, live]) = catalog(1);
        assert_eq!([7, 8, 9].map(|hour| keepers(&catalog, live, hour * HOUR_MS)), [1, 3, 1]);
        assert_eq!(keepers(&catalog, staged, 8 * HOUR_MS), 0);
        assert_eq!(keepers(&self::catalog(0).0, live, 7 * HOUR_MS), 0);
    }

    #[test]
    fn the_next_minute_is_never_now() {
        assert_eq!(until_next_minute(60_000), Duration::from_secs(60));
        assert_eq!(until_next_minute(119_999), Duration::from_millis(1));
    }
}
