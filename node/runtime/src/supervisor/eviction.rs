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
    /// held when they are gone, at once if there are none. One that got a call between the look and its end leaves after
    /// that: it is neither counted nor waited for, and another one leaves in its place.
    pub(super) fn evict(&mut self, wanted: u64, reply: RpcReplyPort<u64>) {
        let idle = self.actors.iter().filter(|(_, (_, one))| one.is_evictable() && one.left_for().is_none());
        let mut idle: Vec<_> = idle.map(|(actor, (_, activation))| self.described(*actor, activation)).collect();
        let (mut leaving, mut bytes, mut count) = (HashSet::new(), 0_u64, 0);
        while bytes < wanted && !idle.is_empty() {
            let plan = victims(&idle, wanted - bytes, self.arguments.clock.get());
            self.arguments.clock.set(plan.clock);
            let (chosen, rest): (Vec<_>, Vec<_>) = idle.into_iter().partition(|one| plan.victims.contains(&one.key));
            idle = rest;
            for victim in chosen {
                if !self.stop(victim.key, ColdCause::Memory) {
                    continue;
                }
                count += 1;
                let Some((_, activation)) = self.actors.get(&victim.key) else { continue };
                let activation = activation.clone();
                // Not only when it is gone: until then it is missing, too, and would be started again at the next tick.
                self.note_starved(&activation);
                if activation.shut() {
                    bytes = bytes.saturating_add(victim.bytes);
                    leaving.insert(victim.key);
                }
            }
        }
        metrics::evicted(count, Gone::Memory);
        if leaving.is_empty() {
            // Who asked may have given up.
            let _ = reply.send(0);
        } else {
            self.evictions.waiting.push((leaving, bytes, reply));
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
