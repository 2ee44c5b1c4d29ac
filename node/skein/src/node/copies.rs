//! Sees to it that the code of every version lies on enough members, whoever comes and goes.
//!
//! ```text
//! leader, each minute and when the members change          member that lacks one        member that has it
//!   |-- which of these do you have? --------------------------->|------------------------------>|
//!   |-- Keep{digest, from} ------------------------------------>|-- Get{digest} --------------->|
//!   |<-------------------- kept, fsynced ------------------------|<------------- bytes ----------|
//! ```
//! Nothing depends on the leader: copies are made true, and making one twice does no harm. Who is about to leave does
//! not count: `skein node drain` and `skein node remove` wait until the others have enough.

use std::time::Duration;

use futures_util::{StreamExt as _, future::join_all, stream};
use serde::{Deserialize, Serialize};
use skein_catalog::{Catalog, Propose};
use skein_membership::View;
use skein_placement::copies::{Away, COPIES, Keepers, Member, Members, Shortage, Survey, shortages, unsecured};
use skein_proto::{Digest, ErrorCode, Failure, NodeId, codec};
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;

use super::{Shared, control::ControlRequest, metrics, migrate};

/// Between two looks at everything. A look costs each member one look at its disk for each artifact.
const PERIOD: Duration = Duration::from_secs(60);
/// After a change of the members: several changes make one look, and a node that is only suspected has time to answer.
const SETTLE: Duration = Duration::from_secs(2);
/// How long a member may be away, or not say what it has, before its copies are made anew: a restart or an upgrade takes
/// less.
const AWAY_MAX: Duration = Duration::from_secs(120);
/// Longest one member takes to say what it has, and to get and keep one artifact.
const ASK_MAX: Duration = Duration::from_secs(10);
const KEEP_MAX: Duration = Duration::from_secs(30);
/// Copies that are made at a time: each may be 64 MiB on two nodes' networks and disks.
const PARALLEL: usize = 4;
/// Between two looks while somebody waits for copies.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// Most artifacts that a report names; it counts all.
const NAMED_MAX: usize = 4;

/// What the last look found and could not mend.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct CopiesReport {
    /// Artifacts with fewer copies than there should be.
    pub(super) short: u64,
    /// Of them, those that no member that answers has.
    pub(super) lost: u64,
    /// Some of them, those that nobody has first.
    pub(super) named: Vec<Digest>,
}

impl CopiesReport {
    fn of(shortages: &[Shortage]) -> Self {
        let lost = shortages.iter().filter(|shortage| shortage.holders.is_empty());
        let rest = shortages.iter().filter(|shortage| !shortage.holders.is_empty());
        Self {
            short: shortages.len() as u64,
            lost: lost.clone().count() as u64,
            named: lost.chain(rest).take(NAMED_MAX).map(|shortage| shortage.digest).collect(),
        }
    }
}

/// The last report, on every node.
pub(super) type Reports = watch::Sender<CopiesReport>;

/// Looks and mends until told to stop, where this node leads; elsewhere asks the leader what it found.
pub(super) async fn keep(shared: Shared, stop: CancellationToken) {
    let (mut catalog, mut view) = (shared.consensus.watch(), shared.membership.watch());
    let (mut away, began) = (Away::default(), Instant::now());
    loop {
        catalog.borrow_and_update();
        view.borrow_and_update();
        let seen = members(&shared);
        let look = async {
            let report = if leads(&shared) {
                look(&shared, &seen, (&mut away, began)).await
            } else {
                away.note(&seen.down, began.elapsed());
                ask_leader(&shared).await
            };
            if let Some(report) = report {
                metrics::copies(report.short, report.lost);
                shared.copies.send_replace(report);
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = look => {}
        }
        let next = tokio::time::sleep(PERIOD);
        tokio::pin!(next);
        // Load figures change the view twice a second: only members that come, go or drain are worth a look.
        while members(&shared) == seen {
            tokio::select! {
                () = stop.cancelled() => return,
                () = &mut next => break,
                changed = catalog.changed() => if changed.is_err() { return },
                changed = view.changed() => if changed.is_err() { return },
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(SETTLE) => {}
        }
    }
}

fn leads(shared: &Shared) -> bool {
    let status = shared.consensus.status();
    status.is_leader() && status.is_quorum_alive
}

fn members(shared: &Shared) -> Members {
    members_by(&shared.consensus.catalog(), &shared.membership.view(), shared.transport.local())
}

/// The members by what their copies are worth, those that were not heard of yet with the living: they are asked, and until
/// they answer, nothing is taken to be on them.
fn members_by(catalog: &Catalog, view: &View, me: NodeId) -> Members {
    let is_alive = |node| node == me || !view.is_down(node);
    Members::sorted(catalog.members().map(|member| Member {
        node: member.node,
        is_alive: is_alive(member.node),
        is_draining: member.is_draining,
    }))
}

/// One look at everything, and what could not be mended. None if there was nothing to look at.
async fn look(shared: &Shared, members: &Members, (away, began): (&mut Away, Instant)) -> Option<CopiesReport> {
    let catalog = shared.consensus.catalog();
    // Before anything is applied, nothing is referred to.
    catalog.mesh()?;
    let survey = survey(shared, &catalog, members).await;
    let now = began.elapsed();
    away.note(&members.down.iter().copied().chain(survey.silent(&members.staying)).collect(), now);
    let keepers = Keepers { nodes: members.staying.clone(), expected: away.briefly(now, AWAY_MAX) };
    let short = shortages(&survey, &keepers, COPIES);
    if short.is_empty() {
        return Some(CopiesReport::default());
    }
    let missing = short.iter().filter(|shortage| shortage.holders.is_empty()).count();
    tracing::info!(artifacts = short.len(), missing, "some artifacts have too few copies");
    // A member that stalls must not keep this node from looking anew; what is not done then is found again.
    let left = match timeout_at(Instant::now() + PERIOD, mend(shared, short.clone())).await {
        Ok(left) => left,
        Err(_) => short,
    };
    if let Some(lost) = left.iter().find(|shortage| shortage.holders.is_empty()) {
        tracing::error!(digest = %lost.digest, "no member that answers has an artifact that a version needs");
    }
    Some(CopiesReport::of(&left))
}

/// What each member that answers has.
async fn survey(shared: &Shared, catalog: &Catalog, members: &Members) -> Survey {
    let digests: Vec<Digest> = catalog.digests().into_iter().collect();
    let deadline = Instant::now() + ASK_MAX;
    let asked = members.answering().map(async |node| match shared.artifacts.which_at(node, &digests, deadline).await {
        Ok(has) => Some((node, has)),
        Err(failure) => {
            tracing::warn!(%node, %failure, "a member does not say which artifacts it has");
            None
        }
    });
    let has = join_all(asked).await.into_iter().flatten().collect();
    Survey { digests, has }
}

/// Has copies made; those that are still missing afterwards.
async fn mend(shared: &Shared, shortages: Vec<Shortage>) -> Vec<Shortage> {
    let mended = stream::iter(shortages).map(async |mut shortage| {
        for target in std::mem::take(&mut shortage.targets) {
            if shortage.missing == 0 || shortage.holders.is_empty() {
                break;
            }
            match keep_at(shared, target, &shortage).await {
                Ok(()) => {
                    shortage.missing -= 1;
                    metrics::copy_made();
                }
                Err(failure) => {
                    tracing::warn!(node = %target, digest = %shortage.digest, %failure, "a copy could not be made");
                }
            }
        }
        shortage
    });
    mended.buffer_unordered(PARALLEL).filter(|shortage| std::future::ready(shortage.missing > 0)).collect().await
}

async fn keep_at(shared: &Shared, target: NodeId, shortage: &Shortage) -> Result<(), Failure> {
    let deadline = Instant::now() + KEEP_MAX;
    if target == shared.transport.local() {
        return keep_here(shared, shortage.digest, &shortage.holders, deadline).await;
    }
    let request = ControlRequest::Keep { digest: shortage.digest, from: shortage.holders.clone() };
    migrate::ask(shared, target, &request, deadline).await.map(drop)
}

/// Has this node keep an artifact durably, got from these members if it is not here.
///
/// # Errors
/// None of them gives it, or it cannot be kept here.
pub(super) async fn keep_here(
    shared: &Shared,
    digest: Digest,
    from: &[NodeId],
    deadline: Instant,
) -> Result<(), Failure> {
    shared.artifacts.fetch(digest, from, deadline).await?;
    // A fetch gives the bytes even where the disk does not take them.
    match shared.artifacts.claim(digest).await? {
        Some(_) => Ok(()),
        None => Err(Failure::not_executed(ErrorCode::DiskFull, format!("artifact {digest} could not be kept here"))),
    }
}

async fn ask_leader(shared: &Shared) -> Option<CopiesReport> {
    let leader = shared.consensus.status().leader.filter(|leader| *leader != shared.transport.local())?;
    let answer = migrate::ask(shared, leader, &ControlRequest::Copies, Instant::now() + ASK_MAX).await.ok()?;
    codec::decode(&answer).ok()
}

/// Waits until the members other than `node` have enough copies of everything, and has them made. Gives the index of the
/// catalogue that was looked at.
///
/// # Errors
/// `conflict` when that is not so by the deadline, with what is missing. Nothing is undone; asking again goes on.
pub(super) async fn secure_without(shared: &Shared, node: NodeId, deadline: Instant) -> Result<u64, Failure> {
    let mut left = Unsecured::default();
    let secured = timeout_at(deadline, async {
        loop {
            let catalog = shared.consensus.catalog();
            let members = members(shared).without(node);
            left.is_nobody_left = members.staying.is_empty();
            let survey = survey(shared, &catalog, &members).await;
            let short = unsecured(&survey, &members.staying, node, COPIES);
            left.silent = survey.silent(&members.staying).collect();
            left.report = CopiesReport::of(&short);
            if short.is_empty() || mend(shared, short).await.is_empty() {
                return catalog.index();
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    })
    .await;
    secured.map_err(|_| not_secured(&shared.consensus.catalog(), node, &left))
}

/// Why the others cannot do without a node.
#[derive(Debug, Default)]
struct Unsecured {
    report: CopiesReport,
    /// Those that stay and do not say what they have.
    silent: Vec<NodeId>,
    /// Whether no member would stay, or none that is up.
    is_nobody_left: bool,
}

fn not_secured(catalog: &Catalog, node: NodeId, left: &Unsecured) -> Failure {
    let name = |node: NodeId| catalog.member(node).map_or_else(|| node.to_string(), |member| member.name.to_string());
    let (silent, named) =
        (left.silent.iter().copied().map(name).collect::<Vec<_>>().join(", "), named(catalog, &left.report));
    let (name, short) = (name(node), left.report.short);
    let message = if left.is_nobody_left {
        format!(
            "no other node is up and stays to keep the code of {named}: start one, or resume one that is drained, before \
             {name} goes; --force goes on without"
        )
    } else if left.report.lost > 0 {
        format!(
            "no other node that answers has the code of {} version(s), {named}: start {name} or the nodes that are down \
             first, or take {name} off with --force and publish that code again",
            left.report.lost
        )
    } else if !silent.is_empty() {
        format!(
            "{short} artifact(s) may have fewer than {COPIES} copies without {name}, {named}, since {silent} did not say \
             what is there: see to the network between the nodes, and repeat; --force goes on without"
        )
    } else {
        format!(
            "{short} artifact(s) have fewer than {COPIES} copies without {name}, {named}: see the log of the other nodes \
             for why they do not take them, and repeat; --force goes on without"
        )
    };
    Failure::not_executed(ErrorCode::Conflict, message)
}

/// The versions that a report names, as a person knows them.
pub(super) fn named(catalog: &Catalog, report: &CopiesReport) -> String {
    let versions = catalog.functions().flat_map(|function| function.versions.values());
    let mut names: Vec<String> = versions
        .filter(|record| report.named.contains(&record.digest))
        .map(|record| format!("{}/{}@{}", record.manifest.app, record.manifest.name, record.number))
        .take(NAMED_MAX)
        .collect();
    let others = report.short.saturating_sub(report.named.len() as u64);
    if others > 0 {
        names.push(format!("and {others} more"));
    }
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use skein_catalog::{Addresses, Command, MemberRole, Proposal, RequestId, TokenRecord};
    use skein_membership::{Peer, PeerState};
    use skein_proto::{Load, MeshId};

    use super::*;

    /// A mesh of these, of which node 1 looks.
    fn seen(states: &[(u64, PeerState)]) -> Members {
        let token = TokenRecord { hash: Digest::of(b"t"), role: None, expires_ms: u64::MAX };
        let mut commands =
            vec![Command::Found { mesh: MeshId::random() }, Command::CreateToken { id: "t".to_owned(), token }];
        commands.extend(states.iter().map(|(node, _)| {
            let address = || "127.0.0.1:1".to_owned();
            Command::AddMember {
                name: format!("n{node}").parse().unwrap(),
                key: Digest::of(&node.to_le_bytes()),
                addresses: Addresses { mesh: address(), http: address(), admin: address() },
                role: MemberRole::Auto,
                token: (*node > 1).then(|| "t".to_owned()),
            }
        }));
        let mut catalog = Catalog::default();
        for (index, command) in (1..).zip(commands) {
            let request = RequestId(uuid::Uuid::now_v7());
            catalog.apply(index, &Proposal { request, at_ms: 0, command });
        }
        assert_eq!(catalog.members().count(), states.len());
        let peer =
            |(node, state): (u64, PeerState)| (NodeId(node), Peer { node: NodeId(node), state, load: Load::default() });
        members_by(&catalog, &View { peers: states.iter().copied().map(peer).collect() }, NodeId(1))
    }

    #[test]
    fn who_was_not_heard_of_yet_is_asked_before_a_node_may_go() {
        use PeerState::{Alive, Down, Unheard};
        let (digests, nodes) = (vec![Digest::of(b"code")], |nodes: &[u64]| nodes.iter().copied().map(NodeId).collect());
        let members = seen(&[(1, Alive), (2, Unheard), (3, Unheard), (4, Down)]).without(NodeId(3));
        assert_eq!(members.staying, nodes(&[1, 2]));
        // Only this node has answered, and has it; whether another one has it is not known.
        let has = [(NodeId(1), vec![true]), (NodeId(3), vec![true])].into();
        let short = unsecured(&Survey { digests, has }, &members.staying, NodeId(3), COPIES);
        assert_eq!(short.iter().map(|shortage| shortage.missing).collect::<Vec<_>>(), [1]);
    }
}
