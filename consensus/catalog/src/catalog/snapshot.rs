//! The catalogue as bytes and back.
//!
//! ```text
//! "SKEINCAT" | format u32 LE | SHA-256 of (SHA-256 of body, format) | body: MessagePack, named fields
//! ```
//! Equal catalogues give equal bytes. Nothing that was altered is ever read: the checksum is looked at first.

use std::{collections::BTreeSet, sync::Arc};

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use skein_proto::{
    Digest, MeshId, NodeId,
    codec::{self, CodecError},
};

use super::{Catalog, function::ALIAS_HISTORY_MAX};
use crate::{
    AppRecord, FunctionRecord, KeyRecord, Member, TokenRecord,
    recent::{Recent, Remembered},
};

/// Bytes that are not a snapshot of a catalogue this release can read. Nothing was taken from them; the same bytes
/// never restore later.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// The bytes are something else, or fewer than a snapshot's header.
    #[error("not a snapshot of a catalogue")]
    NotASnapshot,
    /// A newer release wrote it.
    #[error("the snapshot has format {found}; this release reads up to {FORMAT}")]
    TooNew {
        /// The format found.
        found: u32,
    },
    /// Bytes are missing, added or altered.
    #[error("the snapshot does not match its checksum")]
    Corrupt,
    /// The body is not of the form its format has.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// The body contradicts itself: whoever wrote it was not this program, or was broken.
    #[error("the snapshot contradicts itself: {0}")]
    Inconsistent(&'static str),
}

const MAGIC: &[u8; 8] = b"SKEINCAT";
/// The format that is written. Each is the one before with fields added, so that all are read; a release that does not
/// know a field never restores a catalogue without it. Format 2 added apps and labels, format 3 who votes, what requests
/// asked for, and the fingerprint.
const FORMAT: u32 = 3;
const HEADER_BYTES: usize = MAGIC.len() + 4 + 32;

#[derive(Serialize, Deserialize)]
struct Body {
    index: u64,
    mesh: Option<MeshId>,
    node_last: u64,
    function_last: u64,
    members: Vec<Arc<Member>>,
    removed: Vec<(NodeId, Digest)>,
    #[serde(default)]
    leaving: Vec<Arc<Member>>,
    #[serde(default)]
    voters: BTreeSet<NodeId>,
    functions: Vec<Arc<FunctionRecord>>,
    #[serde(default)]
    apps: Vec<Arc<AppRecord>>,
    keys: Vec<(String, Arc<KeyRecord>)>,
    tokens: Vec<(String, Arc<TokenRecord>)>,
    turn_first: u64,
    recent: Vec<Remembered>,
    #[serde(default)]
    fingerprint: u64,
}

impl Catalog {
    /// The whole catalogue as bytes; equal catalogues give equal bytes.
    ///
    /// # Errors
    /// Never for a catalogue built by `apply`; kept as a result so that no input can panic.
    pub fn to_snapshot(&self) -> Result<Bytes, SnapshotError> {
        let body = codec::encode(&Body {
            index: self.index,
            mesh: self.mesh,
            node_last: self.node_last,
            function_last: self.function_last,
            members: self.members().cloned().collect(),
            removed: self.removed.iter().map(|(node, key)| (*node, *key)).collect(),
            leaving: self.leaving().cloned().collect(),
            voters: self.voters.clone(),
            functions: self.functions().cloned().collect(),
            apps: self.apps.values().cloned().collect(),
            keys: self.keys.iter().map(|(id, key)| (id.clone(), key.clone())).collect(),
            tokens: self.tokens.iter().map(|(id, token)| (id.clone(), token.clone())).collect(),
            turn_first: self.recent.turn_first(),
            recent: self.recent.iter().cloned().collect(),
            fingerprint: self.fingerprint,
        })?;
        let mut bytes = BytesMut::with_capacity(HEADER_BYTES + body.len());
        bytes.put_slice(MAGIC);
        bytes.put_u32_le(FORMAT);
        bytes.put_slice(checksum(FORMAT, &body).as_bytes());
        bytes.put_slice(&body);
        Ok(bytes.freeze())
    }

    /// The catalogue in `bytes`.
    ///
    /// # Errors
    /// For bytes that are truncated, altered or of a newer release.
    pub fn from_snapshot(bytes: &[u8]) -> Result<Self, SnapshotError> {
        let rest = bytes.strip_prefix(MAGIC).ok_or(SnapshotError::NotASnapshot)?;
        let (format, rest) = rest.split_first_chunk().ok_or(SnapshotError::NotASnapshot)?;
        let (sum, body) = rest.split_first_chunk().ok_or(SnapshotError::NotASnapshot)?;
        let format = u32::from_le_bytes(*format);
        if format > FORMAT {
            return Err(SnapshotError::TooNew { found: format });
        }
        if checksum(format, body) != Digest::from_bytes(*sum) {
            return Err(SnapshotError::Corrupt);
        }
        Self::restore(codec::decode(body)?)
    }

    fn restore(body: Body) -> Result<Self, SnapshotError> {
        let mut catalog = Self {
            index: body.index,
            mesh: body.mesh,
            node_last: body.node_last,
            function_last: body.function_last,
            keys: body.keys.into_iter().collect(),
            tokens: body.tokens.into_iter().collect(),
            recent: Recent::restore(body.turn_first, body.recent)
                .ok_or(SnapshotError::Inconsistent("the recent requests are not a window"))?,
            voters: body.voters,
            fingerprint: body.fingerprint,
            ..Self::default()
        };
        check_nodes(&body.members, &body.removed, body.node_last)?;
        for (node, key) in body.removed {
            catalog.nodes_by_key.insert_mut(key, node);
            catalog.removed.insert_mut(node, key);
        }
        for member in body.leaving {
            if catalog.removed.get(&member.node) != Some(&member.key) || !catalog.voters.contains(&member.node) {
                return Err(SnapshotError::Inconsistent("a node is leaving that was not removed or does not vote"));
            }
            catalog.leaving.insert_mut(member.node, member);
        }
        for member in body.members {
            catalog.insert_member(Arc::unwrap_or_clone(member));
        }
        let apps = body.apps.len();
        for app in body.apps {
            catalog.insert_app(Arc::unwrap_or_clone(app));
        }
        if catalog.apps.size() != apps {
            return Err(SnapshotError::Inconsistent("two apps have one name"));
        }
        let functions = body.functions.len();
        for function in body.functions {
            check_function(&function, body.function_last)?;
            catalog.insert_function(Arc::unwrap_or_clone(function));
        }
        if catalog.functions().count() != functions || catalog.functions_by_id.size() != functions {
            return Err(SnapshotError::Inconsistent("two functions have one name or id"));
        }
        Ok(catalog)
    }
}

fn check_nodes(members: &[Arc<Member>], removed: &[(NodeId, Digest)], node_last: u64) -> Result<(), SnapshotError> {
    let nodes = || members.iter().map(|member| (member.node, member.key)).chain(removed.iter().copied());
    let ids: BTreeSet<NodeId> = nodes().map(|(node, _)| node).collect();
    let keys: BTreeSet<Digest> = nodes().map(|(_, key)| key).collect();
    let total = members.len() + removed.len();
    if ids.len() != total || keys.len() != total || ids.last().is_some_and(|last| last.0 > node_last) {
        return Err(SnapshotError::Inconsistent("node ids or keys are used twice"));
    }
    Ok(())
}

fn check_function(function: &FunctionRecord, function_last: u64) -> Result<(), SnapshotError> {
    let is_numbered = function.versions.iter().all(|(number, version)| *number == version.number);
    if function.versions.is_empty() || !is_numbered || function.id.0 > function_last {
        return Err(SnapshotError::Inconsistent("a function's versions or id are out of order"));
    }
    let points = |history: &Vec<u64>| {
        (1..=ALIAS_HISTORY_MAX).contains(&history.len())
            && history.iter().all(|number| function.versions.contains_key(number))
    };
    if !function.aliases.values().all(points) {
        return Err(SnapshotError::Inconsistent("an alias points at nothing"));
    }
    Ok(())
}

fn checksum(format: u32, body: &[u8]) -> Digest {
    // The digest of the body's digest and the format: covers both without copying the body.
    let mut covered = Digest::of(body).as_bytes().to_vec();
    covered.extend_from_slice(&format.to_le_bytes());
    Digest::of(&covered)
}
