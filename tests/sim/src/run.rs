//! One run: form a mesh, have it work, hurt it, heal it, and see what became of it.

use std::{
    any::Any,
    collections::{BTreeMap, BTreeSet},
    panic::{self, AssertUnwindSafe},
    sync::{Arc, atomic::Ordering::SeqCst},
    time::{Duration, SystemTime},
};

use skein_catalog::Catalog;
use skein_proto::NodeId;
use turmoil::Sim;

use crate::{
    faults::{self, Fault, Kind, TROUBLE},
    history::End,
    node,
    operator::Errand,
    properties,
    world::{NODES, NODES_MAX, Order, Phase, Planted, Standing, World, host},
};

/// What became of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// What is wrong; nothing, if all is well.
    pub violations: Vec<String>,
    /// Two runs of one seed have the same.
    pub trace: u64,
    /// What there was of it.
    pub extent: Extent,
}

/// How much happened: a run in which nothing did proves nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Extent {
    /// Publishes that were acknowledged.
    pub writes: usize,
    /// Reads that succeeded.
    pub reads: usize,
    /// Calls that were answered.
    pub answered: usize,
    /// Calls that failed.
    pub failed: usize,
    /// Power cuts.
    pub crashes: usize,
    /// Kills of processes.
    pub kills: usize,
    /// Nodes that left in order.
    pub left: usize,
    /// Nodes that joined.
    pub joined: usize,
    /// Nodes that were taken off.
    pub removed: usize,
    /// Moves of nodes to other addresses.
    pub moved: usize,
    /// Copies of code that were made because there were too few.
    pub copied: usize,
}

impl Extent {
    /// Adds that of another run.
    pub fn add(&mut self, other: &Self) {
        self.writes += other.writes;
        self.reads += other.reads;
        self.answered += other.answered;
        self.failed += other.failed;
        self.crashes += other.crashes;
        self.kills += other.kills;
        self.left += other.left;
        self.joined += other.joined;
        self.removed += other.removed;
        self.moved += other.moved;
        self.copied += other.copied;
    }
}

/// How finely time is cut: messages arrive on a tick.
const TICK: Duration = Duration::from_millis(5);
/// How long a message is on its way.
const LATENCY: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(40));
/// How long a mesh may take to form, or to converge once it is healed.
const PATIENCE: Duration = Duration::from_secs(20);
/// The longest call or write: after it, all are over.
const LONGEST: Duration = Duration::from_secs(3);

/// Runs one seed to its end. Takes a second or so.
pub fn run(seed: u64, planted: Planted) -> Verdict {
    skein_raft::draw_from(seed);
    skein_raft::plant(match planted {
        Planted::RangeBeforeCache => Some(skein_raft::Planted::RangeBeforeCache),
        Planted::UnweighedRemoval => Some(skein_raft::Planted::UnweighedRemoval),
        _ => None,
    });
    let world = World::new(seed, planted);
    skein_catalog::remember_less(world.requests.0, world.requests.1);
    // A part that panics takes its node's runtime with it, and turmoil passes that on.
    let played = panic::catch_unwind(AssertUnwindSafe(|| {
        Stage { sim: sim(seed), world: world.clone(), hosts: BTreeSet::new(), met: BTreeMap::new(), look: LOOK }
            .play(faults::draw(seed))
    }));
    let played = played.unwrap_or_else(|panic| Err(format!("a node panicked: {}", said(&*panic))));
    let mut violations: Vec<String> = played.err().into_iter().collect();
    let events = world.history.events();
    violations.extend(properties::check(&events));
    violations.extend(properties::published::check(&world.newest()));
    let ended = |how| events.boots.values().filter(|end| **end == Some(how)).count();
    let answered = events.calls.iter().filter(|call| matches!(call.ended, Some((_, Ok(_))))).count();
    let extent = Extent {
        writes: world.history.acknowledged().len(),
        reads: events.reads.len(),
        answered,
        failed: events.calls.iter().filter(|call| matches!(call.ended, Some((_, Err(_))))).count(),
        crashes: ended(End::Crash),
        kills: ended(End::Kill),
        left: ended(End::Left),
        joined: events.granted.iter().filter(|errand| matches!(errand, Errand::Join(_))).count(),
        removed: events.granted.iter().filter(|errand| matches!(errand, Errand::Remove(_))).count(),
        moved: world.moves(),
        copied: events.copied,
    };
    Verdict { violations, trace: world.history.digest(), extent }
}

/// What a panic said.
fn said(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("nothing")
}

fn sim(seed: u64) -> Sim<'static> {
    turmoil::Builder::new()
        .rng_seed(seed)
        .epoch(SystemTime::UNIX_EPOCH)
        .tick_duration(TICK)
        .simulation_duration(Duration::from_secs(600))
        .min_message_latency(LATENCY.0)
        .max_message_latency(LATENCY.1)
        .udp_capacity(4_096)
        .enable_random_order()
        .build()
}

/// The simulation and what it is about.
struct Stage {
    sim: Sim<'static>,
    world: Arc<World>,
    /// Who was ever started.
    hosts: BTreeSet<NodeId>,
    /// When a node last believed that another one was alive.
    met: BTreeMap<(NodeId, NodeId), Duration>,
    /// When it is looked at next who has met whom, and where the code of versions lies.
    look: Duration,
}

/// How long a node may believe that another one is alive which has left its place.
const BELIEF_MAX: Duration = Duration::from_secs(2);

/// Between two looks at that: each goes through all disks.
const LOOK: Duration = Duration::from_millis(500);

/// Who belongs to the mesh.
fn members(catalog: &Catalog) -> BTreeSet<NodeId> {
    catalog.members().map(|member| member.node).collect()
}

/// Writes acknowledged and calls answered so far.
fn done(world: &World) -> (usize, usize) {
    let events = world.history.events();
    let answered = events.calls.iter().filter(|call| matches!(call.ended, Some((_, Ok(_))))).count();
    (world.history.acknowledged().len(), answered)
}

impl Stage {
    fn play(&mut self, faults: Vec<Fault>) -> Result<(), String> {
        (1..=NODES).for_each(|node| self.host(NodeId(node)));
        self.until("the mesh has not formed", |world| {
            let all: BTreeSet<NodeId> = (1..=NODES).map(NodeId).collect();
            let standings = world.standings();
            let is_in = |seen: &Standing| members(&seen.catalog) == all && seen.voters == all;
            let has_formed = standings.len() == all.len() && standings.values().all(is_in);
            (!has_formed).then(|| format!("{standings:?}"))
        })?;
        self.world.set_phase(Phase::Busy);
        self.trouble(faults)?;
        self.heal();
        self.step_for(Duration::from_secs(1))?;
        self.world.set_phase(Phase::Quiet);
        self.step_for(LONGEST)?;
        self.until("the mesh was healed and has not converged", |world| {
            properties::converges::check(&members(&world.newest()), &world.standings())
        })?;
        let (written, answered) = done(&self.world);
        self.world.set_phase(Phase::Probing);
        let all = members(&self.world.newest()).len();
        self.until("not all nodes of a healed mesh serve", |world| {
            let done = done(world);
            let (writes, calls) = (done.0 - written, done.1 - answered);
            (writes < all || calls < all).then(|| format!("of {all} {writes} have published and {calls} have called"))
        })?;
        self.until("the code of versions lies on too few members of a healed mesh", |world| {
            properties::copies::check(&world.newest(), &world.artifacts())
        })
    }

    fn trouble(&mut self, faults: Vec<Fault>) -> Result<(), String> {
        let began = self.sim.elapsed();
        let mut events: Vec<(Duration, bool, Fault)> = Vec::new();
        for fault in faults {
            events.push((fault.from, true, fault.clone()));
            events.push((fault.until, false, fault));
        }
        events.sort_by_key(|(at, begins, _)| (*at, !begins));
        for (at, begins, fault) in events {
            let left = (began + at).saturating_sub(self.sim.elapsed());
            self.step_for(left)?;
            if begins { self.hurt(&fault.kind) } else { self.mend(&fault.kind) }
        }
        let left = (began + TROUBLE).saturating_sub(self.sim.elapsed());
        self.step_for(left)
    }

    fn hurt(&mut self, kind: &Kind) {
        match kind {
            Kind::Crash(nodes) | Kind::Move(nodes, _) => nodes.iter().for_each(|node| self.crash(*node)),
            Kind::Kill(nodes, changes) => nodes.iter().for_each(|node| self.kill_after(*node, *changes)),
            Kind::Leave(node) => self.world.tell(*node, Order::Leave),
            Kind::Partition(side) => self.each_pair(side, |sim, one, other| sim.partition(one, other)),
            Kind::OneWay(from, to) => self.sim.partition_oneway(host(*from), host(*to)),
            Kind::Hold(one, other) => self.sim.hold(host(*one), host(*other)),
            Kind::Loss(permille) => self.world.loss_permille.store(*permille, SeqCst),
            Kind::SlowDisk(node, most_ms) => self.world.disk(*node).slow(Some(*most_ms)),
            Kind::FullDisk(node, room) => self.world.disk(*node).fill(Some(*room)),
            Kind::FailedSync(node) => self.world.disk(*node).fail_syncs(1),
            Kind::Join(by) => {
                // Whoever is to join asks until it finds one that runs.
                let running = self.world.standings();
                let asked = running.range(by..).chain(&running).map(|(node, _)| *node).next();
                let last = self.hosts.last().map_or(0, |node| node.0);
                if let Some(asked) = asked.filter(|_| last < NODES_MAX) {
                    self.world.ask(asked, Errand::Join(NodeId(last + 1)));
                }
            }
            Kind::Remove(gone) => {
                let others = self.hosts.iter().filter(|node| !gone.contains(node)).copied();
                let asked: Vec<NodeId> = others.filter(|node| self.world.standings().contains_key(node)).collect();
                for (node, by) in gone.iter().zip(asked.iter().cycle()) {
                    self.world.ask(*by, Errand::Remove(*node));
                }
            }
        }
    }

    fn mend(&mut self, kind: &Kind) {
        match kind {
            Kind::Crash(nodes) => nodes.iter().for_each(|node| self.restart(*node)),
            Kind::Kill(nodes, _) => nodes.iter().for_each(|node| {
                self.kill(*node);
                self.restart(*node);
            }),
            Kind::Move(nodes, is_swap) => self.relocate(nodes, *is_swap),
            Kind::Leave(node) => self.restart(*node),
            Kind::Partition(side) => self.each_pair(side, |sim, one, other| sim.repair(one, other)),
            Kind::OneWay(from, to) => self.sim.repair_oneway(host(*from), host(*to)),
            Kind::Hold(one, other) => self.sim.release(host(*one), host(*other)),
            Kind::Loss(_) => self.world.loss_permille.store(0, SeqCst),
            Kind::SlowDisk(node, _) => self.world.disk(*node).slow(None),
            Kind::FullDisk(node, _) => self.world.disk(*node).fill(None),
            Kind::Join(_) | Kind::Remove(_) => {}
            Kind::FailedSync(node) => {
                self.kill(*node);
                self.restart(*node);
            }
        }
    }

    /// Ends whatever is still wrong.
    fn heal(&mut self) {
        self.world.loss_permille.store(0, SeqCst);
        let hosts = self.hosts.clone();
        for node in &hosts {
            self.world.disk(*node).slow(None);
            self.world.disk(*node).fill(None);
            for other in hosts.iter().filter(|other| *other > node) {
                self.sim.release(host(*node), host(*other));
                self.sim.repair(host(*node), host(*other));
            }
        }
        hosts.iter().for_each(|node| self.restart(*node));
    }

    /// Has there be a node of this number.
    fn host(&mut self, node: NodeId) {
        let world = self.world.clone();
        self.sim.host(host(node), move || node::host(world.clone(), node));
        self.hosts.insert(node);
    }

    fn each_pair(&self, side: &[NodeId], act: impl Fn(&Sim<'static>, String, String)) {
        for node in side {
            for other in self.hosts.iter().filter(|other| !side.contains(other)) {
                act(&self.sim, host(*node), host(*other));
            }
        }
    }

    fn crash(&mut self, node: NodeId) {
        if self.sim.is_host_running(host(node)) {
            // First, so that what ends with it is not taken for its own doing.
            self.world.history.ends(node, End::Crash);
            self.sim.crash(host(node));
            self.world.disk(node).cut_power();
            self.world.stands(node, None);
        }
    }

    /// Has a node be killed at the change of its disk after so many.
    fn kill_after(&mut self, node: NodeId, changes: u32) {
        if self.sim.is_host_running(host(node)) {
            let history = self.world.history.clone();
            self.world.disk(node).kill_after(changes, move || history.ends(node, End::Kill));
        }
    }

    /// Kills a node: what it wrote stays as it is.
    fn kill(&mut self, node: NodeId) {
        if self.sim.is_host_running(host(node)) {
            self.world.history.ends(node, End::Kill);
            self.sim.crash(host(node));
            self.world.stands(node, None);
        }
    }

    /// Starts nodes again elsewhere. The operator names a place to those that could not find anybody otherwise.
    fn relocate(&mut self, nodes: &[NodeId], is_swap: bool) {
        nodes.iter().for_each(|node| self.crash(*node));
        let newest = self.world.newest();
        let nodes: Vec<NodeId> = nodes.iter().copied().filter(|node| !newest.has_left(*node)).collect();
        self.world.relocate(&nodes, is_swap, self.sim.elapsed());
        let runs = |node: &NodeId| newest.member(*node).is_some() && self.sim.is_host_running(host(*node));
        let running: Vec<NodeId> = self.hosts.iter().copied().filter(runs).collect();
        for node in &nodes {
            // It has what the other said of where it is, and that is still so.
            let is_known = |other: &NodeId| {
                let left = self.world.moved_at(*other).map_or(Duration::ZERO, |at| at + BELIEF_MAX);
                self.met.get(&(*node, *other)).is_some_and(|met| *met >= left)
            };
            // One that came later does not help by itself: it is not trusted by who was away meanwhile, or whose disk lost
            // with the power that it came.
            let was_there = |other: &&NodeId| other.0 <= NODES && *other != node;
            if running.iter().filter(was_there).any(is_known) {
                continue;
            }
            let has_met = |other: &&NodeId| was_there(other) && self.met.contains_key(&(*node, **other));
            let named = running.iter().find(has_met).or_else(|| nodes.iter().find(was_there));
            if let Some(named) = named {
                self.world.hint(*node, *named);
            }
        }
        nodes.iter().for_each(|node| self.restart(*node));
    }

    /// Starts a node that does not run, unless it was taken off. One that has not finished leaving is cut off the power.
    fn restart(&mut self, node: NodeId) {
        if self.world.order(node) == Order::Leave {
            self.crash(node);
        }
        self.world.tell(node, Order::Serve);
        if !self.sim.is_host_running(host(node)) && !self.world.newest().has_left(node) {
            self.sim.bounce(host(node));
        }
    }

    fn until(&mut self, what: &str, not_yet: impl Fn(&World) -> Option<String>) -> Result<(), String> {
        let deadline = self.sim.elapsed() + PATIENCE;
        while let Some(why) = not_yet(&self.world) {
            if self.sim.elapsed() > deadline {
                return Err(format!("{what} in {PATIENCE:?}: {why}"));
            }
            self.step()?;
        }
        Ok(())
    }

    fn step_for(&mut self, time: Duration) -> Result<(), String> {
        let end = self.sim.elapsed() + time;
        while self.sim.elapsed() < end {
            self.step()?;
        }
        Ok(())
    }

    fn step(&mut self) -> Result<(), String> {
        self.sim.step().map_err(|error| format!("a node panicked: {error}"))?;
        // Who was killed by its disk says nothing any more; here it goes.
        let dead: Vec<NodeId> = self.hosts.iter().copied().filter(|node| self.world.disk(*node).is_dead()).collect();
        dead.into_iter().for_each(|node| self.kill(node));
        // Who was let in starts.
        let newest = self.world.newest();
        let new: Vec<NodeId> = members(&newest).difference(&self.hosts).copied().collect();
        new.into_iter().for_each(|node| self.host(node));
        if self.sim.elapsed() >= self.look {
            self.look = self.sim.elapsed() + LOOK;
            for (node, standing) in self.world.standings() {
                self.met.extend(standing.alive.into_iter().map(|other| ((node, other), self.sim.elapsed())));
            }
            if let Some(lost) = properties::copies::lost(&newest, &self.world.artifacts()) {
                return Err(format!("the code of versions was lost by {:?}: {lost}", self.sim.elapsed()));
            }
        }
        Ok(())
    }
}
