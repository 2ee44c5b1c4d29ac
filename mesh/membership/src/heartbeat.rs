//! Who has been silent for too long. Pure: told who was heard and what time it is, it says whom to suspect or give up.
//!
//! SWIM's probes find a dead node in a time that is constant on average only: a probe goes to one peer at a time, so
//! the unluckiest wait grows with the mesh. Where every peer sends its digest to every other anyway, silence is a
//! sign with a bound. It raises SWIM's own suspicion, which travels by gossip, so a peer that only this node cannot
//! hear gets the chance to object through the others.

use std::{collections::BTreeMap, time::Duration};

use foca::{Member, State};
use skein_proto::NodeId;
use tokio::time::Instant;

use crate::identity::Identity;

/// Signs of life by peer.
#[derive(Debug)]
pub(crate) struct Heartbeat {
    suspect_after: Duration,
    down_after: Duration,
    peers: BTreeMap<NodeId, Sign>,
    judged: Instant,
}

/// The last sign of life of a peer.
#[derive(Debug, Clone, Copy)]
struct Sign {
    at: Instant,
    /// Its life and its objections within that life: a newer pair, through whomever, is a sign of life as well.
    life: (u64, u16),
}

/// A judge that was away for longer cannot tell its own absence from others' silence.
const ABSENCE: Duration = Duration::from_millis(400);

impl Heartbeat {
    pub(crate) fn new(suspect_after: Duration, down_after: Duration, now: Instant) -> Self {
        Self { suspect_after, down_after, peers: BTreeMap::new(), judged: now }
    }

    /// Notes that `node` itself was heard.
    pub(crate) fn heard(&mut self, node: NodeId, now: Instant) {
        if let Some(sign) = self.peers.get_mut(&node) {
            sign.at = now;
        }
    }

    /// Whether `node` itself was heard lately, as of the last judgement. Then this node needs nobody's word for its being
    /// alive: a suspicion that it could not object to in time, because this node was cut off or stopped, is void.
    pub(crate) fn is_heard(&self, node: NodeId) -> bool {
        let silence = |sign: &Sign| self.judged.saturating_duration_since(sign.at);
        self.peers.get(&node).is_some_and(|sign| silence(sign) < self.suspect_after)
    }

    /// Says what has to change about `members`, the ones not given up. To be asked every 100 ms or so.
    pub(crate) fn judge<'a>(
        &mut self,
        members: impl Iterator<Item = &'a Member<Identity>>,
        now: Instant,
    ) -> Vec<Member<Identity>> {
        let away = now.saturating_duration_since(self.judged);
        self.judged = now;
        // This node itself was stopped or starved, not its peers.
        let pardon = if away > ABSENCE { away } else { Duration::ZERO };
        let mut verdicts = Vec::new();
        let mut peers = BTreeMap::new();
        for member in members {
            let life = (member.id().incarnation, member.incarnation());
            let at = match self.peers.get(&member.id().node) {
                Some(sign) if sign.life >= life => (sign.at + pardon).min(now),
                _ => now,
            };
            peers.insert(member.id().node, Sign { at, life });
            let silence = now.saturating_duration_since(at);
            let verdict = match member.state() {
                State::Alive if silence >= self.suspect_after => State::Suspect,
                State::Suspect if silence >= self.down_after => State::Down,
                _ => continue,
            };
            verdicts.push(Member::new(*member.id(), member.incarnation(), verdict));
        }
        self.peers = peers;
        verdicts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: Identity = Identity { node: NodeId(2), incarnation: 5 };

    /// Judges every 100 ms, as the task does, and gives the verdict of the last time.
    fn judge_until(heartbeat: &mut Heartbeat, member: &Member<Identity>, from: Instant, until_ms: u64) -> Vec<State> {
        let mut last = Vec::new();
        for step in 1..=until_ms / 100 {
            last = heartbeat.judge(std::iter::once(member), from + Duration::from_millis(100 * step));
        }
        last.iter().map(Member::state).collect()
    }

    fn heartbeat(now: Instant) -> Heartbeat {
        let mut heartbeat = Heartbeat::new(Duration::from_millis(1_000), Duration::from_millis(1_700), now);
        heartbeat.judge(std::iter::once(&Member::alive(PEER)), now);
        heartbeat
    }

    #[tokio::test]
    async fn silence_is_suspected_then_given_up() {
        let now = Instant::now();
        let alive = Member::alive(PEER);
        assert_eq!(judge_until(&mut heartbeat(now), &alive, now, 900), []);
        assert_eq!(judge_until(&mut heartbeat(now), &alive, now, 1_000), [State::Suspect]);
        let suspect = Member::new(PEER, 0, State::Suspect);
        assert_eq!(judge_until(&mut heartbeat(now), &suspect, now, 1_600), []);
        assert_eq!(judge_until(&mut heartbeat(now), &suspect, now, 1_700), [State::Down]);
    }

    #[tokio::test]
    async fn an_objection_through_others_is_a_sign_of_life() {
        let now = Instant::now();
        let mut heartbeat = heartbeat(now);
        judge_until(&mut heartbeat, &Member::alive(PEER), now, 900);
        let objection = Member::new(PEER, 1, State::Alive);
        assert_eq!(judge_until(&mut heartbeat, &objection, now + Duration::from_millis(900), 900), []);
    }

    #[tokio::test]
    async fn who_is_heard_is_heard_until_it_is_suspected() {
        let now = Instant::now();
        let mut heartbeat = heartbeat(now);
        judge_until(&mut heartbeat, &Member::alive(PEER), now, 900);
        assert!(heartbeat.is_heard(PEER.node));
        judge_until(&mut heartbeat, &Member::alive(PEER), now + Duration::from_millis(900), 100);
        assert!(!heartbeat.is_heard(PEER.node));
        heartbeat.heard(PEER.node, now + Duration::from_millis(1_000));
        assert!(heartbeat.is_heard(PEER.node));
        assert!(!heartbeat.is_heard(NodeId(9)), "nobody knows it");
    }

    #[tokio::test]
    async fn a_node_that_was_stopped_itself_accuses_nobody() {
        let now = Instant::now();
        let verdicts = heartbeat(now).judge(std::iter::once(&Member::alive(PEER)), now + Duration::from_secs(60));
        assert_eq!(verdicts, []);
    }
}
