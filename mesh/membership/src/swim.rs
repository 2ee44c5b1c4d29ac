//! The detector: foca, its timers, the heartbeat and the loads, as one value that is told what happens.
//!
//! It opens no socket, waits for nothing and reads no clock: time comes in with each event, datagrams go out through
//! [`Swim::take_datagrams`].

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use foca::{AccumulatingRuntime, Foca, Member, NoCustomBroadcast, State, Timer};
use rand_v10::{SeedableRng, rngs::SmallRng};
use skein_proto::{Load, NodeId};
use tokio::{sync::watch, time::Instant};

use crate::{
    Config, Peer, PeerState, View,
    digest::{self, Datagram, Digest},
    heartbeat::Heartbeat,
    identity::{INCARNATION_MAX, Identity},
    metrics,
    roster::{self, Codec, Roster},
};

/// How often silence is judged and the view brought up to date.
const TICK: Duration = Duration::from_millis(100);

/// The latest own life that is believed of a peer: half of all, so that there is room to live on after it.
const TOLD_MAX: u64 = INCARNATION_MAX / 2;

/// How long a peer must say that it does not hear this node: two digests in a row, and what was on its way before.
const DEAF_AFTER: Duration = Duration::from_millis(450);

pub(crate) struct Swim {
    foca: Foca<Identity, Codec, SmallRng, NoCustomBroadcast>,
    effects: AccumulatingRuntime<Identity>,
    /// Told to the codec before foca decodes; see there.
    sender: Arc<AtomicU64>,
    roster: watch::Receiver<Roster>,
    heartbeat: Heartbeat,
    loads: BTreeMap<NodeId, Digest>,
    /// What peers say of hearing this node.
    hearings: BTreeMap<NodeId, Hearing>,
    own: Digest,
    schedule: Schedule,
    datagrams: Vec<(NodeId, Bytes)>,
    is_changed: bool,
    /// Since when each peer is a member as far as this node knows. Those that are not heard of yet have the time that it
    /// takes to find them.
    members_since: BTreeMap<NodeId, Instant>,
    unheard_for: Duration,
    has_left: bool,
}

/// What a peer says of hearing this node, in one life of its.
struct Hearing {
    life: u64,
    /// If it did and does not any more: since when, and when it said so last.
    lost: Option<(Instant, Instant)>,
}

/// When what is due, and who is next where not all are served at once.
struct Schedule {
    /// foca's, by time and order of making. Bounded by its design: a few, and one per suspect.
    timers: BTreeMap<(Instant, u64), Timer<Identity>>,
    timers_made: u64,
    tick: Instant,
    digest: Instant,
    digest_period: Duration,
    search: Instant,
    search_period: Duration,
    peers_max: usize,
    digest_turn: usize,
    search_turn: usize,
}

impl Swim {
    pub(crate) fn new(config: &Config, me: Identity, roster: watch::Receiver<Roster>, now: Instant) -> Self {
        let sender = Arc::new(AtomicU64::new(0));
        let codec = Codec::new(roster.clone(), sender.clone());
        // Which peer is probed next needs no secrecy, only that nodes differ.
        let rng = SmallRng::seed_from_u64(me.incarnation ^ (me.node.0 << 48));
        Self {
            foca: Foca::new(me, config.swim(), rng, codec),
            effects: AccumulatingRuntime::new(),
            sender,
            roster,
            heartbeat: Heartbeat::new(config.suspect_after(), config.down_after(), now),
            loads: BTreeMap::new(),
            hearings: BTreeMap::new(),
            own: Digest { incarnation: me.incarnation, sequence: 0, known: 0, is_heard: true, load: unmeasured() },
            schedule: Schedule {
                timers: BTreeMap::new(),
                timers_made: 0,
                tick: now,
                digest: now,
                digest_period: config.digest_period(),
                search: now,
                search_period: config.search_period(),
                peers_max: config.digest_peers_max.max(1),
                digest_turn: 0,
                search_turn: 0,
            },
            datagrams: Vec::new(),
            is_changed: false,
            members_since: BTreeMap::new(),
            unheard_for: config.unheard_for(),
            has_left: false,
        }
    }

    /// A datagram came from `from`, by TLS's word.
    pub(crate) fn receive(&mut self, from: NodeId, body: &[u8], now: Instant) {
        if self.has_left {
            return;
        }
        if !self.roster.borrow().contains(&from) {
            return metrics::dropped("stranger");
        }
        match digest::read(body) {
            Some(Datagram::Swim(message)) if self.is_past(from, message) => self.send_digests(&[from]),
            Some(Datagram::Swim(message)) => {
                self.sender.store(from.0, Ordering::Relaxed);
                match self.foca.handle_data(message, &mut self.effects) {
                    Ok(()) => self.heartbeat.heard(from, now),
                    Err(error) => {
                        tracing::debug!(peer = %from, %error, "gossip refused");
                        metrics::dropped("malformed");
                    }
                }
            }
            Some(Datagram::Digest(digest)) if digest.incarnation <= INCARNATION_MAX => {
                self.heartbeat.heard(from, now);
                self.note_hearing(from, &digest, now);
                self.learn(from, *digest);
            }
            _ => metrics::dropped("malformed"),
        }
        self.settle(now);
    }

    /// Whether the message is from a life of `from` that a later one has followed. foca would answer that the sender is
    /// dead, and the sender would count up by one: for ever, when its clock went back. The digest tells it how far.
    fn is_past(&self, from: NodeId, message: &[u8]) -> bool {
        let Some(source) = roster::source(message).filter(|source| source.node == from) else { return false };
        self.life(from).is_some_and(|life| life.incarnation > source.incarnation)
    }

    fn note_hearing(&mut self, from: NodeId, digest: &Digest, now: Instant) {
        let life = digest.incarnation;
        let lost = match self.hearings.get(&from).filter(|hearing| hearing.life == life) {
            _ if digest.is_heard => None,
            // Two that have just met, in this life of the peer: it has yet to hear of this node.
            None => return,
            Some(Hearing { lost, .. }) => Some((lost.map_or(now, |(since, _)| since), now)),
        };
        self.hearings.insert(from, Hearing { life, lost });
    }

    /// Whether a peer that heard this node has said for a while that it does not any more.
    fn is_deaf(&self, node: NodeId) -> bool {
        let lost = self.hearings.get(&node).and_then(|hearing| hearing.lost);
        lost.is_some_and(|(since, until)| until.saturating_duration_since(since) >= DEAF_AFTER)
    }

    /// The latest life known of a peer, dead or alive.
    fn life(&self, node: NodeId) -> Option<Identity> {
        self.foca.iter_membership_state().map(|member| *member.id()).find(|life| life.node == node)
    }

    fn learn(&mut self, from: NodeId, digest: Digest) {
        let me = *self.foca.identity();
        // A peer knows a later life of this node than this one: the clock went back. Live on after that one.
        // Not of one near the end of what can be counted: after it, nothing could be objected to any more.
        if (me.incarnation + 1..TOLD_MAX).contains(&digest.known) {
            let renewed = Identity { incarnation: digest.known + 1, ..me };
            self.report(|foca, effects| foca.change_identity(renewed, effects));
        }
        // An earlier life's digest may come late.
        let is_current =
            |member: &&Member<Identity>| member.id().node == from && member.id().incarnation <= digest.incarnation;
        if self.foca.iter_members().find(is_current).is_none() {
            return;
        }
        let newest = self.loads.get(&from).map(|known| (known.incarnation, known.sequence));
        if newest < Some((digest.incarnation, digest.sequence)) {
            self.loads.insert(from, digest);
        }
    }

    /// The catalogue names others than before.
    pub(crate) fn roster_changed(&mut self, now: Instant) {
        if self.has_left {
            return;
        }
        let roster = self.roster.borrow().clone();
        let removed: Vec<_> = (self.foca.iter_members())
            .filter(|member| !roster.contains(&member.id().node))
            .map(|member| Member::new(*member.id(), member.incarnation(), State::Down))
            .collect();
        self.members_since.retain(|node, _| roster.contains(node));
        for node in roster.iter() {
            self.members_since.entry(*node).or_insert(now);
        }
        // Each node hears of a removal from the catalogue: it is no news to gossip about.
        self.report(|foca, effects| foca.apply_many(removed.into_iter(), false, effects));
        self.is_changed = true;
        self.search(&roster);
        self.spread_digest(&roster);
        self.settle(now);
    }

    /// This node's own figures are these now.
    pub(crate) fn publish(&mut self, load: Load, is_news: bool, now: Instant) {
        let is_urgent = is_news || load.is_draining != self.own.load.is_draining;
        self.own.load = load;
        self.is_changed = true;
        if is_urgent && !self.has_left {
            let roster = self.roster.borrow().clone();
            self.spread_digest(&roster);
        }
        self.settle(now);
    }

    /// Says goodbye; deaf and silent from here on.
    pub(crate) fn leave(&mut self, now: Instant) {
        if self.has_left {
            return;
        }
        self.report(|foca, effects| foca.leave_cluster(effects));
        // Datagrams get lost, and each round goes to a few peers only.
        for _ in 0..2 {
            self.report(|foca, effects| foca.gossip(effects));
        }
        self.settle(now);
        self.has_left = true;
        self.schedule.timers.clear();
    }

    /// When [`Swim::wake`] wants to be called.
    pub(crate) fn wake_at(&self) -> Instant {
        let tick = self.schedule.tick;
        self.schedule.timers.first_key_value().map_or(tick, |((at, _), _)| tick.min(*at))
    }

    /// Does what is due.
    pub(crate) fn wake(&mut self, now: Instant) {
        if self.has_left {
            self.schedule.tick = now + self.schedule.digest_period;
            return;
        }
        while let Some(timer) = self.schedule.due(now) {
            self.report(|foca, effects| foca.handle_timer(timer, effects));
            self.settle(now);
        }
        if self.schedule.tick <= now {
            self.schedule.tick = now + TICK;
            self.tick(now);
        }
        self.settle(now);
    }

    fn tick(&mut self, now: Instant) {
        let roster = self.roster.borrow().clone();
        let verdicts = self.heartbeat.judge(self.foca.iter_members(), now);
        // With more peers than get a digest each period, silence says nothing.
        if roster.len() <= self.schedule.peers_max + 1 {
            self.report(|foca, effects| foca.apply_many(verdicts.into_iter(), true, effects));
        }
        if self.schedule.search <= now {
            self.schedule.search = now + self.schedule.search_period;
            self.search(&roster);
        }
        if self.schedule.digest <= now {
            self.schedule.digest = now + self.schedule.digest_period;
            self.spread_digest(&roster);
        }
        self.is_changed = true;
    }

    /// Announces this node to members it does not see: to join, to be found again, and to find.
    fn search(&mut self, roster: &Roster) {
        let me = self.foca.identity().node;
        let lives: BTreeMap<_, _> =
            self.foca.iter_membership_state().map(|member| (member.id().node, member.clone())).collect();
        let missing: Vec<_> = (roster.iter())
            .filter(|node| **node != me && lives.get(node).is_none_or(|life| life.state() == State::Down))
            .collect();
        for node in turn(&missing, &mut self.schedule.search_turn, self.schedule.peers_max) {
            let unknown = Identity { node: **node, incarnation: 0 };
            let life = lives.get(*node).map_or(unknown, |life| *life.id());
            self.report(|foca, effects| foca.announce(life, effects));
        }
    }

    /// Sends this node's figures to everybody whose turn it is.
    fn spread_digest(&mut self, roster: &Roster) {
        let me = self.foca.identity().node;
        let peers: Vec<_> = roster.iter().filter(|node| **node != me).copied().collect();
        let next: Vec<_> = turn(&peers, &mut self.schedule.digest_turn, self.schedule.peers_max).copied().collect();
        self.send_digests(&next);
    }

    fn send_digests(&mut self, peers: &[NodeId]) {
        self.own.incarnation = self.foca.identity().incarnation;
        self.own.sequence += 1;
        let lives: BTreeMap<_, _> = self
            .foca
            .iter_membership_state()
            .map(|member| (member.id().node, (member.id().incarnation, self.heartbeat.is_heard(member.id().node))))
            .collect();
        for node in peers {
            let (known, is_heard) = lives.get(node).copied().unwrap_or((0, false));
            (self.own.known, self.own.is_heard) = (known, is_heard);
            if let Some(datagram) = self.own.to_datagram() {
                self.datagrams.push((*node, datagram));
            }
        }
    }

    fn report(
        &mut self,
        step: impl FnOnce(
            &mut Foca<Identity, Codec, SmallRng, NoCustomBroadcast>,
            &mut AccumulatingRuntime<Identity>,
        ) -> Result<(), foca::Error>,
    ) {
        if let Err(error) = step(&mut self.foca, &mut self.effects) {
            tracing::debug!(%error, "a step of the failure detector was skipped");
        }
    }

    /// Takes what foca wants done out of it. After each event.
    fn settle(&mut self, now: Instant) {
        while let Some((to, body)) = self.effects.to_send() {
            if self.roster.borrow().contains(&to.node) {
                self.datagrams.push((to.node, digest::swim(&body)));
            }
        }
        while let Some((after, timer)) = self.effects.to_schedule() {
            self.schedule.timers_made += 1;
            self.schedule.timers.insert((now + after, self.schedule.timers_made), timer);
        }
        while self.effects.to_notify().is_some() {
            self.is_changed = true;
        }
    }

    /// What is to be sent, once.
    pub(crate) fn take_datagrams(&mut self) -> Vec<(NodeId, Bytes)> {
        std::mem::take(&mut self.datagrams)
    }

    /// Whether the view may have changed since last asked.
    pub(crate) fn take_is_changed(&mut self) -> bool {
        let is_changed = std::mem::take(&mut self.is_changed);
        if is_changed {
            let alive: std::collections::BTreeSet<_> =
                self.foca.iter_members().map(|member| member.id().node).collect();
            self.loads.retain(|node, _| alive.contains(node));
            self.hearings.retain(|node, _| alive.contains(node));
        }
        is_changed
    }

    /// Whether nothing at all is known of a peer, and it is a member for so short a time that this says nothing.
    fn may_be_found(&self, node: NodeId, now: Instant) -> bool {
        let is_new = |since: &Instant| now.saturating_duration_since(*since) < self.unheard_for;
        self.members_since.get(&node).is_none_or(is_new) && self.life(node).is_none()
    }

    /// The members as seen now.
    pub(crate) fn view(&self, now: Instant) -> View {
        let me = self.foca.identity().node;
        let active: BTreeMap<_, _> = self.foca.iter_members().map(|member| (member.id().node, member)).collect();
        let roster = self.roster.borrow();
        let peers = roster.iter().map(|node| {
            let member = active.get(node);
            let state = match member.map(|member| member.state()) {
                _ if *node == me => PeerState::Alive,
                Some(_) if self.is_deaf(*node) => PeerState::Down,
                Some(State::Alive) => PeerState::Alive,
                Some(State::Suspect) if self.heartbeat.is_heard(*node) => PeerState::Alive,
                Some(State::Suspect) => PeerState::Suspect,
                None if self.may_be_found(*node, now) => PeerState::Unheard,
                Some(State::Down) | None => PeerState::Down,
            };
            let known = if *node == me { Some(&self.own) } else { self.loads.get(node) };
            let load = match known {
                _ if state == PeerState::Down => Load::default(),
                Some(digest) => digest.load.clone(),
                None => unmeasured(),
            };
            (*node, Peer { node: *node, state, load })
        });
        View { peers: peers.collect() }
    }
}

/// The figures of a node that has not measured itself yet, or not told of it: it is taken to be busy. By a processor that seems idle a node that
/// starts would draw the calls of all others, before anybody knows whether it has room for one.
fn unmeasured() -> Load {
    Load { cpu_permille: 1_000, ..Load::default() }
}

impl Schedule {
    fn due(&mut self, now: Instant) -> Option<Timer<Identity>> {
        let first = self.timers.first_entry().filter(|entry| entry.key().0 <= now)?;
        Some(first.remove())
    }
}

/// The next `most` of `all`, going round from `start`, which it moves on.
fn turn<'a, T>(all: &'a [T], start: &mut usize, most: usize) -> impl Iterator<Item = &'a T> + use<'a, T> {
    let begin = if all.len() <= most { 0 } else { *start % all.len() };
    *start = begin + most;
    all.iter().cycle().skip(begin).take(most.min(all.len()))
}
