//! A number that tells apart what two replicas applied.
//!
//! It is a chain: each entry is folded into the number before it. Equal logs give equal numbers at each index, and what
//! was once applied differently, or answered differently, is told by every number after it. It costs two short hashes
//! an entry and nothing to read. Against accidents, not against forgers: 64 bits of SHA-256.
//!
//! Of a refusal, the code counts and not the words: those may be better in the next release, while a mesh is upgraded node by
//! node.

use std::collections::BTreeSet;

use skein_proto::{Digest, NodeId, codec};

use super::Catalog;
use crate::Outcome;

impl Catalog {
    /// What was applied so far, as one number: replicas that differ in it at one index have applied different entries,
    /// or have drawn different conclusions from them.
    pub fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// Counts the entry at `index` as applied: what it told, as a number, and what became of it.
    pub(super) fn note(&mut self, index: u64, told: u64, outcome: &Outcome) {
        self.index = self.index.max(index);
        let outcome = match outcome {
            Outcome::Refused { code, .. } => of_bytes(code.as_str().as_bytes()),
            outcome => codec::encode(outcome).map_or(0, |bytes| of_bytes(&bytes)),
        };
        let parts = [self.fingerprint, index, told, outcome].map(u64::to_le_bytes);
        self.fingerprint = of_bytes(parts.as_flattened());
    }
}

/// The first 64 bits of the digest of these bytes.
pub(crate) fn of_bytes(bytes: &[u8]) -> u64 {
    let mut first = [0; 8];
    first.copy_from_slice(&Digest::of(bytes).as_bytes()[..8]);
    u64::from_le_bytes(first)
}

pub(super) fn of_voters(voters: &BTreeSet<NodeId>) -> u64 {
    let ids: Vec<u8> = voters.iter().flat_map(|node| node.0.to_le_bytes()).collect();
    of_bytes(&ids)
}
