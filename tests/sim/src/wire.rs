//! What one simulated node sends another: one packet is one datagram.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use skein_proto::{Failure, NodeId};
use skein_transport::Service;

/// A packet on its way.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Frame {
    /// Who sends it, as TLS would prove.
    pub(crate) from: NodeId,
    /// Which of its starts that is.
    pub(crate) boot: u64,
    /// Where it is, and so where an answer goes.
    pub(crate) place: u16,
    /// Whom it is for; nobody else takes it. Without one it is for whoever is there.
    pub(crate) to: Option<NodeId>,
    /// Where it goes. Who has moved away meanwhile does not get it.
    pub(crate) at: u16,
    /// A [`Packet`].
    pub(crate) packet: Bytes,
}

/// A connection is known by the boot of the node that serves it: a node that restarts answers nothing that was asked of
/// it before, as with QUIC.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Packet {
    /// Are you the node that this is for? Or, where it is for nobody in particular: who are you?
    Hello { is_meeting: bool },
    /// I am, and believe that you are a member; or, to who asked without a name: this is who I am.
    Welcome { is_meeting: bool },
    /// A call to that boot, repeated until it is answered.
    Ask { boot: u64, id: u64, service: Service, left_ms: u64, body: Bytes },
    /// Its answer, repeated when it is asked again.
    Answer { id: u64, outcome: Result<Bytes, Failure> },
    /// The caller has gone.
    Cancel { id: u64 },
    /// That boot is over.
    Reset { boot: u64 },
    /// A datagram of the service, to that boot.
    Datagram { boot: u64, service: Service, body: Bytes },
}
