//! What one simulated node sends another: one packet is one datagram.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use skein_proto::Failure;
use skein_transport::Service;

/// A connection is known by the boot of the node that serves it: a node that restarts answers nothing that was asked of
/// it before, as with QUIC.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Packet {
    /// Who are you now?
    Hello,
    /// This boot.
    Welcome { boot: u64 },
    /// A call to that boot, repeated until it is answered.
    Ask { boot: u64, id: u64, service: Service, left_ms: u64, body: Bytes },
    /// Its answer, repeated when it is asked again.
    Answer { id: u64, outcome: Result<Bytes, Failure> },
    /// The caller has gone.
    Cancel { id: u64 },
    /// That boot is over.
    Reset { boot: u64 },
    /// A datagram of the service.
    Datagram { service: Service, body: Bytes },
}
