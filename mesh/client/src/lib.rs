//! Calls functions of a Skein mesh from a Rust program.
//!
//! **Owns** the [`Context`] file that says how to reach a mesh, the [`Mesh`] handle with its connections and fail-over,
//! the messages between client and node ([`wire`]), and the node's half of that talk ([`server`]).
//!
//! **Refuses** to resolve names or choose nodes for a call: any node takes any call, and the one it reaches finds the
//! right place. It repeats a call by itself only when the failure says that nothing ran, or when the caller has said
//! that running twice does no harm.
//!
//! **When a node leaves, dies or is full.** A node that leaves says so, answers what it has been sent, and gets nothing
//! new. One that falls silent is doubted after half a second and given up within two, however long the deadline: new
//! calls go elsewhere at once, those that are [`idempotent`](Function::idempotent) are tried elsewhere beside it, and
//! the others end as `peer-lost`, `maybe-executed`. A call that is lost with two nodes is tried on no third: it may be
//! what ends them. If several nodes to which there are connections fall silent at once, it waits within its deadline until
//! one of the others can be reached anew; a client with one connection dials the other nodes, for two seconds each. What a
//! node refuses because it is full, or because the mesh can do no more, is tried again when the answer says, three times at
//! most and within one budget for all calls of the client. Which nodes there are the mesh tells its clients: the context
//! need name only some of them.
//!
//! **Start reading at** [`Mesh`], then [`Function`].
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use serde::{Deserialize, Serialize};
//! use skein_client::{Context, Mesh};
//!
//! #[derive(Serialize)]
//! struct Basket {
//!     items: Vec<String>,
//! }
//!
//! #[derive(Deserialize)]
//! struct Price {
//!     cents: u64,
//! }
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let mesh = Mesh::connect(Context::load("/var/lib/skein/context.toml")?).await?;
//! let price = mesh.function("shop/price")?.deadline(Duration::from_millis(500)).idempotent();
//! let Price { cents } = price.call(&Basket { items: vec!["tea".into()] }).await?;
//! println!("{cents} cents");
//! mesh.close().await;
//! # Ok(())
//! # }
//! ```

mod beside;
mod context;
mod function;
mod link;
mod mesh;
mod next;
mod nodes;
mod race;
pub mod server;
#[cfg(test)]
mod testing;
pub mod wire;

pub use context::{Context, ContextError, ContextNode};
pub use function::{Function, Reply};
pub use mesh::Mesh;
pub use skein_proto::{ErrorCode, Failure, FunctionRef, InvocationId, ParseError, Progress, Start, Usage};
