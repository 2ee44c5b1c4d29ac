//! What all nodes of a run share: its seed, its record, its disks, and what they are told to do.

use std::{
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use rand::{SeedableRng, rngs::SmallRng};
use skein_proto::NodeId;

use crate::{disk::SimDisk, history::History};

/// Nodes of the mesh: a majority of three is two of them, and five may vote.
pub const NODES: u64 = 5;

/// A mistake made on purpose, to see that it is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Planted {
    /// None: every property must hold.
    Nothing,
    /// A sync says that it is done before anything is on the disk.
    AnswerBeforeSync,
    /// A node that believes that it leads answers reads from its own state, without asking a majority.
    StaleLeaderRead,
    /// A node that leaves waits for all calls that hold a permit but one.
    ForgottenPermit,
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
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Standing {
    /// Who leads.
    pub leader: Option<NodeId>,
    /// The index applied.
    pub index: u64,
    /// The digest of the state there.
    pub digest: u64,
    /// How many nodes are alive.
    pub alive: usize,
    /// How many members the catalogue has.
    pub members: usize,
    /// How many vote.
    pub voters: usize,
    /// How many calls run or wait.
    pub busy: usize,
}

/// All of it.
pub struct World {
    /// Decides everything.
    pub seed: u64,
    /// The mistake.
    pub planted: Planted,
    /// What happened.
    pub history: History,
    /// Messages of a thousand that are lost, and as many that come twice.
    pub loss_permille: AtomicU32,
    disks: Vec<SimDisk>,
    told: Mutex<Told>,
}

struct Told {
    phase: Phase,
    orders: Vec<Order>,
    standings: Vec<Option<Standing>>,
}

impl World {
    /// A world before anything has happened.
    pub fn new(seed: u64, planted: Planted) -> Arc<Self> {
        let nodes = 1..=NODES;
        let disk = |node| SimDisk::new(stream(seed, node, 1), planted == Planted::AnswerBeforeSync);
        let count = usize::try_from(NODES).unwrap();
        let told = Told { phase: Phase::Forming, orders: vec![Order::Serve; count], standings: vec![None; count] };
        Arc::new(Self {
            seed,
            planted,
            history: History::default(),
            loss_permille: AtomicU32::new(0),
            disks: nodes.map(disk).collect(),
            told: Mutex::new(told),
        })
    }

    /// The disk of a node. It outlives the node's crashes.
    pub fn disk(&self, node: NodeId) -> &SimDisk {
        &self.disks[place(node)]
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
        self.told().orders[place(node)]
    }

    /// What it is to do from now on.
    pub fn tell(&self, node: NodeId, order: Order) {
        self.told().orders[place(node)] = order;
    }

    /// How the nodes that run see the mesh.
    pub fn standings(&self) -> Vec<Option<Standing>> {
        self.told().standings.clone()
    }

    /// Notes how a node sees the mesh; nothing for one that does not run.
    pub fn stands(&self, node: NodeId, standing: Option<Standing>) {
        self.told().standings[place(node)] = standing;
    }

    /// Messages of a thousand that are lost, or come twice.
    pub fn loss(&self) -> u32 {
        self.loss_permille.load(SeqCst)
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap()
    }
}

/// The time since the run began, on every node.
pub fn now() -> Duration {
    turmoil::sim_elapsed().unwrap_or_default()
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
