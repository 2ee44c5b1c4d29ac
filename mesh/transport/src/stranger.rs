//! A connection without a certificate: what a joiner and a client have.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use bytes::Bytes;
use quinn::{Connection, Endpoint};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use skein_proto::{Digest, ErrorCode, Failure, NodeId, Progress};
use tokio::time::{Instant, timeout, timeout_at};

use crate::{
    Service,
    close::{CLOSE_DONE, dial_failure},
    exchange::{exchange, late},
    frame::{Frame, PROTOCOL_VERSION},
    network::hello,
    quic,
    stream::{FrameReader, Sender},
    tls,
};

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
    endpoint: Endpoint,
    connection: Connection,
    node: NodeId,
}

impl CaPin {
    /// The pin of a CA certificate in PEM text, as [`crate::Identity::ca_pem`] writes it.
    ///
    /// # Errors
    /// `untrusted` when the text is no certificate.
    pub fn from_pem(text: &str) -> Result<Self, Failure> {
        CertificateDer::from_pem_slice(text.as_bytes())
            .map(|der| Self::Certificate(Bytes::copy_from_slice(&der)))
            .map_err(|error| {
                Failure::not_executed(ErrorCode::Untrusted, format!("the CA certificate cannot be read: {error}"))
            })
    }
}

impl Stranger {
    /// Connects to the node at `addr` and makes sure that it is of the mesh that `expect` names.
    ///
    /// # Errors
    /// `unreachable`, `untrusted`, `protocol-mismatch` or `deadline-exceeded`, all `not-executed`.
    pub async fn connect(addr: SocketAddr, expect: CaPin, deadline: Instant) -> Result<Stranger, Failure> {
        let unreachable = |error: String| {
            Failure::not_executed(ErrorCode::Unreachable, format!("node at {addr} cannot be reached: {error}"))
        };
        let tls = tls::stranger(expect).map_err(&unreachable)?;
        let local: SocketAddr = match addr {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let endpoint = Endpoint::client(local).map_err(|error| unreachable(error.to_string()))?;
        let config = quic::stranger(tls);
        let dial = async {
            let whom = format!("node at {addr}");
            // The name is not checked: any node of the mesh will do.
            let connecting =
                endpoint.connect_with(config, addr, "any.skein").map_err(|error| unreachable(error.to_string()))?;
            let connection = connecting.await.map_err(|error| dial_failure(&whom, &error))?;
            greet(&connection, &whom).await?;
            Ok::<_, Failure>(connection)
        };
        let connection = timeout_at(deadline, dial).await.unwrap_or_else(|_| {
            Err(Failure { message: format!("node at {addr} does not answer"), ..late(Progress::NotExecuted) })
        })?;
        let node = tls::shown_node(&connection)
            .ok_or_else(|| Failure::not_executed(ErrorCode::Untrusted, "the other side is no node of a mesh"))?;
        Ok(Self { endpoint, connection, node })
    }

    /// The node at the other end, as its certificate says.
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// Whether the connection is lost, so that a new one must be made.
    pub fn is_closed(&self) -> bool {
        self.connection.close_reason().is_some()
    }

    /// Sends a request and waits for its answer. Dropping the future cancels it at the other side.
    ///
    /// # Errors
    /// What the handler answered; or `unreachable`, `peer-lost`, `deadline-exceeded`, `untrusted`, `too-large`.
    pub async fn call(&self, service: Service, body: Bytes, deadline: Instant) -> Result<Bytes, Failure> {
        exchange(&self.connection, service, body, deadline, ANSWER_BYTES_MAX).await
    }

    /// Says goodbye and waits until the other side has heard it or a moment has passed.
    pub async fn close(self) {
        self.connection.close(CLOSE_DONE, b"");
        let _ = timeout(GOODBYE_TIMEOUT, self.endpoint.wait_idle()).await;
    }
}

/// Makes sure that both sides speak the same protocol.
async fn greet(connection: &Connection, whom: &str) -> Result<(), Failure> {
    let (sender, receiver) = connection.open_bi().await.map_err(|error| dial_failure(whom, &error))?;
    let mut sender = Sender::new(sender);
    let ours = Frame::Hello { version: PROTOCOL_VERSION, boot: 0 };
    // If it cannot be sent, the reason comes with the answer that is missing.
    let _ = sender.write_chunk(ours.to_bytes()).await;
    sender.finish();
    hello(connection, &mut FrameReader::new(receiver), whom).await.map(drop)
}

/// The largest answer that a stranger takes.
const ANSWER_BYTES_MAX: usize = 128 << 20;

/// How long a goodbye may take.
const GOODBYE_TIMEOUT: std::time::Duration = std::time::Duration::from_millis(500);
