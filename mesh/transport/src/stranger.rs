//! A connection without a certificate: what a joiner and a client have.

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use quinn::{Connection, ConnectionError, Endpoint};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use skein_proto::{Digest, ErrorCode, Failure, NodeId, Progress};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::task::AbortOnDropHandle;

use crate::{
    Address, Service,
    close::{CLOSE_DONE, dial_failure, is_foreign},
    exchange::{Request, converse, late},
    frame::{Frame, PROTOCOL_VERSION, ShownKey},
    network::hello,
    pulse::{Pulse, is_heard},
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
pub struct Stranger {
    connection: Connection,
    node: NodeId,
    /// Shown with each request of a client.
    key: Option<ShownKey>,
    pulse: Arc<Pulse>,
    /// Looks at the pulse, until this is dropped.
    _looking: AbortOnDropHandle<()>,
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
            let connection = connecting.await.map_err(|error| why_not(&whom, &error))?;
            let words = greet(&connection, &whom).await?;
            Ok::<_, Failure>((connection, words))
        };
        let (connection, words) = timeout_at(deadline, dial).await.unwrap_or_else(|_| {
            Err(Failure { message: format!("node at {addr} does not answer"), ..late(Progress::NotExecuted) })
        })?;
        let (node, _) = tls::shown(&connection)
            .ok_or_else(|| Failure::not_executed(ErrorCode::Untrusted, "the other side is no node of a mesh"))?;
        let pulse = Arc::<Pulse>::default();
        let looking = AbortOnDropHandle::new(tokio::spawn(pulse.clone().look(connection.clone(), words)));
        Ok(Self { connection, node, key: None, pulse, _looking: looking })
    }

    /// The same at an address that may be a name: whichever of those that it stands for now answers first is taken, one
    /// asked after the other.
    ///
    /// # Errors
    /// As [`Stranger::connect`].
    pub async fn connect_to(address: &Address, expect: CaPin, deadline: Instant) -> Result<Stranger, Failure> {
        let late =
            |_| Failure { message: format!("{address} was not looked up in time"), ..late(Progress::NotExecuted) };
        let found = timeout_at(deadline, address.resolve()).await.map_err(late)??;
        let mut last = None;
        for (asked, addr) in found.iter().enumerate() {
            // What is left of the time is shared by those that are left to ask.
            let left = deadline.saturating_duration_since(Instant::now());
            let share = left / u32::try_from(found.len() - asked).unwrap_or(1);
            match Self::connect(*addr, expect.clone(), Instant::now() + share).await {
                Ok(stranger) => return Ok(stranger),
                Err(failure) => last = Some(failure),
            }
        }
        let none = || Failure::not_executed(ErrorCode::Unreachable, format!("{address} stands for no address"));
        Err(last.unwrap_or_else(none))
    }

    /// The same connection, on which `key` is shown at the beginning of each call of [`Service::Client`] and
    /// [`Service::Nodes`]: the node reads nothing further of a request before it knows the key.
    #[must_use]
    pub fn with_key(mut self, key: &str) -> Self {
        self.key = Some(ShownKey(key.into()));
        self
    }

    /// The node at the other end, as its certificate says.
    pub fn node(&self) -> NodeId {
        self.node
    }

    #[cfg(test)]
    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Where the node answered.
    pub(crate) fn remote_address(&self) -> SocketAddr {
        self.connection.remote_address()
    }

    /// Whether the connection is lost, so that a new one must be made.
    pub fn is_closed(&self) -> bool {
        self.connection.close_reason().is_some()
    }

    /// Whether the node has said that it is leaving: it answers what it is sent, and others had better have what is new.
    pub fn is_leaving(&self) -> bool {
        self.pulse.signs().is_leaving
    }

    /// Whether nothing has been heard of the node for a while, though it was asked for a sign. If that lasts, the
    /// connection is closed.
    pub fn is_doubted(&self) -> bool {
        self.pulse.signs().is_doubted
    }

    /// Whether a sign of life is overdue, sooner than the node [is doubted](Self::is_doubted): what it is sent now may never
    /// reach it, so that a call that is lost with it had probably nothing to do with its end.
    pub fn is_silent(&self) -> bool {
        self.pulse.signs().is_silent
    }

    /// Whether the node gives a sign of life now that it is asked for one: a round trip, or half a second in vain.
    pub async fn is_heard(&self) -> bool {
        is_heard(&self.connection).await
    }

    /// Waits until the node is doubted.
    pub async fn doubted(&self) {
        self.pulse.doubted().await;
    }

    /// Sends a request and waits for its answer. Dropping the future cancels it at the other side. While requests wait,
    /// a node that falls silent is given up after a second and a half.
    ///
    /// # Errors
    /// What the handler answered; or `unreachable`, `peer-lost`, `deadline-exceeded`, `untrusted`, `too-large`; or
    /// `unavailable` when as many requests of this connection are under way as the node allows, and none has ended in a
    /// second.
    pub async fn call(&self, service: Service, body: Bytes, deadline: Instant) -> Result<Bytes, Failure> {
        self.ask(service, body, deadline).await?
    }

    /// The same, with what the node said apart from what this side made of its silence, which has the same codes: a node
    /// says `peer-lost` of others, and this side of it, which may be before the connection is known to have ended.
    ///
    /// # Errors
    /// As for [`Self::call`], without what the handler answered. That is inside.
    pub async fn ask(
        &self,
        service: Service,
        body: Bytes,
        deadline: Instant,
    ) -> Result<Result<Bytes, Failure>, Failure> {
        let _under_way = self.pulse.begin();
        let patience = Instant::now() + STREAM_PATIENCE;
        let Ok(opened) = timeout_at(deadline.min(patience), self.connection.open_bi()).await else {
            let message = "as many calls as the node allows this client at a time are under way";
            return Err(match deadline < patience {
                true => Failure { message: message.to_owned(), ..late(Progress::NotExecuted) },
                false => Failure::not_executed(ErrorCode::Unavailable, message).retry_after(RETRY_AFTER),
            });
        };
        let key = self.key.clone().filter(|_| service.is_for_clients());
        converse(opened, Request { service, key, body }, deadline, ANSWER_BYTES_MAX).await
    }

    /// Says goodbye. Returns when that is on its way; should it get lost, the node notices the silence.
    pub async fn close(&self) {
        let sent = || self.connection.stats().udp_tx.datagrams;
        let before = sent();
        self.connection.close(CLOSE_DONE, b"");
        let said = async {
            tokio::task::yield_now().await;
            while sent() == before {
                sleep(GOODBYE_LOOK).await;
            }
        };
        let _ = timeout(GOODBYE_TIMEOUT, said).await;
    }
}

impl std::fmt::Debug for Stranger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stranger").field("node", &self.node).finish_non_exhaustive()
    }
}

/// Why no connection came about. Where this side does not find its authority in what the other shows, that is said in
/// words, and not in those of TLS.
fn why_not(whom: &str, error: &ConnectionError) -> Failure {
    let failure = dial_failure(whom, error);
    match error {
        ConnectionError::TransportError(error) if is_foreign(u64::from(error.code)) => {
            Failure { message: format!("{whom} is of another mesh than the one that is asked for"), ..failure }
        }
        _ => failure,
    }
}

/// Makes sure that both sides speak the same protocol. What else the node has to say comes on the same stream.
async fn greet(connection: &Connection, whom: &str) -> Result<FrameReader, Failure> {
    let (sender, receiver) = connection.open_bi().await.map_err(|error| dial_failure(whom, &error))?;
    let mut sender = Sender::new(sender);
    let ours = Frame::Hello { version: PROTOCOL_VERSION, boot: 0 };
    // If it cannot be sent, the reason comes with the answer that is missing.
    let _ = sender.write_chunk(ours.to_bytes()).await;
    sender.finish();
    let mut words = FrameReader::new(receiver);
    hello(connection, &mut words, whom).await?;
    Ok(words)
}

/// The largest answer that a stranger takes.
const ANSWER_BYTES_MAX: usize = 128 << 20;

/// How long a request may wait for one of the streams that the node allows: another node had better have it then.
const STREAM_PATIENCE: Duration = Duration::from_secs(1);

/// When to try again after that.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// How long a goodbye may take to be sent, and how often to look whether it is.
const GOODBYE_TIMEOUT: Duration = Duration::from_millis(50);
const GOODBYE_LOOK: Duration = Duration::from_millis(1);
