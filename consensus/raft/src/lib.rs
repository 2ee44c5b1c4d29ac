//! What the mesh agrees on, agreed on: Raft for a replicated state machine.
//!
//! **Owns** one Raft group on one node: its durable log and vote, its snapshots, its messages, elections, the
//! group's membership, and proposals on their way to the leader. openraft is named in no other crate, and in no
//! public signature of this one.
//!
//! **Refuses** to know what the proposals mean: a [`StateMachine`] does, and [`Consensus`] is a [`Group`] of the
//! catalogue. It dials nobody by address either; the transport's address book knows where a node is.
//!
//! **Start reading at** [`Group`], then `log`, then [`plan()`].
//!
//! ```no_run
//! # async fn example(transport: std::sync::Arc<dyn skein_transport::Transport>) -> Result<(), Box<dyn std::error::Error>> {
//! use skein_raft::{Config, Consensus};
//!
//! let consensus = Consensus::start(Config::new("/var/lib/skein/raft", transport.local()), transport).await?;
//! println!("term {}, leader {:?}", consensus.status().term, consensus.status().leader);
//! consensus.shutdown().await?;
//! # Ok(())
//! # }
//! ```

mod acknowledged;
mod chance;
mod compaction;
mod compare;
mod config;
mod disk;
mod findings;
mod group;
mod log;
mod metrics;
mod network;
mod observe;
mod plan;
mod planted;
mod propose_service;
mod proposing;
mod raft_service;
mod reconcile;
mod replica;
mod snapshot;
mod start_error;
mod state_machine;
mod status;
mod storage;
mod types;
mod volume;
mod wire;

pub use chance::draw_from;
pub use config::{Config, Limits, Timings};
pub use group::{Consensus, Group};
pub use plan::{Eligibility, Landscape, Step, VOTERS_MAX, plan};
pub use planted::Planted;
#[cfg(feature = "simulation")]
pub use planted::plant;
pub use start_error::StartError;
pub use state_machine::StateMachine;
pub use status::{LostEntries, RaftRole, RaftStatus};
pub use volume::{FileSystem, Volume, VolumeFile};
