//! `skein demo`: three nodes on this machine, the examples published, calls across them.

mod nodes;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use skein_client::{Context, Mesh, Reply};
use skein_proto::{ErrorCode, Failure};
use tokio::{process::Command, time::Instant};

use self::nodes::DemoNodes;
use super::{
    publish::{self, Publication},
    up::Signals,
};
use crate::{
    cli::Demo,
    data_dir::io_failure,
    function_toml::Source,
    output::{table, write_stdout},
    terminal::printable,
};

/// Longest a call of an example may take: a renderer's first one loads megabytes of code.
const CALL_DEADLINE: Duration = Duration::from_secs(60);
/// Longest a publish may take: three nodes compile a renderer on the cores of one machine.
const PUBLISH_DEADLINE: Duration = Duration::from_secs(120);
/// What `examples/build.sh` exits with when something is missing that it may not install.
const MISSING: i32 = 3;

/// An example as its folder holds it.
struct Example {
    name: String,
    dir: PathBuf,
    input: PathBuf,
}

pub(super) async fn demo(command: Demo) -> Result<(), Failure> {
    // Whoever closes the terminal wants the nodes gone as well.
    let mut stop = Signals::listen()?.and_hangup()?;
    tokio::select! {
        shown = show(&command) => {
            let nodes = shown?;
            if !command.once {
                say("\nThe mesh stays up until Ctrl-C.")?;
                stop.next().await;
            }
            nodes.stop().await;
            Ok(())
        }
        // The nodes end with the future that owns them.
        () = stop.next() => Ok(()),
    }
}

/// Brings everything up and shows it; the nodes go on.
async fn show(command: &Demo) -> Result<DemoNodes, Failure> {
    build(command).await?;
    let examples = examples(&command.examples)?;
    say("Starting three nodes …")?;
    let nodes = DemoNodes::start().await?;
    for node in &nodes.nodes {
        say(&format!("  {}", node.ready))?;
    }
    say("\nPublishing the examples, each at another node …")?;
    for (i, example) in examples.iter().enumerate() {
        say(&format!("  {}", publish(nodes.context(i)?, example).await?))?;
    }
    say("\nCalling each from every node …")?;
    let mut rows = Vec::new();
    let mut pictures = Vec::new();
    for (i, node) in nodes.nodes.iter().enumerate() {
        let mesh = Mesh::connect(only_first(nodes.context(i)?)).await?;
        for example in &examples {
            let (row, payload) = call(&mesh, &node.name, example).await?;
            rows.push(row);
            if payload.starts_with(b"\x89PNG") {
                pictures.push(payload);
            }
        }
        mesh.close().await;
    }
    rows.sort_by(|a, b| a[0].cmp(&b[0]));
    say(&table(&["FUNCTION", "CALLED AT", "RAN ON", "START", "TOOK", "RESULT"], rows))?;
    if let Some(picture) = pictures.first() {
        let path = nodes.home().join("skein.png");
        fs::write(&path, picture).map_err(|error| io_failure("write", &path, &error))?;
        say(&format!(
            "SVG rendered to PNG: {} ({} bytes, equal from every node: {})",
            path.display(),
            picture.len(),
            pictures.iter().all(|other| other == picture)
        ))?;
    }
    invite(&nodes)?;
    Ok(nodes)
}

/// Says where to go on.
fn invite(nodes: &DemoNodes) -> Result<(), Failure> {
    let first = nodes.context(0)?;
    let Some(node) = first.nodes.first() else { return Ok(()) };
    say(&format!("\nconsole   http://{}/  (its key is in the context file)", node.admin))?;
    say(&format!("context   export SKEIN_CONTEXT={}", nodes.nodes[0].context.display()))?;
    say(&format!(
        "call      skein invoke slug -d 'Hello, Mesh'\n          KEY=$(skein key create)\n          curl -H \"Authorization: Bearer $KEY\" -d 'Hello, Mesh' http://{}/fn/default/slug",
        node.http
    ))
}

fn say(line: &str) -> Result<(), Failure> {
    write_stdout(format!("{}\n", printable(line)).as_bytes())
}

/// Builds the examples from their sources, by their own script.
async fn build(command: &Demo) -> Result<(), Failure> {
    let script = command.examples.join("build.sh");
    if !script.exists() {
        let message = format!(
            "no examples in {}: run this in a checkout, or name them by --examples",
            command.examples.display()
        );
        return Err(Failure::not_executed(ErrorCode::NotFound, message));
    }
    say("Building the examples (the first time, their compilers are installed) …")?;
    let mut build = Command::new("bash");
    build.arg(&script).kill_on_drop(true);
    if command.no_install {
        build.arg("--no-install");
    }
    let status = build.status().await.map_err(|error| io_failure("run", &script, &error))?;
    if status.success() || (command.no_install && status.code() == Some(MISSING)) {
        return Ok(());
    }
    let message = format!("{} failed ({status}); its messages are above", script.display());
    Err(Failure::not_executed(ErrorCode::Internal, message))
}

/// The examples that were built, by name.
fn examples(dir: &Path) -> Result<Vec<Example>, Failure> {
    let entries = fs::read_dir(dir).map_err(|error| io_failure("read", dir, &error))?;
    let mut examples: Vec<Example> = entries.filter_map(|entry| example(&entry.ok()?.path())).collect();
    examples.sort_by(|a, b| a.name.cmp(&b.name));
    if examples.is_empty() {
        let message = format!("nothing in {} could be built", dir.display());
        return Err(Failure::not_executed(ErrorCode::NotFound, message));
    }
    Ok(examples)
}

fn example(dir: &Path) -> Option<Example> {
    let source = Source::read(dir).ok()?;
    let input = fs::read_dir(dir)
        .ok()?
        .filter_map(Result::ok)
        .find(|entry| entry.file_name().to_string_lossy().starts_with("input."))?;
    Some(Example { name: source.manifest.name.to_string(), dir: dir.to_owned(), input: input.path() })
}

async fn publish(context: Context, example: &Example) -> Result<String, Failure> {
    let publication = Publication {
        source: Source::read(&example.dir)?,
        alias: Some(skein_proto::AliasName::default()),
        note: "published by skein demo".to_owned(),
        wait: true,
        deadline: PUBLISH_DEADLINE,
    };
    let started = Instant::now();
    let report = publish::send(context, publication).await?;
    let serving: Vec<&str> = report.serving.iter().map(|node| node.as_str()).collect();
    Ok(format!("{}  served by {} after {:.2?}", publish::line(&report), serving.join(", "), started.elapsed()))
}

/// The same context with one node, so that this node and no other takes the call.
fn only_first(mut context: Context) -> Context {
    context.nodes.truncate(1);
    context
}

async fn call(mesh: &Mesh, at: &str, example: &Example) -> Result<(Vec<String>, Vec<u8>), Failure> {
    let input = fs::read(&example.input).map_err(|error| io_failure("read", &example.input, &error))?;
    let function = mesh
        .function(&example.name)
        .map_err(|error| Failure::not_executed(ErrorCode::BadRequest, error.to_string()))?;
    let started = Instant::now();
    let reply: Reply = function.deadline(CALL_DEADLINE).invoke(input).await?;
    let took = format!("{:.2?}", started.elapsed());
    let row = vec![
        format!("{}@{}", example.name, reply.version),
        at.to_owned(),
        reply.node.clone(),
        reply.start.as_str().to_owned(),
        took,
        summary(&reply.payload),
    ];
    Ok((row, reply.payload.to_vec()))
}

/// The beginning of a result on one line, or what it is.
fn summary(payload: &[u8]) -> String {
    match std::str::from_utf8(payload) {
        Ok(text) => {
            let words: Vec<&str> = text.split_whitespace().collect();
            words.join(" ").chars().take(48).collect()
        }
        Err(_) if payload.starts_with(b"\x89PNG") => format!("PNG, {} bytes", payload.len()),
        Err(_) => format!("{} bytes", payload.len()),
    }
}
