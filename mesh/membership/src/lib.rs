//! Who is alive and how loaded, as this node sees it.
//!
//! **Owns** the gossip view: SWIM failure detection (foca) over the transport's datagrams, and the load digests that
//! nodes send one another. And the [`AddressBook`]: where the members are reached, by their own signed word, passed on
//! from one to another without a majority. And what is made of the catalogue for that: who is trusted, with whom a member
//! has vouched for ([`Members`]), and where each may be ([`places()`]).
//!
//! **Refuses** authority: the catalogue says who *may* serve, membership says who *does* now. It reads the catalogue where
//! it is given one, never writes to it, and it listens to nobody whom the catalogue has not named to it ([`Membership::announce`],
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
mod members;
mod membership;
pub mod metrics;
mod places;
mod roster;
mod swim;
#[cfg(test)]
mod tests;
mod view;

pub use addresses::{AddressBook, Addressed, Records};
pub use config::Config;
pub use members::{KnownPeer, Members, Told};
pub use membership::Membership;
pub use places::places;
pub use view::{Peer, PeerState, View};
