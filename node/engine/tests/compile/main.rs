//! Compiling: in tiers, in a process of its own, within bounds; and what of it is kept.
#![allow(clippy::unwrap_used, reason = "tests")]

mod bombs;
mod measure;
mod sharing;
mod support;
mod tiers;
mod worker;
