//! A mesh in one thread: the real catalogue, Raft, membership, router, placement and gate, on a simulated network,
//! disk and clock.
//!
//! One seed decides everything: what callers ask, when messages arrive, which nodes crash, what a power cut leaves on
//! their disks. The same seed gives the same run, so that a failure is replayed by its number.
//!
//! **Owns** the simulated world, the faults, the record of what happened and the properties that it must have. Callers
//! call, publish and read; nodes crash, are killed, leave, come back at other addresses, join and are removed; links and disks fail; and the leader
//! sees to it that the code of every version lies on enough members.
//! **Refuses** to know the parts' insides: they are assembled by their public doors, as `node/skein` does. What runs a
//! function is a sleep: no guest, no engine. The code of a version is a few bytes on the simulated disk ([`disk`]).
//!
//! **Start reading at** [`run`], then [`node`] for what a node is made of and [`properties`] for what must hold.
//!
//! ```
//! let verdict = skein_sim::run(7, skein_sim::Planted::Nothing);
//! assert_eq!(verdict.violations, Vec::<String>::new());
//! ```

#![allow(clippy::unwrap_used, reason = "a simulation that cannot go on is to stop, loudly")]

mod artifacts;
mod copies;
pub mod disk;
pub mod executor;
pub mod faults;
mod files;
pub mod history;
mod identities;
pub mod network;
pub mod node;
pub mod operator;
mod places;
pub mod properties;
mod run;
mod wire;
mod workload;
pub mod world;

pub use run::{Extent, Verdict, run};
pub use world::Planted;
