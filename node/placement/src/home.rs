//! The home of a version: the node where its calls meet although nobody told anybody that it is warm there. Pure.
//!
//! Rendezvous hashing (Thaler and Ravishankar, "Using Name-Based Mappings to Increase Hit Rates", 1998) gives each
//! version its own order of the nodes, which all nodes compute alike and which hardly changes when a node comes or goes.
//! A node's share is in proportion to its memory budget: what is shared out is room for warm versions.
//!
//! A popular version must not drown its home, so a node that carries more than its share of the load is passed over
//! (Mirrokni, Thorup and Zadimoghaddam, "Consistent Hashing with Bounded Loads", 2018; Fuerst and Sharma, "Locality-aware
//! Load-Balancing For Serverless Clusters", HPDC 2022, measure that with functions that stay warm).

use skein_proto::{NodeId, VersionId};

/// How near `version` is to `node`: the nearest of the nodes is its home.
pub(crate) fn nearness(version: VersionId, node: NodeId, budget_mib: u32) -> f64 {
    let hash = [version.number, node.0].into_iter().fold(mix(version.function.0), |hash, next| mix(hash ^ mix(next)));
    // The hash as a number between 0 and 1, both excluded; 53 bits are what a float holds.
    let point = ((hash >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
    let weight = f64::from(if budget_mib == 0 { BUDGET_MIB_UNKNOWN } else { budget_mib });
    // Weighted rendezvous hashing: the greatest of -w / ln(u) is at a node with a chance in proportion to its w.
    -weight / point.ln()
}

/// The load above which a node is passed over as a home, given the `total` of `nodes` nodes.
pub(crate) fn load_max(total: u64, nodes: usize, slack: u64) -> u64 {
    let nodes = u64::try_from(nodes.max(1)).unwrap_or(u64::MAX);
    ((total + 1) * SHARE_NUM).div_ceil(nodes * SHARE_DEN).max(slack)
}

/// A node may carry a quarter more than the mean. Less moves versions away from home for nothing; more lets a popular
/// one slow its neighbours down.
const SHARE_NUM: u64 = 5;
const SHARE_DEN: u64 = 4;

/// What a node that does not say its budget is taken for: the default of `--memory`.
const BUDGET_MIB_UNKNOWN: u32 = 1_024;

/// The finalizer of SplitMix64: each bit of the input changes each bit of the output with even chance.
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use skein_proto::FunctionId;

    use super::*;

    fn home(function: u64, nodes: &[(u64, u32)]) -> u64 {
        let version = VersionId { function: FunctionId(function), number: 1 };
        let near = |node: &(u64, u32)| nearness(version, NodeId(node.0), node.1);
        nodes.iter().max_by(|one, other| near(one).total_cmp(&near(other))).unwrap().0
    }

    fn share(nodes: &[(u64, u32)], of: u64) -> usize {
        (0..10_000).filter(|function| home(*function, nodes) == of).count()
    }

    #[test]
    fn versions_are_shared_out_in_proportion_to_the_budgets() {
        for node in [1, 2, 3] {
            let share = share(&[(1, 0), (2, 0), (3, 1_024)], node);
            assert!((3_100..3_600).contains(&share), "{share} of 10,000 have node {node} as home");
        }
        let large = share(&[(1, 1_024), (2, 3_072)], 2);
        assert!((7_300..7_700).contains(&large), "{large} of 10,000 are at the node with three quarters of the memory");
    }

    #[test]
    fn only_the_versions_of_a_node_that_leaves_move() {
        for function in 0..2_000 {
            let before = home(function, &[(1, 0), (2, 0), (3, 0)]);
            let after = home(function, &[(1, 0), (3, 0)]);
            assert!(before == 2 || before == after, "function {function} moved from {before} to {after}");
        }
    }

    #[test]
    fn the_bound_is_a_quarter_above_the_mean() {
        assert_eq!(load_max(399, 4, 8), 125);
        assert_eq!(load_max(0, 3, 8), 8, "and never below what is noise");
    }
}
