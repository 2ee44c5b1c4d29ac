//! The failure detector's timings and bounds.

use std::{num::NonZeroU8, num::NonZeroUsize, time::Duration};

use serde::{Deserialize, Serialize};

use crate::digest::SWIM_BYTES_MAX;

/// Timings and bounds of one node's membership. The defaults detect a dead node in under two seconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How often a random peer is probed, in milliseconds. Default 500: with the digests below, one lost datagram does
    /// not yet raise a suspicion. Halving it doubles the probes.
    pub probe_period_ms: u64,
    /// How long a probe waits before others are asked to probe in its stead, in milliseconds. Default 200: far above a
    /// round trip in a data centre; must be less than half of the period.
    pub probe_rtt_ms: u64,
    /// How often the load digest goes out, in milliseconds. Default 500. It is the heartbeat too.
    pub digest_period_ms: u64,
    /// Silence after which a peer is suspected, in milliseconds. Default 1,000: two digests lost.
    pub suspect_after_ms: u64,
    /// Silence after which a suspect is given up, in milliseconds. Default 1,700: the rest of the two seconds within
    /// which a dead node must be known is for timers that fire late. Raising it delays the repair after a crash.
    pub down_after_ms: u64,
    /// How often peers that are down are looked for, in milliseconds. Default 500, so that a healed partition or a
    /// returned node is found in about a second.
    pub search_period_ms: u64,
    /// Most peers that get a digest each period. Default 64: 128 datagrams a second. In a larger mesh they take turns,
    /// and silence stops being a sign: there the probes decide alone, in a few seconds.
    pub digest_peers_max: usize,
    /// Most datagrams that wait to be read. Default 1,024: some seconds of a mesh of 100. What comes beyond is dropped
    /// and counted.
    pub inbox_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            probe_period_ms: 500,
            probe_rtt_ms: 200,
            digest_period_ms: 500,
            suspect_after_ms: 1_000,
            down_after_ms: 1_700,
            search_period_ms: 500,
            digest_peers_max: 64,
            inbox_max: 1_024,
        }
    }
}

impl Config {
    /// How many peers are asked to probe in another's stead, and how many get each round of gossip.
    const FAN_OUT: usize = 3;
    /// How often one change is passed on by each node: some 3·log₂ of a mesh of a hundred.
    const TRANSMISSIONS_MAX: u8 = 15;
    /// Changes spread at this pace; nothing is sent when nothing changed.
    const GOSSIP_PERIOD: Duration = Duration::from_millis(100);

    /// The same in foca's words. Zeros become ones: a config cannot make the detector spin or panic.
    pub(crate) fn swim(&self) -> foca::Config {
        let fan_out = NonZeroUsize::new(Self::FAN_OUT).unwrap_or(NonZeroUsize::MIN);
        let probe_period = Duration::from_millis(self.probe_period_ms.max(2));
        foca::Config {
            probe_period,
            probe_rtt: Duration::from_millis(self.probe_rtt_ms.max(1)).min(probe_period / 2),
            num_indirect_probes: fan_out,
            max_transmissions: NonZeroU8::new(Self::TRANSMISSIONS_MAX).unwrap_or(NonZeroU8::MIN),
            suspect_to_down_after: self.down_after().saturating_sub(self.suspect_after()).max(probe_period),
            // A node's past is one entry, and only the catalogue's members have one: nothing grows by remembering.
            remove_down_after: None,
            max_packet_size: NonZeroUsize::new(SWIM_BYTES_MAX).unwrap_or(NonZeroUsize::MIN),
            notify_down_members: true,
            periodic_announce: None,
            // foca stops it when no peer is left, which is when a partitioned node needs it most: `swim` does it.
            periodic_announce_to_down_members: None,
            periodic_gossip: Some(foca::PeriodicParams { frequency: Self::GOSSIP_PERIOD, num_members: fan_out }),
        }
    }

    pub(crate) fn digest_period(&self) -> Duration {
        Duration::from_millis(self.digest_period_ms.max(10))
    }

    pub(crate) fn search_period(&self) -> Duration {
        Duration::from_millis(self.search_period_ms.max(10))
    }

    pub(crate) fn suspect_after(&self) -> Duration {
        Duration::from_millis(self.suspect_after_ms.max(1))
    }

    pub(crate) fn down_after(&self) -> Duration {
        Duration::from_millis(self.down_after_ms.max(2))
    }

    /// How long a member that nothing was ever heard of is not called down: it is looked for meanwhile, and what was lost
    /// on the way is sent again.
    pub(crate) fn unheard_for(&self) -> Duration {
        self.down_after() + 2 * self.search_period()
    }
}
