//! Calls functions of a Skein mesh from a Rust program.
//!
//! **Owns** the [`Context`] file that says how to reach a mesh, the [`Mesh`] handle with its connections and fail-over,
//! the messages between client and node ([`wire`]), and the node's half of that talk ([`server`]).
//!
//! **Refuses** to resolve names or choose nodes for a call: any node takes any call, and the one it reaches finds the
//! right place. It repeats a call by itself only when the failure says that nothing ran, or when the caller has said
//! that running twice does no harm.
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

mod context;
mod function;
mod link;
mod mesh;
pub mod server;
#[cfg(test)]
mod testing;
pub mod wire;

pub use context::{Context, ContextError, ContextNode};
pub use function::{Function, Reply};
pub use mesh::Mesh;
