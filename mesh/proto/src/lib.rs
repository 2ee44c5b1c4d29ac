//! The words that Skein's parts exchange, and how they look on the wire.
//!
//! **Owns** typed ids and names, [`FunctionRef`], [`Digest`], [`Invocation`] and [`Reply`], the
//! [`Manifest`] of a version, [`Failure`] with its stable [`ErrorCode`]s, the [`Invoke`] seam and the
//! rmp-serde [`codec`].
//!
//! **Refuses** behaviour: nothing here opens a socket, reads a clock or keeps state. A type enters only
//! when two crates exchange it.
//!
//! **Start reading at** [`Invoke`], then [`Failure`].
//!
//! ```
//! use skein_proto::{FunctionRef, Target};
//!
//! let target: FunctionRef = "shop/price@3".parse()?;
//! assert_eq!(target.app.as_str(), "shop");
//! assert_eq!(target.target, Target::Version(3));
//! # Ok::<(), skein_proto::ParseError>(())
//! ```

pub mod codec;
mod digest;
mod error_code;
mod failure;
mod grant;
mod id;
mod invocation;
mod load;
mod manifest;
mod name;
mod reference;
mod scale;

pub use digest::Digest;
pub use error_code::ErrorCode;
pub use failure::{Failure, Progress};
pub use grant::{HttpGrant, InvokeGrant};
pub use id::{FunctionId, InvocationId, MeshId, NodeId, VersionId};
pub use invocation::{ColdCause, Invocation, InvocationTarget, Invoke, Reply, Start, Tier, Usage};
pub use load::Load;
pub use manifest::{Abi, Grants, InstancePolicy, Limits, Manifest, Snapshot};
pub use name::{AliasName, AppName, FunctionName, NodeName, ParseError};
pub use reference::{FunctionRef, Target};
pub use scale::{Between, Day, Scale, WeekMinute, Window};
