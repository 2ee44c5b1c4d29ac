//! Lets go of idle activations when the node needs their memory. Who leaves is `skein_placement::evict`'s to say.

use std::collections::HashSet;

use ractor::{ActorId, RpcReplyPort};
use skein_placement::evict::{Idle, victims};
use skein_proto::ColdCause;

use super::State;
use crate::{
    activation::Activation,
    metrics::{self, Gone},
};

/// Those who wait for evicted activations to be gone.
#[derive(Default)]
pub(super) struct Evictions {
    waiting: Vec<(HashSet<ActorId>, u64, RpcReplyPort<u64>)>,
}

impl State {
    /// Has idle activations leave that hold at least `wanted` bytes, as far as there are any. Answers how many bytes they
    /// held when they are gone, at once if there are none.
    pub(super) fn evict(&mut self, wanted: u64, reply: RpcReplyPort<u64>) {
        let clock = self.arguments.clock.get();
        let idle = self.actors.iter().filter(|(_, (_, activation))| activation.is_evictable());
        let idle = idle.map(|(actor, (_, activation))| self.described(*actor, activation));
        let idle: Vec<_> = idle.collect();
        let plan = victims(&idle, wanted, clock);
        self.arguments.clock.set(plan.clock);
        let leaving: HashSet<_> =
            plan.victims.into_iter().filter(|victim| self.stop(*victim, ColdCause::Memory)).collect();
        metrics::evicted(leaving.len(), Gone::Memory);
        if leaving.is_empty() {
            // Who asked may have given up.
            let _ = reply.send(0);
        } else {
            self.evictions.waiting.push((leaving, plan.bytes, reply));
        }
    }

    fn described(&self, key: ActorId, activation: &Activation) -> Idle<ActorId> {
        Idle {
            key,
            bytes: activation.bytes(),
            cost: activation.load_time(),
            uses: activation.calls(),
            clock: activation.last_clock(),
            is_kept: self.is_kept(activation.version()),
            is_guess: activation.is_unused_guess(),
        }
    }
}

impl Evictions {
    /// An activation is gone, evicted or not.
    pub(super) fn ended(&mut self, actor: ActorId) {
        for (leaving, _, _) in &mut self.waiting {
            leaving.remove(&actor);
        }
        let (gone, waiting): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.waiting).into_iter().partition(|(leaving, _, _)| leaving.is_empty());
        self.waiting = waiting;
        for (_, bytes, reply) in gone {
            let _ = reply.send(bytes);
        }
    }
}
