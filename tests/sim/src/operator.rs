//! What an operator asks of a node: to let another one in, to take one off for good.

use skein_catalog::{Command, MemberRole, Outcome, Proposal, RequestId};
use skein_proto::NodeId;
use tokio::time::{Duration, Instant, sleep, sleep_until};
use uuid::Uuid;

use crate::{
    copies, identities,
    node::Node,
    places,
    world::{Planted, World, now_ms},
};

/// Something that an operator asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Errand {
    /// A node asks this one to be let in, which is to have this id: ids are given in order, and nobody asks for one while
    /// the one before it is free.
    Join(NodeId),
    /// This node is to be taken off.
    Remove(NodeId),
}

/// With what nodes are let in.
pub(crate) const TOKEN: &str = "t";

/// How long an operator waits, and of that for the copies that a removal needs.
const PATIENCE: Duration = Duration::from_millis(3_500);
const COPIES_PATIENCE: Duration = Duration::from_secs(2);

/// Requests of operators are numbered from here on, beyond those of the founder and before those of callers.
const REQUESTS: u128 = 1 << 16;

/// Does what this node is asked, as it comes.
pub(crate) async fn serve(node: Node) {
    loop {
        while let Some((number, errand)) = node.world.errand(node.boot.0) {
            let run = run(node.clone(), number, errand);
            node.spawn(run);
        }
        sleep(Duration::from_millis(20)).await;
    }
}

async fn run(node: Node, number: u64, errand: Errand) {
    let deadline = Instant::now() + PATIENCE;
    let command = match errand {
        Errand::Join(joiner) => add(&node.world, joiner, Some(TOKEN)),
        Errand::Remove(gone) => {
            let secured_by = Instant::now() + COPIES_PATIENCE;
            let secured = copies::secure_without(&node, gone, secured_by).await;
            let Some(secured) = secured.ok().filter(|_| may_go(&node, gone)) else { return };
            let mut secured = Some(secured);
            if node.world.planted == Planted::UnweighedRemoval {
                // All that were asked at one moment look before any of them proposes, however long each waited for copies;
                // and nothing is weighed, copies neither.
                sleep_until(secured_by).await;
                secured = None;
            }
            Command::RemoveMember { node: gone, secured }
        }
    };
    let request = RequestId(Uuid::from_u128(REQUESTS + u128::from(number)));
    let proposal = Proposal { request, at_ms: now_ms(), command };
    if let Ok((_, Outcome::Done | Outcome::Member(_))) = node.consensus.submit(&proposal, deadline).await {
        node.world.history.granted(errand);
    }
}

/// What has a node belong to the mesh.
pub(crate) fn add(world: &World, node: NodeId, token: Option<&str>) -> Command {
    Command::AddMember {
        name: format!("n{node}").parse().unwrap(),
        key: identities::of(node).key_digest(),
        addresses: places::addresses(world.place(node)),
        role: MemberRole::Auto,
        token: token.map(str::to_owned),
    }
}

/// What `node/skein` asks before it proposes: whether those of the other voters that live would be a majority of them.
fn may_go(node: &Node, gone: NodeId) -> bool {
    let (voters, alive) = (node.consensus.status().voters, node.alive());
    let rest: Vec<&NodeId> = voters.iter().filter(|voter| **voter != gone).collect();
    !voters.contains(&gone) || rest.iter().filter(|voter| alive.contains(**voter)).count() > rest.len() / 2
}
