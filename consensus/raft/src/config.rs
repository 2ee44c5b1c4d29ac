//! What may be chosen about a Raft group.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};
use skein_proto::NodeId;

use crate::StartError;

/// Where a group keeps its state on this node, and how it behaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The directory of the group's own; made as needed. Only one process may use it at a time, which the caller
    /// sees to.
    pub dir: PathBuf,
    /// This node. The directory remembers it and refuses to be another's.
    pub node: NodeId,
    /// How patient the group is.
    pub timings: Timings,
    /// How much the group keeps, where, and how large it may become.
    pub limits: Limits,
    /// Whether this node has taken part in the group before, as its owner remembers outside of `dir`. Then a directory
    /// that holds no log is refused with [`StartError::Gone`]: a voter that forgot its vote and its entries would vote
    /// again, and what a majority acknowledged could be lost. Default false: an empty directory is a new node.
    pub must_exist: bool,
}

impl Config {
    /// The defaults, for this directory and node.
    pub fn new(dir: impl Into<PathBuf>, node: NodeId) -> Self {
        Self { dir: dir.into(), node, timings: Timings::default(), limits: Limits::default(), must_exist: false }
    }
}

/// The bounds of a group's log, snapshots and messages. All of them may be tiny in a test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the newest entries kept in memory, so that replication and apply seldom read the disk. Entries that
    /// are not on the disk yet are kept beyond it. Default 4 MiB.
    pub cache_bytes: usize,
    /// A segment of the log is closed when it holds this many bytes, and is deleted as a whole. Default 8 MiB. A start
    /// reads one segment at a time into memory.
    pub segment_bytes: u64,
    /// Bytes of entries in one frame of the log, unless a single entry is larger. Default 1 MiB: a frame is read and
    /// checked as a whole, whichever of its entries is wanted.
    pub frame_bytes: usize,
    /// Largest entry that is taken on. Default 1 MiB: four times the largest proposal that the catalogue accepts. At
    /// most 32 MiB: a larger one could be neither read again nor sent to anybody.
    pub entry_bytes_max: usize,
    /// Bytes of entries in one message to a follower, unless a single entry is larger. Default 1 MiB.
    pub message_bytes: usize,
    /// A snapshot is taken each time this many entries were applied since the last one. Default 5,000: replaying
    /// them at a start takes well under a second. More of them lengthen a start and the log.
    pub snapshot_entries: u64,
    /// A snapshot is taken, too, when the log behind the last one holds this many bytes, or as many as the snapshot if
    /// that is more. Default 8 MiB. What a start reads, and how long it takes, is bounded by this.
    pub snapshot_bytes: u64,
    /// How many entries already in a snapshot stay in the log, so that a node that was away shortly catches up
    /// without a snapshot. Default 1,000.
    pub kept_entries: u64,
    /// How many bytes of the log stay for that at most, but for the segment in which they begin. Default 8 MiB.
    pub kept_bytes: u64,
    /// How many superfluous entries gather before they are purged together. Default 256: each purge is a sync.
    pub purge_entries: u64,
    /// New entries are refused with `disk-full` while the disk has less room than this. Default 16 MiB: what remains
    /// is for votes, snapshots and the entries already on their way.
    pub disk_reserve_bytes: u64,
}

/// Half of what a frame can hold, and a quarter of what a message to a follower can.
const ENTRY_BYTES_LARGEST: usize = 32 << 20;

impl Default for Limits {
    fn default() -> Self {
        Self {
            cache_bytes: 4 << 20,
            segment_bytes: 8 << 20,
            frame_bytes: 1 << 20,
            entry_bytes_max: 1 << 20,
            message_bytes: 1 << 20,
            snapshot_entries: 5_000,
            snapshot_bytes: 8 << 20,
            kept_entries: 1_000,
            kept_bytes: 8 << 20,
            purge_entries: 256,
            disk_reserve_bytes: 16 << 20,
        }
    }
}

/// How long a group waits for what.
///
/// A leader that died is missed after `election_max` and then replaced within `election_max`: between 0.9 and 1.2 s
/// with the defaults, in which six to eight heartbeats in a row must fail to arrive, so that a machine that is busy for
/// half a second loses no leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Timings {
    /// Time between two heartbeats of a leader, in milliseconds. Default 150. It is
    /// also how long a heartbeat may take, so it must not be short on a busy machine.
    pub heartbeat_ms: u64,
    /// Shortest time a voter waits before it stands for election, in milliseconds. Default 300.
    pub election_min_ms: u64,
    /// Longest such time, and the time for which a leader is trusted without a sign of life. Default 600.
    pub election_max_ms: u64,
    /// How long a voter must be dead before another member votes in its place, in milliseconds. Default 5,000: a
    /// node that is restarted is back sooner.
    pub replace_ms: u64,
    /// How often a follower asks whether it has applied what the leader has, in milliseconds. Default 2,000: one small
    /// message, and a difference is there for good, so that it is found soon enough.
    pub compare_ms: u64,
}

impl Default for Timings {
    fn default() -> Self {
        Self { heartbeat_ms: 150, election_min_ms: 300, election_max_ms: 600, replace_ms: 5_000, compare_ms: 2_000 }
    }
}

impl Timings {
    /// Between two comparisons with the leader.
    pub(crate) fn compare(&self) -> Duration {
        Duration::from_millis(self.compare_ms.max(1))
    }

    /// The grace for a dead voter.
    pub(crate) fn replace(&self) -> Duration {
        Duration::from_millis(self.replace_ms)
    }

    /// For how long a leader is trusted without a sign of life.
    pub(crate) fn lease(&self) -> Duration {
        Duration::from_millis(self.election_max_ms)
    }
}

impl Config {
    /// The same in openraft's words.
    pub(crate) fn to_openraft(&self) -> Result<openraft::Config, StartError> {
        let (timings, limits) = (&self.timings, &self.limits);
        if limits.entry_bytes_max.max(limits.frame_bytes) > ENTRY_BYTES_LARGEST {
            let message = format!("entries and frames of the log may have {ENTRY_BYTES_LARGEST} bytes at most");
            return Err(StartError::Raft(message));
        }
        let config = openraft::Config {
            cluster_name: "skein".to_owned(),
            heartbeat_interval: timings.heartbeat_ms,
            election_timeout_min: timings.election_min_ms,
            election_timeout_max: timings.election_max_ms,
            install_snapshot_timeout: 10_000,
            // The compactor asks for them.
            snapshot_policy: openraft::SnapshotPolicy::Never,
            replication_lag_threshold: limits.snapshot_entries.saturating_mul(2),
            max_in_snapshot_log_to_keep: limits.kept_entries,
            purge_batch_size: limits.purge_entries,
            api_channel_size: Some(4_096),
            enable_pre_vote: Some(true),
            // A leader without a quorum falls silent now and then, so that others it cannot reach may elect.
            quorum_loss_probe_interval: Some(timings.election_max_ms.saturating_mul(2)),
            // A leader that restarts is elected anew: its last commit is known by a hint only.
            enable_leader_restore: Some(false),
            // A follower that lost the end of its log is sent it anew. Until it has it, it gives no vote: see `findings`.
            allow_log_reversion: Some(true),
            backoff: "50ms 100ms 200ms ...500ms".to_owned(),
            ..openraft::Config::default()
        };
        config.validate().map_err(|error| StartError::Raft(error.to_string()))
    }
}
