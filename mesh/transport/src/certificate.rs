//! What a certificate says: the node and mesh in its name, and the digest of its key.
//!
//! Reads only; whether the certificate is to be believed is decided in `tls`.

use rustls::{
    RootCertStore,
    client::verify_server_cert_signed_by_trust_anchor,
    pki_types::{CertificateDer, UnixTime},
    server::ParsedCertificate,
};
use skein_proto::{Digest, MeshId, NodeId};
use x509_parser::{extensions::GeneralName, prelude::*};

/// A certificate that is not one of a mesh's node or authority.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CertificateError {
    #[error("certificate is not X.509")]
    NotX509,
    #[error("certificate names no node of a mesh")]
    NoNode,
    #[error("certificate names no mesh")]
    NoMesh,
    #[error("certificate is not signed by the mesh's authority: {0}")]
    NotSigned(String),
}

/// Who a node's certificate says it belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) node: NodeId,
    pub(crate) mesh: MeshId,
    pub(crate) key: Digest,
}

/// The DNS name of a node: its only subject alternative name.
pub(crate) fn node_name(node: NodeId, mesh: MeshId) -> String {
    format!("node-{node}.{mesh}.{SUFFIX}")
}

/// The common name of a mesh's authority.
pub(crate) fn authority_name(mesh: MeshId) -> String {
    format!("{mesh}.{SUFFIX}")
}

/// Node, mesh and key in a node's certificate.
pub(crate) fn named(der: &[u8]) -> Result<Named, CertificateError> {
    let certificate = parse(der)?;
    let names = certificate.subject_alternative_name().ok().flatten().ok_or(CertificateError::NoNode)?;
    let [GeneralName::DNSName(name)] = names.value.general_names.as_slice() else {
        return Err(CertificateError::NoNode);
    };
    let (node, mesh) = parse_node_name(name).ok_or(CertificateError::NoNode)?;
    Ok(Named { node, mesh, key: Digest::of(certificate.public_key().raw) })
}

/// The mesh that an authority's certificate was founded for.
pub(crate) fn mesh_of_authority(der: &[u8]) -> Result<MeshId, CertificateError> {
    let certificate = parse(der)?;
    let name = certificate.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
    let mesh = name.and_then(|name| name.strip_suffix(SUFFIX)).and_then(|name| name.strip_suffix('.'));
    mesh.and_then(|mesh| mesh.parse().ok()).ok_or(CertificateError::NoMesh)
}

/// The digest of the key in any certificate.
pub(crate) fn key_digest(der: &[u8]) -> Result<Digest, CertificateError> {
    Ok(Digest::of(parse(der)?.public_key().raw))
}

/// The public key itself, as signatures are checked with it.
pub(crate) fn raw_key(der: &[u8]) -> Result<Vec<u8>, CertificateError> {
    Ok(parse(der)?.public_key().subject_public_key.data.to_vec())
}

/// Checks that `authority` signed `leaf`, leaving the clock out: it is the handshake that looks at the time.
pub(crate) fn check_signed(leaf: &[u8], authority: &CertificateDer<'_>) -> Result<(), CertificateError> {
    let not_before = parse(leaf)?.validity().not_before.timestamp();
    let since = std::time::Duration::from_secs(u64::try_from(not_before).unwrap_or(0));
    let leaf = CertificateDer::from(leaf);
    let refuse = |error: rustls::Error| CertificateError::NotSigned(error.to_string());
    let parsed = ParsedCertificate::try_from(&leaf).map_err(refuse)?;
    let roots = roots(authority)?;
    let time = UnixTime::since_unix_epoch(since);
    verify_server_cert_signed_by_trust_anchor(&parsed, &roots, &[], time, algorithms()).map_err(refuse)
}

/// A store with `authority` as its only root.
pub(crate) fn roots(authority: &CertificateDer<'_>) -> Result<RootCertStore, CertificateError> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.clone().into_owned()).map_err(|error| CertificateError::NotSigned(error.to_string()))?;
    Ok(roots)
}

/// The signature algorithms that certificates may use.
pub(crate) fn algorithms() -> &'static [&'static dyn rustls::pki_types::SignatureVerificationAlgorithm] {
    rustls::crypto::ring::default_provider().signature_verification_algorithms.all
}

fn parse(der: &[u8]) -> Result<X509Certificate<'_>, CertificateError> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        _ => Err(CertificateError::NotX509),
    }
}

fn parse_node_name(name: &str) -> Option<(NodeId, MeshId)> {
    let (node, mesh) = name.strip_prefix("node-")?.strip_suffix(SUFFIX)?.strip_suffix('.')?.split_once('.')?;
    Some((node.parse().ok()?, mesh.parse().ok()?))
}

/// The end of every name; not a public domain, and never looked up.
const SUFFIX: &str = "skein";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_name_round_trips_and_others_are_refused() {
        let mesh = MeshId::random();
        assert_eq!(parse_node_name(&node_name(NodeId(7), mesh)), Some((NodeId(7), mesh)));
        for name in ["", "node-7.skein", "node-x.y.skein", "example.com", "node-7.01.skein"] {
            assert_eq!(parse_node_name(name), None, "{name}");
        }
    }

    #[test]
    fn bytes_that_are_no_certificate_are_refused() {
        assert_eq!(named(b"junk"), Err(CertificateError::NotX509));
        assert_eq!(mesh_of_authority(b""), Err(CertificateError::NotX509));
    }
}
