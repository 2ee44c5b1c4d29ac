//! The HTTP requests that functions send: the one way out of a node that is not to a peer.
//!
//! **Owns** the HTTP client and its connections, which redirects are followed, which addresses are reached, how much of
//! an answer is taken, and how much of all that one app may have.
//!
//! **Refuses** what a version was not granted, at the first request and at every redirect; addresses of the node's own
//! networks, unless a grant names the very host; proxies of the environment, which would hide where a request goes;
//! cookies, which would tie calls together.
//!
//! Certificates are checked against Mozilla's roots, which are built in, so that every node of a mesh gives the same
//! answer and an empty container gives one at all; [`EgressConfig::roots_pem`] adds an organisation's own.
//!
//! **Start reading at** [`HttpEgress::send`].
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use skein_egress::{EgressConfig, HttpEgress};
//! use skein_engine::HttpRequest;
//! use skein_proto::Grants;
//! use tokio::time::Instant;
//!
//! async fn fetch() -> Result<(), Box<dyn std::error::Error>> {
//!     let egress = HttpEgress::new(EgressConfig::default())?;
//!     let grants = Grants { http: vec!["https://api.example.com".into()], ..Grants::default() };
//!     let request = HttpRequest::new("GET", "https://api.example.com/v1", Default::default(), 1 << 20);
//!     let answer = egress.send(request, &"shop".parse()?, &grants, Instant::now() + Duration::from_secs(3)).await?;
//!     assert_eq!(answer.status, 200);
//!     Ok(())
//! }
//! ```

mod address;
mod body;
mod config;
mod egress;
mod fault;
mod hop;
mod share;

pub use config::EgressConfig;
pub use egress::HttpEgress;
