//! Who keeps how many instances of a version ready (`scale.warm`). Pure.
//!
//! The count is the mesh's, not each node's: it is dealt out to as many nodes as it suffices for, those nearest to the
//! version first ([`home`](crate::home)). So every node finds its own share alone, all shares add up to the count while
//! nodes see the same nodes, and a node that comes or goes moves few.

use skein_proto::{NodeId, VersionId};

use crate::home::nearness;

/// How many of the `warm` instances of `version` are `me`'s to keep, among the `nodes` that take calls.
pub fn share(version: VersionId, warm: u32, nodes: &[NodeId], me: NodeId) -> u32 {
    // Of equal weight: memory is not what these instances are spread for.
    let mut order: Vec<_> = nodes.iter().map(|node| (nearness(version, *node, 1), *node)).collect();
    order.sort_by(|one, other| other.0.total_cmp(&one.0).then(one.1.cmp(&other.1)));
    let count = u32::try_from(order.len()).unwrap_or(u32::MAX);
    let Some(place) = order.iter().position(|(_, node)| *node == me) else { return 0 };
    let place = u32::try_from(place).unwrap_or(u32::MAX);
    warm / count + u32::from(place < warm % count)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use skein_proto::FunctionId;

    use super::*;

    fn version(number: u64) -> VersionId {
        VersionId { function: FunctionId(7), number }
    }

    #[test]
    fn versions_with_one_each_are_spread_over_the_nodes() {
        let nodes = [1, 2, 3].map(NodeId);
        let mine = |node| (0..300).filter(|number| share(version(*number), 1, &nodes, node) == 1).count();
        for node in nodes {
            assert!((60..140).contains(&mine(node)), "{node} has {}", mine(node));
        }
    }

    #[test]
    fn who_takes_no_calls_keeps_nothing() {
        assert_eq!(share(version(1), 9, &[NodeId(1)], NodeId(2)), 0);
        assert_eq!(share(version(1), 9, &[], NodeId(2)), 0);
    }

    proptest! {
        #[test]
        fn the_shares_add_up_and_differ_by_one_at_most(warm in 0_u32..500, count in 1_u64..12, number: u64) {
            let nodes: Vec<_> = (1..=count).map(NodeId).collect();
            let shares: Vec<_> = nodes.iter().map(|node| share(version(number), warm, &nodes, *node)).collect();
            prop_assert_eq!(shares.iter().sum::<u32>(), warm);
            prop_assert!(shares.iter().max().unwrap() - shares.iter().min().unwrap() <= 1);
        }
    }
}
