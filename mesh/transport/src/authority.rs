//! The mesh's certificate authority: founded once, signs the certificate of every node.
//!
//! Kept by the nodes that may let others join. It keeps no list of what it signed: who is a member is the
//! catalogue's business, asked through `Trust`.

use std::{
    fmt, fs, io,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ED25519, PublicKeyData, date_time_ymd,
};
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer};
use skein_proto::{Digest, MeshId, NodeId};

use crate::{certificate, pem, secret_file};

/// The CA of one mesh: its certificate and private key. Whoever holds it can make members.
pub struct Authority {
    mesh: MeshId,
    key: KeyPair,
    certificate: CertificateDer<'static>,
}

/// From when until when a certificate holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// Not before this time.
    pub not_before: SystemTime,
    /// Not after this time.
    pub not_after: SystemTime,
}

/// The authority could not be read, or would not sign. Nothing was written; the same input fails again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuthorityError {
    /// The text is not a CA's certificate and key as [`Authority::to_pem`] writes them.
    #[error("not the key and certificate of a mesh authority: {0}")]
    Malformed(String),
    /// The request is not a signing request, or not signed with the key it names.
    #[error("not a valid certificate request: {0}")]
    BadRequest(String),
    /// The file could not be read or written; an older one is still there.
    #[error("{AUTHORITY_FILE}: {0}")]
    Io(#[from] io::Error),
    /// The key or certificate could not be made.
    #[error("certificate could not be made: {0}")]
    Make(#[source] rcgen::Error),
}

impl Authority {
    /// A new authority for a mesh that is being founded.
    ///
    /// # Errors
    /// [`AuthorityError::Make`] when the system has no randomness.
    pub fn found(mesh: MeshId) -> Result<Self, AuthorityError> {
        let key = KeyPair::generate_for(&PKCS_ED25519).map_err(AuthorityError::Make)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = common_name(certificate::authority_name(mesh));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        set_validity(&mut params, Validity::from(SystemTime::now(), AUTHORITY_LIFETIME));
        let certificate = params.self_signed(&key).map_err(AuthorityError::Make)?.der().clone();
        Ok(Self { mesh, key, certificate })
    }

    /// The authority that [`to_pem`](Self::to_pem) wrote.
    ///
    /// # Errors
    /// [`AuthorityError::Malformed`] for any other text.
    pub fn from_pem(text: &str) -> Result<Self, AuthorityError> {
        let malformed = |reason: String| AuthorityError::Malformed(reason);
        let (key, certificates) = pem::read(text).map_err(|error| malformed(error.to_string()))?;
        let certificate = certificates.into_iter().next().ok_or_else(|| malformed("no certificate".into()))?;
        let mesh = certificate::mesh_of_authority(&certificate).map_err(|error| malformed(error.to_string()))?;
        let key =
            KeyPair::from_pkcs8_der_and_sign_algo(&key, &PKCS_ED25519).map_err(|error| malformed(error.to_string()))?;
        let authority = Self { mesh, key, certificate };
        let named = certificate::key_digest(&authority.certificate).map_err(|error| malformed(error.to_string()))?;
        if named != pem::key_digest(&authority.key) {
            return Err(malformed("the key is not the certificate's".into()));
        }
        Ok(authority)
    }

    /// Key and certificate as PEM text. Secret: write it 0600.
    pub fn to_pem(&self) -> String {
        let mut text = pem::write("PRIVATE KEY", self.key.serialized_der());
        text.push_str(&pem::write("CERTIFICATE", &self.certificate));
        text
    }

    /// The authority that [`save`](Self::save) left in `dir`; none if this node holds none.
    ///
    /// # Errors
    /// [`AuthorityError::Io`] or [`AuthorityError::Malformed`].
    pub fn load(dir: &Path) -> Result<Option<Self>, AuthorityError> {
        match fs::read_to_string(dir.join(AUTHORITY_FILE)) {
            Ok(text) => Self::from_pem(&text).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes key and certificate into `dir`, mode 0600, synced.
    ///
    /// # Errors
    /// [`AuthorityError::Io`]; an older authority is then still there.
    pub fn save(&self, dir: &Path) -> Result<(), AuthorityError> {
        Ok(secret_file::write(&dir.join(AUTHORITY_FILE), &self.to_pem())?)
    }

    /// Signs the certificate of `node` for the key in a request made by [`crate::NodeKey::request`]; DER.
    ///
    /// # Errors
    /// [`AuthorityError::BadRequest`] when the request does not prove that its sender holds the key.
    pub fn sign(&self, request: &[u8], node: NodeId, validity: Validity) -> Result<Bytes, AuthorityError> {
        let request = CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(request))
            .map_err(|error| AuthorityError::BadRequest(error.to_string()))?;
        let name = certificate::node_name(node, self.mesh);
        let mut params = CertificateParams::new(vec![name.clone()]).map_err(AuthorityError::Make)?;
        params.distinguished_name = common_name(name);
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        set_validity(&mut params, validity);
        let issuer = Issuer::from_ca_cert_der(&self.certificate, &self.key).map_err(AuthorityError::Make)?;
        let certificate = params.signed_by(&request.public_key, &issuer).map_err(AuthorityError::Make)?;
        Ok(Bytes::copy_from_slice(certificate.der()))
    }

    /// SHA-256 of the public key that a signing request (DER) is for, if its sender proves to hold the key.
    ///
    /// # Errors
    /// [`AuthorityError::BadRequest`].
    pub fn key_of_request(request: &[u8]) -> Result<Digest, AuthorityError> {
        let request = CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(request))
            .map_err(|error| AuthorityError::BadRequest(error.to_string()))?;
        Ok(Digest::of(&request.public_key.subject_public_key_info()))
    }

    /// The mesh it was founded for.
    pub fn mesh(&self) -> MeshId {
        self.mesh
    }

    /// The CA certificate, DER.
    pub fn certificate(&self) -> &[u8] {
        &self.certificate
    }

    /// SHA-256 of the CA certificate: what a join token carries.
    pub fn fingerprint(&self) -> Digest {
        Digest::of(&self.certificate)
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("mesh", &self.mesh).finish_non_exhaustive()
    }
}

impl Validity {
    /// Holds from a day before `now`, since clocks differ, for `lifetime` after it.
    pub fn from(now: SystemTime, lifetime: Duration) -> Self {
        Self { not_before: now - CLOCK_SKEW, not_after: now + lifetime }
    }

    /// What a node's certificate is given: [`NODE_LIFETIME`] from now.
    pub fn of_a_node() -> Self {
        Self::from(SystemTime::now(), NODE_LIFETIME)
    }
}

fn common_name(name: String) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

fn set_validity(params: &mut CertificateParams, validity: Validity) {
    let epoch = date_time_ymd(1970, 1, 1);
    let since = |time: SystemTime| {
        // Whole seconds: X.509 times have no fractions.
        Duration::from_secs(time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs())
    };
    params.not_before = epoch + since(validity.not_before);
    params.not_after = epoch + since(validity.not_after);
}

/// How long a node's certificate holds: ten years, since nothing renews it yet and removal does not rest on expiry.
pub const NODE_LIFETIME: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// How long the authority holds: thirty years, longer than any certificate it signs.
const AUTHORITY_LIFETIME: Duration = Duration::from_secs(30 * 365 * 24 * 3600);

/// How far a node's clock may be behind the signer's.
const CLOCK_SKEW: Duration = Duration::from_secs(24 * 3600);

/// Where it is kept in a node's directory.
const AUTHORITY_FILE: &str = "authority.pem";
