//! What the network counts.

use metrics::{Counter, Gauge, Unit, counter, describe_counter, describe_gauge, gauge};

/// Connections open now, by `side`: dialed or accepted.
pub const CONNECTIONS: &str = "skein_transport_open_connections";
/// Calls that were sent, by `side`: made or served.
pub const CALLS: &str = "skein_transport_calls_total";
/// Bodies' bytes, by `direction`: sent or received.
pub const BYTES: &str = "skein_transport_body_bytes_total";
/// Frames that could not be read; each ended its stream.
pub const BAD_FRAMES: &str = "skein_transport_bad_frames_total";
/// Accepted connections that never showed who they are: foreign, removed, or too slow.
pub const HANDSHAKE_FAILURES: &str = "skein_transport_handshake_failures_total";
/// Dials that failed.
pub const DIAL_FAILURES: &str = "skein_transport_dial_failures_total";
/// Calls refused because a bound was reached.
pub const OVERLOADS: &str = "skein_transport_overloads_total";
/// Peers that did not answer when they were dialed, or from which nothing has been heard for a while.
pub const DOUBTED_PEERS: &str = "skein_transport_doubted_peers";
/// Datagrams that were dropped before they were sent.
pub const DROPPED_DATAGRAMS: &str = "skein_transport_dropped_datagrams_total";

/// The counters, looked up once.
#[derive(Clone)]
pub(crate) struct Metrics {
    pub(crate) dialed: Gauge,
    pub(crate) accepted: Gauge,
    pub(crate) made: Counter,
    pub(crate) served: Counter,
    pub(crate) sent_bytes: Counter,
    pub(crate) received_bytes: Counter,
    pub(crate) bad_frames: Counter,
    pub(crate) handshake_failures: Counter,
    pub(crate) dial_failures: Counter,
    pub(crate) overloads: Counter,
    pub(crate) dropped_datagrams: Counter,
    pub(crate) doubted: Gauge,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        describe_gauge!(CONNECTIONS, Unit::Count, "connections open now");
        describe_counter!(CALLS, Unit::Count, "calls made to and served for others");
        describe_counter!(BYTES, Unit::Bytes, "bytes of request and reply bodies");
        describe_counter!(BAD_FRAMES, Unit::Count, "frames that could not be read");
        describe_counter!(HANDSHAKE_FAILURES, Unit::Count, "accepted connections that did not show who they are");
        describe_counter!(DIAL_FAILURES, Unit::Count, "connections that could not be made");
        describe_counter!(OVERLOADS, Unit::Count, "calls refused at a bound");
        describe_gauge!(DOUBTED_PEERS, Unit::Count, "peers that calls avoid: nothing is heard from them");
        describe_counter!(DROPPED_DATAGRAMS, Unit::Count, "datagrams dropped before they were sent");
        Self {
            dialed: gauge!(CONNECTIONS, "side" => "dialed"),
            accepted: gauge!(CONNECTIONS, "side" => "accepted"),
            made: counter!(CALLS, "side" => "made"),
            served: counter!(CALLS, "side" => "served"),
            sent_bytes: counter!(BYTES, "direction" => "sent"),
            received_bytes: counter!(BYTES, "direction" => "received"),
            bad_frames: counter!(BAD_FRAMES),
            handshake_failures: counter!(HANDSHAKE_FAILURES),
            dial_failures: counter!(DIAL_FAILURES),
            overloads: counter!(OVERLOADS),
            dropped_datagrams: counter!(DROPPED_DATAGRAMS),
            doubted: gauge!(DOUBTED_PEERS),
        }
    }
}

/// A gauge that goes down when this is dropped.
pub(crate) struct Counted(Gauge);

impl Counted {
    pub(crate) fn new(gauge: &Gauge) -> Self {
        gauge.increment(1.0);
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}
