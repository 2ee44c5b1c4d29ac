//! Ids that Skein gives: of the mesh, its nodes, functions, versions and invocations.

use std::{
    fmt,
    str::FromStr,
    time::{SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::ParseError;

/// A mesh, from its founding on. Nodes of another mesh are refused by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MeshId(pub Uuid);

/// A member of the mesh; counted from 1 by the catalogue and never used twice, since openraft's safety rests on it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeId(pub u64);

/// A function; counted by the catalogue and never used twice, so that a function that was deleted and created anew
/// shares nothing with its predecessor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FunctionId(pub u64);

/// One immutable version of a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct VersionId {
    /// The function.
    pub function: FunctionId,
    /// Its version, counted from 1.
    pub number: u64,
}

/// One logical call, whatever attempts it takes. A UUIDv7 (RFC 9562), so ids sort by time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct InvocationId(pub Uuid);

impl MeshId {
    /// An id for a mesh that is being founded.
    pub fn random() -> Self {
        Self(Uuid::now_v7())
    }
}

impl InvocationId {
    /// An id for a new invocation. Drawn from the thread's own generator: asking the kernel for random bytes with every
    /// call takes longer than some calls do.
    pub fn random() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let millis = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        Self(uuid::Builder::from_unix_timestamp_millis(millis, &rand::random()).into_uuid())
    }
}

macro_rules! text {
    ($type:ident, $inner:ty, $what:literal) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl FromStr for $type {
            type Err = ParseError;

            fn from_str(text: &str) -> Result<Self, ParseError> {
                text.parse::<$inner>()
                    .map(Self)
                    .map_err(|_| ParseError::new($what, text, "not of the form Skein prints"))
            }
        }
    };
}

text!(MeshId, Uuid, "mesh id");
text!(NodeId, u64, "node id");
text!(FunctionId, u64, "function id");
text!(InvocationId, Uuid, "invocation id");

impl fmt::Display for VersionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.function, self.number)
    }
}
