//! Nodes and the mesh as the admin API shows them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use skein_catalog::{Addresses, MemberRole};
use skein_proto::{AppName, FunctionName, Load, MeshId, NodeId, NodeName};

/// The query of `POST /v1/nodes/{node}/drain` and `DELETE /v1/nodes/{node}`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NodeQuery {
    /// Go on where apps would be left without a node, or code with too few copies.
    pub force: bool,
}

/// The members, by id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeList {
    /// The members.
    pub nodes: Vec<NodeStatus>,
}

/// One member, as the answering node sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Its name.
    pub name: NodeName,
    /// Its id.
    pub id: NodeId,
    /// Whether it is heard of.
    pub state: NodeState,
    /// What it is in the consensus now.
    pub consensus: ConsensusRole,
    /// What it may be in the consensus.
    pub role: MemberRole,
    /// True while it takes no new calls.
    pub is_draining: bool,
    /// True for the node that answers.
    pub is_self: bool,
    /// Where it is reached.
    pub addresses: Addresses,
    /// What it says of itself, for apps to be bound by.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// The catalogue index applied there.
    pub applied_index: u64,
    /// How busy it is.
    pub load: NodeLoad,
}

/// Whether a node is heard of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NodeState {
    /// It answers.
    Alive,
    /// It missed a probe; others are asked about it.
    Suspect,
    /// It does not answer.
    Down,
}

impl NodeState {
    /// The stable text.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Alive => "alive",
            Self::Suspect => "suspect",
            Self::Down => "down",
        }
    }
}

/// What a node is in the consensus now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConsensusRole {
    /// It leads.
    Leader,
    /// It votes.
    Voter,
    /// It follows without a vote.
    Learner,
    /// It has not been taken in yet.
    None,
}

impl ConsensusRole {
    /// The stable text.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Leader => "leader",
            Self::Voter => "voter",
            Self::Learner => "learner",
            Self::None => "none",
        }
    }
}

/// How busy a node is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeLoad {
    /// Calls running now.
    pub in_flight: u32,
    /// Calls waiting for a permit.
    pub queued: u32,
    /// How long the one has waited that has waited longest, in milliseconds; 0 if none waits.
    pub queue_age_ms: u32,
    /// CPU in use, in thousandths of the whole machine, or of what the node may use of it if that is used up sooner.
    pub cpu_permille: u16,
    /// Resident memory of the process, in MiB.
    pub memory_mib: u32,
    /// Memory the node may use, in MiB; 0 if it does not say.
    pub memory_budget_mib: u32,
    /// Live activations.
    pub activations: u32,
}

impl From<&Load> for NodeLoad {
    fn from(load: &Load) -> Self {
        Self {
            in_flight: load.in_flight,
            queued: load.queued,
            queue_age_ms: load.queue_age_ms,
            cpu_permille: load.cpu_permille,
            memory_mib: load.memory_mib,
            memory_budget_mib: load.memory_budget_mib,
            activations: load.activations,
        }
    }
}

/// The mesh on one page, as the answering node sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeshStatus {
    /// The mesh; none before its founding.
    #[serde(default)]
    pub mesh: Option<MeshId>,
    /// The node that answers.
    pub node: NodeName,
    /// The release it runs.
    pub release: String,
    /// The catalogue index applied there.
    pub index: u64,
    /// The consensus.
    pub consensus: ConsensusStatus,
    /// The members, by id.
    pub nodes: Vec<NodeStatus>,
    /// How many functions there are.
    pub functions: u64,
    /// How many versions they have in all.
    pub versions: u64,
    /// The activations on the answering node.
    #[serde(default)]
    pub activations: Vec<ActivationSummary>,
    /// What is not as it should be.
    #[serde(default)]
    pub warnings: Vec<Warning>,
}

/// The consensus, as one node sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsensusStatus {
    /// Whether a majority of the voters answers, so that changes are possible.
    pub has_quorum: bool,
    /// Who leads, if that is known.
    #[serde(default)]
    pub leader: Option<NodeName>,
    /// The term.
    pub term: u64,
    /// The index up to which the log is known to be committed.
    pub committed_index: u64,
    /// Who votes.
    #[serde(default)]
    pub voters: Vec<NodeName>,
    /// Who follows without a vote.
    #[serde(default)]
    pub learners: Vec<NodeName>,
}

/// One version that is live on a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActivationSummary {
    /// The function's app.
    pub app: AppName,
    /// The function.
    pub name: FunctionName,
    /// The version.
    pub version: u64,
    /// Where it is in its life: `loading`, `ready`, `draining` or `stopped`.
    pub state: String,
    /// Its calls running now.
    pub in_flight: u32,
    /// Its calls waiting for a permit.
    pub queued: u32,
    /// Its calls since it began to start, those that run among them.
    #[serde(default)]
    pub calls: u64,
}

/// Something that is not as it should be, with the next step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warning {
    /// What is the matter.
    pub message: String,
    /// What to do next.
    pub advice: String,
}
