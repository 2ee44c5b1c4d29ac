//! `skein invoke`: a call over QUIC, by the client library.

use skein_client::{Mesh, Reply};
use skein_proto::{ErrorCode, Failure};

use super::payload;
use crate::{
    cli::{Common, Invoke},
    contexts::Contexts,
    output::{emit, write_stdout},
};

pub(super) async fn invoke(common: &Common, command: Invoke) -> Result<(), Failure> {
    let payload = payload(command.data, command.file.as_deref(), command.stdin.is_some())?;
    let context = Contexts::of_user().load(common.context.as_deref())?;
    let mesh = Mesh::connect(context).await?;
    let mut function = mesh
        .function(&command.reference.to_string())
        .map_err(|error| Failure::not_executed(ErrorCode::BadRequest, error.to_string()))?;
    if let Some(deadline) = command.deadline {
        function = function.deadline(deadline);
    }
    if command.idempotency_key.is_some() {
        function = function.idempotent();
    }
    for (name, value) in command.headers {
        function = function.header(name, value);
    }
    let replied = function.invoke(payload).await;
    mesh.close().await;
    let reply = replied?;
    if command.verbose {
        eprintln!("{}", how(&reply));
    }
    if common.json {
        return emit(true, &document(&reply), String::new);
    }
    write_stdout(&reply.payload)
}

/// Where and how it ran, in one line.
fn how(reply: &Reply) -> String {
    let usage = &reply.usage;
    format!(
        "{}: version {} on {}, {}: queue {} µs, start {} µs, instantiate {} µs, run {} µs, memory {}",
        reply.invocation,
        reply.version,
        reply.node,
        reply.start.as_str(),
        usage.queue_us,
        usage.start_us,
        usage.instantiate_us,
        usage.run_us,
        bytesize::ByteSize::b(usage.memory_bytes)
    )
}

fn document(reply: &Reply) -> serde_json::Value {
    let text = std::str::from_utf8(&reply.payload).ok();
    serde_json::json!({
        "invocation": reply.invocation,
        "version": reply.version,
        "node": reply.node,
        "start": reply.start,
        "usage": reply.usage,
        "payload": text,
        "payload_base64": text.is_none().then(|| data_encoding::BASE64.encode(&reply.payload)),
    })
}
