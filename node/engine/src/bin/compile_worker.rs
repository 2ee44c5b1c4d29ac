//! A compiler's process and nothing else: for programs that embed an engine, and for its tests.

use std::process::ExitCode;

fn main() -> ExitCode {
    skein_engine::serve_compilation()
}
