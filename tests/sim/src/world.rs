//! What all nodes of a run share: its seed, its record, its disks, and what they are told to do.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use rand::{SeedableRng, rngs::SmallRng, seq::IndexedRandom};
use skein_catalog::Catalog;
use skein_membership::Told;
use skein_proto::NodeId;
use skein_raft::Limits;

use crate::{
    artifacts::kept_on, disk::SimDisk, history::History, node::FOUNDER, operator::Errand, places::told_at_join,
};

/// Nodes that begin the mesh: a majority of three is two of them, and five may vote.
pub const NODES: u64 = 5;

/// Nodes that there are ever: some may join, and some be taken off.
pub const NODES_MAX: u64 = 8;

/// Places beyond this one are those of nodes that moved where nobody was before; a node begins at the place of its id.
const NEW_PLACE: u16 = 100;

/// A mistake made on purpose, to see that it is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Planted {
    /// None: every property must hold.
    Nothing,
    /// A sync says that it is done before anything is on the disk.
    AnswerBeforeSync,
    /// A node that starts takes what it reads in its log for safe, though the process before it may not have synced it.
    TrustedRestart,
    /// Entries cannot be read when all of them lie before the cache of the log begins.
    RangeBeforeCache,
    /// No removal is weighed against another, and who was removed ends at once.
    UnweighedRemoval,
    /// A node that believes that it leads answers reads from its own state, without asking a majority.
    StaleLeaderRead,
    /// No request is remembered, so that one that comes again is done again.
    ForgottenRequests,
    /// A node that leaves waits for all calls that hold a permit but one.
    ForgottenPermit,
    /// Who sees to the copies of code looks only at the versions that an alias points at.
    AliasedCopies,
}

/// What the callers on the nodes do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Nothing yet: the mesh forms.
    Forming,
    /// Calls, writes and reads, whatever happens.
    Busy,
    /// Nothing new.
    Quiet,
    /// One of each on every node, which must succeed.
    Probing,
}

/// What a node is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Go on.
    Serve,
    /// Leave in order.
    Leave,
}

/// How a node last saw the mesh.
#[derive(Clone, Default, PartialEq)]
pub struct Standing {
    /// Who leads.
    pub leader: Option<NodeId>,
    /// What was applied.
    pub catalog: Arc<Catalog>,
    /// The digest of it.
    pub digest: u64,
    /// Who is alive.
    pub alive: BTreeSet<NodeId>,
    /// Who votes.
    pub voters: BTreeSet<NodeId>,
    /// How many calls run or wait.
    pub busy: usize,
}

impl fmt::Debug for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let members: Vec<NodeId> = self.catalog.members().map(|member| member.node).collect();
        let Self { leader, digest, alive, voters, .. } = self;
        write!(f, "{digest:x} at {}: leader {leader:?}, ", self.catalog.index())?;
        write!(f, "members {members:?}, alive {alive:?}, voters {voters:?}")
    }
}

/// How little of everything the nodes of a run keep: each bound is less than one entry, or is met many times in seconds.
fn limits(chance: &mut SmallRng) -> Limits {
    let mut one_of = |values: &[u64]| *values.choose(chance).unwrap();
    Limits {
        snapshot_entries: one_of(&[3, 8, 20, 40]),
        kept_entries: one_of(&[0, 1, 5, 10]),
        purge_entries: one_of(&[1, 4, 16]),
        segment_bytes: one_of(&[1, 500, 1 << 10, 4 << 10, 8 << 10]),
        disk_reserve_bytes: one_of(&[0, 1_000, 16 << 10]),
        cache_bytes: one_of(&[0, 200, 1 << 10, 1 << 20]) as usize,
        frame_bytes: one_of(&[1, 500, 1 << 20]) as usize,
        message_bytes: one_of(&[1, 500, 1 << 20]) as usize,
        ..Limits::default()
    }
}

/// How few requests are remembered: no more than one may come again, who was held up on its way for the longest time.
fn requests(chance: &mut SmallRng) -> (u64, usize) {
    (REPEATED_FOR_MS, *[0, 1, 10].choose(chance).unwrap())
}

/// A message is held up for up to four seconds, and whoever takes it may try for three more, twice.
const REPEATED_FOR_MS: u64 = 10_000;

/// All of it.
pub struct World {
    /// Decides everything.
    pub seed: u64,
    /// The mistake.
    pub planted: Planted,
    /// What happened.
    pub history: Arc<History>,
    /// The bounds that this run has.
    pub limits: Limits,
    /// For how many milliseconds, and how many at least, requests are remembered.
    pub requests: (u64, usize),
    /// Calls of one service that a node may have under way to one peer.
    pub streams_max: usize,
    /// Messages of a thousand that are lost, and as many that come twice.
    pub loss_permille: AtomicU32,
    disks: Vec<SimDisk>,
    told: Mutex<State>,
}

struct State {
    phase: Phase,
    orders: BTreeMap<NodeId, Order>,
    standings: BTreeMap<NodeId, Standing>,
    errands: BTreeMap<NodeId, VecDeque<(u64, Errand)>>,
    errand_next: u64,
    /// The catalogue that was applied furthest anywhere.
    newest: Arc<Catalog>,
    /// Where nodes are that have moved, and when they did last.
    moved: BTreeMap<NodeId, (u16, Duration)>,
    moves: usize,
    /// Whose host name the operator names to nodes as they start.
    hints: BTreeMap<NodeId, NodeId>,
    /// What nodes were told when they were let in.
    admitted: BTreeMap<NodeId, Told>,
}

impl World {
    /// A world before anything has happened.
    pub fn new(seed: u64, planted: Planted) -> Arc<Self> {
        let disk = |node| {
            let disk = SimDisk::new(stream(seed, node, 1));
            if planted == Planted::AnswerBeforeSync {
                disk.lie();
            }
            disk
        };
        let (orders, standings, errands) = Default::default();
        let told = State {
            phase: Phase::Forming,
            orders,
            standings,
            errands,
            errand_next: 1,
            newest: Arc::default(),
            moved: BTreeMap::new(),
            moves: 0,
            hints: BTreeMap::new(),
            admitted: BTreeMap::new(),
        };
        Arc::new(Self {
            seed,
            planted,
            history: Arc::default(),
            limits: limits(&mut stream(seed, 0, 5)),
            requests: match planted {
                Planted::ForgottenRequests => (0, 0),
                _ => requests(&mut stream(seed, 0, 7)),
            },
            streams_max: *[1, 4, 64].choose(&mut stream(seed, 0, 6)).unwrap(),
            loss_permille: AtomicU32::new(0),
            disks: (1..=NODES_MAX).map(disk).collect(),
            told: Mutex::new(told),
        })
    }

    /// The disk of a node. It outlives the node's crashes.
    pub fn disk(&self, node: NodeId) -> &SimDisk {
        &self.disks[place(node)]
    }

    /// The artifacts on each disk, by the names of their files.
    pub fn artifacts(&self) -> BTreeMap<NodeId, BTreeSet<String>> {
        (1..=NODES_MAX).map(NodeId).map(|node| (node, kept_on(self.disk(node)))).collect()
    }

    /// Randomness for one purpose of one node, the same for the same seed.
    pub fn chance(&self, node: NodeId, purpose: u64) -> SmallRng {
        stream(self.seed, node.0, purpose)
    }

    /// What callers do now.
    pub fn phase(&self) -> Phase {
        self.told().phase
    }

    /// What they do from now on.
    pub fn set_phase(&self, phase: Phase) {
        self.told().phase = phase;
    }

    /// What the node is to do.
    pub fn order(&self, node: NodeId) -> Order {
        self.told().orders.get(&node).copied().unwrap_or(Order::Serve)
    }

    /// What it is to do from now on.
    pub fn tell(&self, node: NodeId, order: Order) {
        self.told().orders.insert(node, order);
    }

    /// Asks something of a node.
    pub fn ask(&self, node: NodeId, errand: Errand) {
        let told = &mut *self.told();
        told.errands.entry(node).or_default().push_back((told.errand_next, errand));
        told.errand_next += 1;
    }

    /// The next thing that a node is asked, and its number.
    pub fn errand(&self, node: NodeId) -> Option<(u64, Errand)> {
        self.told().errands.get_mut(&node)?.pop_front()
    }

    /// How the nodes that run see the mesh.
    pub fn standings(&self) -> BTreeMap<NodeId, Standing> {
        self.told().standings.clone()
    }

    /// Notes how a node sees the mesh; nothing for one that does not run.
    pub fn stands(&self, node: NodeId, standing: Option<Standing>) {
        let told = &mut *self.told();
        match standing {
            Some(standing) => {
                if standing.catalog.index() > told.newest.index() {
                    told.newest = standing.catalog.clone();
                }
                told.standings.insert(node, standing);
            }
            None => drop(told.standings.remove(&node)),
        }
    }

    /// The catalogue that was applied furthest anywhere.
    pub fn newest(&self) -> Arc<Catalog> {
        self.told().newest.clone()
    }

    /// Where a node is, or is when it starts next.
    pub fn place(&self, node: NodeId) -> u16 {
        let moved = self.told().moved.get(&node).map(|(place, _)| *place);
        moved.unwrap_or_else(|| u16::try_from(node.0).unwrap())
    }

    /// Who is at a place.
    pub fn at(&self, place: u16) -> Option<NodeId> {
        (1..=NODES_MAX).map(NodeId).find(|node| self.place(*node) == place)
    }

    /// When a node moved last.
    pub fn moved_at(&self, node: NodeId) -> Option<Duration> {
        self.told().moved.get(&node).map(|(_, at)| *at)
    }

    /// How many moves there were.
    pub fn moves(&self) -> usize {
        self.told().moves
    }

    /// Has nodes that do not run be elsewhere: each where another of them was, or where nobody was before.
    pub fn relocate(&self, nodes: &[NodeId], is_swap: bool, at: Duration) {
        let mut places: Vec<u16> = nodes.iter().map(|node| self.place(*node)).collect();
        places.rotate_left(1.min(nodes.len()));
        let told = &mut *self.told();
        for (node, swapped) in nodes.iter().zip(places) {
            told.moves += 1;
            let place =
                if is_swap && nodes.len() > 1 { swapped } else { NEW_PLACE + u16::try_from(told.moves).unwrap() };
            told.moved.insert(*node, (place, at));
        }
    }

    /// Whose host name the operator names to a node.
    pub fn hint_of(&self, node: NodeId) -> Option<NodeId> {
        self.told().hints.get(&node).copied()
    }

    /// Has the operator name another node's host to a node at its starts from now on. The name leads to wherever that is.
    pub fn hint(&self, node: NodeId, named: NodeId) {
        self.told().hints.insert(node, named);
    }

    /// What a node was told when it was let in: who the members were, and where.
    pub fn admitted(&self, node: NodeId) -> Told {
        let known = self.told().admitted.get(&node).cloned();
        known.unwrap_or_else(|| {
            let told = told_at_join(self, node, FOUNDER);
            self.told().admitted.insert(node, told.clone());
            told
        })
    }

    /// Messages of a thousand that are lost, or come twice.
    pub fn loss(&self) -> u32 {
        self.loss_permille.load(SeqCst)
    }

    fn told(&self) -> MutexGuard<'_, State> {
        self.told.lock().unwrap()
    }
}

/// The time since the run began, on every node.
pub fn now() -> Duration {
    turmoil::sim_elapsed().unwrap_or_default()
}

/// The same as proposals bear it.
pub fn now_ms() -> u64 {
    u64::try_from(now().as_millis()).unwrap()
}

/// The name of a node's host.
pub fn host(node: NodeId) -> String {
    format!("n{}", node.0)
}

fn place(node: NodeId) -> usize {
    usize::try_from(node.0 - 1).unwrap()
}

/// One of many sources of randomness that have nothing to do with one another.
pub fn stream(seed: u64, node: u64, purpose: u64) -> SmallRng {
    SmallRng::seed_from_u64(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (node << 32) ^ (purpose << 48))
}
