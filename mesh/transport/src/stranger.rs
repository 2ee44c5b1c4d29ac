//! A connection without a certificate: what a joiner and a client have.

use std::net::SocketAddr;

use bytes::Bytes;
use skein_proto::{Digest, ErrorCode, Failure, NodeId};
use tokio::time::Instant;

use crate::Service;

/// What a stranger knows of the mesh's CA, and measures the node it meets by.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum CaPin {
    /// SHA-256 of the CA certificate, from a join token.
    Fingerprint(Digest),
    /// The CA certificate itself, DER.
    Certificate(Bytes),
}

/// A connection to one node of a mesh, by somebody without a certificate. May use [`Service::Join`] and
/// [`Service::Client`], several calls at a time.
#[derive(Debug)]
pub struct Stranger {
    node: NodeId,
}

impl CaPin {
    /// The pin of a CA certificate in PEM text, as [`crate::Identity::ca_pem`] writes it.
    ///
    /// # Errors
    /// `untrusted` when the text is no certificate.
    pub fn from_pem(text: &str) -> Result<Self, Failure> {
        let _ = text;
        Err(Failure::not_executed(ErrorCode::Untrusted, "not built yet"))
    }
}

impl Stranger {
    /// Connects to the node at `addr` and makes sure that it is of the mesh that `expect` names.
    ///
    /// # Errors
    /// `unreachable`, `untrusted`, `protocol-mismatch` or `deadline-exceeded`, all `not-executed`.
    pub async fn connect(addr: SocketAddr, expect: CaPin, deadline: Instant) -> Result<Stranger, Failure> {
        let _ = (addr, expect, deadline);
        Err(Failure::not_executed(ErrorCode::Unreachable, "not built yet"))
    }

    /// The node at the other end, as its certificate says.
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// Whether the connection is lost, so that a new one must be made.
    pub fn is_closed(&self) -> bool {
        true
    }

    /// Sends a request and waits for its answer. Dropping the future cancels it at the other side.
    ///
    /// # Errors
    /// What the handler answered; or `unreachable`, `peer-lost`, `deadline-exceeded`, `untrusted`, `too-large`.
    pub async fn call(&self, service: Service, body: Bytes, deadline: Instant) -> Result<Bytes, Failure> {
        let _ = (service, body, deadline);
        Err(Failure::not_executed(ErrorCode::Unreachable, "not built yet"))
    }

    /// Says goodbye and waits until the other side has heard it or a moment has passed.
    pub async fn close(self) {}
}
