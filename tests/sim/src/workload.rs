//! What callers on every node do: call functions, publish versions, read what was published.

use std::time::Duration;

use bytes::Bytes;
use rand::{Rng, rngs::SmallRng};
use skein_catalog::{Catalog, Command, Outcome, Proposal, RequestId};
use skein_proto::{Digest, ErrorCode, Failure, Invocation, InvocationId, Invoke, Manifest};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::{
    copies,
    history::Read,
    node::Node,
    world::{Phase, now, now_ms},
};

/// Functions there are: the even ones may run twice, the odd ones may call others and so must not.
const FUNCTIONS: usize = 4;
/// How long callers wait.
const CALL_PATIENCE: Duration = Duration::from_millis(2_500);
const WRITE_PATIENCE: Duration = Duration::from_millis(1_900);
/// How long a publish may take before that to have the code kept.
const STORE_PATIENCE: Duration = Duration::from_millis(900);
/// Callers of functions on each node.
const CALLERS: u64 = 2;

/// Starts the callers of a node; they end with it.
pub(crate) fn start(node: &Node) {
    for caller in 0..CALLERS {
        node.spawn(while_busy(node.clone(), 10 + caller, 250, |node, chance| Box::pin(call(node, chance))));
    }
    node.spawn(while_busy(node.clone(), 20, 800, |node, chance| Box::pin(write(node, chance))));
    node.spawn(while_busy(node.clone(), 21, 800, |node, chance| Box::pin(read(node, chance))));
    node.spawn(probe(node.clone()));
}

type Doing<'a> = std::pin::Pin<Box<dyn Future<Output = bool> + Send + 'a>>;

async fn while_busy(
    node: Node,
    purpose: u64,
    pause_ms: u64,
    mut act: impl for<'a> FnMut(&'a Node, &'a mut SmallRng) -> Doing<'a> + Send,
) {
    let mut chance = node.world.chance(node.boot.0, purpose + (node.boot.1 << 8));
    loop {
        sleep(Duration::from_millis(chance.random_range(1..=pause_ms))).await;
        if node.world.phase() == Phase::Busy {
            act(&node, &mut chance).await;
        }
    }
}

/// One of each, again until it succeeds; whether it does is for the run to see.
async fn probe(node: Node) {
    let mut chance = node.world.chance(node.boot.0, 30 + (node.boot.1 << 8));
    while node.world.phase() != Phase::Probing {
        sleep(Duration::from_millis(50)).await;
    }
    // A call may still be lost with a connection to a node that has restarted since; a caller would repeat it, too.
    while !write(&node, &mut chance).await {
        sleep(Duration::from_millis(50)).await;
    }
    while !read(&node, &mut chance).await {
        sleep(Duration::from_millis(50)).await;
    }
    while !call(&node, &mut chance).await {
        sleep(Duration::from_millis(50)).await;
    }
}

async fn call(node: &Node, chance: &mut SmallRng) -> bool {
    let function = chance.random_range(0..FUNCTIONS);
    let is_idempotent = chance.random_ratio(1, 4);
    let is_repeatable = is_idempotent || function % 2 == 0;
    let number = node.world.history.call_begins(node.boot, CALL_PATIENCE, is_repeatable);
    let payload = Bytes::copy_from_slice(&(number as u64).to_le_bytes());
    let reference = format!("f{function}").parse().unwrap();
    let id = InvocationId(Uuid::from_u128(number as u128 + 1));
    let mut invocation = Invocation::with_id(id, reference, payload, Instant::now() + CALL_PATIENCE);
    invocation.is_idempotent = is_idempotent;
    let outcome = node.router.invoke(invocation).await.map(|reply| reply.node);
    let is_ok = outcome.is_ok();
    node.world.history.call_ends(number, outcome);
    is_ok
}

async fn write(node: &Node, chance: &mut SmallRng) -> bool {
    let function = chance.random_range(0..FUNCTIONS);
    let code = |number: usize| Bytes::copy_from_slice(&(number as u64).to_le_bytes());
    let (number, digest) = node.world.history.write_begins(node.boot, |number| Digest::of(&code(number)));
    let holders = match copies::replicate(node, &code(number), Instant::now() + STORE_PATIENCE).await {
        Ok(holders) => holders,
        Err(failure) => {
            node.world.history.write_ends(number, Err(failure));
            return false;
        }
    };
    let mut manifest = Manifest::named("default".parse().unwrap(), format!("f{function}").parse().unwrap());
    if function % 2 == 1 {
        manifest.grants.invoke = vec!["*".to_owned()];
    }
    let command = Command::PublishVersion {
        manifest: Box::new(manifest),
        digest,
        size: 8,
        holders,
        note: String::new(),
        author: "simulation".into(),
        alias: Some("live".parse().unwrap()),
        expected: None,
    };
    // Beyond the requests of the founder.
    let request = RequestId(Uuid::from_u128((1 << 32) + number as u128));
    let proposal = Proposal { request, at_ms: now_ms(), command };
    let outcome = node.consensus.submit(&proposal, Instant::now() + WRITE_PATIENCE).await;
    let outcome = outcome.and_then(|(index, outcome)| match outcome {
        // Nodes that took a copy were removed meanwhile: whoever publishes is told, and nothing is acknowledged.
        Outcome::Refused { code: code @ ErrorCode::Unavailable, message } => Err(Failure::not_executed(code, message)),
        Outcome::Refused { message, .. } => {
            node.world.history.fault(format!("publish {number} was refused: {message}"));
            Ok((index, Outcome::Done))
        }
        outcome => Ok((index, outcome)),
    });
    let is_ok = outcome.is_ok();
    node.world.history.write_ends(number, outcome.map(|(index, _)| index));
    is_ok
}

async fn read(node: &Node, _: &mut SmallRng) -> bool {
    let (began, before) = (now(), node.world.history.acknowledged());
    let Ok((index, catalog)) = node.read(Instant::now() + WRITE_PATIENCE).await else { return false };
    let missed = missing(&catalog, before);
    node.world.history.read(Read { boot: node.boot, began, index, missed });
    true
}

/// Those of the writes that a catalogue does not show.
fn missing(catalog: &Catalog, writes: Vec<(usize, Digest)>) -> Vec<usize> {
    let shown = catalog.digests();
    writes.into_iter().filter(|(_, digest)| !shown.contains(digest)).map(|(number, _)| number).collect()
}
