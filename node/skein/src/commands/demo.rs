//! `skein demo`: three nodes on this machine, the examples, calls across them.

use skein_proto::Failure;

use crate::cli::Demo;

pub(super) async fn demo(command: Demo) -> Result<(), Failure> {
    let _ = command;
    Ok(())
}
