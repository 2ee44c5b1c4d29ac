//! `wasi:http/proxy` that answers with the request's body: the equivalent, for `wasmtime serve`, of the echo that the
//! gateway benchmark calls through Skein. It does no more than it must, and has no standard library, so that no adapter
//! module has to be instantiated beside it.
#![no_std]

use wasip2::{
    exports::http::incoming_handler::Guest,
    http::types::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam},
    io::streams::StreamError,
};

#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    core::arch::wasm32::unreachable()
}

/// Most bytes asked for at a time.
const CHUNK: u64 = 64 << 10;

struct Echo;

impl Guest for Echo {
    fn handle(request: IncomingRequest, answer: ResponseOutparam) {
        let response = OutgoingResponse::new(Fields::new());
        let outgoing = response.body().unwrap();
        ResponseOutparam::set(answer, Ok(response));
        {
            let incoming = request.consume().unwrap();
            let (input, output) = (incoming.stream().unwrap(), outgoing.write().unwrap());
            loop {
                match input.blocking_read(CHUNK) {
                    // At most 4 KiB at a time, says `wasi:io`.
                    Ok(bytes) => bytes.chunks(4096).for_each(|part| output.blocking_write_and_flush(part).unwrap()),
                    Err(StreamError::Closed) => break,
                    Err(StreamError::LastOperationFailed(_)) => core::arch::wasm32::unreachable(),
                }
            }
        }
        OutgoingBody::finish(outgoing, None).unwrap();
    }
}

wasip2::http::proxy::export!(Echo);
