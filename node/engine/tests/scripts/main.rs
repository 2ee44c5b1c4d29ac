//! What the engine promises of scripts, shown with scripts.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod errors;
mod figures;
mod isolation;
mod outward;
mod packages;
mod support;
mod values;
