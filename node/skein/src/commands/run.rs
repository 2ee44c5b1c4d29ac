//! `skein run`: one call on this machine with no mesh, by the same engine under the same limits.

mod outward;

use std::{
    io::{IsTerminal as _, Write as _},
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
};

use bytes::Bytes;
use skein_engine::{Call, Engine, EngineConfig, Preopen, StopHandle, Tiering};
use skein_proto::{Digest, ErrorCode, Failure, Limits, Snapshot};
use tokio::time::Instant;

use super::payload;
use crate::{
    cli::{Common, Run, SharedDir},
    data_dir::io_failure,
    function_toml::Source,
    node::compile_worker,
    output::{fail, write_reply},
    terminal::printable,
};

/// Runs the function. A guest that ends with an exit code ends `skein` with the same one, without a word: what it had
/// to say it has said itself.
pub(super) async fn run(common: &Common, command: Run) -> Result<ExitCode, Failure> {
    match call(command).await {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(failure) => match failure.exit_code.map(u8::try_from) {
            Some(Ok(code @ 1..)) => {
                if common.json {
                    fail(&failure, true);
                }
                Ok(ExitCode::from(code))
            }
            _ => Err(failure),
        },
    }
}

async fn call(command: Run) -> Result<(), Failure> {
    let mut source = Source::read(&command.path)?;
    let is_piped = command.data.is_none() && command.file.is_none() && !std::io::stdin().is_terminal();
    let payload = payload(command.data, command.file.as_deref(), is_piped)?;
    let preopens = command.dirs.iter().map(preopen).collect::<Result<_, _>>()?;
    if !command.dirs.is_empty() {
        // An image would know of no directory, or of those of another run.
        source.manifest.snapshot = Snapshot::Never;
    }
    let mut limits = source.manifest.limits;
    if let Some(deadline) = command.deadline {
        limits.deadline_ms = u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX);
        limits.check().map_err(|message| {
            Failure::not_executed(ErrorCode::BadRequest, format!("--deadline cannot be taken: {message}"))
        })?;
    }
    if payload.len() as u64 > limits.payload_bytes {
        let message = format!("the payload has {} bytes; limits.payload is {}", payload.len(), limits.payload_bytes);
        return Err(Failure::not_executed(ErrorCode::TooLarge, message));
    }
    if !command.args.is_empty() {
        // In the manifest, since an image is of the arguments that its initialisation saw.
        source.manifest.args = command.args;
    }
    let mut args = vec![source.manifest.name.to_string()];
    args.extend(source.manifest.args.clone());
    let mut env: Vec<(String, String)> = source.manifest.grants.env.clone().into_iter().collect();
    env.extend(command.env);
    let stop = StopHandle::new();
    let guest = Guest { source, args, env, payload: payload.into(), preopens, limits, stop: stop.clone() };
    let mut running = tokio::task::spawn_blocking(move || guest.run());
    let ended = tokio::select! {
        ended = &mut running => ended,
        _ = tokio::signal::ctrl_c() => {
            stop.stop();
            running.await
        }
    };
    ended.map_err(|error| Failure::maybe_executed(ErrorCode::Internal, error.to_string()))?
}

struct Guest {
    source: Source,
    args: Vec<String>,
    env: Vec<(String, String)>,
    payload: Bytes,
    preopens: Vec<Preopen>,
    limits: Limits,
    stop: StopHandle,
}

impl Guest {
    fn run(self) -> Result<(), Failure> {
        let mut config = EngineConfig::new(cache_dir());
        config.worker = Some(compile_worker());
        // This process soon ends: what it would optimise later, it would never see.
        config.tiering = Tiering::Optimised;
        let engine = Engine::open(config)?;
        engine.inspect(&self.source.code, &self.source.manifest)?;
        let program =
            engine.load(Digest::of(&self.source.code), &self.source.manifest, || Ok(Bytes::from(self.source.code)))?;
        let scratch = self.source.manifest.grants.scratch;
        let deadline = Instant::now() + std::time::Duration::from_millis(self.limits.deadline_ms);
        let mut call = Call::new(self.limits, deadline, self.stop);
        (call.args, call.env, call.payload) = (&self.args, &self.env, self.payload);
        call.services = Some(Arc::new(outward::Local::new(&self.source.manifest, deadline)?));
        (call.scratch, call.preopens) = (scratch, &self.preopens);
        let ran = program.run(call);
        engine.shutdown();
        let output = match &ran {
            Ok(output) => Some(output),
            Err(error) => error.output(),
        };
        if let Some(output) = output {
            // The log is the guest's own talk, as on the mesh it would be its log.
            let log = String::from_utf8_lossy(&output.log);
            let _ = std::io::stderr().write_all(printable(&log).as_bytes());
            write_reply(&output.payload)?;
        }
        let mut failure = match ran {
            Ok(_) => return Ok(()),
            Err(error) => Failure::from(error),
        };
        failure.log_tail.clear();
        Err(failure)
    }
}

fn preopen(dir: &SharedDir) -> Result<Preopen, Failure> {
    Preopen::open(&dir.host, &dir.guest, dir.is_read_only)
        .map_err(|error| io_failure("open the directory", &dir.host, &error))
}

/// Compiled code of local runs, under the user's cache directory (XDG base directory specification).
fn cache_dir() -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let home = || std::env::var_os("HOME").map_or_else(std::env::temp_dir, PathBuf::from).join(".cache");
    cache.unwrap_or_else(home).join("skein/engine")
}
