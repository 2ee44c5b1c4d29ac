//! Who this node is: its key, its certificate, and the CA it believes.
//!
//! A key is made on the node and never leaves it; only a signing request does.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ED25519};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use skein_proto::{Digest, MeshId, NodeId};

use crate::{certificate, pem, secret_file};

/// A node's key that no certificate names yet: what a joiner holds while it asks to be let in. Ed25519 (RFC 8032).
pub struct NodeKey {
    key: KeyPair,
}

/// A node's key with its certificate and the mesh's CA: what it shows to peers and measures them by.
pub struct Identity {
    key: PrivatePkcs8KeyDer<'static>,
    certificate: CertificateDer<'static>,
    authority: CertificateDer<'static>,
    named: certificate::Named,
}

/// A key or identity that could not be made, read or written. Files are left as they were.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// There is no such file: nothing was saved in this directory yet.
    #[error("no identity in {}", path.display())]
    Absent {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The file could not be read or written. A retry may help once the cause is gone.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file's text is not what was saved.
    #[error("{} is damaged: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The certificate is not this key's, not a node's, or not signed by the CA.
    #[error("certificate does not fit: {0}")]
    Mismatch(String),
    /// The key could not be made.
    #[error("key could not be made: {0}")]
    Make(#[source] rcgen::Error),
}

impl NodeKey {
    /// A new key.
    ///
    /// # Errors
    /// [`IdentityError::Make`] when the system has no randomness.
    pub fn generate() -> Result<Self, IdentityError> {
        Ok(Self { key: KeyPair::generate_for(&PKCS_ED25519).map_err(IdentityError::Make)? })
    }

    /// The key that [`save`](Self::save) left in `dir`.
    ///
    /// # Errors
    /// [`IdentityError::Absent`], [`IdentityError::Io`] or [`IdentityError::Malformed`].
    pub fn load(dir: &Path) -> Result<Self, IdentityError> {
        let path = dir.join(KEY_FILE);
        let text = read(&path)?;
        let malformed = |reason: String| IdentityError::Malformed { path: path.clone(), reason };
        let (key, _) = pem::read(&text).map_err(|error| malformed(error.to_string()))?;
        let key =
            KeyPair::from_pkcs8_der_and_sign_algo(&key, &PKCS_ED25519).map_err(|error| malformed(error.to_string()))?;
        Ok(Self { key })
    }

    /// Writes the key into `dir`, mode 0600, synced.
    ///
    /// # Errors
    /// [`IdentityError::Io`]; an older key is then still there.
    pub fn save(&self, dir: &Path) -> Result<(), IdentityError> {
        write(&dir.join(KEY_FILE), &pem::write("PRIVATE KEY", self.key.serialized_der()))
    }

    /// A signing request (PKCS #10, RFC 2986; DER): proves that the sender holds the key.
    ///
    /// # Errors
    /// [`IdentityError::Make`] when it cannot be signed.
    pub fn request(&self) -> Result<Bytes, IdentityError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let request = params.serialize_request(&self.key).map_err(IdentityError::Make)?;
        Ok(Bytes::copy_from_slice(request.der()))
    }

    /// SHA-256 of the public key: what the catalogue keeps of it.
    pub fn key_digest(&self) -> Digest {
        pem::key_digest(&self.key)
    }
}

impl Identity {
    /// The key with the certificate it was given and the CA that signed it, both DER.
    ///
    /// # Errors
    /// [`IdentityError::Mismatch`] when the three do not belong together.
    pub fn new(key: NodeKey, certificate: &[u8], authority: &[u8]) -> Result<Self, IdentityError> {
        let key = PrivatePkcs8KeyDer::from(key.key.serialize_der());
        Self::assemble(key, CertificateDer::from(certificate.to_vec()), CertificateDer::from(authority.to_vec()))
            .map_err(IdentityError::Mismatch)
    }

    /// The identity that [`save`](Self::save) left in `dir`.
    ///
    /// # Errors
    /// [`IdentityError::Absent`], [`IdentityError::Io`] or [`IdentityError::Malformed`].
    pub fn load(dir: &Path) -> Result<Self, IdentityError> {
        let path = dir.join(IDENTITY_FILE);
        let text = read(&path)?;
        let malformed = |reason: String| IdentityError::Malformed { path: path.clone(), reason };
        let (key, certificates) = pem::read(&text).map_err(|error| malformed(error.to_string()))?;
        let [certificate, authority]: [CertificateDer<'static>; 2] =
            certificates.try_into().map_err(|_| malformed("it must hold two certificates".into()))?;
        Self::assemble(key, certificate, authority).map_err(malformed)
    }

    /// Writes key, certificate and CA into one file in `dir`, mode 0600, synced.
    ///
    /// # Errors
    /// [`IdentityError::Io`]; an older identity is then still there.
    pub fn save(&self, dir: &Path) -> Result<(), IdentityError> {
        let mut text = pem::write("PRIVATE KEY", self.key.secret_pkcs8_der());
        text.push_str(&pem::write("CERTIFICATE", &self.certificate));
        text.push_str(&pem::write("CERTIFICATE", &self.authority));
        write(&dir.join(IDENTITY_FILE), &text)
    }

    /// This node.
    pub fn node(&self) -> NodeId {
        self.named.node
    }

    /// The mesh it is of.
    pub fn mesh(&self) -> MeshId {
        self.named.mesh
    }

    /// SHA-256 of the node's public key, as in [`NodeKey::key_digest`].
    pub fn key_digest(&self) -> Digest {
        self.named.key
    }

    /// The CA certificate, DER.
    pub fn ca_certificate(&self) -> &[u8] {
        &self.authority
    }

    /// The CA certificate as PEM text: what a client's context file holds.
    pub fn ca_pem(&self) -> String {
        pem::write("CERTIFICATE", &self.authority)
    }

    /// SHA-256 of the CA certificate.
    pub fn ca_fingerprint(&self) -> Digest {
        Digest::of(&self.authority)
    }

    pub(crate) fn key(&self) -> &PrivatePkcs8KeyDer<'static> {
        &self.key
    }

    pub(crate) fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    pub(crate) fn authority(&self) -> &CertificateDer<'static> {
        &self.authority
    }

    fn assemble(
        key: PrivatePkcs8KeyDer<'static>,
        certificate: CertificateDer<'static>,
        authority: CertificateDer<'static>,
    ) -> Result<Self, String> {
        let named = certificate::named(&certificate).map_err(|error| error.to_string())?;
        let pair = KeyPair::from_pkcs8_der_and_sign_algo(&key, &PKCS_ED25519).map_err(|error| error.to_string())?;
        if pem::key_digest(&pair) != named.key {
            return Err("the certificate names another key".into());
        }
        let mesh = certificate::mesh_of_authority(&authority).map_err(|error| error.to_string())?;
        if mesh != named.mesh {
            return Err("the certificate is of another mesh than its authority".into());
        }
        certificate::check_signed(&certificate, &authority).map_err(|error| error.to_string())?;
        Ok(Self { key, certificate, authority, named })
    }
}

impl Clone for Identity {
    fn clone(&self) -> Self {
        Self {
            key: self.key.clone_key(),
            certificate: self.certificate.clone(),
            authority: self.authority.clone(),
            named: self.named,
        }
    }
}

impl fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeKey").field("digest", &self.key_digest()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("named", &self.named).finish_non_exhaustive()
    }
}

fn read(path: &Path) -> Result<String, IdentityError> {
    fs::read_to_string(path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => IdentityError::Absent { path: path.into() },
        io::ErrorKind::InvalidData => IdentityError::Malformed { path: path.into(), reason: "not text".into() },
        _ => IdentityError::Io { path: path.into(), source },
    })
}

fn write(path: &Path, text: &str) -> Result<(), IdentityError> {
    secret_file::write(path, text).map_err(|source| IdentityError::Io { path: path.into(), source })
}

/// The key alone, while the node has no certificate.
const KEY_FILE: &str = "node-key.pem";

/// Key, certificate and CA in one file, so that they change together.
const IDENTITY_FILE: &str = "identity.pem";

#[cfg(test)]
mod tests;
