//! Who is alive and how loaded, as this node sees it.
//!
//! **Owns** the gossip view: SWIM failure detection (foca) over the transport's datagrams, and the load digests that
//! nodes send one another. And the [`AddressBook`]: where the members are reached, by their own signed word, passed on
//! from one to another without a majority.
//!
//! **Refuses** authority: the catalogue says who *may* serve, membership says who *does* now. It never writes to the
//! catalogue, and it listens to nobody whom the catalogue has not named to it ([`Membership::announce`],
//! [`Membership::retain`]).
//!
//! **Start reading at** [`Membership`], then `swim` for the decisions and `digest` for the wire.
//!
//! ```
//! use skein_membership::{Config, View};
//!
//! // A dead node is given up within two seconds, by default.
//! assert!(Config::default().down_after_ms < 2_000);
//! assert_eq!(View::default().alive().count(), 0);
//! ```

mod addresses;
mod config;
mod digest;
mod heartbeat;
mod identity;
mod membership;
pub mod metrics;
mod roster;
mod swim;
#[cfg(test)]
mod tests;
mod view;

pub use addresses::{AddressBook, Addressed, Records};
pub use config::Config;
pub use membership::Membership;
pub use view::{Peer, PeerState, View};
