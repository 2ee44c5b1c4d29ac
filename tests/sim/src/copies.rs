//! Sees to it that the code of every version lies on enough members: the leader's duty of `node/skein` in small, by the
//! real plan over the real catalogue.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use skein_catalog::Catalog;
use skein_placement::copies::{
    Away, COPIES, Keepers, Member, Members, Shortage, Survey, others_least, others_wanted, shortages, spread, unsecured,
};
use skein_proto::{Digest, ErrorCode, Failure, NodeId};
use tokio::time::{Instant, sleep, timeout_at};

use crate::{
    node::Node,
    world::{Planted, now},
};

/// Each of these is what `node/skein` has, divided by 30 or so: a run has seconds for what a mesh has minutes for.
const PERIOD: Duration = Duration::from_secs(2);
const SETTLE: Duration = Duration::from_millis(200);
const AWAY_MAX: Duration = Duration::from_secs(4);
const ASK_MAX: Duration = Duration::from_millis(500);
const KEEP_MAX: Duration = Duration::from_secs(1);
const REFUSED_PATIENCE: Duration = Duration::from_millis(400);
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Looks and mends where this node leads.
pub(crate) async fn keep(node: Node) {
    let mut away = Away::default();
    loop {
        let seen = members(&node);
        let status = node.consensus.status();
        if status.is_leader() && status.is_quorum_alive {
            look(&node, &seen, &mut away).await;
        } else {
            away.note(&seen.down, now());
        }
        let next = Instant::now() + PERIOD;
        while members(&node) == seen && Instant::now() < next {
            sleep(LOOK_AGAIN).await;
        }
        sleep(SETTLE).await;
    }
}

/// The members by what their copies are worth.
fn members(node: &Node) -> Members {
    let (catalog, alive) = (node.consensus.state(), node.alive());
    Members::sorted(catalog.members().map(|member| Member {
        node: member.node,
        is_alive: alive.contains(&member.node),
        is_draining: member.is_draining,
    }))
}

async fn look(node: &Node, members: &Members, away: &mut Away) {
    let survey = survey(node, members).await;
    away.note(&members.down.iter().copied().chain(survey.silent(&members.staying)).collect(), now());
    let keepers = Keepers { nodes: members.staying.clone(), expected: away.briefly(now(), AWAY_MAX) };
    let short = shortages(&survey, &keepers, COPIES);
    // What is not done by then is found again.
    let _ = timeout_at(Instant::now() + PERIOD, mend(node, short)).await;
}

async fn survey(node: &Node, members: &Members) -> Survey {
    let catalog = node.consensus.state();
    let digests: BTreeSet<Digest> = match node.world.planted {
        Planted::AliasedCopies => aliased(&catalog),
        _ => catalog.digests().into_iter().collect(),
    };
    let digests: Vec<Digest> = digests.into_iter().collect();
    let has = node.artifacts.survey(members.answering(), &digests, Instant::now() + ASK_MAX).await;
    Survey { digests, has }
}

/// What must not be all that is looked at: the artifacts of the versions that an alias points at.
fn aliased(catalog: &Catalog) -> BTreeSet<Digest> {
    let pointed = catalog.functions().flat_map(|function| {
        let numbers = function.aliases.values().filter_map(|history| history.last());
        numbers.filter_map(|number| Some(function.versions.get(number)?.digest))
    });
    pointed.collect()
}

/// Has copies made; whether none is missing afterwards.
async fn mend(node: &Node, shortages: Vec<Shortage>) -> bool {
    let mut is_whole = true;
    for mut shortage in shortages {
        for target in std::mem::take(&mut shortage.targets) {
            if shortage.missing == 0 || shortage.holders.is_empty() {
                break;
            }
            let deadline = Instant::now() + KEEP_MAX;
            if node.artifacts.keep_at(target, shortage.digest, &shortage.holders, deadline).await.is_ok() {
                shortage.missing -= 1;
                node.world.history.copied();
            }
        }
        is_whole &= shortage.missing == 0;
    }
    is_whole
}

/// Waits until the members other than `gone` have enough copies of everything, and has them made.
pub(crate) async fn secure_without(node: &Node, gone: NodeId, deadline: Instant) -> Result<u64, Failure> {
    let secured = timeout_at(deadline, async {
        loop {
            let index = node.consensus.state().index();
            let members = members(node).without(gone);
            let survey = survey(node, &members).await;
            let short = unsecured(&survey, &members.staying, gone, COPIES);
            if short.is_empty() || mend(node, short).await {
                return index;
            }
            sleep(LOOK_AGAIN).await;
        }
    });
    secured.await.map_err(|_| Failure::not_executed(ErrorCode::Conflict, format!("the others need {gone}'s copies")))
}

/// Has enough nodes keep new code, as a publish does before its version exists; gives them.
pub(crate) async fn replicate(node: &Node, bytes: &bytes::Bytes, deadline: Instant) -> Result<Vec<NodeId>, Failure> {
    let me = node.boot.0;
    node.artifacts.put(bytes).await?;
    let give_up = deadline.min(Instant::now() + REFUSED_PATIENCE);
    loop {
        let catalog = node.consensus.state();
        let known: BTreeMap<NodeId, bool> = catalog.members().map(|member| (member.node, member.is_draining)).collect();
        let view = node.membership.view();
        let mut peers: Vec<NodeId> = known.keys().copied().filter(|peer| *peer != me && !view.is_down(*peer)).collect();
        spread(Digest::of(bytes), &mut peers);
        peers.sort_by_key(|peer| known[peer]);
        let kept = node.artifacts.replicate(bytes, &peers, others_wanted(peers.len()), deadline).await;
        if kept.len() >= others_least(peers.len()) {
            return Ok([vec![me], kept].concat());
        }
        if Instant::now() >= give_up {
            return Err(Failure::not_executed(ErrorCode::Unavailable, format!("none of {peers:?} took a copy")));
        }
        sleep(LOOK_AGAIN).await;
    }
}
