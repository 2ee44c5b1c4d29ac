//! Where a node is reached, by its own signed word: what peers pass on, so that a node that moved is found without a
//! majority and without anybody at the old address.
//!
//! A record carries the node's certificate, so whoever knows the mesh's CA can check it. It proves who signed it, not
//! that the node is a member still: that is asked of [`Trust`](crate::Trust).

use bytes::Bytes;
use ring::signature::{ED25519, Ed25519KeyPair, UnparsedPublicKey};
use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use skein_proto::{Digest, NodeId, codec};

use crate::{Address, Identity, certificate};

/// Where a node is reached, for each of its entrances.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReachedAt {
    /// By its peers, and by clients over QUIC.
    pub mesh: Address,
    /// By callers over HTTP.
    pub http: Address,
    /// By operators.
    pub admin: Address,
}

/// A record whose signature was checked, or that this node signed itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressRecord {
    node: NodeId,
    key: Digest,
    sequence: u64,
    reached_at: ReachedAt,
    bytes: Bytes,
}

/// Bytes that are no record that can be believed. Nothing changed; the same bytes are refused again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressRecordError {
    /// Not a record, or longer than any.
    #[error("not an address record")]
    Malformed,
    /// The certificate is not one of this mesh's CA.
    #[error("the certificate in an address record is not of this mesh: {0}")]
    Certificate(String),
    /// Not signed with the key in the certificate, or about another node.
    #[error("an address record of node {0} is not signed by it")]
    Forged(NodeId),
    /// A number that no clock gives.
    #[error("the address record of node {0} has a number that none may have")]
    Sequence(NodeId),
    /// This node's own key cannot sign.
    #[error("the address record could not be signed: {0}")]
    Sign(String),
}

impl AddressRecord {
    /// The largest number of a record: milliseconds since 1970 reach it in some 9,000 years, so that counting on from
    /// any that is believed cannot overflow.
    pub const SEQUENCE_MAX: u64 = 1 << 48;

    /// Signs this node's own. `sequence` must be larger than in any it has signed before.
    ///
    /// # Errors
    /// [`AddressRecordError::Sign`].
    pub fn sign(identity: &Identity, sequence: u64, reached_at: ReachedAt) -> Result<Self, AddressRecordError> {
        let failed = |error: &dyn std::fmt::Display| AddressRecordError::Sign(error.to_string());
        let word = Word { node: identity.node(), sequence, reached_at: reached_at.clone() };
        let word = codec::encode(&word).map_err(|error| failed(&error))?;
        let key = Ed25519KeyPair::from_pkcs8_maybe_unchecked(identity.key().secret_pkcs8_der())
            .map_err(|error| failed(&error))?;
        let signature = Bytes::copy_from_slice(key.sign(&signed_bytes(&word)).as_ref());
        let certificate = Bytes::copy_from_slice(identity.certificate());
        let bytes = codec::encode(&Wire { certificate, word, signature }).map_err(|error| failed(&error))?;
        let (node, key) = (identity.node(), identity.key_digest());
        Ok(Self { node, key, sequence, reached_at, bytes })
    }

    /// Reads a record that `reader`'s mesh should have made, and checks that its node signed it.
    ///
    /// # Errors
    /// [`AddressRecordError`], except `Sign`.
    pub fn read(bytes: Bytes, reader: &Identity) -> Result<Self, AddressRecordError> {
        let (wire, word) = parse(&bytes)?;
        let refuse = |error: certificate::CertificateError| AddressRecordError::Certificate(error.to_string());
        let named = certificate::named(&wire.certificate).map_err(refuse)?;
        if named.mesh != reader.mesh() {
            return Err(AddressRecordError::Certificate("it names another mesh".to_owned()));
        }
        let authority = CertificateDer::from(reader.ca_certificate());
        certificate::check_signed(&wire.certificate, &authority).map_err(refuse)?;
        let key = certificate::raw_key(&wire.certificate).map_err(refuse)?;
        let is_signed =
            UnparsedPublicKey::new(&ED25519, key).verify(&signed_bytes(&wire.word), &wire.signature).is_ok();
        if !is_signed || word.node != named.node {
            return Err(AddressRecordError::Forged(word.node));
        }
        if word.sequence > Self::SEQUENCE_MAX {
            return Err(AddressRecordError::Sequence(word.node));
        }
        let Word { node, sequence, reached_at } = word;
        Ok(Self { node, key: named.key, sequence, reached_at, bytes })
    }

    /// Whose record bytes claim to be, and which of them: to skip what is known before anything is checked.
    ///
    /// # Errors
    /// [`AddressRecordError::Malformed`].
    pub fn peek(bytes: &[u8]) -> Result<(NodeId, u64), AddressRecordError> {
        parse(bytes).map(|(_, word)| (word.node, word.sequence))
    }

    /// The digest of the key with which bytes claim to be signed: to pass over those of no member before anything is checked.
    ///
    /// # Errors
    /// [`AddressRecordError::Malformed`] and [`AddressRecordError::Certificate`].
    pub fn peek_key(bytes: &[u8]) -> Result<Digest, AddressRecordError> {
        let (wire, _) = parse(bytes)?;
        certificate::key_digest(&wire.certificate).map_err(|error| AddressRecordError::Certificate(error.to_string()))
    }

    /// The node.
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// The digest of the key that signed it.
    pub fn key(&self) -> Digest {
        self.key
    }

    /// Which of the node's records it is: a later one has a larger number.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Where the node is reached.
    pub fn reached_at(&self) -> &ReachedAt {
        &self.reached_at
    }

    /// What travels.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }
}

fn parse(bytes: &[u8]) -> Result<(Wire, Word), AddressRecordError> {
    if bytes.len() > RECORD_BYTES_MAX {
        return Err(AddressRecordError::Malformed);
    }
    let wire: Wire = codec::decode(bytes).map_err(|_| AddressRecordError::Malformed)?;
    let word = codec::decode(&wire.word).map_err(|_| AddressRecordError::Malformed)?;
    Ok((wire, word))
}

/// With what it is for in front: a signature of anything else is never taken for one of a record.
fn signed_bytes(word: &[u8]) -> Vec<u8> {
    [PURPOSE, word].concat()
}

/// What a node says of itself.
#[derive(Serialize, Deserialize)]
struct Word {
    node: NodeId,
    sequence: u64,
    reached_at: ReachedAt,
}

#[derive(Serialize, Deserialize)]
struct Wire {
    certificate: Bytes,
    /// A [`Word`], as it was signed.
    word: Bytes,
    signature: Bytes,
}

const PURPOSE: &[u8] = b"skein address record 1\0";

/// Three addresses of the longest names, a certificate of some 500 bytes, a signature, and what names them.
const RECORD_BYTES_MAX: usize = 2_048;

#[cfg(test)]
mod tests;
