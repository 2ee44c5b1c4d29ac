//! Whether a node may be taken off the mesh, as far as one node can tell.
//!
//! Pure: it looks at values and refuses, or not. `operations` removes.

use std::collections::BTreeSet;

use skein_catalog::{Catalog, MemberRole};
use skein_proto::{ErrorCode, Failure, NodeId, NodeName};

/// A node that is to be taken off, and what is known of the others.
pub(super) struct Removal<'a> {
    pub(super) name: &'a NodeName,
    pub(super) node: NodeId,
    pub(super) catalog: &'a Catalog,
    pub(super) voters: &'a BTreeSet<NodeId>,
    /// Whether no majority has answered for a while.
    pub(super) is_quorum_lost: bool,
}

impl Removal<'_> {
    /// Refuses what would leave a mesh that nobody could write to, and what nobody can decide now.
    ///
    /// # Errors
    /// `conflict` with what must be there first; `no-quorum` where no majority answers as it is.
    pub(super) fn check(&self, is_alive: impl Fn(NodeId) -> bool) -> Result<(), Failure> {
        let (name, catalog) = (self.name, self.catalog);
        let refuse = |code: ErrorCode, message: String| Err(Failure::not_executed(code, message));
        // Somebody else was faster: to ask again does no harm.
        if catalog.was_removed(self.node) {
            return Ok(());
        }
        if catalog.members().count() == 1 {
            let message = format!(
                "{name} is the only node of the mesh, which would end with it: to end the mesh, stop {name} and delete its \
                 data directory"
            );
            return refuse(ErrorCode::Conflict, message);
        }
        if catalog.is_only_elector(self.node) {
            let message = format!(
                "{name} is the only node that is no worker: without it nobody could ever vote. Let a node join that is no \
                 worker first"
            );
            return refuse(ErrorCode::Conflict, message);
        }
        let down =
            |voters: &[NodeId]| -> Vec<NodeId> { voters.iter().copied().filter(|node| !is_alive(*node)).collect() };
        let is_majority = |down: usize, of: usize| of - down > of / 2;
        let all: Vec<NodeId> = self.voters.iter().copied().collect();
        let is_voter = self.voters.contains(&self.node);
        // Whether the others would do without a vote does not depend on what is heard of each: the leader decides.
        if self.is_quorum_lost || (is_voter && !is_majority(down(&all).len(), all.len())) {
            let missing = down(&all);
            let next = match missing.len() {
                0 => "see `skein status`, and the logs and disks of the voters".to_owned(),
                1 => format!("start {} first", self.named(&missing)),
                _ => format!("start enough of {} first", self.named(&missing)),
            };
            let message = format!("no majority of the voters answers, so that no node can be taken off: {next}");
            return refuse(ErrorCode::NoQuorum, message);
        }
        if !is_voter {
            return Ok(());
        }
        let rest: Vec<NodeId> = all.into_iter().filter(|voter| *voter != self.node).collect();
        let missing = down(&rest);
        if rest.is_empty() {
            // The only voter hands over to another node, for which both must be up.
            let mut others = catalog.members().filter(|member| member.node != self.node);
            if !others.any(|member| member.role != MemberRole::Worker && is_alive(member.node)) {
                let message = format!(
                    "{name} is the only voter, and there is nobody to vote in its place: start another node that is no \
                     worker first"
                );
                return refuse(ErrorCode::Conflict, message);
            }
        } else if !is_majority(missing.len(), rest.len()) {
            let message = format!(
                "without {name} the live voters would be no majority: start {} first, or take off those that are gone for \
                 good",
                self.named(&missing)
            );
            return refuse(ErrorCode::Conflict, message);
        }
        Ok(())
    }

    /// The names of these; the ids of those that are members no more.
    fn named(&self, nodes: &[NodeId]) -> String {
        let name =
            |node: &NodeId| self.catalog.member(*node).map_or(node.to_string(), |member| member.name.to_string());
        nodes.iter().map(name).collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use skein_catalog::{Addresses, Command, Proposal, RequestId, TokenRecord};
    use skein_proto::{Digest, MeshId};

    use super::*;

    /// A mesh of these, `n1` and so on.
    fn catalog(roles: &[MemberRole]) -> Catalog {
        let token = TokenRecord { hash: Digest::of(b"t"), role: None, expires_ms: u64::MAX };
        let mut commands =
            vec![Command::Found { mesh: MeshId::random() }, Command::CreateToken { id: "t".to_owned(), token }];
        for (node, role) in (1_u64..).zip(roles) {
            let address = || "127.0.0.1:1".to_owned();
            commands.push(Command::AddMember {
                name: format!("n{node}").parse().unwrap(),
                key: Digest::of(&node.to_le_bytes()),
                addresses: Addresses { mesh: address(), http: address(), admin: address() },
                role: *role,
                token: (node > 1).then(|| "t".to_owned()),
            });
        }
        let mut catalog = Catalog::default();
        for (index, command) in (1..).zip(commands) {
            let request = RequestId(uuid::Uuid::now_v7());
            catalog.apply(index, &Proposal { request, at_ms: 0, command });
        }
        assert_eq!(catalog.members().count(), roles.len());
        catalog
    }

    /// Takes `n<node>` off a mesh of `roles` in which `voters` vote and `alive` are up.
    fn check(roles: &[MemberRole], voters: &[u64], alive: &[u64], node: u64) -> Result<(), (ErrorCode, String)> {
        let catalog = catalog(roles);
        let name = format!("n{node}").parse().unwrap();
        let voters = voters.iter().copied().map(NodeId).collect();
        let removal =
            Removal { name: &name, node: NodeId(node), catalog: &catalog, voters: &voters, is_quorum_lost: false };
        removal.check(|node| alive.contains(&node.0)).map_err(|failure| (failure.code, failure.message))
    }

    #[track_caller]
    fn refused(checked: Result<(), (ErrorCode, String)>, code: ErrorCode, says: &str) {
        let (refused, message) = checked.unwrap_err();
        assert!(refused == code && message.contains(says) && !message.contains("force"), "{refused}: {message}");
    }

    #[test]
    fn a_node_leaves_that_the_others_can_do_without() {
        use MemberRole::{Auto, Worker};
        assert_eq!(check(&[Auto; 3], &[1, 2, 3], &[1, 2, 3], 3), Ok(()));
        assert_eq!(check(&[Auto; 3], &[1, 2, 3], &[1, 2], 3), Ok(()), "it is down");
        assert_eq!(check(&[Auto; 2], &[1], &[1, 2], 1), Ok(()), "the other votes in its place");
        assert_eq!(check(&[Auto, Worker], &[1], &[1], 2), Ok(()));
        let refused = |checked, says| refused(checked, ErrorCode::Conflict, says);
        refused(check(&[Auto], &[1], &[1], 1), "the only node of the mesh");
        refused(check(&[Auto, Worker], &[1], &[1, 2], 1), "the only node that is no worker");
        refused(check(&[Auto; 2], &[1], &[1], 1), "start another node");
        refused(check(&[Auto; 3], &[1, 2, 3], &[1, 2], 1), "would be no majority: start n3 first");
    }

    #[test]
    fn who_is_removed_already_may_be_removed_again() {
        let mut catalog = catalog(&[MemberRole::Auto; 2]);
        let command = Command::RemoveMember { node: NodeId(2), secured: None };
        let request = RequestId(uuid::Uuid::now_v7());
        catalog.apply(catalog.index() + 1, &Proposal { request, at_ms: 0, command });
        let (name, voters) = ("n2".parse().unwrap(), BTreeSet::from([NodeId(1)]));
        let removal =
            Removal { name: &name, node: NodeId(2), catalog: &catalog, voters: &voters, is_quorum_lost: false };
        assert!(removal.check(|_| true).is_ok(), "not: it is the only node of the mesh");
    }

    #[test]
    fn without_a_majority_that_is_what_is_missing_whoever_is_to_go() {
        use MemberRole::Auto;
        let refused = |checked, says| refused(checked, ErrorCode::NoQuorum, says);
        refused(check(&[Auto; 3], &[1, 2, 3], &[1], 3), "start enough of n2, n3 first");
        refused(check(&[Auto; 3], &[1, 2, 3], &[1], 1), "start enough of n2, n3 first");
        refused(check(&[Auto; 2], &[1], &[2], 1), "start n1 first");
        assert_eq!(
            check(&[Auto; 4], &[1, 2, 3], &[1, 4], 4),
            Ok(()),
            "who has no vote: the leader decides, if there is one"
        );
    }

    #[test]
    fn a_majority_that_does_not_answer_is_none_though_gossip_hears_it() {
        let (catalog, voters) = (catalog(&[MemberRole::Auto; 3]), [1, 2, 3].map(NodeId).into());
        let name = "n3".parse().unwrap();
        let removal =
            Removal { name: &name, node: NodeId(3), catalog: &catalog, voters: &voters, is_quorum_lost: true };
        let failure = removal.check(|_| true).unwrap_err();
        assert_eq!(failure.code, ErrorCode::NoQuorum);
        assert!(failure.message.contains("see `skein status`"), "{failure}");
    }
}
