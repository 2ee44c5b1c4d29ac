//! TLS 1.3 for QUIC: who must show what, and what is believed.
//!
//! A peer shows a certificate signed by the mesh's CA, is the node it was dialed as, and is trusted by the
//! catalogue. Tickets and early data are off: each handshake asks anew, and nothing can be replayed.

use std::sync::Arc;

use quinn::crypto::rustls::{HandshakeData, QuicClientConfig, QuicServerConfig};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme,
    client::{
        Resumption, WebPkiServerVerifier,
        danger::{DangerousClientConfigBuilder, HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor,
    },
    crypto::{CryptoProvider, ring, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime},
    server::{
        ParsedCertificate, WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};
use skein_proto::{Digest, MeshId, NodeId};

use crate::{CaPin, Identity, Trust, certificate};

/// How this node answers: with its certificate, to peers with theirs and to strangers with none.
pub(crate) fn server(identity: &Identity, trust: Arc<dyn Trust>) -> Result<QuicServerConfig, String> {
    let roots = certificate::roots(identity.authority()).map_err(text)?;
    let chain = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
        .allow_unauthenticated()
        .build()
        .map_err(text)?;
    let members = Members { mesh: identity.mesh(), trust };
    let mut config = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(text)?
        .with_client_cert_verifier(Arc::new(ClientVerifier { chain, members }))
        .with_single_cert(own_chain(identity), own_key(identity))
        .map_err(text)?;
    config.alpn_protocols = vec![ALPN_PEER.to_vec(), ALPN_STRANGER.to_vec()];
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    QuicServerConfig::try_from(config).map_err(text)
}

/// How this node dials peers.
pub(crate) fn peer(identity: &Identity, trust: Arc<dyn Trust>) -> Result<QuicClientConfig, String> {
    let roots = certificate::roots(identity.authority()).map_err(text)?;
    let chain = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider()).build().map_err(text)?;
    let members = Members { mesh: identity.mesh(), trust };
    let config = client_builder()?
        .with_custom_certificate_verifier(Arc::new(PeerVerifier { chain, members }))
        .with_client_auth_cert(own_chain(identity), own_key(identity))
        .map_err(text)?;
    client(config, ALPN_PEER)
}

/// How somebody without a certificate dials a node whose CA it knows.
pub(crate) fn stranger(pin: CaPin) -> Result<QuicClientConfig, String> {
    let config =
        client_builder()?.with_custom_certificate_verifier(Arc::new(PinVerifier { pin })).with_no_client_auth();
    client(config, ALPN_STRANGER)
}

/// Who is at the other end of an accepted connection.
pub(crate) enum Shown {
    Stranger,
    /// A member, by its certificate, and the digest of its key.
    Peer(NodeId, Digest),
}

/// Who is at the other end of an accepted connection; none for a peer that showed no certificate.
pub(crate) fn caller(connection: &quinn::Connection) -> Option<Shown> {
    let handshake = connection.handshake_data()?.downcast::<HandshakeData>().ok()?;
    match handshake.protocol?.as_slice() {
        ALPN_STRANGER => Some(Shown::Stranger),
        ALPN_PEER => shown(connection).map(|(node, key)| Shown::Peer(node, key)),
        _ => None,
    }
}

/// The node that the other end's certificate names, and the digest of its key; both were verified in the handshake.
pub(crate) fn shown(connection: &quinn::Connection) -> Option<(NodeId, Digest)> {
    let chain = connection.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    let named = certificate::named(chain.first()?).ok()?;
    Some((named.node, named.key))
}

/// The mesh and its catalogue's opinion.
struct Members {
    mesh: MeshId,
    trust: Arc<dyn Trust>,
}

impl Members {
    fn check(&self, leaf: &CertificateDer<'_>) -> Result<(), Error> {
        let named = certificate::named(leaf).map_err(|_| refused())?;
        let is_member = named.mesh == self.mesh && self.trust.is_trusted(named.node, named.key);
        is_member.then_some(()).ok_or_else(refused)
    }

    /// The same, or one that was removed: an alert could not tell it so, and it would take it for a broken network.
    fn check_caller(&self, leaf: &CertificateDer<'_>) -> Result<(), Error> {
        let named = certificate::named(leaf).map_err(|_| refused())?;
        let has_left = named.mesh == self.mesh && self.trust.has_left(named.node);
        if has_left { Ok(()) } else { self.check(leaf) }
    }
}

/// What a dialer believes: the CA's signature, the name it dialed, and the catalogue.
struct PeerVerifier {
    chain: Arc<WebPkiServerVerifier>,
    members: Members,
}

/// What an acceptor believes of a certificate, if one is shown.
struct ClientVerifier {
    chain: Arc<dyn ClientCertVerifier>,
    members: Members,
}

/// What a stranger believes: any node that the pinned CA signed.
#[derive(Debug)]
struct PinVerifier {
    pin: CaPin,
}

impl ServerCertVerifier for PeerVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self.chain.verify_server_cert(leaf, intermediates, name, ocsp, now)?;
        self.members.check(leaf)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(refused())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, leaf, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

impl ClientCertVerifier for ClientVerifier {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.chain.verify_client_cert(leaf, intermediates, now)?;
        self.members.check_caller(leaf)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(refused())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, leaf, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

impl PinVerifier {
    fn authority(&self, intermediates: &[CertificateDer<'_>]) -> Result<CertificateDer<'static>, Error> {
        match &self.pin {
            CaPin::Certificate(der) => Ok(CertificateDer::from(der.to_vec())),
            CaPin::Fingerprint(digest) => intermediates
                .iter()
                .find(|shown| Digest::of(shown) == *digest)
                .map(|shown| shown.clone().into_owned())
                .ok_or(Error::InvalidCertificate(CertificateError::UnknownIssuer)),
        }
    }
}

impl ServerCertVerifier for PinVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let authority = self.authority(intermediates)?;
        let roots = certificate::roots(&authority).map_err(|_| refused())?;
        let parsed = ParsedCertificate::try_from(leaf)?;
        verify_server_cert_signed_by_trust_anchor(&parsed, &roots, &[], now, certificate::algorithms())?;
        certificate::named(leaf).map_err(|_| refused())?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(refused())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, leaf, signed, &ring::default_provider().signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

impl std::fmt::Debug for PeerVerifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PeerVerifier").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for ClientVerifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientVerifier").finish_non_exhaustive()
    }
}

fn client_builder() -> Result<DangerousClientConfigBuilder, String> {
    let builder = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(text)?;
    Ok(builder.dangerous())
}

fn client(mut config: rustls::ClientConfig, alpn: &[u8]) -> Result<QuicClientConfig, String> {
    config.alpn_protocols = vec![alpn.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    QuicClientConfig::try_from(config).map_err(text)
}

/// ring, with AES-128-GCM first: measured fastest; ChaCha20 stays for machines without AES instructions.
fn provider() -> Arc<CryptoProvider> {
    let mut provider = ring::default_provider();
    provider.cipher_suites =
        vec![ring::cipher_suite::TLS13_AES_128_GCM_SHA256, ring::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256];
    Arc::new(provider)
}

/// The leaf and the CA: a stranger finds the CA it has pinned in there.
fn own_chain(identity: &Identity) -> Vec<CertificateDer<'static>> {
    vec![identity.certificate().clone(), identity.authority().clone()]
}

fn own_key(identity: &Identity) -> PrivateKeyDer<'static> {
    PrivateKeyDer::Pkcs8(identity.key().clone_key())
}

fn refused() -> Error {
    Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure)
}

fn text(error: impl ToString) -> String {
    error.to_string()
}

/// What peers agree on: mutual TLS.
pub(crate) const ALPN_PEER: &[u8] = b"skein/1";

/// What strangers ask for: no certificate of theirs, and only the services that strangers may use.
pub(crate) const ALPN_STRANGER: &[u8] = b"skein-client/1";

#[cfg(test)]
pub(crate) use self::forged::{stranger_showing, without_certificate};

#[cfg(test)]
mod forged {
    //! Configurations that only an attacker would have.

    use super::*;

    /// Believes any authority and shows `identity` as a peer would.
    pub(crate) fn stranger_showing(identity: &Identity, pin: CaPin) -> Result<QuicClientConfig, String> {
        let config = client_builder()?
            .with_custom_certificate_verifier(Arc::new(PinVerifier { pin }))
            .with_client_auth_cert(own_chain(identity), own_key(identity))
            .map_err(text)?;
        client(config, ALPN_PEER)
    }

    /// Asks for a peer's rights without showing who it is.
    pub(crate) fn without_certificate(pin: CaPin) -> Result<QuicClientConfig, String> {
        let config =
            client_builder()?.with_custom_certificate_verifier(Arc::new(PinVerifier { pin })).with_no_client_auth();
        client(config, ALPN_PEER)
    }
}
