//! An attempt on its way to a peer.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use skein_proto::{Invocation, InvocationId, InvocationTarget, VersionId};
use tokio::time::Instant;

/// An invocation whose version is resolved. The answer is a [`skein_proto::Reply`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Attempt {
    pub(crate) id: InvocationId,
    pub(crate) version: VersionId,
    pub(crate) payload: Bytes,
    #[serde(default)]
    pub(crate) headers: Arc<[(String, String)]>,
    /// How long it may take from when it was sent: nodes' clocks need not agree. A little less than the caller has.
    pub(crate) deadline_ms: u64,
    #[serde(default)]
    pub(crate) traceparent: Option<Arc<str>>,
    #[serde(default)]
    pub(crate) depth: u8,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) chain: Vec<String>,
    /// The oldest catalogue index that may answer.
    #[serde(default)]
    pub(crate) index_min: u64,
    #[serde(default)]
    pub(crate) is_idempotent: bool,
    /// Only sent when it is set.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) is_insistent: bool,
}

impl Attempt {
    /// Longest time believed, a day: more than any function may run.
    const DEADLINE_MS_MAX: u64 = 24 * 60 * 60 * 1_000;

    pub(crate) fn new(invocation: &Invocation, version: VersionId, index_min: u64) -> Self {
        Self {
            id: invocation.id,
            version,
            payload: invocation.payload.clone(),
            headers: invocation.headers.clone(),
            deadline_ms: u64::try_from(time_there(invocation.remaining()).as_millis()).unwrap_or(u64::MAX),
            traceparent: invocation.traceparent.clone(),
            depth: invocation.depth,
            chain: invocation.chain.clone(),
            index_min,
            is_idempotent: invocation.is_idempotent,
            is_insistent: invocation.is_insistent,
        }
    }

    /// The invocation as this node's runtime takes it, to end at `deadline` at the latest.
    pub(crate) fn into_invocation(self, deadline: Instant) -> Invocation {
        let left = Duration::from_millis(self.deadline_ms.min(Self::DEADLINE_MS_MAX));
        Invocation {
            id: self.id,
            target: InvocationTarget::Version(self.version),
            payload: self.payload,
            headers: self.headers,
            deadline: deadline.min(Instant::now() + left),
            traceparent: self.traceparent,
            depth: self.depth,
            chain: self.chain,
            caller: None,
            index_min: self.index_min,
            is_idempotent: self.is_idempotent,
            is_insistent: self.is_insistent,
            was_lost: false,
        }
    }
}

/// How long a peer may take for a call whose caller has so much time: less by what its word needs to come back that the
/// time is over. Without it the caller gives up at that very moment, knows neither whether the function ran nor what it
/// logged, and takes a function that merely uses its time for a node that hangs.
///
/// The caller's own end is not put off instead: a call ends by its deadline.
fn time_there(remaining: Duration) -> Duration {
    remaining - (remaining / WAY_BACK_PART).min(WAY_BACK_MAX)
}

/// The part of a call's time that is kept for the answer's way, and the most: a way around half the world, and the moment
/// that a busy machine takes to stop a function. A caller in a hurry has its function on a near node, or nowhere.
const WAY_BACK_PART: u32 = 10;
const WAY_BACK_MAX: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use skein_proto::{FunctionId, codec};
    use uuid::Uuid;

    use super::*;

    fn attempt() -> Attempt {
        Attempt {
            id: InvocationId(Uuid::from_u128(7)),
            version: VersionId { function: FunctionId(3), number: 2 },
            payload: Bytes::from_static(b"hi"),
            headers: [("a".into(), "b".into())].into(),
            deadline_ms: 300,
            traceparent: None,
            depth: 1,
            chain: Vec::new(),
            index_min: 9,
            is_idempotent: true,
            is_insistent: false,
        }
    }

    #[test]
    fn an_attempt_has_these_golden_bytes() {
        let golden =
            b"\x89\xa2id\xc4\x10\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x07\xa7version\x82\xa8function\x03\xa6number\x02\
            \xa7payload\xc4\x02hi\xa7headers\x91\x92\xa1a\xa1b\xabdeadline_ms\xcd\x01,\xabtraceparent\xc0\xa5depth\x01\
            \xa9index_min\t\xadis_idempotent\xc3";
        let bytes = codec::encode(&attempt()).unwrap();
        assert_eq!(bytes.escape_ascii().to_string(), golden.escape_ascii().to_string());
        assert_eq!(codec::decode::<Attempt>(&bytes).unwrap(), attempt());
    }

    #[test]
    fn fields_that_came_later_may_be_missing_and_unknown_ones_are_skipped() {
        #[derive(Serialize)]
        struct Other {
            id: InvocationId,
            version: VersionId,
            payload: Bytes,
            deadline_ms: u64,
            colour: &'static str,
        }
        let Attempt { id, version, payload, deadline_ms, .. } = attempt();
        let other = Other { id, version, payload, deadline_ms, colour: "red" };
        let read: Attempt = codec::decode(&codec::encode(&other).unwrap()).unwrap();
        assert_eq!((read.id, read.index_min, read.is_idempotent), (id, 0, false));
    }

    #[test]
    fn a_peer_has_a_little_less_time_than_the_caller() {
        let there = |ms| time_there(Duration::from_millis(ms)).as_micros();
        assert_eq!([0, 1, 50, 1_000, 60_000].map(there), [0, 900, 45_000, 900_000, 59_900_000]);
    }

    #[test]
    fn how_functions_called_one_another_travels_along() {
        let sent = Attempt { chain: vec!["a/b".into()], ..attempt() };
        let read: Attempt = codec::decode(&codec::encode(&sent).unwrap()).unwrap();
        let invocation = read.into_invocation(Instant::now());
        assert_eq!((invocation.depth, invocation.chain), (1, vec!["a/b".to_owned()]));
    }

    proptest! {
        #[test]
        fn any_bytes_decode_or_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = codec::decode::<Attempt>(&bytes);
        }
    }
}
