//! How many file descriptors the process may have open, and what share of them each entrance gets.
//!
//! Whoever opens connections must not be able to take the descriptors that the log, the snapshots and the compiler's
//! processes need: a vote that cannot be saved ends a node's part in the consensus.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What a node may open, as the system says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Descriptors {
    most: u64,
}

/// Kept for the disk, the mesh's socket, images of instances and compilers' processes: a busy node was seen with 125.
const RESERVE: u64 = 256;
/// More than any of the shares below can use, where the system sets no bound.
const MOST: u64 = 1 << 20;
/// Below it the shares are small enough to be felt, and an operator is told.
const ENOUGH: u64 = 4_096;

impl Descriptors {
    /// Asks the system for as many as it gives (`RLIMIT_NOFILE`: the soft limit is raised to the hard one) and takes what
    /// it has.
    pub(super) fn claim() -> Self {
        let limit = getrlimit(Resource::Nofile);
        let wanted = limit.maximum.unwrap_or(MOST).min(MOST);
        let current = limit.current.unwrap_or(MOST);
        let raised = Rlimit { current: Some(wanted), maximum: limit.maximum };
        let most = if wanted > current && setrlimit(Resource::Nofile, raised).is_ok() { wanted } else { current };
        let descriptors = Self { most };
        if most < ENOUGH {
            let connections = descriptors.share();
            tracing::warn!(
                limit = most,
                connections,
                "the process may open few files: each entrance takes that many connections; raise `ulimit -n` for more"
            );
        }
        descriptors
    }

    /// The most that each of the three takes that open sockets for others: the gateway, the admin API, and functions'
    /// own requests. Never none.
    pub(super) fn share(self) -> usize {
        let reserve = RESERVE.min(self.most / 2);
        usize::try_from((self.most - reserve) / 3).unwrap_or(usize::MAX).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shares_leave_a_reserve_whatever_the_limit() {
        for most in [2, 16, 64, 255, 256, 257, 511, 512, 513, 1_024, 4_096, MOST] {
            let share = Descriptors { most }.share() as u64;
            assert!(share >= 1, "{most}");
            let left = most.saturating_sub(3 * share);
            assert!(left >= RESERVE.min(most / 2) || share == 1, "{most}: {share} each leave {left}");
        }
        assert_eq!(Descriptors { most: 1_024 }.share(), 256);
    }

    #[test]
    fn what_is_claimed_is_what_the_system_gives() {
        let claimed = Descriptors::claim();
        assert_eq!(getrlimit(Resource::Nofile).current.unwrap_or(MOST), claimed.most);
    }
}
