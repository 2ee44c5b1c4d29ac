//! What a datagram looks like: a kind, then a SWIM message or a load digest.
//!
//! Digests go directly to every peer, not as foca's custom broadcasts. Those are passed on `max_transmissions` times
//! by everybody and share each datagram's 1,100 bytes with the membership's own news: in a mesh of a hundred, two
//! hundred digests of some 300 bytes a second would queue for room that takes three at a time, and arrive seconds
//! old, several hops late. Sent directly a digest arrives in one hop, the newest always first, a lost one is replaced
//! by the next, and its arrival is the sender's heartbeat. The price, a datagram per peer and period, is bounded by
//! `Config::digest_peers_max`.

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use skein_proto::{Load, codec};
use skein_transport::DATAGRAM_BYTES_MAX;

/// The first byte of a datagram. A kind names a format: a changed format is a new kind, and unknown ones are skipped.
const KIND_SWIM: u8 = 1;
const KIND_DIGEST: u8 = 2;

/// Room for foca's message behind the kind.
pub(crate) const SWIM_BYTES_MAX: usize = DATAGRAM_BYTES_MAX - 1;

/// One node's figures, and the life of it they belong to. The last writer by `(incarnation, sequence)` wins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Digest {
    pub(crate) incarnation: u64,
    pub(crate) sequence: u64,
    /// The incarnation by which the sender knows the receiver; a node whose clock went back learns from it what it
    /// has to beat.
    #[serde(default)]
    pub(crate) known: u64,
    /// Whether the sender hears the receiver. Where it does not, the receiver is heard by nobody there, whatever it hears
    /// itself: the way is open in one direction only, and no call would come back.
    #[serde(default = "is_heard")]
    pub(crate) is_heard: bool,
    pub(crate) load: Load,
}

/// What a peer of an older release, which does not say, is taken to mean.
fn is_heard() -> bool {
    true
}

/// A datagram, read as far as this crate reads it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Datagram<'a> {
    /// For foca.
    Swim(&'a [u8]),
    /// A peer's figures.
    Digest(Box<Digest>),
}

pub(crate) fn read(bytes: &[u8]) -> Option<Datagram<'_>> {
    match bytes.split_first()? {
        (&KIND_SWIM, body) => Some(Datagram::Swim(body)),
        (&KIND_DIGEST, body) => codec::decode(body).ok().map(|digest| Datagram::Digest(Box::new(digest))),
        _ => None,
    }
}

pub(crate) fn swim(body: &[u8]) -> Bytes {
    with_kind(KIND_SWIM, body)
}

impl Digest {
    /// The datagram. Names as many warm versions as fit; the busiest come first, so the last are left out.
    pub(crate) fn to_datagram(&self) -> Option<Bytes> {
        let mut digest = self.clone();
        digest.keep(Load::WARM_MAX);
        loop {
            let body = codec::encode(&digest).ok()?;
            if body.len() < DATAGRAM_BYTES_MAX {
                return Some(with_kind(KIND_DIGEST, &body));
            }
            if digest.load.warm.is_empty() {
                return None;
            }
            digest.keep(digest.load.warm.len() / 2);
        }
    }

    fn keep(&mut self, warm: usize) {
        self.load.warm.truncate(warm);
        self.load.warm_percent.truncate(warm);
    }
}

fn with_kind(kind: u8, body: &[u8]) -> Bytes {
    let mut datagram = BytesMut::with_capacity(1 + body.len());
    datagram.put_u8(kind);
    datagram.put_slice(body);
    datagram.freeze()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_largest_digest_fits_one_datagram() {
        // Four thousand million functions: all that may be named are.
        assert_eq!(versions_told((u64::from(u32::MAX), u64::from(u32::MAX))), (Load::WARM_MAX, Load::WARM_MAX));
        // More than any mesh will ever have: fewer are, but the digest goes out.
        assert_eq!(versions_told((u64::MAX, u64::MAX)), (Load::WARM_MAX / 2, Load::WARM_MAX / 2));
    }

    fn versions_told(id: (u64, u64)) -> (usize, usize) {
        let load = Load {
            in_flight: u32::MAX,
            queued: u32::MAX,
            queue_age_ms: u32::MAX,
            busy_percent: u32::MAX,
            cpu_permille: u16::MAX,
            memory_mib: u32::MAX,
            memory_budget_mib: u32::MAX,
            activations: u32::MAX,
            applied_index: u64::MAX,
            is_draining: true,
            warm: vec![id; Load::WARM_MAX + 10],
            warm_percent: vec![u16::MAX; Load::WARM_MAX + 10],
        };
        let digest = Digest { incarnation: u64::MAX, sequence: u64::MAX, known: u64::MAX, is_heard: true, load };
        let datagram = digest.to_datagram().unwrap();
        assert!(datagram.len() <= DATAGRAM_BYTES_MAX, "{} bytes", datagram.len());
        let Some(Datagram::Digest(read)) = read(&datagram) else { panic!("not a digest") };
        (read.load.warm.len(), read.load.warm_percent.len())
    }

    #[test]
    fn unknown_kinds_are_not_read() {
        assert_eq!(read(&[]), None);
        assert_eq!(read(&[9, 1, 2]), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes);
        }
    }
}
