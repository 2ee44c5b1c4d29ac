//! PEM text (RFC 7468) with one private key and its certificates.

use data_encoding::BASE64;
use rcgen::{KeyPair, PublicKeyData};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer, pem::PemObject};
use skein_proto::Digest;

/// The key and the certificates in `text`, in their order.
pub(crate) fn read(
    text: &str,
) -> Result<(PrivatePkcs8KeyDer<'static>, Vec<CertificateDer<'static>>), rustls_pki_types::pem::Error> {
    let key = PrivatePkcs8KeyDer::from_pem_slice(text.as_bytes())?;
    let certificates = CertificateDer::pem_slice_iter(text.as_bytes()).collect::<Result<_, _>>()?;
    Ok((key, certificates))
}

/// One PEM section.
pub(crate) fn write(label: &str, der: &[u8]) -> String {
    let mut text = format!("-----BEGIN {label}-----\n");
    let body = BASE64.encode(der);
    for line in body.as_bytes().chunks(64) {
        text.extend(line.iter().map(|byte| char::from(*byte)));
        text.push('\n');
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}

/// The digest that names a key: SHA-256 of its public half as SubjectPublicKeyInfo, DER.
pub(crate) fn key_digest(key: &KeyPair) -> Digest {
    Digest::of(&key.subject_public_key_info())
}
