//! What each command does, one file per group; `run` chooses.

mod app;
mod context;
mod demo;
mod explain;
mod function;
mod invoke;
mod key;
mod mesh;
mod publish;
mod run;
mod top;
mod up;
mod why;

use std::{io::Read, path::Path, process::ExitCode};

use clap::CommandFactory;
use skein_proto::{ErrorCode, Failure, Limits};

use crate::{
    admin_client::AdminClient,
    cli::{Cli, Command, Common},
    contexts::Contexts,
    data_dir::io_failure,
    output,
};

/// Runs the command that was asked for.
///
/// # Errors
/// What the command failed with; its code decides the exit code.
pub(crate) async fn run(cli: Cli) -> Result<ExitCode, Failure> {
    let common = cli.common;
    let done = match cli.command {
        Command::Up(up) => up::up(up).await,
        Command::Demo(demo) => demo::demo(demo).await,
        Command::Token(command) => mesh::token(&common, command).await,
        Command::Nodes => mesh::nodes(&common).await,
        Command::Node(command) => mesh::node(&common, command).await,
        Command::Status => mesh::status(&common).await,
        Command::Top { every, once } => top::top(&common, every, once).await,
        Command::Config => mesh::config(&common).await,
        Command::Publish(command) => publish::publish(&common, command).await,
        Command::Invoke(command) => invoke::invoke(&common, command).await,
        Command::Functions(command) => function::list(&common, command).await,
        Command::Function(command) => function::function(&common, command).await,
        Command::Versions { reference } => function::versions(&common, &reference).await,
        Command::Alias(command) => function::alias(&common, command).await,
        Command::Rollback { reference, to } => function::rollback(&common, &reference, to).await,
        // The only command whose exit code may be another's.
        Command::Run(command) => return run::run(&common, command).await,
        Command::App(command) => app::app(&common, command).await,
        Command::Why { invocation } => why::why(&common, invocation).await,
        Command::Key(command) => key::key(&common, command).await,
        Command::Explain { code } => explain::explain(&common, code.as_deref()),
        Command::Context(command) => context::context(&common, command),
        Command::CompileWorker => {
            // `main` has seen to it: it is nothing that an asynchronous runtime should be started for.
            Err(Failure::not_executed(ErrorCode::Internal, "a compiler's process was started too late"))
        }
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "skein", &mut script);
            output::write_stdout(&script)
        }
    };
    done.map(|()| ExitCode::SUCCESS)
}

/// The admin API of the mesh in use.
fn admin(common: &Common) -> Result<AdminClient, Failure> {
    AdminClient::new(Contexts::of_user().load(common.context.as_deref())?)
}

/// The payload a call was given: as text, in a file, or on standard input; empty if none of them.
fn payload(data: Option<String>, file: Option<&Path>, stdin: bool) -> Result<Vec<u8>, Failure> {
    if let Some(data) = data {
        return Ok(data.into_bytes());
    }
    let from_stdin = stdin || file.is_some_and(|file| file.as_os_str() == "-");
    let mut bytes = Vec::new();
    // One byte more than may be sent tells a payload that is too large from one that just fits.
    let most = Limits::PAYLOAD_BYTES_MAX + 1;
    let (read, path) = match file {
        _ if from_stdin => (std::io::stdin().lock().take(most).read_to_end(&mut bytes), Path::new("standard input")),
        Some(path) => (std::fs::File::open(path).and_then(|file| file.take(most).read_to_end(&mut bytes)), path),
        None => return Ok(bytes),
    };
    read.map_err(|error| io_failure("read", path, &error))?;
    if bytes.len() as u64 == most {
        let message = format!("{} has more than {} bytes, the largest payload", path.display(), most - 1);
        return Err(Failure::not_executed(ErrorCode::TooLarge, message));
    }
    Ok(bytes)
}
