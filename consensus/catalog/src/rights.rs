//! What a member may have the leader commit: the table of commands and roles.
//!
//! Who the member is, is for the caller to know: from its certificate, and never from what it says.

use skein_proto::{ErrorCode, Failure, NodeId};

use crate::{Catalog, Command, Member, MemberRole};

/// Who may send a command to the leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Right {
    /// No member: the leader alone does that, by itself.
    Nobody,
    /// The member that the command is about. That is all that a worker has to tell.
    Itself,
    /// A member that is no worker: it asks for an administrator, whose key it has checked.
    Servers,
}

impl Command {
    /// Its name, as it is told.
    fn name(&self) -> &'static str {
        self.entry().0
    }

    /// Who may send it.
    fn right(&self) -> Right {
        self.entry().1
    }

    /// The member that it is about, where only that one may send it.
    fn subject(&self) -> Option<NodeId> {
        match self {
            Self::UpdateMember { node, .. } | Self::SetLabels { node, .. } => Some(*node),
            _ => None,
        }
    }

    /// The table. A new command does not compile before it stands here.
    fn entry(&self) -> (&'static str, Right) {
        match self {
            Self::Found { .. } => ("Found", Right::Nobody),
            Self::UpdateMember { .. } => ("UpdateMember", Right::Itself),
            Self::SetLabels { .. } => ("SetLabels", Right::Itself),
            Self::AddMember { .. } => ("AddMember", Right::Servers),
            Self::RemoveMember { .. } => ("RemoveMember", Right::Servers),
            Self::SetDraining { .. } => ("SetDraining", Right::Servers),
            Self::PublishVersion { .. } => ("PublishVersion", Right::Servers),
            Self::DeleteFunction { .. } => ("DeleteFunction", Right::Servers),
            Self::SetAlias { .. } => ("SetAlias", Right::Servers),
            Self::Rollback { .. } => ("Rollback", Right::Servers),
            Self::CreateApp { .. } => ("CreateApp", Right::Servers),
            Self::BindApp { .. } => ("BindApp", Right::Servers),
            Self::RemoveApp { .. } => ("RemoveApp", Right::Servers),
            Self::CreateKey { .. } => ("CreateKey", Right::Servers),
            Self::RevokeKey { .. } => ("RevokeKey", Right::Servers),
            Self::CreateToken { .. } => ("CreateToken", Right::Servers),
        }
    }
}

impl Catalog {
    /// Whether a member may have this command committed.
    ///
    /// # Errors
    /// `forbidden` for what its role does not allow; `unavailable` for a node that is not known here, or not yet: a new
    /// leader may have to apply first what made it a member.
    pub fn may_propose(&self, from: NodeId, command: &Command) -> Result<(), Failure> {
        let found = self.member(from).or_else(|| self.leaving().find(|member| member.node == from));
        let Some(Member { name, role, .. }) = found.map(|member| &**member) else {
            let message = format!("node {from} is no member as far as the leader has applied the log; ask again");
            return Err(Failure::not_executed(ErrorCode::Unavailable, message));
        };
        let is_allowed = match command.right() {
            Right::Nobody => false,
            Right::Itself => command.subject() == Some(from),
            Right::Servers => match role {
                MemberRole::Auto | MemberRole::Voter => true,
                MemberRole::Worker => false,
            },
        };
        if is_allowed {
            return Ok(());
        }
        let what = command.name();
        let message = match role {
            MemberRole::Worker => format!(
                "node {name} is a worker, and may not have {what} committed; send the request to a node that is none \
                 (`skein nodes` lists them)"
            ),
            MemberRole::Auto | MemberRole::Voter => format!("node {name} may not have this {what} committed"),
        };
        Err(Failure::not_executed(ErrorCode::Forbidden, message))
    }
}

#[cfg(test)]
mod tests;
