//! The gateway over real sockets, with fakes behind its three seams.
#![allow(clippy::unwrap_used, reason = "helpers of tests are not inside test functions")]

mod abuse;
mod admin;
mod calls;
mod fakes;
mod fixture;
mod keys;
mod raw;
mod shutdown;
