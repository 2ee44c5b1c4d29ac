//! `skein invoke`: a call over QUIC, by the client library.

use skein_client::{Mesh, Reply};
use skein_proto::{ErrorCode, Failure};

use super::payload;
use crate::{
    cli::{Common, Invoke},
    contexts::Contexts,
    output::{emit, micros, say, write_reply},
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
        say(how(&reply));
    }
    if common.json {
        return emit(true, &document(&reply), String::new);
    }
    write_reply(&reply.payload)
}

/// Where and how it ran, and where its time went.
fn how(reply: &Reply) -> String {
    let usage = &reply.usage;
    let tier = usage.tier.map_or(String::new(), |tier| format!(", {} code", tier.as_str()));
    let (start, memory) = (reply.start.as_str(), bytesize::ByteSize::b(usage.memory_bytes));
    let rows = [
        ("invocation", reply.invocation.to_string()),
        ("ran", format!("version {} on {}, {start}{tier}", reply.version, reply.node)),
        ("queue", micros(usage.queue_us)),
        ("start", format!("{}, of which loading {}", micros(usage.start_us), micros(usage.load_us))),
        ("instance", format!("{} to make, {} to reset", micros(usage.instantiate_us), micros(usage.reset_us))),
        (
            "run",
            format!(
                "{}, of which waiting {}; {} calls and requests of others",
                micros(usage.run_us),
                micros(usage.wait_us),
                usage.outbound
            ),
        ),
        ("memory", memory.to_string()),
        ("log", bytesize::ByteSize::b(usage.log_bytes).to_string()),
    ];
    rows.map(|(name, value)| format!("{name:<11} {value}")).join("\n")
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
