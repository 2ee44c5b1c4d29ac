//! What may be asked of the catalogue, and what it answers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use skein_proto::{AliasName, AppName, Digest, ErrorCode, FunctionName, Manifest, MeshId, NodeId, NodeName, VersionId};
use uuid::Uuid;

use crate::{Binding, KeyRecord, MemberRole, TokenRecord};

/// Names one request of a client, so that a repeated proposal is answered, not applied twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RequestId(pub Uuid);

/// One entry of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposal {
    /// The request it stands for. Outcomes of the most recent ones are remembered.
    pub request: RequestId,
    /// The proposer's clock, in milliseconds since the Unix epoch: apply has no clock of its own.
    pub at_ms: u64,
    /// What to do.
    pub command: Command,
}

/// One change of the catalogue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Command {
    /// Begins the mesh. Refused once it has begun.
    Found {
        /// The new mesh's id.
        mesh: MeshId,
    },
    /// Adds a node, or finds it by its public key: a join that is repeated gets the same id.
    AddMember {
        /// Its name; refused if another member bears it.
        name: NodeName,
        /// SHA-256 of its public key (SubjectPublicKeyInfo, DER).
        key: Digest,
        /// Its addresses: mesh (UDP), gateway and admin (TCP).
        addresses: Addresses,
        /// Whether it may vote.
        role: MemberRole,
        /// The token it came with, checked for being known and in time; none only for the founder.
        token: Option<String>,
    },
    /// Tells a member's present addresses and name, after a restart.
    UpdateMember {
        /// The member.
        node: NodeId,
        /// Its addresses now.
        addresses: Addresses,
    },
    /// Takes a member off the mesh for good; its id and key are never accepted again. It votes on until the others have
    /// agreed to do without it. Refused for the last member, for a voter while another one is on its way out, and where
    /// it was counted on for a copy of code meanwhile.
    RemoveMember {
        /// The member.
        node: NodeId,
        /// The index of the catalogue by which the others were seen to have enough copies of all code without it: a version
        /// that is younger and names it among its holders keeps it. None takes it off whatever it holds.
        #[serde(default)]
        secured: Option<u64>,
    },
    /// Marks a member as leaving (true) or back (false); a draining member gets no new calls.
    SetDraining {
        /// The member.
        node: NodeId,
        /// Whether it is draining.
        is_draining: bool,
    },
    /// Adds the next version of a function, creating function and app as needed, and moves an alias to it.
    PublishVersion {
        /// The version's settings; name the function too.
        manifest: Box<Manifest>,
        /// Its code.
        digest: Digest,
        /// The code's size in bytes.
        size: u64,
        /// The nodes that have the code, durably, when this is proposed; at least one.
        holders: Vec<NodeId>,
        /// The publisher's remark.
        note: String,
        /// Who published: the key's id.
        author: String,
        /// The alias to move to the new version, if any.
        alias: Option<AliasName>,
        /// Refuse unless this is the newest version so far (0: there is none).
        expected: Option<u64>,
    },
    /// Removes a function with its versions and aliases. Its id is never used again.
    DeleteFunction {
        /// Its app.
        app: AppName,
        /// Its name.
        name: FunctionName,
    },
    /// Moves an alias, creating it as needed.
    SetAlias {
        /// The function's app.
        app: AppName,
        /// The function.
        name: FunctionName,
        /// The alias.
        alias: AliasName,
        /// The version it is to point at.
        version: u64,
        /// Refuse unless it points at this now (compare-and-set).
        expected: Option<u64>,
    },
    /// Moves an alias back: to `to`, or to what it pointed at before. Moves made since are forgotten, so that the next
    /// rollback goes further back and not forward again.
    Rollback {
        /// The function's app.
        app: AppName,
        /// The function.
        name: FunctionName,
        /// The alias.
        alias: AliasName,
        /// The version to return to; none for the one before.
        to: Option<u64>,
    },
    /// Tells what a member says of itself, after a restart.
    SetLabels {
        /// The member.
        node: NodeId,
        /// All its labels.
        labels: BTreeMap<String, String>,
    },
    /// Declares an app. Refused if it was declared before.
    CreateApp {
        /// The app.
        app: AppName,
        /// The nodes that its functions may run on.
        binding: Binding,
    },
    /// Binds an app, declared or owning a function, to other nodes than before.
    BindApp {
        /// The app.
        app: AppName,
        /// The nodes that its functions may run on from now on.
        binding: Binding,
    },
    /// Removes an app that owns no function.
    RemoveApp {
        /// The app.
        app: AppName,
    },
    /// Adds a key. Only its hash is kept.
    CreateKey {
        /// The key's id, as shown in listings; refused if taken.
        id: String,
        /// What it allows.
        key: KeyRecord,
    },
    /// Makes a key worthless. Refused for one that may administer the mesh, unless another one may for as long.
    RevokeKey {
        /// The key's id.
        id: String,
    },
    /// Adds a join token. Only its hash is kept.
    CreateToken {
        /// The token's id; refused if taken.
        id: String,
        /// What it allows.
        token: TokenRecord,
    },
}

/// Where a member is reached, as `host:port`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addresses {
    /// QUIC, UDP.
    pub mesh: String,
    /// The gateway, TCP.
    pub http: String,
    /// The admin API, TCP.
    pub admin: String,
}

/// What became of a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Outcome {
    /// Done; there is nothing more to say.
    Done,
    /// The member has this id.
    Member(NodeId),
    /// The version that was added, with its function's id.
    Published(VersionId),
    /// Where an alias points now, and where it pointed before.
    Alias {
        /// The version it points at.
        now: u64,
        /// The one before, if any.
        before: Option<u64>,
    },
    /// Not done; nothing changed.
    Refused {
        /// Why, for programs.
        code: ErrorCode,
        /// Why, for people.
        message: String,
    },
}
