//! Join tokens: what an operator carries from a mesh to a node that shall join it.

use std::{fmt, str::FromStr};

use data_encoding::BASE64URL_NOPAD;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteArray;
use skein_proto::{Digest, MeshId, codec};

/// Leave to join a mesh, with what the joiner needs to be sure that it joins the right one. Text form:
/// `skein1.` and base64url of MessagePack.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// The mesh.
    pub mesh: MeshId,
    /// SHA-256 of its CA certificate, DER.
    pub ca_fingerprint: Digest,
    /// The token's name in the catalogue.
    pub id: String,
    /// The proof; the catalogue keeps only its SHA-256.
    pub secret: [u8; 32],
    /// When it ends, in milliseconds since 1970.
    pub expires_ms: u64,
    /// Mesh addresses of nodes to ask, as `host:port`.
    pub seeds: Vec<String>,
}

/// A text that is not a join token. The same text never parses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// It does not begin with `skein1.`.
    #[error("not a join token: it must begin with `{PREFIX}`")]
    NotAToken,
    /// It was cut or changed on its way.
    #[error("join token is damaged: copy all of it")]
    Damaged,
    /// It is longer than any token Skein prints.
    #[error("join token is longer than {TEXT_BYTES_MAX} bytes")]
    TooLong,
}

impl JoinToken {
    /// A token as the mesh hands it out.
    pub fn new(mesh: MeshId, ca_fingerprint: Digest, id: String, secret: [u8; 32]) -> Self {
        Self { mesh, ca_fingerprint, id, secret, expires_ms: u64::MAX, seeds: Vec::new() }
    }

    /// The same, ending at `expires_ms`, milliseconds since 1970.
    pub fn expires_ms(mut self, expires_ms: u64) -> Self {
        self.expires_ms = expires_ms;
        self
    }

    /// The same, with the addresses of nodes to ask.
    pub fn seeds(mut self, seeds: Vec<String>) -> Self {
        self.seeds = seeds;
        self
    }

    /// Whether it has ended at `now_ms`.
    pub fn is_expired(&self, now_ms: u64) -> bool {
        now_ms >= self.expires_ms
    }

    /// What the catalogue keeps of the secret.
    pub fn secret_digest(&self) -> Digest {
        Digest::of(&self.secret)
    }
}

impl fmt::Display for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let wire = Wire {
            mesh: self.mesh,
            ca: ByteArray::new(*self.ca_fingerprint.as_bytes()),
            id: self.id.clone(),
            secret: ByteArray::new(self.secret),
            expires_ms: self.expires_ms,
            seeds: self.seeds.clone(),
        };
        let bytes = codec::encode(&wire).map_err(|_| fmt::Error)?;
        write!(f, "{PREFIX}{}", BASE64URL_NOPAD.encode(&bytes))
    }
}

impl FromStr for JoinToken {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let text = text.trim();
        if text.len() > TEXT_BYTES_MAX {
            return Err(TokenError::TooLong);
        }
        let body = text.strip_prefix(PREFIX).ok_or(TokenError::NotAToken)?;
        let bytes = BASE64URL_NOPAD.decode(body.as_bytes()).map_err(|_| TokenError::Damaged)?;
        let wire: Wire = codec::decode_whole(&bytes).map_err(|_| TokenError::Damaged)?;
        Ok(Self {
            mesh: wire.mesh,
            ca_fingerprint: Digest::from_bytes(wire.ca.into_array()),
            id: wire.id,
            secret: wire.secret.into_array(),
            expires_ms: wire.expires_ms,
            seeds: wire.seeds,
        })
    }
}

/// Without the secret: logs and panics must not hold it.
impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinToken").field("mesh", &self.mesh).field("id", &self.id).finish_non_exhaustive()
    }
}

#[derive(Serialize, Deserialize)]
struct Wire {
    mesh: MeshId,
    ca: ByteArray<32>,
    id: String,
    secret: ByteArray<32>,
    expires_ms: u64,
    seeds: Vec<String>,
}

/// What every token of this form begins with.
const PREFIX: &str = "skein1.";

/// A token with 16 long seed addresses has under 2 KiB.
const TEXT_BYTES_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn token() -> JoinToken {
        JoinToken::new(MeshId::random(), Digest::of(b"ca"), "t7".into(), [9; 32])
            .expires_ms(1_000)
            .seeds(vec!["10.0.0.1:7070".into(), "[::1]:7070".into()])
    }

    #[test]
    fn text_form_round_trips() {
        let token = token();
        let text = token.to_string();
        assert!(text.starts_with("skein1.") && text.len() < 400, "{text}");
        assert_eq!(text.parse::<JoinToken>().unwrap(), token);
        assert_eq!(format!(" {text}\n").parse::<JoinToken>().unwrap(), token);
    }

    #[test]
    fn malformed_texts_are_named() {
        let text = token().to_string();
        let check = |text: &str, error| assert_eq!(text.parse::<JoinToken>().unwrap_err(), error, "{text}");
        check("", TokenError::NotAToken);
        check("sk_1_00", TokenError::NotAToken);
        check("skein1.", TokenError::Damaged);
        check("skein1.!!!", TokenError::Damaged);
        check(&text[..text.len() - 4], TokenError::Damaged);
        for more in ["A", "AA", "AAAA", "AAAAAAAA", "=", text.as_str(), &text[PREFIX.len()..]] {
            check(&format!("{text}{more}"), TokenError::Damaged);
        }
        check(&"x".repeat(TEXT_BYTES_MAX + 1), TokenError::TooLong);
    }

    #[test]
    fn a_token_ends_at_its_time_and_hides_its_secret() {
        assert!(!token().is_expired(999) && token().is_expired(1_000));
        assert!(!format!("{:?}", token()).contains('9') || !format!("{:?}", token()).contains("secret"));
    }

    proptest! {
        #[test]
        fn any_text_parses_or_is_refused(text in "\\PC{0,200}") {
            let _ = text.parse::<JoinToken>();
            let _ = format!("skein1.{text}").parse::<JoinToken>();
        }
    }
}
