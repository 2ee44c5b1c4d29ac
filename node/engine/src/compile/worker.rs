//! The compiler's process: reads one request from stdin, writes its answer to stdout, ends.
//!
//! It holds itself to its bounds, and gives up what it has no use for ([`sandbox`]), before it reads any code.
//! Whatever the code makes of the compiler then ends with the process, and is the parent's to tell.

use std::{
    io::{self, Read as _, Write as _},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use super::{
    Cause, Failed, fingerprint,
    frame::{self, Answer, Request},
    native::{self, Effort},
    sandbox,
    sys::{self, Bounds},
};

/// Compiles one module for the engine that started this process: what a [`WorkerCommand`](crate::WorkerCommand) runs.
/// Call it first of all in `main`, before threads are started and files opened. Stdin and stdout must be pipes.
pub fn serve_compilation() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}; this command is for the engine's own use");
            ExitCode::FAILURE
        }
    }
}

fn serve() -> io::Result<()> {
    let mut input = io::stdin().lock();
    let request: Request = frame::read(&mut input)?;
    sys::confine(Bounds {
        memory_bytes: request.memory_bytes,
        cpu: Duration::from_millis(request.cpu_ms),
        nice: request.nice,
    })?;
    // Before a byte of the code is read.
    let missing = sandbox::enter();
    let answer = compile(&request, &mut input);
    let mut output = io::stdout().lock();
    match answer {
        Ok(artefact) => {
            let artefact_bytes = artefact.len() as u64;
            output.write_all(&frame::encode(&Answer::Compiled { artefact_bytes, missing })?)?;
            output.write_all(&artefact)?;
        }
        Err(mut failed) => {
            // An answer must fit its header.
            failed.message = failed.message.chars().take(MESSAGE_CHARS_MAX).collect();
            output.write_all(&frame::encode(&Answer::Failed(failed))?)?;
        }
    }
    output.flush()
}

fn compile(request: &Request, input: &mut impl io::Read) -> Result<Vec<u8>, Failed> {
    if request.fingerprint != fingerprint() {
        return Err(Failed::new(Cause::Garbage, "the compiler's process is of another release; restart the node"));
    }
    let mut code = Vec::new();
    let read = input.take(request.code_bytes).read_to_end(&mut code);
    if read.is_err() || code.len() as u64 != request.code_bytes {
        return Err(Failed::new(Cause::Garbage, "the code did not reach the compiler's process"));
    }
    let effort = Effort {
        threads: request.threads,
        time_max: Duration::from_millis(request.time_ms),
        is_cancelled: Arc::default(),
    };
    native::compile(&code, request.tier, &effort)
}

const MESSAGE_CHARS_MAX: usize = 4_000;
